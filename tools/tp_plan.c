#include "tools/tp_plan.h"

#include "detector/detect.h"
#include "detector/roberta.h"
#include "host/buf.h"
#include "host/gpt2.h"
#include "host/score.h"

/* ---- weights ---- */

static tdm_status weigh_model(const tp_model *m, tdm_dtype act, int32_t rank, int32_t n_ranks, size_t *bytes,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_weight_plan plan = {.ck = m->ck, .act = act, .err = err};
    if (m->ck)
        st = (m->config->arch == TDM_GPT2 ? gpt2_each_tensor : roberta_each_tensor)(m->ck, m->config, rank, n_ranks,
                                                                                    tdm_plan_tensor, &plan);
    *bytes = plan.bytes;
    return st;
}

/* Of the rank that has most; n_ranks 0: of one that stands alone. */
static tdm_status weigh(const tp_job *job, tdm_dtype act, int32_t n_ranks, size_t *most, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *most = 0;
    for (int32_t rank = 0; rank == 0 || rank < n_ranks; rank++) {
        size_t model = 0, observer = 0;
        TDM_TRY(weigh_model(&job->model, act, rank, n_ranks, &model, err));
        TDM_TRY(weigh_model(&job->observer, act, rank, n_ranks, &observer, err));
        if (!tdm_add_size(model, observer, &model))
            model = SIZE_MAX;
        *most = model > *most ? model : *most;
    }
done:
    return st;
}

/* ---- writing ---- */

/* The job's options for planning: the number of documents is what limits the batch, with prompts or without. */
static tdm_generate_options options_of(const tp_job *job, int64_t most)
{
    tdm_generate_options o = *job->generate;
    o.length = tdm_generate_context(&o, job->model.config, job->has_prompts);
    if (job->has_prompts)
        o.n = UINT64_MAX;
    if (job->batch > 0 && (uint64_t)job->batch < o.n)
        o.n = (uint64_t)job->batch;
    if (most > 0 && (uint64_t)most < o.n)
        o.n = (uint64_t)most;
    o.batch = 0;
    return o;
}

static void plan_writing(const tp_job *job, const tdm_backend *be, int64_t most, size_t memory, tp_share *out)
{
    const tdm_generate_options o = options_of(job, most);
    tdm_generate_memory plan;
    if (tdm_generate_plan(be, job->model.config, &o, false, memory, &plan, NULL) != TDM_OK)
        return;
    out->cache = plan.cache_bytes;
    out->scratch = plan.scratch_bytes;
    out->batch = plan.pages / gpt2_text_pages(o.length);
}

static tdm_status useful_texts(const tp_job *job, const tdm_backend *be, int64_t *batch, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t weights = 0;
    tp_share largest = {0};
    const tdm_generate_options o = options_of(job, 0);
    TDM_TRY(weigh(job, be->dtype, 0, &weights, err));
    const size_t pages = (size_t)gpt2_text_pages(o.length);
    const size_t half = gpt2_page_bytes(be, job->model.config) / 2 * pages;
    const size_t texts = weights / half + (weights % half != 0);
    plan_writing(job, be, 0, SIZE_MAX, &largest);
    *batch = job->batch == 0 && texts < (size_t)largest.batch ? (int64_t)texts : largest.batch;
done:
    return st;
}

/* ---- reading ---- */

/* Rows of a forward pass in the memory of a device of which the weights take a part; memory 0: no limit. */
static void plan_reading(const tp_job *job, const tdm_backend *be, size_t memory, tp_share *out)
{
    const tdm_config *c = job->model.config;
    int32_t rows = 0;
    if (c->arch == TDM_ROBERTA) {
        const tdm_detect_options o = {.batch = job->batch};
        tdm_detector_plan(be, c, &o, memory, &rows, &out->scratch);
    } else {
        const int64_t asked = job->batch * c->n_context;
        const tdm_score_options o = {.rows = asked < INT32_MAX ? (int32_t)asked : INT32_MAX, .top = job->top};
        tdm_scorer_plan(be, c, job->observer.config, &o, memory ? memory - out->weights : 0, &rows, &out->scratch);
    }
    if (!memory || out->scratch <= memory - out->weights)
        out->batch = rows;
}

/* ---- both ---- */

tdm_status tp_useful(const tp_job *job, const tdm_backend *be, int64_t *batch, tdm_err *err)
{
    enum { GOOD_ROWS = 8192 }; /* from about there on a device's matrix products are at their best */
    tp_share largest = {0};
    if (job->generate)
        return useful_texts(job, be, batch, err);
    plan_reading(job, be, 0, &largest);
    *batch = job->batch == 0 && largest.batch > GOOD_ROWS ? GOOD_ROWS : largest.batch;
    return TDM_OK;
}

tdm_status tp_plan(const tp_job *job, const tdm_backend *be, int64_t most, size_t memory, tp_share *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = (tp_share){0};
    TDM_TRY(weigh(job, be->dtype, be->n_ranks, &out->weights, err));
    if (out->weights >= memory)
        goto done;
    if (job->generate)
        plan_writing(job, be, most, memory - out->weights, out);
    else
        plan_reading(job, be, memory, out);
done:
    return st;
}

/* ---- a device that is not there ---- */

static size_t f16_page_bytes(void *self, int32_t layers, int32_t heads)
{
    (void)self;
    return (size_t)layers * (size_t)heads * 2 * TDM_PAGE * TDM_HEAD * tdm_dtype_size(TDM_F16);
}

static tdm_status refuse_graph(void *self, tdm_err *err)
{
    (void)self;
    return tdm_fail(err, TDM_EINTERNAL, "a graph on a device that is only planned for");
}

tdm_backend tp_imagined_device(void)
{
    static const tdm_ops OPS = {.name = "cuda", .kv_page_bytes = f16_page_bytes, .graph_begin = refuse_graph};
    return (tdm_backend){.ops = &OPS, .dtype = TDM_F16};
}
