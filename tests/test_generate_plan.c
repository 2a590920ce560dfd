/* Plans: how many texts at once fit the memory, on the CPU and on a device, and what is said of those that
 * do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/batch.h"
#include "host/generate.h"

/* A device of whose memory nothing is taken: shapes alone are asked for. */
static tdm_backend device_like(const tdm_backend *cpu, tdm_ops *ops)
{
    tdm_backend be = *cpu;
    *ops = *cpu->ops;
    ops->name = "device";
    be.ops = ops;
    return be;
}

static const struct {
    const char *why;
    bool device, prompts;
    uint64_t n;
    int32_t batch, length;
    uint64_t memory;         /* MiB */
    int32_t least, most;     /* batch; 0: refused */
    int32_t pages_of_a_text; /* at least so many, times 2; 0: not looked at */
    const char *message;
} PLANS[] = {
    /* 72 MiB of cache for each text of 1024 tokens */
    {"what is useful", false, false, 1000000, 0, 0, 1 << 20, 64, 64, 32, NULL},
    {"unknown memory", false, false, 1000000, 0, 0, 0, 1, 1, 32, NULL},
    {"half of the memory", false, false, 1000000, 0, 0, 1 << 10, 5, 7, 32, NULL},
    {"short texts", false, false, 1000000, 0, 128, 1 << 10, 40, 56, 4, NULL},
    {"prompts can be long", false, true, 1000000, 0, 128, 1 << 10, 5, 7, 32, NULL},
    {"few documents", false, false, 3, 0, 0, 1 << 20, 3, 3, 32, NULL},
    {"prompts are not counted", false, true, 3, 0, 0, 1 << 20, 64, 64, 32, NULL},
    {"as asked", false, false, 1000000, 12, 0, 1 << 10, 12, 12, 32, NULL},
    {"few documents in a large batch", false, false, 5, 60000, 0, 1 << 10, 5, 5, 32, NULL},
    {"more than there is", false, false, 1000000, 20, 0, 1 << 10, 0, 0, 0, "MiB beside the weights, 1024 MiB are available; --batch 14 fits"},
    {"too little for one", false, false, 1000000, 3, 0, 64, 0, 0, 0, "one text of 1024 tokens takes"},
    {"auto, too little for one", false, false, 1000000, 0, 0, 64, 0, 0, 0, "one text of 1024 tokens takes"},
    {"device: what is useful", true, false, 1000000, 0, 0, 1 << 20, 1024, 1024, 32, NULL},
    {"device: twice what fits", true, false, 1000000, 0, 0, 24 << 10, 600, 668, 16, NULL},
    {"device: few documents", true, false, 100, 0, 0, 24 << 10, 100, 100, 32, NULL},
    {"device: as asked", true, false, 1000000, 1000, 0, 24 << 10, 1000, 1000, 0, NULL},
    {"device: a page for each", true, false, 1000000, 9000, 0, 24 << 10, 0, 0, 0, "--batch "},
    {"device: too little for one", true, false, 1000000, 0, 0, 100, 0, 0, 0, "one text of 1024 tokens takes"},
};

static const tdm_config SMALL = {.n_layer = 12, .n_head = 12, .n_embd = 768, .n_inner = 3072,
                                 .n_vocab = 50257, .n_position = 1024, .n_context = 1024};

static void test_plans(void **state)
{
    (void)state;
    tdm_backend cpu;
    tdm_ops ops;
    assert_int_equal(tdm_open_cpu(1, &cpu, NULL), TDM_OK);
    const tdm_backend device = device_like(&cpu, &ops);
    for (size_t i = 0; i < sizeof PLANS / sizeof *PLANS; i++) {
        const tdm_backend *be = PLANS[i].device ? &device : &cpu;
        const size_t memory = (size_t)PLANS[i].memory << 20;
        tdm_generate_options o = TDM_GENERATE_DEFAULTS;
        tdm_generate_memory plan;
        tdm_err err = {0};
        o.n = PLANS[i].n;
        o.batch = PLANS[i].batch;
        o.length = PLANS[i].length;
        const tdm_status st = tdm_generate_plan(be, &SMALL, &o, PLANS[i].prompts, memory, &plan, &err);
        if (PLANS[i].message) {
            if (st != TDM_ENOMEM || !strstr(err.msg, PLANS[i].message))
                fail_msg("%s: status %d, %s", PLANS[i].why, (int)st, err.msg);
            continue;
        }
        if (st != TDM_OK || plan.batch < PLANS[i].least || plan.batch > PLANS[i].most)
            fail_msg("%s: status %d, batch %d, %s", PLANS[i].why, (int)st, (int)plan.batch, err.msg);
        assert_int_equal(plan.cache_bytes, (size_t)plan.pages * plan.page_bytes);
        assert_int_equal(plan.page_bytes, (size_t)72 << 20 >> 4);
        assert_true(memory == 0 || plan.cache_bytes + plan.scratch_bytes <= memory);
        assert_true(2 * plan.pages >= PLANS[i].pages_of_a_text * plan.batch);
        if (!PLANS[i].device)
            assert_int_equal(2 * plan.pages, PLANS[i].pages_of_a_text * plan.batch);
    }
    tdm_backend_close(&cpu);
}

/* What is said to fit does, and one more does not. */
static void test_what_is_said_to_fit(void **state)
{
    (void)state;
    tdm_backend cpu;
    tdm_ops ops;
    assert_int_equal(tdm_open_cpu(1, &cpu, NULL), TDM_OK);
    const tdm_backend device = device_like(&cpu, &ops);
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_memory plan;
    o.n = UINT64_MAX;
    for (int d = 0; d < 2; d++) {
        const tdm_backend *be = d ? &device : &cpu;
        tdm_err err = {0};
        o.batch = TDM_MAX_BATCH;
        assert_int_equal(tdm_generate_plan(be, &SMALL, &o, false, (size_t)3 << 30, &plan, &err),
                         TDM_ENOMEM);
        o.batch = atoi(strstr(err.msg, "--batch ") + 8);
        assert_int_equal(tdm_generate_plan(be, &SMALL, &o, false, (size_t)3 << 30, &plan, &err), TDM_OK);
        o.batch++;
        assert_int_equal(tdm_generate_plan(be, &SMALL, &o, false, (size_t)3 << 30, &plan, &err),
                         TDM_ENOMEM);
    }
    tdm_backend_close(&cpu);
}

/* Useful for the batch; of bounded size; and a place for each text. */
static void test_windows(void **state)
{
    (void)state;
    static const struct {
        int32_t batch, context;
        size_t documents;
    } CASES[] = {
        {1, 1024, 32 + 256},
        {1024, 1024, 32 * 1024 + 256},
        {4096, 1024, (64 << 20) / 1025},
        {TDM_MAX_BATCH, 1024, TDM_MAX_BATCH},
        {1, 1 << 20, 63},
        {100, 1 << 20, 100},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        assert_int_equal(tdm_generate_window(CASES[i].batch, CASES[i].context), CASES[i].documents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_what_is_said_to_fit),
        cmocka_unit_test(test_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
