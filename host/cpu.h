/* host/cpu.h - inside the CPU backend: what its files share. Nothing else includes it but its tests.
 *
 * The kernels (cpu_vector.h, cpu_gemm.h, cpu_norm.h, cpu_attention.h, cpu_stats.h) are one source that is
 * compiled once per instruction set (cpu_avx512.c, cpu_avx2.c, cpu_baseline.c) into a table;
 * tdm_open_cpu takes the best table that the machine can run.
 *
 * Charter of the kernels: f32 arithmetic; every output element is computed by the same operations in
 * the same order whatever the number of rows, its place among them, or the thread that does it. */
#ifndef HOST_CPU_H
#define HOST_CPU_H

#include <stdatomic.h>

#include "host/backend.h"
#include "host/sample.h"
#include "host/threads.h"

enum {
    CPU_DEPTH = 128,       /* products that are summed up in registers before they join the total */
    CPU_GROUP = 6,         /* rows that one register tile covers */
    CPU_ROWS = 96,         /* rows of x at a time; a multiple of CPU_GROUP */
    CPU_COLUMNS = 768,     /* columns of y at a time; a multiple of every panel width */
    CPU_SCRATCH = CPU_ROWS * CPU_COLUMNS,
    CPU_KEYS = TDM_PAGE,   /* keys that one softmax step covers: a key block is a page of one head */
    CPU_QUERIES = 48,      /* rows of one text that share a pass over its keys */
    CPU_LINE = 64,         /* bytes of a cache line */
    CPU_ALIGN = 256,       /* of all memory that is handed out */
    CPU_KEY_BLOCK = 2 * CPU_KEYS * TDM_HEAD, /* floats: keys [TDM_HEAD][CPU_KEYS], then values
                                                [CPU_KEYS][TDM_HEAD] */
};

/* y[rows, out] = epilogue(x[rows, in] @ W + bias) for one rectangle of y. */
typedef struct {
    float *y;
    const float *x;
    const float *panels; /* [ceil(out / width)][in][width], zero beyond the last column */
    const float *bias;   /* [out] or NULL */
    size_t in, out;
    size_t y_stride; /* floats between rows of y */
    tdm_epilogue epilogue;
} cpu_product;

/* Rows of one text and one head: y[r] = softmax(q[r] . keys / 8) values. */
typedef struct {
    float *y;
    const float *q;
    size_t y_stride, q_stride; /* floats between rows */
    const float *blocks;       /* key blocks of CPU_KEY_BLOCK floats */
    size_t block_stride;       /* floats between them */
    const int32_t *pages;      /* which of them each CPU_KEYS keys are in; NULL: one after the other */
    size_t n_rows;
    size_t n_keys; /* keys that row 0 sees */
    size_t step;   /* row r sees n_keys + r * step: 1 causal, 0 bidirectional */
} cpu_attention;

/* What the first pass over a row of logits sees. */
typedef struct {
    float largest;
    int32_t ahead; /* entries above the given one */
    bool finite;   /* all are; else the rest means nothing */
} cpu_outline;

/* Sums over a row, d = logit - largest: of e^d, d e^d, d^2 e^d. */
typedef struct {
    double total, first, second;
} cpu_moments;

/* Sums over two rows, d = logit - largest of each. */
typedef struct {
    double total_p, total_q; /* of e^dp, e^dq */
    double first, second;    /* of dp e^dq, dp^2 e^dq */
    double back;             /* of dq e^dp */
} cpu_cross_sums;

typedef struct {
    const char *name;
    const char *identity; /* tdm_backend.identity */
    size_t width; /* columns of one weight panel */
    /* scratch: CPU_SCRATCH floats */
    void (*multiply)(const cpu_product *p, size_t row, size_t n_rows, size_t column,
                     size_t n_columns, float *scratch);
    void (*attend)(const cpu_attention *a);
    /* delta may be NULL; y may be x */
    void (*add_norm)(float *y, float *x, const float *delta, const float *gamma, const float *beta,
                     size_t n, float eps);
    void (*epilogue)(float *y, size_t n, tdm_epilogue epilogue); /* in place, for tests */
    void (*exponential)(float *y, size_t n);                     /* in place, for tests */
    cpu_outline (*look_at)(const float *row, size_t n, float given);
    /* of a finite row and its largest value */
    cpu_moments (*sum_up)(const float *row, size_t n, float largest);
    cpu_cross_sums (*sum_up_two)(const float *p, const float *q, size_t n, float largest_p,
                                 float largest_q);
    float (*peak)(size_t rounds); /* rounds * peak_flops operations in registers, for the bench */
    size_t peak_flops;            /* of one round */
    float (*read)(const float *p, size_t n); /* the sum, for the bench */
} cpu_kernels;

/* The tables; name is NULL in those of an instruction set that the build lacks. To be used through
 * the functions below. */
extern const cpu_kernels cpu_table_avx512, cpu_table_avx2, cpu_table_baseline;

/* What the processor says of itself (CPUID) and what the system saves of its registers (XCR0); all
 * zero on other processors than x86-64. */
typedef struct {
    uint32_t leaf1_ecx, leaf7_ebx, extended_ecx, saved;
} cpu_features;
cpu_features cpu_features_read(void);
/* The level of x86-64 that has all of its features, 1 to 4. The compiler may use any of them in a
 * file compiled for the level, so none may lack.
 * Source: x86-64 psABI, "Micro-Architecture Levels". */
int cpu_level(const cpu_features *f);

/* The first two return NULL where the build or the machine lacks the instruction set. */
const cpu_kernels *cpu_kernels_avx512(void);
const cpu_kernels *cpu_kernels_avx2(void);
const cpu_kernels *cpu_kernels_baseline(void);

/* A lane is what one thread of a loop owns. */
typedef struct {
    float *scratch; /* for multiply */
    float *blocks;  /* for attend_packed; grows */
    size_t n_blocks;
    tdm_sampler *sampler;
    int32_t n_vocab; /* of sampler */
} cpu_lane;

/* Where the ranks of the CPU meet: cpu_ranks.c. */
typedef struct cpu_meeting cpu_meeting;
void cpu_leave_meeting(cpu_meeting *m);             /* the last one frees it; NULL is fine */
int32_t cpu_meeting_size(const cpu_meeting *m);     /* ranks; NULL: 1 */

typedef struct {
    const cpu_kernels *kernels;
    tdm_threads *threads;
    cpu_lane *lanes; /* [n_lanes] */
    size_t n_lanes;
    void *fetched[TDM_LANES]; /* TDM_LANE_BYTES each */
    bool fetching[TDM_LANES]; /* between begin and end */
    /* of one of several ranks (host/ranks.h); its word tables are parts */
    cpu_meeting *meeting;     /* with the others; NULL: alone */
    const atomic_int *failed; /* not 0: one of them did not come to a meeting */
    int32_t rank;
} cpu_backend;

/* tdm_open_cpu with kernels of the caller's choice. */
tdm_status cpu_open(const cpu_kernels *kernels, int threads, tdm_backend *out, tdm_err *err);

/* Memory on CPU_ALIGN, for free(); NULL when there is none. Large pieces lie on huge pages: reading
 * them from end to end spends much of its time on address translation otherwise. */
void *cpu_memory(size_t bytes);

/* Call item(be, lane, job, i) once for each i in [0, n); no two calls share a lane at a time. */
void cpu_run(cpu_backend *be, size_t n,
             void (*item)(cpu_backend *be, cpu_lane *lane, const void *job, size_t i),
             const void *job);

/* The operations of the table that have a file of their own. */
tdm_status cpu_weight_open(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                           tdm_layout layout, tdm_weight **w, tdm_err *err);
void cpu_weight_close(void *self, tdm_weight *w);
tdm_status cpu_linear(void *self, tdm_mat y, tdm_mat x, const tdm_weight *w, const tdm_mat *bias,
                      tdm_epilogue epilogue, tdm_err *err);
size_t cpu_kv_page_bytes(void *self, int32_t layers, int32_t heads);
tdm_status cpu_kv_open(void *self, int32_t layers, int32_t heads, int32_t pages, int32_t text_pages,
                       tdm_kv **kv, tdm_err *err);
void cpu_kv_close(void *self, tdm_kv *kv);
tdm_status cpu_kv_copy(void *self, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err);
tdm_status cpu_attend_cached(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                             const tdm_step *step, tdm_err *err);
tdm_status cpu_attend_packed(void *self, tdm_mat y, tdm_mat qkv, const tdm_step *step, bool causal,
                             tdm_err *err);
tdm_status cpu_sample(void *self, const tdm_slots *state, const int32_t *slots, tdm_mat logits,
                      int32_t eos, tdm_err *err);
tdm_status cpu_token_stats(void *self, tdm_stat *stats, tdm_mat logits, const int32_t *targets,
                           tdm_err *err);
tdm_status cpu_cross_stats(void *self, tdm_cross *stats, tdm_mat p, tdm_mat q,
                           const int32_t *targets, tdm_err *err);
tdm_status cpu_top_tokens(void *self, tdm_top *top, int32_t k, tdm_mat logits,
                          const int32_t *targets, tdm_err *err);

tdm_status cpu_sum_ranks(void *self, tdm_mat y, tdm_err *err);
tdm_status cpu_join_ranks(void *self, tdm_mat y, tdm_mat x, tdm_err *err);

/* Floats from row to row. */
static inline size_t cpu_stride(const tdm_mat *m)
{
    return (size_t)(m->stride ? m->stride : m->cols);
}

#endif
