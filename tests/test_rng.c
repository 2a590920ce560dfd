/* Philox against the vectors published with it, and the map from words to noise. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/rng.h"

/* Salmon et al. 2011, kat_vectors of Random123: philox4x32, 10 rounds. */
static const struct {
    const char *why;
    uint32_t counter[4], key[2], words[4];
} VECTORS[] = {
    {"zeros", {0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {"ones",
     {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {"digits of pi",
     {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof VECTORS / sizeof *VECTORS; i++) {
        uint32_t words[4];
        const uint64_t key = (uint64_t)VECTORS[i].key[1] << 32 | VECTORS[i].key[0];
        tdm_philox(VECTORS[i].counter, key, words);
        for (int j = 0; j < 4; j++)
            if (words[j] != VECTORS[i].words[j])
                fail_msg("%s: word %d is %08x, want %08x", VECTORS[i].why, j, words[j],
                         VECTORS[i].words[j]);
    }
}

static void test_uniform_is_inside(void **state)
{
    (void)state;
    assert_true(tdm_word_uniform(0) == 0x1p-33);
    assert_true(tdm_word_uniform(UINT32_MAX) == 1 - 0x1p-33);
    assert_true(fabs(tdm_word_gumbel(0x5e2d58d8)) < 1e-9); /* u = 1 / e */
    assert_true(tdm_word_gumbel(UINT32_MAX) < (double)TDM_MOST_GUMBEL);
    assert_true(isfinite(tdm_word_gumbel(0)));
}

static void check_bound(uint32_t word)
{
    const double noise = tdm_word_gumbel(word), bound = (double)tdm_word_gumbel_bound(word);
    if (!(bound >= noise))
        fail_msg("word %08x: noise %.9g, bound %.9g", word, noise, bound);
}

/* Every word within 2^16 of a power of two, from both ends, and words spread over the range. */
static void test_bound_holds(void **state)
{
    (void)state;
    for (int bit = 0; bit < 32; bit++)
        for (uint32_t near = 0; near < 1u << 12; near++) {
            const uint32_t power = UINT32_C(1) << bit;
            check_bound(power + near);
            check_bound(power - near);
            check_bound(~(power + near));
            check_bound(~(power - near));
        }
    for (uint32_t x = 0; x < 1u << 16; x++)
        check_bound(~x);
    uint32_t word = 0;
    for (int i = 0; i < 2000000; i++, word += 0x9E3779B9)
        check_bound(word);
}

/* The bound is of use only if it is close where it matters: far above zero. */
static void test_bound_is_close(void **state)
{
    (void)state;
    for (uint32_t x = 1u << 8; x < 1u << 24; x = x * 3 / 2 + 1) {
        const double gap = (double)tdm_word_gumbel_bound(~x) - tdm_word_gumbel(~x);
        assert_true(gap < 0.8); /* at most ln 2 from the cut to 24 bits and 0.06 from log2 */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_uniform_is_inside),
        cmocka_unit_test(test_bound_holds),
        cmocka_unit_test(test_bound_is_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
