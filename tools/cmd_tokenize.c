/* tools/cmd_tokenize.c - records of text to records of token ids, and back. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "host/hash.h"
#include "host/json.h"
#include "host/progress.h"
#include "tokenizer/bpe.h"
#include "tools/args.h"
#include "tools/commands.h"
#include "tools/run.h"
#include "tools/signals.h"
#include "tools/summary.h"

static const arg_command COMMAND = {
    .name = "tokenize",
    .usage = "--model DIR [options] [FILE...]",
    .summary = "Turns the text of each record into token ids, or with --decode ids into text. Inputs are "
               "JSON Lines, plain or as .gz or .zst, or folders of them; - or none at all is stdin. "
               "Without a vocab.json the ids are GPT-2's.",
    .notes = "{\"id\": ..., \"ids\": [464, 3290]}     one line per record, in input order\n"
             "{\"id\": ..., \"text\": \"The dog\"}      with --decode; bytes that are not UTF-8\n"
             "                                     become U+FFFD\n"
             "The id is the input's, byte for byte, or \"FILE:LINE\". No special tokens are\n"
             "added. Bad records go to OUT.errors.jsonl, or to stderr.",
    .example = "tandem tokenize --model gpt2 texts.jsonl --out ids.jsonl\n"
               "tandem tokenize --model gpt2 --decode ids.jsonl",
};

static const char *const SPECIAL_CHOICES[] = {"plain", "parse", NULL};

typedef struct {
    common_args common;
    int special; /* index into SPECIAL_CHOICES */
    bool decode;
    tdm_bpe *bpe;
    tdm_inputs inputs;
    tdm_reader *reader;
    command_run run;
    const tdm_stop *stop; /* set by a signal */
    tdm_progress progress;
    run_totals totals;
    uint64_t tokens_before; /* the chunk began */
    tdm_ids ids;
    tdm_buf bytes, line; /* of the current record */
} job;

/* Append "1, 2, 3". By hand, because printf would take longer than the tokenizer. */
static tdm_status put_ids(tdm_buf *out, const int32_t *ids, size_t n, tdm_err *err)
{
    enum { WIDEST = 12 }; /* ten digits and ", " */
    tdm_status st = TDM_OK;
    size_t bytes = 0;
    TDM_REQUIRE(tdm_mul_size(n, WIDEST, &bytes), TDM_ENOMEM, "%zu ids", n);
    TDM_TRY(tdm_buf_reserve(out, bytes, err));
    char *p = out->p + out->len;
    for (size_t i = 0; i < n; i++) {
        char digits[WIDEST];
        int len = 0;
        for (uint32_t rest = (uint32_t)ids[i]; len == 0 || rest; rest /= 10)
            digits[len++] = (char)('0' + rest % 10);
        if (i) {
            *p++ = ',';
            *p++ = ' ';
        }
        while (len)
            *p++ = digits[--len];
    }
    out->len = (size_t)(p - out->p);
done:
    return st;
}

static tdm_status put_encoded(job *j, const tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    j->ids.len = 0;
    TDM_TRY(tdm_bpe_encode(j->bpe, record->text, record->text_len,
                           j->special ? TDM_BPE_PARSE_SPECIAL : 0, &j->ids, err));
    TDM_TRY(tdm_buf_put(&j->line, ", \"ids\": [", 10, err));
    TDM_TRY(put_ids(&j->line, j->ids.p, j->ids.len, err));
    TDM_TRY(tdm_buf_put(&j->line, "]}\n", 3, err));
    j->totals.tokens += j->ids.len;
    j->totals.token_hash = tdm_hash_ids(j->totals.token_hash, j->ids.p, j->ids.len);
done:
    return st;
}

static tdm_status put_decoded(job *j, const tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    j->bytes.len = 0;
    TDM_TRY(tdm_bpe_decode(j->bpe, record->ids, record->n_ids, &j->bytes, err));
    TDM_TRY(tdm_buf_put(&j->line, ", \"text\": ", 10, err));
    TDM_TRY(tdm_json_put_string(&j->line, j->bytes.p, j->bytes.len, err));
    TDM_TRY(tdm_buf_put(&j->line, "}\n", 2, err));
    j->totals.tokens += record->n_ids;
    j->totals.token_hash = tdm_hash_ids(j->totals.token_hash, record->ids, record->n_ids);
done:
    return st;
}

/* An id that the vocabulary does not have is the record's fault, not the run's. */
static bool has_unknown_id(const job *j, tdm_record *record, char *detail, size_t size)
{
    const int32_t n = tdm_bpe_size(j->bpe);
    for (size_t i = 0; i < record->n_ids; i++) {
        if (record->ids[i] < n)
            continue;
        snprintf(detail, size, "ids[%zu] is %" PRId32 ", the vocabulary ends at %" PRId32, i,
                 record->ids[i], n - 1);
        record->kind = TDM_RECORD_BAD;
        record->fault = TDM_FAULT_TEXT_TYPE;
        record->detail = detail;
        return true;
    }
    return false;
}

static tdm_status convert(job *j, tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char detail[96];
    if (record->kind == TDM_RECORD_BAD || has_unknown_id(j, record, detail, sizeof detail)) {
        tdm_progress_add(&j->progress, 1, 0, 1);
        if (tdm_sink_is_direct(j->run.sink))
            tdm_progress_clear(&j->progress);
        TDM_TRY(tdm_sink_bad(j->run.sink, record, err));
        goto done;
    }
    const uint64_t before = j->totals.tokens;
    j->line.len = 0;
    TDM_TRY(tdm_buf_put(&j->line, "{\"id\": ", 7, err));
    TDM_TRY(tdm_buf_put(&j->line, record->id_json, record->id_len, err));
    TDM_TRY(j->decode ? put_decoded(j, record, err) : put_encoded(j, record, err));
    TDM_TRY(tdm_sink_put(j->run.sink, j->line.p, j->line.len, err));
    tdm_progress_add(&j->progress, 1, j->totals.tokens - before, 0);
done:
    return st;
}

static tdm_status end_chunk(job *j, const tdm_chunk *chunk, tdm_err *err)
{
    const uint64_t tokens = j->totals.tokens - j->tokens_before;
    j->tokens_before = j->totals.tokens;
    return tdm_sink_end_chunk(j->run.sink, chunk, tokens, err);
}

static tdm_status convert_all(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_record record;
    uint64_t bytes_done = 0, bytes_total = 0;
    for (;;) {
        TDM_TRY(tdm_check_stop(j->stop, err));
        if (tdm_reader_would_block(j->reader))
            TDM_TRY(tdm_sink_flush(j->run.sink, err)); /* whoever sends slowly gets what there is */
        TDM_TRY(tdm_reader_next(j->reader, &record, err));
        if (record.kind == TDM_RECORD_END)
            break;
        tdm_reader_progress(j->reader, &bytes_done, &bytes_total);
        tdm_progress_bytes(&j->progress, bytes_done, bytes_total);
        TDM_TRY(record.kind == TDM_RECORD_CHUNK ? end_chunk(j, &record.chunk, err)
                                                : convert(j, &record, err));
    }
done:
    return run_finish(&j->run, &j->progress, &j->totals.seconds, st, err);
}

static tdm_status open_run(job *j, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char settings[64];
    snprintf(settings, sizeof settings, "{\"decode\": %s, \"special-tokens\": \"%s\"}",
             j->decode ? "true" : "false", SPECIAL_CHOICES[j->special]);
    TDM_TRY(tdm_inputs_list(operands->items, operands->n, j->common.out, &j->inputs, err));
    TDM_TRY(tdm_bpe_open_dir(j->common.model, &j->bpe, err));
    const run_options options = {.common = &j->common,
                                 .command = COMMAND.name,
                                 .settings = settings,
                                 .inputs = &j->inputs,
                                 .stop = j->stop};
    TDM_TRY(run_open(&j->run, &options, err));
done:
    return st;
}

static tdm_status run(job *j, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    j->stop = signals_catch();
    TDM_TRY(open_run(j, operands, err));
    if (j->run.is_complete)
        goto done;
    const tdm_reader_options reading = {.text_key = j->common.text_key,
                                        .id_key = j->common.id_key,
                                        .max_line = j->common.max_line,
                                        .max_ratio = j->common.max_ratio,
                                        .chunk_bytes = j->common.chunk,
                                        .filter = j->run.filter,
                                        .want_ids = j->decode,
                                        .stop = j->stop};
    const tdm_progress_options progress = run_progress(&j->run, &j->common, COMMAND.name, "records");
    TDM_TRY(tdm_reader_open(&j->inputs, &reading, &j->reader, err));
    TDM_TRY(tdm_progress_start(&j->progress, &progress, err));
    TDM_TRY(convert_all(j, err));
done:
    return st;
}

int cmd_tokenize(int argc, char **argv)
{
    job j = {.common = COMMON_DEFAULTS, .totals = {.token_hash = TDM_HASH_START}};
    arg_list operands;
    tdm_err err = {0};
    int code = TDM_OK;
    const arg_spec specs[] = {
        {.name = "model",
         .kind = ARG_STR,
         .out = &j.common.model,
         .value = "DIR",
         .required = true,
         .help = "folder with merges.txt or vocab.bpe, and vocab.json or encoder.json if there is one"},
        {.name = "decode", .kind = ARG_FLAG, .out = &j.decode, .help = "read ids, write text"},
        {.name = "special-tokens",
         .kind = ARG_CHOICE,
         .out = &j.special,
         .value = "plain|parse",
         .choices = SPECIAL_CHOICES,
         .help = "text that looks like a special token: plain text, or that token"},
        ARGS_OUT(&j.common),
        ARGS_RECORDS(&j.common),
        ARGS_CHUNK(&j.common),
        ARGS_JOB(&j.common),
        ARGS_REPORT(&j.common),
    };
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code))
        return code;
    const tdm_status st = run(&j, &operands, &err);
    code = summary_finish(COMMAND.name, &j.common, &j.run, st, &err, &j.totals);
    tdm_reader_close(j.reader);
    run_close(&j.run);
    tdm_inputs_free(&j.inputs);
    tdm_bpe_close(j.bpe);
    tdm_ids_free(&j.ids);
    tdm_buf_free(&j.bytes);
    tdm_buf_free(&j.line);
    return code;
}
