/* host/evaluate_bootstrap.c - replicates of a ranking: how often each text is drawn, and one walk for all values. */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "host/evaluate_state.h"
#include "host/rng.h"
#include "host/threads.h"

/* ThreadSanitizer is not there yet when the clone is chosen. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

enum { BLOCKS = 512 }; /* of Philox, two draws each, that are made at once */

/* What an interval is wanted of. */
enum {
    AUROC, AVERAGE_PRECISION, PR_AUC, ACCURACY, BALANCED_ACCURACY, PRECISION, RECALL, F1,
    TPR, /* at the first target, the second, ... */
    MOST = TPR + TDM_FPRS_MOST,
};

typedef struct {
    const tdm_ranking *r;
    const tdm_bootstrap_options *boot;
    tdm_sweep_options sweep;
    bool has_threshold;
    uint8_t **counts;  /* [threads] owned [texts] humans, then machines */
    double *values[MOST]; /* owned [replicates] each */
    _Atomic int64_t next;  /* replicate that nobody has taken */
    atomic_bool overflow;
} bootstrap;

/* Both draws of each of BLOCKS counters, as indices below n. */
CLONES static void draw(uint32_t first, int class, uint64_t replicate, uint64_t seed, uint32_t n,
                        uint32_t even[restrict BLOCKS], uint32_t odd[restrict BLOCKS])
{
    const uint64_t times = n;
    const uint32_t low = (uint32_t)replicate, high = (uint32_t)(replicate >> 32);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        uint32_t w[4];
        tdm_philox((uint32_t[4]){first + b, (uint32_t)class, low, high}, seed, w);
        even[b] = (uint32_t)((w[1] * times + (w[0] * times >> 32)) >> 32);
        odd[b] = (uint32_t)((w[3] * times + (w[2] * times >> 32)) >> 32);
    }
}

/* How often each of the n texts of a class is drawn in a replicate. A byte is enough: that a text is drawn 256 times
 * has a chance below 1 in 256!, and would be noticed, since 256 draws were missing. */
static void count_draws(const bootstrap *b, int class, int64_t replicate, uint8_t *counts)
{
    const size_t n = b->r->n[class];
    uint32_t even[BLOCKS], odd[BLOCKS];
    memset(counts, 0, n);
    for (size_t i = 0; i < n && !tdm_stopped(b->boot->stop); i += 2 * BLOCKS) {
        const size_t left = n - i, n_even = left < 2 * BLOCKS ? (left + 1) / 2 : BLOCKS;
        const size_t n_odd = left < 2 * BLOCKS ? left / 2 : BLOCKS;
        draw((uint32_t)(i / 2), class, (uint64_t)replicate, b->boot->seed, (uint32_t)n, even, odd);
        for (size_t k = 0; k < n_even; k++)
            counts[even[k]]++;
        for (size_t k = 0; k < n_odd; k++)
            counts[odd[k]]++;
    }
}

static void put_values(bootstrap *b, int64_t replicate, const tdm_sweep_sums *sums)
{
    tdm_values v;
    tdm_values_from_sums(sums, b->has_threshold, &v);
    b->values[AUROC][replicate] = v.auroc;
    b->values[AVERAGE_PRECISION][replicate] = v.average_precision;
    b->values[PR_AUC][replicate] = v.pr_auc;
    b->values[ACCURACY][replicate] = v.accuracy;
    b->values[BALANCED_ACCURACY][replicate] = v.balanced_accuracy;
    b->values[PRECISION][replicate] = v.precision;
    b->values[RECALL][replicate] = v.recall;
    b->values[F1][replicate] = v.f1;
    for (int i = 0; i < b->sweep.n_fprs; i++)
        b->values[TPR + i][replicate] = (double)sums->hits[i] / (double)sums->n[MACHINE];
}

/* One thread: replicates as long as there are any. */
static void run_replicates(void *ctx, size_t thread)
{
    bootstrap *b = ctx;
    const tdm_ranking *r = b->r;
    uint8_t *const counts[2] = {b->counts[thread], b->counts[thread] + r->n[HUMAN]};
    for (;;) {
        const int64_t replicate = atomic_fetch_add(&b->next, 1);
        if (replicate >= b->boot->replicates)
            return;
        count_draws(b, HUMAN, replicate, counts[HUMAN]);
        count_draws(b, MACHINE, replicate, counts[MACHINE]);
        if (tdm_stopped(b->boot->stop))
            return;
        tdm_sweep_sums sums;
        tdm_sweep(r, &b->sweep, (const uint8_t *const[2]){counts[HUMAN], counts[MACHINE]}, &sums);
        if (sums.n[HUMAN] != r->n[HUMAN] || sums.n[MACHINE] != r->n[MACHINE])
            atomic_store(&b->overflow, true);
        put_values(b, replicate, &sums);
    }
}

/* ---- intervals ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of n rising values, between the two whose places are around q (n - 1). */
static double percentile(const double *sorted, int64_t n, double q)
{
    const double at = q * (double)(n - 1), below = floor(at);
    const int64_t i = (int64_t)below;
    if (i + 1 >= n)
        return sorted[n - 1];
    return sorted[i] + (sorted[i + 1] - sorted[i]) * (at - below);
}

static tdm_interval interval_of(double *values, const tdm_bootstrap_options *boot)
{
    const int64_t n = boot->replicates;
    if (n == 0 || isnan(values[0]))
        return (tdm_interval){NAN, NAN};
    qsort(values, (size_t)n, sizeof *values, by_value);
    return (tdm_interval){percentile(values, n, (1 - boot->confidence) / 2),
                          percentile(values, n, (1 + boot->confidence) / 2)};
}

static void put_intervals(const bootstrap *b, const int place[TDM_FPRS_MOST], tdm_intervals *out)
{
    tdm_interval found[MOST];
    for (int i = 0; i < MOST; i++)
        found[i] = i < TPR + b->sweep.n_fprs ? interval_of(b->values[i], b->boot) : (tdm_interval){NAN, NAN};
    *out = (tdm_intervals){
        .auroc = found[AUROC],
        .average_precision = found[AVERAGE_PRECISION],
        .pr_auc = found[PR_AUC],
        .accuracy = found[ACCURACY],
        .balanced_accuracy = found[BALANCED_ACCURACY],
        .precision = found[PRECISION],
        .recall = found[RECALL],
        .f1 = found[F1],
    };
    for (int i = 0; i < TDM_FPRS_MOST; i++)
        out->tpr[place[i]] = found[TPR + i];
}

/* ---- setting up ---- */

static tdm_status check_options(const tdm_evaluate_options *options, const tdm_bootstrap_options *boot, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(boot->replicates >= 0, TDM_EARG, "%" PRId64 " replicates", boot->replicates);
    TDM_REQUIRE(boot->confidence > 0 && boot->confidence < 1, TDM_EARG, "confidence %g, want a number between 0 and 1",
                boot->confidence);
    TDM_REQUIRE(options->n_fprs >= 0 && options->n_fprs <= TDM_FPRS_MOST, TDM_EARG, "%d FPRs, want at most %d",
                options->n_fprs, TDM_FPRS_MOST);
    for (int i = 0; i < options->n_fprs; i++)
        TDM_REQUIRE(options->fprs[i] >= 0 && options->fprs[i] <= 1, TDM_EARG, "FPR %g, want a number from 0 to 1",
                    options->fprs[i]);
done:
    return st;
}

/* Targets as numbers of humans, rising; place says which target of the caller's each is. */
static void sort_targets(const tdm_ranking *r, const tdm_evaluate_options *options, tdm_sweep_options *sweep,
                         int place[TDM_FPRS_MOST])
{
    sweep->n_fprs = options->n_fprs;
    for (int i = 0; i < TDM_FPRS_MOST; i++)
        place[i] = i;
    for (int i = 0; i < options->n_fprs; i++) {
        const size_t most = tdm_false_most(r->n[HUMAN], options->fprs[i]);
        int k = i;
        for (; k > 0 && sweep->most[k - 1] > most; k--) {
            sweep->most[k] = sweep->most[k - 1];
            place[k] = place[k - 1];
        }
        sweep->most[k] = most;
        place[k] = i;
    }
}

static tdm_status take_memory(bootstrap *b, size_t threads, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = b->r->n[HUMAN] + b->r->n[MACHINE], replicates = (size_t)b->boot->replicates;
    b->counts = calloc(threads, sizeof *b->counts);
    TDM_REQUIRE(b->counts, TDM_ENOMEM, "%zu threads", threads);
    for (size_t i = 0; i < threads; i++) {
        b->counts[i] = malloc(n);
        TDM_REQUIRE(b->counts[i], TDM_ENOMEM, "%zu bytes to count draws in", n);
    }
    for (int i = 0; i < TPR + b->sweep.n_fprs && replicates; i++) {
        b->values[i] = calloc(replicates, sizeof *b->values[i]);
        TDM_REQUIRE(b->values[i], TDM_ENOMEM, "values of %zu replicates", replicates);
    }
done:
    return st;
}

tdm_status tdm_bootstrap(const tdm_ranking *r, const tdm_evaluate_options *options,
                         const tdm_bootstrap_options *boot, tdm_intervals *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bootstrap b = {.r = r, .boot = boot, .has_threshold = !isnan(options->threshold)};
    tdm_threads *threads = NULL;
    size_t n_threads = 0;
    int place[TDM_FPRS_MOST];
    TDM_TRY(check_options(options, boot, err));
    TDM_TRY(tdm_threads_open(boot->threads, &threads, err));
    n_threads = (size_t)tdm_threads_count(threads);
    b.sweep.split = tdm_split_of(r, options->threshold);
    sort_targets(r, options, &b.sweep, place);
    TDM_TRY(take_memory(&b, n_threads, err));
    tdm_parallel(threads, n_threads, run_replicates, &b);
    TDM_TRY(tdm_check_stop(boot->stop, err));
    TDM_REQUIRE(!b.overflow, TDM_EINTERNAL, "a text was drawn more than 255 times");
    put_intervals(&b, place, out);
done:
    tdm_threads_close(threads);
    for (size_t i = 0; i < n_threads && b.counts; i++)
        free(b.counts[i]);
    free(b.counts);
    for (int i = 0; i < MOST; i++)
        free(b.values[i]);
    return st;
}
