/* host/generate_admit.c - which document is next, in which chunk, with which prompt.
 *
 * Chunks that are not wanted are passed over without a look at their documents, so that going to a far one
 * costs a question for each chunk before it. Prompts are read whatever is wanted, since only their number
 * says which documents they have; those without a wanted one are not looked into. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "host/generate_state.h"
#include "host/sample.h"

static bool wants(const generate_state *g, uint64_t chunk)
{
    const tdm_chunk_filter *filter = &g->to->filter;
    return g->to->chunk_documents == 0 || !filter->is_wanted ||
           filter->is_wanted(filter->ctx, 0, chunk);
}

tdm_status generate_begin(generate_state *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    g->chunk_size = g->to->chunk_documents > 0 ? g->to->chunk_documents : UINT64_MAX;
    g->is_wanted = wants(g, 0);
    g->next = NEXT_UNKNOWN;
    if (!g->prompts) {
        TDM_TRY(tdm_ids_reserve(&g->prompt, 1, err));
        g->prompt.p[g->prompt.len++] = g->config->eos;
        g->left = g->o->n;
        g->next = NEXT_TEXTS;
    }
done:
    return st;
}

/* ---- documents ---- */

static size_t new_tokens(const generate_state *g, size_t n_prompt)
{
    const size_t fits = (size_t)g->context + 1 - n_prompt;
    return g->o->length > 0 && (size_t)g->o->length < fits ? (size_t)g->o->length : fits;
}

static generate_entry *take_entry(generate_state *g, entry_kind kind)
{
    generate_entry *e = &g->ring[g->newest++ % g->n_ring];
    e->kind = kind;
    e->id = g->o->first_id + g->number;
    e->prompt_id.len = e->detail.len = 0;
    return e;
}

/* How many prompts there are is not known beforehand: here is where ids can run out. */
static tdm_status require_id(const generate_state *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(g->number < INT64_MAX - g->o->first_id, TDM_EARG,
                "first-id %" PRIu64 ": document %" PRIu64 " has no id, ids end at %" PRId64,
                g->o->first_id, g->number, INT64_MAX);
done:
    return st;
}

/* The document that is next, if there is room for it. */
static tdm_status admit_text(generate_state *g, bool *admitted, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_generate_options *o = g->o;
    const size_t n_prompt = g->prompt.len;
    const bool draws_p = o->top_p[0] < o->top_p[1], shared = o->samples_per_prompt > 1 && g->prompts;
    const uint64_t id = o->first_id + g->number;
    tdm_batch_text text = {
        .n_prompt = (int32_t)n_prompt,
        .n_tokens = (int32_t)n_prompt,
        .max_tokens = (int32_t)(n_prompt + new_tokens(g, n_prompt)),
        .prompt = shared ? (int64_t)(g->number / (uint64_t)o->samples_per_prompt) : -1,
        .draw = {.seed = o->seed,
                 .document = id,
                 .temperature = o->temperature,
                 .top_k = o->top_k,
                 .top_p = draws_p ? tdm_draw_top_p(o->seed, id, o->top_p[0], o->top_p[1]) : o->top_p[0],
                 .nucleus = o->nucleus}};
    *admitted = tdm_batch_has_room(g->batch, &text);
    if (!*admitted)
        goto done;
    TDM_TRY(require_id(g, err));
    generate_entry *e = take_entry(g, ENTRY_TEXT);
    text.tokens = g->tokens + (size_t)(e - g->ring) * ((size_t)g->context + 1);
    memcpy(text.tokens, g->prompt.p, n_prompt * sizeof *g->prompt.p);
    e->text = text;
    e->bad = g->source; /* where it came from, should its logits turn out not to be finite */
    TDM_TRY(tdm_buf_put(&e->prompt_id, g->source_id.p, g->source_id.len, err));
    TDM_TRY(tdm_batch_admit(g->batch, &e->text, err));
    g->number++;
    g->left--;
done:
    return st;
}

/* One that cannot be written, or a prompt that cannot be used. id [id_len]: as JSON. */
static tdm_status take_bad(generate_state *g, const char *id, size_t id_len, tdm_fault fault, const char *detail,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    generate_entry *e = take_entry(g, ENTRY_BAD);
    e->bad = g->source;
    e->bad.kind = TDM_RECORD_BAD;
    e->bad.fault = fault;
    TDM_TRY(tdm_buf_put(&e->prompt_id, id, id_len, err));
    TDM_TRY(tdm_buf_put(&e->detail, detail, strlen(detail) + 1, err));
done:
    return st;
}

static tdm_status refuse_text(generate_state *g, const char *reason, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char id[24];
    TDM_TRY(require_id(g, err));
    const int len = snprintf(id, sizeof id, "%" PRIu64, g->o->first_id + g->number);
    if (g->prompts)
        TDM_TRY(take_bad(g, g->source_id.p, g->source_id.len, TDM_FAULT_DEVICE, reason, err));
    else
        TDM_TRY(take_bad(g, id, (size_t)len, TDM_FAULT_DEVICE, reason, err));
    g->number++;
    g->left--;
done:
    return st;
}

/* The next document with nothing else under way, if it is to be written at all. */
static tdm_status admit_alone(generate_state *g, bool *admitted, tdm_err *err)
{
    const char *reason = NULL;
    *admitted = g->oldest == g->newest;
    if (!*admitted)
        return TDM_OK;
    if (!g->to->begin(g->to->ctx, g->number, &reason))
        return refuse_text(g, reason, err);
    return admit_text(g, admitted, err);
}

static tdm_status admit_texts(generate_state *g, bool *goes_on, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (g->is_wanted) {
        TDM_TRY(g->to->begin ? admit_alone(g, goes_on, err) : admit_text(g, goes_on, err));
    } else {
        const uint64_t in_chunk = g->chunk_size - g->number % g->chunk_size;
        const uint64_t n = g->left < in_chunk ? g->left : in_chunk;
        g->number += n;
        g->left -= n;
    }
    if (g->left == 0)
        g->next = g->prompts ? NEXT_UNKNOWN : NEXT_END;
done:
    return st;
}

/* ---- prompts ---- */

/* Whether any document of the prompt that comes next is in a wanted chunk. */
static bool is_prompt_wanted(const generate_state *g)
{
    const uint64_t last = g->number + (uint64_t)g->o->samples_per_prompt - 1;
    bool wanted = false;
    for (uint64_t c = g->number / g->chunk_size; !wanted && c <= last / g->chunk_size; c++)
        wanted = c == g->chunk.number ? g->is_wanted : wants(g, c);
    return wanted;
}

static tdm_status read_prompt(generate_state *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    g->is_prompt_wanted = is_prompt_wanted(g);
    TDM_TRY(g->is_prompt_wanted ? tdm_reader_next(g->prompts, &g->source, err)
                                : tdm_reader_skip(g->prompts, &g->source, err));
    g->next = g->source.kind == TDM_RECORD_END ? NEXT_END : NEXT_PROMPT;
done:
    return st;
}

/* Of the chunk that holds the first document of the prompt that was read last. */
static void count_blank_lines(generate_state *g)
{
    const int64_t blank = g->prompts ? tdm_reader_blank_lines(g->prompts) : 0;
    g->chunk.skipped += blank - g->blank;
    g->blank = blank;
}

/* A prompt that cannot be used takes the numbers of its documents too, and is reported where the first of
 * them would have been. */
static tdm_status admit_bad(generate_state *g, tdm_fault fault, const char *detail, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (g->is_wanted)
        TDM_TRY(take_bad(g, g->source.id_json, g->source.id_len, fault, detail, err));
    g->number += (uint64_t)g->o->samples_per_prompt;
    g->next = NEXT_UNKNOWN;
done:
    return st;
}

/* Its ids become the current ones, or it is admitted as bad. */
static tdm_status use_prompt(generate_state *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char detail[128];
    g->prompt.len = 0;
    TDM_TRY(tdm_bpe_encode(g->bpe, g->source.text, g->source.text_len, 0, &g->prompt, err));
    if (g->prompt.len > (size_t)g->context) {
        snprintf(detail, sizeof detail, "%zu tokens, the context has %d", g->prompt.len,
                 (int)g->context);
        st = admit_bad(g, TDM_FAULT_PROMPT_TOO_LONG, detail, err);
        goto done;
    }
    g->source_id.len = 0;
    TDM_TRY(tdm_buf_put(&g->source_id, g->source.id_json, g->source.id_len, err));
    g->left = (uint64_t)g->o->samples_per_prompt;
    g->next = NEXT_TEXTS;
done:
    return st;
}

/* The prompt that was read last gets its place in the order. */
static tdm_status place_prompt(generate_state *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const uint64_t line[] = {g->source.hash, g->source.offset};
    TDM_TRY(require_id(g, err));
    count_blank_lines(g);
    g->chunk.hash = XXH3_64bits_withSeed(line, sizeof line, g->chunk.hash);
    if (!g->is_prompt_wanted) {
        g->number += (uint64_t)g->o->samples_per_prompt;
        g->next = NEXT_UNKNOWN;
    } else if (g->source.kind == TDM_RECORD_BAD) {
        TDM_TRY(admit_bad(g, g->source.fault, g->source.detail, err));
    } else {
        TDM_TRY(use_prompt(g, err));
    }
done:
    return st;
}

/* ---- chunks ---- */

/* Of the next document; at the end, of the last one. */
static uint64_t chunk_of_next(const generate_state *g)
{
    const bool behind = g->next == NEXT_END && g->number > 0;
    return (g->number - behind) / g->chunk_size;
}

static tdm_status end_chunk(generate_state *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_chunk_filter *filter = &g->to->filter;
    if (g->is_wanted && g->to->chunk_documents > 0)
        take_entry(g, ENTRY_CHUNK)->chunk = g->chunk;
    else if (g->prompts && !g->is_wanted && filter->pass)
        TDM_TRY(filter->pass(filter->ctx, &g->chunk, err));
    if (g->chunk.is_last)
        goto done;
    g->chunk.number++;
    g->chunk.skipped = 0;
    g->is_wanted = wants(g, g->chunk.number);
done:
    return st;
}

static tdm_status end_last_chunk(generate_state *g, tdm_err *err)
{
    count_blank_lines(g);
    g->chunk.is_last = true;
    g->next = NEXT_NOTHING;
    return end_chunk(g, err);
}

/* ---- all ---- */

/* One entry at most. *goes_on: more may be admitted now. */
static tdm_status admit_next(generate_state *g, bool *goes_on, tdm_err *err)
{
    if (g->next == NEXT_UNKNOWN)
        return read_prompt(g, err);
    if (g->chunk.number < chunk_of_next(g))
        return end_chunk(g, err);
    if (g->next == NEXT_PROMPT)
        return place_prompt(g, err);
    if (g->next == NEXT_TEXTS)
        return admit_texts(g, goes_on, err);
    return end_last_chunk(g, err);
}

/* Whether the next prompt would keep documents waiting that can be written or delivered now. */
static bool prompt_is_late(generate_state *g)
{
    return g->next == NEXT_UNKNOWN && g->newest > g->oldest && tdm_reader_would_block(g->prompts);
}

tdm_status generate_admit(generate_state *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool goes_on = true;
    while (goes_on && g->next != NEXT_NOTHING && g->newest - g->oldest < g->n_ring &&
           !prompt_is_late(g)) {
        TDM_TRY(tdm_check_stop(g->o->stop, err)); /* there may be much to pass over */
        TDM_TRY(admit_next(g, &goes_on, err));
    }
done:
    return st;
}
