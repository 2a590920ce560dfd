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
#include "tools/signals.h"
#include "tools/summary.h"

static const arg_command COMMAND = {
    .name = "tokenize",
    .usage = "--model DIR [options] [FILE...]",
    .summary = "Turns the text of each record into token ids, or with --decode ids into text. Inputs are "
               "JSON Lines; - or none at all is stdin. Without a vocab.json the ids are GPT-2's.",
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
    tdm_reader *reader;
    tdm_sink *sink;
    const tdm_stop *stop; /* set by a signal */
    tdm_progress progress;
    run_totals totals;
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
        if (tdm_sink_is_direct(j->sink))
            tdm_progress_clear(&j->progress);
        TDM_TRY(tdm_sink_bad(j->sink, record, err));
        goto done;
    }
    const uint64_t tokens_before = j->totals.tokens;
    j->line.len = 0;
    TDM_TRY(tdm_buf_put(&j->line, "{\"id\": ", 7, err));
    TDM_TRY(tdm_buf_put(&j->line, record->id_json, record->id_len, err));
    TDM_TRY(j->decode ? put_decoded(j, record, err) : put_encoded(j, record, err));
    TDM_TRY(tdm_sink_put(j->sink, j->line.p, j->line.len, err));
    tdm_progress_add(&j->progress, 1, j->totals.tokens - tokens_before, 0);
done:
    return st;
}

static tdm_status convert_all(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_record record;
    uint64_t bytes_done = 0, bytes_total = 0;
    for (;;) {
        TDM_TRY(tdm_check_stop(j->stop, err));
        if (tdm_reader_would_block(j->reader))
            TDM_TRY(tdm_sink_flush(j->sink, err)); /* whoever sends slowly gets what there is */
        TDM_TRY(tdm_reader_next(j->reader, &record, err));
        if (record.kind == TDM_RECORD_END)
            break;
        tdm_reader_progress(j->reader, &bytes_done, &bytes_total);
        tdm_progress_bytes(&j->progress, bytes_done, bytes_total);
        TDM_TRY(convert(j, &record, err));
    }
    tdm_sink_counts(j->sink)->skipped = tdm_reader_blank_lines(j->reader);
    TDM_TRY(tdm_sink_commit(j->sink, err));
done:
    j->totals.seconds = tdm_progress_seconds(&j->progress);
    if (st == TDM_OK)
        tdm_progress_finish(&j->progress);
    else
        tdm_progress_abandon(&j->progress);
    return st;
}

static tdm_status run(job *j, const arg_list *inputs, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_reader_options options = TDM_READER_DEFAULTS;
    options.text_key = j->common.text_key;
    options.id_key = j->common.id_key;
    options.max_line = j->common.max_line;
    options.want_ids = j->decode;
    j->stop = options.stop = signals_catch();
    TDM_TRY(tdm_reader_open(inputs->items, inputs->n, &options, &j->reader, err));
    TDM_TRY(tdm_bpe_open_dir(j->common.model, &j->bpe, err));
    TDM_TRY(tdm_sink_open(j->common.out, j->common.max_errors, &j->sink, err));
    tdm_sink_stop_by(j->sink, j->stop);
    tdm_progress_start(&j->progress, (tdm_progress_mode)j->common.progress, j->common.quiet, stderr,
                       COMMAND.name, "records", 0);
    TDM_TRY(convert_all(j, err));
done:
    return st;
}

int cmd_tokenize(int argc, char **argv)
{
    job j = {.common = COMMON_DEFAULTS, .totals = {.token_hash = TDM_HASH_START}};
    arg_list inputs;
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
        ARGS_REPORT(&j.common),
    };
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &inputs, &code))
        return code;
    const tdm_status st = run(&j, &inputs, &err);
    code = summary_finish(COMMAND.name, &j.common, j.sink, st, &err, &j.totals);
    tdm_sink_close(j.sink);
    tdm_reader_close(j.reader);
    tdm_bpe_close(j.bpe);
    tdm_ids_free(&j.ids);
    tdm_buf_free(&j.bytes);
    tdm_buf_free(&j.line);
    return code;
}
