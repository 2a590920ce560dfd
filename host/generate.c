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
#include "host/hash.h"
#include "host/json.h"
#include "host/sample.h"

enum { WINDOW_TOKENS = 64 << 20 /* 256 MiB of ids: all that is useful for 1024 texts of 1024 tokens */ };
static const float LEAST_TEMPERATURE = 1e-6f; /* so that no finite logit becomes infinite */

/* One document in the ring. */
typedef struct {
    uint64_t id;
    tdm_batch_text text;
    bool is_bad;
    tdm_record bad;    /* its pointers lead into the buffers below */
    tdm_buf prompt_id; /* JSON source */
    tdm_buf detail;    /* what is wrong, NUL-terminated */
} entry;

typedef struct {
    const tdm_generate_options *o;
    const tdm_bpe *bpe;
    tdm_reader *prompts;
    const tdm_generate_to *to;
    tdm_generate_totals *totals;
    const tdm_config *config;
    tdm_batch *batch;
    int32_t context;
    entry *ring; /* [n_ring] */
    int32_t *tokens; /* [n_ring, context + 1] */
    size_t n_ring;
    uint64_t oldest, next; /* entries counted from the start; ring[x % n_ring] */
    bool dry;              /* no more documents to admit */
    uint64_t number;       /* of the next document: prompt x samples_per_prompt + sample */
    int32_t sample;        /* of the current prompt that is next; 0: read a prompt */
    tdm_ids prompt;        /* ids of the current prompt */
    tdm_record source;     /* the current prompt's record; its id is in source_id */
    tdm_buf source_id;
    tdm_buf bytes, text; /* of the document that is being delivered */
} job;

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

/* ---- admission ---- */

static size_t new_tokens(const job *j, size_t n_prompt)
{
    const size_t fits = (size_t)j->context + 1 - n_prompt;
    return j->o->length > 0 && (size_t)j->o->length < fits ? (size_t)j->o->length : fits;
}

/* The next place of the ring, for a document with this number. How many prompts there are is not
 * known beforehand: here is where ids can run out. */
static tdm_status take_entry(job *j, entry **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(j->number < INT64_MAX - j->o->first_id, TDM_EARG,
                "first-id %" PRIu64 ": document %" PRIu64 " has no id, ids end at %" PRId64,
                j->o->first_id, j->number, INT64_MAX);
    entry *e = &j->ring[j->next++ % j->n_ring];
    e->id = j->o->first_id + j->number;
    e->is_bad = false;
    e->prompt_id.len = e->detail.len = 0;
    *out = e;
done:
    return st;
}

/* The document that is next, with this prompt, if there is room for it. */
static tdm_status admit_text(job *j, const int32_t *prompt, size_t n_prompt, bool *admitted,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_generate_options *o = j->o;
    entry *e = NULL;
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
    TDM_TRY(take_entry(j, &e, err));
    text.tokens = j->tokens + (size_t)(e - j->ring) * ((size_t)j->context + 1);
    memcpy(text.tokens, prompt, n_prompt * sizeof *prompt);
    e->text = text;
    e->bad = j->source; /* where it came from, should its logits turn out not to be finite */
    TDM_TRY(tdm_buf_put(&e->prompt_id, j->source_id.p, j->source_id.len, err));
    TDM_TRY(tdm_batch_admit(j->batch, &e->text, err));
    j->number++;
done:
    return st;
}

/* A prompt that cannot be used takes its place in the order too. */
static tdm_status admit_bad(job *j, const tdm_record *record, tdm_fault fault, const char *detail,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    entry *e = NULL;
    TDM_TRY(take_entry(j, &e, err));
    j->number += (uint64_t)j->o->samples_per_prompt;
    e->is_bad = true;
    e->bad = *record;
    e->bad.kind = TDM_RECORD_BAD;
    e->bad.fault = fault;
    TDM_TRY(tdm_buf_put(&e->prompt_id, record->id_json, record->id_len, err));
    TDM_TRY(tdm_buf_put(&e->detail, detail, strlen(detail) + 1, err));
done:
    return st;
}

/* Read one prompt: its ids become the current ones, or it is admitted as bad. */
static tdm_status read_prompt(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_record record;
    char detail[128];
    TDM_TRY(tdm_reader_next(j->prompts, &record, err));
    j->dry = record.kind == TDM_RECORD_END;
    if (j->dry)
        goto done;
    if (record.kind == TDM_RECORD_BAD) {
        st = admit_bad(j, &record, record.fault, record.detail, err);
        goto done;
    }
    j->prompt.len = 0;
    TDM_TRY(tdm_bpe_encode(j->bpe, record.text, record.text_len, 0, &j->prompt, err));
    if (j->prompt.len > (size_t)j->context) {
        snprintf(detail, sizeof detail, "%zu tokens, the context has %d", j->prompt.len,
                 (int)j->context);
        st = admit_bad(j, &record, TDM_FAULT_PROMPT_TOO_LONG, detail, err);
        goto done;
    }
    j->source = record;
    j->source_id.len = 0;
    TDM_TRY(tdm_buf_put(&j->source_id, record.id_json, record.id_len, err));
    j->sample = j->o->samples_per_prompt;
done:
    return st;
}

/* *goes_on: more may be admitted now. */
static tdm_status admit_next(job *j, bool *goes_on, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *goes_on = true;
    if (!j->prompts) {
        j->dry = j->number == j->o->n;
        if (!j->dry)
            TDM_TRY(admit_text(j, &(int32_t){j->config->eos}, 1, goes_on, err));
    } else if (j->sample == 0) {
        TDM_TRY(read_prompt(j, err));
    } else {
        TDM_TRY(admit_text(j, j->prompt.p, j->prompt.len, goes_on, err));
        j->sample -= *goes_on;
    }
done:
    return st;
}

/* Whether the next prompt would keep documents waiting that can be written or delivered now. */
static bool prompt_is_late(job *j)
{
    return j->prompts && j->sample == 0 && j->next > j->oldest && tdm_reader_would_block(j->prompts);
}

static tdm_status admit(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool goes_on = true;
    while (goes_on && !j->dry && j->next - j->oldest < j->n_ring && !prompt_is_late(j))
        TDM_TRY(admit_next(j, &goes_on, err));
done:
    return st;
}

/* ---- delivery ---- */

/* What is wrong with an entry, as the record that reports it. */
static tdm_status describe_bad(job *j, entry *e, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!e->is_bad) {
        e->bad.kind = TDM_RECORD_BAD;
        e->bad.fault = TDM_FAULT_NON_FINITE;
        TDM_TRY(tdm_buf_printf(&e->detail, err, "a logit behind token %d is not a finite number",
                               (int)e->text.n_tokens));
        TDM_TRY(tdm_buf_put(&e->detail, "", 1, err));
        if (!j->prompts)
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

static tdm_status deliver(job *j, entry *e, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_document d = {.id = e->id};
    if (e->is_bad || e->text.state == TDM_TEXT_NON_FINITE) {
        TDM_TRY(describe_bad(j, e, err));
        d.bad = &e->bad;
        j->totals->bad++;
        st = j->to->deliver(j->to->ctx, &d, err);
        goto done;
    }
    d.ended = e->text.state == TDM_TEXT_ENDED;
    d.ids = e->text.tokens + e->text.n_prompt;
    d.length = e->text.n_tokens - e->text.n_prompt;
    d.has_p = j->o->top_p[0] < j->o->top_p[1];
    d.p = e->text.draw.top_p;
    d.prompt_id = j->prompts ? e->prompt_id.p : NULL;
    d.prompt_id_len = e->prompt_id.len;
    j->bytes.len = j->text.len = 0;
    TDM_TRY(tdm_bpe_decode(j->bpe, d.ids, (size_t)d.length, &j->bytes, err));
    TDM_TRY(tdm_utf8_replace(j->bytes.p, j->bytes.len, &j->text, err));
    d.text = j->text.p;
    d.text_len = j->text.len;
    j->totals->documents++;
    j->totals->ended += d.ended;
    j->totals->tokens += (uint64_t)d.length;
    j->totals->prompt_tokens += j->prompts ? (uint64_t)e->text.n_prompt : 0;
    j->totals->hash = tdm_hash_ids(j->totals->hash, d.ids, (size_t)d.length);
    TDM_TRY(j->to->deliver(j->to->ctx, &d, err));
done:
    return st;
}

static tdm_status deliver_complete(job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (; j->oldest < j->next; j->oldest++) {
        entry *e = &j->ring[j->oldest % j->n_ring];
        if (!e->is_bad && e->text.state == TDM_TEXT_RUNNING)
            break;
        TDM_TRY(deliver(j, e, err));
    }
done:
    return st;
}

/* ---- the loop ---- */

static tdm_status open_job(job *j, const gpt2_model *model, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n_tokens = 0;
    TDM_TRY(tdm_generate_check(j->o, j->config, err));
    j->context = tdm_generate_context(j->o, j->config, j->prompts != NULL);
    j->n_ring = tdm_generate_window(j->o->batch, j->context);
    if (!j->prompts && j->o->n < j->n_ring)
        j->n_ring = (size_t)j->o->n;
    j->ring = calloc(j->n_ring, sizeof *j->ring);
    TDM_REQUIRE(tdm_mul_size(j->n_ring, ((size_t)j->context + 1) * sizeof *j->tokens, &n_tokens),
                TDM_ENOMEM, "window of %zu documents", j->n_ring);
    j->tokens = malloc(n_tokens);
    TDM_REQUIRE(j->ring && j->tokens, TDM_ENOMEM, "window of %zu documents", j->n_ring);
    const tdm_batch_limits limits = tdm_generate_limits(gpt2_backend(model), j->o, j->context);
    TDM_TRY(tdm_batch_open(model, &limits, &j->batch, err));
done:
    return st;
}

static void close_job(job *j)
{
    tdm_batch_close(j->batch);
    for (size_t i = 0; j->ring && i < j->n_ring; i++) {
        tdm_buf_free(&j->ring[i].prompt_id);
        tdm_buf_free(&j->ring[i].detail);
    }
    free(j->ring);
    free(j->tokens);
    tdm_ids_free(&j->prompt);
    tdm_buf_free(&j->source_id);
    tdm_buf_free(&j->bytes);
    tdm_buf_free(&j->text);
}

tdm_status tdm_generate(const gpt2_model *model, const tdm_bpe *bpe, const tdm_generate_options *o,
                        tdm_reader *prompts, const tdm_generate_to *to, tdm_generate_totals *totals,
                        tdm_err *err)
{
    tdm_status st = TDM_OK;
    job j = {.o = o,
             .bpe = bpe,
             .prompts = prompts,
             .to = to,
             .totals = totals,
             .config = gpt2_config(model)};
    *totals = (tdm_generate_totals){.hash = TDM_HASH_START};
    TDM_TRY(open_job(&j, model, err));
    for (;;) {
        TDM_TRY(admit(&j, err));
        TDM_TRY(deliver_complete(&j, err)); /* bad prompts may be next in order */
        if (tdm_batch_running(j.batch) == 0 && j.dry)
            break;
        TDM_TRY(tdm_check_stop(o->stop, err));
        if (tdm_batch_running(j.batch) == 0)
            continue; /* all has been delivered: wait for a prompt */
        TDM_TRY(tdm_batch_step(j.batch, err));
        if (to->tick)
            to->tick(to->ctx, tdm_batch_drawn(j.batch));
    }
done:
    close_job(&j);
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
