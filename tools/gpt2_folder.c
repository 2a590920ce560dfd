#include "tools/gpt2_folder.h"

tdm_status gpt2_folder_open(gpt2_folder *f, const char *dir, const char *command, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_config_load(dir, &f->config, err));
    TDM_REQUIRE(f->config.arch == TDM_GPT2, TDM_EFORMAT, "%s: not a GPT-2, which %s needs", dir, command);
    TDM_TRY(tdm_bpe_open_dir(dir, &f->bpe, err));
    TDM_REQUIRE(tdm_bpe_size(f->bpe) == f->config.n_vocab, TDM_EFORMAT,
                "%s: the tokenizer has %d tokens, config.json says %d", dir, (int)tdm_bpe_size(f->bpe),
                f->config.n_vocab);
    TDM_TRY(tdm_checkpoint_open(dir, &f->checkpoint, err));
done:
    return st;
}

void gpt2_folder_close(gpt2_folder *f)
{
    tdm_checkpoint_close(f->checkpoint);
    tdm_bpe_close(f->bpe);
    *f = (gpt2_folder){0};
}
