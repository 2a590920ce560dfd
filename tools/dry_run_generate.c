/* tools/dry_run_generate.c - see dry_run.h: the model writes for two seconds, or longer until a few documents are
 * done. */
#include <math.h>
#include <string.h>

#include "tools/dry_run.h"
#include "tools/sample.h"

/* FEW: with fewer documents nothing is known about their length. SHORT: of how many tokens are those that are
 * written then, to know how many bytes a token has. */
enum { FEW = 16, SHORT = 16 };
static const double PATIENCE = 10; /* seconds that are waited for FEW documents */

typedef struct {
    const dry_run_generator *g;
    tdm_stop stop; /* by a signal, or when the time is over */
    double start, first, last;       /* when it began, of the first and the last step */
    double tokens, tokens_at_first;  /* drawn */
    double documents, bad;           /* delivered */
    double document_tokens, text_bytes, line_bytes; /* of the good ones */
    double packed_from, packed_to;   /* bytes before and behind compression */
    tdm_buf lines, packed;           /* of the chunk */
    uint64_t in_chunk;
} trial;

static tdm_status pack(trial *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    t->packed.len = 0;
    TDM_TRY(tdm_compress(tdm_codec_of_name(t->g->common->out), t->lines.p, t->lines.len, &t->packed, err));
    t->packed_from += (double)t->lines.len;
    t->packed_to += (double)t->packed.len;
    t->lines.len = 0;
    t->in_chunk = 0;
done:
    return st;
}

static tdm_status deliver(void *ctx, const tdm_document *d, tdm_err *err)
{
    tdm_status st = TDM_OK;
    trial *t = ctx;
    const size_t before = t->lines.len;
    t->documents++;
    t->in_chunk++;
    if (d->bad) {
        t->bad++;
    } else {
        TDM_TRY(tdm_document_put(&t->lines, d, err));
        t->document_tokens += d->length;
        t->text_bytes += (double)d->text_len;
        t->line_bytes += (double)(t->lines.len - before);
    }
    if (t->in_chunk >= t->g->chunk)
        TDM_TRY(pack(t, err));
done:
    return st;
}

/* The first step warms up: the clock runs from its end. */
static void tick(void *ctx, int32_t n_tokens)
{
    trial *t = ctx;
    t->last = dry_run_clock();
    t->tokens += n_tokens;
    if (t->first <= 0) {
        t->first = t->last;
        t->tokens_at_first = t->tokens;
    }
    if (t->last - t->first > (t->documents - t->bad < FEW ? PATIENCE : DRY_RUN_SECONDS))
        tdm_stop_set(&t->stop, TDM_STOP_USELESS);
}

static void end_trial(trial *t)
{
    tdm_buf_free(&t->lines);
    tdm_buf_free(&t->packed);
}

/* Write documents until all are written (*complete) or the time is over. */
static tdm_status write_some(trial *t, const tdm_generate_options *options, bool *complete, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const dry_run_generator *g = t->g;
    tdm_generate_options o = *options;
    tdm_generate_totals totals = {0};
    tdm_reader *prompts = NULL;
    const tdm_generate_to to = {.deliver = deliver, .tick = tick, .ctx = t};
    t->stop.also = options->stop;
    o.stop = &t->stop;
    if (g->prompts)
        TDM_TRY(tdm_reader_open(g->prompts, g->reading, &prompts, err));
    t->start = dry_run_clock();
    st = tdm_generate(g->model, g->bpe, &o, prompts, &to, &totals, err);
    if (st == TDM_ESTOPPED && !tdm_stopped(options->stop) && tdm_stopped(&t->stop))
        st = TDM_OK;
    else
        *complete = st == TDM_OK;
    TDM_TRY(st);
    if (t->in_chunk > 0 && (*complete || t->packed_from <= 0))
        TDM_TRY(pack(t, err));
done:
    tdm_reader_close(prompts);
    return st;
}

/* No document was done in time: count them at full length, with the bytes that a token has in short ones. */
static tdm_status take_longest(dry_run_estimate *e, const trial *first, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool complete = false;
    const dry_run_generator *g = first->g;
    trial t = {.g = g};
    tdm_generate_options o = *g->options;
    const double longest = o.length ? o.length : g->config->n_context;
    o.n = o.n < FEW ? o.n : FEW;
    o.batch = o.batch < FEW ? o.batch : FEW;
    o.length = o.length && o.length < SHORT ? o.length : SHORT;
    o.pages = 0;
    TDM_TRY(write_some(&t, &o, &complete, err));
    e->tokens = longest * e->results;
    e->tokens_are_most = true;
    if (t.document_tokens > 0) {
        const double good = t.documents - t.bad;
        const double around = (t.line_bytes - t.text_bytes) / good, in_token = t.text_bytes / t.document_tokens;
        e->out_bytes = e->results * (around + in_token * longest) * t.packed_to / t.packed_from;
    }
done:
    end_trial(&t);
    return st;
}

static double tokens_per_second(const trial *t)
{
    if (t->last > t->first)
        return (t->tokens - t->tokens_at_first) / (t->last - t->first);
    return t->first > t->start ? t->tokens / (t->first - t->start) : 0;
}

/* From what was written to all that will be. */
static tdm_status scale(dry_run_estimate *e, const trial *t, bool complete, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const double good = t->documents - t->bad;
    if (complete || good >= FEW) {
        const double times = good > 0 ? e->results / good : 0;
        e->tokens = t->document_tokens * times;
        e->out_bytes = t->packed_from > 0 ? t->line_bytes * times * t->packed_to / t->packed_from : 0;
    } else {
        TDM_TRY(take_longest(e, t, err));
    }
    e->tried = good;
    const double rate = tokens_per_second(t);
    e->seconds = complete ? t->last - t->start : rate > 0 ? e->tokens / rate : 0;
done:
    return st;
}

static tdm_status count_prompts(dry_run_estimate *e, const dry_run_generator *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    input_sample sample = {0};
    TDM_TRY(sample_take(&sample, g->prompts, g->reading, err));
    e->text_bytes = sample.text_bytes;
    e->records = sample.records;
    e->bad = sample.bad;
    e->records_are_exact = sample.is_exact;
    e->results = (sample.records - sample.bad) * g->options->samples_per_prompt;
done:
    sample_free(&sample);
    return st;
}

tdm_status dry_run_generate(const dry_run_generator *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool complete = false;
    trial t = {.g = g};
    dry_run_estimate e = {.command = "generate",
                          .unit = "documents",
                          .inputs = g->prompts,
                          .results = (double)g->options->n};
    if (g->prompts)
        TDM_TRY(count_prompts(&e, g, err));
    TDM_TRY(write_some(&t, g->options, &complete, err));
    if (complete) /* the trial was the run: prompts that are too long are known by now */
        e.results = t.documents - t.bad;
    TDM_TRY(scale(&e, &t, complete, err));
    e.chunks = ceil(e.results / (double)g->chunk);
    TDM_TRY(dry_run_print(&e, g->common, g->backend, err));
done:
    end_trial(&t);
    return st;
}
