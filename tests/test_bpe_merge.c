/* Merging against the definition taken literally, on vocabularies made here: both ways of merging
 * (short and long pieces), the piece cache, and inputs that a careless algorithm finds hard. */
#include <pthread.h>
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

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

/* ---- a vocabulary, and the definition ---- */

enum { MAX_MERGES = 400, MAX_TOKEN = 200, MAX_TEXT = 700 };

typedef struct {
    char token[256 + MAX_MERGES][MAX_TOKEN + 1]; /* letters only behind 256 */
    int left[256 + MAX_MERGES], right[256 + MAX_MERGES];
    int n; /* symbols */
} model;

static int find_token(const model *m, const char *text)
{
    for (int i = 256; i < m->n; i++)
        if (strcmp(m->token[i], text) == 0)
            return i;
    return -1;
}

static bool add_merge(model *m, int left, int right)
{
    char text[2 * MAX_TOKEN + 1];
    snprintf(text, sizeof text, "%s%s", m->token[left], m->token[right]);
    if (m->n == 256 + MAX_MERGES || strlen(text) > MAX_TOKEN || find_token(m, text) >= 0)
        return false;
    strcpy(m->token[m->n], text);
    m->left[m->n] = left;
    m->right[m->n++] = right;
    return true;
}

static void open_model(model *m)
{
    memset(m, 0, sizeof *m);
    m->n = 256;
    for (int c = 0; c < 256; c++)
        m->token[c][0] = (char)c;
}

static void put_merges(const model *m, tdm_buf *out)
{
    assert_int_equal(tdm_buf_printf(out, NULL, "#version: 0.2\n"), TDM_OK);
    for (int i = 256; i < m->n; i++)
        assert_int_equal(
            tdm_buf_printf(out, NULL, "%s %s\n", m->token[m->left[i]], m->token[m->right[i]]),
            TDM_OK);
}

static tdm_bpe *open_bpe(const model *m)
{
    tdm_buf merges = {0};
    tdm_bpe *bpe = NULL;
    tdm_err err = {0};
    put_merges(m, &merges);
    if (tdm_bpe_open_memory(merges.p, merges.len, NULL, 0, &bpe, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    tdm_buf_free(&merges);
    return bpe;
}

/* The lowest-ranked pair of the list, all its occurrences from left to right, until none is left.
 */
static size_t merge_by_definition(const model *m, const char *text, size_t len, int *symbols)
{
    size_t n = len;
    for (size_t i = 0; i < len; i++)
        symbols[i] = (unsigned char)text[i];
    for (;;) {
        int best = m->n;
        for (size_t i = 0; i + 1 < n; i++)
            for (int s = 256; s < best; s++)
                if (m->left[s] == symbols[i] && m->right[s] == symbols[i + 1])
                    best = s;
        if (best == m->n)
            return n;
        size_t to = 0;
        for (size_t i = 0; i < n; to++) {
            const bool pair =
                i + 1 < n && symbols[i] == m->left[best] && symbols[i + 1] == m->right[best];
            symbols[to] = pair ? best : symbols[i];
            i += pair ? 2 : 1;
        }
        n = to;
    }
}

/* GPT-2's id of a symbol; letters are printable, so 'a' is 'a' - '!'. */
static int32_t id_of(int symbol)
{
    return symbol < 256 ? symbol - '!' : symbol;
}

static void check_text(const model *m, const tdm_bpe *bpe, const char *text, size_t len)
{
    static int symbols[MAX_TEXT];
    tdm_ids ids = {0};
    const size_t n = merge_by_definition(m, text, len, symbols);
    assert_int_equal(tdm_bpe_encode(bpe, text, len, 0, &ids, NULL), TDM_OK);
    bool same = ids.len == n;
    for (size_t i = 0; same && i < n; i++)
        same = ids.p[i] == id_of(symbols[i]);
    if (!same)
        fail_msg("\"%.*s\": %zu ids, want %zu", (int)len, text, ids.len, n);
    tdm_ids_free(&ids);
}

/* Random letters, with runs and with repeats of what stands before. */
static size_t random_word(char *text, size_t max_len, uint32_t n_letters)
{
    const size_t len = 1 + random_below((uint32_t)max_len);
    const uint32_t habit = random_below(3);
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)('a' + random_below(n_letters));
        if (i > 0 && habit == 1 && random_below(4))
            text[i] = text[i - 1];
        if (i > 5 && habit == 2 && random_below(8))
            text[i] = text[i - 1 - i % 5];
    }
    return len;
}

static void check_words(const model *m)
{
    tdm_bpe *bpe = open_bpe(m);
    char text[MAX_TEXT];
    for (int i = 0; i < 300; i++) {
        const size_t len = random_word(text, i % 3 ? 60 : MAX_TEXT, 1 + random_below(4));
        check_text(m, bpe, text, len);
        check_text(m, bpe, text, len); /* now perhaps from the cache */
    }
    tdm_bpe_close(bpe);
}

/* Merges in an order that no training would give: any two symbols. */
static void merge_with_random_lists(void **state)
{
    (void)state;
    static model m;
    random_state = 7;
    for (int round = 0; round < 150; round++) {
        open_model(&m);
        const int n_merges = 1 + (int)random_below(60);
        for (int i = 0; i < n_merges; i++) {
            int part[2];
            for (int k = 0; k < 2; k++)
                part[k] = random_below(2) || m.n == 256
                              ? 'a' + (int)random_below(3)
                              : 256 + (int)random_below((uint32_t)(m.n - 256));
            add_merge(&m, part[0], part[1]);
        }
        check_words(&m);
    }
}

/* As a trainer does it: the most frequent pair of a text, again and again. */
static void train(model *m, int *symbols, size_t n, int n_merges)
{
    for (int k = 0; k < n_merges; k++) {
        int best_left = -1, best_right = -1, best = 1;
        for (size_t i = 0; i + 1 < n; i++) {
            int count = 0;
            for (size_t j = 0; j + 1 < n; j++)
                count += symbols[j] == symbols[i] && symbols[j + 1] == symbols[i + 1];
            if (count > best) {
                best = count;
                best_left = symbols[i];
                best_right = symbols[i + 1];
            }
        }
        if (best_left < 0 || !add_merge(m, best_left, best_right))
            return;
        size_t to = 0;
        for (size_t i = 0; i < n; to++) {
            const bool pair = i + 1 < n && symbols[i] == best_left && symbols[i + 1] == best_right;
            symbols[to] = pair ? m->n - 1 : symbols[i];
            i += pair ? 2 : 1;
        }
        n = to;
    }
}

static void merge_with_trained_lists(void **state)
{
    (void)state;
    static model m;
    static int symbols[MAX_TEXT];
    char text[MAX_TEXT];
    random_state = 11;
    for (int round = 0; round < 20; round++) {
        open_model(&m);
        const size_t len = random_word(text, MAX_TEXT, 2 + random_below(4));
        for (size_t i = 0; i < len; i++)
            symbols[i] = (unsigned char)text[i];
        train(&m, symbols, len, 40);
        if (m.n > 256)
            check_words(&m);
    }
}

/* Runs of one letter of every length, where the leftmost pair must win: aa, aaaa, and aaa. */
static void merge_runs(void **state)
{
    (void)state;
    static model m;
    char text[MAX_TEXT];
    open_model(&m);
    assert_true(add_merge(&m, 'a', 'a'));
    assert_true(add_merge(&m, 256, 256));
    assert_true(add_merge(&m, 256, 'a'));
    assert_true(add_merge(&m, 'b', 'a'));
    tdm_bpe *bpe = open_bpe(&m);
    memset(text, 'a', sizeof text);
    for (size_t len = 1; len < 200; len++)
        check_text(&m, bpe, text, len);
    for (size_t at = 0; at < 200; at++) { /* a b somewhere in the run */
        text[at] = 'b';
        check_text(&m, bpe, text, 200);
        text[at] = 'a';
    }
    tdm_bpe_close(bpe);
}

/* A symbol that grows into a run from its middle, its left and its right: the case for which a pair
 * that waits must be dropped when it is no longer the leftmost of its run. */
static void merge_run_made_by_merges(void **state)
{
    (void)state;
    static model m;
    char text[MAX_TEXT];
    random_state = 3;
    open_model(&m);
    assert_true(add_merge(&m, 'b', 'c')); /* X = bc */
    assert_true(add_merge(&m, 'd', 'e')); /* becomes dE */
    assert_true(add_merge(&m, 'a', 256)); /* abc */
    assert_true(add_merge(&m, 256, 256)); /* XX */
    assert_true(add_merge(&m, 259, 259)); /* XXXX */
    assert_true(add_merge(&m, 257, 258));
    tdm_bpe *bpe = open_bpe(&m);
    for (int round = 0; round < 3000; round++) {
        size_t len = 0;
        while (len < 120) {
            static const char *const PARTS[] = {"bc", "bcbc", "bcbcbc", "a", "de", "b", "c", "d"};
            const char *part = PARTS[random_below(8)];
            memcpy(text + len, part, strlen(part));
            len += strlen(part);
        }
        check_text(&m, bpe, text, len);
    }
    tdm_bpe_close(bpe);
}

/* ---- all threads, one tokenizer ---- */

enum { N_THREADS = 8, N_WORDS = 4000, N_PASSES = 12 };

static const tdm_bpe *shared_bpe;
static char *shared_text;
static size_t shared_len;
static tdm_ids expected;

static void *encode_again(void *arg)
{
    size_t *wrong = arg;
    tdm_ids ids = {0};
    for (int i = 0; i < N_PASSES; i++) {
        ids.len = 0;
        if (tdm_bpe_encode(shared_bpe, shared_text, shared_len, 0, &ids, NULL) != TDM_OK ||
            ids.len != expected.len || memcmp(ids.p, expected.p, ids.len * sizeof *ids.p) != 0)
            ++*wrong;
    }
    tdm_ids_free(&ids);
    return NULL;
}

/* A small vocabulary has a small cache, so that the threads overwrite each other's pieces all the
 * time. The expected ids come from one thread, and are checked against the definition elsewhere. */
static void encode_on_many_threads(void **state)
{
    (void)state;
    static model m;
    random_state = 5;
    open_model(&m);
    for (int i = 0; i < 60; i++)
        add_merge(&m, i < 20 || random_below(2) ? 'a' + (int)random_below(4) : m.n - 1,
                  'a' + (int)random_below(4));
    tdm_bpe *bpe = open_bpe(&m);
    tdm_buf text = {0};
    for (int i = 0; i < N_WORDS; i++) {
        char word[MAX_TEXT];
        const size_t len = random_word(word, random_below(4) ? 10 : 50, 4);
        assert_int_equal(tdm_buf_put(&text, " ", 1, NULL), TDM_OK);
        assert_int_equal(tdm_buf_put(&text, word, len, NULL), TDM_OK);
    }
    shared_bpe = bpe;
    shared_text = text.p;
    shared_len = text.len;
    assert_int_equal(tdm_bpe_encode(bpe, text.p, text.len, 0, &expected, NULL), TDM_OK);
    pthread_t threads[N_THREADS];
    size_t wrong[N_THREADS] = {0};
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_again, &wrong[i]), 0);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(wrong[i], 0);
    tdm_ids_free(&expected);
    tdm_buf_free(&text);
    tdm_bpe_close(bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge_with_random_lists),
        cmocka_unit_test(merge_with_trained_lists),
        cmocka_unit_test(merge_runs),
        cmocka_unit_test(merge_run_made_by_merges),
        cmocka_unit_test(encode_on_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
