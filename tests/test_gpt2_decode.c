/* Decoding: what texts draw by themselves, in steps of any slots, with graphs and without, is what is drawn from
 * the logits of gpt2_forward. */
#include "host/sample.h"
#include "tests/gpt2_subject.h"
#include "tests/graph_backend.h"

/* Draw `n` tokens behind a prompt with gpt2_forward alone; n + 1 where the last is the end. */
static int draw_plainly(gpt2_run *run, int32_t *tokens, int32_t n_prompt, int32_t n, tdm_draw draw)
{
    static float logits[POSITIONS * V];
    tdm_sampler *s = NULL;
    int drawn = 0;
    assert_int_equal(tdm_sampler_open(V, &s, NULL), TDM_OK);
    for (; drawn < n && (drawn == 0 || tokens[n_prompt + drawn - 1] != TINY_EOS); drawn++) {
        const int32_t end = n_prompt + drawn, from = drawn ? end - 1 : 0;
        feed(run, tokens, from, end, 0, logits);
        draw.position = (uint32_t)drawn;
        tokens[end] = tdm_sample_row(s, logits + (end - 1 - from) * V, &draw);
    }
    tdm_sampler_close(s);
    return drawn;
}

enum { SLOTS = 5, OF_TEXT = 4, NEW = 100 };
static const int32_t PROMPTS[SLOTS] = {1, 65, 64, 30, 63};

/* The texts of all slots; tokens and how many of them were drawn. */
typedef struct {
    int32_t tokens[SLOTS][POSITIONS + 1];
    int n[SLOTS];
} texts;

static tdm_draw draw_of(int s)
{
    return (tdm_draw){.document = (uint64_t)s, .temperature = 1, .top_p = 1};
}

/* What each text must become, in `want`; their prompts in `got`. */
static void draw_all_plainly(const loaded *l, texts *want, texts *got)
{
    gpt2_run *run = open_run(l, 1, POSITIONS);
    for (int s = 0; s < SLOTS; s++) {
        random_tokens(want->tokens[s], PROMPTS[s], (uint64_t)s);
        memcpy(got->tokens[s], want->tokens[s], sizeof got->tokens[s]);
        want->n[s] = draw_plainly(run, want->tokens[s], PROMPTS[s], NEW - 10 * s, draw_of(s));
        got->n[s] = 0;
    }
    gpt2_run_close(run);
}

static void start_text(gpt2_run *run, texts *got, int32_t s)
{
    static float logits[POSITIONS * V];
    tdm_err err = {0};
    const int32_t last = PROMPTS[s] - 1;
    const gpt2_next next = {got->tokens[s][last], last, NEW - 10 * s, draw_of(s)};
    if (last > 0)
        feed(run, got->tokens[s], 0, last, s, logits);
    assert_int_equal(gpt2_start(run, s, &next, &err), TDM_OK);
}

/* One step of some slots. */
static void decode_some(gpt2_run *run, const int32_t *slots, int32_t n, int lane, const texts *want,
                        texts *got)
{
    const int32_t *drawn = NULL;
    tdm_err err = {0};
    if (gpt2_decode(run, slots, n, lane, &err) != TDM_OK ||
        gpt2_drawn(run, lane, &drawn, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    for (int32_t i = 0; i < n; i++) {
        const int32_t s = slots[i];
        if (got->n[s] == want->n[s])
            assert_int_equal(drawn[s], TDM_IDLE);
        else
            got->tokens[s][PROMPTS[s] + got->n[s]++] = drawn[s];
    }
}

/* Texts in scattered pages that begin at different times, in steps of changing lists of slots. */
static void test_decoding(void **state)
{
    (void)state;
    static texts want, got;
    int32_t table[SLOTS * OF_TEXT];
    tiny_gpt2 m = {.layers = 2, .heads = 1, .positions = POSITIONS, .words = 0.125f};
    tiny_gpt2_make(&m, 5);
    for (int i = 0; i < SLOTS * OF_TEXT; i++)
        table[i] = i * 7 % (SLOTS * OF_TEXT);
    for (int graphs = 0; graphs < 2; graphs++) {
        loaded l = {0};
        tdm_err err = {0};
        tiny_gpt2_write(&m, l.dir, TDM_F32);
        open_watched(&l.be, 2, graphs);
        assert_int_equal(try_load(&l, &err), TDM_OK);
        draw_all_plainly(&l, &want, &got);
        gpt2_run *run = open_run(&l, SLOTS, POSITIONS);
        assert_int_equal(gpt2_set_pages(run, table, &err), TDM_OK);
        for (int step = 0; step < NEW + 3 * SLOTS; step++) {
            int32_t slots[SLOTS], n = 0;
            if (step % 3 == 0 && step / 3 < SLOTS)
                start_text(run, &got, step / 3);
            for (int32_t s = SLOTS - 1; s >= 0; s--)
                if (s * 3 <= step && (step + s) % 4) /* each rests now and then */
                    slots[n++] = s;
            if (n > 0)
                decode_some(run, slots, n, step % 2, &want, &got);
        }
        for (int s = 0; s < SLOTS; s++) {
            const size_t all = (size_t)(PROMPTS[s] + got.n[s]);
            assert_memory_equal(got.tokens[s], want.tokens[s], all * sizeof(int32_t));
            assert_true(got.n[s] == want.n[s] || got.n[s] > NEW / 2);
        }
        gpt2_run_close(run);
        unload(&l);
    }
    tiny_gpt2_free(&m);
}

static void test_bad_decoding(void **state)
{
    (void)state;
    static const gpt2_next NEXT[] = {
        {-1, 0, 1, {0}}, {V, 0, 1, {0}}, {0, -1, 1, {0}}, {0, 8, 1, {0}}, {0, 0, 0, {0}}, {0, 3, 6, {0}},
    };
    tiny_gpt2 m = {.layers = 1, .heads = 1, .positions = POSITIONS};
    loaded l;
    gpt2_run *run = NULL;
    tdm_err err = {0};
    const gpt2_next fine = {.position = 3, .left = 5};
    tiny_gpt2_make(&m, 1);
    load(&l, &m, TDM_F32);
    const gpt2_limits limits = {.slots = 2, .pages = 2, .context = 8, .rows = 2, .logits = 1};
    assert_int_equal(gpt2_run_open(l.model, &limits, &run, NULL), TDM_OK);
    for (size_t i = 0; i < sizeof NEXT / sizeof *NEXT; i++)
        assert_int_equal(gpt2_start(run, 0, &NEXT[i], &err), TDM_EARG);
    assert_int_equal(gpt2_start(run, 2, &fine, &err), TDM_EARG);
    assert_int_equal(gpt2_start(run, -1, &fine, &err), TDM_EARG);
    assert_int_equal(gpt2_start(run, 1, &fine, &err), TDM_OK);
    assert_int_equal(gpt2_decode(run, (int32_t[]){2}, 1, 0, &err), TDM_EARG);
    assert_int_equal(gpt2_decode(run, (int32_t[]){-1}, 1, 0, &err), TDM_EARG);
    assert_int_equal(gpt2_decode(run, (int32_t[]){0}, 0, 0, &err), TDM_EARG);
    assert_int_equal(gpt2_decode(run, (int32_t[]){0, 1, 0}, 3, 0, &err), TDM_EARG);
    assert_int_equal(gpt2_set_pages(run, (int32_t[]){0, 2}, &err), TDM_EARG);
    assert_int_equal(gpt2_set_pages(run, (int32_t[]){-2, 1}, &err), TDM_EARG);
    assert_int_equal(gpt2_set_pages(run, (int32_t[]){1, -1}, &err), TDM_OK);
    /* a text without its page */
    assert_int_equal(gpt2_decode(run, (int32_t[]){1}, 1, 0, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "page 0 of slot 1 is -1"));
    assert_int_equal(gpt2_copy_page(run, 0, 0, &err), TDM_EARG);
    gpt2_run_close(run);
    unload(&l);
    tiny_gpt2_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_bad_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
