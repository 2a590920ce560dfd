/* tests/generate_subject.h - a small model, and runs of tdm_generate whose output stays in memory.
 *
 *   generate_ok(&l, &options, NULL, NULL, &out, &totals);
 *   ...
 *   cmocka_run_group_tests(tests, make_model, drop_model); */
#ifndef TESTS_GENERATE_SUBJECT_H
#define TESTS_GENERATE_SUBJECT_H

#include <string.h>

#include "host/batch.h"
#include "host/generate.h"
#include "tests/tiny_gpt2.h"

enum { POSITIONS = 32, MAX_CHUNKS = 512 };

/* ---- one run, its output in memory ---- */

typedef struct {
    tdm_backend be;
    tdm_checkpoint *ck;
    tdm_config config;
    gpt2_model *model;
    tdm_bpe *bpe;
} loaded;

static inline void load(loaded *l, const char *dir, int threads)
{
    tdm_err err = {0};
    *l = (loaded){0};
    if (tdm_open_cpu(threads, &l->be, &err) || tdm_config_load(dir, &l->config, &err) ||
        tdm_checkpoint_open(dir, &l->ck, &err) || tdm_bpe_open_dir(dir, &l->bpe, &err) ||
        gpt2_open(&l->be, l->ck, &l->config, true, &l->model, &err))
        fail_msg("%s", err.msg);
}

static inline void unload(loaded *l)
{
    gpt2_close(l->model);
    tdm_bpe_close(l->bpe);
    tdm_checkpoint_close(l->ck);
    tdm_backend_close(&l->be);
}

typedef struct {
    tdm_buf lines; /* records, and "bad LINE CLASS ID DETAIL" */
    uint64_t last_id;
    int n, fail_at; /* 0: never */
    int64_t ticks, steps;
    tdm_stop stop;
    int stop_at;
    struct {
        tdm_chunk chunk;
        size_t at; /* of lines, behind it */
    } ends[MAX_CHUNKS];
    size_t n_ends;
} output;

static inline tdm_status collect(void *ctx, const tdm_document *d, tdm_err *err)
{
    output *out = ctx;
    if (out->n > 0)
        assert_true(d->id > out->last_id);
    out->last_id = d->id;
    out->n++;
    if (out->fail_at == out->n)
        return tdm_fail(err, TDM_EIO, "disk full");
    if (out->stop_at == out->n)
        tdm_stop_set(&out->stop, 1);
    if (d->bad)
        return tdm_buf_printf(&out->lines, err, "bad %d %s %.*s %s\n", (int)d->bad->line,
                              tdm_fault_name(d->bad->fault), (int)d->bad->id_len, d->bad->id_json,
                              d->bad->detail);
    assert_true(d->ended || d->length > 0);
    return tdm_document_put(&out->lines, d, err);
}

static inline void count_tokens(void *ctx, int32_t n_tokens)
{
    output *out = ctx;
    out->ticks += n_tokens;
    out->steps++;
}

static inline tdm_status note_end(void *ctx, const tdm_chunk *chunk, tdm_err *err)
{
    output *out = ctx;
    (void)err;
    assert_true(out->n_ends < MAX_CHUNKS);
    out->ends[out->n_ends].chunk = *chunk;
    out->ends[out->n_ends++].at = out->lines.len;
    return TDM_OK;
}

/* to  chunks and their filter, NULL for none; the rest of it is set here. */
static inline tdm_status generate(const loaded *l, const tdm_generate_options *o, const char *prompts,
                                  const tdm_generate_to *to, output *out, tdm_generate_totals *totals,
                                  tdm_err *err)
{
    tdm_reader *reader = NULL;
    tdm_inputs inputs = {0};
    const tdm_reader_options defaults = TDM_READER_DEFAULTS;
    tdm_generate_to there = to ? *to : (tdm_generate_to){0};
    tdm_generate_options options = *o;
    there.deliver = collect;
    there.tick = count_tokens;
    there.end_chunk = note_end;
    there.ctx = out;
    options.stop = &out->stop;
    if (prompts)
        assert_int_equal(tdm_inputs_list(&prompts, 1, NULL, &inputs, err), TDM_OK);
    if (prompts)
        assert_int_equal(tdm_reader_open(&inputs, &defaults, &reader, err), TDM_OK);
    const tdm_status st = tdm_generate(l->model, l->bpe, &options, reader, &there, totals, err);
    tdm_reader_close(reader);
    tdm_inputs_free(&inputs);
    return st;
}

static inline void generate_ok(const loaded *l, const tdm_generate_options *o, const char *prompts,
                               const tdm_generate_to *to, output *out, tdm_generate_totals *totals)
{
    tdm_err err = {0};
    *out = (output){0};
    if (generate(l, o, prompts, to, out, totals, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(tdm_buf_put(&out->lines, "", 1, NULL), TDM_OK);
}

/* ---- the model, and files of prompts ---- */

static char dir[TINY_PATH], prompts[TINY_PATH + 32];

/* A model whose logits are not finite once the token 'A' has been fed: its row of wte is too large
 * for the mean of the first norm. The output matrix is another, so that 'A' can be drawn. */
static inline int make_model(void **state)
{
    (void)state;
    tiny_gpt2 m = {.layers = 1, .heads = 1, .positions = POSITIONS, .words = 0.0625f, .untied = true};
    tiny_gpt2_make(&m, 31);
    for (int i = 0; i < 64; i++) /* the id of 'A' is its place among the symbols: 'A' - '!' */
        tiny_find(&m.list, "wte.weight")->p[('A' - '!') * 64 + i] = 3e38f;
    tiny_gpt2_write(&m, dir, TDM_F32);
    tiny_gpt2_free(&m);
    snprintf(prompts, sizeof prompts, "%s/prompts.jsonl", dir);
    return 0;
}

static inline int drop_model(void **state)
{
    (void)state;
    unlink(prompts);
    tiny_roberta_remove(dir);
    return 0;
}

static inline void write_prompts(const char *text)
{
    tiny_write_file(dir, "prompts.jsonl", text, strlen(text));
}

#endif
