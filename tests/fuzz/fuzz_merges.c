/* Any two files must load or be refused with a message; what loads must encode and decode. The
 * input is a merge list, or, behind the first NUL byte, a vocabulary. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/bpe.h"

static void must(int condition)
{
    if (!condition)
        abort();
}

static void use(const tdm_bpe *bpe)
{
    static const char TEXT[] =
        "the <mask> in the\n  abcabc <s>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static tdm_ids ids;
    static tdm_buf out;
    ids.len = out.len = 0;
    must(tdm_bpe_encode(bpe, TEXT, sizeof TEXT, TDM_BPE_PARSE_SPECIAL, &ids, NULL) == TDM_OK);
    ids.len = 0;
    must(tdm_bpe_encode(bpe, TEXT, sizeof TEXT, 0, &ids, NULL) == TDM_OK);
    must(tdm_bpe_decode(bpe, ids.p, ids.len, &out, NULL) == TDM_OK);
    must(out.len == sizeof TEXT && memcmp(out.p, TEXT, sizeof TEXT) == 0);
    for (int32_t id = -1; id <= tdm_bpe_size(bpe); id++) {
        size_t len;
        const char *text = tdm_bpe_token(bpe, id, &len);
        must(text ? len > 0 : len == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char NO_FILE[1];
    const char *merges = size ? (const char *)data : NO_FILE;
    const char *nul = memchr(merges, 0, size);
    const size_t merges_len = nul ? (size_t)(nul - merges) : size;
    const char *vocab = nul ? nul + 1 : NULL;
    const size_t vocab_len = nul ? size - merges_len - 1 : 0;
    tdm_bpe *bpe = NULL;
    tdm_err err = {0};
    const tdm_status st = tdm_bpe_open_memory(merges, merges_len, vocab, vocab_len, &bpe, &err);
    must(st == TDM_OK ? bpe != NULL : bpe == NULL && st == TDM_EFORMAT && err.msg[0]);
    if (bpe)
        use(bpe);
    tdm_bpe_close(bpe);
    return 0;
}
