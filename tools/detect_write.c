/* tools/detect_write.c - see detect_job.h: results and errors leave in the order of the records. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "host/hash.h"
#include "host/json.h"
#include "tools/detect_job.h"

/* 9 significant digits, and a number that every reader takes for a float: 1 becomes 1.0. */
static tdm_status put_float(tdm_buf *line, double value, tdm_err *err)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", value);
    return tdm_buf_printf(line, err, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

/* The six fields, each behind a comma unless it is the first of its object. */
static tdm_status put_fields(detect_job *job, const tdm_detection *d, bool first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf *line = &job->result;
    const double floats[] = {d->fake, d->real, (double)d->logit_fake, (double)d->logit_real};
    const int64_t counts[] = {d->counts.all_tokens, d->counts.used_tokens};
    for (size_t i = 0; i < DETECT_FIELDS; i++) {
        TDM_TRY(tdm_buf_printf(line, err, "%s%.*s: ", first && i == 0 ? "" : ", ",
                               (int)job->json_keys[i].len, job->json_keys[i].p));
        if (i < COUNT(floats))
            TDM_TRY(put_float(line, floats[i], err));
        else
            TDM_TRY(tdm_buf_printf(line, err, "%" PRId64, counts[i - COUNT(floats)]));
    }
done:
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
static tdm_status put_own_id(detect_job *job, const tdm_record *r, bool *first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *key = job->args.common.id_key;
    TDM_TRY(tdm_buf_put(&job->result, ", ", *first ? 0 : 2, err));
    TDM_TRY(tdm_json_put_string(&job->result, key, strlen(key), err));
    TDM_TRY(tdm_buf_put(&job->result, ": ", 2, err));
    TDM_TRY(tdm_buf_put(&job->result, r->id_json, r->id_len, err));
    *first = false;
done:
    return st;
}

static tdm_status put_result(detect_job *job, const tdm_record *r, const tdm_detection *d,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf *line = &job->result;
    bool first = false;
    line->len = 0;
    if (job->args.passthrough) {
        const size_t n = open_object_len(r->source, r->source_len);
        TDM_TRY(tdm_buf_put(line, r->source, n, err));
        first = n && r->source[n - 1] == '{';
        if (r->has_no_id)
            TDM_TRY(put_own_id(job, r, &first, err));
    } else {
        TDM_TRY(tdm_buf_put(line, "{\"id\": ", 7, err));
        TDM_TRY(tdm_buf_put(line, r->id_json, r->id_len, err));
    }
    TDM_TRY(put_fields(job, d, first, err));
    TDM_TRY(tdm_buf_put(line, "}\n", 2, err));
    TDM_TRY(tdm_sink_put(job->sink, line->p, line->len, err));
done:
    return st;
}

/* A record that could be read but not judged. */
static void refuse(tdm_record *r, const tdm_detection *d)
{
    r->kind = TDM_RECORD_BAD;
    r->fault = d->outcome == TDM_DETECT_EMPTY ? TDM_FAULT_EMPTY : TDM_FAULT_NON_FINITE;
    r->detail = d->outcome == TDM_DETECT_EMPTY ? "the text holds nothing but white space"
                                               : "a logit is not a finite number";
}

/* An error record may share the terminal with the progress line. */
static tdm_status put_bad(detect_job *job, const tdm_record *r, tdm_err *err)
{
    pthread_mutex_lock(&job->progress_lock);
    if (tdm_sink_is_direct(job->sink))
        tdm_progress_clear(&job->progress);
    const tdm_status st = tdm_sink_bad(job->sink, r, err);
    if (st == TDM_OK)
        tdm_progress_add(&job->progress, r->fault != TDM_FAULT_NON_FINITE, 0, 1);
    pthread_mutex_unlock(&job->progress_lock);
    return st;
}

static tdm_status put_record(detect_job *job, detect_window *w, detect_slot *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n_ids = 0;
    tdm_record *r = &s->record;
    if (r->kind == TDM_RECORD_BAD)
        return put_bad(job, r, err);
    const tdm_detection *d = tdm_detect_window_result(w->judged, s->result);
    if (d->outcome != TDM_DETECTED) {
        refuse(r, d);
        return put_bad(job, r, err);
    }
    TDM_TRY(put_result(job, r, d, err));
    const int32_t *ids = tdm_detect_window_ids(w->judged, s->result, &n_ids);
    job->totals.token_hash = tdm_hash_ids(job->totals.token_hash, ids, n_ids);
done:
    return st;
}

tdm_status detect_write(void *ctx, void *window, tdm_err *err)
{
    tdm_status st = TDM_OK;
    detect_job *job = ctx;
    detect_window *w = window;
    for (size_t i = 0; i < w->n_slots; i++)
        TDM_TRY(put_record(job, w, &w->slots[i], err));
    TDM_TRY(tdm_sink_flush(job->sink, err));
done:
    return st;
}
