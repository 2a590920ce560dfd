/* host/generate_state.h - inside generate: what generate.c (the loop, delivery) and generate_admit.c (which
 * document is next, and of which chunk) share. */
#ifndef HOST_GENERATE_STATE_H
#define HOST_GENERATE_STATE_H

#include "host/batch.h"
#include "host/generate.h"

typedef enum { ENTRY_TEXT, ENTRY_BAD, ENTRY_CHUNK } entry_kind;

/* One document in the ring, a bad prompt in place of its documents, or the end of a chunk behind its last. */
typedef struct {
    entry_kind kind;
    uint64_t id;
    tdm_batch_text text;
    tdm_record bad;    /* its pointers lead into the buffers below */
    tdm_buf prompt_id; /* JSON source */
    tdm_buf detail;    /* what is wrong, NUL-terminated */
    tdm_chunk chunk;
} generate_entry;

typedef enum {
    NEXT_UNKNOWN, /* a prompt has to be read */
    NEXT_PROMPT,  /* source, in which nobody has looked for a text yet */
    NEXT_TEXTS,   /* left documents of the current prompt */
    NEXT_END,
    NEXT_NOTHING, /* the last chunk has ended */
} generate_next;

typedef struct {
    const tdm_generate_options *o;
    const tdm_bpe *bpe;
    tdm_reader *prompts;
    const tdm_generate_to *to;
    tdm_generate_totals *totals;
    const tdm_config *config;
    tdm_batch *batch;
    int32_t context;
    generate_entry *ring; /* [n_ring] */
    int32_t *tokens; /* [n_ring, context + 1] */
    size_t n_ring;
    uint64_t oldest, newest; /* entries counted from the start: those between are in ring[x % n_ring] */

    generate_next next;
    uint64_t number;     /* of the next document: prompt x samples_per_prompt + sample */
    uint64_t left;       /* documents of the current prompt; without prompts, of all */
    tdm_ids prompt;      /* ids of the current prompt */
    bool is_prompt_wanted; /* the one that was read last: a document of it is in a wanted chunk */
    tdm_record source;   /* the current prompt's record; its id is in source_id */
    tdm_buf source_id;

    uint64_t chunk_size; /* documents; without chunks, more than there are */
    tdm_chunk chunk;     /* the one that the next document is in, or one before it that has not ended yet */
    bool is_wanted;      /* chunk */
    int64_t blank;       /* lines in front of the prompt that was read last */

    tdm_buf bytes, text; /* of the document that is being delivered */
} generate_state;

/* Begin in front of document 0. Errors: TDM_ENOMEM. */
tdm_status generate_begin(generate_state *g, tdm_err *err);
/* Admit documents in their order as long as there is room for them and none at hand is kept waiting by a
 * prompt that is late. Errors: those of tdm_generate. */
tdm_status generate_admit(generate_state *g, tdm_err *err);

#endif
