/* detector/preprocess.h - from a text to the token ids that the detector sees.
 *
 *   tdm_preprocess p;
 *   TDM_TRY(tdm_preprocess_init(&p, bpe, TDM_PREPROCESS_RELEASE, 512, 0, 2, err));
 *   TDM_TRY(tdm_preprocess_text(&p, text, len, &ids, &counts, err)); // ids.len == 0: empty
 *
 * The published detector has been run in three ways that give different probabilities for the same
 * text. With C the context (512), BPE(t) the ids of t, and "white space" the 29 characters that
 * Python's str.isspace knows (the 25 of White_Space and U+001C .. U+001F):
 *
 * release  How the detector was trained and first released (transformers 2.0 and 2.1). White space
 *          is stripped from both ends. What looks like a special token is plain text.
 *              ids = <s> BPE(text)[: C - 2] </s>
 *              all_tokens = length of BPE(text), used_tokens = min(all_tokens, C - 2)
 * hf       What the pipeline of transformers 4 and 5 does with truncation=True. Nothing is
 *          stripped; <s> <pad> </s> <unk> <mask> in the text are those tokens
 *          (TDM_BPE_PARSE_SPECIAL).
 *              ids = <s> BPE(text)[: C - 2] </s>;  counts as above
 * demo     What the original server does on transformers 2.9.1, the version its maintainers name.
 *          1. A space is put in front of a text whose first character is not white space.
 *          2. The text is cut at each <s> <pad> </s> <unk> <mask>, which become those tokens; white
 *             space at the end (not at the start) of each piece between them goes; empty pieces go.
 *          3. The tokenizer adds the special tokens, the server cuts and adds them once more:
 *              encoded = <s> BPE(pieces) </s>;  ids = <s> encoded[: C - 2] </s>
 *              all_tokens = length of encoded (two more than the text has), used_tokens =
 *              min(all_tokens, C - 2): the numbers which that server reports
 *
 * A text without a token (release: nothing left; hf: no byte; demo: only white space) is empty:
 * no ids, and both counts are 0. Source: openai/gpt-2-output-dataset detector/server.py.
 * Thread safety: tdm_preprocess_text may run on any number of threads with one tdm_preprocess. */
#ifndef DETECTOR_PREPROCESS_H
#define DETECTOR_PREPROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "host/err.h"
#include "tokenizer/bpe.h"
#include "tokenizer/vocab.h"

typedef enum { TDM_PREPROCESS_RELEASE, TDM_PREPROCESS_HF, TDM_PREPROCESS_DEMO } tdm_preprocess_mode;

typedef struct {
    const tdm_bpe *bpe; /* borrowed */
    tdm_preprocess_mode mode;
    size_t context; /* ids at most, special tokens included */
    int32_t bos, eos;
    int32_t specials[TDM_N_SPECIALS]; /* by tdm_special; -1: plain text */
} tdm_preprocess;

/* What is reported about a text; see above for what is counted. */
typedef struct {
    int64_t all_tokens, used_tokens;
} tdm_token_counts;

/* Fill *p. `bpe` is borrowed.
 *   context   ids at most, special tokens included; at least 3
 *   bos, eos  what config.json says
 * Errors: TDM_EARG for the context; TDM_EFORMAT when the vocabulary has no <s> or </s> or gives
 * them other ids than bos and eos (a GPT-2 vocabulary, or merges without vocab.json). */
tdm_status tdm_preprocess_init(tdm_preprocess *p, const tdm_bpe *bpe, tdm_preprocess_mode mode,
                               int context, int32_t bos, int32_t eos, tdm_err *err);

/* Replace *ids by the ids of one text.
 *   text  [len] bytes of UTF-8
 * Errors: TDM_ENOMEM. */
tdm_status tdm_preprocess_text(const tdm_preprocess *p, const char *text, size_t len, tdm_ids *ids,
                               tdm_token_counts *counts, tdm_err *err);

/* Bytes of white space (the 29 characters above) at the start, or at the end, of text [len]. */
size_t tdm_space_before(const char *text, size_t len);
size_t tdm_space_after(const char *text, size_t len);

#endif
