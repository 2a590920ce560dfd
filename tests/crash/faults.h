/* tests/crash/faults.h - the calls that tandem_faults makes fail, counts and records.
 *
 * tandem_faults is the product's own object files, linked with --wrap for each call below, so that
 * what is tested is the code that is shipped. Its environment:
 *
 *   TDM_FAULT=KIND:N:WHAT   the N-th call of this kind (from 1; "N+": that one and all behind it). KIND is a name
 *                           of FAULT_KINDS, "alloc" or "file" for all of that sort, or a call site as
 *                           TDM_FAULT_LIST gives it: "write@0x1a2b". WHAT:
 *     ENOSPC, EIO, EINTR, ENOMEM, EAGAIN, ...  the call fails with this errno
 *     short             reads and writes move only half of the bytes
 *     kill, kill-after  SIGKILL before the call, or behind it
 *     torn              half of the bytes are written, then SIGKILL
 *     stop              SIGSTOP before the call: it goes on with SIGCONT
 *   TDM_FAULT_WHILE=FILE    stop only while FILE is there
 *   TDM_FAULT=full:BYTES    the disk is full once so many bytes have been written to regular files
 *   TDM_FAULT_LIST=FILE     at exit, append "KIND@0xADDRESS COUNT" for each call site, and "fired N": how often
 *                           the fault was met
 *   TDM_FAULT_TRACE=FILE    append what changes files (tests/crash/trace.h) */
#ifndef TESTS_CRASH_FAULTS_H
#define TESTS_CRASH_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* name, whether it allocates; otherwise it is about files, or threads */
#define FAULT_KINDS(X)                                                                             \
    X(malloc, ALLOC)                                                                               \
    X(calloc, ALLOC)                                                                               \
    X(realloc, ALLOC)                                                                              \
    X(aligned_alloc, ALLOC)                                                                        \
    X(strdup, ALLOC)                                                                               \
    X(asprintf, ALLOC)                                                                             \
    X(json, ALLOC) /* malloc in cJSON */                                                           \
    X(pthread_create, THREAD)                                                                      \
    X(open, FILE)                                                                                  \
    X(opendir, FILE)                                                                               \
    X(close, FILE)                                                                                 \
    X(read, FILE)                                                                                  \
    X(pread, FILE)                                                                                 \
    X(mmap, FILE)                                                                                  \
    X(write, FILE)                                                                                 \
    X(pwrite, FILE)                                                                                \
    X(writev, FILE)                                                                                \
    X(ftruncate, FILE)                                                                             \
    X(fsync, FILE)                                                                                 \
    X(fdatasync, FILE)                                                                             \
    X(rename, FILE)                                                                                \
    X(link, FILE)                                                                                  \
    X(unlink, FILE)                                                                                \
    X(mkdir, FILE)                                                                                 \
    X(rmdir, FILE)                                                                                 \
    X(fcntl, FILE)

typedef enum {
#define X(name, sort) FAULT_##name,
    FAULT_KINDS(X)
#undef X
        N_FAULT_KINDS
} fault_kind;

extern const char *const FAULT_NAMES[N_FAULT_KINDS];

/* What is to become of one call. */
typedef struct {
    int error;  /* not 0: fail with this errno, undone */
    bool halve; /* move half of the bytes */
    bool kill_after;
} fault;

/* Count a call of this kind from this place, kill the process if that is asked, else say what to
 * do. */
fault fault_meet(fault_kind kind, const void *site);
/* Kill the process if that is asked for behind the call. */
void fault_behind(fault f);
/* Of n bytes to a regular file, how many still fit on a disk that is being filled. */
size_t fault_room(int fd, size_t n);
bool fault_is_full(void);

/* Before a call that changes files and behind it: what is in between is recorded as one, where a
 * trace is kept. Without a trace all of these do nothing. errno stays. */
bool fault_trace_is_on(void);
void fault_trace_lock(void);
void fault_trace_unlock(void);
/* The inode behind a name; 0: none. */
uint64_t fault_trace_inode(const char *path);
void fault_trace_create(const char *path, int fd, bool is_new, bool is_cut);
void fault_trace_write(int fd, const void *data, size_t n,
                       int64_t at); /* at -1: n bytes before where fd stands */
void fault_trace_truncate(int fd, int64_t size);
void fault_trace_sync(int fd); /* only where a trace is kept */
/* rename, link, unlink, mkdir, rmdir; file: what `path` was before */
void fault_trace_names(fault_kind kind, uint64_t file, const char *path, const char *other);

#endif
