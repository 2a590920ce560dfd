#include "host/readfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

tdm_status tdm_file_open(const char *path, int *fd, uint64_t *size, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    /* O_NONBLOCK: a named pipe must not keep us waiting for its writer. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    TDM_REQUIRE(*fd >= 0, TDM_ENOINPUT, "%s: %s", path, strerror(errno));
    TDM_REQUIRE(fstat(*fd, &info) == 0, TDM_ENOINPUT, "%s: %s", path, strerror(errno));
    TDM_REQUIRE(S_ISREG(info.st_mode), TDM_ENOINPUT, "%s: %s", path,
                S_ISDIR(info.st_mode) ? "is a folder, want a file" : "is not a regular file");
    *size = (uint64_t)info.st_size;
done:
    if (st != TDM_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    return st;
}

tdm_status tdm_file_read(int fd, void *dst, size_t n, uint64_t at, tdm_err *err)
{
    enum { CHUNK = 1 << 30 }; /* Linux reads at most 2 GiB - 4 KiB at once */
    tdm_status st = TDM_OK;
    size_t done_bytes = 0;
    while (done_bytes < n) {
        const size_t want = n - done_bytes < CHUNK ? n - done_bytes : CHUNK;
        const ssize_t got =
            pread(fd, (char *)dst + done_bytes, want, (off_t)(at + (uint64_t)done_bytes));
        if (got < 0 && errno == EINTR)
            continue;
        TDM_REQUIRE(got >= 0, TDM_EIO, "reading %zu bytes at %" PRIu64 ": %s", n, at,
                    strerror(errno));
        TDM_REQUIRE(got > 0, TDM_EFORMAT, "ends at byte %" PRIu64 ", want %zu bytes from %" PRIu64,
                    at + done_bytes, n, at);
        done_bytes += (size_t)got;
    }
done:
    return st;
}

tdm_status tdm_file_load(const char *path, uint64_t limit, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int fd = -1;
    uint64_t size = 0;
    TDM_TRY(tdm_file_open(path, &fd, &size, err));
    if (size > limit) {
        st = tdm_fail(err, TDM_EFORMAT, "%s: %" PRIu64 " bytes, more than the %" PRIu64 " allowed",
                      path, size, limit);
        goto done;
    }
    TDM_TRY(tdm_buf_reserve(out, (size_t)size, err));
    st = tdm_file_read(fd, out->p + out->len, (size_t)size, 0, err);
    if (st != TDM_OK)
        st = tdm_context(err, st, "%s", path);
    else
        out->len += (size_t)size;
done:
    if (fd >= 0)
        close(fd);
    return st;
}
