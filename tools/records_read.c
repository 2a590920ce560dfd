/* tools/records_read.c - see records.h: from the reader to windows of records. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/records.h"

/* A window ends with whichever comes first: window_tokens, or these, which bound the memory. */
enum { WINDOW_RECORDS = 4096, WINDOW_BYTES = 16 << 20 };
enum { NAP_NANOSECONDS = 1000000 };

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
        s->record.file = r->inputs.items[record->file_number].path;
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
    return tokens < r->steps->text_tokens ? tokens : r->steps->text_tokens;
}

/* The next record has the device to itself, unless workers died with it: then it is bad. */
static void announce(const records *r, tdm_record *record)
{
    if (worker_begin(r->careful, record->file_number, record->offset / r->common->chunk, record->offset))
        return;
    record->kind = TDM_RECORD_BAD;
    record->fault = TDM_FAULT_DEVICE;
    record->detail = worker_reason(r->careful);
}

/* Whether a window takes no more. */
static bool is_full(const records *r, const records_window *w, int64_t tokens)
{
    return w->n_slots >= WINDOW_RECORDS || w->arena.len >= WINDOW_BYTES || tokens >= r->steps->window_tokens ||
           (r->careful && w->n_slots > 0);
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
