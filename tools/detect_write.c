/* tools/detect_write.c - see detect_job.h: results and errors leave in the order of the records. */
#include <inttypes.h>

#include "host/hash.h"
#include "tools/detect_job.h"

static tdm_status put_fields(detect_job *job, const tdm_detection *d, bool first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf *line = &job->records.line;
    const double floats[] = {d->fake, d->real, (double)d->logit_fake, (double)d->logit_real};
    const int64_t counts[] = {d->counts.all_tokens, d->counts.used_tokens};
    for (size_t i = 0; i < job->fields.n; i++) {
        TDM_TRY(fields_put_key(&job->fields, i, first && i == 0, line, err));
        if (i < COUNT(floats))
            TDM_TRY(fields_put_float(line, floats[i], err));
        else
            TDM_TRY(tdm_buf_printf(line, err, "%" PRId64, counts[i - COUNT(floats)]));
    }
done:
    return st;
}

tdm_status detect_begin_line(detect_job *job, const tdm_record *r, const tdm_detection *d, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool first = false;
    TDM_TRY(records_begin_line(&job->records, r, &first, err));
    TDM_TRY(put_fields(job, d, first, err));
done:
    return st;
}

/* A record that could be read but not judged. */
static tdm_status refuse(detect_job *job, tdm_record *r, const tdm_detection *d, tdm_err *err)
{
    const bool empty = d->outcome == TDM_DETECT_EMPTY;
    r->kind = TDM_RECORD_BAD;
    r->fault = empty ? TDM_FAULT_EMPTY : TDM_FAULT_NON_FINITE;
    r->detail = empty ? "the text holds nothing but white space" : "a logit is not a finite number";
    return records_bad(&job->records, r, empty, err);
}

typedef struct {
    detect_job *job;
    const tdm_detect_window *judged;
} writing;

static tdm_status put_record(void *ctx, tdm_record *r, size_t text, uint64_t *tokens, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const writing *w = ctx;
    size_t n_ids = 0;
    const tdm_detection *d = tdm_detect_window_result(w->judged, text);
    const int32_t *ids = tdm_detect_window_ids(w->judged, text, &n_ids);
    *tokens = n_ids;
    if (d->outcome != TDM_DETECTED)
        return refuse(w->job, r, d, err);
    TDM_TRY(detect_begin_line(w->job, r, d, err));
    TDM_TRY(records_end_line(&w->job->records, err));
    w->job->totals.token_hash = tdm_hash_ids(w->job->totals.token_hash, ids, n_ids);
done:
    return st;
}

tdm_status detect_write(void *ctx, void *window, tdm_err *err)
{
    detect_job *job = ctx;
    detect_window *w = window;
    writing to = {job, w->judged};
    const double start = summary_cpu(CLOCK_THREAD_CPUTIME_ID);
    const tdm_status st = records_write(&job->records, &w->records, put_record, &to, err);
    job->cpu.write += summary_cpu(CLOCK_THREAD_CPUTIME_ID) - start;
    return st;
}
