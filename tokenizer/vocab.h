/* tokenizer/vocab.h - the vocabulary: what merges with what, and which id stands for which bytes.
 *
 * Symbols are what merging works on: 0..255 are the bytes, 256 + i is what merge i gives. A lower
 * symbol is an earlier merge, so a symbol is also its own priority. Entries are the symbols and,
 * behind them, the special tokens. Ids are what the model sees.
 * Thread safety: read-only after tdm_vocab_load. */
#ifndef TOKENIZER_VOCAB_H
#define TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/err.h"

enum {
    TDM_SYMBOL_BITS = 21, /* two symbols and what they merge to fit one 64-bit word */
    TDM_MAX_SYMBOLS = 1 << TDM_SYMBOL_BITS,
};
#define TDM_NO_SYMBOL UINT32_MAX

/* name, text, parsed in GPT-2 text, parsed in RoBERTa text */
#define TDM_SPECIAL_MAP(X)                                                                         \
    X(END_OF_TEXT, "<|endoftext|>", true, false)                                                   \
    X(BEGIN, "<s>", false, true)                                                                   \
    X(PAD, "<pad>", false, true)                                                                   \
    X(END, "</s>", false, true)                                                                    \
    X(UNKNOWN, "<unk>", false, true)                                                               \
    X(MASK, "<mask>", false, true)

typedef enum {
#define X(name, text, gpt2, roberta) TDM_SPECIAL_##name,
    TDM_SPECIAL_MAP(X)
#undef X
        TDM_N_SPECIALS
} tdm_special;

typedef struct {
    uint64_t *pairs;    /* hash table [1 << pair_bits]: left, right, result; 0 is empty */
    unsigned pair_bits;
    uint32_t n_symbols; /* 256 + merges */
    uint32_t n_entries;
    char *text;         /* the bytes of all entries, one behind the other */
    uint32_t *text_at;  /* [n_entries + 1] offsets in text */
    int32_t *id_of;     /* [n_entries] */
    int32_t *entry_of;  /* [n_ids]; -1 for an id that no entry has */
    int32_t n_ids;      /* largest id + 1 */
    int32_t special_id[TDM_N_SPECIALS]; /* -1 when absent */
    bool roberta;       /* the ids are RoBERTa's */
} tdm_vocab;

/* A file in memory, and what messages call it. */
typedef struct {
    const char *name;
    const char *text; /* [len] */
    size_t len;
} tdm_vocab_source;

/* Read a merge list and, when json is not NULL, a vocabulary.
 *   merges  vocab.bpe: an optional "#version" line, then "LEFT RIGHT" per line
 *   json    encoder.json: {"token": id, ...}. With "<s>" in it the ids are RoBERTa's and taken from
 *           it; otherwise they must be those that the merges give (bytes in the order of their
 *           symbols, then merges, then <|endoftext|>)
 * Errors: TDM_ENOMEM; TDM_EFORMAT names the source, the line or token, and the reason; *v is empty.
 * Source: openai/gpt-2 src/encoder.py, fairseq gpt2_bpe. */
tdm_status tdm_vocab_load(tdm_vocab *v, const tdm_vocab_source *merges,
                          const tdm_vocab_source *json, tdm_err *err);
void tdm_vocab_free(tdm_vocab *v); /* {0} is fine */

const char *tdm_special_text(tdm_special special);
/* Whether HF's tokenizer for this vocabulary finds the token in text. */
bool tdm_special_is_parsed(const tdm_vocab *v, tdm_special special);

/* What two symbols merge to; TDM_NO_SYMBOL when they do not. */
static inline uint32_t tdm_vocab_merge(const tdm_vocab *v, uint32_t left, uint32_t right)
{
    const uint64_t key = (uint64_t)left << TDM_SYMBOL_BITS | right;
    const size_t mask = ((size_t)1 << v->pair_bits) - 1;
    size_t i = (size_t)(key * 0x9E3779B97F4A7C15u >> (64 - v->pair_bits));
    for (; v->pairs[i]; i = (i + 1) & mask)
        if (v->pairs[i] >> TDM_SYMBOL_BITS == key)
            return (uint32_t)v->pairs[i] & (TDM_MAX_SYMBOLS - 1);
    return TDM_NO_SYMBOL;
}

#endif
