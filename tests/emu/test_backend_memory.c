/* tests/emu/test_backend_memory.c - memory, copies, lanes and graphs of the CUDA backend. */
#include "tests/emu/backend_test.h"

/* Counts calls of cudaMalloc and cudaHostAlloc where the device is emulated; on a real one there is
 * no such count, and what is compared is the free memory, with some for the driver. */
extern long tdm_emu_allocations(void) __attribute__((weak));

static tdm_backend open_f16(bool no_graphs)
{
    return open_cuda(TDM_F16, TDM_F16, no_graphs);
}

/* ---- uploads and downloads ---- */

static void fill(unsigned char *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        p[i] = (unsigned char)(seed >> 56);
    }
}

/* The source is overwritten at once: upload may not look at it later, nor use a staging buffer
 * again while a copy out of it is under way. 80 MiB are more than twice of what staging holds. */
static void uploads_keep_nothing(void **state)
{
    (void)state;
    enum { MIB = 1 << 20, PIECES = 40, PIECE = 2 * MIB + 12345 };
    tdm_backend be = open_f16(false);
    unsigned char *src = malloc(PIECE), *got = malloc(PIECE);
    assert_true(src && got);
    void *to[PIECES];
    for (int i = 0; i < PIECES; i++)
        to[i] = take(&be, PIECE);
    for (int i = 0; i < PIECES; i++) {
        fill(src, PIECE, (uint64_t)i);
        ASSERT_OK(tdm_upload(&be, to[i], src, PIECE, err));
        memset(src, 0xEE, PIECE);
    }
    for (int i = 0; i < PIECES; i++) {
        fill(src, PIECE, (uint64_t)i);
        ASSERT_OK(tdm_download(&be, got, to[i], PIECE, err));
        if (memcmp(src, got, PIECE))
            fail_msg("piece %d of %d is not what was uploaded", i, PIECES);
    }
    release_all(&be);
    tdm_backend_close(&be);
    free(got);
    free(src);
}

static void uploads_of_every_size(void **state)
{
    (void)state;
    enum { SEGMENT = 4 << 20, ROOM = SEGMENT + 2 * SEGMENT + 64 };
    static const size_t SIZES[] = {0,  1,    3,           4,       15,          16,
                                   17, 4096, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT};
    tdm_backend be = open_f16(false);
    unsigned char *src = malloc(ROOM), *got = malloc(ROOM);
    assert_true(src && got);
    char *p = take(&be, ROOM);
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        memset(src, 7, ROOM);
        ASSERT_OK(tdm_upload(&be, p, src, ROOM, err));
        fill(src + 8, SIZES[i], i);
        ASSERT_OK(tdm_upload(&be, p + 8, src + 8, SIZES[i], err));
        ASSERT_OK(tdm_download(&be, got, p, ROOM, err));
        assert_memory_equal(got, src, ROOM); /* and nothing around it */
    }
    ASSERT_OK(tdm_download(&be, got, p, 0, err));
    ASSERT_OK(tdm_sync(&be, err));
    release_all(&be);
    tdm_backend_close(&be);
    free(got);
    free(src);
}

/* ---- lanes ---- */

/* What was begun is what was there then, although more was enqueued since. */
static void lanes_are_in_order(void **state)
{
    (void)state;
    tdm_backend be = open_f16(false);
    int32_t value = 0;
    const void *host = NULL;
    int32_t *p = take(&be, sizeof value);
    for (int32_t i = 0; i < 6; i++) {
        value = 100 + i;
        ASSERT_OK(tdm_upload(&be, p, &value, sizeof value, err));
        ASSERT_OK(tdm_fetch_begin(&be, i % TDM_LANES, p, sizeof value, err));
        if (i == 0)
            continue;
        ASSERT_OK(tdm_fetch_end(&be, (i - 1) % TDM_LANES, &host, err));
        assert_int_equal(*(const int32_t *)host, 100 + i - 1);
    }
    ASSERT_OK(tdm_fetch_end(&be, 1, &host, err));
    assert_int_equal(*(const int32_t *)host, 105);
    ASSERT_FAILS(tdm_fetch_end(&be, 1, &host, err), TDM_EARG, "nothing under way");
    ASSERT_OK(tdm_fetch_begin(&be, 0, p, 0, err));
    ASSERT_FAILS(tdm_fetch_begin(&be, 0, p, 4, err), TDM_EARG, "lane 0 is under way");
    ASSERT_FAILS(tdm_fetch_begin(&be, 1, p, TDM_LANE_BYTES + 1, err), TDM_EARG, "in a lane of");
    ASSERT_OK(tdm_fetch_end(&be, 0, &host, err));
    release_all(&be);
    tdm_backend_close(&be);
}

/* ---- a step of a small model, which writes its own next token ---- */

enum { E = 128, V = 96, SLOTS = 3, STEPS = 5, POSITIONS = 70 };

typedef struct {
    tdm_backend be;
    tdm_slots state;
    tdm_step step;
    const int32_t *slots;
    tdm_mat words, places, x, normal, heads, qkv, wide, logits, gamma, beta, bias_qkv, bias_wide;
    tdm_weight *w_qkv, *w_wide, *w_back, *w_head;
    tdm_kv *kv;
} model;

static tdm_weight *random_weight(const tdm_backend *be, int in, int out, uint64_t seed)
{
    tdm_weight *w = NULL;
    float *values = values_of((size_t)in * (size_t)out, seed, 2 / sqrtf((float)in), 0, TDM_F32);
    ASSERT_OK(tdm_weight_open(be, values, TDM_F32, in, out, TDM_IN_OUT, &w, err));
    free(values);
    return w;
}

static tdm_mat random_mat(const tdm_backend *be, int rows, int cols, uint64_t seed, tdm_dtype dtype)
{
    float *values = values_of((size_t)rows * (size_t)cols, seed, 1, 0, dtype);
    const tdm_mat m = put(be, values, rows, cols, dtype);
    free(values);
    return m;
}

/* 60 keys of the text that starts late, so that nothing is read that was never written. */
static void open_cache(model *m)
{
    enum { KEYS = 60 };
    static const int32_t STARTS[] = {0, KEYS}, SLOT = 1;
    const tdm_backend *be = &m->be;
    float *rows = random_floats(KEYS * 3 * E, 11);
    int32_t positions[KEYS];
    for (int32_t i = 0; i < KEYS; i++)
        positions[i] = i;
    const tdm_step prompt = {.n_rows = KEYS,
                             .n_seqs = 1,
                             .longest = KEYS,
                             .positions = on_device(be, positions, sizeof positions),
                             .starts = on_device(be, STARTS, sizeof STARTS),
                             .slots = on_device(be, &SLOT, sizeof SLOT),
                             .pages = m->step.pages};
    ASSERT_OK(tdm_kv_open(be, 1, E / TDM_HEAD, 4, 2, &m->kv, err));
    ASSERT_OK(tdm_attend_cached(be, room(be, KEYS, E, 0, TDM_F16),
                                put(be, rows, KEYS, 3 * E, TDM_F16), m->kv, 0, &prompt, err));
    free(rows);
}

static void open_model(model *m, bool no_graphs)
{
    static const int32_t TOKENS[SLOTS] = {1, 2, 3}, STARTED[SLOTS] = {0, 60, -1},
                         LEFT[SLOTS] = {9, 3, 9};
    static const int32_t ROWS[SLOTS] = {1, 0, 2}, PAGES[SLOTS][2] = {{0, 1}, {3, 2}, {0, 0}};
    tdm_draw draws[SLOTS];
    *m = (model){.be = open_f16(no_graphs)};
    const tdm_backend *be = &m->be;
    for (uint32_t s = 0; s < SLOTS; s++)
        draws[s] = (tdm_draw){.seed = 3, .document = s, .temperature = 1, .top_p = 1};
    m->state = (tdm_slots){on_device(be, TOKENS, sizeof TOKENS),
                           on_device(be, STARTED, sizeof STARTED), on_device(be, LEFT, sizeof LEFT),
                           take(be, sizeof LEFT), on_device(be, draws, sizeof draws)};
    m->slots = on_device(be, ROWS, sizeof ROWS);
    m->step = (tdm_step){.n_rows = SLOTS,
                         .n_seqs = SLOTS,
                         .longest = 1,
                         .tokens = m->state.tokens,
                         .positions = m->state.positions,
                         .slots = m->slots,
                         .pages = on_device(be, PAGES, sizeof PAGES)};
    m->words = random_mat(be, V, E, 1, TDM_F16);
    m->places = random_mat(be, POSITIONS, E, 2, TDM_F32);
    m->gamma = random_mat(be, 1, E, 3, TDM_F32);
    m->beta = random_mat(be, 1, E, 4, TDM_F32);
    m->bias_qkv = random_mat(be, 1, 3 * E, 5, TDM_F16);
    m->bias_wide = random_mat(be, 1, 4 * E, 6, TDM_F16);
    m->w_qkv = random_weight(be, E, 3 * E, 7);
    m->w_wide = random_weight(be, E, 4 * E, 8);
    m->w_back = random_weight(be, 4 * E, E, 9);
    m->w_head = random_weight(be, E, V, 10);
    m->x = room(be, SLOTS, E, 0, TDM_F32);
    m->normal = room(be, SLOTS, E, 0, TDM_F16);
    m->heads = room(be, SLOTS, E, 0, TDM_F16);
    m->qkv = room(be, SLOTS, 3 * E, 0, TDM_F16);
    m->wide = room(be, SLOTS, 4 * E, 0, TDM_F16);
    m->logits = room(be, SLOTS, V, tdm_padded(V), TDM_F32);
    open_cache(m);
}

static void close_model(model *m)
{
    tdm_kv_close(&m->be, m->kv);
    tdm_weight_close(&m->be, m->w_head);
    tdm_weight_close(&m->be, m->w_back);
    tdm_weight_close(&m->be, m->w_wide);
    tdm_weight_close(&m->be, m->w_qkv);
    release_all(&m->be);
    tdm_backend_close(&m->be);
}

static void enqueue_step(const model *m)
{
    const tdm_backend *be = &m->be;
    ASSERT_OK(tdm_embed(be, m->x, &m->step, m->words, 0, m->places, 0, err));
    ASSERT_OK(tdm_add_norm(be, m->normal, m->x, NULL, m->gamma, m->beta, 1e-5f, TDM_PRE_NORM, err));
    ASSERT_OK(tdm_linear(be, m->qkv, m->normal, m->w_qkv, &m->bias_qkv, TDM_LINEAR, err));
    ASSERT_OK(tdm_attend_cached(be, m->heads, m->qkv, m->kv, 0, &m->step, err));
    ASSERT_OK(
        tdm_add_norm(be, m->normal, m->x, &m->heads, m->gamma, m->beta, 1e-5f, TDM_PRE_NORM, err));
    ASSERT_OK(tdm_linear(be, m->wide, m->normal, m->w_wide, &m->bias_wide, TDM_GELU_TANH, err));
    ASSERT_OK(tdm_linear(be, m->heads, m->wide, m->w_back, NULL, TDM_LINEAR, err));
    ASSERT_OK(
        tdm_add_norm(be, m->normal, m->x, &m->heads, m->gamma, m->beta, 1e-5f, TDM_PRE_NORM, err));
    ASSERT_OK(tdm_linear(be, m->logits, m->normal, m->w_head, NULL, TDM_LINEAR, err));
    ASSERT_OK(tdm_sample(be, &m->state, m->slots, m->logits, -5, err));
}

typedef struct {
    int32_t drawn[STEPS][SLOTS], positions[SLOTS];
    float x[SLOTS * E];
} outcome;

/* STEPS steps, one behind: the tokens of a step are looked at when the next one is under way. */
static void run_steps(model *m, const tdm_graph *graph, outcome *out)
{
    const tdm_backend *be = &m->be;
    const void *host = NULL;
    for (int i = 0; i <= STEPS; i++) {
        if (i < STEPS) {
            if (graph)
                ASSERT_OK(tdm_graph_run(be, graph, err));
            else
                enqueue_step(m);
            ASSERT_OK(tdm_fetch_begin(be, i % 2, m->state.drawn, sizeof out->drawn[i], err));
        }
        if (i == 0)
            continue;
        ASSERT_OK(tdm_fetch_end(be, (i - 1) % 2, &host, err));
        memcpy(out->drawn[i - 1], host, sizeof out->drawn[i - 1]);
    }
    ASSERT_OK(tdm_download(be, out->positions, m->state.positions, sizeof out->positions, err));
    ASSERT_OK(tdm_download(be, out->x, m->x.p, sizeof out->x, err));
}

static void graphs_change_nothing(void **state)
{
    (void)state;
    model m;
    outcome plain, recorded;
    tdm_graph *graph = NULL;
    open_model(&m, true);
    assert_false(tdm_has_graphs(&m.be));
    run_steps(&m, NULL, &plain);
    close_model(&m);
    open_model(&m, false);
    assert_true(tdm_has_graphs(&m.be));
    ASSERT_OK(tdm_graph_begin(&m.be, err));
    enqueue_step(&m);
    ASSERT_OK(tdm_graph_end(&m.be, &graph, err));
    run_steps(&m, graph, &recorded);
    tdm_graph_close(&m.be, graph);
    close_model(&m);
    assert_memory_equal(&plain, &recorded, sizeof plain);
    static const int32_t WANT[SLOTS] = {STEPS, -1,
                                        -1}; /* slot 1 had three tokens left, slot 2 is idle */
    assert_memory_equal(plain.positions, WANT, sizeof WANT);
    for (int i = 0; i < STEPS; i++) {
        assert_true(plain.drawn[i][0] >= 0 && plain.drawn[i][0] < V);
        assert_int_equal(plain.drawn[i][2], TDM_IDLE);
        assert_true(i < 3 ? plain.drawn[i][1] >= 0 : plain.drawn[i][1] == TDM_IDLE);
    }
}

/* A graph has the arguments of its recording; a failure inside leaves the backend usable. */
static void graphs_end_all_the_same(void **state)
{
    (void)state;
    tdm_backend be = open_f16(false);
    float values[2 * 64], twice[2 * 64];
    tdm_graph *graph = NULL;
    static const int32_t ROWS[] = {1, 1};
    for (int i = 0; i < 128; i++)
        values[i] = (float)i;
    const tdm_mat x = put(&be, values, 2, 64, TDM_F32), y = room(&be, 2, 64, 0, TDM_F32);
    const int32_t *rows = on_device(&be, ROWS, sizeof ROWS);
    ASSERT_OK(tdm_gather(&be, y, x, rows, err)); /* a capture may forbid to load its kernel */
    ASSERT_OK(tdm_graph_begin(&be, err));
    ASSERT_FAILS(tdm_upload(&be, x.p, values, 4, err), TDM_EARG, "graph");
    tdm_mat odd = x;
    odd.cols = 63; /* no kernel takes this */
    tdm_mat odd_y = y;
    odd_y.cols = 63;
    ASSERT_FAILS(tdm_gather(&be, odd_y, odd, rows, err), TDM_EINTERNAL, "gather: kernel: ");
    ASSERT_OK(tdm_graph_end(&be, &graph, err)); /* of nothing: the launcher launched nothing */
    tdm_graph_close(&be, graph);
    ASSERT_OK(tdm_graph_begin(&be, err));
    ASSERT_OK(tdm_gather(&be, y, x, rows, err));
    ASSERT_OK(tdm_graph_end(&be, &graph, err));
    for (int i = 0; i < 128; i++)
        twice[i] = 2 * values[i];
    ASSERT_OK(tdm_upload(&be, x.p, twice, sizeof twice,
                         err)); /* the graph reads what is there when it runs */
    ASSERT_OK(tdm_graph_run(&be, graph, err));
    float *got = get(&be, y);
    for (int i = 0; i < 128; i++)
        assert_true(got[i] == twice[64 + i % 64]);
    free(got);
    tdm_graph_close(&be, graph);
    tdm_graph_close(&be, NULL);
    release_all(&be);
    tdm_backend_close(&be);
}

/* ---- nothing is allocated in a step, and too much is refused ---- */

static void a_step_allocates_nothing(void **state)
{
    (void)state;
    model m;
    outcome out;
    tdm_graph *graph = NULL;
    open_model(&m, false);
    run_steps(&m, NULL, &out); /* plans of products are made when first used */
    ASSERT_OK(tdm_graph_begin(&m.be, err));
    enqueue_step(&m);
    ASSERT_OK(tdm_graph_end(&m.be, &graph, err));
    const size_t memory = tdm_backend_memory(&m.be);
    const long before = tdm_emu_allocations ? tdm_emu_allocations() : 0;
    run_steps(&m, NULL, &out);
    run_steps(&m, graph, &out);
    static const int32_t TOKENS[SLOTS] = {4, 5, 6};
    ASSERT_OK(tdm_upload(&m.be, m.state.tokens, TOKENS, sizeof TOKENS, err));
    assert_true(tdm_backend_memory(&m.be) + ((size_t)8 << 20) >= memory);
    assert_int_equal(tdm_emu_allocations ? tdm_emu_allocations() : 0, before);
    tdm_graph_close(&m.be, graph);
    close_model(&m);
}

static void too_much_is_refused_with_the_numbers(void **state)
{
    (void)state;
    tdm_backend be = open_f16(false), wide = open_cuda(TDM_F32, TDM_F32, false);
    void *p = &p;
    tdm_kv *kv = NULL;
    const size_t memory = tdm_backend_memory(&be);
    assert_true(memory > 1 && memory < (size_t)1 << 50);
    ASSERT_FAILS(tdm_alloc(&be, (size_t)1 << 50, &p, err), TDM_ENOMEM,
                 "cuda:0: a buffer of 1073741824.0 MiB");
    assert_null(p);
    ASSERT_FAILS(tdm_alloc(&be, (size_t)1 << 50, &p, err), TDM_ENOMEM,
                 "MiB are free: the model or --batch");
    ASSERT_FAILS(tdm_kv_open(&be, 48, 25, 1 << 20, 16, &kv, err), TDM_ENOMEM,
                 "a cache of keys and values");
    ASSERT_FAILS(tdm_kv_open(&wide, 48, 25, 1 << 20, 16, &kv, err), TDM_ENOMEM, "--kv-dtype f16");
    ASSERT_FAILS(tdm_kv_open(&be, INT32_MAX, INT32_MAX, INT32_MAX, 16, &kv, err), TDM_ENOMEM,
                 "pages");
    assert_null(kv);
    assert_true(tdm_backend_memory(&be) + ((size_t)8 << 20) >= memory);
    take(&be, 0); /* and it goes on */
    release_all(&be);
    tdm_backend_close(&wide);
    tdm_backend_close(&be);
}

static void devices_are_counted(void **state)
{
    (void)state;
    tdm_backend be;
    tdm_cuda_options options = {.device = 99, .dtype = TDM_F16, .kv_dtype = TDM_F16};
    ASSERT_FAILS(tdm_open_cuda(&options, &be, err), TDM_ENODEV, "cuda:99: there ");
    options.device = -1;
    ASSERT_FAILS(tdm_open_cuda(&options, &be, err), TDM_ENODEV, "cuda:-1: there ");
    tdm_backend_close(&be);
    options.device = 0;
    ASSERT_OK(tdm_open_cuda(&options, &be, err));
    assert_non_null(strstr(be.device, "cuda:0 "));
    assert_non_null(strstr(be.device, "GiB, f16"));
    assert_int_equal(strncmp(be.identity, "cuda, sm_", 9), 0);
    assert_non_null(strstr(be.identity, ", cuBLASLt "));
    assert_non_null(strstr(be.identity, ", cache f16"));
    tdm_backend_close(&be);
}

int main(void)
{
    require_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uploads_keep_nothing),
        cmocka_unit_test(uploads_of_every_size),
        cmocka_unit_test(lanes_are_in_order),
        cmocka_unit_test(graphs_change_nothing),
        cmocka_unit_test(graphs_end_all_the_same),
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(too_much_is_refused_with_the_numbers),
        cmocka_unit_test(devices_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
