/* tools/raid_predictions.c - scored records to predictions.json. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "host/json.h"
#include "host/record.h"
#include "host/writefile.h"
#include "tools/args.h"
#include "tools/eval.h"
#include "tools/raid.h"
#include "tools/signals.h"

static const arg_command COMMAND = {
    .name = "raid predictions",
    .usage = "[options] FILE.jsonl...",
    .summary = "Turns what detect and score write into the predictions.json of a submission to RAID. - or none at all is "
               "stdin. A record without a score, without an id, or with an id that was there ends it: nothing is "
               "written then.",
    .notes = "[{\"id\": \"...\", \"score\": 0.987654321},\n"
             " ...]\n"
             "A higher score is rather a machine, as RAID wants it. Fields known to point the other way are\n"
             "turned, which is said: 1 - x for real, -x for ppl, entropy, mean_rank, mean_logrank,\n"
             "logit_real, binoculars. Other scores are written digit by digit as they stand in the record.",
    .example = "tandem raid predictions judged.jsonl --field fake --out predictions.json\n"
               "tandem raid predictions scored.jsonl --field binoculars > predictions.json",
};

static const char *const ORIENTATIONS[] = {"auto", "machine", "human", NULL};

typedef enum { AS_IS, NEGATED, FROM_ONE } turning;

typedef struct {
    common_args common;
    const char *field;
    int orientation; /* index into ORIENTATIONS */
    turning turning;
    raid_ids ids;
    tdm_buf out;
} job;

static tdm_status find_turning(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool is_turned = false, is_probability = false;
    const bool is_known = eval_known_field(j->field, &is_turned, &is_probability);
    TDM_REQUIRE(is_known || j->orientation, TDM_EARG,
                "--field %s: which way it points is not known; say --orientation machine or human", j->field);
    if (j->orientation)
        is_turned = j->orientation == 2;
    j->turning = !is_turned ? AS_IS : is_probability ? FROM_ONE : NEGATED;
    if (is_turned && !j->common.quiet)
        fprintf(stderr, "tandem %s: a higher %s is rather a human: the score is %s%s\n", COMMAND.name, j->field,
                is_probability ? "1 - " : "-", j->field);
done:
    return st;
}

/* Digits are kept where they can be. */
static tdm_status put_score(job *j, const tdm_field *score, tdm_err *err)
{
    const bool is_negative = score->source[0] == '-';
    tdm_status st = TDM_OK;
    switch (j->turning) {
    case AS_IS:
        TDM_TRY(tdm_buf_put(&j->out, score->source, score->source_len, err));
        break;
    case NEGATED:
        TDM_TRY(tdm_buf_put(&j->out, "-", !is_negative && score->number > 0, err));
        TDM_TRY(tdm_buf_put(&j->out, score->source + is_negative, score->source_len - is_negative, err));
        break;
    case FROM_ONE:
        TDM_REQUIRE(score->number >= 0 && score->number <= 1, TDM_EFORMAT,
                    "%s is %g, want a probability (or --orientation machine)", j->field, score->number);
        TDM_TRY(tdm_buf_printf(&j->out, err, "%.17g", 1 - score->number));
        break;
    }
done:
    return st;
}

static tdm_status put_record(job *j, const tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char shown[64];
    size_t number = 0;
    bool is_new = false;
    TDM_REQUIRE(record->kind == TDM_RECORD_OK, TDM_EFORMAT, "%s", record->detail);
    const tdm_field *id = &record->fields[0], *score = &record->fields[1];
    TDM_REQUIRE(id->kind != TDM_FIELD_ABSENT, TDM_EFORMAT, "there is no id");
    TDM_REQUIRE(id->kind == TDM_FIELD_STRING && id->string[0], TDM_EFORMAT, "the id is %.*s, want a string that is not empty",
                (int)(id->source_len < 40 ? id->source_len : 40), id->source);
    tdm_json_quote(shown, sizeof shown, id->string, strlen(id->string));
    TDM_REQUIRE(score->kind != TDM_FIELD_ABSENT, TDM_EFORMAT, "id %s: there is no field %s", shown, j->field);
    TDM_REQUIRE(score->kind == TDM_FIELD_NUMBER, TDM_EFORMAT, "id %s: %s is %.*s, want a number", shown, j->field,
                (int)(score->source_len < 40 ? score->source_len : 40), score->source);
    TDM_TRY(raid_ids_add(&j->ids, id->string, strlen(id->string), &number, &is_new, err));
    TDM_REQUIRE(is_new, TDM_EFORMAT, "id %s stands twice, first in record %zu", shown, number + 1);
    TDM_TRY(tdm_buf_printf(&j->out, err, "%s{\"id\": ", number ? ",\n " : "["));
    TDM_TRY(tdm_json_put_string(&j->out, id->string, strlen(id->string), err));
    TDM_TRY(tdm_buf_printf(&j->out, err, ", \"score\": "));
    TDM_TRY(put_score(j, score, err));
    TDM_TRY(tdm_buf_put(&j->out, "}", 1, err));
done:
    return st;
}

static tdm_status read_all(job *j, tdm_reader *reader, const tdm_stop *stop, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_record record;
    for (;;) {
        TDM_TRY(tdm_check_stop(stop, err));
        TDM_TRY(tdm_reader_next(reader, &record, err));
        if (record.kind == TDM_RECORD_END)
            break;
        if ((st = put_record(j, &record, err)) != TDM_OK) {
            st = tdm_context(err, st, "%s: line %" PRId64 ", byte %" PRIu64, record.file, record.line, record.offset);
            goto done;
        }
    }
    TDM_REQUIRE(j->ids.n > 0, TDM_EFORMAT, "there is no record");
    TDM_TRY(tdm_buf_put(&j->out, "]\n", 2, err));
done:
    return st;
}

static tdm_status run(job *j, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_inputs inputs = {0};
    tdm_reader *reader = NULL;
    const tdm_stop *stop = signals_catch();
    const char *const wanted[] = {"id", j->field, NULL};
    const bool is_file = strcmp(j->common.out, "-") != 0;
    tdm_reader_options options = TDM_READER_DEFAULTS;
    options.max_line = j->common.max_line;
    options.max_ratio = j->common.max_ratio;
    options.want_fields = wanted;
    options.stop = stop;
    TDM_TRY(find_turning(j, err));
    TDM_TRY(tdm_inputs_list(operands->items, operands->n, j->common.out, &inputs, err));
    if (is_file)
        TDM_TRY(tdm_writefile_check(j->common.out, err));
    TDM_TRY(tdm_reader_open(&inputs, &options, &reader, err));
    TDM_TRY(read_all(j, reader, stop, err));
    if (is_file)
        TDM_TRY(tdm_writefile(j->common.out, j->out.p, j->out.len, err));
    else
        fwrite(j->out.p, 1, j->out.len, stdout); /* a failure is main's to tell */
    if (!j->common.quiet)
        fprintf(stderr, "tandem %s: %zu predictions\n", COMMAND.name, j->ids.n);
done:
    tdm_reader_close(reader);
    tdm_inputs_free(&inputs);
    return st;
}

int raid_predictions(int argc, char **argv)
{
    job j = {.common = COMMON_DEFAULTS, .field = "fake"};
    arg_list operands;
    tdm_err err = {0};
    int code = TDM_OK;
    const arg_spec specs[] = {
        {.name = "field", .kind = ARG_STR, .out = &j.field, .value = "NAME", .help = "the score, a number of each record"},
        {.name = "orientation", .kind = ARG_CHOICE, .out = &j.orientation, .value = "auto|machine|human",
         .choices = ORIENTATIONS, .help = "a higher value is rather a machine, or a human; auto: as the field is known"},
        {.name = "out", .kind = ARG_STR, .out = &j.common.out, .value = "FILE",
         .help = "write to FILE, whole or not at all; - is stdout"},
        ARGS_LIMITS(&j.common),
        {.name = "quiet", .kind = ARG_FLAG, .out = &j.common.quiet, .help = "only errors on stderr"},
    };
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code))
        return code;
    if (run(&j, &operands, &err) != TDM_OK)
        code = args_fail(COMMAND.name, &err);
    raid_ids_free(&j.ids);
    tdm_buf_free(&j.out);
    return code;
}
