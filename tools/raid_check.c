/* tools/raid_check.c - what RAID's bot and its evaluator would say of a submission, before it is sent. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/codec.h"
#include "host/evaluate.h"
#include "host/json.h"
#include "tools/args.h"
#include "tools/raid.h"
#include "tools/signals.h"

enum {
    TEST_SIZE = 672000,      /* texts of test.csv */
    TEST_NONE_SIZE = 56000,  /* of test_none.csv, which has no attacks */
    DISTINCT_FEW = 10000,    /* four decimals of a probability */
    EXAMPLES = 3,
    EXIT_WARNINGS = 3,
};

static const arg_command COMMAND = {
    .name = "raid check",
    .usage = "[options] predictions.json",
    .summary = "Looks at a submission to RAID before it is sent: the form of predictions.json, its ids beside the data, its "
               "scores, and the keys of metadata.json. With labelled data (train.csv) also which way the scores point, and "
               "whether RAID's search finds its thresholds.",
    .notes = "One line on stdout for each finding: fine, warning or error. With --json one object.\n"
             "Ends with 0 when all is fine, 3 with warnings alone, 65 when RAID would refuse the submission, or\n"
             "leave results out, or the scores point the wrong way.",
    .example = "tandem raid check predictions.json --data test.csv --metadata metadata.json\n"
               "tandem raid check train_predictions.json --data train.csv",
};

/* How many, and the first of them. */
typedef struct {
    int64_t n;
    char examples[512];
} tally;

typedef struct {
    common_args common;
    const char *path, *data_path, *metadata_path;
    raid_findings findings;
    raid_data data;
    raid_ids ids;   /* of the predictions */
    double *scores; /* owned [cap], of the predictions; NaN: none */
    size_t cap;
    int64_t items;
    bool is_whole;  /* the file could be read to its end */
    tally bad, doubled, not_finite, unknown, missing;
} job;

__attribute__((format(printf, 2, 3))) static void count(tally *t, const char *fmt, ...)
{
    const size_t used = strlen(t->examples);
    va_list args;
    if (t->n++ >= EXAMPLES)
        return;
    snprintf(t->examples + used, sizeof t->examples - used, "%s", used ? "; " : "");
    const size_t at = strlen(t->examples);
    va_start(args, fmt);
    vsnprintf(t->examples + at, sizeof t->examples - at, fmt, args);
    va_end(args);
}

static const char *more(const tally *t)
{
    return t->n > EXAMPLES ? "; ..." : "";
}

/* ---- reading ---- */

static tdm_status keep_score(job *j, size_t number, double score, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (number >= j->cap) {
        const size_t cap = j->cap ? j->cap * 2 : 1024;
        double *grown = realloc(j->scores, cap * sizeof *grown);
        TDM_REQUIRE(grown, TDM_ENOMEM, "%zu scores", cap);
        j->scores = grown;
        j->cap = cap;
    }
    j->scores[number] = score;
done:
    return st;
}

static tdm_status take_item(job *j, const raid_item *item, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char shown[64];
    size_t number = 0;
    bool is_new = false;
    if (item->kind == RAID_ITEM_BAD) {
        count(&j->bad, "item %" PRId64 " at byte %" PRIu64 " %s", item->number, item->offset, item->detail);
        goto done;
    }
    tdm_json_quote(shown, sizeof shown, item->id, item->id_len);
    TDM_TRY(raid_ids_add(&j->ids, item->id, item->id_len, &number, &is_new, err));
    if (!is_new) {
        count(&j->doubled, "%s in item %" PRId64, shown, item->number);
        goto done;
    }
    if (item->kind == RAID_ITEM_NOT_FINITE)
        count(&j->not_finite, "%s in item %" PRId64, shown, item->number);
    if (j->data_path && raid_ids_find(&j->data.ids, item->id, item->id_len) == RAID_NONE)
        count(&j->unknown, "%s in item %" PRId64, shown, item->number);
    TDM_TRY(keep_score(j, number, item->kind == RAID_ITEM_OK ? item->score : NAN, err));
done:
    return st;
}

/* A file that is no array is a finding like others, and the last of its kind. */
static tdm_status read_predictions(job *j, const raid_limits *limits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_err why = {0};
    raid_array *array = NULL;
    raid_item item = {.kind = RAID_ITEM_OK};
    TDM_TRY(raid_array_open(j->path, limits, &array, err));
    for (;;) {
        st = raid_array_next(array, &item, &why);
        TDM_REQUIRE(st == TDM_OK || st == TDM_EFORMAT, st, "%s", why.msg);
        if (st == TDM_EFORMAT || item.kind == RAID_ITEM_END)
            break;
        j->items++;
        TDM_TRY(take_item(j, &item, err));
    }
    j->is_whole = st == TDM_OK;
    if (!j->is_whole)
        raid_find(&j->findings, RAID_ERROR, "%s", why.msg);
    st = TDM_OK;
done:
    raid_array_close(array);
    return st;
}

/* ---- the file and its ids ---- */

static void find_tally(job *j, const tally *t, raid_level level, const char *what)
{
    if (t->n)
        raid_find(&j->findings, level, "%" PRId64 " %s: %s%s", t->n, what, t->examples, more(t));
}

static void check_form(job *j)
{
    if (tdm_codec_of_name(j->path) != TDM_PLAIN)
        raid_find(&j->findings, RAID_WARNING, "%s: RAID reads predictions.json uncompressed", j->path);
    find_tally(j, &j->bad, RAID_ERROR, "items are no {\"id\": \"...\", \"score\": NUMBER}, which stops the evaluator");
    find_tally(j, &j->doubled, RAID_ERROR, "ids stand there again, which stops the evaluator");
    find_tally(j, &j->not_finite, RAID_ERROR, "scores are NaN, infinite or null, and RAID leaves out every group with one");
    if (j->is_whole && j->items == 0)
        raid_find(&j->findings, RAID_ERROR, "%s: the array is empty", j->path);
    else if (j->is_whole && !j->bad.n && !j->doubled.n && !j->not_finite.n)
        raid_find(&j->findings, RAID_FINE, "%" PRId64 " predictions, each with its own id and a finite score", j->items);
}

/* The size alone tells the test set. */
static void check_size(job *j)
{
    const size_t n = j->data_path ? j->data.ids.n : j->ids.n;
    const char *what = j->data_path ? j->data_path : j->path;
    if (n == TEST_NONE_SIZE)
        raid_find(&j->findings, RAID_ERROR,
                  "%s: %d texts are those of test_none.csv, without attacks; RAID wants the %d of test.csv, and has no "
                  "result without the attacked human ones",
                  what, TEST_NONE_SIZE, TEST_SIZE);
    else if (n != TEST_SIZE)
        raid_find(&j->findings, RAID_WARNING, "%s: %zu texts, and the test set has %d%s", what, n, TEST_SIZE,
                  j->data_path ? "" : "; --data FILE compares ids");
    else
        raid_find(&j->findings, RAID_FINE, "%s: as many texts as the test set has", what);
}

static void check_ids(job *j)
{
    for (size_t i = 0; i < j->data.ids.n; i++) {
        const char *id = raid_ids_text(&j->data.ids, i);
        if (raid_ids_find(&j->ids, id, strlen(id)) == RAID_NONE)
            count(&j->missing, "%.80s", id);
    }
    find_tally(j, &j->missing, RAID_ERROR, "texts of the data have no prediction, and RAID leaves out every group with one");
    find_tally(j, &j->unknown, RAID_WARNING, "predictions are of texts that are not in the data");
    if (!j->missing.n && !j->unknown.n)
        raid_find(&j->findings, RAID_FINE, "the ids are those of %s", j->data_path);
}

/* ---- scores ---- */

static void check_range(job *j, const double *sorted, size_t n)
{
    const size_t below = raid_count_below(sorted, n, 0), up_to = raid_count_below(sorted, n, nextafter(1, 2));
    const size_t inside = up_to - below;
    if (inside < n && inside > n - inside)
        raid_find(&j->findings, RAID_WARNING,
                  "%zu of %zu scores are outside [0, 1], which RAID allows, and most are inside: a 1 - x of an x that is no "
                  "probability? lowest %.9g, highest %.9g",
                  n - inside, n, sorted[0], sorted[n - 1]);
}

static void check_distinct(job *j, const double *sorted, size_t n)
{
    size_t distinct = 1, most = 1, run = 1;
    for (size_t i = 1; i < n; i++) {
        const bool is_equal = sorted[i] <= sorted[i - 1];
        distinct += !is_equal;
        run = is_equal ? run + 1 : 1;
        most = run > most ? run : most;
    }
    if (distinct <= 2)
        raid_find(&j->findings, RAID_ERROR, "only %zu different score%s: no threshold parts them as RAID wants", distinct,
                  distinct > 1 ? "s" : "");
    else if (distinct < DISTINCT_FEW && distinct < n / 2)
        raid_find(&j->findings, RAID_WARNING,
                  "only %zu different scores among %zu, %zu of them equal: RAID's search may find no threshold within %g of its "
                  "FPR, and then gives no accuracy; write at least 9 digits",
                  distinct, n, most, RAID_EPSILON);
    else
        raid_find(&j->findings, RAID_FINE, "%zu different scores from %.9g to %.9g", distinct, sorted[0], sorted[n - 1]);
}

static tdm_status check_scores(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n = 0;
    double *sorted = malloc((j->ids.n + 1) * sizeof *sorted);
    TDM_REQUIRE(sorted, TDM_ENOMEM, "%zu scores", j->ids.n);
    for (size_t i = 0; i < j->ids.n; i++)
        if (!isnan(j->scores[i]))
            sorted[n++] = j->scores[i];
    raid_sort(sorted, n);
    if (n > 1)
        check_distinct(j, sorted, n);
    if (n > 0)
        check_range(j, sorted, n);
done:
    free(sorted);
    return st;
}

/* ---- labels ---- */

static void check_domain(job *j, const raid_domain *d, const tdm_evaluate_options *options)
{
    for (int k = 0; k < options->n_fprs; k++) {
        if (isnan(d->raid[k].threshold))
            raid_find(&j->findings, RAID_ERROR, "domain %s: RAID's search for an FPR of %g ends in an error", d->name,
                      options->fprs[k]);
        else if (!d->raid[k].is_met)
            raid_find(&j->findings, RAID_WARNING,
                      "domain %s: RAID's search for an FPR of %g ends at %.4f (%" PRId64
                      " human texts without an attack), and it gives no accuracy",
                      d->name, options->fprs[k], d->raid[k].fpr, d->tuned_on);
    }
}

static void check_orientation(job *j, const double *scores, const uint8_t *machine, const uint8_t *wanted)
{
    tdm_ranking *ranking = NULL;
    tdm_err why = {0};
    tdm_values values;
    const tdm_evaluate_options options = {.threshold = NAN};
    const tdm_scored set = {scores, machine, wanted, j->data.ids.n};
    if (tdm_ranking_open(&set, &ranking, &why) != TDM_OK) {
        raid_find(&j->findings, RAID_ERROR, "%s: which way the scores point cannot be told: %s", j->data_path, why.msg);
        return;
    }
    tdm_evaluate(ranking, &options, &values);
    tdm_ranking_close(ranking);
    if (values.auroc < 0.5)
        raid_find(&j->findings, RAID_ERROR,
                  "the scores point the wrong way: AUROC %.4f on %s, and RAID wants a higher score for a machine's text",
                  values.auroc, j->data_path);
    else
        raid_find(&j->findings, RAID_FINE, "the scores point the right way: AUROC %.4f on %s", values.auroc, j->data_path);
}

static tdm_status check_labelled(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_err why = {0};
    const tdm_evaluate_options options = {.fprs = {0.05, 0.01}, .n_fprs = 2, .threshold = NAN};
    raid_results results = {0};
    const size_t n = j->data.ids.n;
    double *scores = malloc(n * sizeof *scores);
    uint8_t *flags = malloc(2 * n);
    TDM_REQUIRE(scores && flags, TDM_ENOMEM, "scores of %zu texts", n);
    for (size_t i = 0; i < n; i++) {
        const char *id = raid_ids_text(&j->data.ids, i);
        const size_t number = raid_ids_find(&j->ids, id, strlen(id));
        scores[i] = number == RAID_NONE ? NAN : j->scores[number];
        flags[i] = !j->data.origins[i].is_human;
        const bool has_score = !isnan(scores[i]);
        flags[n + i] = has_score;
    }
    check_orientation(j, scores, flags, flags + n);
    st = raid_measure(&j->data, scores, &options, &results, &why);
    TDM_REQUIRE(st == TDM_OK || st == TDM_EFORMAT, st, "%s", why.msg);
    if (st == TDM_EFORMAT)
        raid_find(&j->findings, RAID_ERROR, "%s", why.msg);
    for (size_t k = 0; st == TDM_OK && k < results.n_domains; k++)
        check_domain(j, &results.domains[k], &options);
    st = TDM_OK;
done:
    raid_results_free(&results);
    free(scores);
    free(flags);
    return st;
}

/* ---- all ---- */

static tdm_status check(job *j, const raid_limits *limits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (j->data_path)
        TDM_TRY(raid_data_read(j->data_path, limits, &j->data, err));
    TDM_TRY(read_predictions(j, limits, err));
    check_form(j);
    if (j->is_whole && j->ids.n > 0) {
        if (!j->data.origins)
            check_size(j);
        if (j->data_path)
            check_ids(j);
        TDM_TRY(check_scores(j, err));
        if (j->data.origins)
            TDM_TRY(check_labelled(j, err));
    }
    if (j->metadata_path)
        TDM_TRY(raid_check_metadata(j->metadata_path, &j->findings, err));
done:
    return st;
}

static int finish(const job *j)
{
    const raid_findings *f = &j->findings;
    const int64_t errors = f->counts[RAID_ERROR], warnings = f->counts[RAID_WARNING];
    if (f->is_json)
        printf("{\"predictions\": %" PRId64 ", \"errors\": %" PRId64 ", \"warnings\": %" PRId64 ",\n \"findings\": [%.*s]}\n",
               j->items, errors, warnings, (int)f->json.len, f->json.p ? f->json.p : "");
    else
        printf("%" PRId64 " errors, %" PRId64 " warnings\n", errors, warnings);
    return errors ? TDM_EFORMAT : warnings ? EXIT_WARNINGS : TDM_OK;
}

int raid_check(int argc, char **argv)
{
    job j = {.common = COMMON_DEFAULTS};
    arg_list operands;
    tdm_err err = {0};
    int code = TDM_OK;
    const arg_spec specs[] = {
        {.name = "data", .kind = ARG_STR, .out = &j.data_path, .value = "FILE",
         .help = "the data that was scored: CSV, or records where the name ends in .jsonl, .jsonl.gz or .jsonl.zst"},
        {.name = "metadata", .kind = ARG_STR, .out = &j.metadata_path, .value = "FILE", .help = "metadata.json, looked at too"},
        {.name = "json", .kind = ARG_FLAG, .out = &j.findings.is_json, .help = "print one object with all findings"},
        ARGS_LIMITS(&j.common),
    };
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code))
        return code;
    const raid_limits limits = {j.common.max_line, j.common.max_ratio, signals_catch()};
    tdm_status st = operands.n == 1 ? TDM_OK
                                    : tdm_fail(&err, TDM_EARG, "want one predictions.json, got %zu operands", operands.n);
    if (st == TDM_OK) {
        j.path = operands.items[0];
        st = check(&j, &limits, &err);
    }
    code = st == TDM_OK ? finish(&j) : args_fail(COMMAND.name, &err);
    raid_data_free(&j.data);
    raid_ids_free(&j.ids);
    tdm_buf_free(&j.findings.json);
    free(j.scores);
    return code;
}
