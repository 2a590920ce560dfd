/* host/score.c - see score.h. A text of n tokens is n - 1 rows: what follows the last is not asked. */
#include "host/score.h"

#include <stdlib.h>
#include <string.h>

#include "host/pack.h"

/* On a device, 16384 rows keep matrix products at their best, and 1024 rows of logits at a time are enough to
 * read the output matrix at less than the cost of multiplying by it. Of the memory that the weights have left,
 * half. On a CPU logits stay in the cache. */
enum { DEVICE_ROWS = 16384, DEVICE_LOGITS = 1024, CPU_ROWS = 2048, CPU_LOGITS = 64, MEMORY_SHARE = 2 };
/* Their statistics go through one lane of the backend. */
enum { MOST_ROWS = TDM_LANE_BYTES / (int)sizeof(tdm_stat) };

/* A forward pass on its way: the texts order[from .. from + n). */
typedef struct {
    size_t from, n;
} score_batch;

struct tdm_scorer {
    const gpt2_model *model; /* borrowed */
    gpt2_run *run;
    int32_t rows;
    int32_t *tokens, *targets; /* [rows] */
    int32_t *starts;           /* [rows + 1] */
    score_batch lanes[TDM_LANES];
    uint64_t submitted, collected; /* batches; number i is in lane i % TDM_LANES */
    /* of the texts of one call, grown to the largest that was seen */
    size_t cap;
    int32_t *lengths; /* [cap] rows of each text */
    uint32_t *order;  /* [cap] */
    size_t *ends;     /* [cap] */
};

/* ---- opening ---- */

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* What the caller asks for, else what suits the backend. */
static gpt2_limits choose_limits(const gpt2_model *m, const tdm_score_options *options)
{
    const tdm_backend *be = gpt2_backend(m);
    const bool on_cpu = !strcmp(be->ops->name, "cpu");
    const int32_t context = gpt2_config(m)->n_context;
    gpt2_limits limits = {.context = context};
    limits.rows = options->rows ? options->rows : on_cpu ? CPU_ROWS : DEVICE_ROWS;
    if (limits.rows < context)
        limits.rows = context;
    limits.logits = options->logits ? options->logits : on_cpu ? CPU_LOGITS : DEVICE_LOGITS;
    limits.logits = least(limits.logits, limits.rows);
    const size_t memory = tdm_backend_memory(be) / MEMORY_SHARE;
    size_t cache = 0, scratch = 0;
    while (!options->rows && memory && limits.rows > context &&
           gpt2_run_bytes(be, gpt2_config(m), &limits, &cache, &scratch) && scratch > memory) {
        limits.rows = limits.rows / 2 > context ? limits.rows / 2 : context;
        limits.logits = least(limits.logits, limits.rows);
    }
    return limits;
}

tdm_status tdm_scorer_open(const gpt2_model *m, const tdm_score_options *options, tdm_scorer **out,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_scorer *s = calloc(1, sizeof *s);
    TDM_REQUIRE(s, TDM_ENOMEM, "scorer handle");
    TDM_REQUIRE(options->rows >= 0 && options->logits >= 0, TDM_EARG,
                "scoring %d tokens at once with the logits of %d", (int)options->rows,
                (int)options->logits);
    const gpt2_limits limits = choose_limits(m, options);
    TDM_REQUIRE(limits.rows <= MOST_ROWS, TDM_EARG, "scoring %d tokens at once, want at most %d",
                (int)limits.rows, MOST_ROWS);
    s->model = m;
    s->rows = limits.rows;
    TDM_TRY(gpt2_run_open(m, &limits, &s->run, err));
    s->tokens = calloc((size_t)s->rows, sizeof *s->tokens);
    s->targets = calloc((size_t)s->rows, sizeof *s->targets);
    s->starts = calloc((size_t)s->rows + 1, sizeof *s->starts);
    TDM_REQUIRE(s->tokens && s->targets && s->starts, TDM_ENOMEM, "batch of %d tokens", (int)s->rows);
    *out = s;
    s = NULL;
done:
    tdm_scorer_close(s);
    return st;
}

static void release_lists(tdm_scorer *s)
{
    free(s->lengths);
    free(s->order);
    free(s->ends);
    s->lengths = NULL;
    s->order = NULL;
    s->ends = NULL;
    s->cap = 0;
}

void tdm_scorer_close(tdm_scorer *s)
{
    if (!s)
        return;
    release_lists(s);
    gpt2_run_close(s->run);
    free(s->tokens);
    free(s->targets);
    free(s->starts);
    free(s);
}

int32_t tdm_scorer_rows(const tdm_scorer *s)
{
    return s->rows;
}

/* ---- scoring ---- */

static tdm_status grow_lists(tdm_scorer *s, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (n <= s->cap)
        return TDM_OK;
    release_lists(s);
    s->lengths = calloc(n, sizeof *s->lengths);
    s->order = calloc(n, sizeof *s->order);
    s->ends = calloc(n, sizeof *s->ends);
    TDM_REQUIRE(s->lengths && s->order && s->ends, TDM_ENOMEM, "lists of %zu texts", n);
    s->cap = n;
done:
    return st;
}

static tdm_status check_texts(const tdm_scorer *s, const tdm_score_text *texts, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_config *c = gpt2_config(s->model);
    TDM_REQUIRE(n <= UINT32_MAX, TDM_EARG, "%zu texts at once", n);
    for (size_t i = 0; i < n; i++) {
        TDM_REQUIRE(texts[i].n > 0, TDM_EARG, "text %zu has %d tokens", i, (int)texts[i].n);
        TDM_REQUIRE(texts[i].n <= c->n_context + 1, TDM_EARG, "text %zu has %d tokens, want at most %d",
                    i, (int)texts[i].n, c->n_context + 1);
        for (int32_t k = 0; k < texts[i].n; k++)
            TDM_REQUIRE(texts[i].ids[k] >= 0 && texts[i].ids[k] < c->n_vocab, TDM_EARG,
                        "text %zu: token %d is id %d, want 0 to %d", i, (int)k, (int)texts[i].ids[k],
                        c->n_vocab - 1);
    }
done:
    return st;
}

/* Put the texts order[from .. from + n) on their way. */
static tdm_status submit(tdm_scorer *s, const tdm_score_text *texts, size_t from, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int lane = (int)(s->submitted % TDM_LANES);
    int32_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        const tdm_score_text *t = &texts[s->order[from + i]];
        const size_t bytes = ((size_t)t->n - 1) * sizeof *t->ids;
        memcpy(s->tokens + rows, t->ids, bytes);
        memcpy(s->targets + rows, t->ids + 1, bytes);
        s->starts[i] = rows;
        rows += t->n - 1;
    }
    s->starts[n] = rows;
    const gpt2_texts batch = {rows, (int32_t)n, s->tokens, s->starts, s->targets};
    TDM_TRY(gpt2_score(s->run, &batch, lane, err));
    s->lanes[lane] = (score_batch){from, n};
    s->submitted++;
done:
    return st;
}

/* Wait for the oldest batch and hand out its statistics; texts NULL: to nobody. */
static tdm_status collect(tdm_scorer *s, const tdm_score_text *texts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_stat *stats = NULL;
    const int lane = (int)(s->collected++ % TDM_LANES);
    const score_batch *b = &s->lanes[lane];
    TDM_TRY(gpt2_scored(s->run, lane, &stats, err));
    for (size_t i = 0; texts && i < b->n; i++) {
        const tdm_score_text *t = &texts[s->order[b->from + i]];
        memcpy(t->stats, stats, ((size_t)t->n - 1) * sizeof *stats);
        stats += t->n - 1;
    }
done:
    return st;
}

tdm_status tdm_scorer_run(tdm_scorer *s, const tdm_score_text *texts, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(check_texts(s, texts, n, err));
    TDM_TRY(grow_lists(s, n, err));
    for (size_t i = 0; i < n; i++)
        s->lengths[i] = texts[i].n - 1;
    const size_t n_batches = tdm_pack(s->lengths, n, s->rows, 0, s->order, s->ends);
    for (size_t b = 0, from = 0; b < n_batches; from = s->ends[b++]) {
        if (s->submitted - s->collected == TDM_LANES)
            TDM_TRY(collect(s, texts, err));
        TDM_TRY(submit(s, texts, from, s->ends[b] - from, err));
    }
    while (s->collected < s->submitted)
        TDM_TRY(collect(s, texts, err));
done:
    while (s->collected < s->submitted) /* after a failure: nobody wants these */
        (void)collect(s, NULL, NULL);
    return st;
}
