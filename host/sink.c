#include "host/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/json.h"

enum { FLUSH_AT = 256 << 10 };

/* One file being written, under its temporary name when it has one. */
typedef struct {
    int fd;      /* -1: not open */
    char *path;  /* owned; the final name, or what to call it in messages */
    char *part;  /* owned; the temporary name, NULL for stdout, pipes and devices */
    tdm_buf buf; /* not yet written */
    bool failed; /* a write failed: nothing more is tried */
    bool pipe_closed;
} stream;

struct tdm_sink {
    stream out, errors;
    tdm_max_errors max_errors;
    tdm_counts counts;
};

/* ---- one file ---- */

/* A terminal or pipe may have been made non-blocking by whoever shares it. */
static void wait_for_room(int fd)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    poll(&writable, 1, 1000); /* milliseconds; write() is asked again in any case */
}

static tdm_status stream_flush(stream *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t done = 0;
    while (done < f->buf.len && !f->failed) {
        const ssize_t n = write(f->fd, f->buf.p + done, f->buf.len - done);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            wait_for_room(f->fd);
            continue;
        }
        f->failed = n < 0;
        f->pipe_closed = n < 0 && errno == EPIPE;
        TDM_REQUIRE(n >= 0, TDM_EIO, "%s: writing: %s", f->path, strerror(errno));
        done += (size_t)n;
    }
    f->buf.len = 0;
done:
    return st;
}

static tdm_status stream_put(stream *f, const char *data, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_put(&f->buf, data, len, err));
    if (f->buf.len >= FLUSH_AT)
        TDM_TRY(stream_flush(f, err));
done:
    return st;
}

static void stream_close(stream *f)
{
    if (f->part && f->fd >= 0)
        unlink(f->part);
    if (f->fd > STDERR_FILENO)
        close(f->fd);
    free(f->path);
    free(f->part);
    tdm_buf_free(&f->buf);
    *f = (stream){.fd = -1};
}

static char *joined(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    char *text = malloc(n + m + 1);
    if (text) {
        memcpy(text, a, n);
        memcpy(text + n, b, m + 1);
    }
    return text;
}

/* Open and lock the temporary file. One that a killed run left behind is used again; between open
 * and lock its owner may have renamed it to its final name, hence the look at the name afterwards. */
static tdm_status open_part(stream *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat by_name, by_fd;
    int fd = -1;
    f->part = joined(f->path, ".part");
    TDM_REQUIRE(f->part, TDM_ENOMEM, "%s: its temporary name", f->path);
    fd = open(f->part, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    TDM_REQUIRE(fd >= 0, TDM_ECANTCREATE, "%s: cannot be created: %s", f->path, strerror(errno));
    const bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    const bool same = locked && fstat(fd, &by_fd) == 0 && stat(f->part, &by_name) == 0 &&
                      by_fd.st_ino == by_name.st_ino && by_fd.st_dev == by_name.st_dev;
    TDM_REQUIRE(same, TDM_ECANTCREATE, "%s: another process is writing it", f->path);
    TDM_REQUIRE(ftruncate(fd, 0) == 0, TDM_ECANTCREATE, "%s: cannot be emptied: %s", f->part,
                strerror(errno));
    f->fd = fd;
    fd = -1;
done:
    if (fd >= 0)
        close(fd);
    return st;
}

/* Write what is left and wait until it is on the disk. */
static tdm_status stream_sync(stream *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(stream_flush(f, err));
    if (f->part)
        TDM_REQUIRE(fsync(f->fd) == 0, TDM_EIO, "%s: writing: %s", f->path, strerror(errno));
done:
    return st;
}

/* Give the file its final name. */
static tdm_status stream_publish(stream *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!f->part)
        goto done;
    TDM_REQUIRE(rename(f->part, f->path) == 0, TDM_EIO, "%s: renaming %s to it: %s", f->path,
                f->part, strerror(errno));
    free(f->part);
    f->part = NULL;
done:
    return st;
}

static tdm_status sync_folder_of(const char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int fd = -1;
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    TDM_REQUIRE(folder, TDM_ENOMEM, "%s: the name of its folder", path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TDM_REQUIRE(fd >= 0 && fsync(fd) == 0, TDM_EIO, "%s: making it durable: %s", folder,
                strerror(errno));
done:
    if (fd >= 0)
        close(fd);
    free(folder);
    return st;
}

/* ---- the sink ---- */

/* The file that `path` means: what a link points to, so that the link survives the rename. */
static tdm_status resolve(const char *path, stream *f, struct stat *info, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *info = (struct stat){0};
    if (stat(path, info) == 0) {
        TDM_REQUIRE(!S_ISDIR(info->st_mode), TDM_ECANTCREATE, "%s: is a folder", path);
        TDM_REQUIRE(access(path, W_OK) == 0, TDM_ECANTCREATE, "%s: %s", path, strerror(errno));
        f->path = S_ISREG(info->st_mode) ? realpath(path, NULL) : strdup(path);
    } else {
        f->path = strdup(path);
    }
    TDM_REQUIRE(f->path, TDM_ENOMEM, "%s: its name", path);
done:
    return st;
}

static bool has_ending(const char *text, const char *ending)
{
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcmp(text + n - m, ending);
}

/* stdout, a pipe or a device: results go straight there and errors to stderr. */
static tdm_status open_direct(tdm_sink *s, const char *path, int fd, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!s->out.path)
        s->out.path = strdup(path);
    s->errors.path = strdup("stderr");
    TDM_REQUIRE(s->out.path && s->errors.path, TDM_ENOMEM, "%s: its name", path);
    TDM_REQUIRE(fd >= 0, TDM_ECANTCREATE, "%s: %s", path, strerror(errno));
    s->out.fd = fd;
    s->errors.fd = STDERR_FILENO;
done:
    return st;
}

static tdm_status open_file(tdm_sink *s, const char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    TDM_REQUIRE(!has_ending(path, ".gz") && !has_ending(path, ".zst"), TDM_EARG,
                "%s: compressed files are not written; write to - and pipe it", path);
    TDM_TRY(resolve(path, &s->out, &info, err));
    if (info.st_mode && !S_ISREG(info.st_mode)) {
        TDM_TRY(open_direct(s, path, open(path, O_WRONLY | O_CLOEXEC), err));
        goto done;
    }
    s->errors.path = joined(path, ".errors.jsonl");
    TDM_REQUIRE(s->errors.path, TDM_ENOMEM, "%s: the name of its errors", path);
    TDM_TRY(open_part(&s->out, err));
done:
    return st;
}

tdm_status tdm_sink_open(const char *path, tdm_max_errors max_errors, tdm_sink **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_sink *s = calloc(1, sizeof *s);
    TDM_REQUIRE(s, TDM_ENOMEM, "sink");
    s->out.fd = s->errors.fd = -1;
    s->max_errors = max_errors;
    if (!strcmp(path, "-"))
        TDM_TRY(open_direct(s, "stdout", STDOUT_FILENO, err));
    else
        TDM_TRY(open_file(s, path, err));
    *out = s;
    s = NULL;
done:
    tdm_sink_close(s);
    return st;
}

tdm_status tdm_sink_put(tdm_sink *s, const char *line, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(stream_put(&s->out, line, len, err));
    s->counts.ok++;
done:
    return st;
}

static tdm_status put_error_record(stream *f, const tdm_record *bad, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf line = {0};
    TDM_TRY(tdm_buf_printf(&line, err, "{\"file\": "));
    TDM_TRY(tdm_json_put_string(&line, bad->file, strlen(bad->file), err));
    TDM_TRY(tdm_buf_printf(&line, err, ", \"line\": %" PRId64 ", \"offset\": %" PRIu64 ", \"id\": ",
                           bad->line, bad->offset));
    if (bad->id_len)
        TDM_TRY(tdm_buf_put(&line, bad->id_json, bad->id_len, err));
    else
        TDM_TRY(tdm_buf_put(&line, "null", 4, err));
    TDM_TRY(tdm_buf_printf(&line, err, ", \"class\": \"%s\", \"detail\": ",
                           tdm_fault_name(bad->fault)));
    TDM_TRY(tdm_json_put_string(&line, bad->detail, strlen(bad->detail), err));
    TDM_TRY(tdm_buf_put(&line, "}\n", 2, err));
    TDM_TRY(stream_put(f, line.p, line.len, err));
    if (!f->part)
        TDM_TRY(stream_flush(f, err));
done:
    tdm_buf_free(&line);
    return st;
}

tdm_status tdm_sink_bad(tdm_sink *s, const tdm_record *bad, tdm_err *err)
{
    tdm_status st = TDM_OK;
    s->counts.bad++;
    s->counts.by_fault[bad->fault]++;
    if (s->errors.fd < 0)
        TDM_TRY(open_part(&s->errors, err));
    TDM_TRY(put_error_record(&s->errors, bad, err));
    const double limit = s->max_errors.limit;
    const bool over = !s->max_errors.percent && (double)s->counts.bad > limit;
    TDM_REQUIRE(!over, TDM_EFORMAT,
                "%.200s:%" PRId64 ": %s: %.120s; bad record %" PRId64 ", --max-errors %.0f",
                bad->file, bad->line, tdm_fault_name(bad->fault), bad->detail, s->counts.bad, limit);
done:
    return st;
}

tdm_status tdm_sink_flush(tdm_sink *s, tdm_err *err)
{
    return s->out.part ? TDM_OK : stream_flush(&s->out, err);
}

static tdm_status check_percentage(const tdm_sink *s, tdm_err *err)
{
    const double read = (double)(s->counts.ok + s->counts.bad), bad = (double)s->counts.bad;
    if (!s->max_errors.percent || bad * 100 <= s->max_errors.limit * read)
        return TDM_OK;
    return tdm_fail(err, TDM_EFORMAT, "%.0f of %.0f records are bad, --max-errors %.15g%%", bad, read,
                    s->max_errors.limit);
}

tdm_status tdm_sink_commit(tdm_sink *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_percentage(s, err));
    TDM_TRY(stream_sync(&s->out, err));
    if (!s->out.part)
        goto done;
    if (s->errors.fd >= 0) {
        TDM_TRY(stream_sync(&s->errors, err));
        TDM_TRY(stream_publish(&s->errors, err));
    } else {
        TDM_REQUIRE(unlink(s->errors.path) == 0 || errno == ENOENT, TDM_EIO,
                    "%s: left by an earlier run, cannot be removed: %s", s->errors.path,
                    strerror(errno));
    }
    TDM_TRY(stream_publish(&s->out, err));
    TDM_TRY(sync_folder_of(s->out.path, err));
done:
    return st;
}

void tdm_sink_close(tdm_sink *s)
{
    if (!s)
        return;
    if (s->out.fd >= 0 && !s->out.part)
        stream_flush(&s->out, NULL); /* what a reader was promised; an error has been reported */
    stream_close(&s->out);
    stream_close(&s->errors);
    free(s);
}

bool tdm_sink_pipe_closed(const tdm_sink *s)
{
    return s->out.pipe_closed;
}

tdm_counts *tdm_sink_counts(tdm_sink *s)
{
    return &s->counts;
}
