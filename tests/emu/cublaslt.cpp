/* tests/emu/cublaslt.cpp - the part of cuBLASLt that kernels/gemm.c uses, with strict checks.
 *
 * There are three algorithms: 0 and 1 sum in different orders, 2 splits the sum over k; 1 does not
 * answer whether it splits, as some of the real ones do not. The heuristic puts 1 first for few
 * columns and 0 first for many, so that who asks it for every number of rows gets rows whose bits
 * depend on that number. For few columns and for many an algorithm has a kernel each. What is not
 * emulated fails loudly. */
#include <cublasLt.h>
#include <string.h>

#include "tests/emu/emu.h"
#include "tests/emu/product.h"

namespace tdm_emu
{

constexpr uint64_t MAGIC = 0x656d756c61746564; /* of an algorithm's words */
constexpr int N_ALGORITHMS = 3, SILENT = 1, SPLIT = 2;
constexpr uint64_t FEW_COLUMNS = 16;
constexpr size_t SPLIT_WORKSPACE = 1 << 20;

struct Description {
    int32_t transpose_a, transpose_b;
    uint32_t epilogue;
    int32_t bias_type; /* -1: that of d */
    const void *bias;
    uint64_t set; /* a mark that this was made by cublasLtMatmulDescCreate */
};
struct Layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
    int32_t order;
    uint64_t set;
};
struct Preference {
    uint64_t workspace;
    uint32_t reduction_schemes;
    uint32_t alignment[4]; /* a, b, c, d */
    uint64_t set;
};
struct Algorithm {
    uint64_t magic;
    uint32_t id;
    uint32_t alignment[4]; /* that the heuristic was told */
};
static_assert(sizeof(Description) <= sizeof(cublasLtMatmulDescOpaque_t), "fits");
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "fits");
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "fits");
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t), "fits");

/* What is behind a handle of cuBLASLt, which must have been created. */
template <class T, class H> static T *behind(H *handle, const char *what)
{
    T *t = reinterpret_cast<T *>(handle);
    if (!t || t->set != MAGIC)
        fail("cuBLASLt: %s was not created, or was destroyed", what);
    return t;
}

template <class T> static cublasStatus_t assign(T *to, const void *from, size_t bytes)
{
    if (!from || bytes != sizeof *to)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, sizeof *to);
    return CUBLAS_STATUS_SUCCESS;
}

static bool read_algorithm(const cublasLtMatmulAlgo_t *words, Algorithm *algorithm)
{
    memcpy(algorithm, words, sizeof *algorithm);
    return algorithm->magic == MAGIC && algorithm->id < N_ALGORITHMS;
}

/* ---- shapes and types ---- */

struct Operands {
    const Description *product;
    const Layout *a, *b, *c, *d;
};

static bool has_bias(const Description *p)
{
    return p->epilogue == CUBLASLT_EPILOGUE_BIAS || p->epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
}

static bool has_gelu(const Description *p)
{
    return p->epilogue == CUBLASLT_EPILOGUE_GELU || p->epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
}

static bool shapes_fit(const Operands &o)
{
    const bool ta = o.product->transpose_a, tb = o.product->transpose_b;
    const uint64_t m = ta ? o.a->cols : o.a->rows, k = ta ? o.a->rows : o.a->cols;
    const uint64_t n = tb ? o.b->rows : o.b->cols, k_of_b = tb ? o.b->cols : o.b->rows;
    for (const Layout *l : {o.a, o.b, o.c, o.d})
        if (l->rows == 0 || l->cols == 0 || l->ld < static_cast<int64_t>(l->rows))
            return false;
    return k == k_of_b && o.d->rows == m && o.d->cols == n && o.c->rows == m && o.c->cols == n;
}

/* Source: the table of supported types of cublasLtMatmul() for CUBLAS_COMPUTE_32F; 16-bit inputs
 * give the same type or f32, and a bias has the type of d. */
static bool types_fit(const Operands &o)
{
    const cudaDataType_t in = o.a->type, out = o.d->type;
    if (!type_bytes(in) || o.b->type != in || o.c->type != out || (out != in && out != CUDA_R_32F))
        return false;
    const int32_t bias_type = o.product->bias_type;
    return !has_bias(o.product) || bias_type < 0 || bias_type == static_cast<int32_t>(out);
}

static Operands operands(cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                         cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                         cublasLtMatrixLayout_t d)
{
    return {behind<const Description>(product, "a product"), behind<const Layout>(a, "layout A"),
            behind<const Layout>(b, "layout B"), behind<const Layout>(c, "layout C"),
            behind<const Layout>(d, "layout D")};
}

/* ---- running ---- */

static void require_operand(const void *p, const Layout *l, uint32_t alignment, const char *name)
{
    if (reinterpret_cast<uintptr_t>(p) % alignment)
        fail("cublasLtMatmul: %s at %p is not aligned to the %u bytes that the heuristic was told",
             name, p, alignment);
    if (static_cast<uint64_t>(l->ld) * type_bytes(l->type) % 16)
        fail("cublasLtMatmul: leading dimension %lld of %s is not a multiple of 16 bytes",
             static_cast<long long>(l->ld), name);
    const uint64_t last = (l->cols - 1) * static_cast<uint64_t>(l->ld) + l->rows;
    require_device(p, last * type_bytes(l->type), name, current_device());
}

static Matrix matrix(const void *p, const Layout *l, bool transposed)
{
    void *q = const_cast<void *>(p);
    return transposed ? Matrix{q, l->type, l->ld, 1} : Matrix{q, l->type, 1, l->ld};
}

static Product product(const Operands &o, const Algorithm &algorithm, const void *a, const void *b,
                       const void *c, void *d)
{
    static const SumOrder ORDERS[N_ALGORITHMS] = {SumOrder::whole, SumOrder::quarter,
                                                  SumOrder::halves};
    Product p = {};
    p.m = static_cast<int64_t>(o.d->rows);
    p.n = static_cast<int64_t>(o.d->cols);
    p.k = static_cast<int64_t>(o.product->transpose_a ? o.a->rows : o.a->cols);
    p.a = matrix(a, o.a, o.product->transpose_a);
    p.b = matrix(b, o.b, o.product->transpose_b);
    p.c = matrix(c, o.c, false);
    p.d = matrix(d, o.d, false);
    p.bias = has_bias(o.product) ? o.product->bias : nullptr;
    p.bias_type = o.d->type;
    p.gelu = has_gelu(o.product);
    p.order = ORDERS[algorithm.id];
    p.varies = config().gemm_varies;
    return p;
}

static void require_all(const Operands &o, const Algorithm &algorithm, const Product &p)
{
    require_operand(p.a.p, o.a, algorithm.alignment[0], "A of cublasLtMatmul");
    require_operand(p.b.p, o.b, algorithm.alignment[1], "B of cublasLtMatmul");
    if (p.beta != 0.0f)
        require_operand(p.c.p, o.c, algorithm.alignment[2], "C of cublasLtMatmul");
    require_operand(p.d.p, o.d, algorithm.alignment[3], "D of cublasLtMatmul");
    if (!has_bias(o.product))
        return;
    if (!p.bias || reinterpret_cast<uintptr_t>(p.bias) % 16)
        fail("cublasLtMatmul: bias at %p, want 16-byte aligned device memory", p.bias);
    require_device(p.bias, static_cast<size_t>(p.m) * type_bytes(p.bias_type),
                   "bias of cublasLtMatmul", current_device());
}

} // namespace tdm_emu

using namespace tdm_emu;

extern "C" {

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

size_t cublasLtGetCudartVersion(void)
{
    return CUDART_VERSION;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = nullptr;
    if (device_state() != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = reinterpret_cast<cublasLtHandle_t>(new char);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete reinterpret_cast<char *>(handle);
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- descriptors ---- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    if ((compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC) ||
        scale != CUDA_R_32F)
        fail("cublasLtMatmulDescCreate: compute type %d with scale type %d is not emulated",
             static_cast<int>(compute), static_cast<int>(scale));
    *out = new cublasLtMatmulDescOpaque_t{};
    *reinterpret_cast<Description *>(*out) = {CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT,
                                              -1,          nullptr,     MAGIC};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product)
{
    behind<Description>(product, "a product")->set = 0;
    delete product;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    Description *p = behind<Description>(product, "a product");
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return assign(&p->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return assign(&p->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return assign(&p->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return assign(&p->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: {
        const cublasStatus_t status = assign(&p->epilogue, value, bytes);
        if (p->epilogue != CUBLASLT_EPILOGUE_DEFAULT && !has_bias(p) && !has_gelu(p))
            fail("cublasLtMatmulDescSetAttribute: epilogue %u is not emulated", p->epilogue);
        return status;
    }
    default:
        fail("cublasLtMatmulDescSetAttribute: attribute %d is not emulated",
             static_cast<int>(attribute));
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    if (!type_bytes(type))
        fail("cublasLtMatrixLayoutCreate: type %d is not emulated", static_cast<int>(type));
    *out = new cublasLtMatrixLayoutOpaque_t{};
    *reinterpret_cast<Layout *>(*out) = {type, rows, cols, ld, CUBLASLT_ORDER_COL, MAGIC};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    behind<Layout>(layout, "a layout")->set = 0;
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t bytes)
{
    Layout *l = behind<Layout>(layout, "a layout");
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return assign(&l->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return assign(&l->cols, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return assign(&l->ld, value, bytes);
    default:
        fail("cublasLtMatrixLayoutSetAttribute: attribute %d is not emulated",
             static_cast<int>(attribute));
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = new cublasLtMatmulPreferenceOpaque_t{};
    *reinterpret_cast<Preference *>(*out) = {
        0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}, MAGIC};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    behind<Preference>(preference, "a preference")->set = 0;
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    Preference *p = behind<Preference>(preference, "a preference");
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return assign(&p->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return assign(&p->reduction_schemes, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return assign(&p->alignment[0], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return assign(&p->alignment[1], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return assign(&p->alignment[2], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return assign(&p->alignment[3], value, bytes);
    default:
        fail("cublasLtMatmulPreferenceSetAttribute: attribute %d is not emulated",
             static_cast<int>(attribute));
    }
}

/* ---- algorithms ---- */

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    const Operands o = operands(product, a, b, c, d);
    const Preference *p = behind<const Preference>(preference, "a preference");
    *found = 0;
    if (!shapes_fit(o))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_fit(o))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool split =
        p->reduction_schemes != CUBLASLT_REDUCTION_SCHEME_NONE && p->workspace >= SPLIT_WORKSPACE;
    const bool few = o.d->cols <= FEW_COLUMNS;
    const uint32_t order[N_ALGORITHMS] = {few ? (split ? 2u : 1u) : 0u, few ? 0u : 1u,
                                          few && split ? 1u : 2u};
    for (int i = 0; i < (split ? N_ALGORITHMS : N_ALGORITHMS - 1) && *found < wanted; i++) {
        Algorithm algorithm = {MAGIC, order[i], {}};
        memcpy(algorithm.alignment, p->alignment, sizeof algorithm.alignment);
        cublasLtMatmulHeuristicResult_t *r = &results[(*found)++];
        *r = {};
        memcpy(&r->algo, &algorithm, sizeof algorithm);
        r->workspaceSize = order[i] == SPLIT ? SPLIT_WORKSPACE : 0;
        r->state = CUBLAS_STATUS_SUCCESS;
        r->wavesCount = 1.0f;
    }
    return *found ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    const Operands o = operands(product, a, b, c, d);
    Algorithm algorithm;
    *result = {};
    if (!shapes_fit(o) || !read_algorithm(algo, &algorithm))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_fit(o))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    result->algo = *algo;
    result->workspaceSize = algorithm.id == SPLIT ? SPLIT_WORKSPACE : 0;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void *value, size_t bytes, size_t *written)
{
    Algorithm algorithm;
    int32_t answer = 0;
    if (!read_algorithm(algo, &algorithm))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (algorithm.id == SILENT && attribute != CUBLASLT_ALGO_CONFIG_ID)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_ID:
        answer = static_cast<int32_t>(algorithm.id);
        break;
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM:
        answer = algorithm.id == SPLIT ? 2 : 1;
        break;
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME:
        answer = algorithm.id == SPLIT ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                                       : CUBLASLT_REDUCTION_SCHEME_NONE;
        break;
    default:
        fail("cublasLtMatmulAlgoConfigGetAttribute: attribute %d is not emulated",
             static_cast<int>(attribute));
    }
    if (bytes != sizeof answer)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(value, &answer, sizeof answer);
    if (written)
        *written = sizeof answer;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                              const void *alpha, const void *a, cublasLtMatrixLayout_t layout_a,
                              const void *b, cublasLtMatrixLayout_t layout_b, const void *beta,
                              const void *c, cublasLtMatrixLayout_t layout_c, void *d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    const Operands o = operands(description, layout_a, layout_b, layout_c, layout_d);
    Algorithm algorithm;
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (set_error(device_state()) != cudaSuccess || device_of(stream) != current_device())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!algo)
        fail("cublasLtMatmul: without an algorithm the result depends on the heuristic");
    if (!shapes_fit(o) || !read_algorithm(algo, &algorithm))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_fit(o))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (algorithm.id == SPLIT && workspace_bytes < SPLIT_WORKSPACE)
        return CUBLAS_STATUS_INVALID_VALUE;
    Product p = product(o, algorithm, a, b, c, d);
    memcpy(&p.alpha, alpha, sizeof p.alpha);
    memcpy(&p.beta, beta, sizeof p.beta);
    require_all(o, algorithm, p);
    if (workspace_bytes)
        require_device(workspace, workspace_bytes, "workspace of cublasLtMatmul", current_device());
    static const char KERNELS[N_ALGORITHMS][2] = {};
    require_loaded(stream, &KERNELS[algorithm.id][o.d->cols > FEW_COLUMNS], "cublasLtMatmul");
    const size_t scribble = workspace_bytes < SPLIT_WORKSPACE ? workspace_bytes : SPLIT_WORKSPACE;
    const cudaError_t e = enqueue(stream, "cublasLtMatmul", [=] {
        if (scribble)
            memset(workspace, 0xa7, scribble);
        multiply(p);
    });
    return e == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
