#include "host/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "host/codec.h"

enum {
    STOP_EVERY = 200,        /* milliseconds between two looks at the stop flag */
    IN_CAP = 128 << 10,      /* of compressed bytes; of plain ones only the first go through it */
    OUT_MOST = 1 << 30,      /* zlib counts in 32 bits */
    WINDOW_LOG_MAX = 27,     /* of zstd: 128 MiB */
    RATIO_SINCE = 16 << 20,  /* decompressed bytes before the ratio is judged */
};

struct tdm_source {
    const char *path; /* borrowed */
    tdm_source_options options;
    int fd;
    tdm_codec codec;
    bool is_known;      /* codec is */
    bool at_eof;        /* of the file itself */
    unsigned char *in;  /* owned [IN_CAP]; [start, end) is read and not yet used */
    size_t start, end;
    uint64_t bytes_read; /* of the file itself */
    uint64_t produced;   /* decompressed bytes */
    bool is_inside;      /* a member or frame has begun and not ended */
    bool is_padding;     /* zero bytes behind the last gzip member have begun */
    bool has_more;       /* the decompressor filled all it was given and may hold further bytes */
    uint64_t whole_at, whole_produced; /* where the last whole member or frame ended */
    z_stream gz;
    bool gz_is_open;
    ZSTD_DStream *zst; /* owned; NULL unless zstd */
    size_t zst_wants;  /* bytes, for its next steps */
    uint64_t step_at;  /* where the one that is not yet done began */
    tdm_err damage;    /* status is TDM_OK while there is none */
};

tdm_status tdm_source_open(const char *path, const tdm_source_options *options, tdm_source **out,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    *out = NULL;
    tdm_source *s = calloc(1, sizeof *s);
    TDM_REQUIRE(s, TDM_ENOMEM, "%s: a reader", path);
    s->fd = -1;
    s->path = path;
    s->options = *options;
    s->in = malloc(IN_CAP);
    TDM_REQUIRE(s->in, TDM_ENOMEM, "%s: a buffer of %d bytes", path, IN_CAP);
    /* Without blocking: Linux lets a reader open a named pipe before there is a writer, and poll waits
     * for that writer. */
    s->fd = !strcmp(path, "-") ? STDIN_FILENO : open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    TDM_REQUIRE(s->fd >= 0 && fstat(s->fd, &info) == 0, TDM_ENOINPUT, "%s: %s", path, strerror(errno));
    TDM_REQUIRE(!S_ISDIR(info.st_mode), TDM_ENOINPUT, "%s: is a folder", path);
    *out = s;
    s = NULL;
done:
    tdm_source_close(s);
    return st;
}

void tdm_source_close(tdm_source *s)
{
    if (!s)
        return;
    if (s->gz_is_open)
        inflateEnd(&s->gz);
    ZSTD_freeDStream(s->zst);
    if (s->fd >= 0 && strcmp(s->path, "-") != 0)
        close(s->fd);
    free(s->in);
    free(s);
}

uint64_t tdm_source_consumed(const tdm_source *s)
{
    return s->bytes_read - (s->end - s->start);
}

/* ---- bytes of the file itself ---- */

/* Wait until a read will not block. A flag that is looked at between short waits cannot miss a
 * signal that comes just before the wait, which a blocking read can. */
static tdm_status wait_for_input(tdm_source *s, bool no_wait, bool *starved, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct pollfd input = {.fd = s->fd, .events = POLLIN};
    for (;;) {
        const int ready = poll(&input, 1, no_wait ? 0 : STOP_EVERY);
        *starved = ready == 0 && no_wait;
        if (ready > 0 || *starved)
            break;
        TDM_REQUIRE(ready == 0 || errno == EINTR, TDM_EIO, "%s: waiting for input: %s", s->path,
                    strerror(errno));
        TDM_TRY(tdm_check_stop(s->options.stop, err));
    }
done:
    return st;
}

/* Read what there is, at least one byte or the end of the file; nothing when starved. */
static tdm_status read_file(tdm_source *s, void *p, size_t cap, bool no_wait, size_t *n, bool *starved,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    ssize_t got = 0;
    *n = 0;
    do {
        TDM_TRY(wait_for_input(s, no_wait, starved, err));
        if (*starved)
            goto done;
        got = read(s->fd, p, cap);
    } while (got < 0 && (errno == EINTR || errno == EAGAIN));
    TDM_REQUIRE(got >= 0, TDM_EIO, "%s: reading after byte %" PRIu64 ": %s", s->path, s->bytes_read,
                strerror(errno));
    *n = (size_t)got;
    s->bytes_read += *n;
    s->at_eof = got == 0;
done:
    return st;
}

/* Put more into the buffer of the file's own bytes, behind what is left there. */
static tdm_status fill(tdm_source *s, bool no_wait, bool *starved, tdm_err *err)
{
    size_t n = 0;
    if (s->start == s->end)
        s->start = s->end = 0;
    const tdm_status st = read_file(s, s->in + s->end, IN_CAP - s->end, no_wait, &n, starved, err);
    s->end += n;
    return st;
}

/* ---- damage ---- */

/* at: in the file itself */
static void set_damage_at(tdm_source *s, uint64_t at, const char *why)
{
    const bool is_gz = s->codec == TDM_GZ;
    tdm_fail(&s->damage, TDM_EFORMAT,
             "%s data is damaged behind byte %" PRIu64 " (byte %" PRIu64 " of the text): %s; whole %s up "
             "to byte %" PRIu64 " (byte %" PRIu64 ")",
             tdm_codec_name(s->codec), at, s->produced, why, is_gz ? "members" : "frames", s->whole_at,
             s->whole_produced);
}

static void set_damage(tdm_source *s, const char *why)
{
    set_damage_at(s, tdm_source_consumed(s), why);
}

static void check_ratio(tdm_source *s)
{
    const double most = s->options.max_ratio * (double)tdm_source_consumed(s);
    if (s->damage.status != TDM_OK || most <= 0 || s->produced < RATIO_SINCE || (double)s->produced <= most)
        return;
    tdm_fail(&s->damage, TDM_EFORMAT,
             "%s data of %" PRIu64 " bytes became %" PRIu64 " bytes of text: more than %g times as much",
             tdm_codec_name(s->codec), tdm_source_consumed(s), s->produced, s->options.max_ratio);
}

/* ---- decompression ---- */

static tdm_status open_codec(tdm_source *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (s->codec == TDM_GZ) {
        TDM_REQUIRE(inflateInit2(&s->gz, 15 + 16) == Z_OK, TDM_ENOMEM, "%s: a gzip reader", s->path);
        s->gz_is_open = true;
    } else if (s->codec == TDM_ZST) {
        s->zst = ZSTD_createDStream();
        TDM_REQUIRE(s->zst, TDM_ENOMEM, "%s: a zstd reader", s->path);
        s->zst_wants = ZSTD_initDStream(s->zst);
        ZSTD_DCtx_setParameter(s->zst, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    }
done:
    return st;
}

/* Read the first bytes, until they tell how the file is compressed. */
static tdm_status find_codec(tdm_source *s, bool no_wait, bool *starved, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_codec promised = tdm_codec_of_name(s->path);
    while (!s->at_eof && tdm_codec_is_open(s->in, s->end)) {
        TDM_TRY(fill(s, no_wait, starved, err));
        if (*starved)
            goto done;
    }
    s->codec = tdm_codec_of_bytes(s->in, s->end);
    if (promised != TDM_PLAIN && s->codec != promised)
        tdm_fail(&s->damage, TDM_EFORMAT, "is no %s data, though the name says so",
                 tdm_codec_name(promised));
    else
        TDM_TRY(open_codec(s, err));
    s->is_known = true;
done:
    return st;
}

static void end_part(tdm_source *s)
{
    s->is_inside = false;
    s->whole_at = tdm_source_consumed(s);
    s->whole_produced = s->produced;
}

/* Whether what begins here can be a member or frame. */
static bool begins_part(const tdm_source *s)
{
    const unsigned char *p = s->in + s->start;
    const size_t len = s->end - s->start;
    return tdm_codec_of_bytes(p, len) == s->codec || tdm_codec_is_open(p, len);
}

/* Zero bytes may follow the last member, and nothing may follow them. */
static void skip_padding(tdm_source *s)
{
    while (s->start < s->end && s->in[s->start] == 0)
        s->start++;
    if (s->start < s->end)
        set_damage(s, "more data behind zero bytes");
}

static tdm_status inflate_some(tdm_source *s, void *p, size_t cap, size_t *n, tdm_err *err)
{
    s->gz.next_in = s->in + s->start;
    s->gz.avail_in = (uInt)(s->end - s->start);
    s->gz.next_out = p;
    s->gz.avail_out = (uInt)cap;
    const int rc = inflate(&s->gz, Z_NO_FLUSH);
    *n = cap - s->gz.avail_out;
    s->start = s->end - s->gz.avail_in;
    s->produced += *n;
    s->is_inside = true;
    s->has_more = s->gz.avail_out == 0;
    if (rc == Z_STREAM_END) {
        end_part(s);
        s->has_more = false;
        inflateReset(&s->gz);
    } else if (rc == Z_MEM_ERROR) {
        return tdm_fail(err, TDM_ENOMEM, "%s: gzip reader", s->path);
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
        set_damage(s, s->gz.msg ? s->gz.msg : "no gzip data");
    }
    return TDM_OK;
}

/* Bytes of the next step: the body of a block, or what leads to it. zstd asks for a body and the header behind it at
 * once; but a call that ends in an error does not say what it had put out before, so none gets both. Steps
 * also make the place of damage the same however the bytes came. */
static size_t unzstd_step(const tdm_source *s)
{
    enum { BLOCK_HEADER = 3 };
    if (s->has_more) /* of the step before */
        return 0;
    return s->zst_wants > BLOCK_HEADER ? s->zst_wants - BLOCK_HEADER : s->zst_wants;
}

static tdm_status unzstd_some(tdm_source *s, void *p, size_t cap, size_t *n, tdm_err *err)
{
    const size_t step = unzstd_step(s), left = s->end - s->start;
    ZSTD_inBuffer in = {.src = s->in, .size = s->start + (step < left ? step : left), .pos = s->start};
    ZSTD_outBuffer out = {.dst = p, .size = cap};
    const size_t rc = ZSTD_decompressStream(s->zst, &out, &in);
    s->start = in.pos;
    *n = out.pos;
    s->produced += out.pos;
    s->is_inside = true;
    s->has_more = out.pos == out.size;
    s->zst_wants = rc;
    if (ZSTD_isError(rc)) {
        if (ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation)
            return tdm_fail(err, TDM_ENOMEM, "%s: zstd reader", s->path);
        set_damage_at(s, s->step_at, ZSTD_getErrorName(rc));
        return TDM_OK;
    }
    if (step <= left)
        s->step_at = tdm_source_consumed(s);
    if (rc == 0) {
        end_part(s);
        s->has_more = false;
        s->zst_wants = ZSTD_initDStream(s->zst);
    }
    return TDM_OK;
}

/* Some decompressed bytes; none at the end, when starved, or when there is nothing but damage. */
static tdm_status decompress(tdm_source *s, void *p, size_t cap, bool no_wait, size_t *n, bool *starved,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t most = cap < OUT_MOST ? cap : OUT_MOST;
    while (*n == 0 && s->damage.status == TDM_OK) {
        if (s->start == s->end && !s->has_more && !s->at_eof)
            TDM_TRY(fill(s, no_wait, starved, err));
        if (*starved)
            break;
        if (s->start == s->end && !s->has_more) { /* the end of the file */
            if (s->is_inside)
                set_damage(s, "it ends in the middle");
            break;
        }
        s->is_padding = s->is_padding || (s->codec == TDM_GZ && !s->is_inside && s->in[s->start] == 0);
        if (s->is_padding)
            skip_padding(s);
        else if (!s->is_inside && !begins_part(s))
            set_damage(s, "something else follows");
        else if (s->codec == TDM_GZ)
            TDM_TRY(inflate_some(s, p, most, n, err));
        else
            TDM_TRY(unzstd_some(s, p, most, n, err));
        check_ratio(s);
    }
done:
    return st;
}

/* ---- reading ---- */

static tdm_status read_plain(tdm_source *s, void *p, size_t cap, bool no_wait, size_t *n, bool *starved,
                             tdm_err *err)
{
    const size_t held = s->end - s->start;
    if (held == 0)
        return s->at_eof ? TDM_OK : read_file(s, p, cap, no_wait, n, starved, err);
    *n = held < cap ? held : cap;
    memcpy(p, s->in + s->start, *n);
    s->start += *n;
    return TDM_OK;
}

tdm_status tdm_source_read(tdm_source *s, void *p, size_t cap, bool no_wait, size_t *n, bool *starved,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    *n = 0;
    *starved = false;
    if (!s->is_known)
        TDM_TRY(find_codec(s, no_wait, starved, err));
    if (*starved)
        goto done;
    if (s->codec == TDM_PLAIN && s->damage.status == TDM_OK)
        TDM_TRY(read_plain(s, p, cap, no_wait, n, starved, err));
    else
        TDM_TRY(decompress(s, p, cap, no_wait, n, starved, err));
    TDM_REQUIRE(*n > 0 || s->damage.status == TDM_OK, TDM_EFORMAT, "%s", s->damage.msg);
done:
    return st;
}

tdm_status tdm_source_seek(tdm_source *s, uint64_t at, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    bool starved = false;
    TDM_REQUIRE(fstat(s->fd, &info) == 0 && S_ISREG(info.st_mode), TDM_EARG, "%s: is no regular file",
                s->path);
    if (!s->is_known)
        TDM_TRY(find_codec(s, false, &starved, err));
    TDM_REQUIRE(s->damage.status == TDM_OK, TDM_EFORMAT, "%s", s->damage.msg);
    TDM_REQUIRE(s->codec == TDM_PLAIN, TDM_EARG, "%s: is compressed", s->path);
    TDM_REQUIRE(at <= INT64_MAX && lseek(s->fd, (off_t)at, SEEK_SET) >= 0, TDM_EIO,
                "%s: cannot go to byte %" PRIu64, s->path, at);
    s->start = s->end = 0;
    s->at_eof = false;
    s->bytes_read = at;
done:
    return st;
}
