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

static bool wants(const generate_job *j, uint64_t chunk)
{
    const tdm_chunk_filter *filter = &j->to->filter;
    return j->to->chunk_documents == 0 || !filter->is_wanted ||
           filter->is_wanted(filter->ctx, 0, chunk);
}

tdm_status generate_begin(generate_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    j->chunk_size = j->to->chunk_documents > 0 ? j->to->chunk_documents : UINT64_MAX;
    j->is_wanted = wants(j, 0);
    j->next = NEXT_UNKNOWN;
    if (!j->prompts) {
        TDM_TRY(tdm_ids_reserve(&j->prompt, 1, err));
        j->prompt.p[j->prompt.len++] = j->config->eos;
        j->left = j->o->n;
        j->next = NEXT_TEXTS;
    }
done:
    return st;
}

/* ---- documents ---- */

static size_t new_tokens(const generate_job *j, size_t n_prompt)
{
    const size_t fits = (size_t)j->context + 1 - n_prompt;
    return j->o->length > 0 && (size_t)j->o->length < fits ? (size_t)j->o->length : fits;
}

static generate_entry *take_entry(generate_job *j, entry_kind kind)
{
    generate_entry *e = &j->ring[j->newest++ % j->n_ring];
    e->kind = kind;
    e->id = j->o->first_id + j->number;
    e->prompt_id.len = e->detail.len = 0;
    return e;
}

/* How many prompts there are is not known beforehand: here is where ids can run out. */
static tdm_status require_id(const generate_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(j->number < INT64_MAX - j->o->first_id, TDM_EARG,
                "first-id %" PRIu64 ": document %" PRIu64 " has no id, ids end at %" PRId64,
                j->o->first_id, j->number, INT64_MAX);
done:
    return st;
}

/* The document that is next, if there is room for it. */
static tdm_status admit_text(generate_job *j, bool *admitted, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_generate_options *o = j->o;
    const size_t n_prompt = j->prompt.len;
    const bool draws_p = o->top_p[0] < o->top_p[1], shared = o->samples_per_prompt > 1 && j->prompts;
    const uint64_t id = o->first_id + j->number;
    tdm_batch_text text = {
        .n_prompt = (int32_t)n_prompt,
        .n_tokens = (int32_t)n_prompt,
        .max_tokens = (int32_t)(n_prompt + new_tokens(j, n_prompt)),
        .prompt = shared ? (int64_t)(j->number / (uint64_t)o->samples_per_prompt) : -1,
        .draw = {.seed = o->seed,
                 .document = id,
                 .temperature = o->temperature,
                 .top_k = o->top_k,
                 .top_p = draws_p ? tdm_draw_top_p(o->seed, id, o->top_p[0], o->top_p[1]) : o->top_p[0],
                 .nucleus = o->nucleus}};
    *admitted = tdm_batch_has_room(j->batch, &text);
    if (!*admitted)
        goto done;
    TDM_TRY(require_id(j, err));
    generate_entry *e = take_entry(j, ENTRY_TEXT);
    text.tokens = j->tokens + (size_t)(e - j->ring) * ((size_t)j->context + 1);
    memcpy(text.tokens, j->prompt.p, n_prompt * sizeof *j->prompt.p);
    e->text = text;
    e->bad = j->source; /* where it came from, should its logits turn out not to be finite */
    TDM_TRY(tdm_buf_put(&e->prompt_id, j->source_id.p, j->source_id.len, err));
    TDM_TRY(tdm_batch_admit(j->batch, &e->text, err));
    j->number++;
    j->left--;
done:
    return st;
}

static tdm_status admit_texts(generate_job *j, bool *goes_on, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (j->is_wanted) {
        TDM_TRY(admit_text(j, goes_on, err));
    } else {
        const uint64_t in_chunk = j->chunk_size - j->number % j->chunk_size;
        const uint64_t n = j->left < in_chunk ? j->left : in_chunk;
        j->number += n;
        j->left -= n;
    }
    if (j->left == 0)
        j->next = j->prompts ? NEXT_UNKNOWN : NEXT_END;
done:
    return st;
}

/* ---- prompts ---- */

/* Whether any document of the prompt that comes next is in a wanted chunk. */
static bool is_prompt_wanted(const generate_job *j)
{
    const uint64_t last = j->number + (uint64_t)j->o->samples_per_prompt - 1;
    bool wanted = false;
    for (uint64_t c = j->number / j->chunk_size; !wanted && c <= last / j->chunk_size; c++)
        wanted = c == j->chunk.number ? j->is_wanted : wants(j, c);
    return wanted;
}

static tdm_status read_prompt(generate_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    j->is_prompt_wanted = is_prompt_wanted(j);
    TDM_TRY(j->is_prompt_wanted ? tdm_reader_next(j->prompts, &j->source, err)
                                : tdm_reader_skip(j->prompts, &j->source, err));
    j->next = j->source.kind == TDM_RECORD_END ? NEXT_END : NEXT_PROMPT;
done:
    return st;
}

/* Of the chunk that holds the first document of the prompt that was read last. */
static void count_blank_lines(generate_job *j)
{
    const int64_t blank = j->prompts ? tdm_reader_blank_lines(j->prompts) : 0;
    j->chunk.skipped += blank - j->blank;
    j->blank = blank;
}

/* A prompt that cannot be used takes the numbers of its documents too, and is reported where the first of
 * them would have been. */
static tdm_status admit_bad(generate_job *j, tdm_fault fault, const char *detail, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (j->is_wanted) {
        generate_entry *e = take_entry(j, ENTRY_BAD);
        e->bad = j->source;
        e->bad.kind = TDM_RECORD_BAD;
        e->bad.fault = fault;
        TDM_TRY(tdm_buf_put(&e->prompt_id, j->source.id_json, j->source.id_len, err));
        TDM_TRY(tdm_buf_put(&e->detail, detail, strlen(detail) + 1, err));
    }
    j->number += (uint64_t)j->o->samples_per_prompt;
    j->next = NEXT_UNKNOWN;
done:
    return st;
}

/* Its ids become the current ones, or it is admitted as bad. */
static tdm_status use_prompt(generate_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char detail[128];
    j->prompt.len = 0;
    TDM_TRY(tdm_bpe_encode(j->bpe, j->source.text, j->source.text_len, 0, &j->prompt, err));
    if (j->prompt.len > (size_t)j->context) {
        snprintf(detail, sizeof detail, "%zu tokens, the context has %d", j->prompt.len,
                 (int)j->context);
        st = admit_bad(j, TDM_FAULT_PROMPT_TOO_LONG, detail, err);
        goto done;
    }
    j->source_id.len = 0;
    TDM_TRY(tdm_buf_put(&j->source_id, j->source.id_json, j->source.id_len, err));
    j->left = (uint64_t)j->o->samples_per_prompt;
    j->next = NEXT_TEXTS;
done:
    return st;
}

/* The prompt that was read last gets its place in the order. */
static tdm_status place_prompt(generate_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const uint64_t line[] = {j->source.hash, j->source.offset};
    TDM_TRY(require_id(j, err));
    count_blank_lines(j);
    j->chunk.hash = XXH3_64bits_withSeed(line, sizeof line, j->chunk.hash);
    if (!j->is_prompt_wanted) {
        j->number += (uint64_t)j->o->samples_per_prompt;
        j->next = NEXT_UNKNOWN;
    } else if (j->source.kind == TDM_RECORD_BAD) {
        TDM_TRY(admit_bad(j, j->source.fault, j->source.detail, err));
    } else {
        TDM_TRY(use_prompt(j, err));
    }
done:
    return st;
}

/* ---- chunks ---- */

/* Of the next document; at the end, of the last one. */
static uint64_t chunk_of_next(const generate_job *j)
{
    const bool behind = j->next == NEXT_END && j->number > 0;
    return (j->number - behind) / j->chunk_size;
}

static tdm_status end_chunk(generate_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_chunk_filter *filter = &j->to->filter;
    if (j->is_wanted && j->to->chunk_documents > 0)
        take_entry(j, ENTRY_CHUNK)->chunk = j->chunk;
    else if (j->prompts && !j->is_wanted && filter->pass)
        TDM_TRY(filter->pass(filter->ctx, &j->chunk, err));
    if (j->chunk.is_last)
        goto done;
    j->chunk.number++;
    j->chunk.skipped = 0;
    j->is_wanted = wants(j, j->chunk.number);
done:
    return st;
}

static tdm_status end_last_chunk(generate_job *j, tdm_err *err)
{
    count_blank_lines(j);
    j->chunk.is_last = true;
    j->next = NEXT_NOTHING;
    return end_chunk(j, err);
}

/* ---- all ---- */

/* One entry at most. *goes_on: more may be admitted now. */
static tdm_status admit_next(generate_job *j, bool *goes_on, tdm_err *err)
{
    if (j->next == NEXT_UNKNOWN)
        return read_prompt(j, err);
    if (j->chunk.number < chunk_of_next(j))
        return end_chunk(j, err);
    if (j->next == NEXT_PROMPT)
        return place_prompt(j, err);
    if (j->next == NEXT_TEXTS)
        return admit_texts(j, goes_on, err);
    return end_last_chunk(j, err);
}

/* Whether the next prompt would keep documents waiting that can be written or delivered now. */
static bool prompt_is_late(generate_job *j)
{
    return j->next == NEXT_UNKNOWN && j->newest > j->oldest && tdm_reader_would_block(j->prompts);
}

tdm_status generate_admit(generate_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool goes_on = true;
    while (goes_on && j->next != NEXT_NOTHING && j->newest - j->oldest < j->n_ring &&
           !prompt_is_late(j)) {
        TDM_TRY(tdm_check_stop(j->o->stop, err)); /* there may be much to pass over */
        TDM_TRY(admit_next(j, &goes_on, err));
    }
done:
    return st;
}
