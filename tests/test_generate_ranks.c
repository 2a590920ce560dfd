/* Documents written on several ranks of the CPU: greedily the same records as alone, and the same bytes every time
 * for each number of ranks. */
#include "host/ranks.h"
#include "tests/generate_subject.h"

static const char WRITER[] = TDM_SOURCE_DIR "/tools/demo/writer";
enum { HEADS = 3 };

static void load_ranks(loaded *l, int32_t n)
{
    tdm_err err = {0};
    *l = (loaded){0};
    if ((n > 0 ? tdm_open_cpu_ranks(n, 1, &l->be, &err) : tdm_open_cpu(1, &l->be, &err)) ||
        tdm_config_load(WRITER, &l->config, &err) || tdm_checkpoint_open(WRITER, &l->ck, &err) ||
        tdm_bpe_open_dir(WRITER, &l->bpe, &err) || gpt2_open(&l->be, l->ck, &l->config, true, &l->model, &err))
        fail_msg("%s", err.msg);
}

static void same_records(const loaded *l, tdm_generate_options o, int32_t batch, const char *from, const output *want)
{
    tdm_generate_totals totals;
    output got;
    o.batch = batch;
    generate_ok(l, &o, from, NULL, &got, &totals);
    assert_string_equal(got.lines.p, want->lines.p);
    tdm_buf_free(&got.lines);
}

static void greedy_records(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    output alone;
    loaded l;
    o.temperature = 0;
    o.length = 30;
    o.batch = 4;
    write_prompts("{\"text\": \"The king\"}\n{\"text\": \"She was not\"}\n{\"text\": \"\\u00e9\"}\n{\"text\": \"\"}\n"
                  "{\"text\": \"It was a bright cold day in April, and the clocks were striking\"}\n");
    load_ranks(&l, 0);
    generate_ok(&l, &o, prompts, NULL, &alone, &totals);
    assert_true(totals.documents == 4 && totals.tokens > 50);
    unload(&l);
    for (int32_t n = 1; n <= HEADS; n++) {
        load_ranks(&l, n);
        same_records(&l, o, 3, prompts, &alone);
        unload(&l);
    }
    tdm_buf_free(&alone.lines);
}

static void sampled_records(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    output alone, first;
    loaded l;
    o.n = 12;
    o.length = 20;
    o.top_p[0] = 0.9f;
    o.batch = 12;
    load_ranks(&l, 0);
    generate_ok(&l, &o, NULL, NULL, &alone, &totals);
    unload(&l);
    for (int32_t n = 1; n <= HEADS; n++) {
        load_ranks(&l, n);
        generate_ok(&l, &o, NULL, NULL, &first, &totals);
        same_records(&l, o, 5, NULL, n == 1 ? &alone : &first);
        unload(&l);
        load_ranks(&l, n);
        same_records(&l, o, 1, NULL, &first);
        unload(&l);
        tdm_buf_free(&first.lines);
    }
    tdm_buf_free(&alone.lines);
}

/* Plans are of a rank that has most heads, and that alone. */
static void planned(void **state)
{
    (void)state;
    static const int32_t MOST_HEADS[] = {3, 3, 2, 1};
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_memory alone, plan;
    size_t scratch = SIZE_MAX;
    o.batch = 8;
    o.n = 100;
    for (int32_t n = 0; n <= HEADS; n++) {
        loaded l;
        tdm_err err = {0};
        load_ranks(&l, n);
        assert_int_equal(tdm_generate_plan(&l.be, &l.config, &o, false, (size_t)1 << 30, &plan, &err), TDM_OK);
        if (n == 0)
            alone = plan;
        assert_int_equal(plan.page_bytes * HEADS, alone.page_bytes * (size_t)MOST_HEADS[n]);
        assert_int_equal(plan.cache_bytes, plan.page_bytes * (size_t)plan.pages);
        assert_true(n < 2 || plan.scratch_bytes < scratch); /* one rank has a block of logits beside them */
        scratch = plan.scratch_bytes;
        unload(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_records),
        cmocka_unit_test(sampled_records),
        cmocka_unit_test(planned),
    };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
