#include "host/batch.h"

#include <stdlib.h>

#include "host/batch_state.h"

/* ---- open and close ---- */

static gpt2_limits run_limits(const tdm_batch_limits *l)
{
    return (gpt2_limits){.slots = l->slots,
                         .pages = l->pages,
                         .context = l->context,
                         .rows = l->rows > l->slots ? l->rows : l->slots,
                         .logits = 1}; /* of the rows of prompts none are wanted */
}

bool tdm_batch_bytes(const tdm_backend *be, const tdm_config *config, const tdm_batch_limits *limits,
                     size_t *cache, size_t *scratch)
{
    const gpt2_limits run = run_limits(limits);
    return gpt2_run_bytes(be, config, &run, cache, scratch);
}

/* Host memory. */
static tdm_status carve(tdm_batch *b, tdm_err *err)
{
    const size_t rows = (size_t)b->limits.rows, slots = (size_t)b->limits.slots;
    const size_t pages = (size_t)b->text_pages;
    b->memory = malloc((slots * pages + pages + 6 * slots + 1 + 2 * rows) * sizeof *b->memory);
    b->slots = calloc(slots, sizeof *b->slots);
    if (!b->memory || !b->slots)
        return tdm_fail(err, TDM_ENOMEM, "batch of %d texts", (int)b->limits.slots);
    b->table = b->memory;
    b->prefix.pages = b->table + slots * pages;
    b->free_slots = b->prefix.pages + pages;
    b->queue = b->free_slots + slots;
    b->flights[0].slots = b->queue + slots;
    b->flights[1].slots = b->flights[0].slots + slots;
    b->seq_slots = b->flights[1].slots + slots;
    b->starts = b->seq_slots + slots;
    b->tokens = b->starts + slots + 1;
    b->positions = b->tokens + rows;
    for (size_t i = 0; i < slots * pages; i++)
        b->table[i] = -1;
    for (size_t i = 0; i < slots; i++)
        b->free_slots[i] = (int32_t)(slots - 1 - i);
    return TDM_OK;
}

tdm_status tdm_batch_open(const gpt2_model *model, const tdm_batch_limits *limits, tdm_batch **out,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t most = gpt2_config(model)->n_context;
    *out = NULL;
    tdm_batch *b = calloc(1, sizeof *b);
    TDM_REQUIRE(b, TDM_ENOMEM, "batch");
    TDM_REQUIRE(limits->slots > 0 && limits->slots <= TDM_MAX_BATCH && limits->rows > 0, TDM_EARG,
                "batch of %d texts and %d rows of prompts, want 1 to %d texts", (int)limits->slots,
                (int)limits->rows, TDM_MAX_BATCH);
    TDM_REQUIRE(limits->context > 0 && limits->context <= most, TDM_EARG,
                "texts of %d tokens, the context of this model is %d", (int)limits->context, (int)most);
    b->limits = *limits;
    b->text_pages = gpt2_text_pages(limits->context);
    TDM_REQUIRE(limits->pages >= b->text_pages, TDM_EARG, "%d pages, one text can need %d",
                (int)limits->pages, (int)b->text_pages);
    b->eos = gpt2_config(model)->eos;
    b->prefix.prompt = b->prefix.feeder = -1;
    b->credit_is_old = true;
    TDM_TRY(carve(b, err));
    /* Texts live for up to `context` steps; waiting prompts can make that more. */
    TDM_TRY(tdm_pages_open(limits->pages, 4 * limits->context + TDM_PAGE, &b->pages, err));
    const gpt2_limits run = run_limits(limits);
    TDM_TRY(gpt2_run_open(model, &run, &b->run, err));
    *out = b;
    b = NULL;
done:
    tdm_batch_close(b);
    return st;
}

void tdm_batch_close(tdm_batch *b)
{
    const int32_t *drawn = NULL;
    if (!b)
        return;
    for (; b->n_flights > 0; b->n_flights--) /* others will want the lanes */
        (void)gpt2_drawn(b->run, (int)((b->step - b->n_flights) % TDM_LANES), &drawn, NULL);
    gpt2_run_close(b->run);
    tdm_pages_close(b->pages);
    free(b->slots);
    free(b->memory);
    free(b);
}

int32_t tdm_batch_running(const tdm_batch *b)
{
    return b->n_running;
}

int32_t tdm_batch_drawn(const tdm_batch *b)
{
    return b->n_drawn;
}

/* ---- pages ---- */

tdm_status batch_forget_prefix(tdm_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int32_t i = 0; i < b->prefix.n_pages; i++)
        TDM_TRY(tdm_pages_drop(b->pages, b->prefix.pages[i], err));
    b->prefix.prompt = b->prefix.feeder = -1;
    b->prefix.n_pages = 0;
done:
    return st;
}

tdm_status batch_take_page(tdm_batch *b, int32_t i, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int32_t page = tdm_pages_take(b->pages);
    if (page < 0) {
        TDM_TRY(batch_forget_prefix(b, err));
        page = tdm_pages_take(b->pages);
    }
    TDM_REQUIRE(page >= 0, TDM_EINTERNAL, "no page left for slot %d", (int)i);
    batch_row(b, i)[b->slots[i].n_pages++] = page;
    b->table_changed = true;
done:
    return st;
}

tdm_status batch_fill_page(tdm_batch *b, int32_t i, tdm_err *err)
{
    tdm_status st = TDM_OK;
    batch_slot *s = &b->slots[i];
    if (s->copy_from < 0)
        return TDM_OK;
    TDM_TRY(gpt2_copy_page(b->run, batch_row(b, i)[s->n_pages - 1], s->copy_from, err));
    TDM_TRY(tdm_pages_drop(b->pages, s->copy_from, err));
    s->copy_from = -1;
done:
    return st;
}

/* ---- prompts ---- */

/* The prompt of the oldest in the queue has been fed, or those before it that it shares. */
static tdm_status leave_queue(tdm_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t i = b->queue[b->queue_first];
    batch_slot *s = &b->slots[i];
    b->queue_first = (b->queue_first + 1) % b->limits.slots;
    b->n_queued--;
    s->queued = false;
    if (b->prefix.feeder == i)
        b->prefix.feeder = -1;
    TDM_TRY(batch_fill_page(b, i, err));
done:
    return st;
}

/* As many tokens of prompts as a step has rows, oldest text first. */
static tdm_status feed_prompts(tdm_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_mat logits;
    int32_t n_fed = 0; /* texts at the head of the queue */
    gpt2_step step = {.tokens = b->tokens,
                      .positions = b->positions,
                      .starts = b->starts,
                      .slots = b->seq_slots};
    for (; n_fed < b->n_queued; n_fed++) {
        const int32_t i = b->queue[(b->queue_first + n_fed) % b->limits.slots];
        batch_slot *s = &b->slots[i];
        const int32_t wanted = batch_prompt_left(s), left = b->limits.rows - step.n_rows;
        const int32_t n = wanted < left ? wanted : left;
        if (n > 0) {
            b->starts[step.n_seqs] = step.n_rows;
            b->seq_slots[step.n_seqs++] = i;
        }
        for (int32_t k = 0; k < n; k++, s->position++) {
            b->tokens[step.n_rows] = s->text->tokens[s->position];
            b->positions[step.n_rows++] = s->position;
        }
        if (n < wanted)
            break;
    }
    b->starts[step.n_seqs] = step.n_rows;
    if (step.n_rows > 0)
        TDM_TRY(gpt2_forward(b->run, &step, &logits, err));
    for (; n_fed > 0; n_fed--)
        TDM_TRY(leave_queue(b, err));
done:
    return st;
}

/* ---- decoding ---- */

static bool feeds(const batch_slot *s)
{
    return s->text && !s->queued && s->position < s->text->max_tokens - 1;
}

/* Every text has the page that its next token goes to. */
static tdm_status grow(tdm_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int32_t i = 0; i < b->limits.slots; i++)
        if (feeds(&b->slots[i]) && b->slots[i].position / TDM_PAGE == b->slots[i].n_pages)
            TDM_TRY(batch_take_page(b, i, err));
    if (b->table_changed)
        TDM_TRY(gpt2_set_pages(b->run, b->table, err));
    b->table_changed = false;
done:
    return st;
}

static tdm_status decode(tdm_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int lane = (int)(b->step % TDM_LANES);
    batch_flight *f = &b->flights[lane];
    f->n = 0;
    f->step = b->step;
    for (int32_t i = 0; i < b->limits.slots; i++) {
        if (!feeds(&b->slots[i]))
            continue;
        b->slots[i].position++;
        f->slots[f->n++] = i;
    }
    if (f->n == 0)
        goto done;
    TDM_TRY(gpt2_decode(b->run, f->slots, f->n, lane, err));
    b->n_flights++;
    b->step++;
done:
    return st;
}

/* Append a drawn token. */
static void append(const tdm_batch *b, tdm_batch_text *t, int32_t id)
{
    if (id < 0) {
        t->state = TDM_TEXT_NON_FINITE;
    } else if (id == b->eos) {
        t->state = TDM_TEXT_ENDED;
    } else {
        t->tokens[t->n_tokens++] = id;
        t->state = t->n_tokens == t->max_tokens ? TDM_TEXT_FULL : TDM_TEXT_RUNNING;
    }
}

static tdm_status leave_slot(tdm_batch *b, int32_t i, tdm_err *err)
{
    tdm_status st = TDM_OK;
    batch_slot *s = &b->slots[i];
    int32_t *row = batch_row(b, i);
    s->text = NULL;
    for (; s->n_pages > 0; s->n_pages--) {
        TDM_TRY(tdm_pages_drop(b->pages, row[s->n_pages - 1], err));
        row[s->n_pages - 1] = -1;
    }
    b->n_running--;
    b->n_ended++;
    b->free_slots[b->limits.slots - 1 - b->n_running] = i;
done:
    return st;
}

/* Look at what the oldest flight drew. A text that ended in the step before it was idle in it. */
static tdm_status land(tdm_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int lane = (int)((b->step - b->n_flights) % TDM_LANES);
    const batch_flight *f = &b->flights[lane];
    const int32_t *drawn = NULL;
    TDM_TRY(gpt2_drawn(b->run, lane, &drawn, err));
    b->n_flights--;
    for (int32_t k = 0; k < f->n; k++) {
        const int32_t i = f->slots[k], id = drawn[i];
        const batch_slot *s = &b->slots[i];
        if (!s->text || s->since > f->step)
            continue;
        TDM_REQUIRE(id == TDM_NOT_FINITE || id >= 0, TDM_EINTERNAL, "slot %d drew %d in step %lld",
                    (int)i, (int)id, (long long)f->step);
        b->n_drawn++;
        append(b, s->text, id);
        if (s->text->state != TDM_TEXT_RUNNING)
            TDM_TRY(leave_slot(b, i, err));
    }
done:
    return st;
}

tdm_status tdm_batch_step(tdm_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    b->n_drawn = b->n_ended = 0;
    b->credit_is_old = true;
    if (b->n_running == 0)
        goto done;
    const int32_t before = b->n_flights;
    TDM_TRY(grow(b, err));
    TDM_TRY(feed_prompts(b, err));
    TDM_TRY(decode(b, err));
    if (before > 0)
        TDM_TRY(land(b, err));
    while (b->n_running == 0 && b->n_flights > 0)
        TDM_TRY(land(b, err));
done:
    return st;
}
