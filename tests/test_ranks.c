/* Which process of how many: from --shard, or from the variables of whatever launched it.
 * The code belongs to the executable, so its source is part of this test. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "tools/ranks.c"

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { MOST_VARIABLES = 4 };

typedef struct {
    const char *name, *value;
} variable;

static void set_environment(const variable *variables)
{
    for (size_t i = 0; i < COUNT(LAUNCHERS); i++) {
        unsetenv(LAUNCHERS[i].index);
        unsetenv(LAUNCHERS[i].count);
    }
    for (size_t i = 0; i < MOST_VARIABLES && variables[i].name; i++)
        setenv(variables[i].name, variables[i].value, 1);
}

static const struct {
    const char *shard;
    variable environment[MOST_VARIABLES];
    int64_t index, count; /* count 0: refused */
    const char *source;   /* refused: what the message says */
} CASES[] = {
    {NULL, {{NULL, NULL}}, 0, 1, NULL},
    {"0/1", {{NULL, NULL}}, 0, 1, "--shard"},
    {"3/4", {{NULL, NULL}}, 3, 4, "--shard"},
    {"003/0004", {{NULL, NULL}}, 3, 4, "--shard"},
    {"999999/1000000", {{NULL, NULL}}, 999999, 1000000, "--shard"},
    {"1/2", {{"RANK", "5"}, {"WORLD_SIZE", "8"}}, 1, 2, "--shard"},
    {"1/2", {{"PMI_RANK", "nonsense"}}, 1, 2, "--shard"},
    {"4/4", {{NULL, NULL}}, 0, 0, "--shard 4/4: want I/N with 0 <= I < N <= 1000000"},
    {"0/0", {{NULL, NULL}}, 0, 0, "--shard 0/0"},
    {"0/1000001", {{NULL, NULL}}, 0, 0, "--shard 0/1000001"},
    {"-1/4", {{NULL, NULL}}, 0, 0, "--shard -1/4"},
    {"+1/4", {{NULL, NULL}}, 0, 0, "--shard +1/4"},
    {"1/4 ", {{NULL, NULL}}, 0, 0, "--shard 1/4 "},
    {" 1/4", {{NULL, NULL}}, 0, 0, "--shard  1/4"},
    {"1", {{NULL, NULL}}, 0, 0, "--shard 1:"},
    {"/4", {{NULL, NULL}}, 0, 0, "--shard /4"},
    {"1/", {{NULL, NULL}}, 0, 0, "--shard 1/"},
    {"1/4/8", {{NULL, NULL}}, 0, 0, "--shard 1/4/8"},
    {"1/18446744073709551617", {{NULL, NULL}}, 0, 0, "--shard 1/18446744073709551617"},
    {"", {{NULL, NULL}}, 0, 0, "--shard :"},
    /* torchrun */
    {NULL, {{"RANK", "5"}, {"WORLD_SIZE", "8"}}, 5, 8, "RANK and WORLD_SIZE"},
    {NULL, {{"RANK", "general"}}, 0, 1, NULL}, /* alone a common name */
    {NULL, {{"WORLD_SIZE", "8"}}, 0, 1, NULL},
    {NULL, {{"RANK", "8"}, {"WORLD_SIZE", "8"}}, 0, 0, "RANK=8 and WORLD_SIZE=8: want 0 <= rank < size"},
    {NULL, {{"RANK", "x"}, {"WORLD_SIZE", "8"}}, 0, 0, "RANK=x and WORLD_SIZE=8"},
    {NULL, {{"RANK", "1"}, {"WORLD_SIZE", ""}}, 0, 0, "RANK=1 and WORLD_SIZE=:"},
    {NULL, {{"RANK", "-1"}, {"WORLD_SIZE", "8"}}, 0, 0, "RANK=-1 and WORLD_SIZE=8"},
    {NULL, {{"RANK", "1.0"}, {"WORLD_SIZE", "8"}}, 0, 0, "RANK=1.0"},
    /* mpirun */
    {NULL, {{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "3"}}, 2, 3,
     "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE"},
    {NULL, {{"OMPI_COMM_WORLD_RANK", "2"}}, 0, 0, "OMPI_COMM_WORLD_RANK=2 and OMPI_COMM_WORLD_SIZE unset"},
    {NULL, {{"OMPI_COMM_WORLD_SIZE", "3"}}, 0, 1, NULL},
    /* other launchers of MPI */
    {NULL, {{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}, 0, 2, "PMI_RANK and PMI_SIZE"},
    {NULL, {{"PMI_RANK", "0"}}, 0, 0, "PMI_RANK=0 and PMI_SIZE unset"},
    {NULL, {{"PMI_RANK", "2"}, {"PMI_SIZE", "2"}}, 0, 0, "PMI_RANK=2 and PMI_SIZE=2"},
    /* Slurm: a batch script has a number too */
    {NULL, {{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "4"}}, 1, 4,
     "SLURM_PROCID and SLURM_STEP_NUM_TASKS"},
    {NULL, {{"SLURM_PROCID", "0"}}, 0, 1, NULL},
    {NULL, {{"SLURM_PROCID", "4"}, {"SLURM_STEP_NUM_TASKS", "4"}}, 0, 0, "SLURM_PROCID=4"},
    /* the innermost launcher counts: mpirun on two nodes, whose helper is task 0 of a step of 1 */
    {NULL,
     {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"OMPI_COMM_WORLD_RANK", "6"},
      {"OMPI_COMM_WORLD_SIZE", "8"}},
     6, 8, "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE"},
    {NULL,
     {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}, 1, 2,
     "PMI_RANK and PMI_SIZE"},
    {NULL,
     {{"SLURM_PROCID", "3"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"RANK", "30"}, {"WORLD_SIZE", "32"}}, 30, 32,
     "RANK and WORLD_SIZE"},
};

static void test_ranks(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_err err = {0};
        tdm_rank rank = {-1, -1};
        const char *source = NULL, *want = CASES[i].source;
        set_environment(CASES[i].environment);
        const tdm_status st = ranks_find(CASES[i].shard, &rank, &source, &err);
        if (CASES[i].count == 0) {
            if (st != TDM_EARG || !strstr(err.msg, want))
                fail_msg("case %zu: %d, %s", i, st, err.msg);
            continue;
        }
        if (st != TDM_OK || rank.index != CASES[i].index || rank.count != CASES[i].count)
            fail_msg("case %zu: %d, %d of %d", i, st, (int)rank.index, (int)rank.count);
        if (!source != !want || (want && strcmp(source, want) != 0))
            fail_msg("case %zu: by %s", i, source ? source : "nothing");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
