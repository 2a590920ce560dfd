#include "host/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_CAP = 64 << 10 };
enum { STOP_EVERY = 200 }; /* milliseconds between two looks at the stop flag */

struct tdm_lines {
    const char *const *paths; /* borrowed */
    size_t n_paths, next_path;
    const tdm_stop *stop; /* borrowed; NULL allowed */
    const char *file;                  /* borrowed; the open file, NULL between files */
    int fd;
    bool at_eof;  /* of the open file */
    bool no_wait; /* leave rather than wait for input */
    bool starved; /* left because of no_wait: the line is not complete yet */
    bool has_ahead;
    tdm_line ahead; /* fetched already by tdm_lines_would_block */
    size_t max_line;
    char *buf; /* owned; [start, end) is read and not yet handed out */
    size_t cap, start, end;
    size_t searched; /* bytes from start on that hold no newline */
    int64_t line, blank;
    uint64_t offset;               /* of buf[start] in the open file */
    uint64_t bytes_before, total; /* of the files before the open one; of all files */
};

static const char *const STDIN_ALONE[] = {"-"};

static bool ends_with(const char *text, const char *ending)
{
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcmp(text + n - m, ending);
}

/* Without opening it: a named pipe must not lose its writer. *size is 0 and *known false for what
 * has no size. */
static tdm_status check_path(const char *path, uint64_t *size, bool *known, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    *size = 0;
    *known = false;
    if (!strcmp(path, "-"))
        return TDM_OK;
    TDM_REQUIRE(stat(path, &info) == 0 && access(path, R_OK) == 0, TDM_ENOINPUT, "%s: %s", path,
                strerror(errno));
    TDM_REQUIRE(!S_ISDIR(info.st_mode), TDM_ENOINPUT, "%s: is a folder", path);
    TDM_REQUIRE(!ends_with(path, ".gz") && !ends_with(path, ".zst"), TDM_EARG,
                "%s: compressed files are not read; decompress it, into a pipe if need be", path);
    *known = S_ISREG(info.st_mode);
    *size = *known ? (uint64_t)info.st_size : 0;
done:
    return st;
}

tdm_status tdm_lines_open(const char *const *paths, size_t n_paths, size_t max_line,
                          const tdm_stop *stop, tdm_lines **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool all_known = true;
    *out = NULL;
    tdm_lines *l = calloc(1, sizeof *l);
    TDM_REQUIRE(l, TDM_ENOMEM, "line reader");
    l->fd = -1;
    l->stop = stop;
    l->paths = n_paths ? paths : STDIN_ALONE;
    l->n_paths = n_paths ? n_paths : 1;
    l->max_line = max_line < SIZE_MAX / 4 ? max_line : SIZE_MAX / 4;
    for (size_t i = 0; i < l->n_paths; i++) {
        uint64_t size = 0;
        bool known = false;
        TDM_TRY(check_path(l->paths[i], &size, &known, err));
        l->total += size;
        all_known = all_known && known;
    }
    if (!all_known)
        l->total = 0;
    l->buf = malloc(FIRST_CAP);
    TDM_REQUIRE(l->buf, TDM_ENOMEM, "line buffer of %d bytes", FIRST_CAP);
    l->cap = FIRST_CAP;
    *out = l;
    l = NULL;
done:
    tdm_lines_close(l);
    return st;
}

static void close_file(tdm_lines *l)
{
    if (l->fd > STDIN_FILENO)
        close(l->fd);
    l->fd = -1;
    l->file = NULL;
}

void tdm_lines_close(tdm_lines *l)
{
    if (!l)
        return;
    close_file(l);
    free(l->buf);
    free(l);
}

/* Make room at the end of the buffer; grows only for a line longer than the buffer. */
static tdm_status make_room(tdm_lines *l, tdm_err *err)
{
    if (l->start > 0) { /* what is left is a part of one line: short, as a rule */
        memmove(l->buf, l->buf + l->start, l->end - l->start);
        l->end -= l->start;
        l->start = 0;
    }
    if (l->end < l->cap)
        return TDM_OK;
    char *grown = realloc(l->buf, l->cap * 2);
    if (!grown)
        return tdm_fail(err, TDM_ENOMEM, "%s:%" PRId64 ": a line buffer of %zu bytes", l->file,
                        l->line + 1, l->cap * 2);
    l->buf = grown;
    l->cap *= 2;
    return TDM_OK;
}

/* Wait until a read will not block. A flag that is looked at between short waits cannot miss a
 * signal that comes just before the wait, which a blocking read can. */
static tdm_status wait_for_input(tdm_lines *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct pollfd input = {.fd = l->fd, .events = POLLIN};
    for (;;) {
        const int ready = poll(&input, 1, l->no_wait ? 0 : STOP_EVERY);
        l->starved = ready == 0 && l->no_wait;
        if (ready > 0 || l->starved)
            break;
        TDM_REQUIRE(ready == 0 || errno == EINTR, TDM_EIO, "%s: waiting for input: %s", l->file,
                    strerror(errno));
        TDM_TRY(tdm_check_stop(l->stop, err));
    }
done:
    return st;
}

/* Read what there is, at least one byte or the end of the file; nothing when starved. */
static tdm_status read_more(tdm_lines *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    ssize_t n = 0;
    TDM_TRY(make_room(l, err));
    do {
        TDM_TRY(wait_for_input(l, err));
        if (l->starved)
            goto done;
        n = read(l->fd, l->buf + l->end, l->cap - l->end);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    TDM_REQUIRE(n >= 0, TDM_EIO, "%s: reading after byte %" PRIu64 ": %s", l->file,
                l->offset + (l->end - l->start), strerror(errno));
    l->end += (size_t)n;
    l->at_eof = n == 0;
done:
    return st;
}

static void consume(tdm_lines *l, size_t n)
{
    l->start += n;
    l->offset += n;
    l->searched = 0;
}

/* Without blocking: Linux lets a reader open a named pipe before there is a writer, and poll waits
 * for that writer. A failure changes nothing. */
static tdm_status open_next(tdm_lines *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *path = l->paths[l->next_path];
    const bool is_stdin = !strcmp(path, "-");
    const int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    TDM_REQUIRE(fd >= 0, TDM_ENOINPUT, "%s: %s", path, strerror(errno));
    l->next_path++;
    l->file = path;
    l->fd = fd;
    l->bytes_before += l->offset;
    l->offset = 0;
    l->line = 0;
    l->start = l->end = l->searched = 0;
    l->at_eof = false;
done:
    return st;
}

/* Find the end of the line at buf[start]: *len bytes to its newline, or to the end of the file.
 * *found is false when there are no bytes left, or when starved. */
static tdm_status find_end(tdm_lines *l, size_t *len, bool *found, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *found = true;
    for (;;) {
        const char *from = l->buf + l->start + l->searched;
        const size_t fresh = l->end - l->start - l->searched;
        const char *newline = fresh ? memchr(from, '\n', fresh) : NULL;
        *len = newline ? (size_t)(newline - (l->buf + l->start)) : l->end - l->start;
        l->searched = *len;
        /* a byte order mark and "\r" do not count: only past them is a line surely too long */
        if (newline || l->at_eof || *len > l->max_line + 4)
            break;
        TDM_TRY(read_more(l, err));
        if (l->starved)
            break;
    }
    *found = l->end > l->start && !l->starved;
done:
    return st;
}

/* Pass over the rest of a line that is too long, without keeping it; add its bytes to *len. */
static tdm_status skip_rest(tdm_lines *l, size_t *len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool has_return = false; /* the last byte so far is "\r" */
    *len = 0;
    l->no_wait = false; /* these bytes are gone: there is no coming back to this line */
    for (;;) {
        const size_t held = l->end - l->start;
        const char *text = l->buf + l->start;
        const char *newline = held ? memchr(text, '\n', held) : NULL;
        const size_t n = newline ? (size_t)(newline - text) : held;
        if (n)
            has_return = text[n - 1] == '\r';
        *len += n;
        consume(l, n + (newline != NULL));
        if (newline || l->at_eof)
            break;
        TDM_TRY(read_more(l, err));
    }
    *len -= has_return;
done:
    return st;
}

static bool is_blank(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

/* The next line of the open file, blank or not; line->file stays NULL at its end and when
 * starved. */
static tdm_status next_of_file(tdm_lines *l, tdm_line *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t len = 0, mark = 0;
    bool found = false;
    *line = (tdm_line){0};
    TDM_TRY(find_end(l, &len, &found, err));
    if (!found)
        goto done;
    const char *text = l->buf + l->start;
    if (l->offset == 0 && len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        mark = 3;
    *line = (tdm_line){.file = l->file, .line = ++l->line, .offset = l->offset};
    line->len = len - mark;
    if (line->len && text[len - 1] == '\r')
        line->len--;
    line->too_long = line->len > l->max_line;
    if (line->too_long) {
        TDM_TRY(skip_rest(l, &line->len, err));
        line->len -= mark;
        goto done;
    }
    line->text = text + mark;
    consume(l, len + (l->start + len < l->end)); /* the newline too, where there is one */
done:
    return st;
}

static tdm_status fetch(tdm_lines *l, tdm_line *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *line = (tdm_line){0};
    l->starved = false;
    for (;;) {
        if (!l->file && l->next_path == l->n_paths)
            break;
        if (!l->file)
            TDM_TRY(open_next(l, err));
        TDM_TRY(next_of_file(l, line, err));
        if (l->starved)
            break;
        if (!line->file)
            close_file(l);
        else if (line->text && is_blank(line->text, line->len))
            l->blank++;
        else
            break;
    }
done:
    return st;
}

tdm_status tdm_lines_next(tdm_lines *l, tdm_line *line, tdm_err *err)
{
    if (l->has_ahead) {
        l->has_ahead = false;
        *line = l->ahead;
        return TDM_OK;
    }
    l->no_wait = false;
    return fetch(l, line, err);
}

bool tdm_lines_would_block(tdm_lines *l)
{
    if (l->has_ahead)
        return false;
    l->no_wait = true;
    const tdm_status st = fetch(l, &l->ahead, NULL);
    l->no_wait = false;
    l->has_ahead = st == TDM_OK && !l->starved;
    return l->starved; /* an error comes again when the line is asked for */
}

int64_t tdm_lines_blank(const tdm_lines *l)
{
    return l->blank;
}

void tdm_lines_progress(const tdm_lines *l, uint64_t *done, uint64_t *total)
{
    *done = l->bytes_before + l->offset;
    *total = l->total;
}
