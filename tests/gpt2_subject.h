/* tests/gpt2_subject.h - a tiny GPT-2 that has been loaded, and runs of it whose logits can be looked at.
 *
 *   load(&l, &tiny, TDM_F32);
 *   gpt2_run *run = open_run(&l, slots, rows);
 *   feed(run, tokens, from, to, slot, logits);
 *   gpt2_run_close(run);
 *   unload(&l); */
#ifndef TESTS_GPT2_SUBJECT_H
#define TESTS_GPT2_SUBJECT_H

#include <string.h>

#include "host/gpt2.h"
#include "tests/tiny_gpt2.h"

/* More positions than three of the attention's key blocks (CPU_KEYS) hold. */
enum { V = TINY_GPT2_VOCAB, POSITIONS = 200 };

typedef struct {
    tdm_backend be;
    tdm_checkpoint *ck;
    tdm_config config;
    gpt2_model *model;
    char dir[TINY_PATH];
} loaded;

static inline tdm_status try_load(loaded *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_config_load(l->dir, &l->config, err));
    TDM_TRY(tdm_checkpoint_open(l->dir, &l->ck, err));
    TDM_TRY(gpt2_open(&l->be, l->ck, &l->config, true, &l->model, err));
done:
    return st;
}

static inline void load_with(loaded *l, const tiny_gpt2 *m, tdm_dtype dtype, int threads)
{
    tdm_err err = {0};
    *l = (loaded){0};
    tiny_gpt2_write(m, l->dir, dtype);
    assert_int_equal(tdm_open_cpu(threads, &l->be, &err), TDM_OK);
    if (try_load(l, &err) != TDM_OK)
        fail_msg("%s", err.msg);
}

static inline void load(loaded *l, const tiny_gpt2 *m, tdm_dtype dtype)
{
    load_with(l, m, dtype, 2);
}

static inline void unload(loaded *l)
{
    gpt2_close(l->model);
    tdm_checkpoint_close(l->ck);
    tdm_backend_close(&l->be);
    tiny_roberta_remove(l->dir);
}

static inline void random_tokens(int32_t *tokens, int n, uint64_t seed)
{
    for (int i = 0; i < n; i++)
        tokens[i] = (int32_t)(tiny_random(&seed) % V);
}

static inline gpt2_run *open_run(const loaded *l, int32_t slots, int32_t rows)
{
    tdm_err err = {0};
    gpt2_run *run = NULL;
    const gpt2_limits limits = {.slots = slots, .pages = slots * gpt2_text_pages(POSITIONS),
                                .context = POSITIONS, .rows = rows, .logits = rows};
    if (gpt2_run_open(l->model, &limits, &run, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return run;
}

/* The CPU's memory is ours; rows may be padded. */
static inline void copy_logits(float *out, tdm_mat logits)
{
    for (int64_t r = 0; r < logits.rows; r++)
        memcpy(out + r * V, (const float *)logits.p + r * logits.stride, V * sizeof *out);
}

/* Feed tokens [from, to) of one text in slot; all their logits go to out [to - from, V]. */
static inline void feed(gpt2_run *run, const int32_t *tokens, int32_t from, int32_t to, int32_t slot,
                 float *out)
{
    int32_t positions[POSITIONS], rows[POSITIONS];
    tdm_err err = {0};
    tdm_mat logits;
    for (int32_t i = from; i < to; i++) {
        positions[i - from] = i;
        rows[i - from] = i - from;
    }
    const gpt2_step step = {.n_rows = to - from,
                            .n_seqs = 1,
                            .n_logits = to - from,
                            .tokens = tokens + from,
                            .positions = positions,
                            .starts = (int32_t[]){0, to - from},
                            .slots = &slot,
                            .logit_rows = rows};
    if (gpt2_forward(run, &step, &logits, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(logits.rows, to - from);
    assert_int_equal(logits.cols, V);
    copy_logits(out, logits);
}

#endif
