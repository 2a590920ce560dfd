/* The pipeline: results in input order and bit for bit independent of windows, batches, neighbours
 * and threads; outcomes; what a wrong folder is told. */
#include "detector/detect.h"

#include <math.h>

#include "host/pipeline.h"
#include "tests/lane_backend.h"
#include "tests/tiny_roberta.h"

enum { N_TEXTS = 70, TEXT_BYTES = 80 };

typedef struct {
    tiny_roberta tiny;
    char dir[TINY_PATH];
    tdm_backend backend;
    tdm_detector *detector;
} subject;

static const tdm_detect_options DEFAULTS = TDM_DETECT_DEFAULTS;

static void make_tiny(subject *s)
{
    *s = (subject){0};
    tiny_roberta_make(&s->tiny, 2, 2, 3);
}

static tdm_status try_open(subject *s, const tdm_detect_options *options, tdm_err *err)
{
    assert_int_equal(tdm_open_cpu(options->threads, &s->backend, err), TDM_OK);
    return tdm_detector_open(s->dir, &s->backend, options, &s->detector, err);
}

static void open_subject(subject *s, const tdm_detect_options *options)
{
    tdm_err err = {0};
    tiny_roberta_write(&s->tiny, s->dir, "roberta.", TDM_F32);
    if (try_open(s, options, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    tiny_roberta_remove(s->dir);
}

static void close_subject(subject *s)
{
    tdm_detector_close(s->detector);
    tdm_backend_close(&s->backend);
    tiny_roberta_free(&s->tiny);
}

/* Texts of 0 to 79 bytes, some of white space alone. */
static void make_texts(char bytes[N_TEXTS][TEXT_BYTES], tdm_text *texts)
{
    static const char LETTERS[] = "the an <s> \t\nxyz\xC3\xA9";
    uint64_t random = 21;
    for (size_t i = 0; i < N_TEXTS; i++) {
        const size_t n = tiny_random(&random) % TEXT_BYTES;
        for (size_t k = 0; k < n; k++)
            bytes[i][k] = i % 13 ? LETTERS[tiny_random(&random) % (sizeof LETTERS - 1)] : ' ';
        texts[i] = (tdm_text){.p = bytes[i], .len = n};
    }
}

static void assert_same(const tdm_detection *a, const tdm_detection *b)
{
    assert_int_equal(a->outcome, b->outcome);
    assert_memory_equal(&a->fake, &b->fake, sizeof a->fake);
    assert_memory_equal(&a->real, &b->real, sizeof a->real);
    assert_memory_equal(&a->logit_fake, &b->logit_fake, sizeof a->logit_fake);
    assert_memory_equal(&a->logit_real, &b->logit_real, sizeof a->logit_real);
    assert_int_equal(a->counts.all_tokens, b->counts.all_tokens);
    assert_int_equal(a->counts.used_tokens, b->counts.used_tokens);
}

static void test_independence(void **state)
{
    (void)state;
    static const struct {
        int64_t batch;
        int32_t max_rows;
        int threads;
        size_t window;
    } CASES[] = {{0, 2048, 1, N_TEXTS}, {1, 2048, 1, 7},         {3, 2048, 2, N_TEXTS},
                 {7, 60, 3, 13},        {64, 2048, 2, 5},        {0, 0, 2, N_TEXTS},
                 {0, 100000, 1, 1},     {65536, 300, 1, N_TEXTS}};
    static char bytes[N_TEXTS][TEXT_BYTES];
    static tdm_text texts[N_TEXTS];
    static tdm_detection first[N_TEXTS], again[N_TEXTS];
    make_texts(bytes, texts);
    int n_empty = 0;
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        tdm_detect_options options = DEFAULTS;
        subject s;
        options.batch = CASES[c].batch;
        options.max_rows = CASES[c].max_rows;
        options.threads = CASES[c].threads;
        make_tiny(&s);
        open_subject(&s, &options);
        for (size_t i = 0; i < N_TEXTS; i += CASES[c].window) {
            const size_t n = N_TEXTS - i < CASES[c].window ? N_TEXTS - i : CASES[c].window;
            assert_int_equal(tdm_detector_run(s.detector, texts + i, n, (c ? again : first) + i,
                                              NULL, NULL, NULL),
                             TDM_OK);
        }
        for (size_t i = 0; c && i < N_TEXTS; i++)
            assert_same(&first[i], &again[i]);
        close_subject(&s);
    }
    for (size_t i = 0; i < N_TEXTS; i++) {
        n_empty += first[i].outcome == TDM_DETECT_EMPTY;
        assert_true(first[i].outcome != TDM_DETECTED ||
                    fabs(first[i].fake + first[i].real - 1) < 1e-15);
    }
    assert_true(n_empty > 0 && n_empty < N_TEXTS / 2);
    assert_true(fabs(first[1].fake - first[2].fake) > 1e-4); /* texts do differ */
}

/* The options reach the preprocessing, and the ids are those of the text. */
static void test_modes(void **state)
{
    (void)state;
    static const tdm_text TEXT = {" x<s>", 5};
    static const struct {
        tdm_preprocess_mode mode;
        size_t n_ids;
        int64_t all;
    } CASES[] = {
        {TDM_PREPROCESS_RELEASE, 6, 4}, /* x, <, s, > */
        {TDM_PREPROCESS_HF, 5, 3},      /* space, x, <s> */
        {TDM_PREPROCESS_DEMO, 7, 5},    /* <s>, space, x, <s>, </s> */
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        tdm_detect_options options = DEFAULTS;
        tdm_detection result;
        subject s;
        size_t n = 0;
        options.preprocess = CASES[c].mode;
        make_tiny(&s);
        open_subject(&s, &options);
        assert_int_equal(tdm_detector_run(s.detector, &TEXT, 1, &result, NULL, NULL, NULL), TDM_OK);
        const int32_t *ids = tdm_detector_ids(s.detector, 0, &n);
        assert_int_equal(n, CASES[c].n_ids);
        assert_int_equal(ids[0], 0);
        assert_int_equal(ids[n - 1], 2);
        assert_int_equal(result.counts.all_tokens, CASES[c].all);
        close_subject(&s);
    }
}

/* A text longer than the context: all tokens are counted, the first 46 are used. */
static void test_long_text(void **state)
{
    (void)state;
    char bytes[1000], head[46];
    tdm_detection results[2];
    subject s;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)('b' + i % 7);
    memcpy(head, bytes, sizeof head);
    const tdm_text texts[] = {{bytes, sizeof bytes}, {head, sizeof head}};
    make_tiny(&s);
    open_subject(&s, &DEFAULTS);
    assert_int_equal(tdm_detector_run(s.detector, texts, 2, results, NULL, NULL, NULL), TDM_OK);
    assert_int_equal(results[0].counts.all_tokens, 1000);
    assert_int_equal(results[0].counts.used_tokens, 46);
    assert_int_equal(results[1].counts.all_tokens, 46);
    assert_memory_equal(&results[0].fake, &results[1].fake, sizeof results[0].fake);
    close_subject(&s);
}

/* A token whose embedding overflows spoils its own text and no other. */
static void test_non_finite(void **state)
{
    (void)state;
    static const tdm_text TEXTS[] = {{"the", 3}, {"a~b", 3}, {"an", 2}};
    const int32_t tilde = 3 + TINY_MERGES + 256 - '~';
    tdm_detection spoiled[3], clean[3];
    for (int spoil = 0; spoil < 2; spoil++) {
        subject s;
        make_tiny(&s);
        for (int i = 0; spoil && i < s.tiny.width; i++)
            s.tiny.tensors[0].p[tilde * s.tiny.width + i] = i % 2 ? 3e38f : -2e38f;
        open_subject(&s, &DEFAULTS);
        assert_int_equal(
            tdm_detector_run(s.detector, TEXTS, 3, spoil ? spoiled : clean, NULL, NULL, NULL),
            TDM_OK);
        close_subject(&s);
    }
    assert_int_equal(clean[1].outcome, TDM_DETECTED);
    assert_int_equal(spoiled[1].outcome, TDM_DETECT_NON_FINITE);
    assert_same(&spoiled[0], &clean[0]);
    assert_same(&spoiled[2], &clean[2]);
}

typedef struct {
    size_t calls, texts;
    int64_t tokens;
    size_t stop_after;
} hook_log;

static bool log_batch(void *ctx, size_t texts, int64_t tokens)
{
    hook_log *log = ctx;
    log->calls++;
    log->texts += texts;
    log->tokens += tokens;
    return log->calls != log->stop_after;
}

static void test_hook(void **state)
{
    (void)state;
    static char bytes[N_TEXTS][TEXT_BYTES];
    tdm_text texts[N_TEXTS];
    tdm_detection results[N_TEXTS];
    tdm_detect_options options = DEFAULTS;
    hook_log log = {0};
    subject s;
    make_texts(bytes, texts);
    options.batch = 4;
    make_tiny(&s);
    open_subject(&s, &options);
    assert_int_equal(tdm_detector_run(s.detector, texts, N_TEXTS, results, log_batch, &log, NULL),
                     TDM_OK);
    size_t judged = 0;
    int64_t tokens = 0;
    for (size_t i = 0; i < N_TEXTS; i++) {
        judged += results[i].outcome == TDM_DETECTED;
        tokens += results[i].counts.used_tokens + 2 * (results[i].outcome == TDM_DETECTED);
    }
    assert_int_equal(log.texts, judged);
    assert_int_equal(log.tokens, tokens);
    assert_int_equal(log.calls, (judged + 3) / 4);
    log = (hook_log){.stop_after = 2};
    assert_int_equal(tdm_detector_run(s.detector, texts, N_TEXTS, results, log_batch, &log, NULL),
                     TDM_ESTOPPED);
    assert_int_equal(log.calls, 2);
    assert_int_equal(tdm_detector_run(s.detector, texts, 0, results, NULL, NULL, NULL), TDM_OK);
    close_subject(&s);
}

/* ---- window by window ---- */

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

static tdm_detect_window *take(void *ctx, bool wait)
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
    const tdm_detect_line line = {r, take, give, count_texts};
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

static tdm_detect_window *take_of_script(void *ctx, bool wait)
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
        const tdm_detect_line line = {&p, take_of_script, give_of_script, NULL};
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

/* ---- folders that will not do ---- */

static void remove_file(const char *dir, const char *name)
{
    char path[TINY_PATH + 32];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
}

static void no_vocabulary(const char *dir)
{
    remove_file(dir, "vocab.json");
}
static void no_config(const char *dir)
{
    remove_file(dir, "config.json");
}
static void no_weights(const char *dir)
{
    remove_file(dir, "model.safetensors");
}
static void no_merges(const char *dir)
{
    remove_file(dir, "merges.txt");
}
static void gpt2_config(const char *dir)
{
    static const char TEXT[] = "{\"model_type\": \"gpt2\", \"n_layer\": 1, \"n_head\": 1, "
                               "\"n_embd\": 64, \"vocab_size\": 300, \"n_positions\": 50, "
                               "\"bos_token_id\": 2, \"eos_token_id\": 2}";
    tiny_write_file(dir, "config.json", TEXT, sizeof TEXT - 1);
}
static void other_bos(const char *dir)
{
    char path[TINY_PATH + 32], text[2048];
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    char *id = strstr(text, "\"bos_token_id\": 0");
    assert_non_null(id);
    id[strlen("\"bos_token_id\": ")] = '7';
    tiny_write_file(dir, "config.json", text, strlen(text));
}

static void test_refused_folders(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        void (*spoil)(const char *dir);
        int vocab;
        tdm_status status;
        const char *message;
    } CASES[] = {
        {"no vocab.json", no_vocabulary, TINY_VOCAB, TDM_EFORMAT, "<s>"},
        {"no config.json", no_config, TINY_VOCAB, TDM_ENOINPUT, "config.json"},
        {"no weights", no_weights, TINY_VOCAB, TDM_ENOINPUT, "model.safetensors"},
        {"no merges", no_merges, TINY_VOCAB, TDM_ENOINPUT, "merges.txt"},
        {"a GPT-2", gpt2_config, TINY_VOCAB, TDM_EFORMAT, "GPT-2"},
        {"another <s>", other_bos, TINY_VOCAB, TDM_EFORMAT, "7"},
        {"more ids than embeddings", NULL, TINY_VOCAB - 1, TDM_EFORMAT, "vocabulary"},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        tdm_err err = {0};
        subject s;
        make_tiny(&s);
        s.tiny.vocab = CASES[c].vocab;
        s.tiny.tensors[0].rows = CASES[c].vocab;
        tiny_roberta_write(&s.tiny, s.dir, "roberta.", TDM_F32);
        if (CASES[c].spoil)
            CASES[c].spoil(s.dir);
        const tdm_status st = try_open(&s, &DEFAULTS, &err);
        print_message("%s: %s\n", CASES[c].why, err.msg);
        assert_int_equal(st, CASES[c].status);
        assert_non_null(strstr(err.msg, CASES[c].message));
        assert_non_null(strstr(err.msg, s.dir));
        assert_null(s.detector);
        tiny_roberta_remove(s.dir);
        close_subject(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_independence), cmocka_unit_test(test_modes),
        cmocka_unit_test(test_long_text),    cmocka_unit_test(test_non_finite),
        cmocka_unit_test(test_hook),         cmocka_unit_test(test_refused_folders),
        cmocka_unit_test(test_windows),      cmocka_unit_test(test_failures_in_between),
        cmocka_unit_test(test_no_pause_between_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
