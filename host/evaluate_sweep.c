/* host/evaluate_sweep.c - one walk from the highest score down. All sums are of integers, so a replicate of the
 * bootstrap has the bits of a ranking of the texts that it drew. */
#include <math.h>

#include "host/evaluate_state.h"

/* Precision as an integer: rounded to 2^-52, which is as much as a double has to say just above 1. A sum of 2^32 of
 * these takes 85 bits. */
#define PRECISION_ONE 0x1p52

typedef struct {
    uint64_t all, hits;       /* texts so far; machines among them */
    uint64_t all_before, hits_before; /* up to the last group */
    uint64_t precision;       /* behind the last group */
    uint64_t wrong_pairs;
    tdm_wide steps, trapezoids;   /* under the precision-recall curve, twice under the second: recall in machines */
    int target;               /* the first that may still rise */
} sweep;

/* The end of a group of equal scores. */
static inline void end_group(sweep *s, const tdm_sweep_options *o, tdm_sweep_sums *out)
{
    const uint64_t machines = s->hits - s->hits_before;
    const uint64_t wrong = s->all - s->hits, wrong_before = s->all_before - s->hits_before;
    if (s->all == 0)
        return; /* nothing was drawn yet: the curve still is at precision 1 */
    const double share = (double)(int64_t)s->hits / (double)(int64_t)s->all; /* signed: one instruction */
    const uint64_t precision = (uint64_t)(int64_t)(share * PRECISION_ONE + 0.5);
    s->wrong_pairs += machines * (wrong_before + wrong);
    s->steps += (tdm_wide)machines * precision;
    s->trapezoids += (tdm_wide)machines * (s->precision + precision);
    while (s->target < o->n_fprs && wrong > o->most[s->target])
        out->hits[s->target++] = s->hits_before;
    s->precision = precision;
    s->all_before = s->all;
    s->hits_before = s->hits;
}

/* Texts [from, to) of the order. */
static inline void walk(sweep *s, const tdm_ranking *r, size_t from, size_t to, const tdm_sweep_options *o,
                        const uint8_t *const counts[2], tdm_sweep_sums *out, size_t seen[2])
{
    for (size_t i = from; i < to; i++) {
        const int class = r->order[i] & MACHINE;
        const uint64_t n = counts ? counts[class][seen[class]] : 1;
        seen[class]++;
        s->all += n;
        s->hits += class == MACHINE ? n : 0;
        if (r->order[i] & LAST_OF_GROUP)
            end_group(s, o, out);
    }
}

void tdm_sweep(const tdm_ranking *r, const tdm_sweep_options *options, const uint8_t *const counts[2],
               tdm_sweep_sums *out)
{
    size_t seen[2] = {0, 0};
    sweep s = {.precision = (uint64_t)PRECISION_ONE};
    walk(&s, r, 0, options->split, options, counts, out, seen);
    out->at_split[HUMAN] = s.all - s.hits;
    out->at_split[MACHINE] = s.hits;
    walk(&s, r, options->split, r->n[HUMAN] + r->n[MACHINE], options, counts, out, seen);
    while (s.target < options->n_fprs)
        out->hits[s.target++] = s.hits;
    out->n[HUMAN] = s.all - s.hits;
    out->n[MACHINE] = s.hits;
    out->wrong_pairs = s.wrong_pairs;
    out->average_precision = (double)s.steps / PRECISION_ONE / (double)s.hits;
    out->pr_auc = (double)s.trapezoids / (2 * PRECISION_ONE) / (double)s.hits;
}

static double ratio(int64_t part, int64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

double tdm_accuracy(const tdm_confusion *c)
{
    const int64_t right = c->machine_right + c->human_right;
    return ratio(right, right + c->machine_wrong + c->human_wrong);
}

double tdm_balanced_accuracy(const tdm_confusion *c)
{
    return (ratio(c->machine_right, c->machine_right + c->machine_wrong) +
            ratio(c->human_right, c->human_right + c->human_wrong)) / 2;
}

void tdm_values_from_sums(const tdm_sweep_sums *sums, bool has_threshold, tdm_values *out)
{
    const uint64_t pairs = 2 * sums->n[HUMAN] * sums->n[MACHINE];
    *out = (tdm_values){
        .auroc = (double)(pairs - sums->wrong_pairs) / (double)pairs,
        .average_precision = sums->average_precision,
        .pr_auc = sums->pr_auc,
        .accuracy = NAN,
        .balanced_accuracy = NAN,
        .precision = NAN,
        .recall = NAN,
        .f1 = NAN,
    };
    if (!has_threshold)
        return;
    const tdm_confusion c = {
        .machine_right = (int64_t)sums->at_split[MACHINE],
        .machine_wrong = (int64_t)(sums->n[MACHINE] - sums->at_split[MACHINE]),
        .human_right = (int64_t)(sums->n[HUMAN] - sums->at_split[HUMAN]),
        .human_wrong = (int64_t)sums->at_split[HUMAN],
    };
    out->confusion = c;
    out->accuracy = tdm_accuracy(&c);
    out->balanced_accuracy = tdm_balanced_accuracy(&c);
    out->precision = ratio(c.machine_right, c.machine_right + c.human_wrong);
    out->recall = ratio(c.machine_right, c.machine_right + c.machine_wrong);
    out->f1 = ratio(2 * c.machine_right, 2 * c.machine_right + c.human_wrong + c.machine_wrong);
}
