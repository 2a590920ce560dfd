#include "host/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR_CELLS = 20, DEFAULT_COLUMNS = 80 };

static const double BAR_EVERY = 0.1, PLAIN_EVERY = 10.0, JSON_EVERY = 1.0; /* seconds */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool is_live_terminal(FILE *to)
{
    const char *term = getenv("TERM");
    const int fd = fileno(to);
    return fd >= 0 && isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

void tdm_progress_start(tdm_progress *p, tdm_progress_mode mode, bool quiet, FILE *to,
                        const char *command, const char *unit, uint64_t total)
{
    if (mode == TDM_PROGRESS_AUTO)
        mode = is_live_terminal(to) ? TDM_PROGRESS_BAR : TDM_PROGRESS_PLAIN;
    *p = (tdm_progress){.mode = quiet ? TDM_PROGRESS_NONE : mode,
                        .to = to,
                        .command = command,
                        .unit = unit,
                        .total = total,
                        .start = now()};
    p->last = p->start;
}

double tdm_progress_seconds(const tdm_progress *p)
{
    return now() - p->start;
}

/* ---- numbers ---- */

/* The share that is done, from records or else from bytes; -1 when unknown. */
static double share_done(const tdm_progress *p)
{
    double share = -1;
    if (p->total)
        share = (double)p->done / (double)p->total;
    else if (p->bytes_total)
        share = (double)p->bytes_done / (double)p->bytes_total;
    return share > 1 ? 1 : share;
}

/* Seconds to come at the mean rate so far; -1 when unknown. */
static double seconds_left(const tdm_progress *p, double seconds)
{
    const double share = share_done(p);
    return share > 0 ? seconds * (1 - share) / share : -1;
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

static void put_bar(text *t, double share)
{
    const int full = (int)(share * BAR_CELLS);
    put(t, " [");
    for (int i = 0; i < BAR_CELLS; i++)
        put(t, "%c", i < full ? '=' : i == full ? '>' : ' ');
    put(t, "]");
}

static void put_line(text *t, const tdm_progress *p, double seconds, bool finished)
{
    const double share = share_done(p), left = seconds_left(p, seconds);
    put(t, "tandem %s:", p->command);
    if (p->mode == TDM_PROGRESS_BAR && share >= 0 && !finished)
        put_bar(t, share);
    put(t, " %" PRIu64, p->done);
    if (p->total && !finished)
        put(t, "/%" PRIu64, p->total);
    put(t, " %s", p->unit);
    if (finished) {
        put(t, " in ");
        put_duration(t, seconds);
    } else if (share >= 0) {
        put(t, " (%d%%)", (int)(share * 100));
    }
    put(t, ", ");
    put_short(t, per_second(p->done, seconds));
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

static void put_event(text *t, const tdm_progress *p, double seconds, bool finished)
{
    const double left = seconds_left(p, seconds);
    put(t, "{\"event\": \"%s\", \"command\": \"%s\", \"unit\": \"%s\", \"done\": %" PRIu64,
        finished ? "finish" : "progress", p->command, p->unit, p->done);
    if (p->total)
        put(t, ", \"total\": %" PRIu64, p->total);
    if (p->bytes_total)
        put(t, ", \"bytes_done\": %" PRIu64 ", \"bytes_total\": %" PRIu64, p->bytes_done,
            p->bytes_total);
    put(t, ", \"tokens\": %" PRIu64 ", \"bad\": %" PRIu64 ", \"seconds\": %.3f", p->tokens, p->bad,
        seconds);
    if (left >= 0 && !finished)
        put(t, ", \"eta\": %.1f", left);
    put(t, "}");
}

size_t tdm_progress_format(const tdm_progress *p, double seconds, int columns, bool finished,
                           char *out, size_t size)
{
    text t = {.p = out, .size = size};
    if (size)
        out[0] = '\0';
    if (size == 0 || p->mode == TDM_PROGRESS_NONE)
        return 0;
    if (p->mode == TDM_PROGRESS_JSON)
        put_event(&t, p, seconds, finished);
    else
        put_line(&t, p, seconds, finished);
    /* a live line that wraps could not be overwritten; the last column stays free */
    if (p->mode == TDM_PROGRESS_BAR && columns > 1 && t.len >= (size_t)columns)
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

static void print(tdm_progress *p, double seconds, bool finished)
{
    char line[512];
    if (!tdm_progress_format(p, seconds, columns_of(p->to), finished, line, sizeof line))
        return;
    if (p->mode == TDM_PROGRESS_BAR) /* back to the left, and clear what the last line left over */
        fprintf(p->to, "\r%s\033[K%s", line, finished ? "\n" : "");
    else
        fprintf(p->to, "%s\n", line);
    fflush(p->to);
}

void tdm_progress_add(tdm_progress *p, uint64_t records, uint64_t tokens, uint64_t bad)
{
    p->done += records;
    p->tokens += tokens;
    p->bad += bad;
    if (p->mode == TDM_PROGRESS_NONE)
        return;
    const double t = now();
    const double every = p->mode == TDM_PROGRESS_BAR    ? BAR_EVERY
                         : p->mode == TDM_PROGRESS_JSON ? JSON_EVERY
                                                        : PLAIN_EVERY;
    if (t - p->last < every)
        return;
    p->last = t;
    print(p, t - p->start, false);
}

void tdm_progress_bytes(tdm_progress *p, uint64_t done, uint64_t total)
{
    p->bytes_done = done;
    p->bytes_total = total;
}

static bool has_live_line(const tdm_progress *p)
{
    return p->mode == TDM_PROGRESS_BAR && p->last > p->start;
}

void tdm_progress_clear(const tdm_progress *p)
{
    if (!has_live_line(p))
        return;
    fputs("\r\033[K", p->to);
    fflush(p->to);
}

void tdm_progress_finish(tdm_progress *p)
{
    print(p, tdm_progress_seconds(p), true);
}

void tdm_progress_abandon(tdm_progress *p)
{
    if (has_live_line(p)) {
        fputc('\n', p->to);
        fflush(p->to);
    }
}
