/* tools/raid_data.c - ids, and where each text of the data is from. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "host/csv.h"
#include "host/json.h"
#include "tools/args.h"
#include "tools/raid.h"

const char *const RAID_FACTOR_NAMES[RAID_FACTORS + 1] = {"domain",   "attack",             "model",
                                                         "decoding", "repetition_penalty", NULL};

/* ---- ids ---- */

/* The slot that holds this id, or the empty one where it belongs. */
static uint32_t *find_slot(const raid_ids *ids, const char *id, size_t len)
{
    for (size_t i = (size_t)XXH3_64bits(id, len) & (ids->n_slots - 1);; i = (i + 1) & (ids->n_slots - 1)) {
        uint32_t *slot = &ids->slots[i];
        if (*slot == 0)
            return slot;
        const char *held = raid_ids_text(ids, *slot - 1);
        if (!strncmp(held, id, len) && held[len] == 0)
            return slot;
    }
}

static tdm_status grow(raid_ids *ids, tdm_err *err)
{
    enum { FIRST = 1024 };
    tdm_status st = TDM_OK;
    const size_t cap = ids->cap ? ids->cap * 2 : FIRST;
    size_t *at = realloc(ids->at, cap * sizeof *at);
    TDM_REQUIRE(at, TDM_ENOMEM, "%zu ids", cap);
    ids->at = at;
    uint32_t *slots = calloc(2 * cap, sizeof *slots);
    TDM_REQUIRE(slots, TDM_ENOMEM, "%zu ids", cap);
    free(ids->slots);
    ids->slots = slots;
    ids->n_slots = 2 * cap;
    ids->cap = cap;
    for (size_t i = 0; i < ids->n; i++) {
        const char *id = raid_ids_text(ids, i);
        *find_slot(ids, id, strlen(id)) = (uint32_t)(i + 1);
    }
done:
    return st;
}

tdm_status raid_ids_add(raid_ids *ids, const char *id, size_t len, size_t *number, bool *is_new, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (ids->n == ids->cap)
        TDM_TRY(grow(ids, err));
    uint32_t *slot = find_slot(ids, id, len);
    *is_new = *slot == 0;
    *number = *is_new ? ids->n : *slot - 1;
    if (!*is_new)
        goto done;
    TDM_REQUIRE(ids->n < UINT32_MAX - 1, TDM_EFORMAT, "more than %" PRIu32 " ids", UINT32_MAX - 1);
    const size_t at = ids->text.len;
    TDM_TRY(tdm_buf_reserve(&ids->text, len + 1, err));
    TDM_TRY(tdm_buf_put(&ids->text, id, len, err));
    TDM_TRY(tdm_buf_put(&ids->text, "", 1, err));
    ids->at[ids->n++] = at;
    *slot = (uint32_t)ids->n;
done:
    return st;
}

size_t raid_ids_find(const raid_ids *ids, const char *id, size_t len)
{
    const uint32_t *slot = ids->n_slots ? find_slot(ids, id, len) : NULL;
    return slot && *slot ? *slot - 1 : RAID_NONE;
}

void raid_ids_free(raid_ids *ids)
{
    tdm_buf_free(&ids->text);
    free(ids->at);
    free(ids->slots);
    *ids = (raid_ids){0};
}

/* ---- rows ---- */

/* What is looked at of a row, however it was written; len 0: empty or not there. */
typedef struct {
    tdm_csv_field id, factors[RAID_FACTORS];
} data_row;

static bool equals(const tdm_csv_field *f, const char *text)
{
    return f->len == strlen(text) && !memcmp(f->text, text, f->len);
}

static tdm_status take_value(raid_data *d, raid_factor factor, const tdm_csv_field *f, uint8_t *value, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t number = 0;
    bool is_new = false;
    *value = RAID_EMPTY;
    if (f->len == 0)
        goto done;
    TDM_TRY(raid_ids_add(&d->values[factor], f->text, f->len, &number, &is_new, err));
    TDM_REQUIRE(number < RAID_VALUES_MOST, TDM_EFORMAT, "%s has more than %d different values",
                RAID_FACTOR_NAMES[factor], RAID_VALUES_MOST);
    *value = (uint8_t)number;
done:
    return st;
}

static tdm_status grow_origins(raid_data *d, tdm_err *err)
{
    const size_t cap = d->cap ? d->cap * 2 : 1024;
    raid_origin *grown = realloc(d->origins, cap * sizeof *grown);
    if (!grown)
        return tdm_fail(err, TDM_ENOMEM, "labels of %zu texts", cap);
    d->origins = grown;
    d->cap = cap;
    return TDM_OK;
}

static tdm_status take_row(raid_data *d, const data_row *row, bool is_labelled, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char shown[64];
    size_t number = 0;
    bool is_new = false;
    raid_origin origin = {0};
    TDM_REQUIRE(row->id.len > 0, TDM_EFORMAT, "the id is empty");
    TDM_TRY(raid_ids_add(&d->ids, row->id.text, row->id.len, &number, &is_new, err));
    tdm_json_quote(shown, sizeof shown, row->id.text, row->id.len);
    TDM_REQUIRE(is_new, TDM_EFORMAT, "id %s stands twice", shown);
    if (!is_labelled)
        goto done;
    TDM_REQUIRE(row->factors[RAID_MODEL].len > 0, TDM_EFORMAT, "the model is empty");
    TDM_REQUIRE(row->factors[RAID_DOMAIN].len > 0, TDM_EFORMAT, "the domain is empty");
    origin.is_human = equals(&row->factors[RAID_MODEL], "human");
    for (int i = 0; i < RAID_FACTORS; i++)
        TDM_TRY(take_value(d, (raid_factor)i, &row->factors[i], &origin.value[i], err));
    if (number >= d->cap)
        TDM_TRY(grow_origins(d, err));
    d->origins[number] = origin;
done:
    return st;
}

/* ---- from CSV ---- */

static tdm_status read_csv(const char *path, const raid_limits *limits, raid_data *d, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_csv *csv = NULL;
    tdm_csv_row row;
    size_t columns[RAID_FACTORS];
    const tdm_csv_options options = {.max_row = limits->max_line, .max_ratio = limits->max_ratio,
                                     .stop = limits->stop};
    TDM_TRY(tdm_csv_open(path, &options, &csv, err));
    const size_t id = tdm_csv_column(csv, "id");
    TDM_REQUIRE(id != TDM_CSV_NONE, TDM_EFORMAT, "%s: line 1: there is no column id", path);
    for (int i = 0; i < RAID_FACTORS; i++)
        columns[i] = tdm_csv_column(csv, RAID_FACTOR_NAMES[i]);
    const bool is_labelled = columns[RAID_MODEL] != TDM_CSV_NONE;
    TDM_REQUIRE(!is_labelled || columns[RAID_DOMAIN] != TDM_CSV_NONE, TDM_EFORMAT,
                "%s: line 1: there is a column model and no column domain", path);
    for (;;) {
        TDM_TRY(tdm_check_stop(limits->stop, err));
        TDM_TRY(tdm_csv_next(csv, &row, err));
        if (row.kind == TDM_CSV_END)
            break;
        TDM_REQUIRE(row.kind == TDM_CSV_ROW, TDM_EFORMAT, "%s: line %" PRId64 ", byte %" PRIu64 ": %s", path,
                    row.line, row.offset, row.detail);
        data_row seen = {.id = row.fields[id]};
        for (int i = 0; i < RAID_FACTORS; i++)
            if (columns[i] != TDM_CSV_NONE)
                seen.factors[i] = row.fields[columns[i]];
        if (columns[RAID_ATTACK] == TDM_CSV_NONE)
            seen.factors[RAID_ATTACK] = (tdm_csv_field){"none", 4};
        if ((st = take_row(d, &seen, is_labelled, err)) != TDM_OK) {
            st = tdm_context(err, st, "%s: line %" PRId64 ", byte %" PRIu64, path, row.line, row.offset);
            goto done;
        }
    }
done:
    tdm_csv_close(csv);
    return st;
}

/* ---- from records ---- */

/* A string, or what counts as empty. */
static tdm_status as_text(const tdm_field *f, const char *name, tdm_csv_field *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = (tdm_csv_field){"", 0};
    if (f->kind == TDM_FIELD_ABSENT || f->kind == TDM_FIELD_NULL)
        goto done;
    TDM_REQUIRE(f->kind == TDM_FIELD_STRING, TDM_EFORMAT, "field %s is %.*s, want a string", name,
                (int)(f->source_len < 40 ? f->source_len : 40), f->source);
    *out = (tdm_csv_field){f->string, strlen(f->string)};
done:
    return st;
}

/* The first record says whether there are labels; a later one without is refused by its empty model. */
static tdm_status take_record(raid_data *d, const tdm_record *record, bool *is_labelled, tdm_err *err)
{
    tdm_status st = TDM_OK;
    data_row seen = {0};
    TDM_REQUIRE(record->kind == TDM_RECORD_OK, TDM_EFORMAT, "%s", record->detail);
    TDM_TRY(as_text(&record->fields[0], "id", &seen.id, err));
    for (int i = 0; i < RAID_FACTORS; i++)
        TDM_TRY(as_text(&record->fields[1 + i], RAID_FACTOR_NAMES[i], &seen.factors[i], err));
    if (record->fields[1 + RAID_ATTACK].kind == TDM_FIELD_ABSENT)
        seen.factors[RAID_ATTACK] = (tdm_csv_field){"none", 4};
    if (d->ids.n == 0)
        *is_labelled = record->fields[1 + RAID_MODEL].kind != TDM_FIELD_ABSENT;
    TDM_TRY(take_row(d, &seen, *is_labelled, err));
done:
    return st;
}

static tdm_status read_records(const char *path, const raid_limits *limits, raid_data *d, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_inputs inputs = {0};
    tdm_reader *reader = NULL;
    tdm_record record;
    bool is_labelled = false;
    static const char *const WANTED[] = {"id", "domain", "attack", "model", "decoding", "repetition_penalty", NULL};
    tdm_reader_options options = TDM_READER_DEFAULTS;
    options.max_line = limits->max_line;
    options.max_ratio = limits->max_ratio;
    options.stop = limits->stop;
    options.want_fields = WANTED;
    TDM_TRY(tdm_inputs_list(&path, 1, NULL, &inputs, err));
    TDM_TRY(tdm_reader_open(&inputs, &options, &reader, err));
    for (;;) {
        TDM_TRY(tdm_check_stop(limits->stop, err));
        TDM_TRY(tdm_reader_next(reader, &record, err));
        if (record.kind == TDM_RECORD_END)
            break;
        if ((st = take_record(d, &record, &is_labelled, err)) != TDM_OK) {
            st = tdm_context(err, st, "%s: line %" PRId64 ", byte %" PRIu64, record.file, record.line,
                             record.offset);
            goto done;
        }
    }
done:
    tdm_reader_close(reader);
    tdm_inputs_free(&inputs);
    return st;
}

/* ---- either ---- */

static bool is_jsonl(const char *path)
{
    static const char *const ENDINGS[] = {".jsonl", ".jsonl.gz", ".jsonl.zst"};
    const size_t n = strlen(path);
    for (size_t i = 0; i < COUNT(ENDINGS); i++) {
        const size_t len = strlen(ENDINGS[i]);
        if (n > len && !strcmp(path + n - len, ENDINGS[i]))
            return true;
    }
    return false;
}

tdm_status raid_data_read(const char *path, const raid_limits *limits, raid_data *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    raid_data d = {0};
    TDM_TRY(is_jsonl(path) ? read_records(path, limits, &d, err) : read_csv(path, limits, &d, err));
    TDM_REQUIRE(d.ids.n > 0, TDM_EFORMAT, "%s: there is no text in it", path);
    *out = d;
    d = (raid_data){0};
done:
    raid_data_free(&d);
    return st;
}

void raid_data_free(raid_data *d)
{
    raid_ids_free(&d->ids);
    for (int i = 0; i < RAID_FACTORS; i++)
        raid_ids_free(&d->values[i]);
    free(d->origins);
    *d = (raid_data){0};
}
