/* The record of what changed files, for the replay of a power loss (trace.h). Records are put while
 * the lock is held, right behind a call that went well. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/crash/faults.h"
#include "tests/crash/trace.h"

/* Calls from here are wrapped too, unless they go by these names. */
int __real_open64(const char *path, int flags, ...);
ssize_t __real_writev(int fd, const struct iovec *parts, int n);

static int trace = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void open_trace(void)
{
    const char *path = getenv("TDM_FAULT_TRACE");
    if (path)
        trace = __real_open64(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
}

bool fault_trace_is_on(void)
{
    return trace >= 0;
}

void fault_trace_lock(void)
{
    if (trace >= 0)
        pthread_mutex_lock(&mutex);
}

void fault_trace_unlock(void)
{
    if (trace >= 0)
        pthread_mutex_unlock(&mutex);
}

static void put(trace_record r, const char *name, const char *other, const void *data)
{
    const int kept = errno;
    r.n_name = (uint32_t)strlen(name);
    r.n_other = (uint32_t)strlen(other);
    struct iovec parts[] = {{&r, sizeof r},
                            {(void *)(uintptr_t)name, r.n_name},
                            {(void *)(uintptr_t)other, r.n_other},
                            {(void *)(uintptr_t)data, r.n_data}};
    const ssize_t all = (ssize_t)(sizeof r + r.n_name + r.n_other + r.n_data);
    if (__real_writev(trace, parts, 4) != all)
        _exit(98); /* a trace with a hole would prove nothing */
    errno = kept;
}

static uint64_t inode(int code, const struct stat *info)
{
    return code == 0 ? (uint64_t)info->st_ino : 0;
}

static uint64_t inode_of_fd(int fd)
{
    struct stat info;
    return inode(fstat(fd, &info), &info);
}

uint64_t fault_trace_inode(const char *path)
{
    struct stat info;
    return trace < 0 ? 0 : inode(lstat(path, &info), &info);
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static uint64_t folder_of(const char *path)
{
    char folder[4096];
    struct stat info;
    const int n = (int)(last_part(path) - path);
    snprintf(folder, sizeof folder, "%.*s", n ? n : 1, n ? path : ".");
    return inode(stat(folder, &info), &info);
}

void fault_trace_create(const char *path, int fd, bool is_new, bool is_cut)
{
    if (trace < 0 || (!is_new && !is_cut))
        return;
    put((trace_record){.op = is_new ? TRACE_CREATE : TRACE_TRUNCATE,
                       .file = inode_of_fd(fd),
                       .folder = folder_of(path)},
        last_part(path), "", NULL);
}

void fault_trace_write(int fd, const void *data, size_t n, int64_t at)
{
    struct stat info;
    if (trace < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return;
    if (at < 0)
        at = (int64_t)lseek(fd, 0, SEEK_CUR) - (int64_t)n;
    put((trace_record){.op = TRACE_WRITE,
                       .file = (uint64_t)info.st_ino,
                       .at = (uint64_t)at,
                       .n_data = (uint32_t)n},
        "", "", data);
}

void fault_trace_truncate(int fd, int64_t size)
{
    if (trace >= 0)
        put((trace_record){.op = TRACE_TRUNCATE, .file = inode_of_fd(fd), .at = (uint64_t)size}, "",
            "", NULL);
}

void fault_trace_sync(int fd)
{
    put((trace_record){.op = TRACE_SYNC, .file = inode_of_fd(fd)}, "", "", NULL);
}

void fault_trace_names(fault_kind kind, uint64_t file, const char *path, const char *other)
{
    if (trace < 0)
        return;
    trace_record r = {.file = file, .folder = folder_of(path)};
    switch (kind) {
    case FAULT_rename:
    case FAULT_link:
        r.op = kind == FAULT_rename ? TRACE_RENAME : TRACE_LINK;
        r.other_folder = folder_of(other);
        break;
    case FAULT_mkdir:
        r.op = TRACE_MKDIR;
        r.file = fault_trace_inode(path);
        break;
    default:
        r.op = kind == FAULT_unlink ? TRACE_UNLINK : TRACE_RMDIR;
    }
    put(r, last_part(path), other ? last_part(other) : "", NULL);
}
