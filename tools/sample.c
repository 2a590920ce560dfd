#include "tools/sample.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* WHOLE: input that is simply read; unless it decompresses to more than MOST chunks a file. PLACES: of larger input.
 * START: chunks that are read from the start of a file. KEPT: of what is kept, for all places together. */
enum { WHOLE = 16 << 20, MOST = 64, PLACES = 32, START = 6, KEPT = 64 << 20 };

typedef struct {
    size_t file;
    uint64_t first;    /* chunk */
    uint64_t n_chunks; /* at most */
    double share;      /* of the disk bytes of all inputs that it stands for */
} place;

/* What one place holds. */
typedef struct {
    double records, bad, text_bytes, source_bytes;
    double disk_bytes;
    bool is_whole; /* what is behind it in the file has been read too */
} finding;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- reading a place ---- */

static bool is_not_before(void *ctx, size_t file, uint64_t number)
{
    (void)file;
    return number >= ((const place *)ctx)->first;
}

static tdm_status open_place(const tdm_inputs *inputs, const tdm_reader_options *reading, place *p,
                             tdm_inputs *one, tdm_reader **reader, tdm_err *err)
{
    tdm_reader_options options = *reading;
    *one = (tdm_inputs){&inputs->items[p->file], 1, inputs->items[p->file].size};
    options.chunk_bytes = TDM_CHUNK_BYTES;
    options.filter = (tdm_chunk_filter){.ctx = p, .is_wanted = is_not_before};
    return tdm_reader_open(one, &options, reader, err);
}

static tdm_status keep_bytes(input_sample *s, const char *p, size_t len, size_t *at, tdm_err *err)
{
    *at = s->arena.len;
    return tdm_buf_put(&s->arena, p, len, err);
}

static tdm_status keep(input_sample *s, const tdm_record *r, size_t number, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 256;
        sample_item *items = realloc(s->items, cap * sizeof *items);
        TDM_REQUIRE(items, TDM_ENOMEM, "sample of %zu records", cap);
        s->items = items;
        s->cap = cap;
    }
    sample_item *item = &s->items[s->n];
    *item = (sample_item){.record = *r, .place = number};
    TDM_TRY(keep_bytes(s, r->id_json, r->id_len, &item->id_at, err));
    TDM_TRY(keep_bytes(s, r->text, r->text_len, &item->text_at, err));
    TDM_TRY(keep_bytes(s, r->source, r->source_len, &item->source_at, err));
    s->n++;
done:
    return st;
}

static tdm_status read_place(input_sample *s, const tdm_inputs *inputs, const tdm_reader_options *reading,
                             place *p, size_t number, size_t room, finding *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_inputs one;
    tdm_reader *reader = NULL;
    tdm_record r = {0};
    uint64_t n = 0, consumed = 0, total = 0;
    TDM_TRY(open_place(inputs, reading, p, &one, &reader, err));
    while (n < p->n_chunks && !f->is_whole) {
        TDM_TRY(tdm_reader_next(reader, &r, err));
        TDM_TRY(tdm_check_stop(reading->stop, err));
        if (r.kind == TDM_RECORD_END) { /* an empty file */
            f->is_whole = true;
            break;
        }
        if (r.kind == TDM_RECORD_CHUNK) {
            tdm_reader_progress(reader, &consumed, &total);
            f->is_whole = r.chunk.is_last;
            n++;
            continue;
        }
        f->records++;
        f->bad += r.kind == TDM_RECORD_BAD;
        f->text_bytes += (double)r.source_len + 1;
        f->source_bytes += r.kind == TDM_RECORD_OK ? (double)r.source_len : 0;
        if (r.kind == TDM_RECORD_OK && s->arena.len < room)
            TDM_TRY(keep(s, &r, number, err));
    }
    const uint64_t begin = p->first * TDM_CHUNK_BYTES, most = one.bytes > begin ? one.bytes - begin : 0;
    const uint64_t read = tdm_input_is_seekable(one.items) ? n * TDM_CHUNK_BYTES : consumed;
    f->disk_bytes = (double)(f->is_whole || read > most ? most : read);
done:
    tdm_reader_close(reader);
    return st;
}

/* Read a place, and let what it holds stand for its share of the whole. */
static tdm_status look(input_sample *s, const tdm_inputs *inputs, const tdm_reader_options *reading,
                       place *p, size_t number, size_t room, tdm_err *err)
{
    tdm_status st = TDM_OK;
    finding f = {0};
    const size_t before = s->n;
    TDM_TRY(read_place(s, inputs, reading, p, number, room, &f, err));
    const double times = f.disk_bytes > 0 ? p->share / f.disk_bytes : 0;
    s->records += f.records * times;
    s->bad += f.bad * times;
    s->text_bytes += f.text_bytes * times;
    s->source_bytes += f.source_bytes * times;
    if (!tdm_input_is_seekable(&inputs->items[p->file]))
        s->packed_text_bytes += f.text_bytes * times;
    s->bytes_read += f.text_bytes;
    s->is_exact = s->is_exact && f.is_whole;
    const double stands_for = s->n > before ? (f.records - f.bad) * times / (double)(s->n - before) : 0;
    for (size_t i = before; i < s->n; i++)
        s->items[i].weight = stands_for;
done:
    return st;
}

/* ---- choosing places ---- */

/* Whether the first good record of a file has no id. */
static tdm_status has_no_ids(const tdm_inputs *inputs, const tdm_reader_options *reading, size_t file,
                             bool *yes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_inputs one;
    tdm_reader *reader = NULL;
    tdm_record r = {0};
    place start = {.file = file};
    TDM_TRY(open_place(inputs, reading, &start, &one, &reader, err));
    do {
        TDM_TRY(tdm_reader_next(reader, &r, err));
    } while (r.kind == TDM_RECORD_BAD);
    *yes = r.kind == TDM_RECORD_OK && r.has_no_id;
done:
    tdm_reader_close(reader);
    return st;
}

/* PLACES equal parts of the disk bytes: what is in the middle of each, where that can be read. Parts with
 * the same place share it. */
static tdm_status choose(const tdm_inputs *inputs, const tdm_reader_options *reading, place *places,
                         size_t *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const double share = (double)inputs->bytes / PLACES;
    size_t file = 0, asked = SIZE_MAX;
    double before = 0; /* bytes of the files before this one */
    bool from_start = false;
    *n = 0;
    for (size_t i = 0; i < PLACES; i++) {
        const double at = ((double)i + 0.5) * share;
        for (; file + 1 < inputs->n && at >= before + (double)inputs->items[file].size; file++)
            before += (double)inputs->items[file].size;
        if (file != asked) {
            from_start = !tdm_input_is_seekable(&inputs->items[file]);
            if (!from_start)
                TDM_TRY(has_no_ids(inputs, reading, file, &from_start, err));
            asked = file;
        }
        const uint64_t first = from_start ? 0 : (uint64_t)(at - before) / TDM_CHUNK_BYTES;
        if (*n > 0 && places[*n - 1].file == file && places[*n - 1].first == first)
            places[*n - 1].share += share;
        else
            places[(*n)++] = (place){file, first, from_start ? START : 1, share};
    }
done:
    return st;
}

static tdm_status look_around(input_sample *s, const tdm_inputs *inputs, const tdm_reader_options *reading,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    place places[PLACES];
    size_t n = 0;
    s->is_exact = false;
    TDM_TRY(choose(inputs, reading, places, &n, err));
    for (size_t i = 0; i < n; i++)
        TDM_TRY(look(s, inputs, reading, &places[i], i, (i + 1) * (KEPT / n), err));
done:
    return st;
}

static tdm_status read_all(input_sample *s, const tdm_inputs *inputs, const tdm_reader_options *reading,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < inputs->n; i++) {
        place all = {.file = i, .n_chunks = MOST, .share = (double)inputs->items[i].size};
        TDM_TRY(look(s, inputs, reading, &all, i, KEPT, err));
    }
done:
    return st;
}

tdm_status sample_take(input_sample *s, const tdm_inputs *inputs, const tdm_reader_options *reading,
                       tdm_err *err)
{
    tdm_status st = TDM_OK;
    *s = (input_sample){.is_exact = true};
    for (size_t i = 0; i < inputs->n; i++)
        TDM_REQUIRE(inputs->items[i].is_regular, TDM_EARG, "--dry-run: %s can be read only once; give it files",
                    strcmp(inputs->items[i].path, "-") ? inputs->items[i].path : "stdin");
    const double start = now();
    TDM_TRY(inputs->bytes <= WHOLE ? read_all(s, inputs, reading, err)
                                   : look_around(s, inputs, reading, err));
    s->seconds = now() - start;
    for (size_t i = 0; i < s->n; i++) { /* the arena has stopped growing */
        sample_item *item = &s->items[i];
        item->record.id_json = s->arena.p + item->id_at;
        item->record.text = s->arena.p + item->text_at;
        item->record.source = s->arena.p + item->source_at;
    }
done:
    return st;
}

void sample_free(input_sample *s)
{
    tdm_buf_free(&s->arena);
    free(s->items);
    *s = (input_sample){0};
}
