/* Packing: every text once, budgets kept, longest first, the same for the same lengths. */
#include "host/pack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 600 };

static const struct {
    const char *why;
    size_t n;
    int32_t lengths[8];
    int32_t max_rows;
    size_t max_texts;
    size_t n_batches;
    uint32_t order[8];
    size_t ends[8];
} CASES[] = {
    {"nothing", 0, {0}, 10, 0, 0, {0}, {0}},
    {"one text that fills the budget", 1, {10}, 10, 0, 1, {0}, {1}},
    {"longest first, equal lengths by number", 4, {3, 5, 3, 7}, 100, 0, 1, {3, 1, 0, 2}, {4}},
    {"cut where the next text does not fit", 4, {6, 6, 4, 4}, 10, 0, 3, {0, 1, 2, 3}, {1, 3, 4}},
    {"an exact fit is not cut", 3, {4, 3, 3}, 10, 0, 1, {0, 1, 2}, {3}},
    {"empty texts are in no batch", 5, {0, 4, 0, 5, 0}, 10, 0, 1, {3, 1}, {2}},
    {"only empty texts", 2, {0, 0}, 10, 0, 0, {0}, {0}},
    {"at most two texts", 5, {1, 1, 1, 1, 1}, 10, 2, 3, {0, 1, 2, 3, 4}, {2, 4, 5}},
    {"one text at a time", 3, {1, 2, 3}, 10, 1, 3, {2, 1, 0}, {1, 2, 3}},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        uint32_t order[8] = {0};
        size_t ends[8] = {0};
        const size_t n_batches = tdm_pack(CASES[c].lengths, CASES[c].n, CASES[c].max_rows,
                                          CASES[c].max_texts, order, ends);
        print_message("%s\n", CASES[c].why);
        assert_int_equal(n_batches, CASES[c].n_batches);
        for (size_t b = 0; b < n_batches; b++)
            assert_int_equal(ends[b], CASES[c].ends[b]);
        for (size_t i = 0; n_batches && i < ends[n_batches - 1]; i++)
            assert_int_equal(order[i], CASES[c].order[i]);
    }
}

/* Random windows: the promises of the header, checked without knowing how packing works. */
static void test_promises(void **state)
{
    (void)state;
    static int32_t lengths[MOST];
    static uint32_t order[MOST], again[MOST];
    static size_t ends[MOST], ends_again[MOST];
    uint64_t random = 5;
    for (int round = 0; round < 300; round++) {
        const size_t n = (size_t)(round * 2 + 1), max_texts = round % 3 ? (size_t)round : 0;
        const int32_t max_rows = 512 + round;
        size_t n_texts = 0;
        for (size_t i = 0; i < n; i++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            lengths[i] = (int32_t)((random >> 33) % 513);
            n_texts += lengths[i] > 0;
        }
        const size_t n_batches = tdm_pack(lengths, n, max_rows, max_texts, order, ends);
        assert_int_equal(tdm_pack(lengths, n, max_rows, max_texts, again, ends_again), n_batches);
        assert_memory_equal(order, again, n_texts * sizeof *order);
        assert_memory_equal(ends, ends_again, n_batches * sizeof *ends);

        int seen[MOST] = {0};
        for (size_t b = 0, i = 0; b < n_batches; b++) {
            const size_t from = i;
            int64_t rows = 0;
            for (; i < ends[b]; i++) {
                assert_true(order[i] < n && lengths[order[i]] > 0);
                assert_true(i == 0 || lengths[order[i]] <= lengths[order[i - 1]]);
                seen[order[i]]++;
                rows += lengths[order[i]];
            }
            assert_true(i > from);
            assert_true(rows <= max_rows);
            assert_true(!max_texts || i - from <= max_texts);
        }
        assert_int_equal(n_batches ? ends[n_batches - 1] : 0, n_texts);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(seen[i], lengths[i] > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
