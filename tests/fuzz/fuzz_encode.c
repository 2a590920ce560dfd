/* Any text, in plain and in parsing mode, must encode, and plain ids must decode to it. The first
 * byte chooses GPT-2's or RoBERTa's numbering, and whether to encode twice: ids must not depend on
 * what the piece cache holds. -max_len=256 reaches everything and keeps it fast. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/small_vocabulary.h"
#include "tokenizer/bpe.h"

static void must(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tdm_bpe *bpes[2];
    static tdm_ids ids, again; /* kept: the fuzzer is to time the tokenizer, not malloc */
    static tdm_buf out;
    if (!bpes[0]) {
        bpes[0] = open_small_gpt2();
        bpes[1] = open_small_roberta();
        must(bpes[0] && bpes[1]);
    }
    if (size == 0)
        return 0;
    const tdm_bpe *bpe = bpes[data[0] & 1];
    char *text = malloc(size); /* the exact size, so that reading beyond it is seen */
    must(text != NULL);
    const size_t len = size - 1;
    memcpy(text, data + 1, len);

    ids.len = again.len = out.len = 0;
    must(tdm_bpe_encode(bpe, text, len, 0, &ids, NULL) == TDM_OK);
    must(tdm_bpe_decode(bpe, ids.p, ids.len, &out, NULL) == TDM_OK);
    must(out.len == len && (len == 0 || memcmp(out.p, text, len) == 0));
    if (data[0] & 2) {
        must(tdm_bpe_encode(bpe, text, len, 0, &again, NULL) == TDM_OK);
        must(again.len == ids.len);
        must(len == 0 || memcmp(again.p, ids.p, ids.len * sizeof *ids.p) == 0);
    }

    again.len = 0;
    must(tdm_bpe_encode(bpe, text, len, TDM_BPE_PARSE_SPECIAL, &again, NULL) == TDM_OK);
    out.len = 0;
    must(tdm_bpe_decode(bpe, again.p, again.len, &out, NULL) == TDM_OK);
    must(out.len <= len); /* <mask> may have taken white space */
    free(text);
    return 0;
}
