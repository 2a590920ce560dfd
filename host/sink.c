#include "host/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/json.h"

enum { FLUSH_AT = 256 << 10 };
enum { STOP_EVERY = 200 }; /* milliseconds between two looks at the stop flag */

/* One file being written, under its temporary name when it has one. */
typedef struct {
    int fd;      /* -1: not open */
    char *path;  /* owned; the final name, or what to call it in messages */
    char *part;  /* owned; the temporary name, NULL for stdout, pipes and devices */
    tdm_buf buf; /* not yet written */
    bool failed; /* a write failed: nothing more is tried */
    bool pipe_closed;
    const tdm_stop *stop; /* borrowed; NULL allowed */
} stream;

struct tdm_sink {
    stream out, errors;
    int folder; /* of out, to make its name durable; -1: none */
    bool is_direct;
    tdm_max_errors max_errors;
    tdm_counts counts;
};

/* ---- one file ---- */

/* Wait until a pipe or terminal takes at least PIPE_BUF bytes. A flag that is looked at between short
 * waits cannot miss a signal that comes just before the wait, which a blocking write can. */
static tdm_status wait_for_room(const stream *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct pollfd output = {.fd = f->fd, .events = POLLOUT};
    for (;;) {
        const int ready = poll(&output, 1, STOP_EVERY);
        if (ready > 0)
            break;
        TDM_REQUIRE(ready == 0 || errno == EINTR, TDM_EIO, "%s: waiting to write: %s", f->path,
                    strerror(errno));
        TDM_TRY(tdm_check_stop(f->stop, err));
    }
done:
    return st;
}

static tdm_status stream_flush(stream *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t done = 0;
    while (done < f->buf.len && !f->failed) {
        size_t len = f->buf.len - done;
        if (!f->part) {
            st = wait_for_room(f, err);
            f->failed = st != TDM_OK;
            TDM_TRY(st);
            len = len < PIPE_BUF ? len : PIPE_BUF; /* so much goes without blocking */
        }
        const ssize_t n = write(f->fd, f->buf.p + done, len);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
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
    char *text = NULL;
    return asprintf(&text, "%s%s", a, b) < 0 ? NULL : text;
}

/* Bytes of the path up to and with its last slash; 0: the working folder. */
static int folder_len(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path) + 1 : 0;
}

/* FOLDER/.NAME.tandem-part: in the same folder, so that a rename can move it, and a name that nobody
 * gives a file of his own. */
static char *part_name(const char *path)
{
    const int n = folder_len(path);
    char *text = NULL;
    return asprintf(&text, "%.*s.%s.tandem-part", n, path, path + n) < 0 ? NULL : text;
}

/* Open and lock the temporary file. One that a killed run left behind is used again; between open
 * and lock its owner may have renamed it to its final name, hence the look at the name afterwards. */
static tdm_status open_part(stream *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat by_name, by_fd;
    int fd = -1;
    f->part = part_name(f->path);
    TDM_REQUIRE(f->part, TDM_ENOMEM, "%s: its temporary name", f->path);
    fd = open(f->part, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    TDM_REQUIRE(fd >= 0 || (errno != ENXIO && errno != ELOOP), TDM_ECANTCREATE,
                "%s: the temporary name %s is taken", f->path, f->part);
    TDM_REQUIRE(fd >= 0, TDM_ECANTCREATE, "%s: cannot be created: %s", f->path, strerror(errno));
    TDM_REQUIRE(fstat(fd, &by_fd) == 0 && S_ISREG(by_fd.st_mode), TDM_ECANTCREATE,
                "%s: the temporary name %s is taken", f->path, f->part);
    const bool same = flock(fd, LOCK_EX | LOCK_NB) == 0 && stat(f->part, &by_name) == 0 &&
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

/* The folder must be open to be made durable. A folder that may be written but not read fails here,
 * before any work. */
static tdm_status open_folder(tdm_sink *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int n = folder_len(s->out.path);
    char *folder = n ? strndup(s->out.path, (size_t)n) : strdup(".");
    TDM_REQUIRE(folder, TDM_ENOMEM, "%s: the name of its folder", s->out.path);
    s->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TDM_REQUIRE(s->folder >= 0, TDM_ECANTCREATE, "%s: its folder cannot be opened: %s", s->out.path,
                strerror(errno));
done:
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
    s->is_direct = true;
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
    TDM_TRY(open_folder(s, err));
done:
    return st;
}

tdm_status tdm_sink_open(const char *path, tdm_max_errors max_errors, tdm_sink **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_sink *s = calloc(1, sizeof *s);
    TDM_REQUIRE(s, TDM_ENOMEM, "sink");
    s->out.fd = s->errors.fd = s->folder = -1;
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

void tdm_sink_stop_by(tdm_sink *s, const tdm_stop *stop)
{
    s->out.stop = s->errors.stop = stop;
}

bool tdm_sink_is_direct(const tdm_sink *s)
{
    return s->is_direct;
}

tdm_status tdm_sink_put(tdm_sink *s, const char *line, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(stream_put(&s->out, line, len, err));
    s->counts.ok++;
done:
    return st;
}

static tdm_status put_place(tdm_buf *line, const tdm_record *bad, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!bad->file) { /* no input record: a document that was written from nothing */
        st = tdm_buf_printf(line, err, "{\"file\": null, \"line\": null, \"offset\": null");
        goto done;
    }
    TDM_TRY(tdm_buf_printf(line, err, "{\"file\": "));
    TDM_TRY(tdm_json_put_string(line, bad->file, strlen(bad->file), err));
    TDM_TRY(tdm_buf_printf(line, err, ", \"line\": %" PRId64 ", \"offset\": %" PRIu64, bad->line,
                           bad->offset));
done:
    return st;
}

static tdm_status put_error_record(stream *f, const tdm_record *bad, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf line = {0};
    TDM_TRY(put_place(&line, bad, err));
    TDM_TRY(tdm_buf_printf(&line, err, ", \"id\": "));
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

/* What to call a bad record in a message: FILE:LINE, or its id where it came from no file. */
static void name_record(const tdm_record *bad, char *name, size_t size)
{
    if (bad->file)
        snprintf(name, size, "%s:%" PRId64, bad->file, bad->line);
    else
        snprintf(name, size, "document %.*s", (int)bad->id_len, bad->id_json ? bad->id_json : "");
}

tdm_status tdm_sink_bad(tdm_sink *s, const tdm_record *bad, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char name[224];
    s->counts.bad++;
    s->counts.by_fault[bad->fault]++;
    if (s->errors.fd < 0)
        TDM_TRY(open_part(&s->errors, err));
    TDM_TRY(put_error_record(&s->errors, bad, err));
    const double limit = s->max_errors.limit;
    const bool over = !s->max_errors.percent && (double)s->counts.bad > limit;
    name_record(bad, name, sizeof name);
    TDM_REQUIRE(!over, TDM_EFORMAT, "%s: %s: %.120s; bad record %" PRId64 ", --max-errors %.0f", name,
                tdm_fault_name(bad->fault), bad->detail, s->counts.bad, limit);
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
    /* EINVAL: a file system that has no such thing */
    TDM_REQUIRE(fsync(s->folder) == 0 || errno == EINVAL, TDM_EIO, "%s: making its name durable: %s",
                s->out.path, strerror(errno));
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
    if (s->folder >= 0)
        close(s->folder);
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
