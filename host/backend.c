#include "host/backend.h"

/* The checks that are the same for every backend: pointers, shapes, formats. What an operation reads
 * from memory of the backend (tokens, positions, slots) only the backend can check. */


/* An f32 matrix of `rows` x `cols`; -1 stands for any number. */
static tdm_status check_mat(const char *name, const tdm_mat *m, int64_t rows, int64_t cols,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(m->dtype == TDM_F32, TDM_EARG, "%s is %s, want f32", name,
                tdm_dtype_name(m->dtype));
    TDM_REQUIRE(m->rows >= 0 && m->cols > 0, TDM_EARG, "%s is %lld x %d", name, (long long)m->rows,
                m->cols);
    TDM_REQUIRE(rows < 0 || m->rows == rows, TDM_EARG, "%s has %lld rows, want %lld", name,
                (long long)m->rows, (long long)rows);
    TDM_REQUIRE(cols < 0 || m->cols == cols, TDM_EARG, "%s has %d columns, want %lld", name,
                m->cols, (long long)cols);
    TDM_REQUIRE(m->p || !m->rows, TDM_EARG, "%s is NULL", name);
done:
    return st;
}

static tdm_status check_step(const tdm_step *step, bool cached, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(step->n_rows >= 0 && step->n_seqs >= 0, TDM_EARG, "a step of %d rows in %d texts",
                step->n_rows, step->n_seqs);
    TDM_REQUIRE(step->starts, TDM_EARG, "the step has no starts");
    TDM_REQUIRE(!cached || (step->positions && step->slots), TDM_EARG,
                "the step has no positions or no slots");
done:
    return st;
}

void tdm_backend_close(tdm_backend *be)
{
    if (be->ops)
        be->ops->close(be->self);
    *be = (tdm_backend){0};
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

tdm_status tdm_kv_open(const tdm_backend *be, int32_t layers, int32_t heads, int32_t slots,
                       int32_t context, tdm_kv **kv, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *kv = NULL;
    TDM_REQUIRE(layers > 0 && heads > 0 && slots > 0 && context > 0, TDM_EARG,
                "a cache of %d layers x %d heads x %d slots x %d tokens", layers, heads, slots,
                context);
    TDM_TRY(be->ops->kv_open(be->self, layers, heads, slots, context, kv, err));
done:
    return st;
}

void tdm_kv_close(const tdm_backend *be, tdm_kv *kv)
{
    if (kv)
        be->ops->kv_close(be->self, kv);
}

tdm_status tdm_embed(const tdm_backend *be, tdm_mat y, const tdm_step *step, tdm_mat words,
                     tdm_mat positions, int32_t first_position, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_mat("y", &y, step->n_rows, -1, err));
    TDM_REQUIRE(words.cols == y.cols && positions.cols == y.cols, TDM_EARG,
                "y has %d columns, the tables have %d and %d", y.cols, words.cols, positions.cols);
    TDM_REQUIRE(words.p && positions.p && words.rows > 0 && positions.rows > 0, TDM_EARG,
                "tables of %lld and %lld rows", (long long)words.rows, (long long)positions.rows);
    TDM_REQUIRE(step->tokens && step->positions, TDM_EARG, "the step has no tokens or positions");
    TDM_TRY(be->ops->embed(be->self, y, step, words, positions, first_position, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "embed");
}

tdm_status tdm_add_norm(const tdm_backend *be, tdm_mat y, tdm_mat x, const tdm_mat *delta,
                        tdm_mat gamma, tdm_mat beta, float eps, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_mat("x", &x, -1, -1, err));
    TDM_TRY(check_mat("y", &y, x.rows, x.cols, err));
    if (delta)
        TDM_TRY(check_mat("delta", delta, x.rows, x.cols, err));
    TDM_TRY(check_mat("gamma", &gamma, 1, x.cols, err));
    TDM_TRY(check_mat("beta", &beta, 1, x.cols, err));
    TDM_REQUIRE(eps > 0, TDM_EARG, "eps is %g", (double)eps);
    TDM_TRY(be->ops->add_norm(be->self, y, x, delta, gamma, beta, eps, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "add_norm");
}

tdm_status tdm_linear(const tdm_backend *be, tdm_mat y, tdm_mat x, const tdm_weight *w,
                      const tdm_mat *bias, tdm_epilogue epilogue, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(w, TDM_EARG, "no weight");
    TDM_TRY(check_mat("x", &x, -1, w->in, err));
    TDM_TRY(check_mat("y", &y, x.rows, w->out, err));
    if (bias)
        TDM_TRY(check_mat("bias", bias, 1, w->out, err));
    TDM_REQUIRE((unsigned)epilogue <= TDM_TANH, TDM_EARG, "epilogue %d", (int)epilogue);
    TDM_REQUIRE(y.p != x.p || !x.rows, TDM_EARG, "y is x");
    TDM_TRY(be->ops->linear(be->self, y, x, w, bias, epilogue, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "linear");
}

static tdm_status check_attention(const tdm_mat *y, const tdm_mat *qkv, const tdm_step *step,
                                  bool cached, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_step(step, cached, err));
    TDM_TRY(check_mat("y", y, step->n_rows, -1, err));
    TDM_TRY(check_mat("qkv", qkv, step->n_rows, 3 * (int64_t)y->cols, err));
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
    TDM_TRY(check_attention(&y, &qkv, step, true, err));
    TDM_REQUIRE(layer >= 0 && layer < kv->layers, TDM_EARG, "layer %d of %d", layer, kv->layers);
    TDM_REQUIRE(y.cols == kv->heads * TDM_HEAD, TDM_EARG, "width %d, the cache has %d heads of %d",
                y.cols, kv->heads, TDM_HEAD);
    TDM_TRY(be->ops->attend_cached(be->self, y, qkv, kv, layer, step, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "attend_cached");
}

tdm_status tdm_attend_packed(const tdm_backend *be, tdm_mat y, tdm_mat qkv, const tdm_step *step,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_attention(&y, &qkv, step, false, err));
    TDM_TRY(be->ops->attend_packed(be->self, y, qkv, step, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "attend_packed");
}

tdm_status tdm_gather(const tdm_backend *be, tdm_mat y, tdm_mat x, const int32_t *rows,
                      tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_mat("x", &x, -1, -1, err));
    TDM_TRY(check_mat("y", &y, -1, x.cols, err));
    TDM_REQUIRE(rows || !y.rows, TDM_EARG, "no row numbers");
    TDM_TRY(be->ops->gather(be->self, y, x, rows, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "gather");
}

tdm_status tdm_sample(const tdm_backend *be, int32_t *ids, tdm_mat logits, const tdm_draw *draws,
                      tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_mat("logits", &logits, -1, -1, err));
    TDM_REQUIRE((ids && draws) || !logits.rows, TDM_EARG, "no ids or no draws");
    TDM_TRY(be->ops->sample(be->self, ids, logits, draws, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "sample");
}
