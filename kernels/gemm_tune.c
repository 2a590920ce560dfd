#include "kernels/gemm_tune.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cuda.h"

enum {
    MOST_ALGORITHMS = 48,
    OFFERED = 12, /* algorithms asked of the heuristic for one number of rows */
    PERIOD = 16,  /* rows of x repeat after so many, so that rows far apart can be compared */
    ROUNDS = 3,
    MOST_WEIGHTS = 128, /* and calls of a turn; of 768 x 768 in 16 bits still 144 MiB */
    MOST_TURNS = 1 << 10,
    LOOK_BYTES = 2 << 20, /* a result up to this size is compared whole */
};
static const size_t WEIGHT_BYTES = (size_t)256 << 20; /* of all copies: several times the cache */
static const double SWITCH_GAIN =
    0.02; /* another algorithm for a range must be faster by this much */

/* Numbers of rows at which the bits are compared: tile edges and their neighbours. */
static const int64_t CHECKED[] = {1,  2,   3,   7,   8,   15,  16,  17,  31,  33,  63,   64,
                                  65, 127, 128, 129, 192, 255, 257, 384, 512, 777, 1024, 2048};
enum { N_CHECKED = sizeof CHECKED / sizeof *CHECKED, MOST_ROWS = 2048 };

typedef struct {
    tdm_gemm_algo algo;
    int plan;
    bool steady;
    int group;
    tdm_graph *turn; /* for the number of rows that is being timed */
    double seconds[TDM_TUNE_ROWS];
} candidate;

typedef struct {
    const tdm_gemm_shape *shape;
    const int64_t *rows;
    size_t n_rows;
    cudaStream_t stream;
    cuda_backend recorder; /* for cuda_graph_*: nothing but the stream */
    tdm_gemm *gemm;
    char *x, *y, *w, *bias;                    /* device; w: n_weights copies */
    size_t n_weights, weight_bytes, row_bytes; /* row_bytes: of y */
    candidate all[MOST_ALGORITHMS];
    int n;
    int reference[MOST_ALGORITHMS]; /* of each group: the candidate that started it */
    int n_groups;
    char *bits; /* [MOST_ALGORITHMS][PERIOD * row_bytes] host: the first rows of y by algorithm */
    char *seen; /* [MOST_ROWS * row_bytes] host */
} tuner;

static tdm_status check(cudaError_t error, tdm_err *err)
{
    return cuda_check(error, "tuning", err);
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- operands ---- */

static tdm_status random_values(void *dst, tdm_dtype dtype, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t state = 0x2545F4914F6CDD1Du;
    float *values = malloc(n * sizeof *values);
    TDM_REQUIRE(values, TDM_ENOMEM, "%zu values", n);
    for (size_t i = 0; i < n; i++) {
        state ^= state << 13; /* xorshift64 (Marsaglia, 2003) */
        state ^= state >> 7;
        state ^= state << 17;
        values[i] = 0.25f * ((float)(state >> 40) * 0x1p-23f - 1);
    }
    tdm_from_f32(dst, dtype, values, n);
done:
    free(values);
    return st;
}

/* n values, again and again up to `copies` times. */
static tdm_status random_device(tuner *t, size_t n, size_t copies, char **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_dtype dtype = t->shape->dtype;
    const size_t bytes = n * tdm_dtype_size(dtype);
    void *values = malloc(bytes);
    TDM_REQUIRE(values, TDM_ENOMEM, "%zu values", n);
    TDM_TRY(random_values(values, dtype, n, err));
    TDM_TRY(cuda_take(bytes * copies, "operands of a product", CUDA_OTHERS, (void **)out, err));
    TDM_TRY(check(cudaMemcpyAsync(*out, values, bytes, cudaMemcpyHostToDevice, t->stream), err));
    for (size_t i = 1; i < copies; i++)
        TDM_TRY(check(
            cudaMemcpyAsync(*out + i * bytes, *out, bytes, cudaMemcpyDeviceToDevice, t->stream),
            err));
    TDM_TRY(check(cudaStreamSynchronize(t->stream), err));
done:
    free(values);
    return st;
}

static tdm_status open_operands(tuner *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_gemm_shape *s = t->shape;
    const size_t in = (size_t)s->in, out = (size_t)s->out;
    t->weight_bytes = in * out * tdm_dtype_size(s->dtype);
    t->n_weights = WEIGHT_BYTES / t->weight_bytes + 1;
    if (t->n_weights > MOST_WEIGHTS)
        t->n_weights = MOST_WEIGHTS;
    t->row_bytes = out * tdm_dtype_size(s->y_dtype);
    TDM_TRY(check(cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking), err));
    t->recorder.stream = t->stream;
    TDM_TRY(tdm_gemm_open(t->stream, &t->gemm, err));
    TDM_TRY(random_device(t, in * out, t->n_weights, &t->w, err));
    TDM_TRY(random_device(t, in * PERIOD, MOST_ROWS / PERIOD, &t->x, err));
    if (s->has_bias)
        TDM_TRY(random_device(t, out, 1, &t->bias, err));
    TDM_TRY(cuda_take(t->row_bytes * MOST_ROWS, "results of a product", CUDA_OTHERS, (void **)&t->y,
                      err));
    t->bits = malloc(t->row_bytes * PERIOD * MOST_ALGORITHMS);
    t->seen = malloc(t->row_bytes * MOST_ROWS);
    TDM_REQUIRE(t->bits && t->seen, TDM_ENOMEM, "results of %d algorithms", MOST_ALGORITHMS);
done:
    return st;
}

static void close_tuner(tuner *t)
{
    free(t->seen);
    free(t->bits);
    cudaFree(t->y);
    cudaFree(t->bias);
    cudaFree(t->x);
    cudaFree(t->w);
    tdm_gemm_close(t->gemm);
    if (t->stream)
        cudaStreamDestroy(t->stream);
    free(t);
}

/* copy: of the weight, below n_weights */
static tdm_status multiply(const tuner *t, int plan, int64_t rows, size_t copy, tdm_err *err)
{
    return tdm_gemm_run(t->gemm, plan, t->y, t->shape->out, t->x, t->w + copy * t->weight_bytes,
                        t->bias, rows, err);
}

/* ---- candidates and their bits ---- */

static bool is_known(const tuner *t, const tdm_gemm_algo *algo)
{
    for (int i = 0; i < t->n; i++)
        if (!memcmp(&t->all[i].algo, algo, sizeof *algo))
            return true;
    return false;
}

static tdm_status collect(tuner *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_gemm_algo offered[OFFERED];
    for (size_t i = 0; i < t->n_rows; i++) {
        int n = 0;
        TDM_TRY(tdm_gemm_candidates(t->gemm, t->shape, t->rows[i], offered, OFFERED, &n, err));
        for (int k = 0; k < n && t->n < MOST_ALGORITHMS; k++) {
            if (is_known(t, &offered[k]))
                continue;
            candidate *c = &t->all[t->n];
            *c = (candidate){.algo = offered[k]};
            TDM_TRY(tdm_gemm_plan_with(t->gemm, t->shape, &c->algo, &c->plan, err));
            t->n++;
        }
    }
done:
    return st;
}

/* Whether row r of the result equals row r % PERIOD of that of PERIOD rows, for all r and all
 * numbers of rows. An algorithm that refuses one of them is not steady either. */
static tdm_status check_bits(tuner *t, candidate *c, char *bits, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t row = t->row_bytes;
    c->steady = multiply(t, c->plan, PERIOD, 0, NULL) == TDM_OK;
    if (!c->steady)
        return TDM_OK;
    TDM_TRY(
        check(cudaMemcpyAsync(bits, t->y, PERIOD * row, cudaMemcpyDeviceToHost, t->stream), err));
    TDM_TRY(check(cudaStreamSynchronize(t->stream), err));
    for (int k = 0; k < N_CHECKED && c->steady; k++) {
        const size_t n = (size_t)CHECKED[k];
        /* of large results the last rows alone, which lie in another tile than the first */
        const size_t first = n * row > LOOK_BYTES && n > 2 * PERIOD ? n - 2 * PERIOD : 0;
        TDM_TRY(check(cudaMemsetAsync(t->y, 0xFF, n * row, t->stream), err));
        c->steady = multiply(t, c->plan, (int64_t)n, 0, NULL) == TDM_OK;
        if (!c->steady)
            break;
        TDM_TRY(check(cudaMemcpyAsync(t->seen, t->y + first * row, (n - first) * row,
                                      cudaMemcpyDeviceToHost, t->stream),
                      err));
        TDM_TRY(check(cudaStreamSynchronize(t->stream), err));
        for (size_t r = first; r < n && c->steady; r++)
            c->steady = !memcmp(t->seen + (r - first) * row, bits + r % PERIOD * row, row);
    }
done:
    return st;
}

static tdm_status group(tuner *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = PERIOD * t->row_bytes;
    for (int i = 0; i < t->n; i++) {
        candidate *c = &t->all[i];
        TDM_TRY(check_bits(t, c, t->bits + (size_t)i * bytes, err));
        if (!c->steady)
            continue;
        for (c->group = 0; c->group < t->n_groups; c->group++)
            if (!memcmp(t->bits + (size_t)i * bytes,
                        t->bits + (size_t)t->reference[c->group] * bytes, bytes))
                break;
        if (c->group == t->n_groups)
            t->reference[t->n_groups++] = i;
    }
    TDM_REQUIRE(t->n_groups > 0, TDM_EINTERNAL,
                "%d x %d: none of %d algorithms gives a row the same bits for every number of rows",
                (int)t->shape->in, (int)t->shape->out, t->n);
done:
    return st;
}

/* ---- time ---- */

/* One product with each copy of the weight, as a graph: at few rows the host takes longer to
 * enqueue a product than the device to compute it. The product ahead of the graph has loaded the
 * kernels by then. */
static tdm_status record_turn(tuner *t, int plan, int64_t rows, tdm_graph **turn, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(multiply(t, plan, rows, 0, err));
    TDM_TRY(cuda_graph_begin(&t->recorder, err));
    for (size_t i = 0; i < t->n_weights && st == TDM_OK; i++)
        st = multiply(t, plan, rows, i, err);
    const tdm_status ended = cuda_graph_end(&t->recorder, turn, st == TDM_OK ? err : NULL);
    st = st == TDM_OK ? ended : st;
done:
    return st;
}

/* Seconds of one product, from a window of about `seconds`. */
static tdm_status time_turns(tuner *t, const tdm_graph *turn, double seconds, double *of_one,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t turns = 1;; turns *= 2) {
        const double start = seconds_now();
        for (size_t i = 0; i < turns; i++)
            TDM_TRY(cuda_graph_run(&t->recorder, turn, err));
        TDM_TRY(check(cudaStreamSynchronize(t->stream), err));
        const double spent = seconds_now() - start;
        *of_one = spent / (double)(turns * t->n_weights);
        if (spent >= seconds || turns >= MOST_TURNS)
            break;
    }
done:
    return st;
}

/* The better of *best and of what a turn takes now. */
static tdm_status time_again(tuner *t, const tdm_graph *turn, double seconds, double *best,
                             tdm_err *err)
{
    double spent = 0;
    const tdm_status st = time_turns(t, turn, seconds, &spent, err);
    if (st == TDM_OK && spent < *best)
        *best = spent;
    return st;
}

/* All candidates in turn, several rounds of it: what else happens meets all alike. The best round
 * counts. */
static tdm_status time_rows(tuner *t, size_t k, int untuned, double seconds, double *of_untuned,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    const double window = seconds / (ROUNDS * (t->n + 1));
    tdm_graph *turn = NULL;
    *of_untuned = 1e30;
    for (int i = 0; i < t->n; i++)
        t->all[i].seconds[k] = 1e30;
    for (int i = 0; i < t->n; i++)
        if (t->all[i].steady)
            TDM_TRY(record_turn(t, t->all[i].plan, t->rows[k], &t->all[i].turn, err));
    TDM_TRY(record_turn(t, untuned, t->rows[k], &turn, err));
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < t->n; i++)
            if (t->all[i].steady)
                TDM_TRY(time_again(t, t->all[i].turn, window, &t->all[i].seconds[k], err));
        TDM_TRY(time_again(t, turn, window, of_untuned, err));
    }
done:
    cuda_graph_close(&t->recorder, turn);
    for (int i = 0; i < t->n; i++) {
        cuda_graph_close(&t->recorder, t->all[i].turn);
        t->all[i].turn = NULL;
    }
    return st;
}

/* The fastest candidate for rows[k]; group -1: of any. */
static int fastest(const tuner *t, size_t k, int of_group)
{
    int best = -1;
    for (int i = 0; i < t->n; i++)
        if (t->all[i].steady && (of_group < 0 || t->all[i].group == of_group) &&
            (best < 0 || t->all[i].seconds[k] < t->all[best].seconds[k]))
            best = i;
    return best;
}

/* The group that loses least against the fastest of all, summed over the numbers of rows. */
static int best_group(const tuner *t)
{
    int best = 0;
    double least = 1e30;
    for (int g = 0; g < t->n_groups; g++) {
        double loss = 0;
        for (size_t k = 0; k < t->n_rows; k++)
            loss += t->all[fastest(t, k, g)].seconds[k] / t->all[fastest(t, k, -1)].seconds[k];
        if (loss < least) {
            least = loss;
            best = g;
        }
    }
    return best;
}

/* One line for each range of rows that has an algorithm of its own; the last range is open. */
static void write_lines(const tuner *t, int won, tdm_gemm_tuned *out)
{
    int of_range[TDM_TUNE_ROWS];
    for (size_t k = 0; k < t->n_rows; k++) {
        const int before = k ? of_range[k - 1] : -1;
        of_range[k] = fastest(t, k, won);
        if (before >= 0 &&
            t->all[before].seconds[k] <= (1 + SWITCH_GAIN) * t->all[of_range[k]].seconds[k])
            of_range[k] = before;
    }
    for (size_t k = 0; k < t->n_rows; k++) {
        const bool is_last = k + 1 == t->n_rows;
        if (out->n + 1 == TDM_GEMM_CHOICES)
            of_range[k] = of_range[t->n_rows - 1];
        if (!is_last && (of_range[k] == of_range[k + 1] || out->n + 1 == TDM_GEMM_CHOICES))
            continue;
        out->lines[out->n].max_rows = is_last ? 0 : t->rows[k];
        tdm_gemm_table_line(t->gemm, t->shape, out->lines[out->n].max_rows,
                            &t->all[of_range[k]].algo, out->lines[out->n].text,
                            sizeof out->lines[out->n].text);
        out->n++;
    }
    for (size_t k = 0; k < t->n_rows; k++) {
        out->seconds[k] = t->all[of_range[k]].seconds[k];
        out->fastest[k] = t->all[fastest(t, k, -1)].seconds[k];
    }
}

tdm_status tdm_gemm_tune(const tdm_gemm_shape *shape, const int64_t *rows, size_t n_rows,
                         double seconds, tdm_gemm_tuned *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int untuned = 0;
    tuner *t = calloc(1, sizeof *t);
    *out = (tdm_gemm_tuned){0};
    TDM_REQUIRE(t, TDM_ENOMEM, "tuner");
    TDM_REQUIRE(n_rows > 0 && n_rows <= TDM_TUNE_ROWS && rows[n_rows - 1] <= MOST_ROWS, TDM_EARG,
                "tuning for %zu numbers of rows, want 1 to %d, none above %d", n_rows,
                TDM_TUNE_ROWS, MOST_ROWS);
    t->shape = shape;
    t->rows = rows;
    t->n_rows = n_rows;
    TDM_TRY(open_operands(t, err));
    TDM_TRY(collect(t, err));
    TDM_TRY(group(t, err));
    TDM_TRY(tdm_gemm_plan(t->gemm, shape, &untuned, err));
    for (size_t k = 0; k < n_rows; k++)
        TDM_TRY(time_rows(t, k, untuned, seconds / (double)n_rows, &out->untuned[k], err));
    const int won = best_group(t);
    write_lines(t, won, out);
    out->algorithms = t->n;
    out->groups = t->n_groups;
    for (int i = 0; i < t->n; i++) {
        out->steady += t->all[i].steady;
        out->chosen += t->all[i].steady && t->all[i].group == won;
    }
done:
    if (t)
        close_tuner(t);
    return st;
}
