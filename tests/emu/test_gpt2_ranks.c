/* tests/emu/test_gpt2_ranks.c - GPT-2 on several devices with NCCL between them, in captured graphs, beside one device
 * alone: logits, draws and scores; the same bits in other company and on the same devices in another order. */
#include "tests/emu/backend_test.h"
#include "tests/emu/control.h"
#include "tests/gpt2_ranks_subject.h"

enum { MOST = 7 };

static const struct {
    const char *why;
    tiny_gpt2 model; /* heads 0: the demo's */
} SUBJECTS[] = {
    {"25 heads", {.layers = 1, .heads = 25, .positions = 24, .inner = 472, .words = 0.0625f, .weights = 0.25f}},
    {"the demo's writer", {0}},
};

static const struct {
    tdm_dtype dtype;
    double tolerance;
} KINDS[] = {
    {TDM_F32, 0x1p-18}, /* test_gpt2_ranks.c has the reason */
    {TDM_F16, 0x1p-8},  /* what differs by 2^-24 is rounded to neighbours, 2^-11 apart, in some ten places of a layer */
};

/* n devices, the first first or last. */
static void open_ranks(int32_t n, tdm_dtype dtype, bool backwards, tdm_backend *be)
{
    int devices[MOST];
    const tdm_cuda_options options = {.dtype = dtype, .kv_dtype = dtype};
    for (int i = 0; i < n; i++)
        devices[i] = backwards ? n - 1 - i : i;
    ASSERT_OK(tdm_open_cuda_ranks(devices, n, &options, be, err));
}

static void ask_ranks(const model_files *f, int32_t n, size_t kind, const answers *alone)
{
    char what[32];
    tdm_backend be;
    answers first, again;
    snprintf(what, sizeof what, "%d ranks, %s", (int)n, tdm_dtype_name(KINDS[kind].dtype));
    open_ranks(n, KINDS[kind].dtype, false, &be);
    ask(&be, f, false, &first);
    tdm_backend_close(&be);
    open_ranks(n, KINDS[kind].dtype, true, &be);
    ask(&be, f, true, &again);
    tdm_backend_close(&be);
    assert_same(&again, &first, what);
    const double off = assert_close(&first, alone, KINDS[kind].tolerance, what);
    print_message("%s: logits off by %.1e of the largest\n", what, off);
    free_answers(&first);
    free_answers(&again);
}

static void against_one_alone(void **state)
{
    (void)state;
    static const int32_t RANKS[] = {1, 2, 3, 4, 5, 7};
    for (size_t i = 0; i < COUNT(SUBJECTS); i++) {
        tiny_gpt2 tiny = SUBJECTS[i].model;
        char dir[TINY_PATH];
        model_files f;
        if (tiny.heads) {
            tiny_gpt2_make(&tiny, 40);
            tiny_gpt2_write(&tiny, dir, TDM_F16);
            tiny_gpt2_free(&tiny);
        }
        open_files(&f, tiny.heads ? dir : TDM_SOURCE_DIR "/tools/demo/writer");
        for (size_t kind = 0; kind < COUNT(KINDS); kind++) {
            answers alone;
            tdm_backend be = open_cuda(KINDS[kind].dtype, KINDS[kind].dtype, false);
            print_message("%s\n", SUBJECTS[i].why);
            ask(&be, &f, false, &alone);
            tdm_backend_close(&be);
            for (size_t k = 0; k < COUNT(RANKS) && RANKS[k] <= f.config.n_head; k++)
                ask_ranks(&f, RANKS[k], kind, &alone);
            free_answers(&alone);
        }
        close_files(&f);
        if (tiny.heads)
            tiny_roberta_remove(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_one_alone)};
    assert_int_equal(setenv("TDM_EMU_DEVICES", "7", 1), 0);
    tdm_emu_configure();
    require_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
