/* tests/score_subject.h - a small GPT-2 to score with, and random texts for it. */
#ifndef TESTS_SCORE_SUBJECT_H
#define TESTS_SCORE_SUBJECT_H

#include <math.h>
#include <string.h>

#include "host/score.h"
#include "tests/tiny_gpt2.h"

enum { V = TINY_GPT2_VOCAB, CONTEXT = 40, N_TEXTS = 60, TOP = 5 };

typedef struct {
    tdm_backend be;
    tdm_config config;
    gpt2_model *model;
} loaded;

/* A random text for scoring, and room for what is found. */
typedef struct {
    int32_t ids[CONTEXT + 1];
    tdm_stat stats[CONTEXT];
    tdm_cross cross[CONTEXT];
    tdm_top top[CONTEXT * TOP];
} text;

/* A model of this shape on an open backend. */
static inline void load_model(const tdm_backend *be, int layers, int heads, int positions, uint64_t seed,
                              tdm_config *config, gpt2_model **model)
{
    tiny_gpt2 tiny = {.layers = layers, .heads = heads, .positions = positions, .words = 0.25f};
    tdm_checkpoint *ck = NULL;
    char dir[TINY_PATH];
    tdm_err err = {0};
    tiny_gpt2_make(&tiny, seed);
    tiny_gpt2_write(&tiny, dir, TDM_F32);
    assert_int_equal(tdm_config_load(dir, config, &err), TDM_OK);
    assert_int_equal(tdm_checkpoint_open(dir, &ck, &err), TDM_OK);
    if (gpt2_open(be, ck, config, true, model, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    tdm_checkpoint_close(ck);
    tiny_roberta_remove(dir);
    tiny_gpt2_free(&tiny);
}

static inline void load_shape(loaded *l, int threads, int layers, int heads, int positions)
{
    tdm_err err = {0};
    *l = (loaded){0};
    assert_int_equal(tdm_open_cpu(threads, &l->be, &err), TDM_OK);
    load_model(&l->be, layers, heads, positions, 5, &l->config, &l->model);
}

static inline void load(loaded *l, int threads)
{
    load_shape(l, threads, 2, 2, CONTEXT);
}

static inline void unload(loaded *l)
{
    gpt2_close(l->model);
    tdm_backend_close(&l->be);
}

static inline tdm_scorer *open_scorer(const gpt2_model *model, const tdm_score_options *options)
{
    tdm_err err = {0};
    tdm_scorer *scorer = NULL;
    if (tdm_scorer_open(model, options, &scorer, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return scorer;
}

/* Texts of 1 .. CONTEXT + 1 tokens; both ends are among them. */
static inline void make_texts(text *memory, tdm_score_text *texts, size_t n)
{
    uint64_t random = 3;
    for (size_t i = 0; i < n; i++) {
        const uint32_t length = i == 4 ? 1 : i == 7 ? CONTEXT + 1 : 1 + tiny_random(&random) % (CONTEXT + 1);
        memset(&memory[i], 0xFF, sizeof memory[i]);
        for (uint32_t k = 0; k < length; k++)
            memory[i].ids[k] = (int32_t)(tiny_random(&random) % V);
        texts[i] = (tdm_score_text){.ids = memory[i].ids, .n = (int32_t)length};
        if (length > 1) {
            texts[i].stats = memory[i].stats;
            texts[i].cross = memory[i].cross;
            texts[i].top = memory[i].top;
        }
    }
}

#endif
