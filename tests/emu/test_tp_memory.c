/* tests/emu/test_tp_memory.c - what each of several devices has of a model, and of a run of it, beside the plan that
 * `tandem inspect` prints and --tp auto chooses by. */
#include "detector/roberta.h"
#include "tests/emu/backend_test.h"
#include "tests/emu/control.h"
#include "tests/gpt2_ranks_subject.h"
#include "tools/tp_plan.h"

enum { MOST = 3 };

/* Alone, the output matrix is filled up to a multiple of 64 rows, which the plan does not count. */
static const double ROUNDING = 0.005;

/* n devices, 0: one alone. */
static void open_devices(int32_t n, tdm_backend *be)
{
    static const int DEVICES[MOST] = {0, 1, 2};
    const tdm_cuda_options options = {.dtype = TDM_F16, .kv_dtype = TDM_F16};
    ASSERT_OK(n ? tdm_open_cuda_ranks(DEVICES, n, &options, be, err) : tdm_open_cuda(&options, be, err));
}

static void look(size_t bytes[MOST])
{
    for (int i = 0; i < MOST; i++)
        bytes[i] = tdm_emu_device_bytes(i);
}

/* Every device took what was planned for its rank, and the one that took most what was planned for all. */
static void check(const char *what, int32_t n, const size_t before[MOST], const size_t plan[MOST], size_t most)
{
    size_t after[MOST], largest = 0;
    look(after);
    for (int i = 0; i < MOST; i++) {
        const size_t took = after[i] - before[i];
        if (i >= n && took > 0)
            fail_msg("%s: device %d took %zu bytes", what, i, took);
        if (plan && i < n && ((double)took < (double)plan[i] || (double)took > (1 + ROUNDING) * (double)plan[i]))
            fail_msg("%s: device %d of %d took %zu bytes, planned were %zu", what, i, (int)n, took, plan[i]);
        largest = took > largest ? took : largest;
    }
    if ((double)largest < (double)most || (double)largest > (1 + ROUNDING) * (double)most)
        fail_msg("%s on %d: %zu bytes, planned were %zu", what, (int)n, largest, most);
    print_message("%s on %d: %zu bytes, planned %zu\n", what, (int)n, largest, most);
}

static void a_writer(int32_t n)
{
    const int32_t devices = n ? n : 1;
    model_files f;
    tdm_backend be;
    gpt2_model *m = NULL;
    gpt2_run *run = NULL;
    tp_share share;
    size_t before[MOST], planned[MOST], cache = 0, scratch = 0;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    open_files(&f, TDM_SOURCE_DIR "/tools/demo/writer");
    const tp_job job = {.model = {f.ck, &f.config}, .generate = &o};
    o.n = 4;
    open_devices(n, &be);
    tdm_backend imagined = tp_imagined_device();
    imagined.n_ranks = n;
    ASSERT_OK(tp_plan(&job, &imagined, 0, SIZE_MAX, &share, err));
    for (int32_t r = 0; r < devices; r++) {
        tdm_weight_plan plan = {.ck = f.ck, .act = TDM_F16};
        assert_int_equal(gpt2_each_tensor(f.ck, &f.config, r, n, tdm_plan_tensor, &plan), TDM_OK);
        planned[r] = plan.bytes;
    }
    look(before);
    ASSERT_OK(gpt2_open(&be, f.ck, &f.config, false, &m, err));
    check("weights of a writer", devices, before, planned, share.weights);

    const int32_t pages = 4 * gpt2_text_pages(f.config.n_context);
    const gpt2_limits limits = {.slots = 4, .pages = pages, .context = f.config.n_context, .rows = 2048, .logits = 4};
    assert_true(gpt2_run_bytes(&imagined, &f.config, &limits, &cache, &scratch));
    look(before);
    ASSERT_OK(gpt2_run_open(m, &limits, &run, err));
    check("a run of 4 texts", devices, before, NULL, cache + scratch);
    assert_int_equal(share.batch, 4);
    assert_int_equal(share.cache, cache);
    assert_int_equal(share.scratch, scratch);
    gpt2_run_close(run);
    gpt2_close(m);
    tdm_backend_close(&be);
    close_files(&f);
}

static void a_reader(int32_t n)
{
    const int32_t devices = n ? n : 1;
    model_files f;
    tdm_backend be;
    roberta *m = NULL;
    tp_share share;
    size_t before[MOST], planned[MOST];
    open_files(&f, TDM_SOURCE_DIR "/tools/demo/reader");
    const tp_job job = {.model = {f.ck, &f.config}, .batch = 4};
    tdm_backend imagined = tp_imagined_device();
    imagined.n_ranks = n;
    ASSERT_OK(tp_plan(&job, &imagined, 0, SIZE_MAX, &share, err));
    assert_int_equal(share.batch, 4 * f.config.n_context);
    open_devices(n, &be);
    for (int32_t r = 0; r < devices; r++) {
        tdm_weight_plan plan = {.ck = f.ck, .act = TDM_F16};
        assert_int_equal(roberta_each_tensor(f.ck, &f.config, r, n, tdm_plan_tensor, &plan), TDM_OK);
        planned[r] = plan.bytes + share.scratch; /* of two heads each rank has as many */
    }
    look(before);
    ASSERT_OK(roberta_open(&be, f.ck, &f.config, &(roberta_limits){(int32_t)share.batch, 4, 0}, false, &m, err));
    check("a reader of 4 texts", devices, before, planned, share.weights + share.scratch);
    roberta_close(m);
    tdm_backend_close(&be);
    close_files(&f);
}

static void as_planned(void **state)
{
    (void)state;
    for (int32_t n = 0; n <= MOST; n++)
        a_writer(n);
    for (int32_t n = 0; n <= 2; n++)
        a_reader(n);
}

/* Of three heads one of two ranks has two thirds, of three ranks each a third; norms and positions stay. */
static void less_on_each(void **state)
{
    (void)state;
    model_files f;
    size_t bytes[MOST + 1] = {0};
    open_files(&f, TDM_SOURCE_DIR "/tools/demo/writer");
    const tp_job job = {.model = {f.ck, &f.config}};
    for (int32_t n = 1; n <= MOST; n++) {
        tp_share share;
        tdm_backend imagined = tp_imagined_device();
        imagined.n_ranks = n;
        ASSERT_OK(tp_plan(&job, &imagined, 0, SIZE_MAX, &share, err));
        bytes[n] = share.weights;
    }
    assert_true(10 * bytes[3] < 4 * bytes[1]);
    assert_true(10 * bytes[2] < 7 * bytes[1] && 2 * bytes[2] > bytes[1]);
    close_files(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_planned), cmocka_unit_test(less_on_each)};
    if (setenv("TDM_EMU_DEVICES", "3", 1) != 0)
        return 1;
    tdm_emu_configure();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
