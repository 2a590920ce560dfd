/* tests/emu/test_gpt2_ranks.c - GPT-2 on several devices with NCCL between them, in captured graphs, beside one device
 * alone: logits, draws and scores; the same bits in other company and on the same devices in another order. */
#include "tests/emu/backend_test.h"
#include "tests/emu/control.h"
#include "tests/gpt2_ranks_subject.h"

enum { MOST = 7 };

typedef struct {
    const char *why;
    tiny_gpt2 model; /* heads 0: the demo's */
    tdm_dtype dtype;
    double tolerance;
    int32_t ranks[8]; /* ends with 0 */
} subject;

/* What differs by 2^-24 is rounded to neighbours, 2^-11 apart, in some ten places of a layer; test_gpt2_ranks.c has the
 * reason of the other. */
#define IN_F32 TDM_F32, 0x1p-18
#define IN_F16 TDM_F16, 0x1p-8

static const subject SMALL[] = {
    {"7 heads, untied", {.layers = 1, .heads = 7, .positions = 24, .inner = 448, .untied = true}, IN_F16, {3, 7}},
    {"the demo's writer", {0}, IN_F32, {2}},
};
/* For the fast variant alone: minutes where memory accesses are checked. */
#define TWENTY_FIVE {.layers = 1, .heads = 25, .positions = 24, .inner = 448, .words = 0.0625f, .weights = 0.25f}
static const subject WIDE[] = {
    {"25 heads", TWENTY_FIVE, IN_F16, {1, 2, 3, 4, 5, 7}},
    {"25 heads", TWENTY_FIVE, IN_F32, {2, 7}},
    {"the demo's writer", {0}, IN_F16, {1, 2, 3}},
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

static void ask_ranks(const subject *s, const model_files *f, int32_t n, const answers *alone)
{
    char what[32];
    tdm_backend be;
    answers first, again;
    snprintf(what, sizeof what, "%d ranks, %s", (int)n, tdm_dtype_name(s->dtype));
    open_ranks(n, s->dtype, false, &be);
    ask(&be, f, false, &first);
    tdm_backend_close(&be);
    open_ranks(n, s->dtype, true, &be);
    ask(&be, f, true, &again);
    tdm_backend_close(&be);
    assert_same(&again, &first, what);
    print_message("%s: logits off by %.1e of the largest\n", what, assert_close(&first, alone, s->tolerance, what));
    if (n == 1)
        assert_same(&first, alone, what);
    free_answers(&first);
    free_answers(&again);
}

static void against_one_alone(const subject *s)
{
    tiny_gpt2 tiny = s->model;
    char dir[TINY_PATH];
    model_files f;
    answers alone;
    tdm_backend be = open_cuda(s->dtype, s->dtype, false);
    print_message("%s\n", s->why);
    if (tiny.heads) {
        tiny_gpt2_make(&tiny, 40);
        tiny_gpt2_write(&tiny, dir, TDM_F16);
        tiny_gpt2_free(&tiny);
    }
    open_files(&f, s->model.heads ? dir : TDM_SOURCE_DIR "/tools/demo/writer");
    ask(&be, &f, false, &alone);
    tdm_backend_close(&be);
    for (const int32_t *n = s->ranks; *n; n++)
        ask_ranks(s, &f, *n, &alone);
    free_answers(&alone);
    close_files(&f);
    if (s->model.heads)
        tiny_roberta_remove(dir);
}

static void small_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(SMALL); i++)
        against_one_alone(&SMALL[i]);
}

static void wide_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(WIDE); i++)
        against_one_alone(&WIDE[i]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest small[] = {cmocka_unit_test(small_models)}, wide[] = {cmocka_unit_test(wide_models)};
    assert_int_equal(setenv("TDM_EMU_DEVICES", "7", 1), 0);
    tdm_emu_configure();
    require_device();
    if (argc > 1 && !strcmp(argv[1], "wide"))
        return cmocka_run_group_tests(wide, NULL, NULL);
    return cmocka_run_group_tests(small, NULL, NULL);
}
