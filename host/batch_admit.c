/* host/batch_admit.c - who may begin, and with which pages. */
#include "host/batch_state.h"

/* ---- room ---- */

/* Pages that a text fills at most. */
static int32_t most_pages(const tdm_batch_text *text)
{
    return gpt2_text_pages(text->max_tokens - 1);
}

/* Whether the pages of the prompt admitted last are this text's too. */
static bool shares(const tdm_batch *b, const tdm_batch_text *text)
{
    return text->prompt >= 0 && text->prompt == b->prefix.prompt &&
           text->n_prompt == b->prefix.n_prompt;
}

/* Step in which a text is ready when so many rows of prompts are fed up to and with its own. */
static int32_t wait_for(const tdm_batch *b, int64_t rows)
{
    return rows > 0 ? (int32_t)((rows - 1) / b->limits.rows) : 0;
}

static void claim_slot(tdm_batch *b, int32_t i, int32_t wait)
{
    const batch_slot *s = &b->slots[i];
    const int32_t position = s->queued ? s->text->n_prompt - 1 : s->position;
    tdm_pages_claim(b->pages, &(tdm_page_claim){.pages = batch_row(b, i),
                                                .n_pages = s->n_pages,
                                                .position = position,
                                                .wait = wait,
                                                .feeds = s->text->max_tokens - 1 - position});
    if (s->copy_from >= 0)
        tdm_pages_claim(b->pages, &(tdm_page_claim){.pages = &s->copy_from, .n_pages = 1, .wait = wait});
}

/* Whether the pages suffice if this text is admitted, as one that shares the prefix or as another. */
static bool pages_suffice(tdm_batch *b, const tdm_batch_text *text, bool sharing)
{
    if (((int64_t)b->n_running + 1) * b->text_pages < b->limits.pages)
        return true; /* whatever they do; one more is for a copy */
    int64_t rows = 0;
    const int32_t last = text->n_prompt - 1; /* position of the last token of the prompt */
    tdm_pages_forecast(b->pages);
    for (int32_t i = 0; i < b->limits.slots; i++)
        if (b->slots[i].text && !b->slots[i].queued)
            claim_slot(b, i, 0);
    for (int32_t i = 0; i < b->n_queued; i++) {
        const int32_t s = b->queue[(b->queue_first + i) % b->limits.slots];
        rows += batch_prompt_left(&b->slots[s]);
        claim_slot(b, s, wait_for(b, rows));
    }
    const int32_t shared = sharing ? last / TDM_PAGE : 0;
    const bool waits = sharing ? b->prefix.feeder >= 0 : last > 0;
    rows += sharing ? 0 : last;
    tdm_pages_claim(b->pages, &(tdm_page_claim){.pages = b->prefix.pages,
                                                .n_pages = shared,
                                                .fresh = last / TDM_PAGE + 1 - shared,
                                                .position = last,
                                                .wait = waits ? wait_for(b, rows) : 0,
                                                .feeds = text->max_tokens - 1 - last});
    if (sharing && shared < b->prefix.n_pages) /* what its last page becomes a copy of */
        tdm_pages_claim(b->pages, &(tdm_page_claim){.pages = b->prefix.pages + shared, .n_pages = 1});
    return tdm_pages_suffice(b->pages);
}

/* Where the cache cannot hold all slots' texts at full length, their ends must be spread, or all would
 * be long at the same time. So they begin at the pace at which as many as it can hold on average, in
 * all stages of growth, would follow each other; and one more for each that ended. */
static bool in_time(tdm_batch *b, const tdm_batch_text *text)
{
    const int32_t pages = most_pages(text);
    if ((int64_t)b->limits.slots * pages <= b->limits.pages)
        return true;
    if (b->credit_is_old) {
        const double held = 2.0 * b->limits.pages / (pages + 1);
        const double texts = held < b->limits.slots ? held : b->limits.slots;
        b->credit = (b->credit < 0 ? b->credit : 0) + b->n_ended +
                    texts / (text->max_tokens - text->n_prompt);
        b->credit_is_old = false;
    }
    return b->credit > 0 || b->n_running == 0;
}

bool tdm_batch_has_room(tdm_batch *b, const tdm_batch_text *text)
{
    if (b->n_running == b->limits.slots || !in_time(b, text))
        return false;
    if (pages_suffice(b, text, shares(b, text)))
        return true;
    /* Alone, a text has room that had none beside the prefix: it is fed again. */
    if (b->n_running == 0)
        (void)batch_forget_prefix(b, NULL); /* should that fail, its pages are missed in admit */
    return b->n_running == 0;
}

/* ---- admission ---- */

/* A text with the prompt of the one before: its full pages, and a copy of what is in the last one. */
static tdm_status share_prefix(tdm_batch *b, int32_t i, tdm_err *err)
{
    tdm_status st = TDM_OK;
    batch_slot *s = &b->slots[i];
    const int32_t fed = s->text->n_prompt - 1, full = fed / TDM_PAGE;
    for (; s->n_pages < full; s->n_pages++) {
        TDM_TRY(tdm_pages_share(b->pages, b->prefix.pages[s->n_pages], err));
        batch_row(b, i)[s->n_pages] = b->prefix.pages[s->n_pages];
    }
    s->position = fed;
    s->queued = b->prefix.feeder >= 0;
    if (full < b->prefix.n_pages) {
        TDM_TRY(tdm_pages_share(b->pages, b->prefix.pages[full], err));
        s->copy_from = b->prefix.pages[full];
    }
    TDM_TRY(batch_take_page(b, i, err)); /* the prefix may be gone after that */
    if (!s->queued)
        TDM_TRY(batch_fill_page(b, i, err));
done:
    return st;
}

/* A prompt of its own; its pages are kept for those that may follow with the same one. */
static tdm_status open_prompt(tdm_batch *b, int32_t i, tdm_err *err)
{
    tdm_status st = TDM_OK;
    batch_slot *s = &b->slots[i];
    const int32_t fed = s->text->n_prompt - 1;
    while (s->n_pages <= fed / TDM_PAGE)
        TDM_TRY(batch_take_page(b, i, err));
    s->queued = fed > 0;
    TDM_TRY(batch_forget_prefix(b, err));
    if (s->text->prompt < 0 || fed == 0)
        goto done;
    b->prefix.prompt = s->text->prompt;
    b->prefix.n_prompt = s->text->n_prompt;
    b->prefix.feeder = i;
    for (; b->prefix.n_pages < gpt2_text_pages(fed); b->prefix.n_pages++) {
        const int32_t page = batch_row(b, i)[b->prefix.n_pages];
        TDM_TRY(tdm_pages_share(b->pages, page, err));
        b->prefix.pages[b->prefix.n_pages] = page;
    }
done:
    return st;
}

tdm_status tdm_batch_admit(tdm_batch *b, tdm_batch_text *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(text->n_prompt >= 1 && text->n_prompt < text->max_tokens &&
                    text->max_tokens <= b->limits.context + 1 && text->n_tokens == text->n_prompt,
                TDM_EARG, "a text of %d tokens, %d at most, does not fit a context of %d",
                (int)text->n_prompt, (int)text->max_tokens, (int)b->limits.context);
    TDM_REQUIRE(tdm_batch_has_room(b, text), TDM_EARG, "no room beside %d texts in %d slots",
                (int)b->n_running, (int)b->limits.slots);
    const int32_t i = b->free_slots[b->limits.slots - 1 - b->n_running];
    batch_slot *s = &b->slots[i];
    *s = (batch_slot){.text = text, .since = b->step, .copy_from = -1};
    text->state = TDM_TEXT_RUNNING;
    b->n_running++;
    b->credit -= b->credit > 0;
    TDM_TRY(shares(b, text) ? share_prefix(b, i, err) : open_prompt(b, i, err));
    if (s->queued)
        b->queue[(b->queue_first + b->n_queued++) % b->limits.slots] = i;
    const gpt2_next next = {.token = text->tokens[text->n_prompt - 1],
                            .position = text->n_prompt - 1,
                            .left = text->max_tokens - text->n_prompt,
                            .draw = text->draw};
    TDM_TRY(gpt2_start(b->run, i, &next, err));
done:
    return st;
}
