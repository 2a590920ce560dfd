/* tools/score_write.c - see score_job.h: results and errors leave in the order of the records. */
#include <inttypes.h>
#include <stddef.h>

#include "host/hash.h"
#include "tools/score_job.h"

enum { CHECK_EVERY = 4096 };

/* A text whose result is being written. */
typedef struct {
    score_job *job;
    const score_window *window;
    const tdm_record *record;
    const score_text *text;
    size_t n; /* tokens that are scored */
    tdm_likelihood likelihood;
} result;

/* A line may have gigabytes. A short one is written all the same: it was paid for. */
tdm_status score_check_signal(const score_job *job, size_t i, tdm_err *err)
{
    return i % CHECK_EVERY == CHECK_EVERY - 1 ? tdm_check_stop(job->records.stop.also, err) : TDM_OK;
}

static tdm_status put_integer(tdm_buf *line, int64_t value, tdm_err *err)
{
    return tdm_buf_printf(line, err, "%" PRId64, value);
}

static double number_of(const tdm_likelihood *l, score_field field)
{
    static const size_t AT[SCORE_N_FIELDS] = {
        [SCORE_FIELD_LOGPROB] = offsetof(tdm_likelihood, logprob),
        [SCORE_FIELD_MEAN_LOGPROB] = offsetof(tdm_likelihood, mean_logprob),
        [SCORE_FIELD_PPL] = offsetof(tdm_likelihood, ppl),
        [SCORE_FIELD_MEAN_RANK] = offsetof(tdm_likelihood, mean_rank),
        [SCORE_FIELD_MEAN_LOGRANK] = offsetof(tdm_likelihood, mean_logrank),
        [SCORE_FIELD_ENTROPY] = offsetof(tdm_likelihood, entropy),
        [SCORE_FIELD_LRR] = offsetof(tdm_likelihood, lrr),
        [SCORE_FIELD_FAST_DETECT] = offsetof(tdm_likelihood, fast_detect),
        [SCORE_FIELD_BINOCULARS] = offsetof(tdm_likelihood, binoculars),
        [SCORE_FIELD_BINOCULARS_PAPER] = offsetof(tdm_likelihood, binoculars_paper),
        [SCORE_FIELD_FAST_DETECT_OBSERVER] = offsetof(tdm_likelihood, fast_detect_observer),
    };
    return *(const double *)((const char *)l + AT[field]);
}

static tdm_status put_buckets(const result *r, tdm_buf *line, tdm_err *err)
{
    int64_t counts[TDM_GLTR_BUCKETS] = {0};
    const tdm_stat *stats = r->window->stats + r->text->found_at;
    for (size_t i = 0; i < r->n; i++)
        counts[tdm_gltr_bucket(stats[i].rank - (r->job->args.buckets == SCORE_TOP11))]++;
    return tdm_buf_printf(line, err, "[%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "]", counts[0], counts[1],
                          counts[2], counts[3]);
}

typedef enum { PER_ID, PER_LOGPROB, PER_RANK, PER_ENTROPY, PER_CROSS, N_PER } per_token;

static tdm_status put_of_token(const result *r, per_token what, size_t i, tdm_buf *line, tdm_err *err)
{
    const size_t at = r->text->found_at + i;
    const tdm_stat *s = &r->window->stats[at];
    switch (what) {
    case PER_ID:
        return put_integer(line, r->window->ids.p[r->text->ids_at + i + 1], err);
    case PER_RANK:
        return put_integer(line, s->rank, err);
    case PER_CROSS:
        return fields_put_float(line, (double)r->window->cross[at].cross, err);
    default:
        return fields_put_float(line, (double)(what == PER_LOGPROB ? s->logprob : s->entropy), err);
    }
}

static tdm_status put_per_token(const result *r, tdm_buf *line, tdm_err *err)
{
    static const char *const NAMES[N_PER] = {"ids", "logprob", "rank", "entropy", "cross"};
    tdm_status st = TDM_OK;
    const int n = r->window->cross ? N_PER : PER_CROSS;
    for (int what = 0; what < n; what++) {
        TDM_TRY(tdm_buf_printf(line, err, "%s\"%s\": [", what ? ", " : "{", NAMES[what]));
        for (size_t i = 0; i < r->n; i++) {
            TDM_TRY(score_check_signal(r->job, i, err));
            TDM_TRY(tdm_buf_put(line, ", ", i ? 2 : 0, err));
            TDM_TRY(put_of_token(r, (per_token)what, i, line, err));
        }
        TDM_TRY(tdm_buf_put(line, "]", 1, err));
    }
    TDM_TRY(tdm_buf_put(line, "}", 1, err));
done:
    return st;
}

static tdm_status put_value(const result *r, score_field field, tdm_buf *line, tdm_err *err)
{
    switch (field) {
    case SCORE_FIELD_REQUEST:
        return score_put_request(r->job, r->record, line, err);
    case SCORE_FIELD_RESULT:
        return score_put_result(r->job, r->window, r->text, line, err);
    case SCORE_FIELD_TOKENS:
        return put_integer(line, r->likelihood.tokens, err);
    case SCORE_FIELD_GLTR:
        return put_buckets(r, line, err);
    case SCORE_FIELD_ALL_TOKENS:
        return put_integer(line, r->text->all_tokens, err);
    case SCORE_FIELD_WINDOWS:
        return put_integer(line, (int64_t)r->text->n_passes, err);
    case SCORE_FIELD_PER_TOKEN:
        return put_per_token(r, line, err);
    default:
        return fields_put_float(line, number_of(&r->likelihood, field), err);
    }
}

static tdm_status put_line(const result *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool first = false;
    score_job *job = r->job;
    tdm_buf *line = &job->records.line;
    TDM_TRY(records_begin_line(&job->records, r->record, &first, err));
    for (size_t i = 0; i < job->fields.n; i++) {
        TDM_TRY(fields_put_key(&job->fields, i, first && i == 0, line, err));
        TDM_TRY(put_value(r, job->shown[i], line, err));
    }
    TDM_TRY(records_end_line(&job->records, err));
done:
    return st;
}

/* A record that could be read but not scored. */
static tdm_status refuse(score_job *job, tdm_record *r, tdm_fault fault, const char *detail, tdm_err *err)
{
    r->kind = TDM_RECORD_BAD;
    r->fault = fault;
    r->detail = detail;
    return records_bad(&job->records, r, err);
}

tdm_status score_put(void *ctx, const records_window *window, tdm_record *record, size_t text, uint64_t *tokens,
                     tdm_err *err)
{
    tdm_status st = TDM_OK;
    score_job *job = ctx;
    run_totals *totals = &job->records.totals;
    const score_window *w = (const score_window *)window;
    const score_text *t = &w->texts[text];
    if (t->n_passes == 0)
        return refuse(job, record, TDM_FAULT_TOO_SHORT, "one token, and none before it to score it by (--bos no)", err);
    result r = {job, w, record, t, t->n_ids - 1, {0}};
    *tokens = t->n_rows;
    if (!tdm_likelihood_of(w->stats + t->found_at, w->cross ? w->cross + t->found_at : NULL, r.n,
                           job->args.entropy == SCORE_ENTROPY_ALL, &r.likelihood))
        return refuse(job, record, TDM_FAULT_NON_FINITE, "a logit is not a finite number", err);
    TDM_TRY(put_line(&r, err));
    totals->windows += t->n_passes;
    totals->token_hash = tdm_hash_ids(totals->token_hash, w->ids.p + t->ids_at, t->n_ids);
done:
    return st;
}
