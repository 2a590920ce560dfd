#include "tools/records.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/json.h"

/* A window ends with whichever comes first: window_tokens, or these, which bound the memory. */
enum { WINDOW_RECORDS = 4096, WINDOW_BYTES = 16 << 20 };
enum { NAP_NANOSECONDS = 1000000 };

void records_close(records *r)
{
    tdm_buf_free(&r->line);
    pthread_mutex_destroy(&r->lock);
}

void records_window_close(records_window *w)
{
    tdm_buf_free(&w->arena);
    free(w->slots);
    free(w->texts);
    *w = (records_window){0};
}

/* ---- reading ---- */

static tdm_status keep(records_window *w, const char *p, size_t len, size_t *at, tdm_err *err)
{
    *at = w->arena.len;
    tdm_status st = tdm_buf_put(&w->arena, p ? p : "", p ? len : 0, err);
    return st == TDM_OK ? tdm_buf_put(&w->arena, "", 1, err) : st;
}

/* Room for one more. */
static tdm_status grow(records_window *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (w->n_slots < w->cap)
        return TDM_OK;
    const size_t cap = w->cap ? 2 * w->cap : 64;
    records_slot *slots = realloc(w->slots, cap * sizeof *slots);
    if (slots)
        w->slots = slots;
    tdm_text *texts = realloc(w->texts, cap * sizeof *texts);
    if (texts)
        w->texts = texts;
    TDM_REQUIRE(slots && texts, TDM_ENOMEM, "window of %zu records", cap);
    w->cap = cap;
done:
    return st;
}

/* The reader's strings live until its next record: copy what will be needed. */
static tdm_status keep_record(const records *r, records_window *w, const tdm_record *record, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool good = record->kind == TDM_RECORD_OK, bad = record->kind == TDM_RECORD_BAD;
    TDM_TRY(grow(w, err));
    records_slot *s = &w->slots[w->n_slots];
    *s = (records_slot){.record = *record, .text = w->n_texts};
    if (good || bad) {
        s->record.file = r->inputs->items[record->file_number].path;
        TDM_TRY(keep(w, record->id_json, record->id_len, &s->id_at, err));
    }
    if (good)
        TDM_TRY(keep(w, record->text, record->text_len, &s->text_at, err));
    if (good && r->passthrough)
        TDM_TRY(keep(w, record->source, record->source_len, &s->source_at, err));
    if (bad)
        TDM_TRY(keep(w, record->detail, strlen(record->detail), &s->detail_at, err));
    w->n_texts += good;
    w->n_slots++;
done:
    return st;
}

/* Once the arena has stopped growing, offsets become addresses. */
static void set_addresses(records_window *w)
{
    for (size_t i = 0; i < w->n_slots; i++) {
        records_slot *s = &w->slots[i];
        tdm_record *record = &s->record;
        if (record->kind == TDM_RECORD_CHUNK)
            continue;
        record->id_json = w->arena.p + s->id_at;
        record->text = w->arena.p + s->text_at;
        record->source = w->arena.p + s->source_at;
        record->detail = w->arena.p + s->detail_at;
        if (record->kind == TDM_RECORD_OK)
            w->texts[s->text] = (tdm_text){.p = record->text, .len = record->text_len};
    }
}

/* Whether to hand on what there is rather than wait for more: whoever sends slowly gets his results, but
 * while there is enough to judge, a window may as well grow. */
static bool should_hand_on(records *r, tdm_pipeline *line)
{
    static const struct timespec NAP = {.tv_nsec = NAP_NANOSECONDS};
    while (tdm_reader_would_block(r->reader)) {
        if (tdm_pipeline_is_hungry(line) || tdm_stopped(&r->stop))
            return true;
        nanosleep(&NAP, NULL);
    }
    return false;
}

/* Tokens of a text, roughly: English has a little more than four bytes in each. */
static int64_t guess_tokens(const records *r, const tdm_record *record)
{
    const int64_t tokens = (int64_t)(record->text_len / 4) + 3;
    return tokens < r->text_tokens ? tokens : r->text_tokens;
}

size_t records_windows(records *r, const common_args *common, size_t n)
{
    const bool careful = common->worker && worker_is_careful(common->worker);
    r->careful = careful ? common->worker : NULL;
    r->chunk_bytes = common->chunk;
    return careful ? 1 : n;
}

/* The next record has the device to itself, unless workers died with it: then it is bad. */
static void announce(const records *r, tdm_record *record)
{
    if (worker_begin(r->careful, record->file_number, record->offset / r->chunk_bytes, record->offset))
        return;
    record->kind = TDM_RECORD_BAD;
    record->fault = TDM_FAULT_DEVICE;
    record->detail = worker_reason(r->careful);
}

/* Whether a window takes no more. */
static bool is_full(const records *r, const records_window *w, int64_t tokens)
{
    return w->n_slots >= WINDOW_RECORDS || w->arena.len >= WINDOW_BYTES || tokens >= r->window_tokens ||
           (r->careful && w->n_texts > 0);
}

static tdm_status read_window(records *r, tdm_pipeline *line, records_window *w, bool *at_end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_record record;
    int64_t tokens = 0;
    while (!is_full(r, w, tokens)) {
        if (w->n_slots > 0 && should_hand_on(r, line))
            break;
        TDM_TRY(tdm_reader_next(r->reader, &record, err));
        TDM_TRY(tdm_check_stop(&r->stop, err));
        *at_end = record.kind == TDM_RECORD_END;
        if (*at_end)
            break;
        if (r->careful && record.kind == TDM_RECORD_OK)
            announce(r, &record);
        TDM_TRY(keep_record(r, w, &record, err));
        tokens += record.kind == TDM_RECORD_OK ? guess_tokens(r, &record) : 0;
    }
done:
    return st;
}

tdm_status records_read(records *r, tdm_pipeline *line, records_window *w, bool *at_end, tdm_err *err)
{
    w->arena.len = 0;
    w->n_slots = w->n_texts = 0;
    if (r->broken == TDM_OK)
        r->broken = read_window(r, line, w, at_end, &r->broken_err);
    if (r->broken != TDM_OK && (w->n_slots == 0 || r->broken == TDM_ESTOPPED)) {
        if (err)
            *err = r->broken_err;
        return r->broken;
    }
    set_addresses(w);
    tdm_reader_progress(r->reader, &w->bytes_read, &w->bytes_total);
    return TDM_OK;
}

/* ---- writing ---- */

void records_count(records *r, uint64_t n, uint64_t tokens)
{
    pthread_mutex_lock(&r->lock);
    tdm_progress_add(&r->progress, n, tokens, 0);
    pthread_mutex_unlock(&r->lock);
}

void records_note_bytes(records *r, const records_window *w)
{
    pthread_mutex_lock(&r->lock);
    tdm_progress_bytes(&r->progress, w->bytes_read, w->bytes_total);
    pthread_mutex_unlock(&r->lock);
}

tdm_status records_bad(records *r, const tdm_record *bad, bool is_new, tdm_err *err)
{
    pthread_mutex_lock(&r->lock);
    if (tdm_sink_is_direct(r->sink))
        tdm_progress_clear(&r->progress);
    const tdm_status st = tdm_sink_bad(r->sink, bad, err);
    if (st == TDM_OK)
        tdm_progress_add(&r->progress, is_new, 0, 1);
    pthread_mutex_unlock(&r->lock);
    return st;
}

/* The bytes of a JSON object up to the end of its last member. */
static size_t open_object_len(const char *source, size_t len)
{
    static const char SPACE[] = " \t\r\n";
    while (len && source[len - 1] != '}')
        len--;
    len -= len > 0;
    while (len && memchr(SPACE, source[len - 1], sizeof SPACE - 1))
        len--;
    return len;
}

/* A record without an id gets one, under the name that ids have in this input. */
static tdm_status put_own_id(records *r, const tdm_record *record, bool *first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_put(&r->line, ", ", *first ? 0 : 2, err));
    TDM_TRY(tdm_json_put_string(&r->line, r->id_key, strlen(r->id_key), err));
    TDM_TRY(tdm_buf_put(&r->line, ": ", 2, err));
    TDM_TRY(tdm_buf_put(&r->line, record->id_json, record->id_len, err));
    *first = false;
done:
    return st;
}

tdm_status records_begin_line(records *r, const tdm_record *record, bool *first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf *line = &r->line;
    line->len = 0;
    *first = false;
    if (r->passthrough) {
        const size_t n = open_object_len(record->source, record->source_len);
        TDM_TRY(tdm_buf_put(line, record->source, n, err));
        *first = n && record->source[n - 1] == '{';
        if (record->has_no_id)
            TDM_TRY(put_own_id(r, record, first, err));
    } else {
        TDM_TRY(tdm_buf_put(line, "{\"id\": ", 7, err));
        TDM_TRY(tdm_buf_put(line, record->id_json, record->id_len, err));
    }
done:
    return st;
}

tdm_status records_end_line(records *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_put(&r->line, "}\n", 2, err));
    TDM_TRY(tdm_sink_put(r->sink, r->line.p, r->line.len, err));
done:
    return st;
}

static tdm_status write_slot(records *r, records_slot *s, records_put *put, void *ctx, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t tokens = 0;
    switch (s->record.kind) {
    case TDM_RECORD_BAD:
        TDM_TRY(records_bad(r, &s->record, true, err));
        break;
    case TDM_RECORD_CHUNK:
        TDM_TRY(tdm_sink_end_chunk(r->sink, &s->record.chunk, r->chunk_tokens, err));
        r->chunk_tokens = 0;
        break;
    default:
        TDM_TRY(put(ctx, &s->record, s->text, &tokens, err));
        r->chunk_tokens += tokens;
    }
done:
    return st;
}

tdm_status records_write(records *r, records_window *w, records_put *put, void *ctx, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < w->n_slots; i++)
        TDM_TRY(write_slot(r, &w->slots[i], put, ctx, err));
    TDM_TRY(tdm_sink_flush(r->sink, err));
done:
    return st;
}
