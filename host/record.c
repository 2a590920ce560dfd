#include "host/record.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"
#include "host/lines.h"

/* Values in one record: a cJSON node is 64 bytes, so this bounds the memory of a hostile line, and
 * a text of a million tokens still passes as ids. */
enum { MAX_VALUES = 1 << 20 };

struct tdm_reader {
    tdm_reader_options options; /* its strings are borrowed */
    tdm_lines *lines;
    tdm_line_counter counter; /* of files that are read in parts */
    tdm_json *doc;            /* of the current record */
    tdm_buf id;               /* "FILE:LINE", where the record has no id */
    int32_t *ids;             /* owned [cap_ids] */
    size_t cap_ids;
    tdm_field *fields; /* owned [n_fields] */
    size_t n_fields;
    char detail[256];
};

const char *tdm_fault_name(tdm_fault fault)
{
    switch (fault) {
#define X(name, text)                                                                              \
    case TDM_FAULT_##name:                                                                         \
        return text;
        TDM_FAULT_MAP(X)
#undef X
    }
    return "unknown";
}

tdm_status tdm_reader_open(const tdm_inputs *inputs, const tdm_reader_options *options, tdm_reader **out,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_lines_options lines = {.max_line = options->max_line,
                                     .max_ratio = options->max_ratio,
                                     .chunk_bytes = options->chunk_bytes,
                                     .filter = options->filter,
                                     .stop = options->stop};
    *out = NULL;
    tdm_reader *r = calloc(1, sizeof *r);
    TDM_REQUIRE(r, TDM_ENOMEM, "record reader");
    r->options = *options;
    r->counter = (tdm_line_counter)TDM_LINE_COUNTER_NONE;
    while (options->want_fields && options->want_fields[r->n_fields])
        r->n_fields++;
    r->fields = calloc(r->n_fields + 1, sizeof *r->fields);
    TDM_REQUIRE(r->fields, TDM_ENOMEM, "%zu fields", r->n_fields);
    TDM_TRY(tdm_lines_open(inputs, &lines, &r->lines, err));
    *out = r;
    r = NULL;
done:
    tdm_reader_close(r);
    return st;
}

void tdm_reader_close(tdm_reader *r)
{
    if (!r)
        return;
    tdm_json_close(r->doc);
    tdm_lines_close(r->lines);
    tdm_line_counter_close(&r->counter);
    tdm_buf_free(&r->id);
    free(r->ids);
    free(r->fields);
    free(r);
}

__attribute__((format(printf, 4, 5))) static void refuse(tdm_reader *r, tdm_record *record,
                                                         tdm_fault fault, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->detail, sizeof r->detail, fmt, args);
    va_end(args);
    record->kind = TDM_RECORD_BAD;
    record->fault = fault;
    record->detail = r->detail;
    record->text = NULL;
    record->text_len = 0;
    record->ids = NULL;
    record->n_ids = 0;
    record->fields = NULL;
}

static tdm_fault fault_of_json(tdm_json_fault fault)
{
    switch (fault) {
    case TDM_JSON_UTF8:
        return TDM_FAULT_UTF8;
    case TDM_JSON_NUL:
        return TDM_FAULT_NUL;
    case TDM_JSON_CONTROL:
        return TDM_FAULT_CONTROL;
    case TDM_JSON_DUPLICATE:
        return TDM_FAULT_DUPLICATE_KEY;
    case TDM_JSON_SYNTAX:
    case TDM_JSON_TOO_BIG:
        break;
    }
    return TDM_FAULT_JSON;
}

static const tdm_json_member *find_member(const tdm_json *doc, const char *key)
{
    size_t n = 0;
    const size_t len = strlen(key);
    const tdm_json_member *members = tdm_json_members(doc, &n);
    for (size_t i = 0; i < n; i++)
        if (members[i].key_len == len && !memcmp(members[i].key, key, len))
            return &members[i];
    return NULL;
}

static const char *kind_of(const cJSON *value)
{
    if (cJSON_IsString(value))
        return "a string";
    if (cJSON_IsNumber(value))
        return "a number";
    if (cJSON_IsBool(value))
        return "true or false";
    if (cJSON_IsNull(value))
        return "null";
    return cJSON_IsArray(value) ? "an array" : "an object";
}

/* The id as it stands in the source, or "FILE:LINE". */
static tdm_status read_id(tdm_reader *r, tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf name = {0};
    const tdm_json_member *id = find_member(r->doc, r->options.id_key);
    if (id) {
        record->id_json = record->source + id->value_at;
        record->id_len = id->value_len;
        return TDM_OK;
    }
    r->id.len = 0;
    record->has_no_id = true;
    if (!record->line)
        TDM_TRY(tdm_line_number(&r->counter, record->file, record->file_number, record->offset,
                                r->options.stop, &record->line, err));
    TDM_TRY(tdm_buf_printf(&name, err, "%s:%" PRId64, record->file, record->line));
    TDM_TRY(tdm_json_put_string(&r->id, name.p, name.len, err));
    record->id_json = r->id.p;
    record->id_len = r->id.len;
done:
    tdm_buf_free(&name);
    return st;
}

static void read_text(tdm_reader *r, tdm_record *record)
{
    const char *key = r->options.text_key;
    const tdm_json_member *field = find_member(r->doc, key);
    if (!field) {
        refuse(r, record, TDM_FAULT_NO_TEXT, "there is no field \"%s\"", key);
    } else if (!cJSON_IsString(field->value)) {
        refuse(r, record, TDM_FAULT_TEXT_TYPE, "field \"%s\" is %s, want a string", key,
               kind_of(field->value));
    } else if (!field->value->valuestring[0]) {
        refuse(r, record, TDM_FAULT_EMPTY, "field \"%s\" is empty", key);
    } else {
        record->text = field->value->valuestring;
        record->text_len = strlen(record->text); /* host/json.h lets no NUL in */
    }
}

static tdm_status reserve_ids(tdm_reader *r, size_t n, tdm_err *err)
{
    if (n <= r->cap_ids)
        return TDM_OK;
    int32_t *grown = realloc(r->ids, n * sizeof *grown); /* n <= MAX_VALUES */
    if (!grown)
        return tdm_fail(err, TDM_ENOMEM, "%zu ids", n);
    r->ids = grown;
    r->cap_ids = n;
    return TDM_OK;
}

static tdm_status read_ids(tdm_reader *r, tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n = 0;
    const cJSON *item = NULL;
    const tdm_json_member *field = find_member(r->doc, "ids");
    if (!field) {
        refuse(r, record, TDM_FAULT_NO_TEXT, "there is no field \"ids\"");
        goto done;
    }
    if (!cJSON_IsArray(field->value)) {
        refuse(r, record, TDM_FAULT_TEXT_TYPE, "field \"ids\" is %s, want an array of token ids",
               kind_of(field->value));
        goto done;
    }
    TDM_TRY(reserve_ids(r, (size_t)cJSON_GetArraySize(field->value), err));
    cJSON_ArrayForEach(item, field->value)
    {
        const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
        const bool in_range = value >= 0 && value <= INT32_MAX;
        if (!in_range || value != (double)(int32_t)value) {
            refuse(r, record, TDM_FAULT_TEXT_TYPE,
                   "ids[%zu] is no token id; want a whole number from 0 to %" PRId32, n, INT32_MAX);
            goto done;
        }
        r->ids[n++] = (int32_t)value;
    }
    if (n == 0) {
        refuse(r, record, TDM_FAULT_EMPTY, "field \"ids\" is empty");
        goto done;
    }
    record->ids = r->ids;
    record->n_ids = n;
done:
    return st;
}

static tdm_field field_of(const tdm_record *record, const tdm_json_member *m)
{
    const cJSON *value = m->value;
    tdm_field f = {.kind = TDM_FIELD_OTHER, .source = record->source + m->value_at, .source_len = m->value_len};
    if (cJSON_IsNumber(value)) {
        f.kind = TDM_FIELD_NUMBER;
        f.number = value->valuedouble;
    } else if (cJSON_IsString(value)) {
        f.kind = TDM_FIELD_STRING;
        f.string = value->valuestring;
    } else if (cJSON_IsBool(value)) {
        f.kind = TDM_FIELD_BOOL;
        f.number = cJSON_IsTrue(value);
    } else if (cJSON_IsNull(value)) {
        f.kind = TDM_FIELD_NULL;
    }
    return f;
}

static void read_fields(tdm_reader *r, tdm_record *record)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const tdm_json_member *m = find_member(r->doc, r->options.want_fields[i]);
        r->fields[i] = m ? field_of(record, m) : (tdm_field){.kind = TDM_FIELD_ABSENT};
        if (r->fields[i].kind == TDM_FIELD_NUMBER && !isfinite(r->fields[i].number)) {
            refuse(r, record, TDM_FAULT_NON_FINITE, "field \"%s\" is %.*s, which no double can hold",
                   r->options.want_fields[i], (int)(m->value_len < 40 ? m->value_len : 40), r->fields[i].source);
            return;
        }
    }
    record->fields = r->fields;
}

/* The word for a number that JSON does not have, as Python and others write it, at or around byte `at`; NULL: none. */
static const char *word_at(const tdm_record *record, size_t at)
{
    static const char *const WORDS[] = {"NaN", "-Infinity", "Infinity", "-NaN", "nan", "-nan", "inf", "-inf"};
    if (at > 0 && record->source[at - 1] == '-')
        at--;
    size_t len = at; /* to the end of the word */
    while (len < record->source_len && !strchr(",]} \t", record->source[len]))
        len++;
    len -= at;
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (len == strlen(WORDS[i]) && !memcmp(record->source + at, WORDS[i], len))
            return WORDS[i];
    return NULL;
}

/* The key, as it stands in the source, of the value that begins at byte `at`; *len is 0 where there is none. */
static const char *key_before(const tdm_record *record, size_t at, size_t *len)
{
    const char *text = record->source;
    size_t end = at;
    *len = 0;
    while (end > 0 && strchr("- \t:", text[end - 1]))
        end--;
    if (end == 0 || text[--end] != '"')
        return NULL;
    size_t begin = end;
    while (begin > 0 && text[begin - 1] != '"')
        begin--;
    *len = end - begin;
    return text + begin;
}

/* Python writes NaN and infinity as words, and a score that is one is what a reader of fields has to tell. */
static bool refuse_word(tdm_reader *r, tdm_record *record, const tdm_json_error *why)
{
    size_t len = 0;
    const char *word = why->fault == TDM_JSON_SYNTAX ? word_at(record, why->at) : NULL;
    if (!word)
        return false;
    const char *key = key_before(record, why->at, &len);
    if (key)
        refuse(r, record, TDM_FAULT_NON_FINITE, "field \"%.*s\" is %s", (int)(len < 80 ? len : 80), key, word);
    else
        refuse(r, record, TDM_FAULT_NON_FINITE, "at byte %zu: %s", why->at, word);
    return true;
}

/* Fields that the command is going to append must not be there already. */
static void check_collisions(tdm_reader *r, tdm_record *record)
{
    const char *const *key = r->options.collide ? r->options.collide_keys : NULL;
    for (; key && *key && record->kind == TDM_RECORD_OK; key++)
        if (find_member(r->doc, *key))
            refuse(r, record, TDM_FAULT_COLLISION, "field \"%s\" is there already", *key);
}

/* What a line is, as far as its text need not be looked into. */
static void look_at(tdm_reader *r, const tdm_line *line, tdm_record *record)
{
    *record = (tdm_record){.kind = TDM_RECORD_OK, .file = line->file, .file_number = line->number,
                           .line = line->line, .offset = line->offset, .hash = line->hash};
    switch (line->kind) {
    case TDM_LINES_LINE:
        break;
    case TDM_LINES_TOO_LONG:
        refuse(r, record, TDM_FAULT_LINE_TOO_LONG, "%zu bytes, at most %zu", line->len, r->options.max_line);
        break;
    case TDM_LINES_DAMAGED:
        refuse(r, record, TDM_FAULT_DAMAGED, "%s", line->detail);
        break;
    case TDM_LINES_CHUNK:
        record->kind = TDM_RECORD_CHUNK;
        record->chunk = line->chunk;
        break;
    case TDM_LINES_END:
        record->kind = TDM_RECORD_END;
        break;
    }
}

static tdm_status read_line(tdm_reader *r, const tdm_line *line, tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json_error why = {0};
    tdm_err refused = {0};
    record->source = line->text;
    record->source_len = line->len;
    st = tdm_json_parse(line->text, line->len, MAX_VALUES, &r->doc, &why, &refused);
    if (st == TDM_EFORMAT) {
        st = TDM_OK;
        if (!r->options.want_fields || !refuse_word(r, record, &why))
            refuse(r, record, fault_of_json(why.fault), "%s", refused.msg);
        goto done;
    }
    TDM_REQUIRE(st == TDM_OK, st, "%s: byte %" PRIu64 ": %s", record->file, record->offset, refused.msg);
    if (!cJSON_IsObject(tdm_json_root(r->doc))) {
        refuse(r, record, TDM_FAULT_NOT_OBJECT, "the line is %s, want an object",
               kind_of(tdm_json_root(r->doc)));
        goto done;
    }
    TDM_TRY(read_id(r, record, err));
    if (r->options.want_fields)
        read_fields(r, record);
    else if (r->options.want_ids)
        TDM_TRY(read_ids(r, record, err));
    else
        read_text(r, record);
    check_collisions(r, record);
done:
    return st;
}

static tdm_status next_line(tdm_reader *r, tdm_line *line, tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json_close(r->doc);
    r->doc = NULL;
    *record = (tdm_record){.kind = TDM_RECORD_END};
    TDM_TRY(tdm_lines_next(r->lines, line, err));
    look_at(r, line, record);
done:
    return st;
}

tdm_status tdm_reader_next(tdm_reader *r, tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_line line = {0};
    TDM_TRY(next_line(r, &line, record, err));
    if (record->kind == TDM_RECORD_OK)
        TDM_TRY(read_line(r, &line, record, err));
done:
    return st;
}

tdm_status tdm_reader_skip(tdm_reader *r, tdm_record *record, tdm_err *err)
{
    tdm_line line = {0};
    return next_line(r, &line, record, err);
}

bool tdm_reader_would_block(tdm_reader *r)
{
    return tdm_lines_would_block(r->lines);
}

int64_t tdm_reader_blank_lines(const tdm_reader *r)
{
    return tdm_lines_blank(r->lines);
}

void tdm_reader_progress(const tdm_reader *r, uint64_t *done, uint64_t *total)
{
    tdm_lines_progress(r->lines, done, total);
}
