/* tools/records.c - see records.h: the three steps, and lines in the order of the records. */
#include "tools/records.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/hash.h"
#include "host/json.h"

/* ---- writing ---- */

static void count(records *r, uint64_t n, uint64_t tokens)
{
    pthread_mutex_lock(&r->lock);
    tdm_progress_add(&r->progress, n, tokens, 0);
    pthread_mutex_unlock(&r->lock);
}

tdm_status records_bad(records *r, const tdm_record *bad, tdm_err *err)
{
    pthread_mutex_lock(&r->lock);
    if (tdm_sink_is_direct(r->run.sink))
        tdm_progress_clear(&r->progress);
    const tdm_status st = tdm_sink_bad(r->run.sink, bad, err);
    if (st == TDM_OK)
        tdm_progress_add(&r->progress, 1, 0, 1);
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
    TDM_TRY(tdm_json_put_string(&r->line, r->common->id_key, strlen(r->common->id_key), err));
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
    TDM_TRY(tdm_sink_put(r->run.sink, r->line.p, r->line.len, err));
    count(r, 1, 0);
done:
    return st;
}

static tdm_status write_slot(records *r, const records_window *w, records_slot *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t tokens = 0;
    switch (s->record.kind) {
    case TDM_RECORD_BAD:
        TDM_TRY(records_bad(r, &s->record, err));
        break;
    case TDM_RECORD_CHUNK:
        TDM_TRY(tdm_sink_end_chunk(r->run.sink, &s->record.chunk, r->chunk_tokens, err));
        r->chunk_tokens = 0;
        break;
    default:
        TDM_TRY(r->steps->put(r->steps->ctx, w, &s->record, s->text, &tokens, err));
        r->chunk_tokens += tokens;
    }
done:
    return st;
}

/* ---- the three steps ---- */

static tdm_status fill(void *ctx, tdm_pipeline *line, void *window, bool *at_end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    records *r = ctx;
    const double start = summary_cpu(CLOCK_THREAD_CPUTIME_ID);
    TDM_TRY(records_read(r, line, window, at_end, err));
    const double got = summary_cpu(CLOCK_THREAD_CPUTIME_ID);
    TDM_TRY(r->steps->prepare(r->steps->ctx, window, err));
    r->cpu.read += got - start;
    r->cpu.tokenise += summary_cpu(CLOCK_THREAD_CPUTIME_ID) - got;
done:
    return st;
}

static void *take(void *ctx, bool wait)
{
    records *r = ctx;
    const records_window *w = tdm_pipeline_take(r->line_of_windows, wait);
    if (!w)
        return NULL;
    pthread_mutex_lock(&r->lock);
    tdm_progress_bytes(&r->progress, w->bytes_read, w->bytes_total);
    pthread_mutex_unlock(&r->lock);
    return w->judged;
}

static void give(void *ctx)
{
    tdm_pipeline_give(((records *)ctx)->line_of_windows);
}

static bool batch_done(void *ctx, size_t texts, int64_t tokens)
{
    records *r = ctx;
    (void)texts; /* records are counted when they are written: a long one takes several passes */
    r->totals.tokens += (uint64_t)tokens;
    count(r, 0, (uint64_t)tokens);
    return !tdm_stopped(&r->stop);
}

static tdm_status empty(void *ctx, void *window, tdm_err *err)
{
    tdm_status st = TDM_OK;
    records *r = ctx;
    const records_window *w = window;
    const double start = summary_cpu(CLOCK_THREAD_CPUTIME_ID);
    for (size_t i = 0; i < w->n_slots; i++)
        TDM_TRY(write_slot(r, w, &w->slots[i], err));
    TDM_TRY(tdm_sink_flush(r->run.sink, err));
done:
    r->cpu.write += summary_cpu(CLOCK_THREAD_CPUTIME_ID) - start;
    return st;
}

/* In a careful worker one window goes round, so that a record is read when the one before it was written. */
static tdm_status run_windows(records *r, records_window *const *windows, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const records_steps *steps = r->steps;
    const bool careful = r->common->worker && worker_is_careful(r->common->worker);
    r->careful = careful ? r->common->worker : NULL;
    if (careful)
        TDM_TRY(steps->try_device(steps->ctx, err));
    const tdm_pipeline_steps line = {r, (void *const *)windows, careful ? 1 : n, fill, empty, &r->stop};
    const double start = summary_cpu(CLOCK_THREAD_CPUTIME_ID);
    TDM_TRY(tdm_pipeline_open(&line, &r->line_of_windows, err));
    st = steps->judge(steps->ctx, &(tdm_window_line){r, take, give, batch_done}, err);
    r->cpu.judge = summary_cpu(CLOCK_THREAD_CPUTIME_ID) - start;
    if (st == TDM_ESTOPPED && tdm_stopped(&r->stop)) /* a lost device says so itself */
        st = tdm_check_stop(&r->stop, err);
    TDM_TRY(tdm_pipeline_close(r->line_of_windows, st, err));
done:
    return st;
}

/* ---- the whole ---- */

void records_init(records *r)
{
    *r = (records){.totals.token_hash = TDM_HASH_START};
    pthread_mutex_init(&r->lock, NULL);
}

void records_set(records *r, const common_args *common, const fields *f, bool passthrough)
{
    r->common = common;
    r->passthrough = passthrough;
    r->reading = fields_reading(f, common, passthrough);
    r->reading.stop = &r->stop;
}

tdm_status records_open(records *r, tdm_err *err)
{
    r->reading.filter = r->run.filter;
    return tdm_reader_open(&r->inputs, &r->reading, &r->reader, err);
}

tdm_status records_run(records *r, const records_steps *steps, records_window *const *windows, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_progress_options watching = run_progress(&r->run, r->common, steps->command, "texts");
    r->steps = steps;
    TDM_TRY(tdm_progress_start(&r->progress, &watching, err));
    const double start = summary_cpu(CLOCK_PROCESS_CPUTIME_ID);
    st = run_windows(r, windows, n, err);
    st = run_finish(&r->run, &r->progress, &r->totals.seconds, st, err);
    summary_steps(&r->cpu, r->run.sink, summary_cpu(CLOCK_PROCESS_CPUTIME_ID) - start);
    r->totals.cpu = &r->cpu;
done:
    return st;
}

void records_window_close(records_window *w)
{
    tdm_buf_free(&w->arena);
    free(w->slots);
    free(w->texts);
    *w = (records_window){0};
}

void records_close(records *r)
{
    tdm_reader_close(r->reader);
    run_close(&r->run);
    tdm_inputs_free(&r->inputs);
    tdm_buf_free(&r->line);
    pthread_mutex_destroy(&r->lock);
}
