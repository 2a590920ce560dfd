/* kernels/backend_cuda.c - the operations of host/backend.h as launches of kernels. */
#include "kernels/cuda.h"

static tdm_status embed(void *self, tdm_mat y, const tdm_step *step, tdm_mat words, int32_t first_word,
                        tdm_mat positions, int32_t first_position, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c,
                         tdmk_embed(y, step, words, first_word, positions, first_position, c->rank.n > 0,
                                    c->stream),
                         "kernel", err);
}

static tdm_status add_norm(void *self, tdm_mat y, tdm_mat x, const tdm_mat *delta, tdm_mat gamma,
                           tdm_mat beta, float eps, tdm_norm form, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c, tdmk_add_norm(y, x, delta, gamma, beta, eps, form, c->stream), "kernel",
                         err);
}

/* ---- the matrix product ---- */

/* The plan of this use of a weight, made when it is first asked for. */
static tdm_status plan_of(cuda_backend *c, cuda_weight *w, const tdm_gemm_shape *shape, int *plan,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    int *known = &w->plans[shape->y_dtype != shape->dtype][shape->epilogue == TDM_GELU_TANH]
                          [shape->has_bias];
    if (*known < 0)
        TDM_TRY(tdm_gemm_plan(c->gemm, shape, known, err));
    *plan = *known;
done:
    return st;
}

/* GELU in its tanh form and a bias are epilogues of the product; of the other two cuBLASLt knows
 * nothing: they follow it, with the bias. */
static tdm_status linear(void *self, tdm_mat y, tdm_mat x, const tdm_weight *weight,
                         const tdm_mat *bias, tdm_epilogue epilogue, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    cuda_weight *w = (cuda_weight *)weight; /* its plans are a cache */
    const bool fused = epilogue == TDM_LINEAR || epilogue == TDM_GELU_TANH;
    const bool epilogue_bias = fused && bias;
    const tdm_gemm_shape shape = {.in = weight->in,
                                  .out = tdm_padded(weight->out),
                                  .dtype = c->dtype,
                                  .y_dtype = y.dtype,
                                  .epilogue = fused ? epilogue : TDM_LINEAR,
                                  .has_bias = epilogue_bias};
    const int32_t stride = y.stride ? y.stride : y.cols;
    int plan = -1;
    TDM_REQUIRE(stride >= shape.out, TDM_EARG, "y has rows of %d, CUDA wants room for %d", stride,
                shape.out);
    TDM_REQUIRE(shape.out == weight->out || (!bias && fused), TDM_EARG,
                "%d outputs, CUDA wants a multiple of 64 where there is a bias or %s", weight->out,
                "an epilogue");
    TDM_REQUIRE(y.dtype == c->dtype || (!bias && fused), TDM_EARG, "%s results of %s have no bias",
                tdm_dtype_name(y.dtype), tdm_dtype_name(c->dtype));
    TDM_TRY(plan_of(c, w, &shape, &plan, err));
    TDM_TRY(tdm_gemm_run(c->gemm, plan, y.p, stride, x.p, w->p, epilogue_bias ? bias->p : NULL,
                         x.rows, err));
    if (!fused)
        TDM_TRY(cuda_check(tdmk_activate(y, bias, epilogue, c->stream), "activation", err));
    TDM_TRY(cuda_enqueued(c, cudaSuccess, "product", err));
done:
    return st;
}

/* ---- attention ---- */

static tdm_status attend_cached(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                                const tdm_step *step, tdm_err *err)
{
    const cuda_backend *c = self;
    const tdmk_cache cache = ((const cuda_kv *)kv)->cache;
    return cuda_enqueued(c,
                         step->starts ? tdmk_attend_prefill(y, qkv, cache, layer, step, c->stream)
                                      : tdmk_attend_decode(y, qkv, cache, layer, step, c->stream),
                         "kernel", err);
}

static tdm_status attend_packed(void *self, tdm_mat y, tdm_mat qkv, const tdm_step *step,
                                bool causal, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c, tdmk_attend_packed(y, qkv, step, causal, c->stream), "kernel", err);
}

/* ---- rows, heads, tokens ---- */

static tdm_status gather(void *self, tdm_mat y, tdm_mat x, const int32_t *rows, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c, tdmk_gather(y, x, rows, c->stream), "kernel", err);
}

static tdm_status classify(void *self, tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c, tdmk_classify(y, x, w, bias, c->stream), "kernel", err);
}

static tdm_status sample(void *self, const tdm_slots *state, const int32_t *slots, tdm_mat logits,
                         int32_t eos, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c, tdmk_sample(state, slots, logits, eos, c->stream), "kernel", err);
}

static tdm_status token_stats(void *self, tdm_stat *stats, tdm_mat logits, const int32_t *targets,
                              tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c, tdmk_token_stats(stats, logits, targets, c->stream), "kernel", err);
}

static tdm_status cross_stats(void *self, tdm_cross *stats, tdm_mat p, tdm_mat q,
                              const int32_t *targets, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c, tdmk_cross_stats(stats, p, q, targets, c->stream), "kernel", err);
}

static tdm_status top_tokens(void *self, tdm_top *top, int32_t k, tdm_mat logits,
                             const int32_t *targets, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_enqueued(c, tdmk_top_tokens(top, k, logits, targets, c->stream), "kernel", err);
}

const tdm_ops cuda_ops = {
    .name = "cuda",
    .close = cuda_close,
    .memory = cuda_memory,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .upload = cuda_upload,
    .download = cuda_download,
    .sync = cuda_sync,
    .fetch_begin = cuda_fetch_begin,
    .fetch_end = cuda_fetch_end,
    .graph_begin = cuda_graph_begin,
    .graph_end = cuda_graph_end,
    .graph_run = cuda_graph_run,
    .graph_close = cuda_graph_close,
    .weight_open = cuda_weight_open,
    .weight_close = cuda_weight_close,
    .kv_page_bytes = cuda_kv_page_bytes,
    .kv_open = cuda_kv_open,
    .kv_close = cuda_kv_close,
    .kv_copy = cuda_kv_copy,
    .embed = embed,
    .add_norm = add_norm,
    .linear = linear,
    .attend_cached = attend_cached,
    .attend_packed = attend_packed,
    .gather = gather,
    .classify = classify,
    .sample = sample,
    .token_stats = token_stats,
    .cross_stats = cross_stats,
    .top_tokens = top_tokens,
    .sum_ranks = cuda_sum_ranks,
    .join_ranks = cuda_join_ranks,
    .give_up = cuda_give_up,
};
