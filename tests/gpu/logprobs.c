/* tests/gpu/logprobs.c - the log-probabilities that the tokens of some texts get, for
 * tools/compare_hf.py.
 *
 *   logprobs cpu|cuda f32|f16|bf16 MODEL IDS.jsonl > LOGPROBS
 *
 * IDS.jsonl holds a line {"ids": [...]} for each text, of 2 to `context` tokens. Out come natural
 * logarithms as f32 in the byte order of the machine, one for each token but a text's first, text
 * after text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/checkpoint.h"
#include "host/gpt2.h"
#include "host/json.h"
#include "host/readfile.h"
#include "host/score.h"

typedef struct {
    tdm_backend backend;
    tdm_config config;
    tdm_checkpoint *ck;
    gpt2_model *model;
    tdm_scorer *scorer;
    int32_t *tokens; /* [n_context] */
    tdm_stat *stats; /* [n_context] */
} scorer;

static tdm_status open_backend(const char *device, const char *dtype, tdm_backend *out,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_dtype type = TDM_F32;
    while (type <= TDM_BF16 && strcmp(tdm_dtype_name(type), dtype))
        type++;
    TDM_REQUIRE(type <= TDM_BF16, TDM_EARG, "%s: want f32, f16 or bf16", dtype);
    if (!strcmp(device, "cuda")) {
        const tdm_cuda_options options = {.dtype = type, .kv_dtype = type};
        TDM_TRY(tdm_open_cuda(&options, out, err));
        goto done;
    }
    TDM_REQUIRE(!strcmp(device, "cpu") && type == TDM_F32, TDM_EARG,
                "%s in %s: want cuda, or cpu in f32", device, dtype);
    TDM_TRY(tdm_open_cpu(0, out, err));
done:
    return st;
}

static tdm_status open_scorer(const char *device, const char *dtype, const char *dir, scorer *s,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_config_load(dir, &s->config, err));
    TDM_REQUIRE(s->config.arch == TDM_GPT2, TDM_EARG, "%s: not a GPT-2", dir);
    TDM_TRY(tdm_checkpoint_open(dir, &s->ck, err));
    TDM_TRY(open_backend(device, dtype, &s->backend, err));
    TDM_TRY(gpt2_open(&s->backend, s->ck, &s->config, true, &s->model, err));
    TDM_TRY(tdm_scorer_open(s->model, &(tdm_score_options){0}, &s->scorer, err));
    s->tokens = calloc((size_t)s->config.n_context, sizeof *s->tokens);
    s->stats = calloc((size_t)s->config.n_context, sizeof *s->stats);
    TDM_REQUIRE(s->tokens && s->stats, TDM_ENOMEM, "a text");
done:
    return st;
}

static void close_scorer(scorer *s)
{
    free(s->stats);
    free(s->tokens);
    tdm_scorer_close(s->scorer);
    gpt2_close(s->model);
    tdm_backend_close(&s->backend);
    tdm_checkpoint_close(s->ck);
}

static tdm_status read_ids(scorer *s, const char *line, size_t len, int32_t *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json *doc = NULL;
    TDM_TRY(tdm_json_parse(line, len, 1 << 20, &doc, NULL, err));
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(tdm_json_root(doc), "ids");
    *n = cJSON_IsArray(ids) ? cJSON_GetArraySize(ids) : 0;
    TDM_REQUIRE(*n >= 2 && *n <= s->config.n_context, TDM_EARG, "%d ids, want 2 to %d", (int)*n,
                s->config.n_context);
    int32_t at = 0;
    for (const cJSON *id = ids->child; id; id = id->next)
        s->tokens[at++] = id->valueint;
done:
    tdm_json_close(doc);
    return st;
}

static tdm_status score_line(scorer *s, const char *line, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int32_t n = 0;
    TDM_TRY(read_ids(s, line, len, &n, err));
    const tdm_score_text text = {.ids = s->tokens, .n = n, .stats = s->stats};
    TDM_TRY(tdm_scorer_run(s->scorer, &text, 1, err));
    for (int32_t i = 0; i + 1 < n; i++) {
        TDM_REQUIRE(s->stats[i].rank > 0, TDM_EINTERNAL, "row %d: a logit is not finite", (int)i);
        fwrite(&s->stats[i].logprob, sizeof s->stats[i].logprob, 1, stdout);
    }
done:
    return st;
}

static tdm_status run(char **argv, scorer *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    TDM_TRY(open_scorer(argv[1], argv[2], argv[3], s, err));
    TDM_TRY(tdm_file_load(argv[4], (uint64_t)1 << 30, &text, err));
    for (size_t at = 0; at < text.len;) {
        const char *feed = memchr(text.p + at, '\n', text.len - at);
        const size_t len = feed ? (size_t)(feed - text.p) - at : text.len - at;
        if (len > 0)
            TDM_TRY(score_line(s, text.p + at, len, err));
        at += len + 1;
    }
    TDM_REQUIRE(fflush(stdout) == 0, TDM_EIO, "standard output");
done:
    tdm_buf_free(&text);
    return st;
}

int main(int argc, char **argv)
{
    tdm_err err = {0};
    scorer s = {0};
    if (argc != 5) {
        fprintf(stderr, "usage: logprobs cpu|cuda f32|f16|bf16 MODEL IDS.jsonl > LOGPROBS\n");
        return TDM_EARG;
    }
    const tdm_status st = run(argv, &s, &err);
    close_scorer(&s);
    if (st != TDM_OK)
        fprintf(stderr, "logprobs: %s\n", err.msg);
    return (int)st;
}
