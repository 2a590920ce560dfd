/* The detector as the middle of a pipeline: results in the order of the stream, whatever the windows; wherever
 * a step fails; no pause between windows. */
#include "host/pipeline.h"
#include "tests/detect_subject.h"
#include "tests/lane_backend.h"

enum { N_STREAM = 6 * N_TEXTS, N_WINDOWS = 4 };

/* A stream of texts that is cut into windows of 0, 1, 2, ... texts. What threads see is judged after them. */
typedef struct {
    subject *s;
    const tdm_text *texts; /* [N_TEXTS], over and over */
    tdm_detection *results; /* [N_STREAM] */
    struct part {
        tdm_detect_window *window;
        size_t from, n;
    } parts[N_WINDOWS];
    size_t largest; /* texts of a window */
    size_t n_read, n_windows, n_written, hooked;
    size_t fill_fails, empty_fails; /* number of the window, from 1; 0: never */
    tdm_pipeline *line;
    tdm_stop stop;
} stream;

static tdm_status fill(void *ctx, tdm_pipeline *line, void *place, bool *at_end, tdm_err *err)
{
    stream *r = ctx;
    struct part *p = place;
    tdm_text texts[16];
    (void)line;
    if (++r->n_windows == r->fill_fails)
        return tdm_fail(err, TDM_EIO, "the input broke");
    p->from = r->n_read;
    p->n = r->n_windows % (r->largest + 1);
    if (p->n > N_STREAM - r->n_read)
        p->n = N_STREAM - r->n_read;
    for (size_t i = 0; i < p->n; i++)
        texts[i] = r->texts[(r->n_read + i) % N_TEXTS];
    r->n_read += p->n;
    *at_end = r->n_read == N_STREAM;
    return tdm_detector_prepare(r->s->detector, p->window, texts, p->n, err);
}

static tdm_status empty(void *ctx, void *place, tdm_err *err)
{
    stream *r = ctx;
    const struct part *p = place;
    if (r->empty_fails && p->from + p->n >= r->empty_fails)
        return tdm_fail(err, TDM_EFORMAT, "the output broke");
    if (p->from != r->n_written)
        return tdm_fail(err, TDM_EINTERNAL, "window at %zu behind %zu", p->from, r->n_written);
    for (size_t i = 0; i < p->n; i++)
        r->results[p->from + i] = *tdm_detect_window_result(p->window, i);
    r->n_written += p->n;
    return TDM_OK;
}

static void *take(void *ctx, bool wait)
{
    stream *r = ctx;
    const struct part *p = tdm_pipeline_take(r->line, wait);
    return p ? p->window : NULL;
}

static void give(void *ctx)
{
    tdm_pipeline_give(((stream *)ctx)->line);
}

static bool count_texts(void *ctx, size_t texts, int64_t tokens)
{
    stream *r = ctx;
    r->hooked += texts;
    return tokens > 0 && !tdm_stopped(&r->stop);
}

static tdm_status run_stream(stream *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    void *places[N_WINDOWS];
    const tdm_window_line line = {r, take, give, count_texts};
    const tdm_pipeline_steps steps = {r, places, N_WINDOWS, fill, empty, &r->stop};
    for (size_t i = 0; i < N_WINDOWS; i++) {
        places[i] = &r->parts[i];
        assert_int_equal(tdm_detect_window_open(r->s->detector, &r->parts[i].window, err), TDM_OK);
    }
    assert_int_equal(tdm_pipeline_open(&steps, &r->line, err), TDM_OK);
    st = tdm_detector_judge(r->s->detector, &line, err);
    st = tdm_pipeline_close(r->line, st, err);
    for (size_t i = 0; i < N_WINDOWS; i++)
        tdm_detect_window_close(r->parts[i].window);
    return st;
}

typedef struct {
    char bytes[N_TEXTS][TEXT_BYTES];
    tdm_text texts[N_TEXTS];
    tdm_detection want[N_TEXTS], got[N_STREAM];
    lane_watch watch;
    subject s;
} streaming;

static void open_streaming(streaming *t, int64_t batch, int threads)
{
    tdm_detect_options options = DEFAULTS;
    options.batch = batch;
    options.threads = threads;
    *t = (streaming){0};
    make_texts(t->bytes, t->texts);
    make_tiny(&t->s);
    open_subject(&t->s, &options);
    lane_backend_wrap(&t->s.backend, &t->watch);
    assert_int_equal(tdm_detector_run(t->s.detector, t->texts, N_TEXTS, t->want, NULL, NULL, NULL),
                     TDM_OK);
}

/* Windows smaller than a batch, or with several batches; empty ones too: every result, in order. */
static void test_windows(void **state)
{
    (void)state;
    static streaming t;
    for (size_t largest = 1; largest <= 16; largest += 5)
        for (int64_t batch = 0; batch <= 2; batch++) {
            open_streaming(&t, batch, 2);
            stream r = {.s = &t.s, .texts = t.texts, .results = t.got, .largest = largest};
            tdm_err err = {0};
            size_t judged = 0;
            t.watch = (lane_watch){0};
            if (run_stream(&r, &err) != TDM_OK)
                fail_msg("%s", err.msg);
            assert_int_equal(r.n_written, N_STREAM);
            for (size_t i = 0; i < N_STREAM; i++) {
                assert_same(&t.got[i], &t.want[i % N_TEXTS]);
                judged += t.got[i].outcome == TDM_DETECTED;
            }
            assert_int_equal(r.hooked, judged);
            assert_int_equal(t.watch.under_way, 0);
            assert_true(t.watch.most <= TDM_LANES);
            close_subject(&t.s);
        }
}

/* Wherever a step fails: its error, no hang, and every result before it is right. */
static void test_failures_in_between(void **state)
{
    (void)state;
    static streaming t;
    static const struct {
        const char *why;
        size_t fill, empty;
        lane_watch watch;
        tdm_status status;
        const char *message;
    } CASES[] = {
        {"the input at once", 1, 0, {0}, TDM_EIO, "the input broke"},
        {"the input later", 20, 0, {0}, TDM_EIO, "the input broke"},
        {"the output at once", 0, 1, {0}, TDM_EFORMAT, "the output broke"},
        {"the output later", 0, 200, {0}, TDM_EFORMAT, "the output broke"},
        {"the first pass", 0, 0, {.fail_embed = 1}, TDM_ESTOPPED, "the device was lost"},
        {"a later pass", 0, 0, {.fail_embed = 30}, TDM_ESTOPPED, "the device was lost"},
        {"the first download", 0, 0, {.fail_end = 1}, TDM_ESTOPPED, "the device was lost"},
        {"a later download", 0, 0, {.fail_end = 31}, TDM_ESTOPPED, "the device was lost"},
        {"starting a download", 0, 0, {.fail_begin = 9}, TDM_ESTOPPED, "the device was lost"},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++)
        for (int round = 0; round < 3; round++) {
            open_streaming(&t, round, 1);
            stream r = {.s = &t.s, .texts = t.texts, .results = t.got, .largest = 5,
                        .fill_fails = CASES[c].fill, .empty_fails = CASES[c].empty};
            tdm_err err = {0};
            t.watch = CASES[c].watch;
            const tdm_status st = run_stream(&r, &err);
            if (st != CASES[c].status || !strstr(err.msg, CASES[c].message))
                fail_msg("%s: status %d, %s", CASES[c].why, (int)st, err.msg);
            assert_true(r.n_written < N_STREAM);
            for (size_t i = 0; i < r.n_written; i++)
                assert_same(&t.got[i], &t.want[i % N_TEXTS]);
            if (CASES[c].fill) /* nothing that was read before is lost: windows of 1 to 5, then none */
                assert_int_equal(r.n_written, CASES[c].fill == 1 ? 0 : 3 * 15 + 1);
            t.watch = (lane_watch){0}; /* the detector is as good as new */
            assert_int_equal(
                tdm_detector_run(t.s.detector, t.texts, N_TEXTS, t.got, NULL, NULL, &err), TDM_OK);
            assert_same(&t.got[3], &t.want[3]);
            close_subject(&t.s);
        }
}

/* The order in which the device sees things: window after window is there, then none for a while. */
typedef struct {
    tdm_detect_window *windows[4];
    size_t taken, given, ready; /* so many may be taken without waiting */
    const lane_watch *watch;
    int under_way[4]; /* downloads when take was asked, with wait or not */
    bool waited_with_work;
} script;

static void *take_of_script(void *ctx, bool wait)
{
    script *p = ctx;
    if (wait && p->watch->under_way)
        p->waited_with_work = true;
    if (p->taken == 4 || (!wait && p->taken >= p->ready))
        return NULL;
    p->under_way[p->taken] = p->watch->under_way;
    return p->windows[p->taken++];
}

static void give_of_script(void *ctx)
{
    script *p = ctx;
    p->given++;
}

static void test_no_pause_between_windows(void **state)
{
    (void)state;
    static streaming t;
    static const struct {
        size_t ready;
        int under_way[4], most;
    } CASES[] = {
        {4, {0, 1, 2, 2}, 2}, /* the next window starts before the results of the last are waited for */
        {2, {0, 1, 0, 0}, 2}, /* and where there is none, results come before waiting for one */
        {0, {0, 0, 0, 0}, 1},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        open_streaming(&t, 0, 1);
        script p = {.ready = CASES[c].ready, .watch = &t.watch};
        const tdm_window_line line = {&p, take_of_script, give_of_script, NULL};
        tdm_err err = {0};
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(tdm_detect_window_open(t.s.detector, &p.windows[i], &err), TDM_OK);
            assert_int_equal(
                tdm_detector_prepare(t.s.detector, p.windows[i], t.texts + 10 * i, 10, &err), TDM_OK);
        }
        t.watch = (lane_watch){0};
        assert_int_equal(tdm_detector_judge(t.s.detector, &line, &err), TDM_OK);
        assert_int_equal(p.given, 4);
        assert_false(p.waited_with_work);
        assert_int_equal(t.watch.most, CASES[c].most);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(p.under_way[i], CASES[c].under_way[i]);
            for (size_t k = 0; k < 10; k++)
                assert_same(tdm_detect_window_result(p.windows[i], k), &t.want[10 * i + k]);
            tdm_detect_window_close(p.windows[i]);
        }
        close_subject(&t.s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_failures_in_between),
        cmocka_unit_test(test_no_pause_between_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
