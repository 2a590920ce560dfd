/* Who is at work on a job: byte ranges of OUT.job/lock, locked by open file (F_OFD_SETLK), so that
 * they go with the process, and hold between machines where the file system hands fcntl locks on.
 * NFS does (4, or 3 with its lock daemon), Lustre does when mounted with "flock", as is common;
 * with "localflock" or "nolock" only processes of one machine see each other. A file system without
 * them is refused. */
#include "host/job_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

/* Byte `index` is the process of that rank, COUNTS + n stands for "one of n processes". */
#define COUNTS ((off_t)1 << 40)
#define JOINER ((off_t)1 << 41)
#define NAMER (JOINER + 1)

static bool set_lock(int fd, short type, off_t start, off_t len)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, F_OFD_SETLK, &l) == 0;
}

/* Whether others hold a lock in [start, start + len), len 0: up to the end; *where: one of them.
 * Where that cannot be known they may: *where is -1 then. */
static bool find_other(int fd, off_t start, off_t len, off_t *where)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    const bool known = fcntl(fd, F_OFD_GETLK, &l) == 0;
    *where = known ? l.l_start : -1;
    return !known || l.l_type != F_UNLCK;
}

/* Whoever has all locks looks whether there is anything in the job, and is gone in a moment. */
static bool take_rank(int fd, int64_t index)
{
    static const struct timespec A_MOMENT = {.tv_nsec = 10000000};
    bool taken = set_lock(fd, F_WRLCK, (off_t)index, 1);
    for (int i = 0; i < 20 && !taken && (errno == EAGAIN || errno == EACCES); i++) {
        nanosleep(&A_MOMENT, NULL);
        taken = set_lock(fd, F_WRLCK, (off_t)index, 1);
    }
    return taken;
}

tdm_status job_lock_take(int fd, const job_names *n, tdm_rank rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const off_t mine = COUNTS + (off_t)rank.count;
    off_t where = 0;
    const bool taken = take_rank(fd, rank.index);
    TDM_REQUIRE(taken || errno == EAGAIN || errno == EACCES, TDM_ECANTCREATE,
                "%s: cannot be locked, and a job needs a file system with locks: %s", n->lock,
                strerror(errno));
    TDM_REQUIRE(taken, TDM_ECANTCREATE, "%s: another process is at work as rank %" PRId64, n->out,
                rank.index);
    TDM_REQUIRE(set_lock(fd, F_RDLCK, mine, 1), TDM_ECANTCREATE, "%s: cannot be locked: %s",
                n->lock, strerror(errno));
    const bool other = find_other(fd, COUNTS, mine - COUNTS, &where) ||
                       find_other(fd, mine + 1, JOINER - mine - 1, &where);
    TDM_REQUIRE(!other || where >= 0, TDM_ECANTCREATE, "%s: cannot be asked for locks: %s", n->lock,
                strerror(errno));
    TDM_REQUIRE(!other, TDM_ECANTCREATE,
                "%s: %" PRId64 " processes share it and are at work, this is one of %" PRId64,
                n->out, (int64_t)(where - COUNTS), rank.count);
done:
    return st;
}

tdm_status job_lock_join(int fd, const job_names *n, bool *taken, tdm_err *err)
{
    *taken = set_lock(fd, F_WRLCK, JOINER, 1);
    if (*taken || errno == EAGAIN || errno == EACCES)
        return TDM_OK;
    return tdm_fail(err, TDM_EIO, "%s: cannot be locked: %s", n->lock, strerror(errno));
}

tdm_status job_lock_name(int fd, const job_names *n, bool take, tdm_err *err)
{
    struct flock l = {.l_type = take ? F_WRLCK : F_UNLCK, .l_whence = SEEK_SET, .l_start = NAMER, .l_len = 1};
    int rc;
    do
        rc = fcntl(fd, F_OFD_SETLKW, &l);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? TDM_OK : tdm_fail(err, TDM_EIO, "%s: cannot be locked: %s", n->lock, strerror(errno));
}

bool job_lock_all(int fd)
{
    return set_lock(fd, F_WRLCK, 0, 0);
}

tdm_status job_lock_alone(int fd, const job_names *n, tdm_rank rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(rank.count == 1 || job_lock_all(fd), TDM_ECANTCREATE,
                "%s: another process is at work on it, which --restart would discard", n->out);
    if (rank.count == 1)
        goto done;
    /* What was taken beside its own (job_lock_take). */
    const off_t mine = (off_t)rank.index, count = COUNTS + (off_t)rank.count;
    const bool given = (mine == 0 || set_lock(fd, F_UNLCK, 0, mine)) &&
                       set_lock(fd, F_UNLCK, mine + 1, count - mine - 1) && set_lock(fd, F_RDLCK, count, 1) &&
                       set_lock(fd, F_UNLCK, count + 1, 0);
    TDM_REQUIRE(given, TDM_ECANTCREATE, "%s: cannot be locked: %s", n->lock, strerror(errno));
done:
    return st;
}

bool job_lock_held(int fd, uint32_t rank)
{
    off_t where;
    return find_other(fd, (off_t)rank, 1, &where);
}

bool job_lock_joining(int fd)
{
    off_t where;
    return find_other(fd, JOINER, 1, &where);
}

int64_t job_lock_count(int fd)
{
    off_t where;
    return find_other(fd, COUNTS, JOINER - COUNTS, &where) && where >= 0 ? (int64_t)(where - COUNTS)
                                                                         : 0;
}
