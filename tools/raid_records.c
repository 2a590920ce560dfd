/* tools/raid_records.c - rows of RAID's CSV to records, chunk by chunk.
 *
 * A row may hold line endings, so a file is read from its start whichever chunks are wanted; those that are not are read
 * and passed over. A row belongs to the chunk with its first byte. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "host/csv.h"
#include "host/hash.h"
#include "host/json.h"
#include "host/progress.h"
#include "tools/args.h"
#include "tools/raid.h"
#include "tools/run.h"
#include "tools/signals.h"
#include "tools/summary.h"

static const arg_command COMMAND = {
    .name = "raid records",
    .usage = "[options] FILE.csv...",
    .summary = "Turns the rows of RAID's CSV files, plain or as .gz or .zst, into records that detect, score and eval "
               "read. - or none at all is stdin.",
    .notes = "{\"id\": ..., \"text\": ..., \"label\": \"human\" or \"machine\", \"model\": ..., ...}\n"
             "One line per row, in input order: the column generation is the text, the label is\n"
             "human where the model is, and missing without a column model (the test set); all other\n"
             "columns follow under their names, empty ones as null. Bad rows go to OUT.errors.jsonl, or\n"
             "to stderr, with the line and byte where they begin.",
    .example = "tandem raid records train.csv --out train.jsonl.zst\n"
               "tandem raid records test.csv | tandem detect --model DIR - > judged.jsonl",
};

typedef struct {
    common_args common;
    tdm_inputs inputs;
    command_run run;
    const tdm_stop *stop;
    tdm_progress progress;
    run_totals totals;
    tdm_buf line;
    /* the open file */
    const tdm_input *input; /* borrowed */
    tdm_csv *csv;
    const tdm_csv_field *columns; /* [n_columns] */
    size_t n_columns, id, text, model;
    tdm_chunk chunk;
    bool is_wanted;    /* the chunk is */
    int64_t blank;     /* empty lines before this chunk */
    uint64_t bytes_before; /* of the files before it */
} job;

/* ---- one row ---- */

static tdm_status put_pair(job *j, const char *before, const tdm_csv_field *name, const tdm_csv_field *value,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_put(&j->line, before, strlen(before), err));
    TDM_TRY(tdm_json_put_string(&j->line, name->text, name->len, err));
    TDM_TRY(tdm_buf_put(&j->line, ": ", 2, err));
    TDM_TRY(value->len ? tdm_json_put_string(&j->line, value->text, value->len, err)
                       : tdm_buf_put(&j->line, "null", 4, err));
done:
    return st;
}

static bool is_human(const tdm_csv_field *model)
{
    return model->len == 5 && !memcmp(model->text, "human", 5);
}

static tdm_status put_row(job *j, const tdm_csv_field *fields, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *label = j->model == TDM_CSV_NONE      ? ""
                        : is_human(&fields[j->model]) ? ", \"label\": \"human\""
                                                      : ", \"label\": \"machine\"";
    j->line.len = 0;
    TDM_TRY(put_pair(j, "{", &j->columns[j->id], &fields[j->id], err));
    TDM_TRY(tdm_buf_put(&j->line, ", \"text\": ", 10, err));
    TDM_TRY(tdm_json_put_string(&j->line, fields[j->text].text, fields[j->text].len, err));
    TDM_TRY(tdm_buf_put(&j->line, label, strlen(label), err));
    for (size_t i = 0; i < j->n_columns; i++)
        if (i != j->id && i != j->text)
            TDM_TRY(put_pair(j, ", ", &j->columns[i], &fields[i], err));
    TDM_TRY(tdm_buf_put(&j->line, "}\n", 2, err));
    TDM_TRY(tdm_sink_put(j->run.sink, j->line.p, j->line.len, err));
    tdm_progress_add(&j->progress, 1, 0, 0);
done:
    return st;
}

static tdm_status put_bad(job *j, const tdm_csv_row *row, tdm_fault fault, const char *detail, tdm_err *err)
{
    const tdm_record bad = {.kind = TDM_RECORD_BAD, .file = j->input->path, .file_number = j->chunk.file,
                            .line = row->line, .offset = row->offset, .fault = fault, .detail = detail};
    tdm_progress_add(&j->progress, 1, 0, 1);
    if (tdm_sink_is_direct(j->run.sink))
        tdm_progress_clear(&j->progress);
    return tdm_sink_bad(j->run.sink, &bad, err);
}

static tdm_status convert(job *j, const tdm_csv_row *row, tdm_err *err)
{
    char detail[96];
    if (row->kind == TDM_CSV_BAD)
        return put_bad(j, row, row->fault, row->detail, err);
    const char *empty = row->fields[j->id].len == 0                                  ? "id"
                        : j->model != TDM_CSV_NONE && row->fields[j->model].len == 0 ? "model"
                                                                                     : NULL;
    if (!empty)
        return put_row(j, row->fields, err);
    snprintf(detail, sizeof detail, "row %" PRId64 ": column %s is empty", row->number, empty);
    return put_bad(j, row, TDM_FAULT_CSV, detail, err);
}

/* ---- chunks ---- */

static bool ask_filter(const job *j)
{
    const tdm_chunk_filter *filter = &j->run.filter;
    return !filter->is_wanted || filter->is_wanted(filter->ctx, j->chunk.file, j->chunk.number);
}

static void begin_chunk(job *j, size_t file, uint64_t number)
{
    j->chunk = (tdm_chunk){.file = file, .number = number};
    j->is_wanted = ask_filter(j);
}

static tdm_status end_chunk(job *j, bool is_last, tdm_err *err)
{
    const tdm_chunk_filter *filter = &j->run.filter;
    tdm_status st = TDM_OK;
    j->chunk.is_last = is_last;
    if (j->is_wanted)
        TDM_TRY(tdm_sink_end_chunk(j->run.sink, &j->chunk, 0, err));
    else if (filter->pass)
        TDM_TRY(filter->pass(filter->ctx, &j->chunk, err));
    begin_chunk(j, j->chunk.file, j->chunk.number + 1);
done:
    return st;
}

/* The chunks before the one in which a row begins have been read, or at the end of the file all of them. */
static tdm_status pass_chunks(job *j, const tdm_csv_row *row, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool at_end = row->kind == TDM_CSV_END;
    const uint64_t at = at_end && row->offset ? row->offset - 1 : row->offset;
    const bool is_plain = tdm_input_is_seekable(j->input);
    TDM_REQUIRE(!is_plain || (at_end ? row->offset == j->input->size : row->offset < j->input->size), TDM_EIO,
                "%s: %s byte %" PRIu64 ", had %" PRIu64 " bytes when it was listed", j->input->path,
                at_end ? "ends at" : "goes on at", row->offset, j->input->size);
    while (j->chunk.number < at / j->common.chunk)
        TDM_TRY(end_chunk(j, false, err));
    const int64_t blank = tdm_csv_blank(j->csv);
    j->chunk.skipped += blank - j->blank;
    j->blank = blank;
    const uint64_t words[] = {j->chunk.hash, row->offset, row->hash, (uint64_t)j->chunk.skipped};
    j->chunk.hash = XXH3_64bits(words, sizeof words);
    if (at_end)
        TDM_TRY(end_chunk(j, true, err));
done:
    return st;
}

/* ---- files ---- */

/* The columns that are looked at, and none that a record has anyway. */
static tdm_status find_columns(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    static const char *const OURS[] = {"text", "label"};
    const char *path = j->input->path;
    j->columns = tdm_csv_columns(j->csv, &j->n_columns);
    j->id = tdm_csv_column(j->csv, "id");
    j->text = tdm_csv_column(j->csv, "generation");
    j->model = tdm_csv_column(j->csv, "model");
    TDM_REQUIRE(j->id != TDM_CSV_NONE, TDM_EFORMAT, "%s: line 1: there is no column id", path);
    TDM_REQUIRE(j->text != TDM_CSV_NONE, TDM_EFORMAT, "%s: line 1: there is no column generation, which holds the text",
                path);
    for (size_t i = 0; i < COUNT(OURS); i++)
        TDM_REQUIRE(tdm_csv_column(j->csv, OURS[i]) == TDM_CSV_NONE, TDM_EFORMAT,
                    "%s: line 1: there is a column %s, and the records have such a field of their own", path,
                    OURS[i]);
done:
    return st;
}

static tdm_status convert_file(job *j, size_t number, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_csv_row row = {.kind = TDM_CSV_ROW};
    const tdm_csv_options options = {.max_row = j->common.max_line, .max_ratio = j->common.max_ratio,
                                     .stop = j->stop};
    j->input = &j->inputs.items[number];
    TDM_TRY(tdm_csv_open(j->input->path, &options, &j->csv, err));
    TDM_TRY(find_columns(j, err));
    begin_chunk(j, number, 0);
    j->blank = 0;
    while (row.kind != TDM_CSV_END) {
        TDM_TRY(tdm_check_stop(j->stop, err));
        TDM_TRY(tdm_csv_next(j->csv, &row, err));
        tdm_progress_bytes(&j->progress, j->bytes_before + tdm_csv_consumed(j->csv), j->inputs.bytes);
        TDM_TRY(pass_chunks(j, &row, err));
        if (row.kind != TDM_CSV_END && j->is_wanted)
            TDM_TRY(convert(j, &row, err));
    }
    j->bytes_before += tdm_csv_consumed(j->csv);
done:
    tdm_csv_close(j->csv);
    j->csv = NULL;
    return st;
}

static tdm_status convert_all(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < j->inputs.n; i++)
        TDM_TRY(convert_file(j, i, err));
done:
    return run_finish(&j->run, &j->progress, &j->totals.seconds, st, err);
}

static tdm_status run(job *j, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    j->stop = signals_catch();
    TDM_TRY(tdm_inputs_list(operands->items, operands->n, j->common.out, &j->inputs, err));
    const run_options options = {.common = &j->common, .command = COMMAND.name, .settings = "{}",
                                 .inputs = &j->inputs, .stop = j->stop};
    TDM_TRY(run_open(&j->run, &options, err));
    if (j->run.is_complete)
        goto done;
    const tdm_progress_options progress = run_progress(&j->run, &j->common, COMMAND.name, "rows");
    TDM_TRY(tdm_progress_start(&j->progress, &progress, err));
    TDM_TRY(convert_all(j, err));
done:
    return st;
}

int raid_records(int argc, char **argv)
{
    job j = {.common = COMMON_DEFAULTS, .totals = {.token_hash = TDM_HASH_START}};
    arg_list operands;
    tdm_err err = {0};
    int code = TDM_OK;
    const arg_spec specs[] = {
        ARGS_OUT(&j.common),
        ARGS_LIMITS(&j.common),
        ARGS_MAX_ERRORS(&j.common),
        ARGS_CHUNK(&j.common),
        ARGS_JOB(&j.common),
        ARGS_REPORT(&j.common),
    };
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code))
        return code;
    const tdm_status st = run(&j, &operands, &err);
    code = summary_finish(COMMAND.name, &j.common, &j.run, st, &err, &j.totals);
    run_close(&j.run);
    tdm_inputs_free(&j.inputs);
    tdm_buf_free(&j.line);
    return code;
}
