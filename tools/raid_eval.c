/* tools/raid_eval.c - RAID's results on labelled data. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"
#include "host/writefile.h"
#include "tools/args.h"
#include "tools/raid.h"
#include "tools/signals.h"

static const arg_command COMMAND = {
    .name = "raid eval",
    .usage = "--data FILE [options] predictions.json",
    .summary = "Gives the results of RAID's evaluator on labelled data (train.csv, extra.csv, or records made of them): for "
               "each domain a threshold at each false positive rate, found on its human texts without an attack; then "
               "for each group of domain, model, decoding, repetition penalty and attack the share of machine texts "
               "found, and the AUROC against the human texts of the domain.",
    .notes = "A table of the groups of one value; --csv and --json have all groups. Beside what is exact (the FPR is\n"
             "never above its target) stands what RAID's own search finds, in steps that end within 0.0005 of the\n"
             "target; where it does not get there RAID gives no result, and neither is one given here. --json has\n"
             "the form of RAID's results.json. A group in which a text has no score is left out, as RAID does.",
    .example = "tandem raid eval predictions.json --data train.csv\n"
               "tandem raid eval predictions.json --data train.jsonl.zst --fpr 0.05,0.01,0.001 --json > results.json",
};

typedef struct {
    common_args common;
    const char *data_path, *fprs, *csv_path;
    tdm_evaluate_options options;
    raid_data data;
    double *scores; /* owned [data.ids.n] NaN: none */
    int64_t unknown;
} job;

static tdm_status take_item(job *j, const raid_item *item, uint8_t *is_seen, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char shown[64];
    TDM_REQUIRE(item->kind != RAID_ITEM_BAD, TDM_EFORMAT, "%s", item->detail);
    const size_t text = raid_ids_find(&j->data.ids, item->id, item->id_len);
    if (text == RAID_NONE) {
        j->unknown++;
        goto done;
    }
    tdm_json_quote(shown, sizeof shown, item->id, item->id_len);
    TDM_REQUIRE(!is_seen[text], TDM_EFORMAT, "id %s stands twice", shown);
    is_seen[text] = 1;
    if (item->kind == RAID_ITEM_OK)
        j->scores[text] = item->score;
done:
    return st;
}

static tdm_status read_scores(job *j, const char *path, const raid_limits *limits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    raid_array *array = NULL;
    raid_item item;
    const size_t n = j->data.ids.n;
    uint8_t *is_seen = calloc(n, 1);
    j->scores = malloc(n * sizeof *j->scores);
    TDM_REQUIRE(is_seen && j->scores, TDM_ENOMEM, "scores of %zu texts", n);
    for (size_t i = 0; i < n; i++)
        j->scores[i] = NAN;
    TDM_TRY(raid_array_open(path, limits, &array, err));
    for (;;) {
        TDM_TRY(raid_array_next(array, &item, err));
        if (item.kind == RAID_ITEM_END)
            break;
        if ((st = take_item(j, &item, is_seen, err)) != TDM_OK) {
            st = tdm_context(err, st, "%s: item %" PRId64 ", byte %" PRIu64, path, item.number, item.offset);
            goto done;
        }
    }
done:
    raid_array_close(array);
    free(is_seen);
    return st;
}

static void say_missing(const job *j)
{
    int64_t missing = 0;
    for (size_t i = 0; i < j->data.ids.n; i++)
        missing += isnan(j->scores[i]);
    if (missing && !j->common.quiet)
        fprintf(stderr, "tandem %s: %" PRId64 " of %zu texts of %s have no score: groups with one of them are left out\n",
                COMMAND.name, missing, j->data.ids.n, j->data_path);
    if (j->unknown && !j->common.quiet)
        fprintf(stderr, "tandem %s: %" PRId64 " predictions are of texts that are not in %s\n", COMMAND.name, j->unknown,
                j->data_path);
}

static tdm_status run(job *j, const arg_list *operands, tdm_err *err)
{
    static const arg_spec FPR = {.name = "fpr", .kind = ARG_F64, .min = 0, .max = 1, .open_min = true};
    tdm_status st = TDM_OK;
    raid_results results = {0};
    tdm_buf out = {0}, csv = {0};
    const raid_limits limits = {j->common.max_line, j->common.max_ratio, signals_catch()};
    TDM_REQUIRE(operands->n == 1, TDM_EARG, "want one predictions.json, got %zu operands", operands->n);
    TDM_TRY(args_read_numbers(&FPR, j->fprs, j->options.fprs, TDM_FPRS_MOST, &j->options.n_fprs, err));
    if (j->csv_path) {
        TDM_REQUIRE(!tdm_writefile_same(j->csv_path, j->data_path) &&
                        !tdm_writefile_same(j->csv_path, operands->items[0]),
                    TDM_EARG, "--csv %s: would replace what is read", j->csv_path);
        TDM_TRY(tdm_writefile_check(j->csv_path, err));
    }
    TDM_TRY(raid_data_read(j->data_path, &limits, &j->data, err));
    TDM_REQUIRE(j->data.origins, TDM_EFORMAT, "%s: has no column model, so no labels: the test set's are secret",
                j->data_path);
    TDM_TRY(read_scores(j, operands->items[0], &limits, err));
    say_missing(j);
    TDM_TRY(raid_measure(&j->data, j->scores, &j->options, &results, err));
    if (j->csv_path) {
        TDM_TRY(raid_print_csv(&csv, &results, err));
        TDM_TRY(tdm_writefile(j->csv_path, csv.p, csv.len, err));
    }
    TDM_TRY(j->common.json ? raid_print_json(&out, &results, err) : raid_print_text(&out, &results, err));
    fwrite(out.p, 1, out.len, stdout); /* a failure is main's to tell */
done:
    raid_results_free(&results);
    tdm_buf_free(&out);
    tdm_buf_free(&csv);
    return st;
}

int raid_eval(int argc, char **argv)
{
    job j = {.common = COMMON_DEFAULTS, .fprs = "0.05,0.01"};
    arg_list operands;
    tdm_err err = {0};
    int code = TDM_OK;
    const arg_spec specs[] = {
        {.name = "data", .kind = ARG_STR, .out = &j.data_path, .value = "FILE", .required = true,
         .help = "labelled data: CSV, or records where the name ends in .jsonl, .jsonl.gz or .jsonl.zst"},
        {.name = "fpr", .kind = ARG_STR, .out = &j.fprs, .value = "P,...", .help = "false positive rates"},
        {.name = "csv", .kind = ARG_STR, .out = &j.csv_path, .value = "FILE", .help = "write all groups to FILE as CSV"},
        {.name = "json", .kind = ARG_FLAG, .out = &j.common.json, .help = "print all groups as one JSON object"},
        ARGS_LIMITS(&j.common),
        {.name = "quiet", .kind = ARG_FLAG, .out = &j.common.quiet, .help = "only errors on stderr"},
    };
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code))
        return code;
    if (run(&j, &operands, &err) != TDM_OK)
        code = args_fail(COMMAND.name, &err);
    raid_data_free(&j.data);
    free(j.scores);
    return code;
}
