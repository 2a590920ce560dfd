#include "host/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "host/metrics.h"

enum { BAR_CELLS = 20, DEFAULT_COLUMNS = 80 };

static const double METRICS_EVERY = 5; /* seconds */

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool is_live_terminal(FILE *to)
{
    const char *term = getenv("TERM");
    const int fd = fileno(to);
    return fd >= 0 && isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

/* ---- numbers ---- */

/* The share that is done, from records or else from bytes; -1 when unknown. */
static double share_done(const tdm_progress *p)
{
    double share = -1;
    if (p->set.total)
        share = (double)p->done / (double)p->set.total;
    else if (p->bytes_total)
        share = (double)p->bytes_done / (double)p->bytes_total;
    return share > 1 ? 1 : share;
}

/* Seconds to come at the mean rate of this run so far; -1 when unknown. */
static double seconds_left(const tdm_progress *p, double seconds)
{
    const bool by_records = p->set.total > 0;
    const double done = (double)(by_records ? p->done : p->bytes_done);
    const double all = (double)(by_records ? p->set.total : p->bytes_total);
    const double gained = done - (double)(by_records ? p->set.records_before : p->bytes_before);
    if (all <= 0 || gained <= 0)
        return -1;
    return all > done ? seconds * (all - done) / gained : 0;
}

static uint64_t records_of_run(const tdm_progress *p)
{
    return p->done - p->set.records_before;
}

static double per_second(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

/* ---- text ---- */

typedef struct {
    char *p;
    size_t size, len;
} text;

__attribute__((format(printf, 2, 3))) static void put(text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(t->p + t->len, t->size - t->len, fmt, args);
    va_end(args);
    if (n > 0)
        t->len = t->len + (size_t)n < t->size ? t->len + (size_t)n : t->size - 1;
}

/* 950, 12.3k, 4.56M: three digits are enough for a rate. */
static void put_short(text *t, double value)
{
    static const char UNITS[] = {'k', 'M', 'G', 'T'};
    int unit = -1;
    for (; value >= 999.5 && unit < 3; unit++)
        value /= 1000;
    if (unit < 0)
        put(t, "%.*f", value < 99.95 ? 1 : 0, value);
    else
        put(t, "%.*f%c", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, UNITS[unit]);
}

/* 0:07, 12:30, 3:05:09 */
static void put_duration(text *t, double seconds)
{
    const uint64_t s = seconds < 1e9 ? (uint64_t)(seconds + 0.5) : UINT64_C(1000000000);
    if (s >= 3600)
        put(t, "%" PRIu64 ":", s / 3600);
    put(t, s >= 3600 ? "%02" PRIu64 ":%02" PRIu64 : "%" PRIu64 ":%02" PRIu64, s / 60 % 60, s % 60);
}

static void put_bar(text *t, double share, int cells)
{
    const int full = (int)(share * cells);
    put(t, " [");
    for (int i = 0; i < cells; i++)
        put(t, "%c", i < full ? '=' : i == full ? '>' : ' ');
    put(t, "]");
}

/* "tandem detect: [===>   ] 5/10 texts (50%)", or at the end "tandem detect: 10 texts in 0:02" */
static void put_done(text *t, const tdm_progress *p, double seconds, bool finished, int cells)
{
    const double share = share_done(p);
    put(t, "tandem %s:", p->set.command);
    if (p->set.mode == TDM_PROGRESS_BAR && share >= 0 && !finished && cells > 0)
        put_bar(t, share, cells);
    put(t, " %" PRIu64, p->done);
    if (p->set.total && !finished)
        put(t, "/%" PRIu64, p->set.total);
    put(t, " %s", p->set.unit);
    if (finished) {
        if (p->set.records_before)
            put(t, " (%" PRIu64 " of them before)", p->set.records_before);
        put(t, " in ");
        put_duration(t, seconds);
    } else if (share >= 0) {
        put(t, " (%d%%)", (int)(share * 100));
    }
}

/* cells  of a bar */
static void put_line(text *t, const tdm_progress *p, double seconds, bool finished, int cells)
{
    const double left = seconds_left(p, seconds);
    put_done(t, p, seconds, finished, cells);
    put(t, ", ");
    put_short(t, per_second(records_of_run(p), seconds));
    put(t, "/s");
    if (p->tokens) {
        put(t, ", ");
        put_short(t, per_second(p->tokens, seconds));
        put(t, " tokens/s");
    }
    if (p->bad)
        put(t, ", %" PRIu64 " bad", p->bad);
    if (left >= 0 && !finished) {
        put(t, ", ETA ");
        put_duration(t, left);
    }
}

static void put_event(text *t, const tdm_progress *p, double seconds, tdm_progress_event event)
{
    static const char *const NAMES[] = {"start", "progress", "finish", "stop"};
    const double left = seconds_left(p, seconds);
    put(t,
        "{\"event\": \"%s\", \"command\": \"%s\", \"unit\": \"%s\", \"rank\": %" PRId64
        ", \"ranks\": %" PRId64 ", \"before\": %" PRIu64 ", \"done\": %" PRIu64,
        NAMES[event], p->set.command, p->set.unit, p->set.rank.index, p->set.rank.count,
        p->set.records_before, p->done);
    if (p->set.total)
        put(t, ", \"total\": %" PRIu64, p->set.total);
    if (p->bytes_total)
        put(t, ", \"bytes_done\": %" PRIu64 ", \"bytes_total\": %" PRIu64, p->bytes_done,
            p->bytes_total);
    put(t, ", \"tokens\": %" PRIu64 ", \"bad\": %" PRIu64 ", \"seconds\": %.3f", p->tokens, p->bad,
        seconds);
    put(t, ", \"records_per_second\": %.3f, \"tokens_per_second\": %.3f",
        per_second(records_of_run(p), seconds), per_second(p->tokens, seconds));
    if (left >= 0 && event == TDM_EVENT_PROGRESS)
        put(t, ", \"eta\": %.1f", left);
    put(t, "}");
}

static bool is_shown(const tdm_progress *p, tdm_progress_event event)
{
    return p->set.mode == TDM_PROGRESS_JSON ||
           (p->set.mode != TDM_PROGRESS_NONE &&
            (event == TDM_EVENT_PROGRESS || event == TDM_EVENT_FINISH));
}

size_t tdm_progress_format(const tdm_progress *p, double seconds, int columns, tdm_progress_event event,
                           char *out, size_t size)
{
    text t = {.p = out, .size = size};
    if (size)
        out[0] = '\0';
    if (size == 0 || !is_shown(p, event))
        return 0;
    if (p->set.mode == TDM_PROGRESS_JSON)
        put_event(&t, p, seconds, event);
    else
        put_line(&t, p, seconds, event == TDM_EVENT_FINISH, BAR_CELLS);
    /* a live line that wraps could not be overwritten; the last column stays free. The bar gives way first */
    const bool is_long = p->set.mode == TDM_PROGRESS_BAR && columns > 1 && t.len >= (size_t)columns;
    if (is_long) {
        const int cells = BAR_CELLS - ((int)t.len - columns + 1);
        t.len = 0;
        put_line(&t, p, seconds, event == TDM_EVENT_FINISH, cells);
    }
    if (is_long && t.len >= (size_t)columns)
        t.len = (size_t)columns - 1;
    out[t.len] = '\0';
    return t.len;
}

/* ---- printing ---- */

static int columns_of(FILE *to)
{
    struct winsize size = {0};
    const int fd = fileno(to);
    if (fd >= 0 && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return DEFAULT_COLUMNS;
}

static void print(const tdm_progress *p, double seconds, tdm_progress_event event)
{
    char line[1024];
    const bool is_bar = p->set.mode == TDM_PROGRESS_BAR;
    if (!tdm_progress_format(p, seconds, is_bar ? columns_of(p->set.to) : 0, event, line, sizeof line))
        return;
    if (is_bar) /* back to the left, and clear what the last line left over */
        fprintf(p->set.to, "\r%s\033[K%s", line, event == TDM_EVENT_FINISH ? "\n" : "");
    else
        fprintf(p->set.to, "%s\n", line);
    fflush(p->set.to);
}

static tdm_status write_metrics(const tdm_progress *p, double seconds, tdm_progress_event event,
                                tdm_err *err)
{
    if (!p->set.metrics_file)
        return TDM_OK;
    const double updated = seconds_of(CLOCK_REALTIME);
    const tdm_metrics m = {.command = p->set.command,
                           .unit = p->set.unit,
                           .rank = p->set.rank,
                           .is_up = event == TDM_EVENT_START || event == TDM_EVENT_PROGRESS,
                           .is_finished = event == TDM_EVENT_FINISH,
                           .records = records_of_run(p),
                           .bad = p->bad - p->set.bad_before,
                           .tokens = p->tokens,
                           .records_before = p->set.records_before,
                           .records_total = p->set.total,
                           .bytes_read = p->bytes_done,
                           .bytes_total = p->bytes_total,
                           .started = updated - seconds,
                           .updated = updated,
                           .eta = event == TDM_EVENT_PROGRESS ? seconds_left(p, seconds) : -1};
    return tdm_metrics_write(p->set.metrics_file, &m, err);
}

/* ---- counting ---- */

tdm_status tdm_progress_start(tdm_progress *p, const tdm_progress_options *options, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *p = (tdm_progress){.set = *options,
                        .start = seconds_of(CLOCK_MONOTONIC),
                        .done = options->records_before,
                        .bad = options->bad_before};
    p->last = p->last_metrics = p->start;
    if (options->watch) {
        p->set.mode = TDM_PROGRESS_NONE;
        p->set.metrics_file = NULL;
        options->watch(options->watch_ctx, p, TDM_EVENT_START);
        goto done;
    }
    if (options->quiet)
        p->set.mode = TDM_PROGRESS_NONE;
    else if (options->mode == TDM_PROGRESS_AUTO)
        p->set.mode = is_live_terminal(options->to) ? TDM_PROGRESS_BAR : TDM_PROGRESS_PLAIN;
    TDM_TRY(write_metrics(p, 0, TDM_EVENT_START, err));
    print(p, 0, TDM_EVENT_START);
done:
    if (st != TDM_OK) {
        p->set.mode = TDM_PROGRESS_NONE;
        p->set.metrics_file = NULL;
    }
    return st;
}

double tdm_progress_seconds(const tdm_progress *p)
{
    return seconds_of(CLOCK_MONOTONIC) - p->start;
}

void tdm_progress_add(tdm_progress *p, uint64_t records, uint64_t tokens, uint64_t bad)
{
    static const double EVERY[] = {[TDM_PROGRESS_BAR] = 0.1, [TDM_PROGRESS_PLAIN] = 10, [TDM_PROGRESS_JSON] = 1};
    p->done += records;
    p->tokens += tokens;
    p->bad += bad;
    if (p->set.watch)
        p->set.watch(p->set.watch_ctx, p, TDM_EVENT_PROGRESS);
    if (p->set.mode == TDM_PROGRESS_NONE && !p->set.metrics_file)
        return;
    const double t = seconds_of(CLOCK_MONOTONIC);
    if (p->set.mode != TDM_PROGRESS_NONE && t - p->last >= EVERY[p->set.mode]) {
        p->last = t;
        print(p, t - p->start, TDM_EVENT_PROGRESS);
    }
    if (t - p->last_metrics >= METRICS_EVERY) {
        p->last_metrics = t;
        write_metrics(p, t - p->start, TDM_EVENT_PROGRESS, NULL);
    }
}

/* What a job that goes on passes over without work comes before its first record: it says nothing about the
 * rate. */
void tdm_progress_bytes(tdm_progress *p, uint64_t done, uint64_t total)
{
    p->bytes_done = done;
    p->bytes_total = total;
    if (records_of_run(p) == 0)
        p->bytes_before = done;
}

static bool has_live_line(const tdm_progress *p)
{
    return p->set.mode == TDM_PROGRESS_BAR && p->last > p->start;
}

void tdm_progress_clear(const tdm_progress *p)
{
    if (!has_live_line(p))
        return;
    fputs("\r\033[K", p->set.to);
    fflush(p->set.to);
}

static void end(tdm_progress *p, tdm_progress_event event)
{
    const double seconds = tdm_progress_seconds(p);
    if (p->set.watch)
        p->set.watch(p->set.watch_ctx, p, event);
    print(p, seconds, event);
    write_metrics(p, seconds, event, NULL);
}

void tdm_progress_finish(tdm_progress *p)
{
    end(p, TDM_EVENT_FINISH);
}

void tdm_progress_abandon(tdm_progress *p)
{
    if (has_live_line(p)) {
        fputc('\n', p->set.to);
        fflush(p->set.to);
    }
    end(p, TDM_EVENT_STOP);
}
