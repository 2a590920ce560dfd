/* tokenizer/vocab_load.h - what vocab.c (text and merges) and vocab_ids.c (ids) share while a
 * vocabulary is being loaded; nothing else includes it. */
#ifndef TOKENIZER_VOCAB_LOAD_H
#define TOKENIZER_VOCAB_LOAD_H

#include "host/json.h"
#include "tokenizer/vocab.h"

typedef struct {
    tdm_vocab *v;
    uint32_t *index; /* hash table from text to entry + 1; 0 is empty */
    unsigned index_bits;
    char *scratch;                  /* one entry being decoded; as large as v->text */
    const tdm_vocab_source *json;   /* borrowed; NULL without a vocabulary */
    const tdm_json_member *members; /* borrowed from the document */
    size_t n_members;
} tdm_vocab_loader;

/* The entry with this text, or TDM_NO_SYMBOL. */
uint32_t tdm_loader_find(const tdm_vocab_loader *l, const char *text, size_t len);
/* Append an entry that is known to be new; the tables have room for all that the files hold. */
void tdm_loader_add(tdm_vocab_loader *l, const char *text, size_t len);

/* Parse l->json and set l->members. *doc must live as long as they are used. */
tdm_status tdm_loader_parse_json(tdm_vocab_loader *l, tdm_json **doc, tdm_err *err);
/* Give every entry the id that the vocabulary says. */
tdm_status tdm_loader_take_ids(tdm_vocab_loader *l, tdm_err *err);
/* Give every entry GPT-2's id. */
tdm_status tdm_loader_number(tdm_vocab_loader *l, tdm_err *err);
/* Check that every symbol has an id and no two share one; fill entry_of and special_id. */
tdm_status tdm_loader_finish(tdm_vocab_loader *l, tdm_err *err);

#endif
