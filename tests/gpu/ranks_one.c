/* tests/gpu/ranks_one.c - GPT-2 alone and as one rank of one, which goes through the communicator: the same bits, and what
 * that way costs. It is all that a single GPU can show of --tp.
 *
 *   ranks_one cpu|cuda f32|f16|bf16 MODEL TEXTS STEPS ROUNDS
 *
 * Logits of a prompt, then ROUNDS times STEPS decoding steps of TEXTS texts by each of the two, in turn; every token is
 * compared. One JSON object on stdout, microseconds of a step (medians). Exit code 1: bits differ; another: an error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/checkpoint.h"
#include "host/gpt2.h"
#include "host/ranks.h"

enum { PLAIN, ONE_RANK, WAYS, PROMPT = 17, MOST_ROUNDS = 1000 };

typedef struct {
    const char *device, *dtype, *model;
    int32_t texts, steps, rounds;
} options;

typedef struct {
    tdm_backend be;
    gpt2_model *model;
    gpt2_run *run;
    float *logits;  /* [PROMPT, V] */
    int32_t *drawn; /* [steps, texts] of this round */
    double us[MOST_ROUNDS];
} way;

typedef struct {
    const options *o;
    tdm_config config;
    tdm_checkpoint *ck;
    way ways[WAYS];
    int32_t *slots; /* [texts] 0, 1, 2, ... */
} pair;

/* ---- open and close ---- */

static tdm_status open_backend(const options *o, int which, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    static const int FIRST = 0;
    tdm_dtype type = TDM_F32;
    while (type <= TDM_BF16 && strcmp(tdm_dtype_name(type), o->dtype))
        type++;
    TDM_REQUIRE(type <= TDM_BF16, TDM_EARG, "%s: want f32, f16 or bf16", o->dtype);
    const tdm_cuda_options cuda = {.device = FIRST, .dtype = type, .kv_dtype = type};
    const bool is_cpu = !strcmp(o->device, "cpu");
    TDM_REQUIRE((is_cpu && type == TDM_F32) || !strcmp(o->device, "cuda"), TDM_EARG, "%s in %s: want cuda, or cpu in f32",
                o->device, o->dtype);
    if (which == PLAIN)
        TDM_TRY(is_cpu ? tdm_open_cpu(0, out, err) : tdm_open_cuda(&cuda, out, err));
    else
        TDM_TRY(is_cpu ? tdm_open_cpu_ranks(1, 0, out, err) : tdm_open_cuda_ranks(&FIRST, 1, &cuda, out, err));
done:
    return st;
}

static tdm_status open_way(const pair *p, int which, way *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const options *o = p->o;
    const int32_t context = p->config.n_context;
    const gpt2_limits limits = {.slots = o->texts,
                                .pages = o->texts * gpt2_text_pages(context),
                                .context = context,
                                .rows = o->texts > PROMPT ? o->texts : PROMPT,
                                .logits = o->texts > PROMPT ? o->texts : PROMPT};
    TDM_REQUIRE(1 + o->steps * (o->rounds + 1) <= context, TDM_EARG, "%d steps a round, %d rounds and one: the context is %d",
                o->steps, o->rounds, context);
    TDM_TRY(open_backend(o, which, &w->be, err));
    TDM_TRY(gpt2_open(&w->be, p->ck, &p->config, false, &w->model, err));
    TDM_TRY(gpt2_run_open(w->model, &limits, &w->run, err));
    w->logits = calloc((size_t)PROMPT * (size_t)p->config.n_vocab, sizeof *w->logits);
    w->drawn = calloc((size_t)o->texts * (size_t)o->steps, sizeof *w->drawn);
    TDM_REQUIRE(w->logits && w->drawn, TDM_ENOMEM, "results");
done:
    return st;
}

static void close_way(way *w)
{
    free(w->drawn);
    free(w->logits);
    gpt2_run_close(w->run);
    gpt2_close(w->model);
    tdm_backend_close(&w->be);
}

static tdm_status open_pair(const options *o, pair *p, tdm_err *err)
{
    tdm_status st = TDM_OK;
    p->o = o;
    TDM_TRY(tdm_config_load(o->model, &p->config, err));
    TDM_REQUIRE(p->config.arch == TDM_GPT2, TDM_EARG, "%s: not a GPT-2", o->model);
    TDM_TRY(tdm_checkpoint_open(o->model, &p->ck, err));
    p->slots = calloc((size_t)o->texts, sizeof *p->slots);
    TDM_REQUIRE(p->slots, TDM_ENOMEM, "slots");
    for (int32_t i = 0; i < o->texts; i++)
        p->slots[i] = i;
    for (int i = 0; i < WAYS; i++)
        TDM_TRY(open_way(p, i, &p->ways[i], err));
done:
    return st;
}

static void close_pair(pair *p)
{
    for (int i = 0; i < WAYS; i++)
        close_way(&p->ways[i]);
    free(p->slots);
    tdm_checkpoint_close(p->ck);
}

/* ---- what both do ---- */

static tdm_status read_prompt(const pair *p, way *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t V = p->config.n_vocab, starts[] = {0, PROMPT}, slot = 0;
    int32_t tokens[PROMPT], positions[PROMPT];
    tdm_mat logits;
    for (int32_t i = 0; i < PROMPT; i++) {
        positions[i] = i;
        tokens[i] = (i + 1) * 7919 % V;
    }
    const gpt2_step step = {.n_rows = PROMPT, .n_seqs = 1, .n_logits = PROMPT, .tokens = tokens, .positions = positions,
                            .starts = starts, .slots = &slot, .logit_rows = positions};
    TDM_TRY(gpt2_forward(w->run, &step, &logits, err));
    for (int32_t i = 0; i < PROMPT; i++)
        TDM_TRY(tdm_download(&w->be, w->logits + (size_t)i * (size_t)V,
                             (const float *)logits.p + (size_t)i * (size_t)(logits.stride ? logits.stride : V),
                             (size_t)V * sizeof(float), err));
done:
    return st;
}

static tdm_status start_texts(const pair *p, way *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int32_t left = p->config.n_context - 1;
    for (int32_t i = 0; i < p->o->texts; i++) {
        const gpt2_next next = {.token = (i * 7919 + 1) % p->config.n_vocab, .position = 0, .left = left,
                                .draw = {.seed = 5, .document = (uint64_t)i, .temperature = 1, .top_p = 1}};
        TDM_TRY(gpt2_start(w->run, i, &next, err));
    }
done:
    return st;
}

/* STEPS steps, each enqueued before the draws of the one before are looked at. */
static tdm_status decode(const pair *p, way *w, double *us, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct timespec begin, end;
    const int32_t B = p->o->texts, steps = p->o->steps;
    const int32_t *drawn;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int32_t t = 0; t <= steps; t++) {
        if (t < steps)
            TDM_TRY(gpt2_decode(w->run, p->slots, B, t % 2, err));
        if (t == 0)
            continue;
        TDM_TRY(gpt2_drawn(w->run, (t - 1) % 2, &drawn, err));
        memcpy(w->drawn + (size_t)(t - 1) * (size_t)B, drawn, (size_t)B * sizeof *drawn);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    *us = (1e6 * (double)(end.tv_sec - begin.tv_sec) + 1e-3 * (double)(end.tv_nsec - begin.tv_nsec)) / steps;
done:
    return st;
}

/* ---- the comparison ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(way *w, int32_t rounds)
{
    qsort(w->us, (size_t)rounds, sizeof *w->us, by_value);
    return w->us[rounds / 2];
}

/* A first round is for graphs to be recorded, and not counted. */
static tdm_status compare(pair *p, bool *same, tdm_err *err)
{
    tdm_status st = TDM_OK;
    way *w = p->ways;
    for (int i = 0; i < WAYS; i++) {
        TDM_TRY(read_prompt(p, &w[i], err));
        TDM_TRY(start_texts(p, &w[i], err));
    }
    *same = !memcmp(w[PLAIN].logits, w[ONE_RANK].logits,
                    sizeof *w->logits * (size_t)PROMPT * (size_t)p->config.n_vocab);
    for (int32_t round = -1; round < p->o->rounds; round++) {
        for (int i = 0; i < WAYS; i++) {
            way *next = &w[(i + round) & 1 ? ONE_RANK : PLAIN];
            TDM_TRY(decode(p, next, &next->us[round < 0 ? 0 : round], err));
        }
        *same = *same && !memcmp(w[PLAIN].drawn, w[ONE_RANK].drawn,
                                 sizeof *w->drawn * (size_t)p->o->texts * (size_t)p->o->steps);
    }
done:
    return st;
}

static tdm_status run(const options *o, pair *p, bool *same, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(open_pair(o, p, err));
    TDM_TRY(compare(p, same, err));
    const tdm_backend *be = &p->ways[PLAIN].be;
    const double plain = median(&p->ways[PLAIN], o->rounds), one_rank = median(&p->ways[ONE_RANK], o->rounds);
    printf("{\"bench\": \"ranks_one\", \"device\": \"%s\", \"texts\": %d, \"steps\": %d, \"rounds\": %d, \"plain_us\": %.2f, "
           "\"one_rank_us\": %.2f, \"ratio\": %.4f, \"same_bits\": %s}\n",
           be->device ? be->device : be->ops->name, o->texts, o->steps, o->rounds, plain, one_rank, one_rank / plain,
           *same ? "true" : "false");
done:
    return st;
}

int main(int argc, char **argv)
{
    tdm_err err = {0};
    static pair p;
    bool same = false;
    if (argc != 7) {
        fprintf(stderr, "usage: ranks_one cpu|cuda f32|f16|bf16 MODEL TEXTS STEPS ROUNDS\n");
        return TDM_EARG;
    }
    const options o = {argv[1], argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), atoi(argv[6])};
    if (o.texts < 1 || o.steps < 1 || o.rounds < 1 || o.rounds > MOST_ROUNDS) {
        fprintf(stderr, "ranks_one: want TEXTS, STEPS and ROUNDS of 1 and more, %d rounds at most\n", MOST_ROUNDS);
        return TDM_EARG;
    }
    const tdm_status st = run(&o, &p, &same, &err);
    close_pair(&p);
    if (st != TDM_OK)
        fprintf(stderr, "ranks_one: %s\n", err.msg);
    return st != TDM_OK ? (int)st : same ? 0 : 1;
}
