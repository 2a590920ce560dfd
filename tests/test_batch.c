/* Batches: the same texts in any slot, order, company and number of threads; no allocation while
 * stepping; and each text is what feeding it from scratch, token by token, gives. */
#include <string.h>

#include "host/batch.h"
#include "host/sample.h"
#include "tests/tiny_gpt2.h"

enum { V = TINY_GPT2_VOCAB, POSITIONS = 40, N_TEXTS = 60 };

/* A backend that counts what it is asked to allocate. */
static const tdm_ops *inner;
static int n_allocations;

static tdm_status count_alloc(void *self, size_t bytes, void **out, tdm_err *err)
{
    n_allocations++;
    return inner->alloc(self, bytes, out, err);
}

static tdm_status count_kv(void *self, int32_t layers, int32_t heads, int32_t slots,
                           int32_t context, tdm_kv **kv, tdm_err *err)
{
    n_allocations++;
    return inner->kv_open(self, layers, heads, slots, context, kv, err);
}

static tdm_status count_weight(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                               tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    n_allocations++;
    return inner->weight_open(self, src, dtype, in, out, layout, w, err);
}

typedef struct {
    tdm_backend be;
    tdm_ops counting;
    tdm_checkpoint *ck;
    tdm_config config;
    gpt2_model *model;
} loaded;

static void load(loaded *l, const char *dir, int threads)
{
    tdm_err err = {0};
    *l = (loaded){0};
    assert_int_equal(tdm_open_cpu(threads, &l->be, &err), TDM_OK);
    inner = l->be.ops;
    l->counting = *inner;
    l->counting.alloc = count_alloc;
    l->counting.kv_open = count_kv;
    l->counting.weight_open = count_weight;
    l->be.ops = &l->counting;
    if (tdm_config_load(dir, &l->config, &err) || tdm_checkpoint_open(dir, &l->ck, &err) ||
        gpt2_open(&l->be, l->ck, &l->config, true, &l->model, &err))
        fail_msg("%s", err.msg);
}

static void unload(loaded *l)
{
    gpt2_close(l->model);
    tdm_checkpoint_close(l->ck);
    tdm_backend_close(&l->be);
}

/* ---- the texts ---- */

typedef struct {
    int32_t tokens[N_TEXTS][POSITIONS + 1];
    tdm_batch_text texts[N_TEXTS];
} texts;

/* Prompts of 1 to 30 tokens; temperatures, top-k, top-p and greedy; limits of 1 to all that fits. */
static void make_texts(texts *t)
{
    uint64_t state = 5;
    for (int i = 0; i < N_TEXTS; i++) {
        const int32_t n = 1 + (int32_t)(tiny_random(&state) % 30);
        const int32_t room = POSITIONS + 1 - n;
        for (int k = 0; k < n; k++)
            t->tokens[i][k] = (int32_t)(tiny_random(&state) % V);
        t->texts[i] = (tdm_batch_text){
            .tokens = t->tokens[i],
            .n_prompt = n,
            .n_tokens = n,
            .max_tokens = n + (i % 3 == 0 ? room : 1 + (int32_t)tiny_random(&state) % room),
            .draw = {.seed = 3, .document = (uint64_t)i, .temperature = i % 5 == 4 ? 0.f : 1.f,
                     .top_k = i % 4 == 1 ? 20 : 0, .top_p = i % 4 == 2 ? 0.9f : 1.f}};
    }
}

/* Run all texts in `order` through a batch of this many slots. */
static void run_texts(const loaded *l, int32_t slots, const int *order, texts *t)
{
    tdm_err err = {0};
    tdm_batch *batch = NULL;
    int next = 0;
    make_texts(t);
    assert_int_equal(tdm_batch_open(l->model, slots, POSITIONS, &batch, &err), TDM_OK);
    const int before = n_allocations;
    while (next < N_TEXTS || tdm_batch_running(batch) > 0) {
        while (next < N_TEXTS && tdm_batch_has_room(batch))
            assert_int_equal(tdm_batch_admit(batch, &t->texts[order[next++]], &err), TDM_OK);
        if (tdm_batch_step(batch, &err) != TDM_OK)
            fail_msg("%s", err.msg);
    }
    assert_int_equal(n_allocations, before);
    tdm_batch_close(batch);
}

static void assert_same(const texts *got, const texts *want, const char *why, int n)
{
    for (int i = 0; i < N_TEXTS; i++) {
        const tdm_batch_text *a = &got->texts[i], *b = &want->texts[i];
        if (a->state != b->state || a->n_tokens != b->n_tokens ||
            memcmp(got->tokens[i], want->tokens[i], (size_t)b->n_tokens * sizeof(int32_t)))
            fail_msg("%s %d: text %d differs", why, n, i);
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

/* The next token of a text, by feeding all of it from scratch. */
static int32_t next_token(gpt2_run *run, tdm_sampler *s, const tdm_batch_text *t)
{
    int32_t positions[POSITIONS];
    tdm_mat logits;
    tdm_err err = {0};
    for (int32_t i = 0; i < t->n_tokens; i++)
        positions[i] = i;
    const gpt2_step step = {t->n_tokens, 1, 1, t->tokens, positions, (int32_t[]){0, t->n_tokens},
                            (int32_t[]){0}, (int32_t[]){t->n_tokens - 1}};
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
    const gpt2_limits limits = {.slots = 1, .pages = 1, .context = POSITIONS, .rows = POSITIONS,
                                .logits = 1};
    assert_int_equal(gpt2_run_open(l->model, &limits, &run, NULL), TDM_OK);
    assert_int_equal(tdm_sampler_open(V, &s, NULL), TDM_OK);
    make_texts(t);
    for (int i = 0; i < N_TEXTS; i++) {
        tdm_batch_text *text = &t->texts[i];
        while (text->state == TDM_TEXT_RUNNING) {
            const int32_t id = next_token(run, s, text);
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

static void test_any_batch_gives_the_same_texts(void **state)
{
    (void)state;
    static texts want, got;
    static const int32_t SLOTS[] = {1, 3, 7, 64};
    int order[N_TEXTS];
    uint64_t random = 17;
    loaded l;
    load(&l, dir, 1);
    run_plainly(&l, &want);
    unload(&l);
    int ended = 0;
    for (int i = 0; i < N_TEXTS; i++) {
        order[i] = i;
        ended += want.texts[i].state == TDM_TEXT_ENDED;
    }
    assert_in_range(ended, 1, N_TEXTS - 1); /* both kinds of end occur */
    for (int threads = 1; threads <= 3; threads++) {
        load(&l, dir, threads);
        for (size_t i = 0; i < sizeof SLOTS / sizeof *SLOTS; i++) {
            run_texts(&l, SLOTS[i], order, &got);
            assert_same(&got, &want, "slots", SLOTS[i]);
            for (int k = N_TEXTS - 1; k > 0; k--) { /* and in another order next time */
                const int other = (int)(tiny_random(&random) % (uint32_t)(k + 1)), held = order[k];
                order[k] = order[other];
                order[other] = held;
            }
        }
        unload(&l);
    }
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
    assert_true(tdm_batch_rows(N) < LONG);
    tiny_gpt2_make(&m, 22);
    tiny_gpt2_write(&m, long_dir, TDM_F32);
    load(&l, long_dir, 2);
    for (int together = 0; together < 2; together++) {
        tdm_batch *batch = NULL;
        tdm_batch_text t[N];
        uint64_t random = 23;
        assert_int_equal(tdm_batch_open(l.model, together ? N : 1, LONG, &batch, &err), TDM_OK);
        for (int i = 0; i < N; i++) {
            t[i] = (tdm_batch_text){.tokens = tokens[together][i], .n_prompt = LONG - 20 * i,
                                    .n_tokens = LONG - 20 * i, .max_tokens = LONG + 1 - 10 * i,
                                    .draw = {.document = (uint64_t)i, .temperature = 1, .top_p = 1}};
            for (int k = 0; k < LONG; k++)
                t[i].tokens[k] = (int32_t)(tiny_random(&random) % V);
            while (!tdm_batch_has_room(batch))
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
    static const struct {
        int32_t n_prompt, n_tokens, max_tokens;
    } TEXTS[] = {{0, 0, 5}, {5, 5, 5}, {1, 2, 5}, {1, 1, 10}};
    int32_t tokens[16] = {0};
    loaded l;
    tdm_err err = {0};
    tdm_batch *batch = NULL;
    load(&l, dir, 1);
    assert_int_equal(tdm_batch_open(l.model, 0, 8, &batch, &err), TDM_EARG);
    assert_int_equal(tdm_batch_open(l.model, TDM_MAX_BATCH + 1, 8, &batch, &err), TDM_EARG);
    assert_int_equal(tdm_batch_open(l.model, 1, POSITIONS + 1, &batch, &err), TDM_EARG);
    assert_null(batch);
    assert_int_equal(tdm_batch_open(l.model, 1, 8, &batch, &err), TDM_OK);
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
        cmocka_unit_test(test_prompts_longer_than_a_step),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
