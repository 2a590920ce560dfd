/* Ids that HF tokenizers gave (tests/tokenizer_parity.py --golden wrote them down), the published
 * vocabularies' own properties, and the cases of tokenizer_vectors.json. What needs a published
 * vocabulary is skipped where it is not beside the checkout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "host/json.h"
#include "host/readfile.h"
#include "tokenizer/bpe.h"
#include "tokenizer/merge.h"

#define DEMO TDM_SOURCE_DIR "/tools/demo/"
#define GOLDEN TDM_SOURCE_DIR "/tests/golden/tokenizer_"

/* Open a model folder; skip the test when there is none. */
static tdm_bpe *open_model(const char *dir)
{
    tdm_bpe *bpe = NULL;
    tdm_err err = {0};
    if (access(dir, F_OK) != 0) {
        print_message("%s is not there: skipped\n", dir);
        skip();
    }
    if (tdm_bpe_open_dir(dir, &bpe, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return bpe;
}

static tdm_buf load(const char *path)
{
    tdm_buf text = {0};
    tdm_err err = {0};
    if (tdm_file_load(path, 1 << 30, &text, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(tdm_buf_put(&text, "", 1, NULL), TDM_OK);
    text.len--;
    return text;
}

/* ---- golden files ---- */

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Check one column of ids, which ends with a tab or a line feed; returns what follows. */
static const char *check_column(const tdm_bpe *bpe, const tdm_buf *text, unsigned flags,
                                const char *column, const char *name, int line)
{
    tdm_ids ids = {0};
    assert_int_equal(tdm_bpe_encode(bpe, text->p, text->len, flags, &ids, NULL), TDM_OK);
    for (size_t i = 0; i < ids.len; i++) {
        char *end;
        if (strtol(column, &end, 10) != ids.p[i] || end == column)
            fail_msg("%s line %d, flags %u, id %zu is %d", name, line, flags, i, (int)ids.p[i]);
        column = end + (*end == ' ');
    }
    if (*column != '\t' && *column != '\n')
        fail_msg("%s line %d, flags %u: too few ids", name, line, flags);
    tdm_ids_free(&ids);
    return column + 1;
}

static void replay(const char *name, const char *dir)
{
    char path[512];
    tdm_bpe *bpe = open_model(dir);
    snprintf(path, sizeof path, GOLDEN "%s.txt", name);
    tdm_buf golden = load(path), text = {0};
    int line = 1;
    for (const char *p = golden.p; *p; line++) {
        text.len = 0;
        for (; *p != '\t'; p += 2)
            assert_int_equal(
                tdm_buf_put(&text, &(const char){(char)(hex(p[0]) << 4 | hex(p[1]))}, 1, NULL),
                TDM_OK);
        p = check_column(bpe, &text, 0, p + 1, name, line);
        p = check_column(bpe, &text, TDM_BPE_PARSE_SPECIAL, p, name, line);
    }
    assert_int_equal(line, 201);
    tdm_buf_free(&text);
    tdm_buf_free(&golden);
    tdm_bpe_close(bpe);
}

static void replay_writer(void **state)
{
    (void)state;
    replay("writer", DEMO "writer");
}

static void replay_reader(void **state)
{
    (void)state;
    replay("reader", DEMO "reader");
}

static void replay_gpt2(void **state)
{
    (void)state;
    replay("gpt2", TDM_SHARED_DATA "/gpt2");
}

static void replay_roberta(void **state)
{
    (void)state;
    replay("roberta", TDM_SHARED_DATA "/roberta");
}

/* ---- published vocabularies ---- */

/* Every token's bytes, taken as one piece, merge to that token: the vocabulary is closed under its
 * merges, so that it makes no difference whether a piece is looked up first. */
static void merge_every_token(void **state)
{
    (void)state;
    tdm_vocab v;
    tdm_err err = {0};
    if (access(TDM_SHARED_DATA "/gpt2/vocab.bpe", F_OK) != 0)
        skip();
    tdm_buf merges = load(TDM_SHARED_DATA "/gpt2/vocab.bpe");
    const tdm_vocab_source source = {"vocab.bpe", merges.p, merges.len};
    assert_int_equal(tdm_vocab_load(&v, &source, NULL, &err), TDM_OK);
    assert_int_equal(v.n_symbols, 50256);
    tdm_merge m = {.vocab = &v};
    tdm_ids ids = {0};
    for (uint32_t s = 0; s < v.n_symbols; s++) {
        ids.len = 0;
        assert_int_equal(tdm_merge_piece(&m, (const unsigned char *)v.text + v.text_at[s],
                                         v.text_at[s + 1] - v.text_at[s], &ids, &err),
                         TDM_OK);
        assert_int_equal(ids.len, 1);
        assert_int_equal(ids.p[0], v.id_of[s]);
    }
    tdm_ids_free(&ids);
    tdm_merge_free(&m);
    tdm_vocab_free(&v);
    tdm_buf_free(&merges);
}

static void count_published_ids(void **state)
{
    (void)state;
    tdm_bpe *gpt2 = open_model(TDM_SHARED_DATA "/gpt2");
    assert_int_equal(tdm_bpe_size(gpt2), 50257);
    assert_int_equal(tdm_bpe_special(gpt2, "<|endoftext|>"), 50256);
    assert_int_equal(tdm_bpe_special(gpt2, "<s>"), -1);
    tdm_bpe_close(gpt2);
    tdm_bpe *roberta = open_model(TDM_SHARED_DATA "/roberta");
    assert_int_equal(tdm_bpe_size(roberta), 50265);
    static const struct {
        const char *text;
        int32_t id;
    } SPECIALS[] = {{"<s>", 0},   {"<pad>", 1},      {"</s>", 2},
                    {"<unk>", 3}, {"<mask>", 50264}, {"<|endoftext|>", 50260}};
    for (size_t i = 0; i < sizeof SPECIALS / sizeof *SPECIALS; i++)
        assert_int_equal(tdm_bpe_special(roberta, SPECIALS[i].text), SPECIALS[i].id);
    tdm_bpe_close(roberta);
}

/* Copies of RoBERTa's vocabulary without the three madeupwords give the same ids. */
static void bear_missing_madeupwords(void **state)
{
    (void)state;
    tdm_bpe *bpe = open_model(TDM_SHARED_DATA "/roberta");
    tdm_bpe_close(bpe);
    tdm_buf merges = load(TDM_SHARED_DATA "/roberta/merges.txt");
    tdm_buf vocab = load(TDM_SHARED_DATA "/roberta/vocab.json"), less = {0};
    const char *first = strstr(vocab.p, "\"madeupword0000\""),
               *mask = strstr(vocab.p, "\"<mask>\"");
    assert_true(first && mask && first < mask);
    assert_int_equal(tdm_buf_put(&less, vocab.p, (size_t)(first - vocab.p), NULL), TDM_OK);
    assert_int_equal(tdm_buf_put(&less, mask, strlen(mask), NULL), TDM_OK);
    tdm_err err = {0};
    if (tdm_bpe_open_memory(merges.p, merges.len, less.p, less.len, &bpe, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(tdm_bpe_size(bpe), 50265);
    assert_int_equal(tdm_bpe_special(bpe, "<mask>"), 50264);
    size_t len;
    assert_null(tdm_bpe_token(bpe, 50262, &len));
    tdm_bpe_close(bpe);
    tdm_buf_free(&merges);
    tdm_buf_free(&vocab);
    tdm_buf_free(&less);
}

/* ---- tokenizer_vectors.json ---- */

static void check_vector(const tdm_bpe *bpe, const char *text, const cJSON *want)
{
    tdm_ids ids = {0};
    assert_int_equal(tdm_bpe_encode(bpe, text, strlen(text), 0, &ids, NULL), TDM_OK);
    if ((int)ids.len != cJSON_GetArraySize(want))
        fail_msg("\"%s\": %zu ids, want %d", text, ids.len, cJSON_GetArraySize(want));
    for (size_t i = 0; i < ids.len; i++)
        assert_int_equal(ids.p[i], cJSON_GetArrayItem(want, (int)i)->valueint);
    tdm_ids_free(&ids);
}

/* host/json refuses \u0000, which one text has; that text stands in the golden files' class too. */
static void check_vectors(void **state)
{
    (void)state;
    tdm_bpe *gpt2 = open_model(TDM_SHARED_DATA "/gpt2");
    tdm_bpe *roberta = open_model(TDM_SHARED_DATA "/roberta");
    tdm_buf text = load(TDM_SHARED_DATA "/tokenizer_vectors.json");
    cJSON *doc = cJSON_Parse(text.p);
    assert_non_null(doc);
    int n = 0;
    const cJSON *one;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(doc, "cases"))
    {
        const char *input = cJSON_GetStringValue(cJSON_GetObjectItem(one, "text"));
        assert_non_null(input);
        n++;
        const cJSON *want = cJSON_GetObjectItem(one, "gpt2");
        if (cJSON_GetArraySize(want) > 0 && !*input)
            continue; /* the text with NUL, which a C string cannot hold */
        check_vector(gpt2, input, want);
        check_vector(roberta, input, cJSON_GetObjectItem(one, "roberta"));
    }
    assert_int_equal(n, 32);
    /* That text: NUL, U+0001, DEL, NEL, x. */
    tdm_ids ids = {0};
    static const int32_t WANT[] = {188, 189, 221, 126, 227, 87};
    assert_int_equal(tdm_bpe_encode(gpt2, "\0\1\x7F\xC2\x85x", 6, 0, &ids, NULL), TDM_OK);
    assert_int_equal(ids.len, 6);
    assert_memory_equal(ids.p, WANT, sizeof WANT);
    tdm_ids_free(&ids);
    cJSON_Delete(doc);
    tdm_buf_free(&text);
    tdm_bpe_close(gpt2);
    tdm_bpe_close(roberta);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay_writer),
        cmocka_unit_test(replay_reader),
        cmocka_unit_test(replay_gpt2),
        cmocka_unit_test(replay_roberta),
        cmocka_unit_test(merge_every_token),
        cmocka_unit_test(count_published_ids),
        cmocka_unit_test(bear_missing_madeupwords),
        cmocka_unit_test(check_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
