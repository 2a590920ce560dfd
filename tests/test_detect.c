/* The detector: results in input order and bit for bit independent of windows, batches, neighbours
 * and threads; outcomes; what a wrong folder is told. */
#include <math.h>

#include "tests/detect_subject.h"

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
        cmocka_unit_test(test_independence),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_non_finite),
        cmocka_unit_test(test_hook),
        cmocka_unit_test(test_refused_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
