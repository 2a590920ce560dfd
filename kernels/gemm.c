#include "kernels/gemm.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "kernels/cuda.h"

enum { WORKSPACE_BYTES = 32 << 20, ALIGNMENT = 16, MOST_CANDIDATES = 64 };

/* cuBLASLt is column-major: what it calls A is w, transposed, B is x and C = D is y, with one
 * column a row of ours. */
typedef struct {
    tdm_gemm_shape shape;
    bool tuning; /* made by tdm_gemm_plan_with: nobody else finds it */
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t w, x, y;
    int n_choices;
    struct {
        int64_t max_rows; /* 0: any number */
        cublasLtMatmulAlgo_t algo;
    } choices[TDM_GEMM_CHOICES]; /* max_rows rising */
} gemm_plan;

struct tdm_gemm {
    cublasLtHandle_t handle;
    cudaStream_t stream; /* borrowed */
    void *workspace;
    int architecture; /* 90 for 9.0 */
    size_t version;   /* of cuBLASLt */
    gemm_plan *plans;
    int n_plans;
};

typedef struct {
    int architecture;
    size_t version;
    tdm_gemm_shape shape;
    int64_t max_rows;
    tdm_gemm_algo algo;
} table_line;

#ifndef TDM_GEMM_TABLE /* a test has its own */
#define TDM_GEMM_TABLE "kernels/gemm_table.inc"
#endif
static const table_line TABLE[] = {
#include TDM_GEMM_TABLE
    {.architecture = 0} /* the end */
};

static tdm_status check_blas(cublasStatus_t status, const char *what, tdm_err *err)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return TDM_OK;
    const cudaError_t error = cudaGetLastError(); /* what cuBLASLt ran into, if it was the device */
    if (error != cudaSuccess)
        return cuda_check(error, what, err);
    return tdm_fail(err, status == CUBLAS_STATUS_ALLOC_FAILED ? TDM_ENOMEM : TDM_EINTERNAL,
                    "cuBLASLt %s: status %d", what, (int)status);
}

/* ---- opening and closing ---- */

tdm_status tdm_gemm_open(cudaStream_t stream, tdm_gemm **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int device = 0, major = 0, minor = 0;
    *out = NULL;
    tdm_gemm *g = calloc(1, sizeof *g);
    TDM_REQUIRE(g, TDM_ENOMEM, "cuBLASLt state");
    g->stream = stream;
    g->version = cublasLtGetVersion();
    TDM_TRY(cuda_check(cudaGetDevice(&device), "current device", err));
    TDM_TRY(cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
                       "compute capability", err));
    TDM_TRY(cuda_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
                       "compute capability", err));
    g->architecture = 10 * major + minor;
    const cublasStatus_t status = cublasLtCreate(&g->handle);
    TDM_REQUIRE(status == CUBLAS_STATUS_SUCCESS, TDM_ENODEV,
                "cuBLASLt %zu does not start: status %d", g->version, (int)status);
    TDM_TRY(cuda_take(WORKSPACE_BYTES, "workspace of cuBLASLt", CUDA_OTHERS, &g->workspace, err));
    *out = g;
    g = NULL;
done:
    tdm_gemm_close(g);
    return st;
}

static void close_plan(gemm_plan *p)
{
    if (p->product)
        cublasLtMatmulDescDestroy(p->product);
    if (p->w)
        cublasLtMatrixLayoutDestroy(p->w);
    if (p->x)
        cublasLtMatrixLayoutDestroy(p->x);
    if (p->y)
        cublasLtMatrixLayoutDestroy(p->y);
}

void tdm_gemm_close(tdm_gemm *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->n_plans; i++)
        close_plan(&g->plans[i]);
    free(g->plans);
    cudaFree(g->workspace);
    if (g->handle)
        cublasLtDestroy(g->handle);
    free(g);
}

/* ---- a plan and its descriptors ---- */

static cudaDataType_t data_type(tdm_dtype t)
{
    return t == TDM_F32 ? CUDA_R_32F : t == TDM_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

static cublasLtEpilogue_t epilogue_of(const tdm_gemm_shape *s)
{
    if (s->epilogue == TDM_GELU_TANH) /* cuBLASLt's GELU is the tanh form */
        return s->has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    return s->has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

static tdm_status check_shape(const tdm_gemm_shape *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(s->in > 0 && s->in % 8 == 0 && s->out > 0 && s->out % 64 == 0, TDM_EARG,
                "a product of %d inputs and %d outputs, want multiples of 8 and 64", s->in, s->out);
    TDM_REQUIRE(s->epilogue == TDM_LINEAR || s->epilogue == TDM_GELU_TANH, TDM_EARG, "epilogue %d",
                (int)s->epilogue);
    TDM_REQUIRE(s->y_dtype == s->dtype || (s->y_dtype == TDM_F32 && !s->has_bias), TDM_EARG,
                "%s results of %s%s", tdm_dtype_name(s->y_dtype), tdm_dtype_name(s->dtype),
                s->has_bias ? " with a bias" : "");
done:
    return st;
}

static tdm_status set_rows(const gemm_plan *p, int64_t rows, int64_t y_stride, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const uint64_t columns = (uint64_t)rows;
    TDM_TRY(check_blas(cublasLtMatrixLayoutSetAttribute(p->x, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
                                                        sizeof columns),
                       "rows of x", err));
    TDM_TRY(check_blas(cublasLtMatrixLayoutSetAttribute(p->y, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
                                                        sizeof columns),
                       "rows of y", err));
    TDM_TRY(check_blas(cublasLtMatrixLayoutSetAttribute(p->y, CUBLASLT_MATRIX_LAYOUT_LD, &y_stride,
                                                        sizeof y_stride),
                       "stride of y", err));
done:
    return st;
}

static tdm_status set_product(const gemm_plan *p, cublasLtMatmulDescAttributes_t attribute,
                              const void *value, size_t bytes, tdm_err *err)
{
    return check_blas(cublasLtMatmulDescSetAttribute(p->product, attribute, value, bytes),
                      "attribute of a product", err);
}

/* The descriptors of a product of TDM_GEMM_REFERENCE_ROWS rows. 16-bit or f32 inputs, f32 sums: no
 * TF32. */
static tdm_status describe(const tdm_gemm *g, gemm_plan *p, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_gemm_shape *s = &p->shape;
    const cudaDataType_t type = data_type(s->dtype);
    const uint64_t in = (uint64_t)s->in, out = (uint64_t)s->out, rows = TDM_GEMM_REFERENCE_ROWS;
    const int32_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = epilogue_of(s);
    TDM_TRY(check_blas(cublasLtMatmulDescCreate(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                       "product", err));
    TDM_TRY(set_product(p, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed, err));
    TDM_TRY(set_product(p, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue, err));
    if (s->has_bias) /* for the heuristic: a pointer of the alignment that biases have */
        TDM_TRY(set_product(p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->workspace,
                            sizeof g->workspace, err));
    TDM_TRY(check_blas(cublasLtMatrixLayoutCreate(&p->w, type, in, out, s->in), "w", err));
    TDM_TRY(check_blas(cublasLtMatrixLayoutCreate(&p->x, type, in, rows, s->in), "x", err));
    TDM_TRY(check_blas(cublasLtMatrixLayoutCreate(&p->y, data_type(s->y_dtype), out, rows, s->out),
                       "y", err));
done:
    return st;
}

/* ---- choosing ---- */

static tdm_status set_preference(cublasLtMatmulPreference_t preference, tdm_err *err)
{
    const uint64_t workspace = WORKSPACE_BYTES;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = ALIGNMENT;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t bytes;
    } settings[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment, sizeof alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment, sizeof alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment, sizeof alignment},
    };
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        TDM_TRY(
            check_blas(cublasLtMatmulPreferenceSetAttribute(preference, settings[i].attribute,
                                                            settings[i].value, settings[i].bytes),
                       "preference", err));
done:
    return st;
}

/* More than one sum over `in` for a result: the preference asks for none, this makes sure. */
static bool splits_sum(const cublasLtMatmulAlgo_t *algo)
{
    int32_t splits = 1;
    uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
    size_t written = 0;
    (void)cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits,
                                               sizeof splits, &written);
    (void)cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                               sizeof scheme, &written);
    return splits > 1 || scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
}

/* Whether the algorithm takes few and many rows too, within the workspace. */
static bool takes_any_rows(const tdm_gemm *g, const gemm_plan *p, const cublasLtMatmulAlgo_t *algo)
{
    static const int64_t ROWS[] = {1, 2, 17, TDM_GEMM_REFERENCE_ROWS, 1 << 16};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        cublasLtMatmulHeuristicResult_t result;
        if (set_rows(p, ROWS[i], p->shape.out, NULL) != TDM_OK ||
            cublasLtMatmulAlgoCheck(g->handle, p->product, p->w, p->x, p->y, p->y, algo, &result) !=
                CUBLAS_STATUS_SUCCESS ||
            result.workspaceSize > WORKSPACE_BYTES)
            return false;
    }
    return true;
}

/* What the heuristic offers for `rows` rows and takes any number.  algos [cap] */
static tdm_status ask(const tdm_gemm *g, const gemm_plan *p, int64_t rows, tdm_gemm_algo *algos,
                      int cap, int *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t *found = calloc(MOST_CANDIDATES, sizeof *found);
    int n_found = 0;
    *n = 0;
    TDM_REQUIRE(found, TDM_ENOMEM, "algorithms of a product");
    TDM_TRY(check_blas(cublasLtMatmulPreferenceCreate(&preference), "preference", err));
    TDM_TRY(set_preference(preference, err));
    TDM_TRY(set_rows(p, rows, p->shape.out, err));
    TDM_TRY(check_blas(cublasLtMatmulAlgoGetHeuristic(g->handle, p->product, p->w, p->x, p->y, p->y,
                                                      preference, MOST_CANDIDATES, found, &n_found),
                       "heuristic", err));
    for (int i = 0; i < n_found && *n < cap; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS && !splits_sum(&found[i].algo) &&
            takes_any_rows(g, p, &found[i].algo))
            memcpy(algos[(*n)++].words, found[i].algo.data, sizeof algos->words);
done:
    if (preference)
        cublasLtMatmulPreferenceDestroy(preference);
    free(found);
    return st;
}

static bool same_shape(const tdm_gemm_shape *a, const tdm_gemm_shape *b)
{
    return a->in == b->in && a->out == b->out && a->dtype == b->dtype && a->y_dtype == b->y_dtype &&
           a->epilogue == b->epilogue && a->has_bias == b->has_bias;
}

static void add_choice(gemm_plan *p, int64_t max_rows, const tdm_gemm_algo *algo)
{
    if (p->n_choices == TDM_GEMM_CHOICES)
        return; /* the last one then serves the rest */
    p->choices[p->n_choices].max_rows = max_rows;
    memcpy(p->choices[p->n_choices].algo.data, algo->words, sizeof algo->words);
    p->n_choices++;
}

/* From the table, or else what the heuristic puts first for the reference number of rows. */
static tdm_status choose(const tdm_gemm *g, gemm_plan *p, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_gemm_shape *s = &p->shape;
    tdm_gemm_algo first;
    int n = 0;
    for (const table_line *t = TABLE; t->architecture; t++)
        if (t->architecture == g->architecture && t->version == g->version &&
            same_shape(&t->shape, s))
            add_choice(p, t->max_rows, &t->algo);
    if (p->n_choices)
        goto done;
    TDM_TRY(ask(g, p, TDM_GEMM_REFERENCE_ROWS, &first, 1, &n, err));
    TDM_REQUIRE(n > 0, TDM_EINTERNAL, "no algorithm without split-K");
    add_choice(p, 0, &first);
done:
    return st;
}

/* ---- plans ---- */

static const char *shape_text(const tdm_gemm_shape *s, char *text, size_t cap)
{
    snprintf(text, cap, "cuBLASLt %d -> %d, %s to %s%s%s", s->in, s->out, tdm_dtype_name(s->dtype),
             tdm_dtype_name(s->y_dtype), s->epilogue == TDM_GELU_TANH ? ", GELU" : "",
             s->has_bias ? ", bias" : "");
    return text;
}

/* Make a plan with `algo`, or with what choose() finds where that is NULL. */
static tdm_status make_plan(tdm_gemm *g, const tdm_gemm_shape *shape, const tdm_gemm_algo *algo,
                            int *plan, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char text[128];
    gemm_plan p = {.shape = *shape, .tuning = algo != NULL};
    TDM_TRY(check_shape(shape, err));
    gemm_plan *more = realloc(g->plans, (size_t)(g->n_plans + 1) * sizeof *more);
    TDM_REQUIRE(more, TDM_ENOMEM, "plan of a product");
    g->plans = more;
    TDM_TRY(describe(g, &p, err));
    if (algo)
        add_choice(&p, 0, algo);
    else
        TDM_TRY(choose(g, &p, err));
    *plan = g->n_plans;
    g->plans[g->n_plans++] = p;
    p = (gemm_plan){0};
done:
    close_plan(&p);
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s", shape_text(shape, text, sizeof text));
}

tdm_status tdm_gemm_plan(tdm_gemm *g, const tdm_gemm_shape *shape, int *plan, tdm_err *err)
{
    for (int i = 0; i < g->n_plans; i++)
        if (!g->plans[i].tuning && same_shape(&g->plans[i].shape, shape)) {
            *plan = i;
            return TDM_OK;
        }
    return make_plan(g, shape, NULL, plan, err);
}

tdm_status tdm_gemm_plan_with(tdm_gemm *g, const tdm_gemm_shape *shape, const tdm_gemm_algo *algo,
                              int *plan, tdm_err *err)
{
    return make_plan(g, shape, algo, plan, err);
}

tdm_status tdm_gemm_candidates(tdm_gemm *g, const tdm_gemm_shape *shape, int64_t rows,
                               tdm_gemm_algo *algos, int cap, int *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    gemm_plan p = {.shape = *shape};
    TDM_TRY(check_shape(shape, err));
    TDM_TRY(describe(g, &p, err));
    TDM_TRY(ask(g, &p, rows, algos, cap, n, err));
done:
    close_plan(&p);
    return st;
}

tdm_status tdm_gemm_run(tdm_gemm *g, int plan, void *y, int32_t y_stride, const void *x,
                        const void *w, const void *bias, int64_t rows, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const gemm_plan *p = &g->plans[plan];
    const float one = 1, zero = 0;
    int choice = 0;
    char text[128];
    if (rows == 0)
        return TDM_OK;
    while (choice + 1 < p->n_choices && rows > p->choices[choice].max_rows)
        choice++;
    TDM_TRY(set_rows(p, rows, y_stride, err));
    if (bias)
        TDM_TRY(set_product(p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias, err));
    TDM_TRY(check_blas(cublasLtMatmul(g->handle, p->product, &one, w, p->w, x, p->x, &zero, y, p->y,
                                      y, p->y, &p->choices[choice].algo, g->workspace,
                                      WORKSPACE_BYTES, g->stream),
                       "product", err));
done:
    return st == TDM_OK ? TDM_OK
                        : tdm_context(err, st, "%s", shape_text(&p->shape, text, sizeof text));
}

/* ---- the table ---- */

static const char *dtype_symbol(tdm_dtype t)
{
    return t == TDM_F32 ? "TDM_F32" : t == TDM_F16 ? "TDM_F16" : "TDM_BF16";
}

int tdm_gemm_table_line(const tdm_gemm *g, const tdm_gemm_shape *s, int64_t max_rows,
                        const tdm_gemm_algo *algo, char *text, size_t cap)
{
    const uint64_t *w = algo->words;
    return snprintf(
        text, cap,
        "{%d, %zu, {%d, %d, %s, %s, %s, %s}, %" PRId64 ", {{0x%" PRIx64 ", 0x%" PRIx64
        ", 0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64
        "}}},\n",
        g->architecture, g->version, s->in, s->out, dtype_symbol(s->dtype),
        dtype_symbol(s->y_dtype), s->epilogue == TDM_GELU_TANH ? "TDM_GELU_TANH" : "TDM_LINEAR",
        s->has_bias ? "true" : "false", max_rows, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]);
}

int tdm_gemm_identity(const tdm_gemm *g, char *text, size_t cap)
{
    uint64_t hash = 0;
    bool any = false;
    for (const table_line *t = TABLE; t->architecture; t++) {
        char line[512];
        if (t->architecture != g->architecture || t->version != g->version)
            continue;
        const int n = tdm_gemm_table_line(g, &t->shape, t->max_rows, &t->algo, line, sizeof line);
        hash = XXH3_64bits_withSeed(line, (size_t)n, hash);
        any = true;
    }
    if (!any)
        return snprintf(text, cap, "cuBLASLt %zu, no table", g->version);
    return snprintf(text, cap, "cuBLASLt %zu, table #%016" PRIx64, g->version, hash);
}
