/* host/batch_state.h - inside a batch: what batch.c (steps) and batch_admit.c (who may begin, and with which
 * pages) share. */
#ifndef HOST_BATCH_STATE_H
#define HOST_BATCH_STATE_H

#include "host/batch.h"
#include "host/pages.h"

typedef struct {
    tdm_batch_text *text; /* borrowed; NULL: free */
    int64_t since;        /* steps before this one know nothing of it */
    int32_t position;     /* of the token that is fed next */
    int32_t n_pages;      /* of its row in the page table */
    int32_t copy_from;    /* page whose copy its last page becomes before it runs; -1: none */
    bool queued;          /* its prompt has not been fed completely */
} batch_slot;

/* The pages of the prompt that was admitted last, for texts that have it too. */
typedef struct {
    int64_t prompt;   /* -1: none */
    int32_t n_prompt;
    int32_t n_pages;  /* of its tokens but the last */
    int32_t *pages;   /* [text_pages] held; the text that filled the last one writes behind the prompt */
    int32_t feeder;   /* slot that feeds it; -1: it has been fed */
} batch_prefix;

/* A decoding step whose draws have not been looked at. */
typedef struct {
    int64_t step;
    int32_t n;
    int32_t *slots; /* [n] */
} batch_flight;

struct tdm_batch {
    tdm_batch_limits limits;
    int32_t text_pages, n_running, n_drawn, n_ended, eos;
    gpt2_run *run;
    tdm_pages *pages;
    batch_slot *slots;   /* [slots] */
    int32_t *table;      /* [slots, text_pages] */
    bool table_changed;  /* since it was uploaded */
    int32_t *free_slots; /* [slots - n_running] a stack */
    int32_t *queue;      /* [slots] a ring of slots whose prompts are to be fed, oldest first */
    int32_t queue_first, n_queued;
    batch_prefix prefix;
    int64_t step;        /* number of the next decoding step; its lane is step % TDM_LANES */
    batch_flight flights[TDM_LANES];
    int32_t n_flights;   /* not looked at: the last ones */
    double credit;       /* texts that may begin before the next step */
    bool credit_is_old;  /* a step has been made since it was set */
    int32_t *memory;     /* of all arrays of int32 here and below, one allocation */
    int32_t *tokens, *positions, *starts, *seq_slots; /* of a step of prompts */
};

/* The pages of slot s in the table. */
static inline int32_t *batch_row(const tdm_batch *b, int32_t s)
{
    return b->table + (size_t)s * (size_t)b->text_pages;
}

/* Tokens of its prompt that a text still has to feed in ragged steps. */
static inline int32_t batch_prompt_left(const batch_slot *s)
{
    return s->queued ? s->text->n_prompt - 1 - s->position : 0;
}

/* One page more for slot s. Pages that only the prefix holds are there for the taking. */
tdm_status batch_take_page(tdm_batch *b, int32_t s, tdm_err *err);

/* The last page of slot s becomes a copy of copy_from, if that is set. */
tdm_status batch_fill_page(tdm_batch *b, int32_t s, tdm_err *err);

/* Texts to come have no prompt in common with those that run. */
tdm_status batch_forget_prefix(tdm_batch *b, tdm_err *err);

#endif
