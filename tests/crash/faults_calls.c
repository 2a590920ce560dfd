/* The calls themselves: ld's --wrap=NAME sends what the product calls NAME to __wrap_NAME here, and
 * __real_NAME is the C library's (or AddressSanitizer's). The 64 in a name is that of large files,
 * the _chk that of _FORTIFY_SOURCE. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/crash/faults.h"

#define SITE __builtin_return_address(0)

static size_t moved(fault f, size_t n)
{
    return f.halve && n > 1 ? n / 2 : n;
}

static int failed(fault f)
{
    errno = f.error;
    return -1;
}

/* ---- memory and threads ---- */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

static bool is_out_of_memory(fault f)
{
    if (f.error)
        errno = f.error;
    return f.error != 0;
}

void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
    return is_out_of_memory(fault_meet(FAULT_malloc, SITE)) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return is_out_of_memory(fault_meet(FAULT_calloc, SITE)) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
    return is_out_of_memory(fault_meet(FAULT_realloc, SITE)) ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t alignment, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    return is_out_of_memory(fault_meet(FAULT_aligned_alloc, SITE))
               ? NULL
               : __real_aligned_alloc(alignment, n);
}

char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s)
{
    return is_out_of_memory(fault_meet(FAULT_strdup, SITE)) ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n)
{
    return is_out_of_memory(fault_meet(FAULT_strdup, SITE)) ? NULL : __real_strndup(s, n);
}

int __wrap_asprintf(char **out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **out, const char *fmt, ...)
{
    const fault f = fault_meet(FAULT_asprintf, SITE);
    if (f.error)
        return failed(f);
    va_list args;
    va_start(args, fmt);
    const int n = vasprintf(out, fmt, args);
    va_end(args);
    return n;
}

int __wrap___asprintf_chk(char **out, int flag, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int __wrap___asprintf_chk(char **out, int flag, const char *fmt, ...)
{
    const fault f = fault_meet(FAULT_asprintf, SITE);
    (void)flag;
    if (f.error)
        return failed(f);
    va_list args;
    va_start(args, fmt);
    const int n = vasprintf(out, fmt, args);
    va_end(args);
    return n;
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    const fault f = fault_meet(FAULT_pthread_create, SITE);
    return f.error ? f.error : __real_pthread_create(t, attr, fn, arg);
}

/* ---- reading ---- */

ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __real_pread64(int fd, void *p, size_t n, off_t at);
void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset);
DIR *__real_opendir(const char *path);
int __real_scandir64(const char *path, struct dirent ***names, int (*choose)(const struct dirent *),
                     int (*compare)(const struct dirent **, const struct dirent **));

static ssize_t faulty_read(int fd, void *p, size_t n, const void *site)
{
    const fault f = fault_meet(FAULT_read, site);
    if (f.error)
        return failed(f);
    const ssize_t got = __real_read(fd, p, moved(f, n));
    fault_behind(f);
    return got;
}

ssize_t __wrap_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n)
{
    return faulty_read(fd, p, n, SITE);
}

ssize_t __wrap___read_chk(int fd, void *p, size_t n, size_t size);
ssize_t __wrap___read_chk(int fd, void *p, size_t n, size_t size)
{
    if (n > size)
        abort();
    return faulty_read(fd, p, n, SITE);
}

static ssize_t faulty_pread(int fd, void *p, size_t n, off_t at, const void *site)
{
    const fault f = fault_meet(FAULT_pread, site);
    if (f.error)
        return failed(f);
    const ssize_t got = __real_pread64(fd, p, moved(f, n), at);
    fault_behind(f);
    return got;
}

ssize_t __wrap_pread64(int fd, void *p, size_t n, off_t at);
ssize_t __wrap_pread64(int fd, void *p, size_t n, off_t at)
{
    return faulty_pread(fd, p, n, at, SITE);
}

ssize_t __wrap___pread64_chk(int fd, void *p, size_t n, off_t at, size_t size);
ssize_t __wrap___pread64_chk(int fd, void *p, size_t n, off_t at, size_t size)
{
    if (n > size)
        abort();
    return faulty_pread(fd, p, n, at, SITE);
}

void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    return is_out_of_memory(fault_meet(FAULT_mmap, SITE))
               ? MAP_FAILED
               : __real_mmap64(at, n, prot, flags, fd, offset);
}

DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path)
{
    return is_out_of_memory(fault_meet(FAULT_opendir, SITE)) ? NULL : __real_opendir(path);
}

int __wrap_scandir64(const char *path, struct dirent ***names, int (*choose)(const struct dirent *),
                     int (*compare)(const struct dirent **, const struct dirent **));
int __wrap_scandir64(const char *path, struct dirent ***names, int (*choose)(const struct dirent *),
                     int (*compare)(const struct dirent **, const struct dirent **))
{
    const fault f = fault_meet(FAULT_opendir, SITE);
    return f.error ? failed(f) : __real_scandir64(path, names, choose, compare);
}

/* ---- descriptors ---- */

int __real_open64(const char *path, int flags, ...);
int __real_close(int fd);
int __real_fcntl64(int fd, int command, ...);

int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
    const fault f = fault_meet(FAULT_open, SITE);
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (f.error)
        return failed(f);
    fault_trace_lock();
    const bool is_new = flags & O_CREAT && access(path, F_OK) != 0;
    if (is_new && fault_is_full()) {
        fault_trace_unlock();
        return failed((fault){.error = ENOSPC});
    }
    const int fd = __real_open64(path, flags, mode);
    if (fd >= 0)
        fault_trace_create(path, fd, is_new, flags & O_TRUNC);
    fault_trace_unlock();
    fault_behind(f);
    return fd;
}

/* An error of close comes after the descriptor is gone, as it does on Linux. */
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    const fault f = fault_meet(FAULT_close, SITE);
    const int code = __real_close(fd);
    fault_behind(f);
    return f.error ? failed(f) : code;
}

int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    void *arg = va_arg(args, void *);
    va_end(args);
    if (command == F_GETFD) /* whether a number is in use: this cannot fail otherwise */
        return __real_fcntl64(fd, command, arg);
    const fault f = fault_meet(FAULT_fcntl, SITE);
    if (f.error)
        return failed(f);
    const int code = __real_fcntl64(fd, command, arg);
    fault_behind(f);
    return code;
}

/* ---- writing ---- */

ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __real_pwrite64(int fd, const void *p, size_t n, off_t at);
ssize_t __real_writev(int fd, const struct iovec *parts, int n);
int __real_ftruncate64(int fd, off_t size);
int __real_fsync(int fd);
int __real_fdatasync(int fd);

static ssize_t faulty_write(fault_kind kind, int fd, const void *p, size_t n, off_t at,
                            const void *site)
{
    const fault f = fault_meet(kind, site);
    if (f.error)
        return failed(f);
    const size_t fits = fault_room(fd, moved(f, n));
    if (n && !fits)
        return failed((fault){.error = ENOSPC});
    fault_trace_lock();
    const ssize_t done = at < 0 ? __real_write(fd, p, fits) : __real_pwrite64(fd, p, fits, at);
    if (done > 0)
        fault_trace_write(fd, p, (size_t)done, at);
    fault_trace_unlock();
    fault_behind(f);
    return done;
}

ssize_t __wrap_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    return faulty_write(FAULT_write, fd, p, n, -1, SITE);
}

ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t at)
{
    return faulty_write(FAULT_pwrite, fd, p, n, at, SITE);
}

/* As writev may do, this one writes the first part that is not empty and leaves the rest to the
 * next call. */
ssize_t __wrap_writev(int fd, const struct iovec *parts, int n);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int n)
{
    int i = 0;
    while (i < n - 1 && parts[i].iov_len == 0)
        i++;
    return faulty_write(FAULT_writev, fd, parts[i].iov_base, parts[i].iov_len, -1, SITE);
}

int __wrap_ftruncate64(int fd, off_t size);
int __wrap_ftruncate64(int fd, off_t size)
{
    const fault f = fault_meet(FAULT_ftruncate, SITE);
    if (f.error)
        return failed(f);
    fault_trace_lock();
    const int code = __real_ftruncate64(fd, size);
    if (code == 0)
        fault_trace_truncate(fd, size);
    fault_trace_unlock();
    fault_behind(f);
    return code;
}

static int faulty_sync(fault_kind kind, int fd, const void *site)
{
    const fault f = fault_meet(kind, site);
    if (f.error)
        return failed(f);
    fault_trace_lock();
    int code = 0;
    if (fault_trace_is_on()) /* a model of the disk, not the disk, is asked later: be quick */
        fault_trace_sync(fd);
    else
        code = kind == FAULT_fsync ? __real_fsync(fd) : __real_fdatasync(fd);
    fault_trace_unlock();
    fault_behind(f);
    return code;
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    return faulty_sync(FAULT_fsync, fd, SITE);
}

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    return faulty_sync(FAULT_fdatasync, fd, SITE);
}

/* ---- names ---- */

int __real_rename(const char *from, const char *to);
int __real_link(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_mkdir(const char *path, mode_t mode);
int __real_rmdir(const char *path);

/* What the calls on names have in common; `mode` is mkdir's alone. */
static int change_names(fault_kind kind, const char *path, const char *other, mode_t mode)
{
    switch (kind) {
    case FAULT_rename:
        return __real_rename(path, other);
    case FAULT_link:
        return __real_link(path, other);
    case FAULT_unlink:
        return __real_unlink(path);
    case FAULT_mkdir:
        return __real_mkdir(path, mode);
    default:
        return __real_rmdir(path);
    }
}

static int faulty_names(fault_kind kind, const char *path, const char *other, mode_t mode,
                        const void *site)
{
    const fault f = fault_meet(kind, site);
    if (f.error)
        return failed(f);
    if (kind == FAULT_mkdir && access(path, F_OK) != 0 && fault_is_full())
        return failed((fault){.error = ENOSPC});
    fault_trace_lock();
    const uint64_t file = fault_trace_inode(path);
    const int code = change_names(kind, path, other, mode);
    if (code == 0)
        fault_trace_names(kind, file, path, other);
    fault_trace_unlock();
    fault_behind(f);
    return code;
}

int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    return faulty_names(FAULT_rename, from, to, 0, SITE);
}

int __wrap_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to)
{
    return faulty_names(FAULT_link, from, to, 0, SITE);
}

int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path)
{
    return faulty_names(FAULT_unlink, path, NULL, 0, SITE);
}

int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode)
{
    return faulty_names(FAULT_mkdir, path, NULL, mode, SITE);
}

int __wrap_rmdir(const char *path);
int __wrap_rmdir(const char *path)
{
    return faulty_names(FAULT_rmdir, path, NULL, 0, SITE);
}
