#include "host/backend.h"

/* The checks that are the same for every backend: pointers, shapes, formats. What an operation reads
 * from memory of the backend (tokens, positions, slots, pages) only the backend can check. */

/* A matrix of `rows` x `cols` without gaps; -1 stands for any number. */
static tdm_status check_mat(const char *name, const tdm_mat *m, tdm_dtype dtype, int64_t rows,
                            int64_t cols, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(m->dtype == dtype, TDM_EARG, "%s is %s, want %s", name, tdm_dtype_name(m->dtype),
                tdm_dtype_name(dtype));
    TDM_REQUIRE(m->rows >= 0 && m->cols > 0, TDM_EARG, "%s is %lld x %d", name, (long long)m->rows,
                m->cols);
    TDM_REQUIRE(rows < 0 || m->rows == rows, TDM_EARG, "%s has %lld rows, want %lld", name,
                (long long)m->rows, (long long)rows);
    TDM_REQUIRE(cols < 0 || m->cols == cols, TDM_EARG, "%s has %d columns, want %lld", name,
                m->cols, (long long)cols);
    TDM_REQUIRE(m->stride == 0 || m->stride == m->cols, TDM_EARG, "%s has rows of %d in %d elements",
                name, m->cols, m->stride);
    TDM_REQUIRE(m->p || !m->rows, TDM_EARG, "%s is NULL", name);
done:
    return st;
}

/* A matrix that linear() writes or wrote: rows may be padded. */
static tdm_status check_padded(const char *name, tdm_mat m, tdm_dtype dtype, int64_t rows,
                               int64_t cols, tdm_err *err)
{
    if (m.cols > 0 && m.stride == tdm_padded(m.cols))
        m.stride = 0;
    return check_mat(name, &m, dtype, rows, cols, err);
}

/* The rows of a step in either form; a step without a cache may be ragged alone. */
static tdm_status check_step(const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(step->n_rows >= 0 && step->n_seqs >= 0, TDM_EARG, "a step of %d rows in %d texts",
                step->n_rows, step->n_seqs);
    TDM_REQUIRE(step->starts || step->slots, TDM_EARG, "the step has no starts and no slots");
    TDM_REQUIRE(step->starts || step->n_rows == step->n_seqs, TDM_EARG,
                "a decoding step of %d rows in %d texts", step->n_rows, step->n_seqs);
done:
    return st;
}

void tdm_backend_close(tdm_backend *be)
{
    if (be->ops)
        be->ops->close(be->self);
    *be = (tdm_backend){0};
}

size_t tdm_backend_memory(const tdm_backend *be)
{
    return be->ops->memory(be->self);
}

tdm_status tdm_alloc(const tdm_backend *be, size_t bytes, void **out, tdm_err *err)
{
    return be->ops->alloc(be->self, bytes, out, err);
}

void tdm_release(const tdm_backend *be, void *p)
{
    if (p)
        be->ops->release(be->self, p);
}

tdm_status tdm_upload(const tdm_backend *be, void *dst, const void *src, size_t bytes, tdm_err *err)
{
    return be->ops->upload(be->self, dst, src, bytes, err);
}

tdm_status tdm_download(const tdm_backend *be, void *dst, const void *src, size_t bytes,
                        tdm_err *err)
{
    return be->ops->download(be->self, dst, src, bytes, err);
}

tdm_status tdm_sync(const tdm_backend *be, tdm_err *err)
{
    return be->ops->sync(be->self, err);
}

tdm_status tdm_fetch_begin(const tdm_backend *be, int lane, const void *src, size_t bytes,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(lane >= 0 && lane < TDM_LANES, TDM_EARG, "lane %d, want 0 to %d", lane,
                TDM_LANES - 1);
    TDM_REQUIRE(bytes <= TDM_LANE_BYTES, TDM_EARG, "%zu bytes in a lane of %d", bytes,
                TDM_LANE_BYTES);
    TDM_TRY(be->ops->fetch_begin(be->self, lane, src, bytes, err));
done:
    return st;
}

tdm_status tdm_fetch_end(const tdm_backend *be, int lane, const void **host, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *host = NULL;
    TDM_REQUIRE(lane >= 0 && lane < TDM_LANES, TDM_EARG, "lane %d, want 0 to %d", lane,
                TDM_LANES - 1);
    TDM_TRY(be->ops->fetch_end(be->self, lane, host, err));
done:
    return st;
}

bool tdm_has_graphs(const tdm_backend *be)
{
    return be->ops->graph_begin != NULL;
}

tdm_status tdm_graph_begin(const tdm_backend *be, tdm_err *err)
{
    return be->ops->graph_begin(be->self, err);
}

tdm_status tdm_graph_end(const tdm_backend *be, tdm_graph **graph, tdm_err *err)
{
    *graph = NULL;
    return be->ops->graph_end(be->self, graph, err);
}

tdm_status tdm_graph_run(const tdm_backend *be, const tdm_graph *graph, tdm_err *err)
{
    return be->ops->graph_run(be->self, graph, err);
}

void tdm_graph_close(const tdm_backend *be, tdm_graph *graph)
{
    if (graph)
        be->ops->graph_close(be->self, graph);
}

tdm_status tdm_weight_open(const tdm_backend *be, const void *src, tdm_dtype dtype, int32_t in,
                           int32_t out, tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *w = NULL;
    TDM_REQUIRE(in > 0 && out > 0, TDM_EARG, "a weight of %d x %d", in, out);
    TDM_REQUIRE(src, TDM_EARG, "a weight of %d x %d: NULL", in, out);
    TDM_TRY(be->ops->weight_open(be->self, src, dtype, in, out, layout, w, err));
done:
    return st;
}

void tdm_weight_close(const tdm_backend *be, tdm_weight *w)
{
    if (w)
        be->ops->weight_close(be->self, w);
}

size_t tdm_kv_page_bytes(const tdm_backend *be, int32_t layers, int32_t heads)
{
    return be->ops->kv_page_bytes(be->self, layers, heads);
}

tdm_status tdm_kv_open(const tdm_backend *be, int32_t layers, int32_t heads, int32_t pages,
                       int32_t text_pages, tdm_kv **kv, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *kv = NULL;
    TDM_REQUIRE(layers > 0 && heads > 0 && pages > 0 && text_pages > 0, TDM_EARG,
                "a cache of %d layers x %d heads x %d pages, %d for a text", layers, heads, pages,
                text_pages);
    TDM_TRY(be->ops->kv_open(be->self, layers, heads, pages, text_pages, kv, err));
done:
    return st;
}

void tdm_kv_close(const tdm_backend *be, tdm_kv *kv)
{
    if (kv)
        be->ops->kv_close(be->self, kv);
}

tdm_status tdm_kv_copy(const tdm_backend *be, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(kv, TDM_EARG, "no cache");
    TDM_REQUIRE(to >= 0 && to < kv->pages && from >= 0 && from < kv->pages && to != from, TDM_EARG,
                "page %d to page %d of %d", from, to, kv->pages);
    TDM_TRY(be->ops->kv_copy(be->self, kv, to, from, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "kv_copy");
}

tdm_status tdm_embed(const tdm_backend *be, tdm_mat y, const tdm_step *step, tdm_mat words, int32_t first_word,
                     tdm_mat positions, int32_t first_position, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_step(step, err));
    TDM_TRY(check_mat("y", &y, TDM_F32, step->n_rows, -1, err));
    TDM_TRY(check_mat("words", &words, words.dtype, -1, y.cols, err));
    if (positions.p || be->n_ranks == 0)
        TDM_TRY(check_mat("positions", &positions, positions.dtype, -1, y.cols, err));
    TDM_REQUIRE(be->n_ranks > 0 || (words.rows > 0 && positions.rows > 0), TDM_EARG, "tables of %lld and %lld rows",
                (long long)words.rows, (long long)positions.rows);
    TDM_REQUIRE(first_word == 0 || (first_word > 0 && be->n_ranks > 0), TDM_EARG, "the first word is %d", first_word);
    TDM_REQUIRE(step->tokens && step->positions, TDM_EARG, "the step has no tokens or positions");
    TDM_TRY(be->ops->embed(be->self, y, step, words, first_word, positions, first_position, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "embed");
}

tdm_status tdm_add_norm(const tdm_backend *be, tdm_mat y, tdm_mat x, const tdm_mat *delta,
                        tdm_mat gamma, tdm_mat beta, float eps, tdm_norm form, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_mat("x", &x, TDM_F32, -1, -1, err));
    TDM_TRY(check_mat("y", &y, be->dtype, x.rows, x.cols, err));
    if (delta)
        TDM_TRY(check_mat("delta", delta, be->dtype, x.rows, x.cols, err));
    TDM_TRY(check_mat("gamma", &gamma, TDM_F32, 1, x.cols, err));
    TDM_TRY(check_mat("beta", &beta, TDM_F32, 1, x.cols, err));
    TDM_REQUIRE(eps > 0, TDM_EARG, "eps is %g", (double)eps);
    TDM_REQUIRE(form == TDM_PRE_NORM || form == TDM_POST_NORM, TDM_EARG, "form %d", (int)form);
    TDM_REQUIRE(y.p != x.p || !x.rows || (form == TDM_POST_NORM && be->dtype == TDM_F32), TDM_EARG,
                "y is x");
    TDM_TRY(be->ops->add_norm(be->self, y, x, delta, gamma, beta, eps, form, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "add_norm");
}

tdm_status tdm_linear(const tdm_backend *be, tdm_mat y, tdm_mat x, const tdm_weight *w,
                      const tdm_mat *bias, tdm_epilogue epilogue, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(w, TDM_EARG, "no weight");
    TDM_TRY(check_mat("x", &x, be->dtype, -1, w->in, err));
    TDM_TRY(check_padded("y", y, y.dtype == TDM_F32 ? TDM_F32 : be->dtype, x.rows, w->out, err));
    if (bias)
        TDM_TRY(check_mat("bias", bias, be->dtype, 1, w->out, err));
    TDM_REQUIRE((unsigned)epilogue <= TDM_TANH, TDM_EARG, "epilogue %d", (int)epilogue);
    TDM_REQUIRE(y.p != x.p || !x.rows, TDM_EARG, "y is x");
    TDM_TRY(be->ops->linear(be->self, y, x, w, bias, epilogue, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "linear");
}

static tdm_status check_attention(const tdm_backend *be, const tdm_mat *y, const tdm_mat *qkv,
                                  const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_step(step, err));
    TDM_TRY(check_mat("y", y, be->dtype, step->n_rows, -1, err));
    TDM_TRY(check_mat("qkv", qkv, be->dtype, step->n_rows, 3 * (int64_t)y->cols, err));
    TDM_REQUIRE(y->cols % TDM_HEAD == 0, TDM_EARG, "width %d, want a multiple of %d", y->cols,
                TDM_HEAD);
done:
    return st;
}

tdm_status tdm_attend_cached(const tdm_backend *be, tdm_mat y, tdm_mat qkv, tdm_kv *kv,
                             int32_t layer, const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(kv, TDM_EARG, "no cache");
    TDM_TRY(check_attention(be, &y, &qkv, step, err));
    TDM_REQUIRE(step->positions && step->slots && step->pages, TDM_EARG,
                "the step has no positions, no slots or no pages");
    TDM_REQUIRE(layer >= 0 && layer < kv->layers, TDM_EARG, "layer %d of %d", layer, kv->layers);
    TDM_REQUIRE(y.cols == kv->heads * TDM_HEAD, TDM_EARG, "width %d, the cache has %d heads of %d",
                y.cols, kv->heads, TDM_HEAD);
    TDM_TRY(be->ops->attend_cached(be->self, y, qkv, kv, layer, step, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "attend_cached");
}

tdm_status tdm_attend_packed(const tdm_backend *be, tdm_mat y, tdm_mat qkv, const tdm_step *step,
                             bool causal, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_attention(be, &y, &qkv, step, err));
    TDM_REQUIRE(step->starts, TDM_EARG, "the step has no starts");
    TDM_TRY(be->ops->attend_packed(be->self, y, qkv, step, causal, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "attend_packed");
}

tdm_status tdm_gather(const tdm_backend *be, tdm_mat y, tdm_mat x, const int32_t *rows,
                      tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_mat("x", &x, x.dtype, -1, -1, err));
    TDM_TRY(check_mat("y", &y, x.dtype, -1, x.cols, err));
    TDM_REQUIRE(rows || !y.rows, TDM_EARG, "no row numbers");
    TDM_TRY(be->ops->gather(be->self, y, x, rows, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "gather");
}

tdm_status tdm_classify(const tdm_backend *be, tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias,
                        tdm_err *err)
{
    enum { MOST_LABELS = 32 };
    tdm_status st = TDM_OK;
    TDM_TRY(check_mat("x", &x, be->dtype, -1, -1, err));
    TDM_TRY(check_mat("w", &w, TDM_F32, -1, x.cols, err));
    TDM_REQUIRE(w.rows > 0 && w.rows <= MOST_LABELS, TDM_EARG, "%lld labels, want 1 to %d",
                (long long)w.rows, MOST_LABELS);
    TDM_TRY(check_mat("bias", &bias, TDM_F32, 1, w.rows, err));
    TDM_TRY(check_mat("y", &y, TDM_F32, x.rows, w.rows, err));
    TDM_TRY(be->ops->classify(be->self, y, x, w, bias, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "classify");
}

tdm_status tdm_sample(const tdm_backend *be, const tdm_slots *state, const int32_t *slots,
                      tdm_mat logits, int32_t eos, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_padded("logits", logits, TDM_F32, -1, -1, err));
    TDM_REQUIRE((slots && state->tokens && state->positions && state->left && state->drawn &&
                 state->draws) || !logits.rows, TDM_EARG, "no slots, or a part of their state is NULL");
    TDM_TRY(be->ops->sample(be->self, state, slots, logits, eos, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "sample");
}

tdm_status tdm_token_stats(const tdm_backend *be, tdm_stat *stats, tdm_mat logits,
                           const int32_t *targets, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_padded("logits", logits, TDM_F32, -1, -1, err));
    TDM_REQUIRE((stats && targets) || !logits.rows, TDM_EARG, "no statistics or no targets");
    TDM_TRY(be->ops->token_stats(be->self, stats, logits, targets, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "token_stats");
}

tdm_status tdm_cross_stats(const tdm_backend *be, tdm_cross *stats, tdm_mat p, tdm_mat q,
                           const int32_t *targets, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_padded("p", p, TDM_F32, -1, -1, err));
    TDM_TRY(check_padded("q", q, TDM_F32, p.rows, p.cols, err));
    TDM_REQUIRE((stats && targets) || !p.rows, TDM_EARG, "no statistics or no targets");
    TDM_TRY(be->ops->cross_stats(be->self, stats, p, q, targets, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "cross_stats");
}

tdm_status tdm_top_tokens(const tdm_backend *be, tdm_top *top, int32_t k, tdm_mat logits,
                          const int32_t *targets, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_padded("logits", logits, TDM_F32, -1, -1, err));
    TDM_REQUIRE(k >= 1 && k <= TDM_TOP_MOST, TDM_EARG, "%d tokens of a row, want 1 to %d", k,
                TDM_TOP_MOST);
    TDM_REQUIRE(k <= logits.cols, TDM_EARG, "%d tokens of a row of %d", k, logits.cols);
    TDM_REQUIRE((top && targets) || !logits.rows, TDM_EARG, "no room for tokens or no targets");
    TDM_TRY(be->ops->top_tokens(be->self, top, k, logits, targets, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "top_tokens");
}

tdm_status tdm_sum_ranks(const tdm_backend *be, tdm_mat y, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (be->n_ranks == 0)
        return TDM_OK;
    TDM_TRY(check_mat("y", &y, y.dtype == TDM_F32 ? TDM_F32 : be->dtype, -1, -1, err));
    TDM_TRY(be->ops->sum_ranks(be->self, y, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "sum_ranks");
}

tdm_status tdm_join_ranks(const tdm_backend *be, tdm_mat y, tdm_mat x, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(be->n_ranks > 0, TDM_EARG, "this backend is no rank");
    TDM_TRY(check_mat("x", &x, TDM_F32, -1, -1, err));
    TDM_TRY(check_padded("y", y, TDM_F32, x.rows, -1, err));
    TDM_REQUIRE((int64_t)x.cols * be->n_ranks >= y.cols, TDM_EARG, "%d ranks of %d columns, y has %d", be->n_ranks,
                x.cols, y.cols);
    TDM_REQUIRE(y.p != x.p || !x.rows, TDM_EARG, "y is x");
    TDM_TRY(be->ops->join_ranks(be->self, y, x, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "join_ranks");
}
