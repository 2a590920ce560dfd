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
    {"7 heads, untied", {.layers = 1, .heads = 7, .positions = 24, .inner = 448, .untied = true}, IN_F16, {7}},
    {"the demo's writer", {0}, IN_F32, {3}},
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

/* ---- failures ---- */

enum { PAGES = 3000 }; /* 280 MiB on the rank that has two heads, 140 on the other */

/* Open, write until something fails, close. */
static tdm_status write_some(const tdm_backend *be, const model_files *f, tdm_err *err)
{
    enum { LENGTH = 40 };
    const gpt2_limits limits = {.slots = 2, .pages = PAGES, .context = LENGTH, .rows = 2, .logits = 1};
    static const int32_t TABLE[] = {7, 3}, SLOTS_OF[] = {0, 1};
    tdm_status st = TDM_OK;
    gpt2_model *m = NULL;
    gpt2_run *run = NULL;
    const int32_t *drawn = NULL;
    TDM_TRY(gpt2_open(be, f->ck, &f->config, true, &m, err));
    TDM_TRY(gpt2_run_open(m, &limits, &run, err));
    TDM_TRY(gpt2_set_pages(run, TABLE, err));
    for (int32_t s = 0; s < 2; s++)
        TDM_TRY(gpt2_start(run, s, &(gpt2_next){s, 0, LENGTH, {.top_p = 1}}, err));
    TDM_TRY(gpt2_decode(run, SLOTS_OF, 2, 0, err));
    for (int32_t i = 1; i < LENGTH; i++) {
        TDM_TRY(gpt2_decode(run, SLOTS_OF, 2, i % 2, err));
        TDM_TRY(gpt2_drawn(run, 1 - i % 2, &drawn, err));
    }
done:
    gpt2_run_close(run);
    gpt2_close(m);
    return st;
}

/* A device that is lost while weights are loaded, while graphs are captured and while texts are written; NCCL that
 * fails; a device with too little memory: one error on all ranks, and everything is given back. */
static void one_device_fails(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        tdm_status status;
        const char *says;
    } CASES[] = {
        {"TDM_EMU_SEED", "1", TDM_OK, ""},
        {"TDM_EMU_LOST", "5@1", TDM_ESTOPPED, "rank 1: "},
        {"TDM_EMU_LOST", "70@1", TDM_ESTOPPED, "rank 1: "},
        {"TDM_EMU_LOST", "300@0", TDM_ESTOPPED, "rank 0: "},
        {"TDM_EMU_NCCL_FAIL", "9", TDM_ESTOPPED, "rank "},
        {"TDM_EMU_NCCL_FAIL", "300", TDM_ESTOPPED, "rank "},
        {"TDM_EMU_MEMORY", "314572800", TDM_ENOMEM, "of scratch: rank 0: "},
    };
    model_files f;
    open_files(&f, TDM_SOURCE_DIR "/tools/demo/writer");
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_backend be;
        tdm_err why = {0};
        char *before = getenv(CASES[i].name) ? strdup(getenv(CASES[i].name)) : NULL;
        assert_int_equal(setenv(CASES[i].name, CASES[i].value, 1), 0);
        tdm_emu_configure();
        open_ranks(2, TDM_F16, false, &be);
        const tdm_status st = write_some(&be, &f, &why);
        print_message("%s=%s: %s\n", CASES[i].name, CASES[i].value, why.msg);
        assert_int_equal(st, CASES[i].status);
        assert_non_null(strstr(why.msg, CASES[i].says));
        tdm_backend_close(&be);
        if (before)
            setenv(CASES[i].name, before, 1);
        else
            unsetenv(CASES[i].name);
        free(before);
        tdm_emu_configure();
    }
    close_files(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest small[] = {cmocka_unit_test(small_models), cmocka_unit_test(one_device_fails)}, wide[] = {cmocka_unit_test(wide_models)};
    assert_int_equal(setenv("TDM_EMU_DEVICES", "7", 1), 0);
    tdm_emu_configure();
    require_device();
    if (argc > 1 && !strcmp(argv[1], "wide"))
        return cmocka_run_group_tests(wide, NULL, NULL);
    return cmocka_run_group_tests(small, NULL, NULL);
}
