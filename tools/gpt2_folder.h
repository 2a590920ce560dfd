/* tools/gpt2_folder.h - a folder with a GPT-2, all but its weights: what is cheap to check.
 *
 *   TDM_TRY(gpt2_folder_open(&folder, "gpt2-xl", "score", err));
 *   ...gpt2_open(&backend, folder.checkpoint, &folder.config, true, &model, err)...
 *   gpt2_folder_close(&folder); */
#ifndef TOOLS_GPT2_FOLDER_H
#define TOOLS_GPT2_FOLDER_H

#include "host/checkpoint.h"
#include "host/config.h"
#include "tokenizer/bpe.h"

typedef struct {
    tdm_config config;
    tdm_bpe *bpe;
    tdm_checkpoint *checkpoint;
} gpt2_folder;

/* command: who needs it, for the message. Errors: TDM_EFORMAT when it is no GPT-2 or its tokenizer has other tokens
 * than config.json says; those of config, tokenizer and checkpoint. What was opened is closed by gpt2_folder_close. */
tdm_status gpt2_folder_open(gpt2_folder *f, const char *dir, const char *command, tdm_err *err);
void gpt2_folder_close(gpt2_folder *f); /* {0} is fine */

#endif
