/* The tokenizer as a whole: loading good and bad files, ids, special tokens, decoding, and inputs
 * that are hard. Everything here runs on vocabularies made in the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
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

static void put_code_point(tdm_buf *out, unsigned c)
{
    const char text[] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
    if (c < 0x80)
        assert_int_equal(tdm_buf_printf(out, NULL, "%s%c", c == '"' || c == '\\' ? "\\" : "", c),
                         TDM_OK);
    else
        assert_int_equal(tdm_buf_put(out, text, 2, NULL), TDM_OK);
}

/* The bytes as a file writes them, as members of an object, with ids from `first` on. */
static void put_bytes(tdm_buf *out, int first)
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
static void put_gpt2(tdm_buf *out, const char *extra)
{
    assert_int_equal(tdm_buf_printf(out, NULL, "{\"<|endoftext|>\": 262"), TDM_OK);
    put_bytes(out, 0);
    for (int i = 0; i < N_RESULTS; i++)
        assert_int_equal(tdm_buf_printf(out, NULL, ", \"%s\": %d", RESULTS[i], 256 + i), TDM_OK);
    assert_int_equal(tdm_buf_printf(out, NULL, "%s}", extra), TDM_OK);
}

/* RoBERTa's order: four specials, then results before bytes, then <|endoftext|> and <mask>. */
static void put_roberta(tdm_buf *out, const char *specials, const char *tail)
{
    assert_int_equal(tdm_buf_printf(out, NULL, "{%s", specials), TDM_OK);
    for (int i = 0; i < N_RESULTS; i++)
        assert_int_equal(tdm_buf_printf(out, NULL, ", \"%s\": %d", RESULTS[i], 9 - i), TDM_OK);
    put_bytes(out, 10);
    assert_int_equal(tdm_buf_printf(out, NULL, "%s}", tail), TDM_OK);
}

#define ROBERTA_SPECIALS "\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, \"<unk>\": 3"
#define ROBERTA_TAIL ", \"<|endoftext|>\": 266, \"<mask>\": 270"

static tdm_bpe *open_bpe(const char *merges, const tdm_buf *vocab)
{
    tdm_bpe *bpe = NULL;
    tdm_err err = {0};
    if (tdm_bpe_open_memory(merges, strlen(merges), vocab ? vocab->p : NULL, vocab ? vocab->len : 0,
                            &bpe, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return bpe;
}

static tdm_bpe *open_gpt2(void)
{
    return open_bpe(MERGES, NULL);
}

static tdm_bpe *open_roberta(void)
{
    tdm_buf vocab = {0};
    put_roberta(&vocab, ROBERTA_SPECIALS, ROBERTA_TAIL);
    tdm_bpe *bpe = open_bpe(MERGES, &vocab);
    tdm_buf_free(&vocab);
    return bpe;
}

/* ---- ids ---- */

/* want ends with -1. */
static void check_ids(const tdm_bpe *bpe, const char *text, unsigned flags, const int32_t *want)
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

/* ---- bad files ---- */

static const struct {
    const char *merges, *message; /* the message must contain this */
} BAD_MERGES[] = {
    {"", "merges:1: no merges"},
    {"#version: 0.2\n", "no merges"},
    {"a b\nabc\n", "merges:2: \"abc\", want two symbols"},
    {"a b\n\nb c\n", "merges:2: \"\", want two symbols"},
    {"a b\nb c \n", "merges:2: \"b c \", want two symbols"},
    {"a  b\n", "merges:1: \"a  b\", want two symbols"},
    {" a\n", "merges:1: \" a\", want two symbols"},
    {"a \n", "merges:1: \"a \", want two symbols"},
    {"a b c\n", "want two symbols"},
    {"a b\nab cd\n", "merges:2: \"cd\" is neither a byte nor the result of an earlier merge"},
    {"xy a\n", "merges:1: \"xy\" is neither"},
    {"a b\na b\n", "merges:2: \"a b\" gives what merge 1 gives already"},
    {"a b\nb c\nab c\na bc\n", "merges:4: \"a bc\" gives what merge 3 gives already"},
    {"a b\n#version: 0.2\n", "merges:2: \"#version:\" is neither"},
    {"a \xFF\n", "merges:1: \"\\xff\" is not a symbol"},
    {"a \xC2\xAD\n", "is not a symbol"}, /* the byte AD is written as U+0143 */
    {"a \xC5\x84\n", "is not a symbol"}, /* U+0144, one beyond the last */
    {"a \t\n", "\"\\x09\" is not a symbol"},
};

static void refuse_bad_merges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD_MERGES / sizeof *BAD_MERGES; i++) {
        tdm_bpe *bpe = NULL;
        tdm_err err = {0};
        const tdm_status st = tdm_bpe_open_memory(
            BAD_MERGES[i].merges, strlen(BAD_MERGES[i].merges), NULL, 0, &bpe, &err);
        if (st != TDM_EFORMAT || !strstr(err.msg, BAD_MERGES[i].message) || bpe)
            fail_msg("case %zu: status %d, \"%s\"", i, (int)st, err.msg);
    }
}

static void refuse_end_of_text_as_merge(void **state)
{
    (void)state;
    static const char LINES[] = "< |\n<| e\nn d\n<|e nd\no f\n<|end of\nt e\nte x\ntex t\n"
                                "<|endof text\n<|endoftext |\n<|endoftext| >\n";
    tdm_bpe *bpe = NULL;
    tdm_err err = {0};
    assert_int_equal(tdm_bpe_open_memory(LINES, strlen(LINES), NULL, 0, &bpe, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "merges give <|endoftext|>"));
}

static void take_line_ends_as_they_come(void **state)
{
    (void)state;
    static const char *const SAME[] = {"#version: 0.2\r\nh e\r\nt he\r\n", "h e\nt he",
                                       "h e\nt he\n"};
    for (size_t i = 0; i < 3; i++) {
        tdm_bpe *bpe = open_bpe(SAME[i], NULL);
        check_ids(bpe, "the", 0, (const int32_t[]){257, -1});
        tdm_bpe_close(bpe);
    }
}

/* Each replaces, in a good GPT-2 or RoBERTa vocabulary, one text by another. */
static const struct {
    bool roberta;
    const char *from, *to, *message;
} BAD_VOCABS[] = {
    {false, "\"he\": 257", "\"he\": 258", "token \"he\" has id 258, the merges give 257"},
    {false, "\"!\": 0, \"\\\"\": 1", "\"!\": 1, \"\\\"\": 0",
     "token \"!\" has id 1, the merges give 0"},
    {false, ", \"he\": 257", "", "token \"he\" of the merges is missing"},
    {false, ", \"a\": 64", "", "token \"a\" of the merges is missing"},
    {false, "\"he\": 257", "\"he\": 257, \"he\": 257", "vocabulary: "},
    {false, "\"<|endoftext|>\": 262", "\"<|endoftext|>\": 261", "id 261 stands twice"},
    {false, "\"<|endoftext|>\": 262", "\"<|endoftext|>\": -1", "has id -1, want a whole number"},
    {false, "\"<|endoftext|>\": 262", "\"<|endoftext|>\": 262.5",
     "has id 262.5, want a whole number"},
    {false, "\"<|endoftext|>\": 262", "\"<|endoftext|>\": 1e9",
     "has id 1e9, want a whole number from 0 to"},
    {false, "\"<|endoftext|>\": 262", "\"<|endoftext|>\": \"262\"",
     "has id \"262\", want a whole number"},
    {false, "\"<|endoftext|>\": 262", "\"<|endoftext|>\": null", "has id null"},
    {false, "\"<|endoftext|>\": 262", "\"\": 262", "id 262 is an empty token"},
    {false, "{", "[{", "vocabulary: "},
    {false, "\"<|endoftext|>\"", "\"a\xFF\"", "vocabulary: "},
    {true, "\"</s>\": 2", "\"</S>\": 2", "<s> without </s>"},
    {true, "\"in\": 6", "\"in\": 7", "stands twice"},
    {true, ", \"in\": 6", "", "token \"in\" of the merges is missing"},
    {true, "\"in\": 6", "\"in\": 5000",
     "token \"in\" has id 5000, want a whole number from 0 to 1291"},
};

static void refuse_bad_vocabularies(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD_VOCABS / sizeof *BAD_VOCABS; i++) {
        tdm_buf good = {0}, bad = {0};
        if (BAD_VOCABS[i].roberta)
            put_roberta(&good, ROBERTA_SPECIALS, ROBERTA_TAIL);
        else
            put_gpt2(&good, "");
        assert_int_equal(tdm_buf_put(&good, "", 1, NULL), TDM_OK);
        const char *at = strstr(good.p, BAD_VOCABS[i].from);
        assert_non_null(at);
        assert_int_equal(tdm_buf_printf(&bad, NULL, "%.*s%s%s", (int)(at - good.p), good.p,
                                        BAD_VOCABS[i].to, at + strlen(BAD_VOCABS[i].from)),
                         TDM_OK);
        tdm_bpe *bpe = NULL;
        tdm_err err = {0};
        const tdm_status st =
            tdm_bpe_open_memory(MERGES, strlen(MERGES), bad.p, bad.len, &bpe, &err);
        if (st != TDM_EFORMAT || !strstr(err.msg, BAD_VOCABS[i].message) || bpe)
            fail_msg("case %zu: status %d, \"%s\"", i, (int)st, err.msg);
        tdm_buf_free(&good);
        tdm_buf_free(&bad);
    }
}

/* ---- folders ---- */

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

static void open_folders(void **state)
{
    (void)state;
    char dir[] = "bpe-XXXXXX", path[64];
    tdm_bpe *bpe = NULL;
    tdm_err err = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(tdm_bpe_open_dir(dir, &bpe, &err), TDM_ENOINPUT);
    assert_non_null(strstr(err.msg, "neither merges.txt nor vocab.bpe"));

    write_file(dir, "vocab.bpe", MERGES);
    assert_int_equal(tdm_bpe_open_dir(dir, &bpe, &err), TDM_OK);
    check_ids(bpe, "the", 0, (const int32_t[]){'t' - '!', 257, -1});
    tdm_bpe_close(bpe);
    bpe = NULL;

    write_file(dir, "merges.txt", "t h\nth e\n"); /* goes before vocab.bpe */
    assert_int_equal(tdm_bpe_open_dir(dir, &bpe, &err), TDM_OK);
    check_ids(bpe, "the", 0, (const int32_t[]){257, -1});
    tdm_bpe_close(bpe);
    bpe = NULL;

    write_file(dir, "encoder.json", ""); /* there, but empty: not the same as absent */
    assert_int_equal(tdm_bpe_open_dir(dir, &bpe, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "encoder.json: "));
    write_file(dir, "merges.txt", "t h\nth\n");
    unlink(strcat(strcpy(path, dir), "/encoder.json"));
    assert_int_equal(tdm_bpe_open_dir(dir, &bpe, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "merges.txt:2: \"th\", want two symbols"));

    assert_int_equal(tdm_bpe_open("no/such/file", NULL, &bpe, &err), TDM_ENOINPUT);
    assert_non_null(strstr(err.msg, "no/such/file"));
    unlink(strcat(strcpy(path, dir), "/merges.txt"));
    unlink(strcat(strcpy(path, dir), "/vocab.bpe"));
    assert_int_equal(rmdir(dir), 0);
    tdm_bpe_close(NULL);
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
        cmocka_unit_test(refuse_bad_merges),
        cmocka_unit_test(refuse_end_of_text_as_merge),
        cmocka_unit_test(take_line_ends_as_they_come),
        cmocka_unit_test(refuse_bad_vocabularies),
        cmocka_unit_test(open_folders),
        cmocka_unit_test(decode_ids),
        cmocka_unit_test(bring_back_any_bytes),
        cmocka_unit_test(tell_trailing_nul_apart),
        cmocka_unit_test(bear_long_words),
        cmocka_unit_test(append_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
