/* Any ids must decode or be refused, and any bytes, cut anywhere, must stream to what the whole
 * gives. The input is read as bytes, and as 16-bit ids. */
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

/* The first bytes say where to cut. */
static void stream(const char *text, size_t len, const tdm_buf *whole)
{
    static tdm_buf parts;
    tdm_utf8_stream s = {0};
    size_t cut = 0;
    parts.len = 0;
    for (size_t at = 0; at < len;) {
        size_t n = 1 + (unsigned char)text[cut++ % len] % 7;
        if (n > len - at)
            n = len - at;
        must(tdm_utf8_stream_put(&s, text + at, n, 0, &parts, NULL) == TDM_OK);
        at += n;
    }
    must(tdm_utf8_stream_put(&s, "", 0, 1, &parts, NULL) == TDM_OK);
    must(parts.len == whole->len && (parts.len == 0 || memcmp(parts.p, whole->p, parts.len) == 0));
}

static void decode(const tdm_bpe *bpe, const uint8_t *data, size_t n)
{
    static tdm_buf bytes;
    int32_t *ids = malloc(n * sizeof *ids + 1);
    must(ids != NULL);
    int known = 1;
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(data[2 * i] | data[2 * i + 1] << 8) - 16;
        known &= ids[i] >= 0 && ids[i] < tdm_bpe_size(bpe);
    }
    bytes.len = 0;
    must(tdm_bpe_decode(bpe, ids, n, &bytes, NULL) == (known ? TDM_OK : TDM_EARG));
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tdm_bpe *bpe;
    static tdm_buf whole, again;
    if (!bpe)
        bpe = open_small_roberta();
    must(bpe != NULL);
    char *text = malloc(size + 1);
    must(text != NULL);
    if (size > 0)
        memcpy(text, data, size);

    whole.len = again.len = 0;
    must(tdm_utf8_replace(text, size, &whole, NULL) == TDM_OK);
    must(tdm_utf8_replace(whole.p ? whole.p : "", whole.len, &again, NULL) == TDM_OK);
    must(again.len == whole.len); /* valid now */
    stream(text, size, &whole);
    decode(bpe, data, size / 2);
    free(text);
    return 0;
}
