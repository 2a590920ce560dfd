/* The device that computes nothing, and what backends say about themselves: results depend on what they may
 * depend on, and on nothing else. */
#include "host/backend_null.h"

#include "tests/ops_reference.h"

enum { WIDTH = 64, LABELS = 2, VOCAB = 1000, EOS = 999 };

/* ---- texts ---- */

/* The logits of texts, packed as starts says. */
static void judge(const tdm_backend *be, const int32_t *ids, const int32_t *starts, int32_t n, float *logits)
{
    void *x = NULL;
    float w[LABELS * WIDTH] = {0}, bias[LABELS] = {0};
    ASSERT_OK(tdm_alloc(be, (size_t)starts[n] * WIDTH * sizeof(float), &x, err));
    const tdm_step step = {.n_rows = starts[n], .n_seqs = n, .tokens = ids, .positions = ids,
                           .starts = starts};
    ASSERT_OK(tdm_embed(be, mat(x, starts[n], WIDTH), &step, mat(w, 2, WIDTH), 0, mat(w, 2, WIDTH), 0, err));
    ASSERT_OK(tdm_classify(be, mat(logits, n, LABELS), mat(x, n, WIDTH), mat(w, LABELS, WIDTH),
                           mat(bias, 1, LABELS), err));
    tdm_release(be, x);
}

static void logits_are_those_of_the_ids(void **state)
{
    (void)state;
    tdm_backend be;
    const int32_t ids[] = {0, 5, 2, 0, 5, 6, 2, 0, 7, 2, 0, 5, 2}, starts[] = {0, 3, 7, 10, 13};
    float together[4][LABELS], alone[LABELS], x[WIDTH] = {0};
    ASSERT_OK(tdm_open_null(&be, err));
    judge(&be, ids, starts, 4, together[0]);
    for (int i = 0; i < 4; i++) {
        const int32_t one[] = {0, starts[i + 1] - starts[i]};
        judge(&be, ids + starts[i], one, 1, alone);
        assert_memory_equal(alone, together[i], sizeof alone);
        for (int k = 0; k < LABELS; k++)
            assert_true(alone[k] >= -4 && alone[k] <= 4);
    }
    assert_memory_equal(together[0], together[3], sizeof alone); /* the same ids */
    for (int i = 1; i < 3; i++)
        assert_memory_not_equal(together[0], together[i], sizeof alone);
    ASSERT_FAILS(tdm_classify(&be, mat(alone, 2, 1), mat(x, 2, WIDTH / 2), mat(x, 1, WIDTH / 2),
                              mat(x, 1, 1), err),
                 TDM_EARG, "2 rows, the step has 1 texts");
    tdm_backend_close(&be);
}

/* ---- draws ---- */

enum { SLOTS = 4, DOCUMENTS = 600, MOST = 256 };

typedef struct {
    int32_t ids[MOST];
    int32_t n;
    bool ended;
} document;

/* Write documents in `slots` slots, each in the next slot that is free. */
static void write_documents(const tdm_backend *be, uint64_t seed, int slots, document *out)
{
    int32_t tokens[SLOTS], positions[SLOTS], left[SLOTS], drawn[SLOTS], rows[SLOTS], of[SLOTS];
    tdm_draw draws[SLOTS];
    const tdm_slots state = {tokens, positions, left, drawn, draws};
    const tdm_mat logits = {tokens, slots, VOCAB, TDM_F32, 0};
    int32_t next = 0, running = 0;
    for (int i = 0; i < slots; i++) {
        rows[i] = slots - 1 - i;
        positions[i] = -1;
    }
    do {
        for (int i = 0; i < slots; i++) {
            if (positions[i] >= 0 || next == DOCUMENTS)
                continue;
            positions[i] = 1;
            left[i] = MOST;
            of[i] = next;
            out[next] = (document){0};
            draws[i] = (tdm_draw){.seed = seed, .document = (uint64_t)next++};
            running++;
        }
        ASSERT_OK(tdm_sample(be, &state, rows, logits, EOS, err));
        for (int i = 0; i < slots; i++) {
            if (drawn[i] == TDM_IDLE)
                continue;
            document *d = &out[of[i]];
            d->ended = drawn[i] == EOS;
            if (!d->ended)
                d->ids[d->n++] = drawn[i];
            running -= positions[i] < 0;
        }
    } while (running > 0 || next < DOCUMENTS);
}

static void draws_are_those_of_the_document(void **state)
{
    (void)state;
    static document one[DOCUMENTS], many[DOCUMENTS], other[DOCUMENTS];
    int at_once = 0, full = 0, between = 0;
    tdm_backend be;
    ASSERT_OK(tdm_open_null(&be, err));
    write_documents(&be, 7, 1, one);
    write_documents(&be, 7, SLOTS, many);
    write_documents(&be, 8, SLOTS, other);
    assert_memory_equal(one, many, sizeof one);
    assert_memory_not_equal(one, other, sizeof one);
    for (int i = 0; i < DOCUMENTS; i++) {
        assert_int_equal(one[i].ended, one[i].n < MOST);
        at_once += one[i].n == 0;
        full += one[i].n == MOST;
        between += one[i].n > 0 && one[i].n < MOST;
        for (int k = 0; k < one[i].n; k++)
            assert_true(one[i].ids[k] >= 0 && one[i].ids[k] < VOCAB && one[i].ids[k] != EOS);
    }
    assert_true(at_once > DOCUMENTS / 20 && full > DOCUMENTS / 20 && between > DOCUMENTS / 3);
    tdm_backend_close(&be);
}

static void statistics_are_those_of_the_target(void **state)
{
    (void)state;
    tdm_backend be;
    tdm_stat stats[4];
    float x = 0;
    const int32_t targets[] = {5, -1, 6, 5};
    const tdm_mat logits = {&x, 4, VOCAB, TDM_F32, 0};
    ASSERT_OK(tdm_open_null(&be, err));
    ASSERT_OK(tdm_token_stats(&be, stats, logits, targets, err));
    assert_memory_equal(&stats[0], &stats[3], sizeof *stats);
    assert_memory_not_equal(&stats[0], &stats[2], sizeof *stats);
    assert_memory_equal(&stats[1], &(tdm_stat){0}, sizeof *stats);
    assert_true(stats[0].rank >= 1 && stats[0].rank <= VOCAB && stats[0].logprob <= 0);
    tdm_cross cross[4];
    ASSERT_OK(tdm_cross_stats(&be, cross, logits, logits, targets, err));
    assert_memory_equal(&cross[0], &cross[3], sizeof *cross);
    assert_memory_not_equal(&cross[0], &cross[2], sizeof *cross);
    assert_memory_equal(&cross[1], &(tdm_cross){0}, sizeof *cross);
    assert_true(cross[0].cross > 0 && cross[0].variance > 0 && cross[0].back > 0);
    tdm_backend_close(&be);
}

/* Tokens of the vocabulary, each once, in falling order. */
static void likeliest_tokens_are_those_of_the_target(void **state)
{
    (void)state;
    enum { K = 7, SMALL = 7 };
    tdm_backend be;
    tdm_top top[4][K];
    float x = 0;
    const int32_t targets[] = {5, -1, 6, 5};
    ASSERT_OK(tdm_open_null(&be, err));
    ASSERT_OK(tdm_top_tokens(&be, top[0], K, (tdm_mat){&x, 4, SMALL, TDM_F32, 0}, targets, err));
    for (int i = 0; i < K; i++)
        for (int j = 0; j < i; j++)
            assert_true(top[0][i].id >= 0 && top[0][i].id < SMALL && top[0][i].id != top[0][j].id &&
                        top[0][i].logprob < top[0][j].logprob);
    assert_memory_equal(top[1], ((tdm_top[K]){{0}}), sizeof *top);
    ASSERT_OK(tdm_top_tokens(&be, top[0], K, (tdm_mat){&x, 4, VOCAB, TDM_F32, 0}, targets, err));
    assert_memory_equal(top[0], top[3], sizeof *top);
    assert_memory_not_equal(top[0], top[2], sizeof *top);
    tdm_backend_close(&be);
}

/* ---- what bits depend on ---- */

static void backends_say_what_bits_depend_on(void **state)
{
    (void)state;
    tdm_backend be;
    ASSERT_OK(tdm_open_null(&be, err));
    assert_string_equal(be.identity, "null");
    tdm_backend_close(&be);
    ASSERT_OK(tdm_open_cpu(1, &be, err));
    assert_int_equal(strncmp(be.identity, "cpu, ", 5), 0);
    assert_non_null(strstr(be.identity, __VERSION__));
    assert_null(be.stop);
    tdm_backend_close(&be);
    const cpu_kernels *tables[] = {&cpu_table_avx512, &cpu_table_avx2, &cpu_table_baseline};
    for (int i = 0; i < 3; i++) {
        if (!tables[i]->name)
            continue;
        assert_non_null(strstr(tables[i]->identity, tables[i]->name));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_ids),
        cmocka_unit_test(draws_are_those_of_the_document),
        cmocka_unit_test(statistics_are_those_of_the_target),
        cmocka_unit_test(likeliest_tokens_are_those_of_the_target),
        cmocka_unit_test(backends_say_what_bits_depend_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
