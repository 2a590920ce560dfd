/* host/gpt2_decode.c - one token more for each of some texts, drawn without the host; see gpt2.h.
 *
 * Details that have caused bugs:
 * - Idle rows of a decoding step are zeros in the residual, but not behind a norm or a bias: what they
 *   compute is never looked at. */
#include <stdlib.h>
#include <string.h>

#include "host/gpt2_model.h"

/* ---- numbers of rows ---- */

static const int32_t CLASSES[] = {1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024};
enum { N_CLASSES = sizeof CLASSES / sizeof *CLASSES, CLASS_STEP = 512 };

/* Rows of class i; beyond the table they rise by CLASS_STEP. */
static int32_t class_rows(int32_t i)
{
    return i < N_CLASSES ? CLASSES[i] : CLASSES[N_CLASSES - 1] + (i - N_CLASSES + 1) * CLASS_STEP;
}

/* The smallest class of at least n rows. */
static int32_t class_of(int32_t n)
{
    int32_t i = 0;
    while (class_rows(i) < n)
        i++;
    return i;
}

int32_t gpt2_class_rows(const tdm_backend *be, int32_t n)
{
    return n > 0 && tdm_has_graphs(be) ? class_rows(class_of(n)) : n;
}

/* ---- the work of a rank ---- */

/* The operations of one decoding step over the first `rows` of row_slots. */
static tdm_status decode_rows(gpt2_work *w, int32_t rows, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_step step = {.n_rows = rows,
                           .n_seqs = rows,
                           .longest = 1,
                           .tokens = w->next_tokens,
                           .positions = w->next_positions,
                           .slots = w->row_slots,
                           .pages = w->pages};
    const tdm_slots state = {.tokens = w->next_tokens,
                             .positions = w->next_positions,
                             .left = w->left,
                             .drawn = w->drawn,
                             .draws = w->draws};
    TDM_TRY(gpt2_layers(w, &step, err));
    TDM_TRY(gpt2_head(w, gpt2_first(w->resid, rows), gpt2_first(w->proj, rows), err));
    TDM_TRY(tdm_sample(w->shard->be, &state, w->row_slots, gpt2_first(w->logits, rows), w->config->eos, err));
done:
    return st;
}

/* Bring row_slots up to date: the slots, then rows of nobody. */
static tdm_status list_slots(gpt2_work *w, const int32_t *slots, int32_t n, int32_t rows, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = (size_t)rows * sizeof *w->wanted;
    for (int32_t i = 0; i < rows; i++)
        w->wanted[i] = i < n ? slots[i] : -1;
    if (rows == w->n_listed && !memcmp(w->listed, w->wanted, bytes))
        goto done;
    w->n_listed = 0; /* should the upload fail */
    TDM_TRY(tdm_upload(w->shard->be, w->row_slots, w->wanted, bytes, err));
    memcpy(w->listed, w->wanted, bytes);
    w->n_listed = rows;
done:
    return st;
}

static tdm_status capture_class(gpt2_work *w, int32_t rows, tdm_graph **graph, tdm_err *err)
{
    const tdm_backend *be = w->shard->be;
    tdm_status st = tdm_graph_begin(be, err);
    if (st != TDM_OK)
        return st;
    st = decode_rows(w, rows, err);
    const tdm_status ended = tdm_graph_end(be, graph, st == TDM_OK ? err : NULL);
    return st == TDM_OK ? ended : st;
}

tdm_status gpt2_capture(gpt2_work *w, int32_t slots, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t n = class_of(slots) + 1, idle = 0;
    w->graphs = calloc((size_t)n, sizeof *w->graphs);
    TDM_REQUIRE(w->graphs, TDM_ENOMEM, "%d graphs", (int)n);
    for (; w->n_graphs < n; w->n_graphs++) {
        const int32_t rows = class_rows(w->n_graphs);
        /* CUDA loads a kernel when it is first used, which a capture may forbid, and products of other
         * numbers of rows may use others: idle rows go ahead */
        TDM_TRY(list_slots(w, &idle, 1, rows, err));
        TDM_TRY(decode_rows(w, rows, err));
        TDM_TRY(capture_class(w, rows, &w->graphs[w->n_graphs], err));
    }
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "a step of %d texts", class_rows(w->n_graphs));
}

typedef struct {
    gpt2_work *works;
    int32_t slot;
    const gpt2_next *next;
} start_job;

static tdm_status start_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const start_job *job = ctx;
    const gpt2_work *w = &job->works[rank];
    const gpt2_next next = *job->next;
    const int32_t slot = job->slot;
    TDM_TRY(tdm_upload(be, w->next_tokens + slot, &next.token, sizeof next.token, err));
    TDM_TRY(tdm_upload(be, w->next_positions + slot, &next.position, sizeof next.position, err));
    TDM_TRY(tdm_upload(be, w->left + slot, &next.left, sizeof next.left, err));
    TDM_TRY(tdm_upload(be, w->draws + slot, &next.draw, sizeof next.draw, err));
done:
    return st;
}

typedef struct {
    gpt2_work *works;
    const int32_t *slots;
    int32_t n, all; /* all: slots of the run */
    int lane;
} decode_job;

static tdm_status decode_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const decode_job *job = ctx;
    gpt2_work *w = &job->works[rank];
    const int32_t n = job->n, rows = gpt2_class_rows(be, n), all = job->all;
    const int lane = job->lane;
    TDM_TRY(list_slots(w, job->slots, n, rows, err));
    if (w->graphs)
        TDM_TRY(tdm_graph_run(be, w->graphs[class_of(n)], err));
    else
        TDM_TRY(decode_rows(w, rows, err));
    TDM_TRY(tdm_fetch_begin(be, lane, w->drawn, (size_t)all * sizeof *w->drawn, err));
done:
    return st;
}

/* ---- for all ranks ---- */

tdm_status gpt2_start(gpt2_run *r, int32_t slot, const gpt2_next *next, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(slot >= 0 && slot < r->limits.slots, TDM_EARG, "slot %d of %d", (int)slot,
                (int)r->limits.slots);
    TDM_REQUIRE(next->position >= 0 && next->left >= 1 && next->position < r->limits.context &&
                    next->left <= r->limits.context - next->position,
                TDM_EARG, "%d tokens from position %d, the context has %d", (int)next->left,
                (int)next->position, (int)r->limits.context);
    TDM_TRY(gpt2_check_tokens(r, &next->token, 1, err));
    TDM_TRY(tdm_each_rank(r->model->be, start_rank, &(start_job){r->works, slot, next}, err));
done:
    return st;
}

tdm_status gpt2_decode(gpt2_run *r, const int32_t *slots, int32_t n, int lane, tdm_err *err)
{
    tdm_status st = TDM_OK;
    decode_job job = {r->works, slots, n, r->limits.slots, lane};
    TDM_REQUIRE(n > 0 && n <= r->limits.slots, TDM_EARG, "%d texts of %d", (int)n, (int)r->limits.slots);
    for (int32_t i = 0; i < n; i++)
        TDM_REQUIRE(slots[i] >= 0 && slots[i] < r->limits.slots, TDM_EARG, "slot %d of %d", (int)slots[i],
                    (int)r->limits.slots);
    TDM_TRY(tdm_each_rank(r->model->be, decode_rank, &job, err));
done:
    return st;
}

tdm_status gpt2_drawn(gpt2_run *r, int lane, const int32_t **drawn, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int32_t rank = 0;
    const size_t bytes = (size_t)r->limits.slots * sizeof **drawn;
    TDM_TRY(gpt2_fetch(r, lane, err));
    *drawn = r->works[0].fetched;
    const size_t at = gpt2_first_difference(r, bytes, &rank);
    const size_t slot = at / sizeof **drawn;
    TDM_REQUIRE(at == bytes, TDM_EINTERNAL, "rank %d drew %d in slot %zu, rank 0 drew %d", (int)rank,
                (int)((const int32_t *)r->works[rank].fetched)[slot], slot, (int)(*drawn)[slot]);
done:
    return st;
}
