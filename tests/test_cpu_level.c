/* tests/test_cpu_level.c - which kernels a machine may run: a level needs every feature that the
 * compiler may use in it. */
#include "tests/ops_reference.h"

/* Features of a machine that has everything, one bit of one word taken away, and what is left. */
static const struct {
    const char *name;
    int word, bit, level;
} NEEDED[] = {
    {"sse3", 0, 0, 1},       {"ssse3", 0, 9, 1},     {"cx16", 0, 13, 1},    {"sse4_1", 0, 19, 1},
    {"sse4_2", 0, 20, 1},    {"popcnt", 0, 23, 1},   {"lahf_lm", 2, 0, 1},  {"fma", 0, 12, 2},
    {"movbe", 0, 22, 2},     {"osxsave", 0, 27, 2},  {"avx", 0, 28, 2},     {"f16c", 0, 29, 2},
    {"bmi1", 1, 3, 2},       {"avx2", 1, 5, 2},      {"bmi2", 1, 8, 2},     {"abm", 2, 5, 2},
    {"xmm saved", 3, 1, 2},  {"ymm saved", 3, 2, 2}, {"avx512f", 1, 16, 3}, {"avx512dq", 1, 17, 3},
    {"avx512cd", 1, 28, 3},  {"avx512bw", 1, 30, 3}, {"avx512vl", 1, 31, 3}, {"masks saved", 3, 5, 3},
    {"zmm saved", 3, 6, 3},  {"more zmm saved", 3, 7, 3},
};

static uint32_t *word_of(cpu_features *f, int word)
{
    uint32_t *const words[] = {&f->leaf1_ecx, &f->leaf7_ebx, &f->extended_ecx, &f->saved};
    return words[word];
}

static void every_feature_is_needed(void **state)
{
    (void)state;
    const cpu_features all = {~0u, ~0u, ~0u, ~0u}, none = {0};
    assert_int_equal(cpu_level(&all), 4);
    assert_int_equal(cpu_level(&none), 1);
    cpu_features only = {0};
    for (size_t i = 0; i < COUNT(NEEDED); i++) {
        cpu_features f = all;
        *word_of(&f, NEEDED[i].word) &= ~(1u << NEEDED[i].bit);
        if (cpu_level(&f) != NEEDED[i].level)
            fail_msg("without %s: level %d", NEEDED[i].name, cpu_level(&f));
        *word_of(&only, NEEDED[i].word) |= 1u << NEEDED[i].bit;
    }
    assert_int_equal(cpu_level(&only), 4); /* and nothing else is */
}

/* Linux lists the same features by name. */
static void bits_are_those_of_linux(void **state)
{
    (void)state;
    static char line[1 << 14];
    FILE *f = fopen("/proc/cpuinfo", "r");
    bool found = false;
    while (f && !found && fgets(line, sizeof line - 1, f))
        found = strncmp(line, "flags", 5) == 0;
    if (f)
        fclose(f);
    if (!found) {
        print_message("no /proc/cpuinfo with flags here\n");
        skip();
    }
    line[strcspn(line, "\n")] = ' ';
    cpu_features here = cpu_features_read();
    for (size_t i = 0; i < COUNT(NEEDED); i++) {
        char name[32];
        snprintf(name, sizeof name, " %s ", strcmp(NEEDED[i].name, "sse3") ? NEEDED[i].name : "pni");
        if (NEEDED[i].word == 3 || NEEDED[i].bit == 27)
            continue; /* what the system saves is not listed */
        const bool bit = *word_of(&here, NEEDED[i].word) >> NEEDED[i].bit & 1;
        if (bit != (strstr(line, name) != NULL))
            fail_msg("%s: %d", NEEDED[i].name, bit);
    }
    assert_int_equal(cpu_kernels_avx2() != NULL, cpu_table_avx2.name && cpu_level(&here) >= 3);
    assert_int_equal(cpu_kernels_avx512() != NULL, cpu_table_avx512.name && cpu_level(&here) >= 4);
    assert_non_null(cpu_kernels_baseline());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_feature_is_needed),
        cmocka_unit_test(bits_are_those_of_linux),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
