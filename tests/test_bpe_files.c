/* Loading vocabularies: files that are refused, with the place and the reason, and folders. */
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

#include "tests/small_bpe.h"

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

/* ---- whether two are the same ---- */

static const struct {
    const char *a, *b, *message; /* NULL: they are the same */
} PAIRS[] = {
    {"a b\nb c\nab c\n", "#version: 0.2\r\na b\r\nb c\r\nab c", NULL},
    {"a b\nb c\n", "a b\n", "258 tokens, not 259"},
    {"a b\nb c\n", "b c\na b\n", "token 256 is \"bc\", not \"ab\""},
    {"a b\n\xC4\xA0 c\n", "a b\n\xC4\xA0 d\n", "token 257 is \" d\", not \" c\""},
    {"a b\nb c\nab c\n", "a b\nb c\na bc\n", "merge 3 is of other tokens"},
};

static void compare(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof PAIRS / sizeof *PAIRS; i++) {
        tdm_bpe *a = open_bpe(PAIRS[i].a, NULL), *b = open_bpe(PAIRS[i].b, NULL);
        tdm_err err = {0};
        const tdm_status st = tdm_bpe_check_same(a, b, &err);
        if (st != (PAIRS[i].message ? TDM_EFORMAT : TDM_OK) || (st && !strstr(err.msg, PAIRS[i].message)))
            fail_msg("pair %zu: status %d, \"%s\"", i, (int)st, err.msg);
        tdm_bpe_close(a);
        tdm_bpe_close(b);
    }
    tdm_bpe *gpt2 = open_gpt2(), *roberta = open_roberta();
    assert_int_equal(tdm_bpe_check_same(gpt2, roberta, NULL), TDM_EFORMAT);
    assert_int_equal(tdm_bpe_check_same(roberta, roberta, NULL), TDM_OK);
    tdm_bpe_close(gpt2);
    tdm_bpe_close(roberta);
}

/* A byte is written as it is read. */
static void write_symbols(void **state)
{
    (void)state;
    tdm_buf written = {0};
    char read[256];
    size_t n = 0;
    for (unsigned byte = 0; byte < 256; byte++)
        assert_int_equal(tdm_bpe_put_symbol((unsigned char)byte, &written, NULL), TDM_OK);
    assert_true(tdm_symbols_read(written.p, written.len, read, &n));
    assert_int_equal(n, 256);
    for (unsigned byte = 0; byte < 256; byte++)
        assert_int_equal((unsigned char)read[byte], byte);
    tdm_buf_free(&written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuse_bad_merges),
        cmocka_unit_test(refuse_end_of_text_as_merge),
        cmocka_unit_test(take_line_ends_as_they_come),
        cmocka_unit_test(refuse_bad_vocabularies),
        cmocka_unit_test(open_folders),
        cmocka_unit_test(compare),
        cmocka_unit_test(write_symbols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
