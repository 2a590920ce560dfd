#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/cpu.h"
#include "host/ranks.h"
#include "host/threads.h"

/* The ranks read and write each other's memory, between two meetings: at the first all have said where it is, at the second
 * all are through with it. */

/* What a rank is at. */
typedef struct {
    int64_t rows;
    int32_t cols;  /* of y */
    int32_t block; /* columns of x of a join; of a sum 0 */
    float *p;      /* y of a sum, x of a join */
} post;

struct cpu_meeting {
    int32_t n, here;          /* ranks; of them, those that wait */
    atomic_uint turn;         /* meetings so far */
    int spins;                /* polls before a rank goes to sleep; 0 where threads outnumber cores */
    pthread_mutex_t mutex;    /* of here */
    pthread_cond_t complete;
    atomic_int users;
    post posts[TDM_MOST_RANKS];
};

/* Until the meeting is complete, or another rank failed: nobody wakes this one then, so it looks now and then. That all
 * came counts for more than that one failed: where all are about to fail alike, none may be ended. */
static bool sleep_until(cpu_meeting *m, unsigned turn, const atomic_int *failed)
{
    enum { LOOK_MS = 5 };
    while (atomic_load(&m->turn) == turn) {
        if (atomic_load(failed))
            return false;
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += LOOK_MS * 1000000;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&m->complete, &m->mutex, &t);
    }
    return true;
}

static tdm_status meet(cpu_meeting *m, const atomic_int *failed, tdm_err *err)
{
    pthread_mutex_lock(&m->mutex);
    const unsigned turn = atomic_load(&m->turn);
    bool complete = ++m->here == m->n;
    if (complete) {
        m->here = 0;
        atomic_fetch_add(&m->turn, 1);
        pthread_cond_broadcast(&m->complete);
    }
    pthread_mutex_unlock(&m->mutex);
    for (int i = 0; i < m->spins && !complete; i++) {
        complete = atomic_load(&m->turn) != turn;
        tdm_relax();
    }
    if (complete)
        return TDM_OK;
    pthread_mutex_lock(&m->mutex);
    complete = sleep_until(m, turn, failed);
    pthread_mutex_unlock(&m->mutex);
    return complete ? TDM_OK : tdm_fail(err, TDM_ESTOPPED, "another rank failed");
}

static void say(char *text, size_t size, const post *p)
{
    if (p->block == 0)
        snprintf(text, size, "sums up %lld x %d", (long long)p->rows, p->cols);
    else
        snprintf(text, size, "joins %lld x %d to %d columns", (long long)p->rows, p->block, p->cols);
}

static tdm_status check_same(const post *first, const post *other, int32_t rank, tdm_err *err)
{
    if (first->rows == other->rows && first->cols == other->cols && first->block == other->block)
        return TDM_OK;
    char a[80], b[80];
    say(a, sizeof a, first);
    say(b, sizeof b, other);
    return tdm_fail(err, TDM_EINTERNAL, "rank 0 %s, rank %d %s", a, rank, b);
}

/* Meet at `mine`, where all ranks must be at the same; *posts receives those of all. */
static tdm_status meet_at(cpu_backend *be, post mine, const post **posts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cpu_meeting *m = be->meeting;
    m->posts[be->rank] = mine;
    *posts = m->posts;
    TDM_TRY(meet(m, be->failed, err));
    for (int32_t i = 1; i < m->n; i++)
        TDM_TRY(check_same(&m->posts[0], &m->posts[i], i, err));
done:
    return st;
}

/* Each rank adds up a slice of the elements and gives it to all. */
tdm_status cpu_sum_ranks(void *self, tdm_mat y, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cpu_backend *be = self;
    const post *posts;
    TDM_TRY(meet_at(be, (post){y.rows, y.cols, 0, y.p}, &posts, err));
    const int32_t n = be->meeting->n;
    const size_t all = (size_t)y.rows * (size_t)y.cols;
    const size_t begin = all * (size_t)be->rank / (size_t)n, end = all * ((size_t)be->rank + 1) / (size_t)n;
    for (int32_t r = 1; r < n; r++)
        for (size_t i = begin; i < end; i++)
            posts[0].p[i] += posts[r].p[i];
    for (int32_t r = 1; r < n && begin < end; r++)
        memcpy(posts[r].p + begin, posts[0].p + begin, (end - begin) * sizeof(float));
    TDM_TRY(meet(be->meeting, be->failed, err));
done:
    return st;
}

tdm_status cpu_join_ranks(void *self, tdm_mat y, tdm_mat x, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cpu_backend *be = self;
    const post *posts;
    TDM_TRY(meet_at(be, (post){y.rows, y.cols, x.cols, x.p}, &posts, err));
    const size_t stride = cpu_stride(&y), width = (size_t)x.cols;
    for (int32_t r = 0; r < be->meeting->n && (size_t)r * width < (size_t)y.cols; r++) {
        const size_t first = (size_t)r * width, left = (size_t)y.cols - first;
        for (size_t i = 0; i < (size_t)y.rows; i++)
            memcpy((float *)y.p + i * stride + first, posts[r].p + i * width,
                   (left < width ? left : width) * sizeof(float));
    }
    TDM_TRY(meet(be->meeting, be->failed, err));
done:
    return st;
}

/* ---- open and close ---- */

static tdm_status open_meeting(int32_t n, int spins, cpu_meeting **out, tdm_err *err)
{
    pthread_condattr_t attr;
    cpu_meeting *m = calloc(1, sizeof *m);
    *out = m;
    if (!m)
        return tdm_fail(err, TDM_ENOMEM, "a meeting of %d ranks", n);
    m->n = n;
    m->spins = spins;
    atomic_store(&m->users, 1);
    pthread_mutex_init(&m->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->complete, &attr);
    pthread_condattr_destroy(&attr);
    return TDM_OK;
}

void cpu_leave_meeting(cpu_meeting *m)
{
    if (!m || atomic_fetch_sub(&m->users, 1) > 1)
        return;
    pthread_cond_destroy(&m->complete);
    pthread_mutex_destroy(&m->mutex);
    free(m);
}

int32_t cpu_meeting_size(const cpu_meeting *m)
{
    return m ? m->n : 1;
}

typedef struct {
    cpu_meeting *meeting;
    int threads;
} open_job;

static tdm_status open_rank(void *ctx, int32_t rank, const atomic_int *failed, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const open_job *job = ctx;
    TDM_TRY(tdm_open_cpu(job->threads, out, err));
    cpu_backend *be = out->self;
    be->rank = rank;
    be->failed = failed;
    be->meeting = job->meeting;
    atomic_fetch_add(&job->meeting->users, 1);
done:
    return st;
}

tdm_status tdm_open_cpu_ranks(int32_t n, int threads, tdm_backend *out, tdm_err *err)
{
    enum { SPINS = 1000 };
    tdm_status st = TDM_OK;
    open_job job = {.threads = threads};
    char device[64];
    const int cores = tdm_usable_cores();
    *out = (tdm_backend){0};
    TDM_REQUIRE(n >= 1 && n <= TDM_MOST_RANKS, TDM_EARG, "%d ranks, want 1 to %d", n, TDM_MOST_RANKS);
    if (threads == 0)
        job.threads = cores > n ? cores / n : 1;
    TDM_TRY(open_meeting(n, job.threads * n <= cores ? SPINS : 0, &job.meeting, err));
    snprintf(device, sizeof device, "cpu, %d rank%s", n, n == 1 ? "" : "s");
    TDM_TRY(tdm_ranks_open(n, open_rank, &job, device, out, err));
done:
    cpu_leave_meeting(job.meeting);
    return st;
}
