/* tools/bench_ops.h - the operations that "tandem bench kernels" times, each in a few sizes: what
 * makes the operands, what enqueues a call, and what it costs by its definition.
 *
 * Operands are several sets that take turns (or layers of a cache), which together do not fit the
 * machine's cache, except where one set alone does not. Thread safety: that of the bench. */
#ifndef TOOLS_BENCH_OPS_H
#define TOOLS_BENCH_OPS_H

#include "tools/bench_common.h"

typedef struct {
    const char *name;
    bool detector;
    int32_t width, vocab, positions;
} op_model;

enum { OP_TURNS = 16 };

typedef struct op_set op_set;

/* One operation in one size. The cost is what the definition asks for: inputs and outputs once. */
typedef struct {
    const char *op, *variant;
    bool gpt2, detector; /* which models have it */
    int32_t texts,
        length; /* rows = texts x length; decoding: one row a text behind length - 1 others */
    tdm_status (*open)(op_set *s, tdm_err *err);
    bench_call call;
    void (*cost)(const op_set *s, double *flops, double *bytes);
    tdm_draw draw; /* sample; top_tokens: top_k of them */
} op_case;

struct op_set {
    const bench *b;
    const op_case *k;
    const op_model *m;
    int32_t texts, length;
    int64_t rows;
    double act, kv; /* bytes of an element */
    size_t turns;
    bench_pool pool;
    tdm_mat x[OP_TURNS], y[OP_TURNS], delta[OP_TURNS];
    tdm_mat gamma, beta, words, positions;
    tdm_step step;
    tdm_kv *cache;
    void *index, *stats;
    tdm_slots state;
};

/* Cases of one operation stand together. */
enum { N_OP_CASES = 21 };
extern const op_case OP_CASES[N_OP_CASES];

/* Close what s->k->open made, wholly or in part; {.b = b} is fine. */
void op_close(op_set *s);

#endif
