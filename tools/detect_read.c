/* tools/detect_read.c - see detect_job.h: lines become records, good records become tokens. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/detect_job.h"

/* A window ends with whichever comes first. BATCHES: so many that the last, which is not full, costs little,
 * and that what comes next is ready by then. RECORDS and BYTES bound the memory, whatever the input. */
enum { WINDOW_BATCHES = 16, WINDOW_RECORDS = 4096, WINDOW_BYTES = 16 << 20 };
enum { NAP_NANOSECONDS = 1000000 };

static tdm_status keep(detect_window *w, const char *p, size_t len, size_t *at, tdm_err *err)
{
    *at = w->arena.len;
    tdm_status st = tdm_buf_put(&w->arena, p ? p : "", p ? len : 0, err);
    return st == TDM_OK ? tdm_buf_put(&w->arena, "", 1, err) : st;
}

/* Room for one more record. */
static tdm_status grow(detect_window *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (w->n_slots < w->cap)
        return TDM_OK;
    const size_t cap = w->cap ? 2 * w->cap : 64;
    detect_slot *slots = realloc(w->slots, cap * sizeof *slots);
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
static tdm_status keep_record(const detect_job *job, detect_window *w, const tdm_record *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool good = r->kind == TDM_RECORD_OK;
    TDM_TRY(grow(w, err));
    detect_slot *s = &w->slots[w->n_slots];
    *s = (detect_slot){.record = *r};
    TDM_TRY(keep(w, r->file, strlen(r->file), &s->file_at, err));
    TDM_TRY(keep(w, r->id_json, r->id_len, &s->id_at, err));
    if (good)
        TDM_TRY(keep(w, r->text, r->text_len, &s->text_at, err));
    if (good && job->args.passthrough)
        TDM_TRY(keep(w, r->source, r->source_len, &s->source_at, err));
    if (!good)
        TDM_TRY(keep(w, r->detail, strlen(r->detail), &s->detail_at, err));
    if (good)
        s->result = w->n_texts++;
    w->n_slots++;
done:
    return st;
}

/* Once the arena has stopped growing, offsets become addresses. */
static void set_addresses(detect_window *w)
{
    for (size_t i = 0; i < w->n_slots; i++) {
        detect_slot *s = &w->slots[i];
        tdm_record *r = &s->record;
        r->file = w->arena.p + s->file_at;
        r->id_json = w->arena.p + s->id_at;
        r->text = w->arena.p + s->text_at;
        r->source = w->arena.p + s->source_at;
        r->detail = w->arena.p + s->detail_at;
        if (r->kind == TDM_RECORD_OK)
            w->texts[s->result] = (tdm_text){.p = r->text, .len = r->text_len};
    }
}

/* Whether to hand on what there is rather than wait for more: whoever sends slowly gets his results, but
 * while there is enough to judge, a window may as well grow. */
static bool should_hand_on(detect_job *job, tdm_pipeline *line)
{
    static const struct timespec NAP = {.tv_nsec = NAP_NANOSECONDS};
    while (tdm_reader_would_block(job->reader)) {
        if (tdm_pipeline_is_hungry(line) || tdm_stopped(&job->reading))
            return true;
        nanosleep(&NAP, NULL);
    }
    return false;
}

/* Tokens of a text, roughly: English has a little more than four bytes in each. */
static int64_t guess_tokens(const detect_job *job, const tdm_record *r)
{
    const int64_t tokens = (int64_t)(r->text_len / 4) + 3;
    const int64_t context = tdm_detector_config(job->detector)->n_context;
    return tokens < context ? tokens : context;
}

/* On an error the window holds the records before it. */
static tdm_status read_records(detect_job *job, tdm_pipeline *line, detect_window *w, bool *at_end,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_record record;
    const int64_t enough = (int64_t)WINDOW_BATCHES * tdm_detector_rows(job->detector);
    int64_t tokens = 0;
    while (w->n_slots < WINDOW_RECORDS && w->arena.len < WINDOW_BYTES && tokens < enough) {
        if (w->n_slots > 0 && should_hand_on(job, line))
            break;
        TDM_TRY(tdm_reader_next(job->reader, &record, err));
        TDM_TRY(tdm_check_stop(&job->reading, err));
        *at_end = record.kind == TDM_RECORD_END;
        if (*at_end)
            break;
        TDM_TRY(keep_record(job, w, &record, err));
        tokens += record.kind == TDM_RECORD_OK ? guess_tokens(job, &record) : 0;
    }
done:
    return st;
}

tdm_status detect_read(void *ctx, tdm_pipeline *line, void *window, bool *at_end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    detect_job *job = ctx;
    detect_window *w = window;
    w->arena.len = 0;
    w->n_slots = w->n_texts = 0;
    if (job->broken == TDM_OK)
        job->broken = read_records(job, line, w, at_end, &job->broken_err);
    if (job->broken != TDM_OK && w->n_slots == 0) {
        *err = job->broken_err;
        return job->broken;
    }
    set_addresses(w);
    tdm_reader_progress(job->reader, &w->bytes_read, &w->bytes_total);
    TDM_TRY(tdm_detector_prepare(job->detector, w->judged, w->texts, w->n_texts, err));
done:
    return st;
}
