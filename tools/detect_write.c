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
    return records_bad(&job->records, r, err);
}

tdm_status detect_put(void *ctx, const records_window *w, tdm_record *r, size_t text, uint64_t *tokens, tdm_err *err)
{
    tdm_status st = TDM_OK;
    detect_job *job = ctx;
    run_totals *totals = &job->records.totals;
    size_t n_ids = 0;
    const tdm_detection *d = tdm_detect_window_result(w->judged, text);
    const int32_t *ids = tdm_detect_window_ids(w->judged, text, &n_ids);
    *tokens = n_ids;
    if (d->outcome != TDM_DETECTED)
        return refuse(job, r, d, err);
    TDM_TRY(detect_begin_line(job, r, d, err));
    TDM_TRY(records_end_line(&job->records, err));
    totals->token_hash = tdm_hash_ids(totals->token_hash, ids, n_ids);
done:
    return st;
}
