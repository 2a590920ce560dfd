/* tokenizer/merge.h - byte-pair merging inside one piece.
 *
 *   tdm_merge m = {.vocab = vocab};
 *   TDM_TRY(tdm_merge_piece(&m, piece, len, &ids, err));   // any number of pieces
 *   tdm_merge_free(&m);
 *
 * Thread safety: one tdm_merge, one thread. */
#ifndef TOKENIZER_MERGE_H
#define TOKENIZER_MERGE_H

#include "tokenizer/bpe.h"
#include "tokenizer/vocab.h"

/* A pair that waits for its turn. */
typedef struct {
    uint32_t at;   /* where its left symbol starts */
    uint32_t next; /* the node behind it in its list; 0 is the end */
} tdm_merge_node;

/* The working memory of long pieces; it grows on demand, and all but the nodes is used again. */
typedef struct {
    const tdm_vocab *vocab; /* borrowed */
    uint32_t *slots;        /* [slots_cap] one per byte of the piece */
    size_t slots_cap;
    uint32_t *heads; /* [n_symbols] the first node that waits to become this symbol; 0 is none */
    uint64_t *busy;  /* one bit per symbol: it has a list */
    tdm_merge_node *nodes; /* [nodes_cap], nodes[0] is not used */
    size_t n_nodes, nodes_cap;
    uint32_t free_node; /* a list of nodes to use again */
} tdm_merge;

/* Append the ids of one piece.
 *   piece  [len] bytes, len >= 1
 * Cost:   len lookups and len^2 cheap steps up to 48 bytes; above, time linear in len (each merge
 *         is a constant number of lookups) and at most about 9 bytes of memory per byte.
 * Errors: TDM_ENOMEM; TDM_EARG for a piece of 4 GiB or more.
 * Source: openai/gpt-2 src/encoder.py, Encoder.bpe. */
tdm_status tdm_merge_piece(tdm_merge *m, const unsigned char *piece, size_t len, tdm_ids *ids,
                           tdm_err *err);
void tdm_merge_free(tdm_merge *m); /* {0} is fine */

#endif
