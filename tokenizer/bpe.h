/* tokenizer/bpe.h - byte-level BPE of GPT-2 and RoBERTa.
 *
 *   TDM_TRY(tdm_bpe_open_dir("gpt2-xl", &bpe, err));
 *   TDM_TRY(tdm_bpe_encode(bpe, text, len, 0, &ids, err));   // appends to ids
 *   TDM_TRY(tdm_bpe_decode(bpe, ids.p, ids.len, &buf, err)); // bytes
 *   tdm_bpe_close(bpe);
 *
 * Any bytes can be encoded, NUL and invalid UTF-8 included, and decode to the same bytes.
 * Text that looks like a special token is plain text unless TDM_BPE_PARSE_SPECIAL is set.
 * Thread safety: a tdm_bpe may be used by any number of threads at once. */
#ifndef TOKENIZER_BPE_H
#define TOKENIZER_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/err.h"

typedef struct tdm_bpe tdm_bpe;

/* A growable list of token ids; {0} is empty. */
typedef struct {
    int32_t *p; /* owned */
    size_t len, cap;
} tdm_ids;
void tdm_ids_free(tdm_ids *ids);
/* Make room for `more` ids behind ids->len. Errors: TDM_ENOMEM. */
tdm_status tdm_ids_reserve(tdm_ids *ids, size_t more, tdm_err *err);

/* Read a merge list and, if vocab_path is not NULL, a vocabulary.
 *   merges_path  vocab.bpe or merges.txt. Alone it gives GPT-2's ids: bytes, merges, <|endoftext|>
 *   vocab_path   encoder.json or vocab.json: GPT-2's (checked against the merges) or RoBERTa's (gives the ids)
 * Errors: TDM_ENOINPUT, TDM_EIO, TDM_ENOMEM; TDM_EFORMAT names the file, the line and the value. */
tdm_status tdm_bpe_open(const char *merges_path, const char *vocab_path, tdm_bpe **out, tdm_err *err);
/* The same from a model folder: merges.txt or vocab.bpe, and vocab.json or encoder.json if present. */
tdm_status tdm_bpe_open_dir(const char *dir, tdm_bpe **out, tdm_err *err);
/* The same from memory; vocab may be NULL (used by the fuzzer). */
tdm_status tdm_bpe_open_memory(const char *merges, size_t merges_len, const char *vocab,
                               size_t vocab_len, tdm_bpe **out, tdm_err *err);
void tdm_bpe_close(tdm_bpe *bpe); /* NULL is fine */

int32_t tdm_bpe_size(const tdm_bpe *bpe); /* largest id + 1 */
/* The id of a special token such as "<|endoftext|>" or "<s>"; -1 when the vocabulary has none. */
int32_t tdm_bpe_special(const tdm_bpe *bpe, const char *text);

/* Whether two tokenizers give the same ids for every text. Errors: TDM_EFORMAT says where they differ. */
tdm_status tdm_bpe_check_same(const tdm_bpe *a, const tdm_bpe *b, tdm_err *err);

enum { TDM_BPE_PARSE_SPECIAL = 1 };

/* Append the ids of text [len] to *ids. No special token is added.
 * Cost: O(len log len) in the worst single word. Errors: TDM_ENOMEM.
 * Source: openai/gpt-2 src/encoder.py; HF tokenizers for TDM_BPE_PARSE_SPECIAL. */
tdm_status tdm_bpe_encode(const tdm_bpe *bpe, const char *text, size_t len, unsigned flags,
                          tdm_ids *ids, tdm_err *err);

/* The bytes of one token, valid until close. NULL for an id out of range or without bytes. */
const char *tdm_bpe_token(const tdm_bpe *bpe, int32_t id, size_t *len);

/* Append the bytes of ids [n] to *out. Errors: TDM_EARG names an id that is out of range. */
tdm_status tdm_bpe_decode(const tdm_bpe *bpe, const int32_t *ids, size_t n, tdm_buf *out,
                          tdm_err *err);

/* Append one byte as vocabularies write it: a printable character in UTF-8 (a space is U+0120). */
tdm_status tdm_bpe_put_symbol(unsigned char byte, tdm_buf *out, tdm_err *err);

/* Append text [len] as valid UTF-8: one U+FFFD per maximal ill-formed subpart, as Python does. */
tdm_status tdm_utf8_replace(const char *text, size_t len, tdm_buf *out, tdm_err *err);

/* A streaming decoder: bytes go in as tokens come, whole characters come out. */
typedef struct {
    unsigned char held[4]; /* an incomplete character */
    unsigned n_held;
} tdm_utf8_stream;
/* Append what is complete to *out; with finish, also what can no longer be completed (as U+FFFD). */
tdm_status tdm_utf8_stream_put(tdm_utf8_stream *s, const char *bytes, size_t len, int finish,
                               tdm_buf *out, tdm_err *err);

#endif
