/* tests/count_reads.h - how much of files a program reads. For one source of a program. */
#ifndef TESTS_COUNT_READS_H
#define TESTS_COUNT_READS_H

#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

atomic_size_t bytes_read; /* several ranks read at the same time; not static, as pread may be inline */

/* In place of the C library's. */
ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    const ssize_t got = (ssize_t)syscall(SYS_pread64, fd, to, n, at);
    if (got > 0)
        atomic_fetch_add(&bytes_read, (size_t)got);
    return got;
}

#endif
