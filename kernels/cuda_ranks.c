/* kernels/cuda_ranks.c - one device among several that hold one model together: waiting without being held up by those that
 * are gone, and the messages of sum_ranks and join_ranks. */
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "host/ranks.h"
#include "kernels/cuda.h"

/* ---- waiting ---- */

/* Between two looks. A step of decoding is over within the first phase; whoever waits longer leaves the core to others. */
static void pause_before(int look)
{
    enum { BRISK = 20000 };
    static const struct timespec NAP = {.tv_nsec = 50000};
    if (look < BRISK)
        (void)sched_yield();
    else
        (void)nanosleep(&NAP, NULL);
}

static tdm_status check_alive(const cuda_backend *c, tdm_err *err)
{
    if (c->rank.dead || atomic_load(c->rank.failed))
        return tdm_fail(err, TDM_ESTOPPED, "another rank failed");
    return TDM_OK;
}

static cudaError_t look_at(const cuda_backend *c, cudaEvent_t event)
{
    const cudaError_t error = event ? cudaEventQuery(event) : cudaStreamQuery(c->stream);
    if (error == cudaErrorNotReady)
        (void)cudaGetLastError(); /* or the next launch is blamed */
    return error;
}

/* What went wrong between the devices, as NCCL says, may be that one is lost, of which CUDA knows more: here, or on
 * another rank, which has half a second to say it first. */
static tdm_status blame(const cuda_backend *c, tdm_status st, tdm_err *err)
{
    enum { LOOKS = 500 };
    static const struct timespec NAP = {.tv_nsec = 1000000};
    if (st == TDM_OK || c->capturing)
        return st;
    const cudaError_t error = look_at(c, NULL);
    if (error != cudaSuccess && error != cudaErrorNotReady)
        return cuda_check(error, "messages", err);
    for (int i = 0; i < LOOKS && !atomic_load(c->rank.failed); i++)
        (void)nanosleep(&NAP, NULL);
    return st;
}

static cudaError_t wait_alone(const cuda_backend *c, cudaEvent_t event)
{
    return event ? cudaEventSynchronize(event) : cudaStreamSynchronize(c->stream);
}

/* What was enqueued on this rank was on all (cuda_meet), and comes to an end wherever one fails by itself: with the device
 * of that one it is another matter, for which there is a fifth of a second. */
static bool goes_on(const cuda_backend *c, int *late)
{
    enum { LATEST = 200 };
    static const struct timespec NAP = {.tv_nsec = 1000000};
    if (!c->rank.dead && !atomic_load(c->rank.failed))
        return true;
    (void)nanosleep(&NAP, NULL);
    return !c->rank.dead && ++*late < LATEST;
}

tdm_status cuda_wait(const cuda_backend *c, cudaEvent_t event, const char *what, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (c->rank.n == 0)
        return cuda_check(wait_alone(c, event), what, err);
    for (int look = 0, late = 0;; look += look < INT32_MAX) {
        const cudaError_t error = look_at(c, event);
        if (error != cudaErrorNotReady)
            return cuda_check(error, what, err);
        if (!goes_on(c, &late))
            return check_alive(c, err);
        if (c->rank.comm)
            TDM_TRY(blame(c, tdm_comm_check(c->rank.comm, err), err));
        pause_before(look);
    }
done:
    return st;
}

/* ---- meeting ---- */

struct cuda_meeting {
    int32_t n;
    atomic_int users, here;
    atomic_uint turn; /* meetings so far */
};

tdm_status cuda_meeting_open(int32_t n, cuda_meeting **out, tdm_err *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return tdm_fail(err, TDM_ENOMEM, "a meeting of %d ranks", n);
    (*out)->n = n;
    atomic_store(&(*out)->users, 1);
    return TDM_OK;
}

cuda_meeting *cuda_meeting_take(cuda_meeting *m)
{
    atomic_fetch_add(&m->users, 1);
    return m;
}

void cuda_meeting_leave(cuda_meeting *m)
{
    if (m && atomic_fetch_sub(&m->users, 1) == 1)
        free(m);
}

/* That all came counts for more than that one failed since: where all are about to fail alike, none is held up. */
tdm_status cuda_meet(const cuda_backend *c, tdm_err *err)
{
    if (c->rank.n == 0 || c->capturing)
        return TDM_OK;
    if (c->rank.dead)
        return check_alive(c, err);
    cuda_meeting *m = c->rank.meeting;
    const unsigned turn = atomic_load(&m->turn);
    if (atomic_fetch_add(&m->here, 1) + 1 == m->n) {
        atomic_store(&m->here, 0);
        atomic_fetch_add(&m->turn, 1);
        return TDM_OK;
    }
    for (int look = 0; atomic_load(&m->turn) == turn; look += look < INT32_MAX) {
        if (atomic_load(c->rank.failed) && atomic_load(&m->turn) == turn)
            return check_alive(c, err);
        pause_before(look);
    }
    return TDM_OK;
}

/* ---- messages ---- */

static tdm_status gather(cuda_backend *c, void *to, const void *from, size_t bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(cuda_meet(c, err));
    TDM_TRY(blame(c, tdm_comm_gather(c->rank.comm, to, from, bytes, c->stream, err), err));
    TDM_TRY(cuda_meet(c, err));
    TDM_TRY(cuda_enqueued(c, cudaSuccess, "gathering", err));
done:
    return st;
}

static tdm_status exchange(cuda_backend *c, void *to, const void *from, size_t bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(cuda_meet(c, err));
    TDM_TRY(blame(c, tdm_comm_exchange(c->rank.comm, to, from, bytes, c->stream, err), err));
    TDM_TRY(cuda_meet(c, err));
    TDM_TRY(cuda_enqueued(c, cudaSuccess, "exchanging", err));
done:
    return st;
}

/* A small and a large one of each kind: what is sent in between finds its ways open. */
tdm_status cuda_rank_connect(cuda_backend *c, tdm_err *err)
{
    enum { SMALL = 16, LARGE = 4 << 20 };
    static const size_t ALL[] = {SMALL * TDM_MOST_RANKS, LARGE};
    tdm_status st = TDM_OK;
    for (int i = 0; i < 2; i++) {
        const size_t each = ALL[i] / (size_t)c->rank.n / 16 * 16;
        char *to = c->rank.staging, *from = to + LARGE;
        TDM_TRY(gather(c, to, from, each, err));
        TDM_TRY(exchange(c, to, from, each, err));
    }
    TDM_TRY(cuda_wait(c, NULL, "joining the devices", err));
done:
    return st;
}

/* ---- sums ---- */

/* A piece of `bytes` at p of rows that are added up: in f32 from the parts [n][bytes] in staging. */
static tdm_status add(cuda_backend *c, void *p, size_t bytes, tdm_dtype dtype, tdm_err *err)
{
    return cuda_enqueued(c,
                         tdmk_add_ranks(p, c->rank.staging, dtype, c->rank.n,
                                        (int64_t)(bytes / tdm_dtype_size(dtype)), c->stream),
                         "kernel", err);
}

static size_t bytes_of(tdm_mat y)
{
    return (size_t)y.rows * (size_t)y.cols * tdm_dtype_size(y.dtype);
}

static tdm_status sum_gathered(cuda_backend *c, char *p, size_t bytes, tdm_dtype dtype, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t most = c->rank.staging_bytes / (size_t)c->rank.n / 16 * 16;
    for (size_t done = 0, n; done < bytes; done += n) {
        n = bytes - done < most ? bytes - done : most;
        TDM_TRY(gather(c, c->rank.staging, p + done, n, err));
        TDM_TRY(add(c, p + done, n, dtype, err));
    }
done:
    return st;
}

tdm_status cuda_sum_gathered(cuda_backend *c, tdm_mat y, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_alive(c, err));
    TDM_TRY(sum_gathered(c, y.p, bytes_of(y), y.dtype, err));
done:
    return st;
}

/* Slices are 16 bytes or a multiple; what does not divide into one for each rank is gathered, a message more. */
tdm_status cuda_sum_exchanged(cuda_backend *c, tdm_mat y, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = (size_t)c->rank.n, unit = 16 * n, most = c->rank.staging_bytes / unit * unit;
    const size_t bytes = bytes_of(y), even = bytes / unit * unit;
    TDM_TRY(check_alive(c, err));
    for (size_t done = 0, piece; done < even; done += piece) {
        piece = even - done < most ? even - done : most;
        const size_t slice = piece / n;
        char *p = (char *)y.p + done, *mine = p + (size_t)c->rank.number * slice;
        TDM_TRY(exchange(c, c->rank.staging, p, slice, err));
        TDM_TRY(add(c, mine, slice, y.dtype, err));
        TDM_TRY(gather(c, p, mine, slice, err));
    }
    TDM_TRY(sum_gathered(c, (char *)y.p + even, bytes - even, y.dtype, err));
done:
    return st;
}

/* A message takes about LATENCY and then RATE. Of M bytes one way sends each rank (N - 1) M in one message, the other
 * 2 (N - 1) / N M in two: they take the same time at M = LATENCY RATE N / ((N - 1) (N - 2)), 2.0 MB for four ranks. Two ranks
 * always gather. (NVLink 4, not measured here: NOTES.md.) */
static bool exchanges(int32_t ranks, size_t bytes)
{
    enum { LATENCY = 8000 /* ns */, RATE = 370 /* bytes a ns */ };
    const size_t n = (size_t)ranks;
    return n > 2 && bytes >= (size_t)LATENCY * RATE * n / ((n - 1) * (n - 2));
}

tdm_status cuda_sum_ranks(void *self, tdm_mat y, tdm_err *err)
{
    cuda_backend *c = self;
    return exchanges(c->rank.n, bytes_of(y)) ? cuda_sum_exchanged(c, y, err) : cuda_sum_gathered(c, y, err);
}

/* ---- columns ---- */

tdm_status cuda_join_ranks(void *self, tdm_mat y, tdm_mat x, tdm_err *err)
{
    enum { MOST_ROWS = 65535 };
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    const size_t row = (size_t)x.cols * sizeof(float), stride = (size_t)(y.stride ? y.stride : y.cols);
    const size_t fits = c->rank.staging_bytes / ((size_t)c->rank.n * row);
    const int64_t most = fits < MOST_ROWS ? (int64_t)fits : MOST_ROWS;
    TDM_TRY(check_alive(c, err));
    TDM_REQUIRE(most > 0, TDM_EARG, "rows of %d ranks x %d columns, at most %zu bytes", c->rank.n, x.cols,
                c->rank.staging_bytes);
    for (int64_t done = 0, n; done < x.rows; done += n) {
        n = x.rows - done < most ? x.rows - done : most;
        tdm_mat piece = y;
        piece.p = (float *)y.p + (size_t)done * stride;
        piece.rows = n;
        TDM_TRY(gather(c, c->rank.staging, (char *)x.p + (size_t)done * row, (size_t)n * row, err));
        TDM_TRY(cuda_enqueued(c, tdmk_join_ranks(piece, c->rank.staging, x.cols, c->stream), "kernel", err));
    }
done:
    return st;
}

/* ---- the end ---- */

/* A communicator waits for its graphs, also where it is aborted: they go first. */
void cuda_give_up(void *self)
{
    cuda_backend *c = self;
    if (c->rank.dead)
        return;
    c->rank.dead = true;
    cuda_graphs_end(c);
    if (c->rank.comm)
        tdm_comm_abort(c->rank.comm);
}

static bool answers(const cuda_backend *c)
{
    enum { LOOKS = 1000 };
    static const struct timespec NAP = {.tv_nsec = 1000000};
    for (int i = 0; i < LOOKS; i++) {
        if (look_at(c, NULL) != cudaErrorNotReady)
            return true;
        (void)nanosleep(&NAP, NULL);
    }
    return false;
}

void cuda_rank_settle(cuda_backend *c)
{
    if (!c->capturing && cuda_wait(c, NULL, "closing", NULL) != TDM_OK)
        cuda_give_up(c);
}

bool cuda_rank_close(cuda_backend *c)
{
    cuda_rank_settle(c);
    if (c->rank.dead && !answers(c))
        return false;
    tdm_comm_close(c->rank.comm);
    (void)cudaFree(c->rank.staging);
    cuda_meeting_leave(c->rank.meeting);
    return true;
}
