/* host/generate.c - admit, step, deliver.
 *
 * Documents live in a ring in the order of their ids: admitted at one end while others run,
 * delivered at the other when the oldest is complete. */
#include "host/generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/generate_plan.h"
#include "host/generate_state.h"
#include "host/hash.h"
#include "host/json.h"

enum { WINDOW_TOKENS = 64 << 20 /* 256 MiB of ids: all that is useful for 1024 texts of 1024 tokens */ };
static const float LEAST_TEMPERATURE = 1e-6f; /* so that no finite logit becomes infinite */

/* ---- options ---- */

tdm_status tdm_generate_check(const tdm_generate_options *o, const tdm_config *config, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(o->n >= 1, TDM_EARG, "n is 0, want at least 1 document");
    TDM_REQUIRE(o->first_id <= INT64_MAX && o->n <= INT64_MAX - o->first_id, TDM_EARG,
                "first-id %" PRIu64 " and %" PRIu64 " documents: ids end at %" PRId64, o->first_id,
                o->n, INT64_MAX);
    TDM_REQUIRE(o->length >= 0 && o->length <= config->n_context, TDM_EARG,
                "length %d, want 1 to %d: the context of this model", (int)o->length,
                config->n_context);
    TDM_REQUIRE(o->temperature == 0 || (o->temperature >= LEAST_TEMPERATURE &&
                                        isfinite(o->temperature)),
                TDM_EARG, "temperature %g, want 0 (greedy) or at least %g", (double)o->temperature,
                (double)LEAST_TEMPERATURE);
    TDM_REQUIRE(o->top_k >= 0, TDM_EARG, "top-k %d, want 0 or more", (int)o->top_k);
    TDM_REQUIRE(o->top_p[0] > 0 && o->top_p[0] <= o->top_p[1] && o->top_p[1] <= 1, TDM_EARG,
                "top-p %g:%g, want 0 < A <= B <= 1", (double)o->top_p[0], (double)o->top_p[1]);
    TDM_REQUIRE(o->samples_per_prompt >= 1, TDM_EARG, "samples-per-prompt %d, want at least 1",
                (int)o->samples_per_prompt);
    TDM_REQUIRE(o->batch >= 0 && o->batch <= TDM_MAX_BATCH, TDM_EARG, "batch %d, want 1 to %d",
                (int)o->batch, TDM_MAX_BATCH);
done:
    return st;
}

int32_t tdm_generate_context(const tdm_generate_options *o, const tdm_config *config,
                             bool has_prompts)
{
    return has_prompts || o->length == 0 ? config->n_context : o->length;
}

size_t tdm_generate_window(int32_t batch, int32_t context)
{
    /* A text of 1024 tokens must not keep the slots empty while others of 50 come and go. */
    const size_t useful = 32 * (size_t)batch + 256, fit = WINDOW_TOKENS / ((size_t)context + 1);
    if (useful <= fit)
        return useful;
    return fit > (size_t)batch ? fit : (size_t)batch;
}

/* ---- delivery ---- */

/* What is wrong with an entry, as the record that reports it. */
static tdm_status describe_bad(generate_state *g, generate_entry *e, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (e->kind == ENTRY_TEXT) {
        e->bad.kind = TDM_RECORD_BAD;
        e->bad.fault = TDM_FAULT_NON_FINITE;
        TDM_TRY(tdm_buf_printf(&e->detail, err, "a logit behind token %d is not a finite number",
                               (int)e->text.n_tokens));
        TDM_TRY(tdm_buf_put(&e->detail, "", 1, err));
        if (!g->prompts)
            TDM_TRY(tdm_buf_printf(&e->prompt_id, err, "%" PRIu64, e->id));
    }
    e->bad.id_json = e->prompt_id.p;
    e->bad.id_len = e->prompt_id.len;
    e->bad.detail = e->detail.p;
    e->bad.text = e->bad.source = NULL; /* the reader's memory, gone by now */
    e->bad.text_len = e->bad.source_len = 0;
done:
    return st;
}

static tdm_status deliver(generate_state *g, generate_entry *e, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_document d = {.id = e->id};
    if (e->kind == ENTRY_BAD || e->text.state == TDM_TEXT_NON_FINITE) {
        TDM_TRY(describe_bad(g, e, err));
        d.bad = &e->bad;
        g->totals->bad++;
        st = g->to->deliver(g->to->ctx, &d, err);
        goto done;
    }
    d.ended = e->text.state == TDM_TEXT_ENDED;
    d.ids = e->text.tokens + e->text.n_prompt;
    d.length = e->text.n_tokens - e->text.n_prompt;
    d.has_p = g->o->top_p[0] < g->o->top_p[1];
    d.p = e->text.draw.top_p;
    d.prompt_id = g->prompts ? e->prompt_id.p : NULL;
    d.prompt_id_len = e->prompt_id.len;
    g->bytes.len = g->text.len = 0;
    TDM_TRY(tdm_bpe_decode(g->bpe, d.ids, (size_t)d.length, &g->bytes, err));
    TDM_TRY(tdm_utf8_replace(g->bytes.p, g->bytes.len, &g->text, err));
    d.text = g->text.p;
    d.text_len = g->text.len;
    g->totals->documents++;
    g->totals->ended += d.ended;
    g->totals->tokens += (uint64_t)d.length;
    g->totals->prompt_tokens += g->prompts ? (uint64_t)e->text.n_prompt : 0;
    g->totals->hash = tdm_hash_ids(g->totals->hash, d.ids, (size_t)d.length);
    TDM_TRY(g->to->deliver(g->to->ctx, &d, err));
done:
    return st;
}

static tdm_status deliver_complete(generate_state *g, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (; g->oldest < g->newest; g->oldest++) {
        generate_entry *e = &g->ring[g->oldest % g->n_ring];
        if (e->kind == ENTRY_TEXT && e->text.state == TDM_TEXT_RUNNING)
            break;
        if (e->kind == ENTRY_CHUNK)
            TDM_TRY(g->to->end_chunk(g->to->ctx, &e->chunk, err));
        else
            TDM_TRY(deliver(g, e, err));
    }
done:
    return st;
}

/* ---- the loop ---- */

static tdm_status open_job(generate_state *g, const gpt2_model *model, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n_tokens = 0;
    TDM_TRY(tdm_generate_check(g->o, g->config, err));
    g->context = tdm_generate_context(g->o, g->config, g->prompts != NULL);
    g->n_ring = tdm_generate_window(g->o->batch, g->context);
    TDM_TRY(generate_begin(g, err));
    if (!g->prompts && g->o->n + g->o->n / g->chunk_size < g->n_ring)
        g->n_ring = (size_t)(g->o->n + g->o->n / g->chunk_size); /* and the ends of chunks but the last */
    g->ring = calloc(g->n_ring, sizeof *g->ring);
    TDM_REQUIRE(tdm_mul_size(g->n_ring, ((size_t)g->context + 1) * sizeof *g->tokens, &n_tokens),
                TDM_ENOMEM, "window of %zu documents", g->n_ring);
    g->tokens = malloc(n_tokens);
    TDM_REQUIRE(g->ring && g->tokens, TDM_ENOMEM, "window of %zu documents", g->n_ring);
    const tdm_batch_limits limits = tdm_generate_limits(gpt2_backend(model), g->o, g->context);
    TDM_TRY(tdm_batch_open(model, &limits, &g->batch, err));
done:
    return st;
}

static void close_job(generate_state *g)
{
    tdm_batch_close(g->batch);
    for (size_t i = 0; g->ring && i < g->n_ring; i++) {
        tdm_buf_free(&g->ring[i].prompt_id);
        tdm_buf_free(&g->ring[i].detail);
    }
    free(g->ring);
    free(g->tokens);
    tdm_ids_free(&g->prompt);
    tdm_buf_free(&g->source_id);
    tdm_buf_free(&g->bytes);
    tdm_buf_free(&g->text);
}

tdm_status tdm_generate(const gpt2_model *model, const tdm_bpe *bpe, const tdm_generate_options *o,
                        tdm_reader *prompts, const tdm_generate_to *to, tdm_generate_totals *totals,
                        tdm_err *err)
{
    tdm_status st = TDM_OK;
    generate_state g = {.o = o,
                        .bpe = bpe,
                        .prompts = prompts,
                        .to = to,
                        .totals = totals,
                        .config = gpt2_config(model)};
    *totals = (tdm_generate_totals){.hash = TDM_HASH_START};
    TDM_TRY(open_job(&g, model, err));
    for (;;) {
        TDM_TRY(generate_admit(&g, err));
        TDM_TRY(deliver_complete(&g, err)); /* bad prompts may be next in order */
        if (tdm_batch_running(g.batch) == 0 && g.next == NEXT_NOTHING)
            break;
        TDM_TRY(tdm_check_stop(o->stop, err));
        if (tdm_batch_running(g.batch) == 0)
            continue; /* all has been delivered: wait for a prompt */
        TDM_TRY(tdm_batch_step(g.batch, err));
        if (to->tick)
            to->tick(to->ctx, tdm_batch_drawn(g.batch));
    }
done:
    close_job(&g);
    return st;
}

tdm_status tdm_document_put(tdm_buf *out, const tdm_document *d, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "{\"id\": %" PRIu64 ", \"ended\": %s, \"length\": %d, \"text\": ",
                           d->id, d->ended ? "true" : "false", (int)d->length));
    TDM_TRY(tdm_json_put_string(out, d->text, d->text_len, err));
    if (d->has_p)
        TDM_TRY(tdm_buf_printf(out, err, ", \"p\": %.9g", (double)d->p));
    if (d->prompt_id) {
        TDM_TRY(tdm_buf_put(out, ", \"prompt_id\": ", 15, err));
        TDM_TRY(tdm_buf_put(out, d->prompt_id, d->prompt_id_len, err));
    }
    TDM_TRY(tdm_buf_put(out, "}\n", 2, err));
done:
    return st;
}
