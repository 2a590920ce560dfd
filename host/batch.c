#include "host/batch.h"

#include <stdlib.h>

/* Rows of a step beyond one per text. More would make the matrix products of a prompt no faster. */
enum { PROMPT_ROWS = 256 };

typedef struct {
    tdm_batch_text *text; /* borrowed; NULL: free */
    int32_t n_fed;  /* tokens whose keys and values are in the cache */
    int32_t n_rows; /* of this step */
} slot;

struct tdm_batch {
    const tdm_backend *be; /* borrowed */
    gpt2_run *run;
    int32_t n_slots, n_running, n_drawn, context, max_rows, eos;
    slot *slots; /* [n_slots] */
    tdm_slots state;     /* [n_slots] in the backend's memory */
    int32_t *rows_device;
    void *state_memory;
    /* one step; host memory, one allocation behind `memory` */
    int32_t *memory;
    int32_t *tokens, *positions;                     /* [max_rows] */
    int32_t *starts, *seq_slots, *logit_rows, *ids;  /* [n_slots] (starts: + 1) */
    int32_t *logit_slots;                            /* [n_slots] whose logits these are */
    tdm_draw *draws;                                 /* [n_slots] */
};

int32_t tdm_batch_rows(int32_t slots)
{
    return slots + PROMPT_ROWS;
}

/* Host memory of one step. */
static tdm_status carve(tdm_batch *b, tdm_err *err)
{
    const size_t rows = (size_t)b->max_rows, slots = (size_t)b->n_slots;
    b->memory = malloc((2 * rows + 5 * slots + 1) * sizeof *b->memory);
    b->slots = calloc(slots, sizeof *b->slots);
    b->draws = calloc(slots, sizeof *b->draws);
    if (!b->memory || !b->slots || !b->draws)
        return tdm_fail(err, TDM_ENOMEM, "batch of %d texts", (int)b->n_slots);
    b->tokens = b->memory;
    b->positions = b->tokens + rows;
    b->starts = b->positions + rows;
    b->seq_slots = b->starts + slots + 1;
    b->logit_rows = b->seq_slots + slots;
    b->logit_slots = b->logit_rows + slots;
    b->ids = b->logit_slots + slots;
    return TDM_OK;
}

tdm_status tdm_batch_open(const gpt2_model *model, int32_t slots, int32_t context, tdm_batch **out,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_batch *b = calloc(1, sizeof *b);
    TDM_REQUIRE(b, TDM_ENOMEM, "batch");
    TDM_REQUIRE(slots > 0 && slots <= TDM_MAX_BATCH, TDM_EARG, "batch of %d texts, want 1 to %d",
                (int)slots, TDM_MAX_BATCH);
    b->be = gpt2_backend(model);
    b->n_slots = slots;
    b->context = context;
    b->max_rows = tdm_batch_rows(slots);
    b->eos = gpt2_config(model)->eos;
    TDM_TRY(carve(b, err));
    const size_t n = (size_t)slots;
    TDM_TRY(tdm_alloc(b->be, n * (sizeof(tdm_draw) + 5 * sizeof(int32_t)), &b->state_memory, err));
    b->state.draws = b->state_memory;
    b->state.tokens = (int32_t *)(b->state.draws + n);
    b->state.positions = b->state.tokens + n;
    b->state.left = b->state.positions + n;
    b->state.drawn = b->state.left + n;
    b->rows_device = b->state.drawn + n;
    TDM_TRY(gpt2_run_open(model,
                          &(gpt2_limits){.slots = slots,
                                         .pages = slots * gpt2_text_pages(context),
                                         .context = context,
                                         .rows = b->max_rows,
                                         .logits = slots},
                          &b->run, err));
    *out = b;
    b = NULL;
done:
    tdm_batch_close(b);
    return st;
}

void tdm_batch_close(tdm_batch *b)
{
    if (!b)
        return;
    gpt2_run_close(b->run);
    if (b->be)
        tdm_release(b->be, b->state_memory);
    free(b->draws);
    free(b->slots);
    free(b->memory);
    free(b);
}

bool tdm_batch_has_room(const tdm_batch *b)
{
    return b->n_running < b->n_slots;
}

int32_t tdm_batch_running(const tdm_batch *b)
{
    return b->n_running;
}

int32_t tdm_batch_drawn(const tdm_batch *b)
{
    return b->n_drawn;
}

tdm_status tdm_batch_admit(tdm_batch *b, tdm_batch_text *text, tdm_err *err)
{
    if (text->n_prompt < 1 || text->n_prompt >= text->max_tokens ||
        text->max_tokens > b->context + 1 || text->n_tokens != text->n_prompt)
        return tdm_fail(err, TDM_EARG, "a text of %d tokens, %d at most, does not fit a context of %d",
                        (int)text->n_prompt, (int)text->max_tokens, (int)b->context);
    for (int32_t i = 0; i < b->n_slots; i++) {
        if (b->slots[i].text)
            continue;
        b->slots[i] = (slot){.text = text};
        b->n_running++;
        text->state = TDM_TEXT_RUNNING;
        return TDM_OK;
    }
    return tdm_fail(err, TDM_EARG, "all %d slots of the batch are taken", (int)b->n_slots);
}

/* How many rows each text gets: one where one is missing, so that no running text waits; what is
 * left of the step goes to prompts, in the order of their slots. */
static void share_rows(tdm_batch *b)
{
    int32_t left = b->max_rows - b->n_running;
    for (int32_t i = 0; i < b->n_slots; i++) {
        slot *s = &b->slots[i];
        if (!s->text)
            continue;
        const int32_t more = s->text->n_tokens - s->n_fed - 1; /* beyond the first */
        const int32_t granted = more < left ? more : left;
        s->n_rows = 1 + granted;
        left -= granted;
    }
}

static gpt2_step build_step(tdm_batch *b)
{
    gpt2_step step = {.tokens = b->tokens,
                      .positions = b->positions,
                      .starts = b->starts,
                      .slots = b->seq_slots,
                      .logit_rows = b->logit_rows};
    share_rows(b);
    for (int32_t i = 0; i < b->n_slots; i++) {
        slot *s = &b->slots[i];
        if (!s->text)
            continue;
        b->starts[step.n_seqs] = step.n_rows;
        b->seq_slots[step.n_seqs++] = i;
        for (int32_t j = 0; j < s->n_rows; j++, step.n_rows++) {
            b->tokens[step.n_rows] = s->text->tokens[s->n_fed + j];
            b->positions[step.n_rows] = s->n_fed + j;
        }
        s->n_fed += s->n_rows;
        if (s->n_fed < s->text->n_tokens)
            continue; /* more of the prompt to come */
        b->logit_rows[step.n_logits] = step.n_rows - 1;
        b->logit_slots[step.n_logits] = i;
        b->draws[step.n_logits] = s->text->draw;
        b->draws[step.n_logits++].position = (uint32_t)(s->text->n_tokens - s->text->n_prompt);
    }
    b->starts[step.n_seqs] = step.n_rows;
    return step;
}

/* Append a drawn token, and free the slot if the text is complete. */
static void append(tdm_batch *b, slot *s, int32_t id)
{
    tdm_batch_text *t = s->text;
    if (id < 0)
        t->state = TDM_TEXT_NON_FINITE;
    else if (id == b->eos)
        t->state = TDM_TEXT_ENDED;
    else {
        t->tokens[t->n_tokens++] = id;
        t->state = t->n_tokens == t->max_tokens ? TDM_TEXT_FULL : TDM_TEXT_RUNNING;
    }
    if (t->state == TDM_TEXT_RUNNING)
        return;
    s->text = NULL;
    b->n_running--;
}

tdm_status tdm_batch_step(tdm_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_mat logits;
    if (b->n_running == 0)
        return TDM_OK;
    const gpt2_step step = build_step(b);
    b->n_drawn = step.n_logits;
    TDM_TRY(gpt2_forward(b->run, &step, &logits, err));
    if (step.n_logits == 0)
        goto done;
    const size_t bytes = (size_t)step.n_logits * sizeof *b->ids;
    for (int32_t i = 0; i < step.n_logits; i++)
        b->ids[i] = i;
    TDM_TRY(tdm_upload(b->be, b->rows_device, b->ids, bytes, err));
    TDM_TRY(tdm_upload(b->be, b->state.positions, b->ids, bytes, err));
    TDM_TRY(tdm_upload(b->be, b->state.draws, b->draws, (size_t)step.n_logits * sizeof *b->draws, err));
    TDM_TRY(tdm_sample(b->be, &b->state, b->rows_device, logits, b->eos, err));
    TDM_TRY(tdm_download(b->be, b->ids, b->state.drawn, bytes, err));
    TDM_TRY(tdm_sync(b->be, err));
    for (int32_t i = 0; i < step.n_logits; i++)
        append(b, &b->slots[b->logit_slots[i]], b->ids[i]);
done:
    return st;
}
