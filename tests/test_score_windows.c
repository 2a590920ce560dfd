/* Scoring window by window: every statistic whatever the windows; wherever a pass fails; a hook that ends it; no
 * pause between windows. */
#include "tests/lane_backend.h"
#include "tests/score_subject.h"

enum { N_WINDOWS = 13 };

/* Windows of 0, 1, 2, ... texts are there from the start; take gives so many without waiting. */
typedef struct {
    tdm_score_window *windows[N_WINDOWS];
    size_t from[N_WINDOWS + 1];
    size_t taken, given, ready;
    size_t hooked, stop_at; /* texts; the hook ends it behind stop_at of them, 0: never */
    const lane_watch *watch;
    int under_way[N_WINDOWS]; /* downloads when the window was taken */
    bool waited_with_work;
} script;

static void *take(void *ctx, bool wait)
{
    script *p = ctx;
    if (wait && p->watch->under_way)
        p->waited_with_work = true;
    if (p->taken == N_WINDOWS || (!wait && p->taken >= p->ready))
        return NULL;
    p->under_way[p->taken] = p->watch->under_way;
    return p->windows[p->taken++];
}

static void give(void *ctx)
{
    script *p = ctx;
    p->given++;
}

static bool count_texts(void *ctx, size_t texts, int64_t tokens)
{
    script *p = ctx;
    p->hooked += texts;
    return tokens >= (int64_t)texts && (!p->stop_at || p->hooked < p->stop_at);
}

typedef struct {
    loaded l;
    lane_watch watch;
    tdm_scorer *scorer;
    text want[N_TEXTS], got[N_TEXTS];
    tdm_score_text texts[N_TEXTS];
} subject;

static void open_subject(subject *s, int32_t rows)
{
    s->watch = (lane_watch){0};
    load(&s->l, 1);
    lane_backend_wrap(&s->l.be, &s->watch);
    s->scorer = open_scorer(s->l.model, &(tdm_score_options){.rows = rows});
    make_texts(s->want, s->texts, N_TEXTS);
    assert_int_equal(tdm_scorer_run(s->scorer, s->texts, N_TEXTS, NULL), TDM_OK);
    make_texts(s->got, s->texts, N_TEXTS);
}

static void close_subject(subject *s)
{
    tdm_scorer_close(s->scorer);
    unload(&s->l);
}

static void prepare(subject *s, script *p)
{
    tdm_err err = {0};
    for (size_t i = 0, at = 0; i < N_WINDOWS; i++) {
        const size_t left = N_TEXTS - at, n = i + 1 < N_WINDOWS && i < left ? i : left;
        assert_int_equal(tdm_score_window_open(&p->windows[i], &err), TDM_OK);
        if (tdm_scorer_prepare(s->scorer, p->windows[i], s->texts + at, n, &err) != TDM_OK)
            fail_msg("%s", err.msg);
        p->from[i] = at;
        at += n;
    }
    p->from[N_WINDOWS] = N_TEXTS;
    p->watch = &s->watch;
}

static void close_windows(script *p)
{
    for (size_t i = 0; i < N_WINDOWS; i++)
        tdm_score_window_close(p->windows[i]);
}

static void check_given(const subject *s, const script *p)
{
    for (size_t i = 0; i < p->from[p->given]; i++)
        assert_memory_equal(s->got[i].stats, s->want[i].stats, sizeof s->want[i].stats);
}

static tdm_status score(subject *s, script *p, tdm_err *err)
{
    const tdm_window_line line = {p, take, give, count_texts};
    return tdm_scorer_score(s->scorer, &line, err);
}

static void test_windows(void **state)
{
    (void)state;
    static subject s;
    for (int32_t rows = CONTEXT; rows <= 1000; rows *= 5)
        for (size_t ready = 0; ready <= N_WINDOWS; ready += N_WINDOWS) {
            script p = {.ready = ready};
            tdm_err err = {0};
            size_t judged = 0;
            open_subject(&s, rows);
            prepare(&s, &p);
            s.watch = (lane_watch){0};
            if (score(&s, &p, &err) != TDM_OK)
                fail_msg("%s", err.msg);
            assert_int_equal(p.given, N_WINDOWS);
            assert_false(p.waited_with_work);
            assert_int_equal(s.watch.under_way, 0);
            check_given(&s, &p);
            for (size_t i = 0; i < N_TEXTS; i++)
                judged += s.texts[i].n > 1;
            assert_int_equal(p.hooked, judged);
            close_windows(&p);
            close_subject(&s);
        }
}

/* Wherever a pass fails: its error, no download left behind, and every window that was given is complete. */
static void test_failures(void **state)
{
    (void)state;
    static subject s;
    static const struct {
        lane_watch watch;
        size_t stop_at;
        const char *message;
    } CASES[] = {
        {{.fail_embed = 1}, 0, "the device was lost"}, {{.fail_embed = 14}, 0, "the device was lost"},
        {{.fail_begin = 9}, 0, "the device was lost"}, {{.fail_end = 1}, 0, "the device was lost"},
        {{.fail_end = 17}, 0, "the device was lost"},  {{0}, 1, "stopped"},
        {{0}, 31, "stopped"},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        script p = {.ready = N_WINDOWS, .stop_at = CASES[c].stop_at};
        tdm_err err = {0};
        open_subject(&s, CONTEXT);
        prepare(&s, &p);
        s.watch = CASES[c].watch;
        assert_int_equal(score(&s, &p, &err), TDM_ESTOPPED);
        assert_non_null(strstr(err.msg, CASES[c].message));
        assert_true(p.given < N_WINDOWS);
        assert_true(!CASES[c].stop_at || (p.hooked >= CASES[c].stop_at && p.hooked < N_TEXTS));
        assert_int_equal(s.watch.under_way, 0);
        check_given(&s, &p);
        s.watch = (lane_watch){0}; /* the scorer is as good as new */
        assert_int_equal(tdm_scorer_run(s.scorer, s.texts, N_TEXTS, &err), TDM_OK);
        p.given = N_WINDOWS;
        check_given(&s, &p);
        close_windows(&p);
        close_subject(&s);
    }
}

/* The next window starts before the statistics of the last are waited for. */
static void test_no_pause_between_windows(void **state)
{
    (void)state;
    static subject s;
    script p = {.ready = N_WINDOWS};
    open_subject(&s, 1000); /* each window is one batch; that of no texts needs no download */
    prepare(&s, &p);
    s.watch = (lane_watch){0};
    assert_int_equal(score(&s, &p, NULL), TDM_OK);
    assert_int_equal(s.watch.most, TDM_LANES);
    for (size_t i = 3; i + 1 < N_WINDOWS && p.from[i] < N_TEXTS; i++)
        assert_int_equal(p.under_way[i], TDM_LANES);
    close_windows(&p);
    close_subject(&s);
}

/* A window is filled again, with more texts, with fewer, and after texts that were refused. */
static void test_refilled(void **state)
{
    (void)state;
    static subject s;
    static const size_t SIZES[] = {0, 5, N_TEXTS, 1, N_TEXTS};
    tdm_score_window *w = NULL;
    open_subject(&s, 100);
    assert_int_equal(tdm_score_window_open(&w, NULL), TDM_OK);
    for (size_t c = 0; c < sizeof SIZES / sizeof *SIZES; c++) {
        tdm_err err = {0};
        const tdm_score_text bad = {.ids = (int32_t[]){V}, .n = 1};
        script p = {.taken = N_WINDOWS - 1, .watch = &s.watch}; /* one window alone, the last */
        make_texts(s.got, s.texts, N_TEXTS);
        assert_int_equal(tdm_scorer_prepare(s.scorer, w, &bad, 1, &err), TDM_EARG);
        assert_int_equal(tdm_scorer_prepare(s.scorer, w, s.texts, SIZES[c], &err), TDM_OK);
        p.windows[N_WINDOWS - 1] = w;
        assert_int_equal(score(&s, &p, &err), TDM_OK);
        assert_int_equal(p.given, 1);
        for (size_t i = 0; i < SIZES[c]; i++)
            assert_memory_equal(s.got[i].stats, s.want[i].stats, sizeof s.want[i].stats);
        if (SIZES[c] < N_TEXTS)
            assert_memory_not_equal(s.got[SIZES[c]].stats, s.want[SIZES[c]].stats, sizeof s.want->stats);
    }
    tdm_score_window_close(w);
    tdm_score_window_close(NULL);
    close_subject(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_no_pause_between_windows),
        cmocka_unit_test(test_refilled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
