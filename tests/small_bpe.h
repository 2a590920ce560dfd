/* tests/small_bpe.h - a tokenizer of six merges, with GPT-2's numbering or RoBERTa's.
 *
 *   tdm_bpe *bpe = open_gpt2();
 *   check_ids(bpe, "in", 0, (const int32_t[]){259, -1});
 *   tdm_bpe_close(bpe); */
#ifndef TESTS_SMALL_BPE_H
#define TESTS_SMALL_BPE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tokenizer/bpe.h"
#include "tokenizer/symbols.h"

#define SPACE "\xC4\xA0" /* U+0120, how files write a space */

static const char MERGES[] = "#version: 0.2\n" SPACE " t\nh e\n" SPACE "t he\ni n\n# #\n"
                             "\xC3\x83 \xC2\xA9\n"; /* the bytes C3 A9: é */

/* ---- vocabularies ---- */

/* The symbols of MERGES behind the bytes, as a file writes them. */
static const char *const RESULTS[] = {SPACE "t", "he", SPACE "the", "in", "##", "\xC3\x83\xC2\xA9"};
enum { N_RESULTS = 6 };

static inline void put_code_point(tdm_buf *out, unsigned c)
{
    const char text[] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
    if (c < 0x80)
        assert_int_equal(tdm_buf_printf(out, NULL, "%s%c", c == '"' || c == '\\' ? "\\" : "", c),
                         TDM_OK);
    else
        assert_int_equal(tdm_buf_put(out, text, 2, NULL), TDM_OK);
}

/* The bytes as a file writes them, as members of an object, with ids from `first` on. */
static inline void put_bytes(tdm_buf *out, int first)
{
    unsigned char order[256];
    unsigned next = 0x100;
    tdm_symbols_order(order);
    for (int i = 0; i < 256; i++) {
        const unsigned byte = order[i];
        const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        assert_int_equal(tdm_buf_put(out, ", \"", 3, NULL), TDM_OK);
        put_code_point(out, printable ? byte : next++);
        assert_int_equal(tdm_buf_printf(out, NULL, "\": %d", first + i), TDM_OK);
    }
}

/* {"<|endoftext|>": 262, all bytes, all results, extra} */
static inline void put_gpt2(tdm_buf *out, const char *extra)
{
    assert_int_equal(tdm_buf_printf(out, NULL, "{\"<|endoftext|>\": 262"), TDM_OK);
    put_bytes(out, 0);
    for (int i = 0; i < N_RESULTS; i++)
        assert_int_equal(tdm_buf_printf(out, NULL, ", \"%s\": %d", RESULTS[i], 256 + i), TDM_OK);
    assert_int_equal(tdm_buf_printf(out, NULL, "%s}", extra), TDM_OK);
}

/* RoBERTa's order: four specials, then results before bytes, then <|endoftext|> and <mask>. */
static inline void put_roberta(tdm_buf *out, const char *specials, const char *tail)
{
    assert_int_equal(tdm_buf_printf(out, NULL, "{%s", specials), TDM_OK);
    for (int i = 0; i < N_RESULTS; i++)
        assert_int_equal(tdm_buf_printf(out, NULL, ", \"%s\": %d", RESULTS[i], 9 - i), TDM_OK);
    put_bytes(out, 10);
    assert_int_equal(tdm_buf_printf(out, NULL, "%s}", tail), TDM_OK);
}

#define ROBERTA_SPECIALS "\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, \"<unk>\": 3"
#define ROBERTA_TAIL ", \"<|endoftext|>\": 266, \"<mask>\": 270"

static inline tdm_bpe *open_bpe(const char *merges, const tdm_buf *vocab)
{
    tdm_bpe *bpe = NULL;
    tdm_err err = {0};
    if (tdm_bpe_open_memory(merges, strlen(merges), vocab ? vocab->p : NULL, vocab ? vocab->len : 0,
                            &bpe, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return bpe;
}

static inline tdm_bpe *open_gpt2(void)
{
    return open_bpe(MERGES, NULL);
}

static inline tdm_bpe *open_roberta(void)
{
    tdm_buf vocab = {0};
    put_roberta(&vocab, ROBERTA_SPECIALS, ROBERTA_TAIL);
    tdm_bpe *bpe = open_bpe(MERGES, &vocab);
    tdm_buf_free(&vocab);
    return bpe;
}

/* want ends with -1. */
static inline void check_ids(const tdm_bpe *bpe, const char *text, unsigned flags,
                             const int32_t *want)
{
    tdm_ids ids = {0};
    size_t n = 0;
    while (want[n] >= 0)
        n++;
    assert_int_equal(tdm_bpe_encode(bpe, text, strlen(text), flags, &ids, NULL), TDM_OK);
    if (ids.len != n || (n && memcmp(ids.p, want, n * sizeof *want) != 0)) {
        for (size_t i = 0; i < ids.len; i++)
            print_message("%d ", (int)ids.p[i]);
        fail_msg("\"%s\"", text);
    }
    tdm_ids_free(&ids);
}

#endif
