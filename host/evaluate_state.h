/* host/evaluate_state.h - inside evaluate: what a ranking holds, and the walk through it that all values come from. */
#ifndef HOST_EVALUATE_STATE_H
#define HOST_EVALUATE_STATE_H

#include "host/evaluate.h"

enum { HUMAN = 0, MACHINE = 1 }; /* the classes, and what `order` says of a text's */
enum { LAST_OF_GROUP = 2 };      /* with the next text the score falls */

/* Sums that neither overflow nor depend on the order. */
__extension__ typedef unsigned __int128 tdm_wide;

struct tdm_ranking {
    size_t n[2];       /* texts of each class; fewer than 2^32 in all */
    uint64_t *keys[2]; /* owned [n[class]] of the scores, rising */
    uint8_t *order;    /* owned [n[0] + n[1]] class and LAST_OF_GROUP of each text, from the highest score down */
};

/* A score that is not NaN as an integer: the higher the score, the lower the key; -0 and 0 have one. */
uint64_t tdm_key_of(double score);
double tdm_score_of(uint64_t key);

/* Sort to rise. Errors: TDM_ENOMEM, for 8 more bytes a key. */
tdm_status tdm_sort_keys(uint64_t *keys, size_t n, tdm_err *err);

/* How many of a class have a key <= key: a score as high. */
size_t tdm_count_to(const tdm_ranking *r, int class, uint64_t key);

/* How many humans may be called machines: the largest f <= n with f / n <= target, as doubles. */
size_t tdm_false_most(size_t n, double target);

/* How many texts the threshold calls a machine's; NaN: 0. */
size_t tdm_split_of(const tdm_ranking *r, double threshold);

/* What is asked for, in numbers of texts. */
typedef struct {
    size_t split;               /* texts from the highest score down that the threshold calls a machine's */
    size_t most[TDM_FPRS_MOST]; /* [n_fprs] false positives, rising */
    int n_fprs;
} tdm_sweep_options;

/* Sums over the groups of equal scores, from the highest down. */
typedef struct {
    uint64_t n[2];               /* texts */
    uint64_t at_split[2];        /* of them up to the split */
    uint64_t wrong_pairs;        /* twice the pairs with the human above the machine, once those that are equal */
    double average_precision, pr_auc;
    uint64_t hits[TDM_FPRS_MOST]; /* machines called so at most[i] */
} tdm_sweep_sums;

/* Walk once through a ranking in which text i of a class, falling, is there counts[class][i] times.
 *   counts  NULL: each once
 * Returns: sums whose bits are those of the ranking that has these texts. */
void tdm_sweep(const tdm_ranking *r, const tdm_sweep_options *options, const uint8_t *const counts[2],
               tdm_sweep_sums *out);

/* Values from sums; not at_fpr, and without a threshold not what depends on it. */
void tdm_values_from_sums(const tdm_sweep_sums *sums, bool has_threshold, tdm_values *out);

#endif
