/* tools/bench_kernels.c - "tandem bench kernels": the operations of the models besides the matrix product,
 * at the shapes of the published models, beside what the machine can do at most.
 *
 * Every operation cycles through several sets of operands (or layers of a cache), which together do not
 * fit the machine's cache, except where one set alone does not. Cases of one operation take turns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench.h"
#include "tools/bench_common.h"

typedef struct {
    const char *name;
    bool detector;
    int32_t width, vocab, positions;
} model;

static const model MODELS[] = {
    {"1558M", false, 1600, 50257, 1024},
    {"124M", false, 768, 50257, 1024},
    {"large", true, 1024, 50265, 514},
    {"base", true, 768, 50265, 514},
};
static const model SMALL_MODELS[] = {{"small", false, 128, 700, 128}, {"small", true, 128, 700, 130}};

enum { MOST_TURNS = 16 };
static const size_t CACHE_BYTES = (size_t)256 << 20;

typedef struct set set;

/* One operation in one size. The cost is what the definition asks for: inputs and outputs once. */
typedef struct {
    const char *op, *variant;
    bool gpt2, detector;    /* which models have it */
    int32_t texts, length;  /* rows = texts x length; decoding: one row a text behind length - 1 others */
    tdm_status (*open)(set *s, tdm_err *err);
    bench_call call;
    void (*cost)(const set *s, double *flops, double *bytes);
    tdm_draw draw;          /* sample */
} kernel;

struct set {
    const bench *b;
    const kernel *k;
    const model *m;
    int32_t texts, length;
    int64_t rows;
    double act, kv; /* bytes of an element */
    size_t turns;
    bench_pool pool;
    tdm_mat x[MOST_TURNS], y[MOST_TURNS], delta[MOST_TURNS];
    tdm_mat gamma, beta, words, positions;
    tdm_step step;
    tdm_kv *cache;
    void *index, *stats;
    tdm_slots state;
};

/* ---- operands ---- */

/* How many sets of this size it takes not to fit a cache. */
static void set_turns(set *s, double bytes)
{
    const double sets = (double)CACHE_BYTES / bytes + 1;
    s->turns = sets > MOST_TURNS ? MOST_TURNS : (size_t)sets;
    if (s->b->options->small)
        s->turns = 2;
}

static tdm_status matrices(set *s, tdm_mat *m, int64_t rows, int32_t cols, int32_t stride,
                           tdm_dtype dtype, float scale, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < s->turns; i++)
        TDM_TRY(bench_matrix(s->b, &s->pool, rows, cols, stride, dtype, scale, &m[i], err));
done:
    return st;
}

/* n numbers: first, first + step, ... each modulo `wrap` (0: none). */
static tdm_status numbers(set *s, size_t n, int64_t first, int64_t step, int64_t wrap, void **out,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    int32_t *values = malloc(n * sizeof *values);
    TDM_REQUIRE(values, TDM_ENOMEM, "%zu numbers", n);
    for (size_t i = 0; i < n; i++) {
        const int64_t value = first + step * (int64_t)i;
        values[i] = (int32_t)(wrap ? value % wrap : value);
    }
    TDM_TRY(bench_copy(s->b, &s->pool, values, n * sizeof *values, out, err));
done:
    free(values);
    return st;
}

/* Texts of s->length rows each, one behind the other, from position 0; and slots and pages for a cache. */
static tdm_status ragged(set *s, int32_t texts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t rows = (size_t)texts * (size_t)s->length;
    const int32_t text_pages = (s->length + TDM_PAGE - 1) / TDM_PAGE;
    void *tokens, *positions, *starts, *slots, *pages;
    TDM_TRY(numbers(s, rows, 1, 7919, s->m->vocab, &tokens, err)); /* a prime: rows far apart */
    TDM_TRY(numbers(s, rows, 0, 1, s->length, &positions, err));
    TDM_TRY(numbers(s, (size_t)texts + 1, 0, s->length, 0, &starts, err));
    TDM_TRY(numbers(s, (size_t)texts, 0, 1, 0, &slots, err));
    TDM_TRY(numbers(s, (size_t)s->texts * (size_t)text_pages, 0, 1, 0, &pages, err));
    s->step = (tdm_step){.n_rows = (int32_t)rows, .n_seqs = texts, .longest = s->length,
                         .tokens = tokens, .positions = positions, .starts = starts, .slots = slots,
                         .pages = pages};
done:
    return st;
}

/* ---- rows ---- */

static tdm_status open_embed(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = s->b->backend.dtype;
    set_turns(s, 12.0 * (double)s->rows * s->m->width);
    TDM_TRY(ragged(s, s->texts, err));
    TDM_TRY(matrices(s, s->y, s->rows, s->m->width, 0, TDM_F32, 1, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, s->m->vocab, s->m->width, 0, act, 1, &s->words, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, s->m->positions, s->m->width, 0, act, 1, &s->positions, err));
done:
    return st;
}

static tdm_status call_embed(void *ctx, size_t i, tdm_err *err)
{
    set *s = ctx;
    return tdm_embed(&s->b->backend, s->y[i % s->turns], &s->step, s->words, s->positions,
                     s->m->detector ? 2 : 0, err);
}

static void cost_embed(const set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = (double)s->rows * s->m->width * (2 * s->act + 4);
}

static tdm_status open_norm(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = s->b->backend.dtype;
    const int32_t E = s->m->width;
    set_turns(s, 8.0 * (double)s->rows * E);
    TDM_TRY(matrices(s, s->x, s->rows, E, 0, TDM_F32, 1, err));
    TDM_TRY(matrices(s, s->y, s->rows, E, 0, act, 1, err));
    TDM_TRY(matrices(s, s->delta, s->rows, E, 0, act, 1e-3f, err)); /* x grows with every call */
    TDM_TRY(bench_matrix(s->b, &s->pool, 1, E, 0, TDM_F32, 1, &s->gamma, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, 1, E, 0, TDM_F32, 1, &s->beta, err));
done:
    return st;
}

static tdm_status call_norm(void *ctx, size_t i, tdm_err *err)
{
    set *s = ctx;
    const size_t at = i % s->turns;
    return tdm_add_norm(&s->b->backend, s->y[at], s->x[at], &s->delta[at], s->gamma, s->beta, 1e-5f,
                        s->m->detector ? TDM_POST_NORM : TDM_PRE_NORM, err);
}

static void cost_norm(const set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = (double)s->rows * s->m->width * (8 + 2 * s->act);
}

static tdm_status open_gather(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    set_turns(s, 4.0 * (double)s->rows * s->m->width);
    TDM_TRY(numbers(s, (size_t)s->texts, 0, s->length, 0, &s->index, err));
    TDM_TRY(matrices(s, s->x, s->rows, s->m->width, 0, TDM_F32, 1, err));
    TDM_TRY(matrices(s, s->y, s->texts, s->m->width, 0, TDM_F32, 1, err));
done:
    return st;
}

static tdm_status call_gather(void *ctx, size_t i, tdm_err *err)
{
    set *s = ctx;
    return tdm_gather(&s->b->backend, s->y[i % s->turns], s->x[i % s->turns], s->index, err);
}

static void cost_gather(const set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = 8.0 * s->texts * s->m->width;
}

enum { LABELS = 2 };

static tdm_status open_classify(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t E = s->m->width;
    set_turns(s, s->act * s->texts * E);
    TDM_TRY(matrices(s, s->x, s->texts, E, 0, s->b->backend.dtype, 1, err));
    TDM_TRY(matrices(s, s->y, s->texts, LABELS, 0, TDM_F32, 1, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, LABELS, E, 0, TDM_F32, 1, &s->words, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, 1, LABELS, 0, TDM_F32, 1, &s->beta, err));
done:
    return st;
}

static tdm_status call_classify(void *ctx, size_t i, tdm_err *err)
{
    set *s = ctx;
    return tdm_classify(&s->b->backend, s->y[i % s->turns], s->x[i % s->turns], s->words, s->beta, err);
}

static void cost_classify(const set *s, double *flops, double *bytes)
{
    *flops = 2.0 * LABELS * s->texts * s->m->width;
    *bytes = s->act * s->texts * s->m->width;
}

/* ---- attention ---- */

static tdm_status open_packed(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = s->b->backend.dtype;
    set_turns(s, 4 * s->act * (double)s->rows * s->m->width);
    TDM_TRY(ragged(s, s->texts, err));
    TDM_TRY(matrices(s, s->x, s->rows, 3 * s->m->width, 0, act, 1, err));
    TDM_TRY(matrices(s, s->y, s->rows, s->m->width, 0, act, 1, err));
done:
    return st;
}

static tdm_status call_packed(void *ctx, size_t i, tdm_err *err)
{
    set *s = ctx;
    return tdm_attend_packed(&s->b->backend, s->y[i % s->turns], s->x[i % s->turns], &s->step,
                             !s->m->detector, err);
}

static void cost_packed(const set *s, double *flops, double *bytes)
{
    const double n = s->length, pairs = s->m->detector ? n * n : n * (n + 1) / 2;
    *flops = 4.0 * s->m->width * pairs * s->texts;
    *bytes = 4 * s->act * (double)s->rows * s->m->width;
}

static tdm_status open_cache(set *s, tdm_err *err)
{
    const int32_t text_pages = (s->length + TDM_PAGE - 1) / TDM_PAGE;
    return tdm_kv_open(&s->b->backend, (int32_t)s->turns, s->m->width / TDM_HEAD, s->texts * text_pages,
                       text_pages, &s->cache, err);
}

static tdm_status open_prefill(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(open_packed(s, err));
    TDM_TRY(open_cache(s, err));
done:
    return st;
}

static tdm_status call_cached(void *ctx, size_t i, tdm_err *err)
{
    set *s = ctx;
    return tdm_attend_cached(&s->b->backend, s->y[i % s->turns], s->x[i % s->turns], s->cache,
                             (int32_t)(i % s->turns), &s->step, err);
}

static void cost_prefill(const set *s, double *flops, double *bytes)
{
    cost_packed(s, flops, bytes);
    *bytes += 2 * s->kv * (double)s->rows * s->m->width;
}

/* Fill all layers of the cache with random keys and values, a few texts at a time. */
static tdm_status fill_cache(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    enum { ROWS = 8192 };
    const int32_t most = s->length < ROWS ? ROWS / s->length : 1;
    const tdm_dtype act = s->b->backend.dtype;
    const int32_t text_pages = (s->length + TDM_PAGE - 1) / TDM_PAGE;
    tdm_mat qkv, y;
    for (int32_t at = 0, n; at < s->texts; at += n) {
        n = s->texts - at < most ? s->texts - at : most;
        TDM_TRY(ragged(s, n, err)); /* slots 0 .. n - 1, whose pages begin with those of text `at` */
        s->step.pages += (size_t)at * (size_t)text_pages;
        TDM_TRY(bench_matrix(s->b, &s->pool, s->step.n_rows, 3 * s->m->width, 0, act, 1, &qkv, err));
        TDM_TRY(bench_matrix(s->b, &s->pool, s->step.n_rows, s->m->width, 0, act, 1, &y, err));
        for (size_t layer = 0; layer < s->turns; layer++)
            TDM_TRY(tdm_attend_cached(&s->b->backend, y, qkv, s->cache, (int32_t)layer, &s->step, err));
        TDM_TRY(tdm_sync(&s->b->backend, err));
        bench_pool_free(s->b, &s->pool);
    }
done:
    return st;
}

static tdm_status open_decode(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype act = s->b->backend.dtype;
    void *positions;
    set_turns(s, 2 * s->kv * s->texts * (double)s->length * s->m->width);
    TDM_TRY(open_cache(s, err));
    TDM_TRY(fill_cache(s, err));
    TDM_TRY(ragged(s, s->texts, err));
    TDM_TRY(numbers(s, (size_t)s->texts, s->length - 1, 0, 0, &positions, err));
    s->rows = s->texts;
    s->step.n_rows = s->step.n_seqs = s->texts;
    s->step.longest = 1;
    s->step.starts = NULL;
    s->step.positions = positions;
    TDM_TRY(matrices(s, s->x, s->rows, 3 * s->m->width, 0, act, 1, err));
    TDM_TRY(matrices(s, s->y, s->rows, s->m->width, 0, act, 1, err));
done:
    return st;
}

static void cost_decode(const set *s, double *flops, double *bytes)
{
    const double keys = (double)s->texts * s->length * s->m->width;
    *flops = 4 * keys;
    *bytes = 2 * s->kv * keys + (4 * s->act + 2 * s->kv) * (double)s->rows * s->m->width;
}

/* ---- logits ---- */

static tdm_status open_logits(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    set_turns(s, 4.0 * s->texts * s->m->vocab);
    TDM_TRY(matrices(s, s->x, s->texts, s->m->vocab, tdm_padded(s->m->vocab), TDM_F32, 8, err));
    TDM_TRY(numbers(s, (size_t)s->texts, 0, 1, 0, &s->index, err));
done:
    return st;
}

static void cost_logits(const set *s, double *flops, double *bytes)
{
    *flops = 0;
    *bytes = 4.0 * s->texts * s->m->vocab;
}

/* Texts that have so much left to draw that they do not end while they are timed. */
static tdm_status open_sample(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = (size_t)s->texts;
    void *tokens, *positions, *left, *drawn, *on_device;
    tdm_draw *draws = malloc(n * sizeof *draws);
    TDM_REQUIRE(draws, TDM_ENOMEM, "%zu draws", n);
    for (size_t i = 0; i < n; i++) {
        draws[i] = s->k->draw;
        draws[i].document = i;
    }
    TDM_TRY(open_logits(s, err));
    TDM_TRY(numbers(s, n, 0, 0, 0, &tokens, err));
    TDM_TRY(numbers(s, n, 0, 0, 0, &positions, err));
    TDM_TRY(numbers(s, n, INT32_MAX, 0, 0, &left, err));
    TDM_TRY(numbers(s, n, 0, 0, 0, &drawn, err));
    TDM_TRY(bench_copy(s->b, &s->pool, draws, n * sizeof *draws, &on_device, err));
    s->state = (tdm_slots){tokens, positions, left, drawn, on_device};
done:
    free(draws);
    return st;
}

static tdm_status call_sample(void *ctx, size_t i, tdm_err *err)
{
    set *s = ctx;
    return tdm_sample(&s->b->backend, &s->state, s->index, s->x[i % s->turns], -1, err);
}

static tdm_status open_stats(set *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_mat room;
    TDM_TRY(open_logits(s, err));
    TDM_TRY(bench_matrix(s->b, &s->pool, s->texts, sizeof(tdm_stat) / sizeof(float), 0, TDM_F32, 1,
                         &room, err));
    s->stats = room.p;
done:
    return st;
}

static tdm_status call_stats(void *ctx, size_t i, tdm_err *err)
{
    set *s = ctx;
    return tdm_token_stats(&s->b->backend, s->stats, s->x[i % s->turns], s->index, err);
}

/* ---- the table ---- */

#define DRAW(t, k, p) {.seed = 1, .temperature = (t), .top_k = (k), .top_p = (p)}

static const kernel KERNELS[] = {
    {"embed", "one row a text", true, false, 512, 1, open_embed, call_embed, cost_embed, {0}},
    {"embed", "packed", true, true, 16, 512, open_embed, call_embed, cost_embed, {0}},
    {"add_norm", "one row a text", true, false, 512, 1, open_norm, call_norm, cost_norm, {0}},
    {"add_norm", "packed", true, true, 16, 512, open_norm, call_norm, cost_norm, {0}},
    {"attend decode", "1 text", true, false, 1, 1024, open_decode, call_cached, cost_decode, {0}},
    {"attend decode", "many short", true, false, 512, 128, open_decode, call_cached, cost_decode, {0}},
    {"attend decode", "many", true, false, 512, 512, open_decode, call_cached, cost_decode, {0}},
    {"attend prefill", "", true, false, 8, 1024, open_prefill, call_cached, cost_prefill, {0}},
    {"attend packed", "", true, true, 16, 512, open_packed, call_packed, cost_packed, {0}},
    {"attend packed", "long", true, false, 8, 1024, open_packed, call_packed, cost_packed, {0}},
    {"attend packed", "short", false, true, 128, 64, open_packed, call_packed, cost_packed, {0}},
    {"sample", "greedy", true, false, 512, 1, open_sample, call_sample, cost_logits, DRAW(0, 0, 1)},
    {"sample", "plain", true, false, 512, 1, open_sample, call_sample, cost_logits, DRAW(1, 0, 1)},
    {"sample", "top-k 40", true, false, 512, 1, open_sample, call_sample, cost_logits, DRAW(1, 40, 1)},
    {"sample", "top-p 0.95", true, false, 512, 1, open_sample, call_sample, cost_logits,
     DRAW(1, 0, 0.95f)},
    {"token_stats", "", true, false, 512, 1, open_stats, call_stats, cost_logits, {0}},
    {"gather", "", false, true, 64, 128, open_gather, call_gather, cost_gather, {0}},
    {"classify", "", false, true, 64, 1, open_classify, call_classify, cost_classify, {0}},
};

static const bench_column COLUMNS[] = {
    {"op", 14, -1},        {"variant", 14, -1}, {"shape", 6, -1},  {"texts", 5, 0}, {"length", 6, 0},
    {"median_us", 10, 2},  {"best_us", 10, 2},  {"gflops", 9, 1},  {"gbytes", 8, 1}, {"share", 6, 3},
};

static void print_set(const set *s, const bench_run *run)
{
    double flops = 0, bytes = 0;
    s->k->cost(s, &flops, &bytes);
    const bench_cell cells[] = {
        BENCH_TEXT(s->k->op),
        BENCH_TEXT(s->k->variant),
        BENCH_TEXT(s->m->name),
        BENCH_NUMBER(s->texts),
        BENCH_NUMBER(s->length),
        BENCH_NUMBER(1e6 * run->median),
        BENCH_NUMBER(1e6 * run->best),
        BENCH_NUMBER(1e-9 * flops / run->median),
        BENCH_NUMBER(1e-9 * bytes / run->median),
        BENCH_NUMBER(bench_floor(&s->b->machine, flops, bytes) / run->median),
    };
    bench_print_row(s->b, COLUMNS, COUNT(COLUMNS), cells);
}

/* The CPU gets fewer texts, --small few and short ones. */
static tdm_status open_set(const bench *b, const kernel *k, const model *m, set *s, tdm_err *err)
{
    const int32_t fewer = b->is_cuda ? 1 : 16;
    s->b = b;
    s->k = k;
    s->m = m;
    s->texts = k->texts > fewer ? k->texts / fewer : 1;
    s->length = k->length;
    if (b->options->small) {
        s->texts = k->texts < 3 ? k->texts : 3;
        s->length = k->length < 70 ? k->length : 70;
    }
    s->rows = (int64_t)s->texts * s->length;
    s->act = (double)tdm_dtype_size(b->backend.dtype);
    s->kv = s->act;
    return k->open(s, err);
}

/* The cases of one operation, n of them from `first` on, that this model has: in turn. */
static tdm_status time_operation(const bench *b, const model *m, size_t first, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bench_run runs[BENCH_RUNS] = {0};
    size_t n_sets = 0;
    set *sets = calloc(n, sizeof *sets);
    TDM_REQUIRE(sets, TDM_ENOMEM, "operands");
    for (size_t i = first; i < first + n; i++) {
        if (!(m->detector ? KERNELS[i].detector : KERNELS[i].gpt2))
            continue;
        set *s = &sets[n_sets++];
        TDM_TRY(open_set(b, &KERNELS[i], m, s, err));
        runs[n_sets - 1] = (bench_run){.call = KERNELS[i].call, .ctx = s, .turns = s->turns};
    }
    TDM_TRY(bench_measure(b, runs, n_sets, err));
    for (size_t i = 0; i < n_sets; i++)
        print_set(&sets[i], &runs[i]);
done:
    for (size_t i = 0; i < n_sets; i++) {
        tdm_kv_close(&b->backend, sets[i].cache);
        bench_pool_free(b, &sets[i].pool);
    }
    free(sets);
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s %s", m->name, KERNELS[first].op);
}

typedef struct {
    bench_options bench;
    const char *only;
} kernels_options;

static tdm_status run(const kernels_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bench b = {0};
    size_t done_operations = 0;
    const model *models = o->bench.small ? SMALL_MODELS : MODELS;
    const size_t n_models = o->bench.small ? COUNT(SMALL_MODELS) : COUNT(MODELS);
    TDM_TRY(bench_open(&o->bench, "kernels", &b, err));
    bench_print_head(&b, COLUMNS, COUNT(COLUMNS));
    for (size_t i = 0; i < n_models; i++)
        for (size_t first = 0, end; first < COUNT(KERNELS); first = end) {
            for (end = first; end < COUNT(KERNELS) && !strcmp(KERNELS[end].op, KERNELS[first].op); end++)
                ;
            if (o->only && strncmp(KERNELS[first].op, o->only, strlen(o->only)) != 0)
                continue;
            TDM_TRY(time_operation(&b, &models[i], first, end - first, err));
            done_operations++;
        }
    TDM_REQUIRE(done_operations > 0, TDM_EARG, "--only %s: no operation begins like this", o->only);
done:
    bench_close(&b);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench kernels",
    .usage = "[options]",
    .summary = "Time the operations of the models besides the matrix product, at the shapes of GPT-2 "
               "(1558M, 124M) and of the detectors (large, base). Operands come from memory, not from a "
               "cache. The share is that of the nearer ceiling: multiply-adds, or moving what the "
               "operation must read and write once.",
    .example = "tandem bench kernels --device cuda --only attend\n",
    .notes = "Columns: op, variant, shape, texts, length (of each; decoding: keys), median and best\n"
             "microseconds, GFLOP/s, GB/s, share of the ceiling at the median. The CPU gets a\n"
             "sixteenth of the texts.\n",
};

int bench_kernels(int argc, char **argv)
{
    kernels_options o = {.bench = BENCH_OPTIONS_DEFAULTS};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        {.name = "only", .kind = ARG_STR, .out = &o.only, .value = "NAME",
         .help = "operations whose name begins like this"},
        BENCH_ARGS(&o.bench),
    };
    o.bench.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    return run(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
