/* tools/eval_read.c - labelled records to labelled scores.
 *
 * A record that is not what was asked for never becomes a score and never disappears: it ends the run with its file
 * and line, or is said on stderr and counted, as --max-errors wants. */
#include "tools/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "host/inputs.h"
#include "host/json.h"
#include "host/record.h"
#include "tools/args.h"

static const char *const LENGTHS[] = {"used_tokens", "tokens", "length"};

enum { NOT_SEEN = -2, NO_LENGTH = -1 }; /* instead of an index of a length */

/* ---- ids of a file ---- */

/* Of an id 88 bits of its hash, and the line that it stands in: among 10^9 ids two that are different are taken for
 * one with a probability of 2e-9. */
typedef struct {
    uint64_t low, high; /* the lower LINE_BITS of high are the line, from 1; 0: empty */
} id_slot;

#define LINE_BITS 40
#define MAX_LINE ((UINT64_C(1) << LINE_BITS) - 1)

typedef struct {
    id_slot *slots;     /* owned [n_slots], a power of two; at most 3 of 4 are taken */
    size_t n_slots, n;
} id_set;

/* The slot that holds this id, or the empty one where it belongs. */
static id_slot *find_slot(const id_set *set, uint64_t low, uint64_t high)
{
    for (size_t i = (size_t)low & (set->n_slots - 1);; i = (i + 1) & (set->n_slots - 1)) {
        id_slot *slot = &set->slots[i];
        if (slot->high == 0 || (slot->low == low && slot->high >> LINE_BITS == high >> LINE_BITS))
            return slot;
    }
}

static tdm_status grow_set(id_set *set, tdm_err *err)
{
    enum { FIRST = 1024 };
    tdm_status st = TDM_OK;
    id_set grown = {.n_slots = set->n_slots ? set->n_slots * 2 : FIRST, .n = set->n};
    grown.slots = calloc(grown.n_slots, sizeof *grown.slots);
    TDM_REQUIRE(grown.slots, TDM_ENOMEM, "the ids of %zu records", set->n);
    for (size_t i = 0; i < set->n_slots; i++)
        if (set->slots[i].high)
            *find_slot(&grown, set->slots[i].low, set->slots[i].high) = set->slots[i];
    free(set->slots);
    *set = grown;
done:
    return st;
}

/* Note an id. first receives the line where it stood before, or 0. */
static tdm_status add_id(id_set *set, const tdm_record *record, int64_t *first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const XXH128_hash_t hash = XXH3_128bits(record->id_json, record->id_len);
    const uint64_t line = (uint64_t)record->line < MAX_LINE ? (uint64_t)record->line : MAX_LINE;
    *first = 0;
    if (set->n >= set->n_slots / 4 * 3)
        TDM_TRY(grow_set(set, err));
    const uint64_t high = (hash.high64 & ~MAX_LINE) | line;
    id_slot *slot = find_slot(set, hash.low64, high);
    *first = (int64_t)(slot->high & MAX_LINE);
    if (slot->high == 0) {
        *slot = (id_slot){hash.low64, high};
        set->n++;
    }
done:
    return st;
}

/* ---- rows ---- */

/* Room for cap elements in an owned array, which stays as it was on failure. */
#define RESIZE(array, cap)                                                                                             \
    do {                                                                                                               \
        size_t bytes = 0;                                                                                              \
        void *grown = tdm_mul_size(cap, sizeof *(array), &bytes) ? realloc(array, bytes) : NULL;                       \
        TDM_REQUIRE(grown, TDM_ENOMEM, "%zu scores", cap);                                                             \
        (array) = grown;                                                                                               \
    } while (0)

static tdm_status make_room(eval_scores *s, tdm_err *err)
{
    enum { FIRST = 1024 };
    tdm_status st = TDM_OK;
    const size_t cap = s->cap ? s->cap * 2 : FIRST;
    if (s->n < s->cap)
        return TDM_OK;
    for (size_t f = 0; f < s->n_fields; f++)
        RESIZE(s->scores[f], cap);
    RESIZE(s->machine, cap);
    RESIZE(s->validation, cap);
    RESIZE(s->lengths, cap);
    s->cap = cap;
done:
    return st;
}

void eval_scores_free(eval_scores *s)
{
    for (size_t f = 0; s->scores && f < s->n_fields; f++)
        free(s->scores[f]);
    free(s->scores);
    free(s->machine);
    free(s->validation);
    free(s->lengths);
    *s = (eval_scores){0};
}

/* ---- records ---- */

typedef enum { HUMAN, MACHINE, LABELLED } source_class;

typedef struct {
    const eval_sources *from;
    const eval_options *options;
    eval_scores *out;
    const char **wanted; /* owned: the fields, names of lengths, the label, NULL */
    size_t n_lengths;    /* among wanted, behind the fields */
    int length;          /* which of them all records so far have; NO_LENGTH, NOT_SEEN */
    bool lengths_differ;
    id_set ids;          /* of the file */
    int64_t good, bad;   /* of all files */
    int64_t texts[2];    /* of humans, of machines */
} reading;

/* Leave a record out, where that is allowed. */
static tdm_status refuse(reading *r, const tdm_record *record, const char *detail, tdm_err *err)
{
    const tdm_max_errors max = r->from->max_errors;
    r->bad++;
    if (!max.percent && (double)r->bad > max.limit)
        return tdm_fail(err, TDM_EFORMAT, "%s:%" PRId64 ": %s", record->file, record->line, detail);
    args_note("eval", "%s:%" PRId64 ": %s; left out", record->file, record->line, detail);
    return TDM_OK;
}

/* What a record has instead of a field. */
static tdm_status refuse_absent(reading *r, const tdm_record *record, const char *name, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json *doc = NULL;
    tdm_json_error why;
    char keys[160] = "", detail[256];
    size_t n = 0, used = 0;
    TDM_TRY(tdm_json_parse(record->source, record->source_len, SIZE_MAX, &doc, &why, err));
    const tdm_json_member *members = tdm_json_members(doc, &n);
    for (size_t i = 0; i < n && used + 8 < sizeof keys; i++) {
        tdm_json_quote(keys + used, sizeof keys - used, members[i].key, members[i].key_len);
        used += strlen(keys + used);
        if (i + 1 < n && used + 8 < sizeof keys)
            used += (size_t)snprintf(keys + used, sizeof keys - used, ", ");
    }
    snprintf(detail, sizeof detail, "there is no field \"%s\", but %s", name, n ? keys : "nothing at all");
    st = refuse(r, record, detail, err);
done:
    tdm_json_close(doc);
    return st;
}

static tdm_status refuse_field(reading *r, const tdm_record *record, size_t i, const char *want, tdm_err *err)
{
    enum { MOST = 60 };
    char detail[256];
    const tdm_field *f = &record->fields[i];
    const char *name = r->wanted[i];
    if (f->kind == TDM_FIELD_ABSENT)
        return refuse_absent(r, record, name, err);
    const int len = f->source_len < MOST ? (int)f->source_len : MOST;
    snprintf(detail, sizeof detail, "field \"%s\" is %.*s%s, want %s", name, len, f->source,
             f->source_len > MOST ? "..." : "", want);
    return refuse(r, record, detail, err);
}

static bool is_length(const tdm_field *f)
{
    return f->kind == TDM_FIELD_NUMBER && f->number >= 0 && f->number <= 0x1p53 && f->number == floor(f->number);
}

/* The length of a text, of the first field that holds one. All records must have the same: who mixes lengths that
 * mean different things is told, and gets none. */
static void take_length(reading *r, const tdm_record *record)
{
    const tdm_field *f = record->fields + r->out->n_fields;
    int found = NO_LENGTH;
    for (int i = (int)r->n_lengths; i-- > 0;)
        if (is_length(&f[i]))
            found = i;
    if (r->length == NOT_SEEN)
        r->length = found;
    if (r->length != found && !r->lengths_differ) {
        args_note("eval", "%s:%" PRId64 ": its length is %s, that of others %s: none is used; --length-field names one",
                  record->file, record->line, found < 0 ? "missing" : LENGTHS[found],
                  r->length < 0 ? "is missing" : LENGTHS[r->length]);
        r->lengths_differ = true;
    }
    r->out->lengths[r->out->n] = found < 0 ? 0 : (int64_t)f[found].number;
}

/* Whether a label says machine (1) or human (0); -1: neither. */
static int class_of(const tdm_field *f, const char *machine_label)
{
    const bool is_string = f->kind == TDM_FIELD_STRING;
    if (f->kind != TDM_FIELD_NUMBER && f->kind != TDM_FIELD_BOOL && !is_string)
        return -1;
    if (machine_label && is_string)
        return !strcmp(f->string, machine_label);
    if (machine_label)
        return f->source_len == strlen(machine_label) && !memcmp(f->source, machine_label, f->source_len);
    if (!is_string)
        return f->number == 1 ? 1 : f->number == 0 ? 0 : -1;
    if (!strcmp(f->string, "machine") || !strcmp(f->string, "fake"))
        return 1;
    return !strcmp(f->string, "human") || !strcmp(f->string, "real") ? 0 : -1;
}

/* Whether an id, of texts of this class, belongs to the part on which thresholds are fitted. */
static bool is_for_validation(const tdm_record *record, bool machine, double share)
{
    const uint64_t hash = XXH3_64bits_withSeed(record->id_json, record->id_len, machine);
    return (double)(hash >> 11) * 0x1p-53 < share;
}

/* One record that is JSON. *is_good is false where it was left out. */
static tdm_status take_record(reading *r, const tdm_record *record, source_class of, bool *is_good, tdm_err *err)
{
    tdm_status st = TDM_OK;
    eval_scores *s = r->out;
    const size_t n_fields = s->n_fields, label = n_fields + r->n_lengths;
    int64_t first = 0;
    *is_good = false;
    for (size_t f = 0; f < n_fields; f++)
        if (record->fields[f].kind != TDM_FIELD_NUMBER)
            return refuse_field(r, record, f, "a number", err);
    if (r->from->length_key && !is_length(&record->fields[n_fields]))
        return refuse_field(r, record, n_fields, "a length, a whole number from 0", err);
    const int machine = of == LABELLED ? class_of(&record->fields[label], r->from->machine_label) : of == MACHINE;
    if (machine < 0)
        return refuse_field(r, record, label,
                            r->from->machine_label ? "a string, a number, true or false"
                                                   : "true, 1, \"machine\" or \"fake\", or false, 0, \"human\" or "
                                                     "\"real\"; --machine-label names another",
                            err);
    if (!record->has_no_id)
        TDM_TRY(add_id(&r->ids, record, &first, err));
    if (first) {
        char detail[256];
        snprintf(detail, sizeof detail, "id %.*s stands in line %" PRId64 " already",
                 record->id_len < 100 ? (int)record->id_len : 100, record->id_json, first);
        return refuse(r, record, detail, err);
    }
    TDM_TRY(make_room(s, err));
    for (size_t f = 0; f < n_fields; f++)
        s->scores[f][s->n] = record->fields[f].number;
    s->machine[s->n] = (uint8_t)machine;
    s->validation[s->n] = is_for_validation(record, machine, r->options->validation);
    take_length(r, record);
    s->n++;
    r->texts[machine]++;
    *is_good = true;
done:
    return st;
}

/* ---- files ---- */

static tdm_status read_records(reading *r, tdm_reader *reader, source_class of, int64_t *good, int64_t *bad,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_record record;
    for (;;) {
        bool is_good = false;
        TDM_TRY(tdm_check_stop(r->from->stop, err));
        TDM_TRY(tdm_reader_next(reader, &record, err));
        if (record.kind == TDM_RECORD_END)
            break;
        TDM_TRY(record.kind == TDM_RECORD_BAD ? refuse(r, &record, record.detail, err)
                                              : take_record(r, &record, of, &is_good, err));
        *good += is_good;
        *bad += !is_good;
    }
done:
    return st;
}

static tdm_status read_file(reading *r, tdm_input *input, source_class of, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_reader *reader = NULL;
    int64_t good = 0, bad = 0;
    const tdm_inputs one = {.items = input, .n = 1, .bytes = input->size};
    const tdm_reader_options options = {.id_key = r->from->id_key,
                                        .max_line = r->from->max_line,
                                        .max_ratio = r->from->max_ratio,
                                        .want_fields = r->wanted,
                                        .stop = r->from->stop};
    TDM_TRY(tdm_reader_open(&one, &options, &reader, err));
    TDM_TRY(read_records(r, reader, of, &good, &bad, err));
    TDM_REQUIRE(good + bad > 0, TDM_EFORMAT, "%s: holds no record", input->path);
    TDM_REQUIRE(good > 0, TDM_EFORMAT, "%s: all of its %" PRId64 " records are bad", input->path, bad);
    r->good += good;
done:
    tdm_reader_close(reader);
    free(r->ids.slots);
    r->ids = (id_set){0};
    return st;
}

typedef struct {
    dev_t device;
    ino_t inode;
    const char *path; /* borrowed */
    bool is_written;
} known_file;

static int by_identity(const void *a, const void *b)
{
    const known_file *x = a, *y = b;
    if (x->device != y->device)
        return x->device < y->device ? -1 : 1;
    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* Note a file that is there. */
static void know(known_file *files, size_t *n, const char *path, bool is_written)
{
    struct stat info;
    if ((strcmp(path, "-") ? stat(path, &info) : fstat(0, &info)) == 0 && (!is_written || S_ISREG(info.st_mode)))
        files[(*n)++] = (known_file){info.st_dev, info.st_ino, path, is_written};
}

/* A file that counts twice makes intervals narrow, one in both classes makes nonsense, and one that results replace
 * is lost. */
static tdm_status refuse_twice(const tdm_inputs *lists, size_t n_lists, const char *const written[2], tdm_err *err)
{
    tdm_status st = TDM_OK;
    known_file *files = NULL;
    size_t n = 0, all = 2;
    for (size_t k = 0; k < n_lists; k++)
        all += lists[k].n;
    files = calloc(all, sizeof *files);
    TDM_REQUIRE(files, TDM_ENOMEM, "the names of %zu files", all);
    for (size_t k = 0; k < n_lists; k++)
        for (size_t i = 0; i < lists[k].n; i++)
            know(files, &n, lists[k].items[i].path, false);
    for (size_t i = 0; i < 2; i++)
        if (written[i])
            know(files, &n, written[i], true);
    qsort(files, n, sizeof *files, by_identity);
    for (size_t i = 1; i < n; i++) {
        const known_file *a = &files[i - 1], *b = &files[i];
        TDM_REQUIRE(by_identity(a, b), TDM_EARG, "%s and %s are one file; %s", a->path, b->path,
                    a->is_written || b->is_written ? "results would replace it" : "a text counts once");
    }
done:
    free(files);
    return st;
}

static tdm_status read_all(reading *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_inputs lists[3] = {{0}};
    const struct {
        const char *const *paths;
        size_t n;
    } named[] = {[HUMAN] = {r->from->human, r->from->n_human},
                 [MACHINE] = {r->from->machine, r->from->n_machine},
                 [LABELLED] = {r->from->labelled, r->from->n_labelled}};
    for (size_t k = 0; k < COUNT(lists); k++)
        if (named[k].n || (k == LABELLED && !lists[HUMAN].n && !lists[MACHINE].n)) /* no file at all: stdin */
            TDM_TRY(tdm_inputs_list(named[k].paths, named[k].n, NULL, &lists[k], err));
    TDM_TRY(refuse_twice(lists, COUNT(lists), r->from->written, err));
    for (size_t k = 0; k < COUNT(lists); k++)
        for (size_t i = 0; i < lists[k].n; i++)
            TDM_TRY(read_file(r, &lists[k].items[i], (source_class)k, err));
done:
    for (size_t k = 0; k < COUNT(lists); k++)
        tdm_inputs_free(&lists[k]);
    return st;
}

static tdm_status prepare(reading *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = r->options->n_fields;
    const char *const *lengths = r->from->length_key ? &r->from->length_key : LENGTHS;
    r->n_lengths = r->from->length_key ? 1 : COUNT(LENGTHS);
    r->length = NOT_SEEN;
    r->wanted = calloc(n + r->n_lengths + 2, sizeof *r->wanted);
    r->out->scores = calloc(n, sizeof *r->out->scores);
    TDM_REQUIRE(r->wanted && r->out->scores, TDM_ENOMEM, "%zu fields", n);
    r->out->n_fields = n;
    memcpy(r->wanted, r->options->fields, n * sizeof *r->wanted);
    memcpy(r->wanted + n, lengths, r->n_lengths * sizeof *r->wanted);
    r->wanted[n + r->n_lengths] = r->from->label;
done:
    return st;
}

/* What can be said only when all records are there. */
static tdm_status finish(reading *r, tdm_err *err)
{
    static const char *const NAMES[] = {"human", "machine"};
    tdm_status st = TDM_OK;
    const tdm_max_errors max = r->from->max_errors;
    const double bad = (double)r->bad, all = bad + (double)r->good;
    TDM_REQUIRE(!max.percent || bad * 100 <= max.limit * all, TDM_EFORMAT,
                "%.0f of %.0f records are bad, --max-errors %.15g%%", bad, all, max.limit);
    for (int k = 0; k < 2; k++)
        TDM_REQUIRE(r->texts[k] > 0, TDM_EFORMAT,
                    "there is no %s text among %" PRId64 " records; one class alone cannot be told from another",
                    NAMES[k], r->good);
    r->out->excluded = r->bad;
    if (r->length >= 0 && !r->lengths_differ) {
        r->out->length_field = r->from->length_key ? r->from->length_key : LENGTHS[r->length];
    } else {
        free(r->out->lengths);
        r->out->lengths = NULL;
    }
done:
    return st;
}

tdm_status eval_read(const eval_sources *sources, const eval_options *options, eval_scores *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    reading r = {.from = sources, .options = options, .out = out};
    *out = (eval_scores){0};
    TDM_TRY(prepare(&r, err));
    TDM_TRY(read_all(&r, err));
    TDM_TRY(finish(&r, err));
done:
    free(r.wanted);
    if (st != TDM_OK)
        eval_scores_free(out);
    return st;
}
