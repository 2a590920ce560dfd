/* tools/raid.h - inside tandem raid: the files of the RAID benchmark (github.com/liamdugan/raid).
 *
 *   train.csv, extra.csv   id, adv_source_id, source_id, model, decoding, repetition_penalty, attack, domain, title, prompt, generation;
 *                          model is "human" for human texts, whose decoding, repetition_penalty and prompt are empty
 *   test.csv               id, generation: what a human wrote is secret
 *   predictions.json       [{"id": "...", "score": 0.5}, ...], one for each id; a higher score: rather a machine
 *   metadata.json          who submits
 *
 * raid_records.c: CSV to records; raid_predictions.c: scored records to predictions.json; raid_check.c: what the leaderboard
 * would say of them; raid_eval.c: its results on labelled data. Under these raid_data.c (labels by id), raid_array.c
 * (predictions.json, item by item), raid_search.c (thresholds). */
#ifndef TOOLS_RAID_H
#define TOOLS_RAID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/err.h"
#include "host/evaluate.h"
#include "host/stop.h"

int raid_records(int argc, char **argv); /* argv[0] is the name, as of every command */
int raid_predictions(int argc, char **argv);
int raid_check(int argc, char **argv);
int raid_eval(int argc, char **argv);

/* ---- ids ---- */

#define RAID_NONE SIZE_MAX

/* Different strings, numbered in the order in which they came. */
typedef struct {
    tdm_buf text;   /* one behind the other, each ends in NUL */
    size_t *at;     /* owned [cap] where each begins in text */
    uint32_t *slots; /* owned [n_slots] number + 1; 0: empty */
    size_t n, cap, n_slots;
} raid_ids;

/* The number of id [len]; *is_new: it was not there. Errors: TDM_ENOMEM, TDM_EFORMAT beyond 2^32 - 2 of them. */
tdm_status raid_ids_add(raid_ids *ids, const char *id, size_t len, size_t *number, bool *is_new, tdm_err *err);
size_t raid_ids_find(const raid_ids *ids, const char *id, size_t len); /* RAID_NONE: not there */
static inline const char *raid_ids_text(const raid_ids *ids, size_t number)
{
    return ids->text.p + ids->at[number];
}
void raid_ids_free(raid_ids *ids); /* {0} is fine */

/* ---- data ---- */

typedef enum { RAID_DOMAIN, RAID_ATTACK, RAID_MODEL, RAID_DECODING, RAID_PENALTY, RAID_FACTORS } raid_factor;
extern const char *const RAID_FACTOR_NAMES[RAID_FACTORS + 1]; /* "domain", ..., NULL */
enum { RAID_VALUES_MOST = 254, RAID_EMPTY = 255 };

/* Where a text is from, as numbers of values in raid_data.values; RAID_EMPTY: the field is empty or not there. */
typedef struct {
    uint8_t is_human, value[RAID_FACTORS];
} raid_origin;

typedef struct {
    raid_ids ids;
    raid_origin *origins; /* owned [ids.n]; NULL: no labels (the test set) */
    size_t cap;
    raid_ids values[RAID_FACTORS]; /* in the order of the file, as RAID has them */
} raid_data;

typedef struct {
    size_t max_line;
    double max_ratio;
    const tdm_stop *stop;
} raid_limits;

/* Read ids and origins: of records where the name ends in .jsonl, .jsonl.gz or .jsonl.zst, else of a CSV file. Data with
 * a model in it is labelled and must then have a domain; attack is "none" where there is none.
 * Errors: TDM_EFORMAT with file and place for a bad row, an id twice, data without a row, or more than RAID_VALUES_MOST values of a
 * factor; TDM_ENOINPUT, TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM. */
tdm_status raid_data_read(const char *path, const raid_limits *limits, raid_data *out, tdm_err *err);
void raid_data_free(raid_data *d); /* {0} is fine */

/* ---- predictions.json ---- */

typedef enum {
    RAID_ITEM_OK,
    RAID_ITEM_BAD,        /* detail says why */
    RAID_ITEM_NOT_FINITE, /* NaN, infinity or null: RAID reads it and has no score */
    RAID_ITEM_END,
} raid_item_kind;

/* Valid until the next call. */
typedef struct {
    raid_item_kind kind;
    int64_t number;     /* from 1 */
    uint64_t offset;    /* of its first byte in the file, decompressed */
    const char *id;     /* [id_len] ends in NUL; not of BAD items */
    size_t id_len;
    double score;       /* OK */
    const char *detail; /* BAD: one line */
} raid_item;

typedef struct raid_array raid_array;

/* Errors: TDM_ENOINPUT, TDM_ENOMEM. */
tdm_status raid_array_open(const char *path, const raid_limits *limits, raid_array **out, tdm_err *err);
void raid_array_close(raid_array *a); /* NULL is fine */
/* The next item, good or bad. Errors: TDM_EFORMAT with file, item and byte where the file is no JSON array: nothing behind that can
 * be read; TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM. */
tdm_status raid_array_next(raid_array *a, raid_item *item, tdm_err *err);

/* ---- thresholds ---- */

#define RAID_EPSILON 0.0005 /* how far from its target an FPR may be for RAID */

typedef struct {
    double threshold, fpr; /* NaN: the search fails with an error */
    bool is_met;           /* the FPR is within RAID_EPSILON of the target; else there is no accuracy */
} raid_found;

/* What RAID's own search finds. 50 steps of 0.5, halved and turned around at each change of side, from the mean of the scores.
 *   humans  [n] scores of human texts without an attack, in the order of the data, n >= 1
 *   sorted  [n] the same, rising
 * Source: find_threshold of raid/evaluate.py, its order of operations included. */
raid_found raid_search(const double *humans, const double *sorted, size_t n, double target);
/* How many of sorted [n], rising, are below value. */
size_t raid_count_below(const double *sorted, size_t n, double value);
void raid_sort(double *values, size_t n); /* rising; finite */

/* ---- results ---- */

/* Of a domain. Its operating points are those of all its machine texts against its human texts without an attack. */
typedef struct {
    const char *name;  /* borrowed from the data */
    int64_t humans;    /* with a score, attacked ones among them */
    int64_t tuned_on;  /* without an attack: on which thresholds are found */
    int64_t missing;   /* human texts without a score */
    raid_found raid[TDM_FPRS_MOST];
    tdm_operating_point exact[TDM_FPRS_MOST];
    double *sorted;    /* owned [humans] their scores, rising */
} raid_domain;

/* Machine texts of one value, or of all values, of each factor. */
typedef struct {
    int64_t n, missing; /* with and without a score */
    uint64_t wins;      /* twice the pairs with a human text of the domain in which the machine's score is higher; ties once */
    int64_t exact[TDM_FPRS_MOST], raid[TDM_FPRS_MOST]; /* called a machine's at the threshold of their domain */
} raid_group;

typedef struct {
    const raid_data *data; /* borrowed */
    tdm_evaluate_options options;
    raid_domain *domains; /* owned [n_domains]; behind the last, at n_domains, all of them */
    size_t n_domains;
    size_t dims[RAID_FACTORS]; /* values of each factor, and one more: all of them */
    raid_group *groups;        /* owned [n_groups], the last factor fastest */
    size_t n_groups;
} raid_results;

/* RAID's results: thresholds for each domain, then all groups.
 *   scores  [data->ids.n] NaN: none
 * Errors: TDM_EFORMAT when a domain has no human text without an attack, which ends RAID's evaluator too, and for data with so many
 * values that there are more than 2^20 groups; TDM_ENOMEM. */
tdm_status raid_measure(const raid_data *data, const double *scores, const tdm_evaluate_options *options,
                        raid_results *out, tdm_err *err);
void raid_results_free(raid_results *r); /* {0} is fine */
/* Whether RAID has a result for a group: it has texts, and these and the human ones of its domain all have a score. */
bool raid_has_result(const raid_results *r, size_t group);
/* The value of a factor in a group; RAID_NONE: all values. */
size_t raid_value_of(const raid_results *r, size_t group, raid_factor factor);
double raid_auroc(const raid_results *r, size_t group);
/* Whether RAID gives an accuracy: its search met the target in the group's domain, or of all domains in each. */
bool raid_is_met(const raid_results *r, size_t group, int fpr);

tdm_status raid_print_text(tdm_buf *out, const raid_results *r, tdm_err *err);
tdm_status raid_print_csv(tdm_buf *out, const raid_results *r, tdm_err *err);
/* RAID's results.json, with what is exact beside what RAID finds. */
tdm_status raid_print_json(tdm_buf *out, const raid_results *r, tdm_err *err);

/* ---- findings ---- */

typedef enum { RAID_FINE, RAID_WARNING, RAID_ERROR, RAID_LEVELS } raid_level;

/* What was found, each one line: printed as it comes, or gathered. */
typedef struct {
    bool is_json;
    tdm_buf json; /* elements of an array, with is_json */
    int64_t counts[RAID_LEVELS];
} raid_findings;

__attribute__((format(printf, 3, 4))) void raid_find(raid_findings *f, raid_level level, const char *fmt, ...);
/* Look at a metadata.json. Errors: TDM_ENOINPUT, TDM_EIO, TDM_ENOMEM; what is wrong with it is found. */
tdm_status raid_check_metadata(const char *path, raid_findings *f, tdm_err *err);

#endif
