/* The tokenizer as a whole: ids, special tokens, decoding, and inputs that are hard. Everything
 * here runs on vocabularies made in the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/small_bpe.h"

/* ---- ids ---- */

static void number_as_gpt2(void **state)
{
    (void)state;
    tdm_bpe *bpe = open_gpt2();
    assert_int_equal(tdm_bpe_size(bpe), 263);
    assert_int_equal(tdm_bpe_special(bpe, "<|endoftext|>"), 262);
    assert_int_equal(tdm_bpe_special(bpe, "<s>"), -1);
    assert_int_equal(tdm_bpe_special(bpe, "the"), -1);
    check_ids(bpe, "", 0, (const int32_t[]){-1});
    check_ids(bpe, "!", 0, (const int32_t[]){0, -1});
    check_ids(bpe, " the", 0, (const int32_t[]){258, -1});
    check_ids(bpe, "the in", 0, (const int32_t[]){'t' - '!', 257, 220, 259, -1});
    check_ids(bpe, "###", 0, (const int32_t[]){260, '#' - '!', -1});
    check_ids(bpe, "\xC3\xA9\n", 0, (const int32_t[]){261, 198, -1});
    check_ids(bpe, "\r\t", 0, (const int32_t[]){201, 197, -1});
    tdm_bpe_close(bpe);
}

static void number_as_vocabulary(void **state)
{
    (void)state;
    tdm_buf vocab = {0};
    put_gpt2(&vocab, "");
    tdm_bpe *bpe = open_bpe(MERGES, &vocab);
    assert_int_equal(tdm_bpe_size(bpe), 263);
    check_ids(bpe, " the", 0, (const int32_t[]){258, -1});
    tdm_bpe_close(bpe);
    tdm_buf_free(&vocab);

    bpe = open_roberta();
    assert_int_equal(tdm_bpe_size(bpe), 271);
    assert_int_equal(tdm_bpe_special(bpe, "<s>"), 0);
    assert_int_equal(tdm_bpe_special(bpe, "<pad>"), 1);
    assert_int_equal(tdm_bpe_special(bpe, "</s>"), 2);
    assert_int_equal(tdm_bpe_special(bpe, "<unk>"), 3);
    assert_int_equal(tdm_bpe_special(bpe, "<mask>"), 270);
    assert_int_equal(tdm_bpe_special(bpe, "<|endoftext|>"), 266);
    check_ids(bpe, " the!", 0, (const int32_t[]){7, 10, -1});
    size_t len = 7;
    assert_null(tdm_bpe_token(bpe, 268, &len)); /* a hole */
    assert_int_equal(len, 0);
    assert_null(tdm_bpe_token(bpe, 271, &len));
    assert_null(tdm_bpe_token(bpe, -1, &len));
    assert_memory_equal(tdm_bpe_token(bpe, 7, &len), " the", 4);
    assert_int_equal(len, 4);
    assert_memory_equal(tdm_bpe_token(bpe, 270, &len), "<mask>", 6);
    tdm_bpe_close(bpe);
}

/* An added token may be written as plain text, with characters that are no symbols. */
static void keep_added_tokens(void **state)
{
    (void)state;
    tdm_buf vocab = {0}, out = {0};
    put_gpt2(&vocab, ", \"two words\": 263, \"\\u65e5\": 264");
    tdm_bpe *bpe = open_bpe(MERGES, &vocab);
    assert_int_equal(tdm_bpe_size(bpe), 265);
    assert_int_equal(tdm_bpe_decode(bpe, (const int32_t[]){264, 263}, 2, &out, NULL), TDM_OK);
    assert_int_equal(out.len, 12);
    assert_memory_equal(out.p, "\xE6\x97\xA5two words", 12);
    tdm_buf_free(&out);
    tdm_bpe_close(bpe);
    tdm_buf_free(&vocab);
}

/* ---- special tokens ---- */

static void parse_specials(void **state)
{
    (void)state;
    tdm_bpe *gpt2 = open_gpt2(), *roberta = open_roberta();
    const int32_t in = 259, space = 220, eot = 262;
    check_ids(gpt2, "in<|endoftext|>in", TDM_BPE_PARSE_SPECIAL, (const int32_t[]){in, eot, in, -1});
    /* White space before a special token is white space at the end of a text: one piece. */
    check_ids(gpt2, "in  <|endoftext|> in", TDM_BPE_PARSE_SPECIAL,
              (const int32_t[]){in, space, space, eot, space, in, -1});
    check_ids(gpt2, "<|endoftext|><|endoftext|>", TDM_BPE_PARSE_SPECIAL,
              (const int32_t[]){eot, eot, -1});
    check_ids(gpt2, "<s>", TDM_BPE_PARSE_SPECIAL,
              (const int32_t[]){'<' - '!', 's' - '!', '>' - '!', -1});
    check_ids(gpt2, "<|endoftext|", TDM_BPE_PARSE_SPECIAL,
              (const int32_t[]){27, 91, 68, 77, 67, 78, 69, 83, 68, 87, 83, 91, -1});
    check_ids(gpt2, "<|endoftext|>", 0,
              (const int32_t[]){27, 91, 68, 77, 67, 78, 69, 83, 68, 87, 83, 91, 29, -1});

    const int32_t r_in = 6, r_space = 230;
    check_ids(roberta, "<s>in</s><pad><unk>", TDM_BPE_PARSE_SPECIAL,
              (const int32_t[]){0, r_in, 2, 1, 3, -1});
    check_ids(roberta, "in \t\n\xC2\xA0\xE2\x80\x83<mask>in", TDM_BPE_PARSE_SPECIAL,
              (const int32_t[]){r_in, 270, r_in, -1});
    check_ids(roberta, "<s> <mask> <mask>  ", TDM_BPE_PARSE_SPECIAL,
              (const int32_t[]){0, 270, 270, r_space, r_space, -1});
    check_ids(roberta, " <mask>", TDM_BPE_PARSE_SPECIAL, (const int32_t[]){270, -1});
    /* A byte that could continue a character, but does not, is no white space. */
    check_ids(roberta, "\xA0<mask>", TDM_BPE_PARSE_SPECIAL, (const int32_t[]){264, 270, -1});
    check_ids(roberta, "<|endoftext|>", TDM_BPE_PARSE_SPECIAL,
              (const int32_t[]){37, 101, 78, 87, 77, 88, 79, 93, 78, 97, 93, 101, 39, -1});
    tdm_bpe_close(gpt2);
    tdm_bpe_close(roberta);
}

/* ---- decode ---- */

static void decode_ids(void **state)
{
    (void)state;
    tdm_bpe *bpe = open_gpt2();
    tdm_buf out = {0};
    tdm_err err = {0};
    assert_int_equal(tdm_bpe_decode(bpe, NULL, 0, &out, &err), TDM_OK);
    assert_int_equal(tdm_bpe_decode(bpe, (const int32_t[]){258, 262, 261}, 3, &out, &err), TDM_OK);
    assert_int_equal(out.len, 4 + 13 + 2);
    assert_memory_equal(out.p, " the<|endoftext|>\xC3\xA9", 19);
    assert_int_equal(tdm_bpe_decode(bpe, (const int32_t[]){1, 263}, 2, &out, &err), TDM_EARG);
    assert_string_equal(err.msg, "token id 263, want 0 to 262");
    assert_int_equal(tdm_bpe_decode(bpe, (const int32_t[]){-1}, 1, &out, &err), TDM_EARG);
    assert_int_equal(out.len, 19); /* as before */
    tdm_buf_free(&out);
    tdm_bpe_close(bpe);
}

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

static void check_round_trip(const tdm_bpe *bpe, const char *text, size_t len)
{
    tdm_ids ids = {0};
    tdm_buf out = {0};
    assert_int_equal(tdm_bpe_encode(bpe, text, len, 0, &ids, NULL), TDM_OK);
    assert_int_equal(tdm_bpe_decode(bpe, ids.p, ids.len, &out, NULL), TDM_OK);
    assert_int_equal(out.len, len);
    assert_memory_equal(out.p, text, len);
    tdm_ids_free(&ids);
    tdm_buf_free(&out);
}

/* Every byte comes back, alone, in random texts of every length, and in a long one. */
static void bring_back_any_bytes(void **state)
{
    (void)state;
    enum { LONG = 1 << 20 };
    tdm_bpe *bpe = open_gpt2();
    char *text = malloc(LONG);
    assert_non_null(text);
    for (int byte = 0; byte < 256; byte++)
        check_round_trip(bpe, &(const char){(char)byte}, 1);
    for (size_t i = 0; i < LONG; i++)
        text[i] = (char)random_below(256);
    check_round_trip(bpe, text, LONG);
    for (size_t len = 1; len < 2000; len++) {
        char *exact = malloc(len); /* so that a sanitizer sees a read beyond the end */
        memcpy(exact, text + len, len);
        for (size_t i = 0; i < len; i++)
            if (random_below(3))
                exact[i] = " abthein\n'"[random_below(10)];
        check_round_trip(bpe, exact, len);
        free(exact);
    }
    free(text);
    tdm_bpe_close(bpe);
}

/* The cache pads keys with zeros: a piece and the same piece with NULs behind are two pieces. */
static void tell_trailing_nul_apart(void **state)
{
    (void)state;
    tdm_bpe *bpe = open_gpt2();
    char text[64];
    for (size_t len = 1; len < sizeof text; len++)
        for (size_t n_nul = 0; n_nul < len; n_nul++) {
            tdm_ids ids = {0};
            memset(text, '!', len);
            memset(text + len - n_nul, 0, n_nul);
            assert_int_equal(tdm_bpe_encode(bpe, text, len, 0, &ids, NULL), TDM_OK);
            assert_int_equal(ids.len, len);
            tdm_ids_free(&ids);
        }
    tdm_bpe_close(bpe);
}

/* One word of a megabyte: quadratic time would not end here. */
static void bear_long_words(void **state)
{
    (void)state;
    enum { LEN = 1 << 20 };
    static const char *const PATTERNS[] = {"t",    " ",  "\n", "he",           "\xF0\x9F\x99\x82",
                                           "\xFF", "#",  "'",  "\xE2\x80\x83", "<|endoftext|>",
                                           "\n ",  "the"};
    tdm_bpe *bpe = open_bpe("t t\ntt tt\nh e\ni n\n# #\n\xC3\xB0 \xC5\x81\n", NULL);
    char *text = malloc(LEN);
    assert_non_null(text);
    for (size_t k = 0; k < sizeof PATTERNS / sizeof *PATTERNS; k++) {
        for (size_t i = 0, n = strlen(PATTERNS[k]); i < LEN; i++)
            text[i] = PATTERNS[k][i % n];
        check_round_trip(bpe, text, LEN);
    }
    tdm_ids ids = {0};
    memset(text, 't', LEN);
    assert_int_equal(tdm_bpe_encode(bpe, text, LEN, 0, &ids, NULL), TDM_OK);
    assert_int_equal(ids.len, LEN / 4);
    tdm_ids_free(&ids);
    free(text);
    tdm_bpe_close(bpe);
}

/* Ids go behind what is there already. */
static void append_ids(void **state)
{
    (void)state;
    tdm_bpe *bpe = open_gpt2();
    tdm_ids ids = {0};
    assert_int_equal(tdm_bpe_encode(bpe, "in", 2, 0, &ids, NULL), TDM_OK);
    assert_int_equal(tdm_bpe_encode(bpe, NULL, 0, 0, &ids, NULL), TDM_OK);
    assert_int_equal(tdm_bpe_encode(bpe, " the", 4, 0, &ids, NULL), TDM_OK);
    assert_int_equal(ids.len, 2);
    assert_int_equal(ids.p[0], 259);
    assert_int_equal(ids.p[1], 258);
    tdm_ids_free(&ids);
    assert_null(ids.p);
    tdm_bpe_close(bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number_as_gpt2),
        cmocka_unit_test(number_as_vocabulary),
        cmocka_unit_test(keep_added_tokens),
        cmocka_unit_test(parse_specials),
        cmocka_unit_test(decode_ids),
        cmocka_unit_test(bring_back_any_bytes),
        cmocka_unit_test(tell_trailing_nul_apart),
        cmocka_unit_test(bear_long_words),
        cmocka_unit_test(append_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
