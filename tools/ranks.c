#include "tools/ranks.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 1000000 };

/* Whole numbers alone: a rank that is misread does somebody else's work. */
static bool read_number(const char *text, size_t len, int64_t *out)
{
    enum { MOST_DIGITS = 9 };
    int64_t value = 0;
    if (len == 0 || len > MOST_DIGITS || strspn(text, "0123456789") < len)
        return false;
    for (size_t i = 0; i < len; i++)
        value = 10 * value + (text[i] - '0');
    *out = value;
    return true;
}

static bool is_rank(tdm_rank rank)
{
    return rank.index < rank.count && rank.count <= MOST_RANKS;
}

static tdm_status read_shard(const char *text, tdm_rank *rank, tdm_err *err)
{
    tdm_rank found = {0};
    const size_t at = strcspn(text, "/");
    const bool good = text[at] == '/' && read_number(text, at, &found.index) &&
                      read_number(text + at + 1, strlen(text + at + 1), &found.count);
    if (!good || !is_rank(found))
        return tdm_fail(err, TDM_EARG, "--shard %s: want I/N with 0 <= I < N <= %d", text, MOST_RANKS);
    *rank = found;
    return TDM_OK;
}

/* Whoever started this very process comes first: mpirun starts its helpers on other nodes by srun, whose
 * variables they hand down. */
static const struct {
    const char *index, *count, *source;
    bool both; /* one alone means nothing: a common name, or set outside of steps too */
} LAUNCHERS[] = {
    {"RANK", "WORLD_SIZE", "RANK and WORLD_SIZE", true},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE", false},
    {"PMI_RANK", "PMI_SIZE", "PMI_RANK and PMI_SIZE", false},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID and SLURM_STEP_NUM_TASKS", true},
};

tdm_status ranks_find(const char *shard, tdm_rank *rank, const char **source, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *rank = (tdm_rank){.index = 0, .count = 1};
    *source = NULL;
    if (shard) {
        *source = "--shard";
        return read_shard(shard, rank, err);
    }
    for (size_t i = 0; i < sizeof LAUNCHERS / sizeof *LAUNCHERS && !*source; i++) {
        const char *index = getenv(LAUNCHERS[i].index), *count = getenv(LAUNCHERS[i].count);
        tdm_rank found = {0};
        if (!index || (!count && LAUNCHERS[i].both))
            continue;
        const bool good = count && read_number(index, strlen(index), &found.index) &&
                          read_number(count, strlen(count), &found.count);
        TDM_REQUIRE(good && is_rank(found), TDM_EARG, "%s=%s and %s%s%s: want 0 <= rank < size <= %d",
                    LAUNCHERS[i].index, index, LAUNCHERS[i].count, count ? "=" : " unset",
                    count ? count : "", MOST_RANKS);
        *rank = found;
        *source = LAUNCHERS[i].source;
    }
done:
    return st;
}
