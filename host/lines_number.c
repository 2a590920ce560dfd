/* Which line it is that begins at a byte, without a look at what the lines hold. */
#include "host/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 256 << 10 };

void tdm_line_counter_close(tdm_line_counter *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->buf);
    *c = (tdm_line_counter)TDM_LINE_COUNTER_NONE;
}

static tdm_status turn_to(tdm_line_counter *c, const char *path, size_t number, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (c->fd >= 0 && c->number == number)
        return TDM_OK;
    tdm_line_counter_close(c);
    c->buf = malloc(BLOCK);
    TDM_REQUIRE(c->buf, TDM_ENOMEM, "%s: a buffer of %d bytes", path, BLOCK);
    c->fd = open(path, O_RDONLY | O_CLOEXEC);
    TDM_REQUIRE(c->fd >= 0, TDM_ENOINPUT, "%s: %s", path, strerror(errno));
    c->number = number;
done:
    return st;
}

static int64_t count_newlines(const char *p, size_t n)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += p[i] == '\n';
    return count;
}

tdm_status tdm_line_number(tdm_line_counter *c, const char *path, size_t number, uint64_t offset,
                           const tdm_stop *stop, int64_t *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(turn_to(c, path, number, err));
    if (offset < c->at) { /* back: from the beginning again */
        c->at = 0;
        c->newlines = 0;
    }
    while (c->at < offset) {
        const uint64_t left = offset - c->at;
        TDM_TRY(tdm_check_stop(stop, err));
        const ssize_t n = pread(c->fd, c->buf, left < BLOCK ? (size_t)left : BLOCK, (off_t)c->at);
        if (n < 0 && errno == EINTR)
            continue;
        TDM_REQUIRE(n >= 0, TDM_EIO, "%s: reading after byte %" PRIu64 ": %s", path, c->at, strerror(errno));
        TDM_REQUIRE(n > 0, TDM_EIO, "%s: ends before byte %" PRIu64, path, offset);
        c->newlines += count_newlines(c->buf, (size_t)n);
        c->at += (uint64_t)n;
    }
    *line = c->newlines + 1;
done:
    return st;
}
