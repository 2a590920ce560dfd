/* tools/dry_run_detect.c - see dry_run.h: the detector judges a sample for two seconds. */
#include <math.h>
#include <stdlib.h>

#include "tools/detect_job.h"
#include "tools/dry_run.h"
#include "tools/sample.h"

enum { WINDOWS = 64 };

/* Records of the sample that lie together, as many as fill a batch. */
typedef struct {
    size_t begin, end;
    tdm_detect_window *judged; /* owned */
} trial_window;

typedef struct {
    detect_job *job;
    input_sample sample;
    tdm_text *texts; /* owned [sample.n] */
    size_t *begins;  /* owned [n_begins] where windows could begin */
    size_t n_begins;
    trial_window windows[WINDOWS]; /* [n], in an order in which the first few are from everywhere */
    size_t n, taken, given;
    double prepare_seconds, write_seconds;
    double start, first, last;      /* when judging began, when the first and the last window were done */
    double tokens, tokens_at_first; /* judged */
    double prepared, nonempty, prepared_tokens; /* weights of what the windows hold, times its tokens */
    double raw_tokens;                          /* of it, without weights */
    double lines, line_bytes, extra_bytes;      /* of results, weights; extra: beside id or source */
    double packed_from, packed_to;              /* bytes before and behind compression */
} trial;

static size_t count_tokens(const trial_window *w)
{
    size_t tokens = 0, n = 0;
    for (size_t i = 0; i < w->end - w->begin; i++) {
        tdm_detect_window_ids(w->judged, i, &n);
        tokens += n;
    }
    return tokens;
}

/* ---- windows ---- */

/* Where windows begin: each holds about what one forward pass takes. */
static tdm_status cut(trial *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const input_sample *s = &t->sample;
    const size_t enough = (size_t)tdm_detector_rows(t->job->detector) * 4; /* bytes, roughly */
    const size_t context = (size_t)tdm_detector_config(t->job->detector)->n_context * 4;
    size_t bytes = enough;
    t->texts = calloc(s->n + 1, sizeof *t->texts);
    t->begins = calloc(s->n + 1, sizeof *t->begins);
    TDM_REQUIRE(t->texts && t->begins, TDM_ENOMEM, "sample of %zu records", s->n);
    for (size_t i = 0; i < s->n; i++) {
        const tdm_record *r = &s->items[i].record;
        t->texts[i] = (tdm_text){r->text, r->text_len};
        if (bytes >= enough || s->items[i].place != s->items[i - 1].place) {
            t->begins[t->n_begins++] = i;
            bytes = 0;
        }
        bytes += r->text_len < context ? r->text_len : context;
    }
    t->begins[t->n_begins] = s->n;
done:
    return st;
}

static bool have_common_factor(size_t a, size_t b)
{
    while (b) {
        const size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a > 1;
}

/* Tokenise WINDOWS windows, evenly chosen, in scattered order. */
static tdm_status prepare(trial *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const double start = dry_run_clock();
    const size_t n = t->n_begins < WINDOWS ? t->n_begins : WINDOWS;
    size_t step = n * 5 / 8 + 1;
    while (have_common_factor(step, n))
        step++;
    for (size_t i = 0; i < n; i++) {
        const size_t which = i * step % n * t->n_begins / n;
        trial_window *w = &t->windows[t->n];
        *w = (trial_window){.begin = t->begins[which], .end = t->begins[which + 1]};
        TDM_TRY(tdm_detect_window_open(t->job->detector, &w->judged, err));
        t->n++;
        TDM_TRY(tdm_detector_prepare(t->job->detector, w->judged, t->texts + w->begin, w->end - w->begin, err));
    }
    t->prepare_seconds = dry_run_clock() - start;
    for (size_t i = 0; i < t->n; i++) {
        const trial_window *w = &t->windows[i];
        t->raw_tokens += (double)count_tokens(w);
        for (size_t k = w->begin; k < w->end; k++) {
            const double weight = t->sample.items[k].weight;
            size_t tokens = 0;
            tdm_detect_window_ids(w->judged, k - w->begin, &tokens);
            t->prepared += weight;
            t->nonempty += tokens ? weight : 0;
            t->prepared_tokens += weight * (double)tokens;
        }
    }
done:
    return st;
}

/* ---- judging ---- */

static void *take(void *ctx, bool wait)
{
    trial *t = ctx;
    (void)wait;
    const bool is_over = t->given > 0 && dry_run_clock() - t->first > DRY_RUN_SECONDS;
    return t->taken < t->n && !is_over ? t->windows[t->taken++].judged : NULL;
}

/* The first window warms up: the clock runs from its end. */
static void give(void *ctx)
{
    trial *t = ctx;
    t->last = dry_run_clock();
    t->tokens += (double)count_tokens(&t->windows[t->given]);
    if (t->given++ == 0) {
        t->first = t->last;
        t->tokens_at_first = t->tokens;
    }
}

static bool go_on(void *ctx, size_t texts, int64_t tokens)
{
    (void)texts;
    (void)tokens;
    return !tdm_stopped(&((trial *)ctx)->job->records.stop);
}

static double tokens_per_second(const trial *t)
{
    if (t->given > 1 && t->last > t->first)
        return (t->tokens - t->tokens_at_first) / (t->last - t->first);
    return t->first > t->start ? t->tokens / (t->first - t->start) : 0;
}

/* ---- what would be written ---- */

static tdm_status pack(trial *t, tdm_buf *lines, tdm_buf *packed, tdm_err *err)
{
    tdm_status st = TDM_OK;
    packed->len = 0;
    TDM_TRY(tdm_compress(tdm_codec_of_name(t->job->args.common.out), lines->p, lines->len, packed, err));
    t->packed_from += (double)lines->len;
    t->packed_to += (double)packed->len;
    lines->len = 0;
done:
    return st;
}

/* The lines of the windows that were judged, packed in pieces of `piece` bytes as chunks are. */
static tdm_status write_lines(trial *t, double piece, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool passthrough = t->job->args.passthrough;
    tdm_buf lines = {0}, packed = {0}, *line = &t->job->records.line;
    const double start = dry_run_clock();
    for (size_t i = 0; i < t->given; i++) {
        const trial_window *w = &t->windows[i];
        for (size_t k = w->begin; k < w->end; k++) {
            const sample_item *item = &t->sample.items[k];
            const tdm_detection *d = tdm_detect_window_result(w->judged, k - w->begin);
            if (d->outcome != TDM_DETECTED)
                continue;
            TDM_TRY(detect_begin_line(t->job, &item->record, d, err));
            TDM_TRY(tdm_buf_put(&lines, line->p, line->len, err));
            TDM_TRY(tdm_buf_put(&lines, "}\n", 2, err));
            const double base = (double)(passthrough ? item->record.source_len : item->record.id_len);
            t->lines += item->weight;
            t->extra_bytes += item->weight * ((double)line->len + 2 - base);
            if ((double)lines.len >= piece)
                TDM_TRY(pack(t, &lines, &packed, err));
        }
    }
    if (t->packed_from <= 0 || (double)lines.len > piece / 2)
        TDM_TRY(pack(t, &lines, &packed, err));
    t->write_seconds = dry_run_clock() - start;
done:
    tdm_buf_free(&lines);
    tdm_buf_free(&packed);
    return st;
}

/* Bytes of an id, or with --passthrough of a record, on average over the whole sample. */
static double mean_base(const trial *t)
{
    const input_sample *s = &t->sample;
    double bytes = 0, weight = 0;
    if (t->job->args.passthrough)
        return s->records > s->bad ? s->source_bytes / (s->records - s->bad) : 0;
    for (size_t i = 0; i < s->n; i++) {
        bytes += s->items[i].weight * (double)s->items[i].record.id_len;
        weight += s->items[i].weight;
    }
    return weight > 0 ? bytes / weight : 0;
}

/* ---- from the sample to the whole ---- */

/* Of files that must be read to be counted half a chunk more, on average, than what is full. */
static double count_chunks(const trial *t)
{
    const tdm_inputs *inputs = &t->job->records.inputs;
    const size_t chunk = t->job->args.common.chunk;
    double chunks = 0, packed_files = 0;
    for (size_t i = 0; i < inputs->n; i++) {
        const uint64_t n = tdm_input_chunks(&inputs->items[i], chunk);
        packed_files += n == TDM_CHUNKS_UNKNOWN;
        chunks += n == TDM_CHUNKS_UNKNOWN ? 0 : (double)n;
    }
    if (packed_files <= 0)
        return chunks;
    return chunks + fmax(packed_files, floor(t->sample.packed_text_bytes / (double)chunk + packed_files / 2));
}

/* Reading and tokenising take turns on one thread; judging and writing have one each. */
static double slowest(const trial *t, const dry_run_estimate *e)
{
    const input_sample *s = &t->sample;
    const double rate = tokens_per_second(t);
    double reading = s->bytes_read > 0 ? s->seconds * s->text_bytes / s->bytes_read : 0;
    if (t->raw_tokens > 0)
        reading += t->prepare_seconds * e->tokens / t->raw_tokens;
    const double judging = rate > 0 ? e->tokens / rate : 0;
    const double writing = e->tried > 0 ? t->write_seconds * e->results / e->tried : 0;
    return fmax(reading, fmax(judging, writing));
}

static tdm_status estimate(trial *t, dry_run_estimate *e, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const input_sample *s = &t->sample;
    const double good = s->records - s->bad;
    *e = (dry_run_estimate){.command = "detect",
                            .unit = "texts",
                            .inputs = &t->job->records.inputs,
                            .text_bytes = s->text_bytes,
                            .records = s->records,
                            .bad = s->bad,
                            .records_are_exact = s->is_exact,
                            .chunks = count_chunks(t)};
    if (t->prepared > 0) {
        e->results = good * t->nonempty / t->prepared;
        e->tokens = good * t->prepared_tokens / t->prepared;
    }
    for (size_t i = 0; i < t->given; i++)
        e->tried += (double)(t->windows[i].end - t->windows[i].begin);
    TDM_TRY(write_lines(t, e->results * (mean_base(t) + 100) / fmax(e->chunks, 1), err));
    if (t->lines > 0)
        e->out_bytes = e->results * (mean_base(t) + t->extra_bytes / t->lines) * t->packed_to / t->packed_from;
    e->seconds = slowest(t, e);
done:
    return st;
}

static tdm_status try(trial *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    dry_run_estimate e;
    const tdm_window_line line = {t, take, give, go_on};
    TDM_TRY(sample_take(&t->sample, &t->job->records.inputs, &t->job->records.reading, err));
    TDM_TRY(tdm_detector_load(t->job->detector, err));
    TDM_TRY(cut(t, err));
    TDM_TRY(prepare(t, err));
    t->start = dry_run_clock();
    st = tdm_detector_judge(t->job->detector, &line, err);
    if (st == TDM_ESTOPPED && tdm_stopped(&t->job->records.stop))
        st = tdm_check_stop(&t->job->records.stop, err);
    TDM_TRY(st);
    TDM_TRY(estimate(t, &e, err));
    TDM_TRY(dry_run_print(&e, &t->job->args.common, &t->job->backend, err));
done:
    return st;
}

tdm_status detect_dry_run(detect_job *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool idle = false;
    trial *t = NULL;
    TDM_TRY(dry_run_is_idle(&job->args.common, &idle, err));
    if (idle)
        goto done;
    t = calloc(1, sizeof *t);
    TDM_REQUIRE(t, TDM_ENOMEM, "trial");
    t->job = job;
    st = try(t, err);
    for (size_t i = 0; i < t->n; i++)
        tdm_detect_window_close(t->windows[i].judged);
    sample_free(&t->sample);
    free(t->texts);
    free(t->begins);
done:
    free(t);
    return st;
}
