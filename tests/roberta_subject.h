/* tests/roberta_subject.h - a tiny network of the detector on the CPU; what it allocates is counted.
 *
 *   subject s;
 *   subject_open(&s, layers, heads, "roberta.", TDM_F32, threads);
 *   make_text(seed, ids, n);
 *   classify_one(&s, ids, n, logits);
 *   subject_close(&s); */
#ifndef TESTS_ROBERTA_SUBJECT_H
#define TESTS_ROBERTA_SUBJECT_H

#include "detector/roberta.h"
#include "tests/roberta_reference.h"

enum { MAX_ROWS = 200, MAX_TEXTS = 20 };

/* What the backend is asked to allocate is counted. */
static const tdm_ops *inner;
static int n_allocations;

static inline tdm_status count_alloc(void *self, size_t bytes, void **out, tdm_err *err)
{
    n_allocations++;
    return inner->alloc(self, bytes, out, err);
}

static inline tdm_status count_kv(void *self, int32_t layers, int32_t heads, int32_t slots,
                           int32_t context, tdm_kv **kv, tdm_err *err)
{
    n_allocations++;
    return inner->kv_open(self, layers, heads, slots, context, kv, err);
}

static inline tdm_status count_weight(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                               tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    n_allocations++;
    return inner->weight_open(self, src, dtype, in, out, layout, w, err);
}

typedef struct {
    tiny_roberta tiny;
    char dir[TINY_PATH];
    tdm_backend backend;
    tdm_ops counting;
    tdm_config config;
    roberta *model;
    int32_t slice;
} subject;

static inline tdm_status try_open(subject *s, const char *prefix, tdm_dtype dtype, int threads,
                           tdm_err *err)
{
    tdm_checkpoint *ck = NULL;
    tiny_roberta_write(&s->tiny, s->dir, prefix, dtype);
    assert_int_equal(tdm_open_cpu(threads, &s->backend, err), TDM_OK);
    inner = s->backend.ops;
    s->counting = *inner;
    s->counting.alloc = count_alloc;
    s->counting.kv_open = count_kv;
    s->counting.weight_open = count_weight;
    s->backend.ops = &s->counting;
    assert_int_equal(tdm_config_load(s->dir, &s->config, err), TDM_OK);
    tdm_status st = tdm_checkpoint_open(s->dir, &ck, err);
    if (st == TDM_OK)
        st = roberta_open(&s->backend, ck, &s->config,
                          &(roberta_limits){MAX_ROWS, MAX_TEXTS, s->slice}, true, &s->model, err);
    tdm_checkpoint_close(ck);
    tiny_roberta_remove(s->dir);
    return st;
}

static inline void subject_open(subject *s, int layers, int heads, const char *prefix, tdm_dtype dtype,
                         int threads)
{
    tdm_err err = {0};
    *s = (subject){0};
    tiny_roberta_make(&s->tiny, layers, heads, 7);
    if (try_open(s, prefix, dtype, threads, &err) != TDM_OK)
        fail_msg("%s", err.msg);
}

static inline void subject_close(subject *s)
{
    roberta_close(s->model);
    tdm_backend_close(&s->backend);
    tiny_roberta_free(&s->tiny);
}

/* A text of n tokens: <s>, anything, </s>; the longer ones have a <pad>. */
static inline void make_text(uint64_t seed, int32_t *ids, int n)
{
    uint64_t random = seed * 77 + 1;
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)(tiny_random(&random) % TINY_VOCAB);
    ids[0] = 0;
    if (n > 10)
        ids[5] = 1;
    ids[n - 1] = 2;
}

static inline void classify_one(subject *s, const int32_t *ids, int n, float logits[2])
{
    tdm_err err = {0};
    const int32_t starts[] = {0, n};
    if (roberta_classify(s->model, ids, starts, 1, logits, &err) != TDM_OK)
        fail_msg("%s", err.msg);
}

#endif
