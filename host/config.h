/* host/config.h - config.json, validated against what tandem implements.
 *
 * A key that would change the maths and is not at the value implemented here is refused by name.
 * Keys that do not matter at inference are ignored. Source: the published models' config.json. */
#ifndef HOST_CONFIG_H
#define HOST_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "host/err.h"

typedef enum { TDM_GPT2, TDM_ROBERTA } tdm_arch;

typedef struct {
    tdm_arch arch;
    int n_layer, n_head, n_embd; /* n_embd == 64 * n_head */
    int n_inner;                 /* width of the feed-forward layer */
    int n_vocab;
    int n_position; /* rows of the position table: 1024 for GPT-2, 514 for RoBERTa */
    int n_context;  /* tokens at most: 1024 for GPT-2, 512 with specials for RoBERTa (rows - 2) */
    float norm_eps;
    bool tied;         /* GPT-2: the output matrix is wte */
    int eos;           /* GPT-2: <|endoftext|>; RoBERTa: </s> */
    int bos, pad, unk; /* RoBERTa: <s>, <pad>, <unk>; GPT-2: bos == eos */
} tdm_config;

/* Parse dir/config.json. Errors: TDM_ENOINPUT, TDM_EFORMAT naming the key, its value and the limit. */
tdm_status tdm_config_load(const char *dir, tdm_config *out, tdm_err *err);
/* The same from memory (used by the fuzzer). */
tdm_status tdm_config_parse(const char *text, size_t len, tdm_config *out, tdm_err *err);

#endif
