#include "tools/model_needs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detector/roberta.h"
#include "host/generate.h"
#include "host/gpt2.h"

typedef struct {
    model_needs *needs;
    const tdm_checkpoint *ck;
    size_t last; /* where the last problem starts in needs->problems */
    tdm_err *err;
} check;

/* Note a line, unless it is the last one again: a tied word table is asked for twice. */
static tdm_status problem(check *c, const char *line)
{
    tdm_buf *lines = &c->needs->problems;
    if (c->needs->n_problems && strcmp(lines->p + c->last, line) == 0)
        return TDM_OK;
    c->last = lines->len;
    c->needs->n_problems++;
    return tdm_buf_put(lines, line, strlen(line) + 1, c->err);
}

/* One tensor that the loader would ask for: a tdm_see_tensor. */
static tdm_status see(void *ctx, const char *name, tdm_slice rows, tdm_slice cols, tdm_tensor_role role)
{
    check *c = ctx;
    tdm_err why = {0};
    const tdm_tensor *t = NULL;
    if (tdm_checkpoint_expect(c->ck, name, rows.size, cols.size, &t, &why) != TDM_OK)
        return problem(c, why.msg);
    tensor_use *use = &c->needs->use[t - tdm_checkpoint_at(c->ck, 0)];
    const uint64_t values = t->bytes / tdm_dtype_size(t->dtype);
    if (*use != TENSOR_USED)
        c->needs->parameters += values;
    *use = TENSOR_USED;
    c->needs->weight_bytes += role == TDM_AS_TABLE ? t->bytes : values * sizeof(float);
    return TDM_OK;
}

static tdm_status note_rest(check *c, bool (*ignores)(const char *name))
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < tdm_checkpoint_count(c->ck); i++) {
        const char *name = tdm_checkpoint_at(c->ck, i)->name;
        char line[256];
        if (c->needs->use[i] == TENSOR_USED)
            continue;
        if (ignores(name)) {
            c->needs->use[i] = TENSOR_IGNORED;
            continue;
        }
        snprintf(line, sizeof line, "tensor %.200s does not belong to this model", name);
        TDM_TRY(problem(c, line));
    }
done:
    return st;
}

/* What `tandem generate` allocates on the CPU when nobody says how much at once and memory is no limit. */
static tdm_status plan_run(model_needs *out, const tdm_config *config, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_backend be = {0};
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_memory plan;
    o.n = UINT64_MAX;
    o.batch = 0;
    TDM_TRY(tdm_open_cpu(1, &be, err));
    if (tdm_generate_plan(&be, config, &o, false, SIZE_MAX, &plan, NULL) == TDM_OK)
        out->run_texts = plan.batch; /* else 0: no machine has that much */
    out->run_cache_bytes = plan.cache_bytes;
    out->run_scratch_bytes = plan.scratch_bytes;
    out->token_bytes = tdm_kv_page_bytes(&be, config->n_layer, config->n_head) / TDM_PAGE;
done:
    tdm_backend_close(&be);
    return st;
}

/* On GPUs that nobody has to have. */
static tdm_status plan_gpus(model_needs *out, const tdm_checkpoint *ck, const tdm_config *config, tdm_err *err)
{
    static const int32_t RANKS[MODEL_NEEDS_GPUS] = {1, 2, 4, 8};
    tdm_status st = TDM_OK;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_backend gpu = tp_imagined_device();
    tp_job job = {.model = {ck, config}, .generate = config->arch == TDM_GPT2 ? &o : NULL};
    int64_t useful = 0;
    o.n = UINT64_MAX;
    TDM_TRY(tp_useful(&job, &gpu, &useful, err));
    job.batch = job.generate ? 0 : useful / config->n_context;
    for (int i = 0; i < MODEL_NEEDS_GPUS; i++) {
        if (RANKS[i] > 1 && (RANKS[i] > config->n_head || RANKS[i] > config->n_inner / 64))
            break;
        gpu.n_ranks = RANKS[i] > 1 ? RANKS[i] : 0;
        out->on_gpus[i].ranks = RANKS[i];
        TDM_TRY(tp_plan(&job, &gpu, useful, SIZE_MAX, &out->on_gpus[i].share, err));
        out->n_on_gpus++;
    }
done:
    return st;
}

tdm_status model_needs_check(model_needs *out, const tdm_checkpoint *ck, const tdm_config *config,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    check c = {.needs = out, .ck = ck, .err = err};
    *out = (model_needs){.use = calloc(tdm_checkpoint_count(ck) + 1, sizeof *out->use)};
    TDM_REQUIRE(out->use, TDM_ENOMEM, "list of tensors");
    if (config->arch == TDM_GPT2) {
        TDM_TRY(gpt2_each_tensor(ck, config, 0, 0, see, &c));
        TDM_TRY(note_rest(&c, gpt2_ignores));
        TDM_TRY(plan_run(out, config, err));
    } else {
        TDM_TRY(roberta_each_tensor(ck, config, 0, 0, see, &c));
        TDM_TRY(note_rest(&c, roberta_ignores));
    }
    if (out->n_problems == 0)
        TDM_TRY(plan_gpus(out, ck, config, err));
done:
    if (st != TDM_OK)
        model_needs_free(out);
    return st;
}

void model_needs_free(model_needs *needs)
{
    free(needs->use);
    tdm_buf_free(&needs->problems);
    *needs = (model_needs){0};
}
