/* host/generate_plan.c - how many texts at once, and how large a cache, fit the memory. */
#include "host/generate_plan.h"

#include <string.h>

#include "host/buf.h"

enum {
    CPU_TEXTS = 64,     /* where the matrix products of the CPU are at full speed */
    DEVICE_TEXTS = 1024,
    CPU_ROWS = 256,     /* of prompts in one step: more would make it no faster */
    DEVICE_ROWS = 2048,
};
static const size_t MOST_RESERVE = (size_t)512 << 20; /* for the driver, graphs, other programs */

static bool is_cpu(const tdm_backend *be)
{
    return !strcmp(be->ops->name, "cpu");
}

tdm_batch_limits tdm_generate_limits(const tdm_backend *be, const tdm_generate_options *o,
                                     int32_t context)
{
    return (tdm_batch_limits){.slots = o->batch,
                              .pages = o->pages > 0 ? o->pages : o->batch * gpt2_text_pages(context),
                              .context = context,
                              .rows = is_cpu(be) ? CPU_ROWS : DEVICE_ROWS};
}

typedef struct {
    const tdm_backend *be;
    const tdm_config *config;
    int32_t context, text_pages;
    size_t budget; /* bytes */
} planner;

/* Plan for this number of texts; false: it does not fit. plan->cache_bytes is then the least that it
 * would need. */
static bool try_batch(const planner *p, int32_t batch, tdm_generate_memory *plan)
{
    tdm_generate_options o = {.batch = batch};
    tdm_batch_limits limits = tdm_generate_limits(p->be, &o, p->context);
    size_t total = 0;
    *plan = (tdm_generate_memory){.batch = batch, .pages = limits.pages,
                                  .page_bytes = gpt2_page_bytes(p->be, p->config)};
    if (!tdm_batch_bytes(p->be, p->config, &limits, &plan->cache_bytes, &plan->scratch_bytes) ||
        !tdm_add_size(plan->cache_bytes, plan->scratch_bytes, &total)) {
        plan->cache_bytes = SIZE_MAX - plan->scratch_bytes;
        total = SIZE_MAX;
    }
    if (total <= p->budget || is_cpu(p->be))
        return total <= p->budget;
    /* Fewer pages than its texts could fill: one for each, and enough for the longest. */
    const int32_t least = batch > p->text_pages ? batch : p->text_pages;
    const size_t left = p->budget > plan->scratch_bytes ? p->budget - plan->scratch_bytes : 0;
    const size_t fit = left / plan->page_bytes;
    plan->pages = fit > (size_t)least ? (int32_t)fit : least; /* fewer than all: an int32 */
    plan->cache_bytes = (size_t)plan->pages * plan->page_bytes;
    return fit >= (size_t)least;
}

/* The largest batch up to `most` that fits and, at full length, fills no more than twice its cache;
 * at least 1. */
static int32_t choose_batch(const planner *p, int32_t most)
{
    tdm_generate_memory plan;
    int32_t batch = most;
    for (; batch > 1; batch--)
        if (try_batch(p, batch, &plan) &&
            (int64_t)batch * p->text_pages <= 2 * (int64_t)plan.pages)
            break;
    return batch;
}

static tdm_status refuse(const planner *p, const tdm_generate_memory *plan, size_t memory,
                         tdm_err *err)
{
    tdm_generate_memory tried = *plan;
    size_t total = SIZE_MAX;
    int32_t fits = plan->batch - 1;
    (void)tdm_add_size(plan->cache_bytes, plan->scratch_bytes, &total);
    while (fits > 0 && !try_batch(p, fits, &tried))
        fits--;
    if (fits == 0)
        return tdm_fail(err, TDM_ENOMEM,
                        "one text of %d tokens takes %zu MiB beside the weights, %zu MiB are available",
                        (int)p->context, (tried.cache_bytes + tried.scratch_bytes) >> 20, memory >> 20);
    return tdm_fail(err, TDM_ENOMEM,
                    "batch %d takes %zu MiB beside the weights, %zu MiB are available; --batch %d fits",
                    (int)plan->batch, total >> 20, memory >> 20, (int)fits);
}

tdm_status tdm_generate_plan(const tdm_backend *be, const tdm_config *config,
                             const tdm_generate_options *o, bool has_prompts, size_t memory,
                             tdm_generate_memory *plan, tdm_err *err)
{
    const bool cpu = is_cpu(be);
    const size_t reserve = memory / 20 < MOST_RESERVE ? memory / 20 : MOST_RESERVE;
    planner p = {.be = be, .config = config, .budget = memory};
    int32_t batch = o->batch;
    p.context = tdm_generate_context(o, config, has_prompts);
    p.text_pages = gpt2_text_pages(p.context);
    if (!cpu)
        p.budget -= reserve;
    if (memory == 0)
        p.budget = batch > 0 ? SIZE_MAX : 0; /* what is asked for is tried; else the least */
    if (batch == 0)
        batch = cpu ? CPU_TEXTS : DEVICE_TEXTS;
    if (!has_prompts && o->n < (uint64_t)batch)
        batch = (int32_t)o->n;
    if (o->batch == 0) {
        planner half = p; /* the system's memory is not ours alone */
        half.budget /= 2;
        batch = choose_batch(cpu ? &half : &p, batch);
    }
    if (!try_batch(&p, batch, plan) && memory > 0)
        return refuse(&p, plan, memory, err);
    return TDM_OK;
}
