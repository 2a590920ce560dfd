#include "host/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/json.h"
#include "host/lines.h"
#include "host/threads.h"

enum { FLUSH_AT = 256 << 10 };
enum { STOP_EVERY = 200 }; /* milliseconds between two looks at the stop flag */
enum { MOST_ENDED = 16, ENDED_BYTES = 16 << 20 }; /* what is compressed side by side */

/* stdout, a pipe or a device, or stderr. */
typedef struct {
    int fd;           /* -1: none */
    const char *name; /* borrowed; for messages */
    tdm_buf buf;      /* not yet written */
    bool failed;      /* a write failed: nothing more is tried */
    bool has_part;    /* a member or frame has been put into it */
    bool pipe_closed;
} stream;

/* A chunk that has ended: to be compressed beside others, and handed on in its turn. */
typedef struct {
    tdm_chunk chunk;
    tdm_counts counts;
    uint64_t tokens;
    tdm_buf results, bad, packed;
    tdm_status status; /* of compressing */
    tdm_err err;
} ended_chunk;

struct tdm_sink {
    tdm_sink_options options;
    stream out, errors;     /* without a job */
    tdm_buf results, bad;   /* of the chunk, not yet compressed; bad lines with a job alone */
    ended_chunk ended[MOST_ENDED];
    size_t n_ended, ended_bytes;
    tdm_threads *threads;   /* that compress; NULL until there is work for several */
    double compress_seconds; /* of the caller's thread */
    tdm_counts counts;      /* of this process */
    tdm_counts at_chunk;    /* what they were when the chunk began */
    int64_t bad_before;     /* what other processes have committed */
    tdm_line_counter lines; /* of files that are read in parts */
};

/* ---- one stream ---- */

/* Wait until a pipe or terminal takes at least PIPE_BUF bytes. A flag that is looked at between short
 * waits cannot miss a signal that comes just before the wait, which a blocking write can. */
static tdm_status wait_for_room(const stream *f, const tdm_stop *stop, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct pollfd output = {.fd = f->fd, .events = POLLOUT};
    for (;;) {
        const int ready = poll(&output, 1, STOP_EVERY);
        if (ready > 0)
            break;
        TDM_REQUIRE(ready == 0 || errno == EINTR, TDM_EIO, "%s: waiting to write: %s", f->name,
                    strerror(errno));
        TDM_TRY(tdm_check_stop(stop, err));
    }
done:
    return st;
}

static tdm_status stream_flush(stream *f, const tdm_stop *stop, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t done = 0;
    while (done < f->buf.len && !f->failed) {
        st = wait_for_room(f, stop, err);
        f->failed = st != TDM_OK;
        TDM_TRY(st);
        const size_t left = f->buf.len - done;
        const ssize_t n = write(f->fd, f->buf.p + done, left < PIPE_BUF ? left : PIPE_BUF);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        f->failed = n < 0;
        f->pipe_closed = n < 0 && errno == EPIPE;
        TDM_REQUIRE(n >= 0, TDM_EIO, "%s: writing: %s", f->name, strerror(errno));
        done += (size_t)n;
    }
    f->buf.len = 0;
done:
    return st;
}

/* A named pipe can be written once somebody reads it. */
static tdm_status open_pipe(const char *path, const tdm_stop *stop, int *fd, tdm_err *err)
{
    tdm_status st = TDM_OK;
    while ((*fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0 && errno == ENXIO) {
        TDM_TRY(tdm_check_stop(stop, err));
        poll(NULL, 0, STOP_EVERY / 4);
    }
done:
    return st;
}

static tdm_status open_direct(tdm_sink *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    const char *path = s->options.path;
    const bool is_stdout = !strcmp(path, "-");
    s->out.name = is_stdout ? "stdout" : path;
    s->errors.name = "stderr";
    s->errors.fd = STDERR_FILENO;
    if (is_stdout)
        s->out.fd = STDOUT_FILENO;
    else if (stat(path, &info) == 0 && S_ISFIFO(info.st_mode))
        TDM_TRY(open_pipe(path, s->options.stop, &s->out.fd, err));
    else
        s->out.fd = open(path, O_WRONLY | O_CLOEXEC);
    TDM_REQUIRE(s->out.fd >= 0, TDM_ECANTCREATE, "%s: %s", path, strerror(errno));
done:
    return st;
}

/* ---- the sink ---- */

/* An absolute --max-errors is judged at once, over all that is known of all processes. */
static bool has_too_many(const tdm_sink *s)
{
    const tdm_max_errors max = s->options.max_errors;
    return !max.percent && (double)(s->bad_before + s->counts.bad) > max.limit;
}

tdm_status tdm_sink_open(const tdm_sink_options *options, tdm_sink **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_job_totals totals = {0};
    *out = NULL;
    tdm_sink *s = calloc(1, sizeof *s);
    TDM_REQUIRE(s, TDM_ENOMEM, "sink");
    s->options = *options;
    s->out.fd = s->errors.fd = -1;
    s->lines = (tdm_line_counter)TDM_LINE_COUNTER_NONE;
    if (options->job) {
        tdm_job_totals_get(options->job, &totals);
        s->bad_before = totals.counts.bad;
        TDM_REQUIRE(!has_too_many(s), TDM_EFORMAT,
                    "%s: %" PRId64 " bad records so far, --max-errors %.0f", options->path,
                    s->bad_before, options->max_errors.limit);
    } else {
        TDM_TRY(open_direct(s, err));
    }
    *out = s;
    s = NULL;
done:
    tdm_sink_close(s);
    return st;
}

bool tdm_sink_is_direct(const tdm_sink *s)
{
    return !s->options.job;
}

/* Whether results wait for the end of their chunk. */
static bool waits_for_chunk(const tdm_sink *s)
{
    return s->options.job || s->options.codec != TDM_PLAIN;
}

tdm_status tdm_sink_put(tdm_sink *s, const char *line, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf *to = waits_for_chunk(s) ? &s->results : &s->out.buf;
    TDM_TRY(tdm_buf_put(to, line, len, err));
    s->counts.ok++;
    if (s->out.buf.len >= FLUSH_AT)
        TDM_TRY(stream_flush(&s->out, s->options.stop, err));
done:
    return st;
}

static tdm_status put_place(tdm_buf *line, const tdm_record *bad, int64_t number, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!bad->file) { /* no input record: a document that was written from nothing */
        st = tdm_buf_printf(line, err, "{\"file\": null, \"line\": null, \"offset\": null");
        goto done;
    }
    TDM_TRY(tdm_buf_printf(line, err, "{\"file\": "));
    TDM_TRY(tdm_json_put_string(line, bad->file, strlen(bad->file), err));
    TDM_TRY(tdm_buf_printf(line, err, ", \"line\": %" PRId64 ", \"offset\": %" PRIu64, number,
                           bad->offset));
done:
    return st;
}

static tdm_status put_error_record(tdm_buf *line, const tdm_record *bad, int64_t number, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(put_place(line, bad, number, err));
    TDM_TRY(tdm_buf_printf(line, err, ", \"id\": "));
    if (bad->id_len)
        TDM_TRY(tdm_buf_put(line, bad->id_json, bad->id_len, err));
    else
        TDM_TRY(tdm_buf_put(line, "null", 4, err));
    TDM_TRY(tdm_buf_printf(line, err, ", \"class\": \"%s\", \"detail\": ",
                           tdm_fault_name(bad->fault)));
    TDM_TRY(tdm_json_put_string(line, bad->detail, strlen(bad->detail), err));
    TDM_TRY(tdm_buf_put(line, "}\n", 2, err));
done:
    return st;
}

/* What to call a bad record in a message: FILE:LINE, of a long path its end, or its id where it came from no file. */
static void name_record(const tdm_record *bad, int64_t line, char *name, size_t size)
{
    const size_t len = bad->file ? strlen(bad->file) : 0, room = size - sizeof "...:-9223372036854775808";
    if (len > room)
        snprintf(name, size, "...%s:%" PRId64, bad->file + len - room, line);
    else if (bad->file)
        snprintf(name, size, "%s:%" PRId64, bad->file, line);
    else
        snprintf(name, size, "document %.*s", (int)bad->id_len, bad->id_json ? bad->id_json : "");
}

tdm_status tdm_sink_bad(tdm_sink *s, const tdm_record *bad, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char name[224];
    int64_t line = bad->line;
    tdm_buf *to = s->options.job ? &s->bad : &s->errors.buf;
    if (bad->file && line == 0)
        TDM_TRY(tdm_line_number(&s->lines, bad->file, bad->file_number, bad->offset, s->options.stop,
                                &line, err));
    TDM_TRY(put_error_record(to, bad, line, err));
    s->counts.bad++;
    s->counts.by_fault[bad->fault]++;
    TDM_TRY(stream_flush(&s->errors, s->options.stop, err));
    name_record(bad, line, name, sizeof name);
    TDM_REQUIRE(!has_too_many(s), TDM_EFORMAT,
                "%s: %s: %.200s; bad record %" PRId64 ", --max-errors %.0f", name,
                tdm_fault_name(bad->fault), bad->detail, s->bad_before + s->counts.bad,
                s->options.max_errors.limit);
done:
    return st;
}

/* What was counted since the last chunk. */
static tdm_counts counts_of_chunk(const tdm_sink *s)
{
    tdm_counts c = {.ok = s->counts.ok - s->at_chunk.ok,
                    .bad = s->counts.bad - s->at_chunk.bad,
                    .skipped = s->counts.skipped - s->at_chunk.skipped};
    for (int i = 0; i < TDM_FAULTS_CAP; i++)
        c.by_fault[i] = s->counts.by_fault[i] - s->at_chunk.by_fault[i];
    return c;
}

static double thread_seconds(void)
{
    struct timespec spent = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (double)spent.tv_sec + 1e-9 * (double)spent.tv_nsec;
}

static void compress_chunk(void *ctx, size_t i)
{
    tdm_sink *s = ctx;
    ended_chunk *e = &s->ended[i];
    e->packed.len = 0;
    e->status = tdm_compress(s->options.codec, e->results.p, e->results.len, &e->packed, &e->err);
}

static tdm_status compress_chunks(tdm_sink *s, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const double start = thread_seconds();
    if (n > 1 && !s->threads)
        TDM_TRY(tdm_threads_open(s->options.threads, &s->threads, err));
    if (n > 1)
        tdm_parallel(s->threads, n, compress_chunk, s);
    else
        compress_chunk(s, 0);
    s->compress_seconds += thread_seconds() - start;
done:
    return st;
}

/* To the job, or to the stream. */
static tdm_status hand_on(tdm_sink *s, const ended_chunk *e, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_buf *data = s->options.codec == TDM_PLAIN ? &e->results : &e->packed;
    const tdm_chunk_result result = {.chunk = e->chunk,
                                     .counts = e->counts,
                                     .tokens = e->tokens,
                                     .data = data->p,
                                     .len = data->len,
                                     .errors = e->bad.p,
                                     .errors_len = e->bad.len};
    if (s->options.job) {
        TDM_TRY(tdm_job_commit(s->options.job, &result, err));
    } else {
        TDM_TRY(tdm_buf_put(&s->out.buf, data->p, data->len, err));
        s->out.has_part = true;
        TDM_TRY(stream_flush(&s->out, s->options.stop, err));
    }
done:
    return st;
}

/* Compress the chunks that have ended, on all threads, and hand them on in order. */
static tdm_status hand_on_ended(tdm_sink *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = s->n_ended;
    s->n_ended = s->ended_bytes = 0;
    if (s->options.codec != TDM_PLAIN && n > 0)
        TDM_TRY(compress_chunks(s, n, err));
    for (size_t i = 0; i < n; i++) {
        ended_chunk *e = &s->ended[i];
        TDM_REQUIRE(e->status == TDM_OK, e->status, "%s", e->err.msg);
        TDM_TRY(hand_on(s, e, err));
    }
done:
    return st;
}

static void swap(tdm_buf *a, tdm_buf *b)
{
    const tdm_buf was = *a;
    *a = *b;
    *b = was;
}

tdm_status tdm_sink_end_chunk(tdm_sink *s, const tdm_chunk *chunk, uint64_t tokens, tdm_err *err)
{
    tdm_status st = TDM_OK;
    s->counts.skipped += chunk->skipped;
    if (waits_for_chunk(s)) {
        ended_chunk *e = &s->ended[s->n_ended++];
        e->chunk = *chunk;
        e->counts = counts_of_chunk(s);
        e->tokens = tokens;
        swap(&e->results, &s->results);
        swap(&e->bad, &s->bad);
        s->results.len = s->bad.len = 0;
        s->ended_bytes += e->results.len;
    }
    s->at_chunk = s->counts;
    if (s->options.codec == TDM_PLAIN || s->n_ended == MOST_ENDED || s->ended_bytes >= ENDED_BYTES)
        TDM_TRY(hand_on_ended(s, err));
done:
    return st;
}

tdm_status tdm_sink_flush(tdm_sink *s, tdm_err *err)
{
    return waits_for_chunk(s) ? hand_on_ended(s, err) : stream_flush(&s->out, s->options.stop, err);
}

tdm_status tdm_sink_finish(tdm_sink *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_max_errors max = s->options.max_errors;
    const double bad = (double)s->counts.bad, all = bad + (double)s->counts.ok;
    TDM_TRY(hand_on_ended(s, err));
    if (s->options.job)
        return tdm_job_finish(s->options.job, max, err);
    if (s->options.codec != TDM_PLAIN && (s->results.len > 0 || !s->out.has_part)) {
        /* behind the last chunk, or without one, since no bytes are no gzip or zstd */
        TDM_TRY(tdm_sink_end_chunk(s, &(tdm_chunk){0}, 0, err));
        TDM_TRY(hand_on_ended(s, err));
    }
    TDM_TRY(stream_flush(&s->out, s->options.stop, err));
    TDM_REQUIRE(!max.percent || bad * 100 <= max.limit * all, TDM_EFORMAT,
                "%.0f of %.0f records are bad, --max-errors %.15g%%", bad, all, max.limit);
done:
    return st;
}

void tdm_sink_close(tdm_sink *s)
{
    if (!s)
        return;
    (void)hand_on_ended(s, NULL); /* what is complete stays so; an error has been reported */
    if (s->out.fd >= 0)
        stream_flush(&s->out, s->options.stop, NULL);
    if (s->out.fd > STDERR_FILENO)
        close(s->out.fd);
    tdm_line_counter_close(&s->lines);
    tdm_buf_free(&s->out.buf);
    tdm_buf_free(&s->errors.buf);
    tdm_buf_free(&s->results);
    tdm_buf_free(&s->bad);
    for (size_t i = 0; i < MOST_ENDED; i++) {
        tdm_buf_free(&s->ended[i].results);
        tdm_buf_free(&s->ended[i].bad);
        tdm_buf_free(&s->ended[i].packed);
    }
    tdm_threads_close(s->threads);
    free(s);
}

bool tdm_sink_pipe_closed(const tdm_sink *s)
{
    return s->out.pipe_closed;
}

const tdm_counts *tdm_sink_counts(const tdm_sink *s)
{
    return &s->counts;
}

double tdm_sink_compress_seconds(const tdm_sink *s, double *helpers)
{
    *helpers = s->threads ? tdm_threads_seconds(s->threads) : 0;
    return s->compress_seconds + *helpers;
}
