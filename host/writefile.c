#include "host/writefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder that holds what `path` names; the caller frees it. NULL without memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

tdm_status tdm_writefile_check(const char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    char *folder = folder_of(path);
    TDM_REQUIRE(folder, TDM_ENOMEM, "%s: its folder", path);
    if (stat(path, &info) == 0) {
        TDM_REQUIRE(!S_ISDIR(info.st_mode), TDM_ECANTCREATE, "%s: is a folder", path);
        TDM_REQUIRE(access(path, W_OK) == 0, TDM_ECANTCREATE, "%s: %s", path, strerror(errno));
        if (!S_ISREG(info.st_mode))
            goto done;
    }
    TDM_REQUIRE(access(folder, W_OK | X_OK) == 0, TDM_ECANTCREATE, "%s: its folder: %s", path, strerror(errno));
done:
    free(folder);
    return st;
}

static tdm_status write_all(int fd, const char *path, const char *p, size_t len, tdm_err *err)
{
    while (len > 0) {
        const ssize_t n = write(fd, p, len);
        if (n < 0 && errno != EINTR)
            return tdm_fail(err, TDM_EIO, "%s: writing: %s", path, strerror(errno));
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return TDM_OK;
}

/* Into a pipe or a device, which a file must not replace. */
static tdm_status write_through(const char *path, const void *data, size_t len, tdm_err *err)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return tdm_fail(err, TDM_ECANTCREATE, "%s: %s", path, strerror(errno));
    const tdm_status st = write_all(fd, path, data, len, err);
    close(fd);
    return st;
}

static tdm_status write_new(const char *path, const void *data, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char *temporary = NULL;
    int fd = -1;
    TDM_REQUIRE(asprintf(&temporary, "%s.%ld.tmp", path, (long)getpid()) > 0, TDM_ENOMEM, "%s: a name beside it", path);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    TDM_REQUIRE(fd >= 0, TDM_ECANTCREATE, "%s: %s", temporary, strerror(errno));
    TDM_TRY(write_all(fd, path, data, len, err));
    TDM_REQUIRE(fsync(fd) == 0, TDM_EIO, "%s: writing: %s", path, strerror(errno));
    TDM_REQUIRE(rename(temporary, path) == 0, TDM_ECANTCREATE, "%s: %s", path, strerror(errno));
done:
    if (fd >= 0)
        close(fd);
    if (st != TDM_OK && fd >= 0)
        unlink(temporary);
    free(temporary);
    return st;
}

tdm_status tdm_writefile(const char *path, const void *data, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    const bool exists = stat(path, &info) == 0;
    char *real = NULL;
    if (exists && !S_ISREG(info.st_mode))
        return write_through(path, data, len, err);
    if (exists)
        real = realpath(path, NULL);
    TDM_TRY(write_new(real ? real : path, data, len, err));
done:
    free(real);
    return st;
}

bool tdm_writefile_same(const char *path, const char *other)
{
    struct stat a, b;
    return !strcmp(path, other) || (stat(path, &a) == 0 && stat(other, &b) == 0 && S_ISREG(a.st_mode) &&
                                    a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}
