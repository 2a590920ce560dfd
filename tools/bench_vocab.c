#include "tools/bench_vocab.h"

#include <string.h>

#include "host/json.h"
#include "tokenizer/symbols.h"

#define SPACE "\xC4\xA0" /* U+0120, how files write a space */

enum { LETTERS = 26, FIRST_LEVEL = 27 * LETTERS };

/* Symbol i of the first level, in its two halves: " a" .. " z", "aa", "ab" .. "zz". */
static void first_level(int i, char left[4], char right[2])
{
    const int row = i / LETTERS;
    if (row == 0)
        memcpy(left, SPACE, sizeof SPACE);
    else
        memcpy(left, (char[]){(char)('a' + row - 1), 0}, 2);
    memcpy(right, (char[]){(char)('a' + i % LETTERS), 0}, 2);
}

/* Merge i: what is on its two sides. */
static void merge_at(int i, char left[8], char right[8])
{
    char a[4], b[2];
    if (i < FIRST_LEVEL) {
        first_level(i, left, right);
        return;
    }
    const int pairs = FIRST_LEVEL - LETTERS; /* without a space: what may stand on the right */
    first_level((i - FIRST_LEVEL) / pairs, a, b);
    strcpy(left, a);
    strcat(left, b);
    first_level(LETTERS + (i - FIRST_LEVEL) % pairs, a, b);
    strcpy(right, a);
    strcat(right, b);
}

static tdm_status put_member(tdm_buf *out, const char *token, size_t len, int id, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_put(out, id ? ", " : "{", id ? 2 : 1, err));
    TDM_TRY(tdm_json_put_string(out, token, len, err));
    TDM_TRY(tdm_buf_printf(out, err, ": %d", id));
done:
    return st;
}

/* The 256 bytes as the file writes them: those that are printable as themselves, then the rest. */
static tdm_status put_bytes(tdm_buf *out, int *id, tdm_err *err)
{
    tdm_status st = TDM_OK;
    unsigned char order[256];
    unsigned next = 0x100;
    tdm_symbols_order(order);
    for (int i = 0; i < 256; i++) {
        const unsigned byte = order[i];
        const bool is_plain = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        const unsigned c = is_plain ? byte : next++;
        const char two[] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))}, one = (char)c;
        TDM_TRY(put_member(out, c < 0x80 ? &one : two, c < 0x80 ? 1 : 2, (*id)++, err));
    }
done:
    return st;
}

tdm_status bench_vocab_make(int merges, tdm_buf *merge_text, tdm_buf *vocab_text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    static const char *const FRONT[] = {"<s>", "<pad>", "</s>", "<unk>"};
    static const char *const BACK[] = {"madeupword0000", "madeupword0001", "madeupword0002",
                                       "madeupword0003", "<mask>"};
    enum { N_FRONT = sizeof FRONT / sizeof *FRONT, N_BACK = sizeof BACK / sizeof *BACK };
    _Static_assert(N_FRONT + N_BACK == BENCH_DETECTOR_EXTRA, "the count that the header names");
    int id = 0;
    char left[16], right[8];
    TDM_TRY(tdm_buf_printf(merge_text, err, "#version: 0.2\n"));
    for (int i = 0; vocab_text && i < N_FRONT; i++)
        TDM_TRY(put_member(vocab_text, FRONT[i], strlen(FRONT[i]), id++, err));
    if (vocab_text)
        TDM_TRY(put_bytes(vocab_text, &id, err));
    for (int i = 0; i < merges; i++) {
        merge_at(i, left, right);
        TDM_TRY(tdm_buf_printf(merge_text, err, "%s %s\n", left, right));
        strcat(left, right);
        if (vocab_text)
            TDM_TRY(put_member(vocab_text, left, strlen(left), id++, err));
    }
    for (int i = 0; vocab_text && i < N_BACK; i++)
        TDM_TRY(put_member(vocab_text, BACK[i], strlen(BACK[i]), id++, err));
    if (vocab_text)
        TDM_TRY(tdm_buf_put(vocab_text, "}\n", 2, err));
done:
    return st;
}
