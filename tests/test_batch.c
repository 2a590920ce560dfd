/* Batches: the same texts in any slot, order, company and number of threads, with any pages, with
 * prompts shared or not, with graphs or without; no allocation while stepping; and each text is what
 * feeding it token by token, alone, gives. */
#include <string.h>

#include "host/batch.h"
#include "host/sample.h"
#include "tests/graph_backend.h"
#include "tests/tiny_gpt2.h"

/* Texts of up to 3 pages, the last not full. */
enum { V = TINY_GPT2_VOCAB, POSITIONS = 150, TEXT_PAGES = 3, N_TEXTS = 48, GROUP = 4 };

typedef struct {
    tdm_backend be;
    tdm_checkpoint *ck;
    tdm_config config;
    gpt2_model *model;
} loaded;

static void load(loaded *l, const char *dir, int threads, bool graphs)
{
    tdm_err err = {0};
    *l = (loaded){0};
    open_watched(&l->be, threads, graphs);
    if (tdm_config_load(dir, &l->config, &err) || tdm_checkpoint_open(dir, &l->ck, &err) ||
        gpt2_open(&l->be, l->ck, &l->config, true, &l->model, &err))
        fail_msg("%s", err.msg);
}

static void unload(loaded *l)
{
    gpt2_close(l->model);
    tdm_checkpoint_close(l->ck);
    tdm_backend_close(&l->be);
    assert_int_equal(watched.graphs, 0);
}

/* ---- the texts ---- */

typedef struct {
    int32_t tokens[N_TEXTS][POSITIONS + 1];
    tdm_batch_text texts[N_TEXTS];
} texts;

/* Lengths of prompts: one behind and one before the ends of pages among them, and a pair of equals. */
static const int32_t PROMPTS[] = {1, 65, 2, 64, 129, 30, 66, 66, 128, 1, 100, 127};

/* Groups of texts with the same prompt; temperatures, top-k, top-p and greedy; limits of 1 to all that
 * fits. */
static void make_texts(texts *t, bool shared)
{
    uint64_t state = 5;
    for (int i = 0; i < N_TEXTS; i++) {
        const int32_t n = PROMPTS[i / GROUP], room = POSITIONS + 1 - n;
        for (int k = 0; k < n; k++)
            t->tokens[i][k] = i % GROUP ? t->tokens[i - 1][k] : (int32_t)(tiny_random(&state) % V);
        const int32_t some = 1 + (int32_t)(tiny_random(&state) % (uint32_t)room);
        t->texts[i] = (tdm_batch_text){
            .tokens = t->tokens[i],
            .n_prompt = n,
            .n_tokens = n,
            .max_tokens = n + (i % 3 == 0 ? room : some),
            .prompt = shared ? i / GROUP : -1,
            .draw = {.seed = 3, .document = (uint64_t)i, .temperature = i % 5 == 4 ? 0.f : 1.f,
                     .top_k = i % 4 == 1 ? 20 : 0, .top_p = i % 4 == 2 ? 0.9f : 1.f}};
    }
}

/* Texts that have drawn what no batch has told yet, from their tokens. */
static int total_draws(const texts *t)
{
    int n = 0;
    for (int i = 0; i < N_TEXTS; i++)
        n += t->texts[i].n_tokens - t->texts[i].n_prompt + (t->texts[i].state == TDM_TEXT_ENDED);
    return n;
}

/* Run all texts in `order` through a batch. */
static void run_texts(const loaded *l, const tdm_batch_limits *limits, bool shared, const int *order,
                      texts *t)
{
    tdm_err err = {0};
    tdm_batch *batch = NULL;
    int next = 0, most = 0, drawn = 0;
    make_texts(t, shared);
    if (tdm_batch_open(l->model, limits, &batch, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    const int before = watched.allocations;
    while (next < N_TEXTS || tdm_batch_running(batch) > 0) {
        while (next < N_TEXTS && tdm_batch_has_room(batch, &t->texts[order[next]]))
            if (tdm_batch_admit(batch, &t->texts[order[next++]], &err) != TDM_OK)
                fail_msg("%s", err.msg);
        assert_true(tdm_batch_running(batch) > 0);
        most = tdm_batch_running(batch) > most ? tdm_batch_running(batch) : most;
        if (tdm_batch_step(batch, &err) != TDM_OK)
            fail_msg("%d slots, %d pages, %d rows: %s", (int)limits->slots, (int)limits->pages,
                     (int)limits->rows, err.msg);
        drawn += tdm_batch_drawn(batch);
    }
    assert_int_equal(watched.allocations, before);
    assert_int_equal(drawn, total_draws(t));
    assert_true(limits->slots == 1 || most > 1);
    if (limits->pages == limits->slots * TEXT_PAGES)
        assert_int_equal(most, limits->slots < N_TEXTS ? limits->slots : N_TEXTS);
    tdm_batch_close(batch);
}

static void assert_same(const texts *got, const texts *want, const tdm_batch_limits *l, bool shared)
{
    for (int i = 0; i < N_TEXTS; i++) {
        const tdm_batch_text *a = &got->texts[i], *b = &want->texts[i];
        if (a->state != b->state || a->n_tokens != b->n_tokens ||
            memcmp(got->tokens[i], want->tokens[i], (size_t)b->n_tokens * sizeof(int32_t)))
            fail_msg("%d slots, %d pages, %d rows%s: text %d differs", (int)l->slots, (int)l->pages,
                     (int)l->rows, shared ? ", shared" : "", i);
    }
}

/* ---- tests ---- */

static char dir[TINY_PATH];

static int make_model(void **state)
{
    (void)state;
    tiny_gpt2 m = {.layers = 2, .heads = 1, .positions = POSITIONS, .words = 0.125f};
    tiny_gpt2_make(&m, 21);
    tiny_gpt2_write(&m, dir, TDM_F32);
    tiny_gpt2_free(&m);
    return 0;
}

static int drop_model(void **state)
{
    (void)state;
    tiny_roberta_remove(dir);
    return 0;
}

/* The next token of a text whose first `fed` tokens are in the cache. */
static int32_t next_token(gpt2_run *run, tdm_sampler *s, const tdm_batch_text *t, int32_t fed)
{
    int32_t positions[POSITIONS];
    tdm_mat logits;
    tdm_err err = {0};
    const int32_t n = t->n_tokens - fed;
    for (int32_t i = 0; i < n; i++)
        positions[i] = fed + i;
    const gpt2_step step = {n, 1, 1, t->tokens + fed, positions, (int32_t[]){0, n}, (int32_t[]){0},
                            (int32_t[]){n - 1}};
    if (gpt2_forward(run, &step, &logits, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    tdm_draw d = t->draw;
    d.position = (uint32_t)(t->n_tokens - t->n_prompt);
    return tdm_sample_row(s, logits.p, &d);
}

static void run_plainly(const loaded *l, texts *t)
{
    gpt2_run *run = NULL;
    tdm_sampler *s = NULL;
    const gpt2_limits limits = {.slots = 1, .pages = TEXT_PAGES, .context = POSITIONS,
                                .rows = POSITIONS, .logits = 1};
    assert_int_equal(gpt2_run_open(l->model, &limits, &run, NULL), TDM_OK);
    assert_int_equal(tdm_sampler_open(V, &s, NULL), TDM_OK);
    make_texts(t, false);
    for (int i = 0; i < N_TEXTS; i++) {
        tdm_batch_text *text = &t->texts[i];
        int32_t fed = 0;
        while (text->state == TDM_TEXT_RUNNING) {
            const int32_t id = next_token(run, s, text, fed);
            fed = text->n_tokens;
            if (id == TINY_EOS) {
                text->state = TDM_TEXT_ENDED;
                break;
            }
            text->tokens[text->n_tokens++] = id;
            if (text->n_tokens == text->max_tokens)
                text->state = TDM_TEXT_FULL;
        }
    }
    tdm_sampler_close(s);
    gpt2_run_close(run);
}

/* Groups of texts in another order; their texts too, now and then. */
static void shuffle(int order[N_TEXTS], uint64_t *random)
{
    const int size = tiny_random(random) % 3 ? GROUP : 1;
    for (int k = N_TEXTS / size - 1; k > 0; k--) {
        const int other = (int)(tiny_random(random) % (uint32_t)(k + 1));
        for (int i = 0; i < size; i++) {
            const int held = order[k * size + i];
            order[k * size + i] = order[other * size + i];
            order[other * size + i] = held;
        }
    }
}

static const tdm_batch_limits LIMITS[] = {
    {1, TEXT_PAGES, POSITIONS, 7},
    {3, 3 * TEXT_PAGES, POSITIONS, 256},
    {7, 7 * TEXT_PAGES, POSITIONS, 1},
    {64, 64 * TEXT_PAGES, POSITIONS, 64},
    {7, TEXT_PAGES, POSITIONS, 64}, /* as few pages as can be */
    {7, 8, POSITIONS, 13},
    {64, 20, POSITIONS, 256},
    {64, 41, POSITIONS, 30},
};

static void test_any_batch_gives_the_same_texts(void **state)
{
    (void)state;
    static texts want, got;
    int order[N_TEXTS], ended = 0;
    uint64_t random = 17;
    loaded l;
    load(&l, dir, 1, false);
    run_plainly(&l, &want);
    unload(&l);
    for (int i = 0; i < N_TEXTS; i++) {
        order[i] = i;
        ended += want.texts[i].state == TDM_TEXT_ENDED;
    }
    assert_in_range(ended, 3, N_TEXTS - 3); /* both kinds of end occur */
    for (int way = 0; way < 4; way++) {
        load(&l, dir, 1 + way % 3, way % 2 == 1);
        for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++)
            for (int shared = 0; shared < 2; shared++) {
                run_texts(&l, &LIMITS[i], shared, order, &got);
                assert_same(&got, &want, &LIMITS[i], shared);
                shuffle(order, &random);
            }
        unload(&l);
    }
}

/* What sharing saves: a prompt is fed once for its group, and pages are copied where one is partly full. */
static void test_prompts_are_shared(void **state)
{
    (void)state;
    static texts got;
    const tdm_batch_limits limits = {N_TEXTS, N_TEXTS * TEXT_PAGES, POSITIONS, 100};
    int order[N_TEXTS], rows = 0, copies = 0;
    loaded l;
    load(&l, dir, 2, true);
    for (int i = 0; i < N_TEXTS; i++)
        order[i] = i;
    for (int i = 0; i < N_TEXTS; i += GROUP) {
        rows += PROMPTS[i / GROUP] - 1;
        copies += (PROMPTS[i / GROUP] - 1) % TDM_PAGE ? GROUP - 1 : 0;
    }
    watched.ragged_rows = watched.copies = watched.runs = 0;
    run_texts(&l, &limits, true, order, &got);
    assert_int_equal(watched.ragged_rows, rows);
    assert_int_equal(watched.copies, copies);
    assert_true(watched.runs > 0);
    watched.ragged_rows = watched.copies = 0;
    run_texts(&l, &limits, false, order, &got);
    assert_int_equal(watched.ragged_rows, GROUP * rows);
    assert_int_equal(watched.copies, 0);
    unload(&l);
}

/* With fewer pages than the slots could fill, texts begin one after the other, so that more of them run
 * side by side than fit at full length. */
static void test_few_pages_hold_many_texts(void **state)
{
    (void)state;
    enum { SLOTS = 40, PAGES = 30, N = 80 };
    static int32_t tokens[N][POSITIONS + 1];
    static tdm_batch_text t[N];
    const tdm_batch_limits limits = {SLOTS, PAGES, POSITIONS, 64};
    tdm_batch *batch = NULL;
    tdm_err err = {0};
    loaded l;
    int next = 0, steps = 0;
    int64_t running = 0;
    load(&l, dir, 2, true);
    assert_int_equal(tdm_batch_open(l.model, &limits, &batch, &err), TDM_OK);
    for (int i = 0; i < N; i++) /* greedy: none ends early */
        t[i] = (tdm_batch_text){.tokens = tokens[i], .n_prompt = 1, .n_tokens = 1, .prompt = -1,
                                .max_tokens = POSITIONS + 1};
    while (next < N) {
        while (next < N && tdm_batch_has_room(batch, &t[next]))
            assert_int_equal(tdm_batch_admit(batch, &t[next++], &err), TDM_OK);
        assert_int_equal(tdm_batch_step(batch, &err), TDM_OK);
        running += tdm_batch_running(batch);
        steps++;
    }
    assert_int_equal(t[0].state, TDM_TEXT_FULL);
    /* ten texts of full length fit; of all ages, 15 */
    const double mean = (double)running / steps;
    if (!(mean > 12.5))
        fail_msg("%.1f texts at a time", mean);
    tdm_batch_close(batch);
    unload(&l);
}

static void test_prompts_longer_than_a_step(void **state)
{
    (void)state;
    enum { LONG = 700, N = 4 }; /* more rows than a step has */
    static int32_t tokens[2][N][LONG + 1];
    char long_dir[TINY_PATH];
    tiny_gpt2 m = {.layers = 1, .heads = 1, .positions = LONG, .words = 0.25f};
    loaded l;
    tdm_err err = {0};
    tiny_gpt2_make(&m, 22);
    tiny_gpt2_write(&m, long_dir, TDM_F32);
    load(&l, long_dir, 2, false);
    for (int together = 0; together < 2; together++) {
        tdm_batch *batch = NULL;
        tdm_batch_text t[N];
        uint64_t random = 23;
        const int32_t slots = together ? N : 1;
        const tdm_batch_limits limits = {slots, slots * gpt2_text_pages(LONG), LONG, 256};
        assert_int_equal(tdm_batch_open(l.model, &limits, &batch, &err), TDM_OK);
        for (int i = 0; i < N; i++) {
            t[i] = (tdm_batch_text){.tokens = tokens[together][i], .n_prompt = LONG - 20 * i,
                                    .n_tokens = LONG - 20 * i, .max_tokens = LONG + 1 - 10 * i,
                                    .prompt = -1,
                                    .draw = {.document = (uint64_t)i, .temperature = 1, .top_p = 1}};
            for (int k = 0; k < LONG; k++)
                t[i].tokens[k] = (int32_t)(tiny_random(&random) % V);
            while (!tdm_batch_has_room(batch, &t[i]))
                assert_int_equal(tdm_batch_step(batch, &err), TDM_OK);
            assert_int_equal(tdm_batch_admit(batch, &t[i], &err), TDM_OK);
        }
        while (tdm_batch_running(batch) > 0)
            assert_int_equal(tdm_batch_step(batch, &err), TDM_OK);
        for (int i = 0; i < N; i++) /* what lies behind the end is not the text */
            memset(t[i].tokens + t[i].n_tokens, 0,
                   (size_t)(LONG + 1 - t[i].n_tokens) * sizeof(int32_t));
        tdm_batch_close(batch);
    }
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
    unload(&l);
    tiny_roberta_remove(long_dir);
    tiny_gpt2_free(&m);
}

static void test_refusals(void **state)
{
    (void)state;
    static const tdm_batch_limits BAD[] = {
        {0, 1, 8, 8}, {TDM_MAX_BATCH + 1, TDM_MAX_BATCH + 1, 8, 8}, {1, 3, POSITIONS + 1, 8},
        {1, 0, 8, 8}, {1, 2, POSITIONS, 8},                         {1, 1, 8, 0},
    };
    static const struct {
        int32_t n_prompt, n_tokens, max_tokens;
    } TEXTS[] = {{0, 0, 5}, {5, 5, 5}, {1, 2, 5}, {1, 1, 10}};
    int32_t tokens[16] = {0};
    loaded l;
    tdm_err err = {0};
    tdm_batch *batch = NULL;
    load(&l, dir, 1, false);
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        if (tdm_batch_open(l.model, &BAD[i], &batch, &err) != TDM_EARG)
            fail_msg("limits %zu", i);
        assert_null(batch);
    }
    assert_int_equal(tdm_batch_open(l.model, &(tdm_batch_limits){1, 1, 8, 8}, &batch, &err), TDM_OK);
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        tdm_batch_text t = {.tokens = tokens, .n_prompt = TEXTS[i].n_prompt,
                            .n_tokens = TEXTS[i].n_tokens, .max_tokens = TEXTS[i].max_tokens};
        assert_int_equal(tdm_batch_admit(batch, &t, &err), TDM_EARG);
    }
    tdm_batch_text fits = {.tokens = tokens, .n_prompt = 1, .n_tokens = 1, .max_tokens = 9};
    assert_int_equal(tdm_batch_step(batch, &err), TDM_OK); /* nothing to do */
    assert_int_equal(tdm_batch_admit(batch, &fits, &err), TDM_OK);
    assert_int_equal(tdm_batch_admit(batch, &fits, &err), TDM_EARG);
    tdm_batch_close(batch);
    unload(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_batch_gives_the_same_texts),
        cmocka_unit_test(test_prompts_are_shared),
        cmocka_unit_test(test_few_pages_hold_many_texts),
        cmocka_unit_test(test_prompts_longer_than_a_step),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
