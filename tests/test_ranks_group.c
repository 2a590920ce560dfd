/* tests/test_ranks_group.c - what each rank has, and what becomes of several ranks when some of them fail; meant to run
 * under ThreadSanitizer too. The ranks are stand-ins, which say on which thread what happens to them. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "host/ranks_state.h"
#include "host/stop.h"
#include "tests/ops_reference.h"

/* ---- shares ---- */

static void shares_are_even(void **state)
{
    (void)state;
    static const int32_t UNITS[] = {0, 1, 12, 25, 80, INT32_MAX};
    for (size_t u = 0; u < COUNT(UNITS); u++)
        for (int32_t n = 1; n <= TDM_MOST_RANKS; n++) {
            int32_t next = 0, last = INT32_MAX;
            for (int32_t r = 0; r < n; r++) {
                const tdm_share s = tdm_share_of(UNITS[u], r, n);
                assert_int_equal(s.first, next);
                assert_in_range(s.n, UNITS[u] / n, UNITS[u] / n + (UNITS[u] % n != 0));
                assert_true(s.n <= last); /* the first have more */
                next += s.n;
                last = s.n;
            }
            assert_int_equal(next, UNITS[u]);
        }
    const tdm_share all = tdm_share_of(25, 0, 0), second = tdm_share_of(25, 1, 2), last = tdm_share_of(25, 3, 4);
    assert_true(all.first == 0 && all.n == 25);
    assert_true(second.first == 13 && second.n == 12); /* 13 + 12 */
    assert_true(last.first == 19 && last.n == 6);      /* 7 + 6 + 6 + 6 */
}

typedef struct {
    int32_t heads, inner, vocab, n;
    int32_t block;
    int32_t last_inner, last_words; /* of the last rank */
} part_case;

static const part_case PARTS[] = {
    {25, 6400, 50257, 1, 50304, 6400, 50257},
    {25, 6400, 50257, 2, 25152, 3200, 25105},
    {25, 6400, 50257, 3, 16768, 2112, 16721},
    {25, 6400, 50257, 7, 7232, 896, 6865},
    {64, 16384, 50257, 64, 832, 256, 0}, /* 61 blocks of 832 hold them all */
    {2, 512, 65, 2, 64, 256, 1},
    {3, 768, 64, 3, 64, 256, 0},
    {3, 768, 1, 3, 64, 256, 0},
    {3, 1000, 200, 2, 128, 488, 72}, /* 15 units: 8 and 7, and 40 columns more */
    {3, 100, 200, 2, 128, 0, 72},    /* one unit */
    {3, 63, 200, 1, 256, 63, 200},
    {4, 256, INT32_MAX - 63, 3, 715827904, 64, 715827776},
};

static void parts_cover(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(PARTS); i++) {
        const part_case *c = &PARTS[i];
        int32_t heads = 0, inner = 0, words = 0;
        tdm_part p = {0};
        for (int32_t r = 0; r < c->n; r++) {
            p = tdm_part_of(c->heads, c->inner, c->vocab, r, c->n);
            assert_true(p.heads.first == heads && p.inner.first == inner && p.words.first == words);
            assert_true(p.heads.first == tdm_share_of(c->heads, r, c->n).first);
            assert_true(p.inner.n == 0 || p.inner.first % 64 == 0);
            assert_true(p.words.n == 0 || p.words.first == r * c->block);
            assert_int_equal(p.block, c->block);
            assert_true(p.block % 64 == 0 && p.words.n <= p.block);
            heads += p.heads.n;
            inner += p.inner.n;
            words += p.words.n;
        }
        assert_true(heads == c->heads && inner == c->inner && words == c->vocab);
        assert_int_equal(p.inner.n, c->last_inner);
        assert_int_equal(p.words.n, c->last_words);
    }
    const tdm_part alone = tdm_part_of(25, 6400, 50257, 0, 0);
    assert_true(alone.heads.n == 25 && alone.inner.n == 6400 && alone.words.n == 50257 && alone.block == 50257);
}

/* ---- stand-ins ---- */

enum { MOST = 5 };

typedef struct {
    int32_t rank;
    pthread_t thread; /* that opened it */
    const atomic_int *failed;
    int given_up, closed, strange; /* strange: on another thread */
} standin;

static standin STANDINS[MOST];

static void note_thread(standin *s)
{
    s->strange += !pthread_equal(s->thread, pthread_self());
}

static void standin_close(void *self)
{
    standin *s = self;
    note_thread(s);
    s->closed++;
}

static size_t standin_memory(void *self)
{
    const standin *s = self;
    note_thread(self);
    return s->rank == 2 ? 300 : 400 + (size_t)s->rank;
}

static tdm_status standin_download(void *self, void *dst, const void *src, size_t bytes, tdm_err *err)
{
    note_thread(self);
    if (((standin *)self)->rank != 0)
        return tdm_fail(err, TDM_EINTERNAL, "of another rank");
    memcpy(dst, src, bytes);
    return TDM_OK;
}

static tdm_status standin_sync(void *self, tdm_err *err)
{
    (void)err;
    note_thread(self);
    return TDM_OK;
}

static void standin_give_up(void *self)
{
    note_thread(self);
    ((standin *)self)->given_up++;
}

static const tdm_ops STANDIN_OPS = {
    .name = "standin",
    .close = standin_close,
    .memory = standin_memory,
    .download = standin_download,
    .sync = standin_sync,
    .give_up = standin_give_up,
};

/* What differs in opening. */
typedef struct {
    int32_t fails, of_half, other; /* rank; -1: none. fails MOST: all */
} opening;
static const opening WELL = {-1, -1, -1};

static tdm_status open_standin(void *ctx, int32_t rank, const atomic_int *failed, tdm_backend *out, tdm_err *err)
{
    const opening *o = ctx;
    if (o->fails == rank || o->fails == MOST)
        return tdm_fail(err, TDM_ENOMEM, "no room");
    STANDINS[rank] = (standin){.rank = rank, .thread = pthread_self(), .failed = failed};
    *out = (tdm_backend){.ops = &STANDIN_OPS,
                         .self = &STANDINS[rank],
                         .dtype = o->of_half == rank ? TDM_F16 : TDM_F32,
                         .identity = o->other == rank ? "standin, sm_80" : "standin"};
    return TDM_OK;
}

static void open_group(int32_t n, tdm_backend *be)
{
    memset(STANDINS, 0, sizeof STANDINS);
    ASSERT_OK(tdm_ranks_open(n, open_standin, (void *)&WELL, "some stand-ins", be, err));
}

/* Each rank was closed once, on its own thread. */
static void assert_closed(int32_t n)
{
    for (int32_t r = 0; r < n; r++) {
        assert_int_equal(STANDINS[r].closed, 1);
        assert_int_equal(STANDINS[r].strange, 0);
    }
}

/* ---- what goes well ---- */

typedef struct {
    const tdm_backend *group;
    int calls[MOST], strange;
} visit;

static tdm_status visit_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    visit *v = ctx;
    v->calls[rank]++;
    const bool right = be->rank == rank && be->n_ranks == tdm_rank_count(v->group) && be->stop == v->group->stop &&
                       be == tdm_rank_backend(v->group, rank) && !atomic_load(STANDINS[rank].failed) &&
                       pthread_equal(STANDINS[rank].thread, pthread_self());
    return right ? TDM_OK : tdm_fail(err, TDM_EINTERNAL, "not what it should be");
}

static void calls_reach_each_rank(void **state)
{
    (void)state;
    enum { CALLS = 300 };
    static const char *IDENTITIES[] = {"standin", "standin, 2 ranks", "standin, 3 ranks", "standin, 4 ranks"};
    for (int32_t n = 1; n < MOST; n++) {
        tdm_backend be;
        open_group(n, &be);
        assert_string_equal(be.ops->name, "standin");
        assert_string_equal(be.device, "some stand-ins");
        assert_string_equal(be.identity, IDENTITIES[n - 1]);
        assert_true(be.dtype == TDM_F32 && be.n_ranks == 0 && tdm_rank_count(&be) == n && !tdm_has_graphs(&be));
        visit v = {.group = &be};
        const tdm_stop stop = {0};
        for (int i = 0; i < CALLS; i++) {
            be.stop = i % 2 ? &stop : NULL;
            ASSERT_OK(tdm_each_rank(&be, visit_rank, &v, err));
        }
        for (int32_t r = 0; r < n; r++)
            assert_int_equal(v.calls[r], CALLS);
        char copy[4];
        ASSERT_OK(tdm_download(&be, copy, "abc", 4, err));
        assert_string_equal(copy, "abc");
        ASSERT_OK(tdm_sync(&be, err));
        assert_int_equal(tdm_backend_memory(&be), n > 2 ? 300 : 400);
        tdm_backend_close(&be);
        assert_closed(n);
    }
}

static tdm_status call_alone(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    (void)err;
    return be == ctx && rank == 0 ? TDM_OK : TDM_EINTERNAL;
}

static void count_release(void *ctx, const tdm_backend *be, int32_t rank)
{
    (void)be;
    atomic_fetch_add((atomic_int *)ctx, 1 << (8 * rank));
}

static void one_alone_is_called_here(void **state)
{
    (void)state;
    tdm_backend be = {.ops = &STANDIN_OPS};
    atomic_int released = 0;
    ASSERT_OK(tdm_each_rank(&be, call_alone, &be, err));
    assert_true(tdm_release_ranks(&be, count_release, &released));
    assert_int_equal(released, 1);
    assert_int_equal(tdm_rank_count(&be), 1);
    assert_ptr_equal(tdm_rank_backend(&be, 0), &be);
    be.stop = &(tdm_stop){.why = 15};
    assert_ptr_equal(tdm_ranks_stop(&be), be.stop);
}

/* ---- failures ---- */

typedef enum {
    GOES_ON,
    IS_FIRST,   /* fails at once */
    FOLLOWS,    /* fails by itself, in the same words, when another one has */
    DIFFERS,    /* in other words */
    WAITS,      /* for others, until one has failed */
    READS,      /* meets nobody, and ends when it is to */
    LOSES,      /* its device */
    SEES_STOP,  /* ends because it is to stop */
    STAYS_AWAY, /* until it is let go */
} behaviour;

typedef struct {
    const char *name;
    int32_t n;
    behaviour ranks[MOST];
    tdm_status st; /* of the failing call */
    const char *message;
    bool usable; /* afterwards */
} failure;

static const failure ALIKE = {"all alike", 4, {IS_FIRST, IS_FIRST, IS_FIRST, IS_FIRST}, TDM_EIO, "the disk", true};
static const failure FAILURES[] = {
    {"one of two", 2, {GOES_ON, IS_FIRST}, TDM_EIO, "rank 1: the disk", false},
    {"one, the others wait", 4, {WAITS, WAITS, IS_FIRST, WAITS}, TDM_EIO, "rank 2: the disk", false},
    {"one, some wait", 4, {WAITS, GOES_ON, GOES_ON, IS_FIRST}, TDM_EIO, "rank 3: the disk", false},
    {"one, the others read", 3, {READS, IS_FIRST, READS}, TDM_EIO, "rank 1: the disk", false},
    {"a stop while all read", 2, {READS, READS}, TDM_ESTOPPED, "stopped by signal 15", false},
    {"all alike", 3, {FOLLOWS, FOLLOWS, IS_FIRST}, TDM_EIO, "the disk", true},
    {"all alike but one", 3, {FOLLOWS, GOES_ON, IS_FIRST}, TDM_EIO, "rank 2: the disk", false},
    {"all, one otherwise", 3, {DIFFERS, FOLLOWS, IS_FIRST}, TDM_EIO, "rank 2: the disk", false},
    {"the only one", 1, {IS_FIRST}, TDM_EIO, "the disk", true},
    {"a lost device", 2, {WAITS, LOSES}, TDM_ESTOPPED, "rank 1: the device was lost", false},
    {"the only device, lost", 1, {LOSES}, TDM_ESTOPPED, "the device was lost", false},
    {"a stop that one sees", 3, {WAITS, SEES_STOP, WAITS}, TDM_ESTOPPED, "stopped by signal 15", false},
    {"a stop that all see", 3, {SEES_STOP, SEES_STOP, SEES_STOP}, TDM_ESTOPPED, "stopped by signal 15", false},
    {"a stop of the only one", 1, {SEES_STOP}, TDM_ESTOPPED, "stopped by signal 15", false},
    {"one stays away", 3, {STAYS_AWAY, IS_FIRST, WAITS}, TDM_EIO, "rank 1: the disk", false},
    {"two stay away", 4, {STAYS_AWAY, IS_FIRST, FOLLOWS, STAYS_AWAY}, TDM_EIO, "rank 1: the disk", false},
};

static sem_t let_go;
static const tdm_backend *reads_for; /* the group */

static void wait_for_failure(const standin *s)
{
    while (!atomic_load(s->failed))
        sched_yield();
}

static tdm_status behave(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    const standin *s = be->self;
    const behaviour how = ((const failure *)ctx)->ranks[rank];
    if (how == FOLLOWS || how == DIFFERS || how == WAITS)
        wait_for_failure(s);
    switch (how) {
    case GOES_ON:
        return TDM_OK;
    case WAITS:
        return tdm_fail(err, TDM_ESTOPPED, "another rank failed");
    case READS:
        while (!tdm_stopped(tdm_ranks_stop(reads_for)))
            sched_yield();
        return tdm_check_stop(tdm_ranks_stop(reads_for), err);
    case LOSES:
        return tdm_fail(err, TDM_ESTOPPED, "the device was lost");
    case SEES_STOP:
        return tdm_check_stop(be->stop, err);
    case STAYS_AWAY:
        while (sem_wait(&let_go) != 0)
            continue;
        return TDM_OK;
    case DIFFERS:
        return tdm_fail(err, TDM_EIO, "another disk");
    default:
        return tdm_fail(err, TDM_EIO, "the disk");
    }
}

static int count_away(const failure *f)
{
    int n = 0;
    for (int32_t r = 0; r < f->n; r++)
        n += f->ranks[r] == STAYS_AWAY;
    return n;
}

/* Of those that have come back each was given up once, where the ranks died. */
static void assert_given_up(const failure *f)
{
    for (int32_t r = 0; r < f->n; r++)
        assert_int_equal(STANDINS[r].given_up, f->ranks[r] == STAYS_AWAY ? 0 : !f->usable);
}

static void check_failure(const failure *f, bool comes_back)
{
    static const tdm_stop STOP = {.why = 15}, GO_ON = {0};
    const bool stops = f->st == TDM_ESTOPPED && strstr(f->message, "stop");
    tdm_backend be;
    tdm_err err = {0};
    const int away = count_away(f);
    atomic_int released = 0;
    open_group(f->n, &be);
    assert_int_equal(tdm_each_rank(&be, behave, (void *)&ALIKE, &err), TDM_EIO); /* that is not remembered */
    be.stop = stops ? &STOP : &GO_ON;
    reads_for = &be;
    if (away)
        be.ranks->patience = 400;
    assert_int_equal(tdm_each_rank(&be, behave, (void *)f, &err), f->st);
    assert_string_equal(err.msg, f->message);
    assert_given_up(f);
    for (int i = 0; i < 2; i++) {
        visit v = {.group = &be};
        assert_int_equal(tdm_each_rank(&be, visit_rank, &v, &err), f->usable ? TDM_OK : TDM_ESTOPPED);
        assert_string_equal(err.msg, f->message);
        assert_int_equal(v.calls[f->n - 1], f->usable);
    }
    assert_int_equal(tdm_backend_memory(&be) != 0, f->usable);
    assert_int_equal(tdm_release_ranks(&be, count_release, &released), !away);
    for (int32_t r = 0; r < f->n; r++)
        assert_int_equal(released >> (8 * r) & 1, f->ranks[r] != STAYS_AWAY);
    for (int i = 0; i < away && comes_back; i++)
        sem_post(&let_go);
    while (comes_back && !tdm_release_ranks(&be, count_release, &released))
        sched_yield();
    tdm_backend_close(&be);
    if (comes_back)
        assert_closed(f->n);
    for (int32_t r = 0; r < f->n && comes_back; r++)
        assert_int_equal(STANDINS[r].given_up, !f->usable);
}

static void failures_end_all_ranks(void **state)
{
    (void)state;
    sem_init(&let_go, 0, 0);
    for (size_t i = 0; i < COUNT(FAILURES); i++) {
        print_message("%s\n", FAILURES[i].name); /* for whoever looks at a failure */
        check_failure(&FAILURES[i], true);
    }
}

/* Nothing is taken from under a rank that is still away: its thread is there until the end of this program. */
static void closing_leaves_who_is_away(void **state)
{
    (void)state;
    const failure f = {"", 3, {GOES_ON, STAYS_AWAY, IS_FIRST}, TDM_EIO, "rank 2: the disk", false};
    check_failure(&f, false);
    assert_int_equal(STANDINS[0].closed, 1);
    assert_int_equal(STANDINS[1].closed, 0);
    assert_int_equal(STANDINS[2].closed, 1);
    sem_post(&let_go);
    for (int i = 0; i < 100; i++)
        sched_yield(); /* time to come back to what must not be gone: a sanitizer would see it */
}

/* ---- opening ---- */

static void openings_that_fail(void **state)
{
    (void)state;
    static const struct {
        int32_t n;
        opening how;
        tdm_status st;
        const char *message;
    } CASES[] = {
        {3, {1, -1, -1}, TDM_ENOMEM, "rank 1: no room"},
        {3, {0, -1, -1}, TDM_ENOMEM, "rank 0: no room"},
        {3, {MOST, -1, -1}, TDM_ENOMEM, "no room"},
        {1, {0, -1, -1}, TDM_ENOMEM, "no room"},
        {3, {-1, 2, -1}, TDM_EARG, "rank 2 is \"standin\" with f16, rank 0 \"standin\" with f32"},
        {2, {-1, -1, 1}, TDM_EARG, "rank 1 is \"standin, sm_80\" with f32, rank 0 \"standin\" with f32"},
        {0, {-1, -1, -1}, TDM_EARG, "0 ranks, want 1 to 64"},
        {65, {-1, -1, -1}, TDM_EARG, "65 ranks, want 1 to 64"},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_backend be;
        tdm_err err = {0};
        opening how = CASES[i].how;
        memset(STANDINS, 0, sizeof STANDINS);
        assert_int_equal(tdm_ranks_open(CASES[i].n, open_standin, &how, "", &be, &err), CASES[i].st);
        assert_string_equal(err.msg, CASES[i].message);
        assert_null(be.ops);
        for (int32_t r = 0; r < MOST; r++) { /* those that were opened */
            const bool opened = r < CASES[i].n && CASES[i].n < MOST && how.fails != MOST && how.fails != r;
            assert_int_equal(STANDINS[r].closed, opened);
            assert_int_equal(STANDINS[r].strange, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_even),
        cmocka_unit_test(parts_cover),
        cmocka_unit_test(calls_reach_each_rank),
        cmocka_unit_test(one_alone_is_called_here),
        cmocka_unit_test(failures_end_all_ranks),
        cmocka_unit_test(openings_that_fail),
        cmocka_unit_test(closing_leaves_who_is_away), /* the last: one of STANDINS stays in use */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
