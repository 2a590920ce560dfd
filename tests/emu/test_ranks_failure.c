/* tests/emu/test_ranks_failure.c - what becomes of several CUDA devices when one of them fails, and which are refused. The
 * emulator says who fails and when; where devices are real only the lists and the refusals are tried. */
#include "tests/emu/ranks_test.h"

/* Absent on a real device. */
extern size_t tdm_emu_device_bytes(int device) __attribute__((weak));

static void configure(const char *name, const char *value)
{
    setenv(name, value, 1);
    if (tdm_emu_configure)
        tdm_emu_configure();
}

static void reset(const char *name)
{
    unsetenv(name);
    if (tdm_emu_configure)
        tdm_emu_configure();
}

/* ---- work that one rank does not get through ---- */

enum { RANKS = 3, ROWS = 2, COLS = 64, SUMS_AT_MOST = 40, FAILS_AT = 3, REUSED = 0x55 };

typedef struct {
    bool in_graph, downloads, alike;
    bool releases; /* what it has, when something fails, before the ranks are given up */
    int32_t failing; /* by itself, before a sum; -1: none */
    tdm_graph *graphs[RANKS];
    void *memory[RANKS];
    char (*got)[ROWS * COLS * sizeof(uint16_t)]; /* by rank */
    tdm_status after[3]; /* what operations said once the ranks were given up */
} failure;

static tdm_status open_work(failure *f, const tdm_backend *be, int32_t rank, tdm_mat y, size_t bytes, tdm_err *err)
{
    static const char ZEROS[ROWS * COLS * sizeof(float)];
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_upload(be, y.p, ZEROS, bytes, err));
    TDM_TRY(tdm_sum_ranks(be, y, err));
    if (!f->in_graph)
        return TDM_OK;
    TDM_TRY(tdm_graph_begin(be, err));
    const tdm_status recorded = tdm_sum_ranks(be, y, err);
    st = tdm_graph_end(be, &f->graphs[rank], recorded == TDM_OK ? err : NULL);
    st = recorded == TDM_OK ? st : recorded;
done:
    return st;
}

static void release_work(void *ctx, const tdm_backend *be, int32_t rank)
{
    failure *f = ctx;
    tdm_graph_close(be, f->graphs[rank]);
    tdm_release(be, f->memory[rank]);
    f->graphs[rank] = NULL;
    f->memory[rank] = NULL;
}

/* Sums, and a look at each. What it takes is left to release_work, as a model would; what was copied to is its own again. */
static tdm_status work(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    failure *f = ctx;
    char *got = f->got[rank];
    const void *host = NULL;
    TDM_TRY(tdm_alloc(be, sizeof *f->got, &f->memory[rank], err));
    const tdm_mat y = {f->memory[rank], ROWS, COLS, TDM_F16, 0};
    TDM_TRY(open_work(f, be, rank, y, sizeof *f->got, err));
    for (int i = 0; i < SUMS_AT_MOST; i++) {
        TDM_REQUIRE(i < FAILS_AT || (rank != f->failing && !f->alike), TDM_EARG, "this fails");
        TDM_TRY(f->in_graph ? tdm_graph_run(be, f->graphs[rank], err) : tdm_sum_ranks(be, y, err));
        if (f->downloads) {
            TDM_TRY(tdm_download(be, got, y.p, sizeof *f->got, err));
        } else {
            TDM_TRY(tdm_fetch_begin(be, 0, y.p, sizeof *f->got, err));
            TDM_TRY(tdm_fetch_end(be, 0, &host, err));
        }
    }
done:
    memset(got, REUSED, sizeof *f->got);
    if (st != TDM_OK && f->releases)
        release_work(f, be, rank);
    return st;
}

/* On a rank that was given up. */
static void try_again(void *ctx, const tdm_backend *be, int32_t rank)
{
    failure *f = ctx;
    float cells[ROWS * COLS], *p = f->memory[rank] ? f->memory[rank] : cells; /* nothing looks at them */
    const tdm_mat y = {p, ROWS, COLS, TDM_F16, 0};
    const tdm_mat joined = {p, 1, 32, TDM_F32, 0}, x = {p + 32, 1, 16, TDM_F32, 0};
    if (rank != 0)
        return;
    f->after[0] = tdm_sum_ranks(be, y, NULL);
    f->after[1] = tdm_join_ranks(be, joined, x, NULL);
    f->after[2] = f->graphs[rank] ? tdm_graph_run(be, f->graphs[rank], NULL) : TDM_ESTOPPED;
}

/* All get one error, with `text` in it; every later call does; and what they had is closed. */
static void check_failure(failure f, tdm_status status, const char *text)
{
    char got[RANKS][sizeof *f.got];
    f.got = got;
    tdm_backend be = open_ranks(RANKS, TDM_F16);
    ASSERT_FAILS(tdm_each_rank(&be, work, &f, err), status, text);
    ASSERT_FAILS(tdm_each_rank(&be, work, &f, err), TDM_ESTOPPED, text);
    assert_true(tdm_release_ranks(&be, try_again, &f));
    for (int i = 0; i < 3; i++)
        assert_int_equal(f.after[i], TDM_ESTOPPED);
    assert_true(tdm_release_ranks(&be, release_work, &f)); /* all ranks came back */
    tdm_backend_close(&be);
    for (size_t i = 0; i < sizeof got; i++)
        assert_int_equal(got[i / sizeof *got][i % sizeof *got], REUSED);
}

static const failure WAYS[] = {
    {.failing = -1},
    {.failing = -1, .downloads = true},
    {.failing = -1, .in_graph = true},
    {.failing = -1, .in_graph = true, .releases = true},
};

/* The kernels of connecting are none: those of the sums count, on any device. */
static void a_device_is_lost(void **state)
{
    (void)state;
    static const char *const WHEN[] = {"9@1", "17@0", "30@2", "12@1"};
    if (!tdm_emu_configure)
        skip();
    for (size_t i = 0; i < COUNT(WAYS); i++) {
        char text[64];
        snprintf(text, sizeof text, "rank %c: ", WHEN[i][strlen(WHEN[i]) - 1]);
        configure("TDM_EMU_LOST", WHEN[i]);
        check_failure(WAYS[i], TDM_ESTOPPED, text);
        configure("TDM_EMU_LOST", WHEN[i]);
        snprintf(text, sizeof text, "(cudaErrorLaunchFailure, cuda:%c)", WHEN[i][strlen(WHEN[i]) - 1]);
        check_failure(WAYS[i], TDM_ESTOPPED, text);
        reset("TDM_EMU_LOST");
    }
}

static void nccl_fails(void **state)
{
    (void)state;
    if (!tdm_emu_configure)
        skip();
    for (size_t i = 1; i < COUNT(WAYS); i++) {
        configure("TDM_EMU_NCCL_FAIL", i == 1 ? "8" : "12");
        check_failure(WAYS[i], TDM_ESTOPPED, "NCCL: between the devices: ");
        reset("TDM_EMU_NCCL_FAIL");
    }
}

static void one_rank_fails_alone(void **state)
{
    (void)state;
    if (n_devices < RANKS)
        skip();
    for (size_t i = 0; i < COUNT(WAYS); i++)
        for (int32_t rank = 0; rank < RANKS; rank += 2) {
            failure f = WAYS[i];
            f.failing = rank;
            check_failure(f, TDM_EARG, rank ? "rank 2: this fails" : "rank 0: this fails");
        }
}

/* A bad argument is one on every rank, and they can go on. */
static void all_fail_alike(void **state)
{
    (void)state;
    if (n_devices < RANKS)
        skip();
    tdm_backend be = open_ranks(RANKS, TDM_F16);
    for (int i = 0; i < 2; i++) {
        char got[RANKS][sizeof *(failure){0}.got];
        failure f = {.failing = -1, .alike = i == 0, .in_graph = true, .got = got};
        if (i == 0)
            ASSERT_FAILS(tdm_each_rank(&be, work, &f, err), TDM_EARG, "this fails");
        else
            ASSERT_OK(tdm_each_rank(&be, work, &f, err));
        assert_true(tdm_release_ranks(&be, release_work, &f));
    }
    tdm_backend_close(&be);
}

/* While the first messages are sent, or between them and the first sum. */
static void it_fails_while_it_is_opened(void **state)
{
    (void)state;
    tdm_backend be;
    const tdm_cuda_options options = {.dtype = TDM_F16, .kv_dtype = TDM_F16};
    if (!tdm_emu_configure)
        skip();
    for (const char *at = "1"; at; at = *at == '1' ? "3" : NULL) {
        configure("TDM_EMU_NCCL_FAIL", at);
        ASSERT_FAILS(tdm_open_cuda_ranks(ALL, RANKS, &options, &be, err), TDM_ESTOPPED, "NCCL: between the devices: ");
        assert_null(be.ops);
    }
    reset("TDM_EMU_NCCL_FAIL");
}

/* ---- which devices ---- */

static void devices_are_listed(void **state)
{
    (void)state;
    tdm_cuda_device *devices = NULL;
    int32_t n = 0;
    ASSERT_OK(tdm_list_cuda(&devices, &n, err));
    assert_int_equal(n, n_devices);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(devices[i].number, i);
        assert_true(devices[i].major >= 8 && devices[i].multiprocessors > 0 && devices[i].memory > 0);
        assert_true(devices[i].name[0] && strlen(devices[i].bus) == strlen("0000:1b:00.0"));
        for (int32_t j = 0; j < i; j++)
            assert_string_not_equal(devices[i].bus, devices[j].bus);
    }
    free(devices);
    if (!tdm_emu_configure)
        return;
    configure("TDM_EMU_DEVICES", "0");
    devices = (void *)&n;
    ASSERT_FAILS(tdm_list_cuda(&devices, &n, err), TDM_ENODEV, "cuda: there is no CUDA device");
    assert_true(!devices && n == 0);
    configure("TDM_EMU_DEVICES", "7");
    configure("TDM_EMU_DRIVER", "old");
    ASSERT_FAILS(tdm_list_cuda(&devices, &n, err), TDM_ENODEV, "cuda: the driver is made for CUDA 11.4");
    reset("TDM_EMU_DRIVER");
}

static void refuses(const int *devices, int32_t n, tdm_status status, const char *text)
{
    tdm_backend be = {.rank = 9};
    const tdm_cuda_options options = {.dtype = TDM_F16, .kv_dtype = TDM_F16};
    ASSERT_FAILS(tdm_open_cuda_ranks(devices, n, &options, &be, err), status, text);
    assert_true(!be.ops && !be.self && be.rank == 0);
}

/* Memory for a backend that stands alone, and not for what a rank takes beside it. */
static const char *enough_for_one(void)
{
    static char text[32];
    tdm_backend be = open_cuda(TDM_F16, TDM_F16, true);
    snprintf(text, sizeof text, "%zu", tdm_emu_device_bytes(0) + CUDA_STAGING_BYTES / 2);
    tdm_backend_close(&be);
    return text;
}

static void devices_are_checked(void **state)
{
    (void)state;
    refuses((const int[]){0, 0}, 2, TDM_EARG, "device 0 is listed twice");
    refuses((const int[]){99}, 1, TDM_ENODEV, "cuda:99: there ");
    refuses((const int[]){-1}, 1, TDM_ENODEV, "cuda:-1: there ");
    refuses(ALL, 0, TDM_EARG, "0 ranks, want 1 to 64");
    refuses(ALL, 65, TDM_EARG, "65 ranks, want 1 to 64");
    if (!tdm_emu_configure)
        return;
    refuses((const int[]){0, 2, 1, 2}, 4, TDM_EARG, "device 2 is listed twice");
    refuses((const int[]){0, 7}, 2, TDM_ENODEV, "cuda:7: there are 7 CUDA devices, from 0");
    configure("TDM_EMU_CC", "90,90,80");
    refuses((const int[]){0, 1, 2}, 3, TDM_EARG,
            "devices of different kinds: cuda:0 is emulated sm_90, sm_90, 4 multiprocessors, 1.0 GiB; cuda:2 is emulated "
            "sm_80, sm_80");
    reset("TDM_EMU_CC");
    configure("TDM_EMU_MEMORY", "1073741824,805306368");
    refuses(ALL, 2, TDM_EARG, "1.0 GiB; cuda:1 is emulated sm_90, sm_90, 4 multiprocessors, 0.8 GiB");
    reset("TDM_EMU_MEMORY");
    configure("TDM_EMU_BUSY", "1");
    refuses(ALL, 2, TDM_ENODEV, "cuda:1 is busy: another program has it to itself");
    reset("TDM_EMU_BUSY");
    configure("TDM_EMU_MEMORY", enough_for_one());
    refuses(ALL, 2, TDM_ENOMEM, "room for messages of 32.0 MiB");
    reset("TDM_EMU_MEMORY");
}

/* Memory that differs a little is that of one kind. */
static void devices_have_names(void **state)
{
    (void)state;
    tdm_backend be;
    const tdm_cuda_options options = {.dtype = TDM_BF16, .kv_dtype = TDM_F16};
    tdm_backend one = open_ranks(1, TDM_F16);
    assert_non_null(strstr(one.device, "1 x "));
    assert_null(strstr(one.device, "each"));
    assert_int_equal(tdm_rank_backend(&one, 0)->n_ranks, 1);
    tdm_backend_close(&one);
    if (!tdm_emu_configure)
        return;
    configure("TDM_EMU_MEMORY", "1073741824,1063741824,1073741824");
    ASSERT_OK(tdm_open_cuda_ranks((const int[]){2, 1}, 2, &options, &be, err));
    assert_string_equal(be.device, "2 x emulated sm_90 (cuda:2, cuda:1), sm_90, 1.0 GiB each, bf16");
    assert_non_null(strstr(be.identity, ", cache f16, 2 ranks"));
    assert_null(strstr(be.identity, "cuda:"));
    assert_true(tdm_backend_memory(&be) > 1 && tdm_backend_memory(&be) < 1063741824);
    tdm_backend_close(&be);
    reset("TDM_EMU_MEMORY");
    for (int i = 0; i < MOST; i++)
        assert_int_equal(tdm_emu_device_bytes(i), 0); /* of all that was opened and failed here */
}

int main(void)
{
    count_devices();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_is_lost),
        cmocka_unit_test(nccl_fails),
        cmocka_unit_test(one_rank_fails_alone),
        cmocka_unit_test(all_fail_alike),
        cmocka_unit_test(it_fails_while_it_is_opened),
        cmocka_unit_test(devices_are_listed),
        cmocka_unit_test(devices_are_checked),
        cmocka_unit_test(devices_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
