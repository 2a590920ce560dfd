/* tools/supervise_sets.h - sets and lists of chunks, for supervise_chunks.c. {0} is an empty one. */
#ifndef TOOLS_SUPERVISE_SETS_H
#define TOOLS_SUPERVISE_SETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"

typedef struct {
    size_t file;
    uint64_t number;
} chunk_id;

/* A bit for each chunk of each file, up to the highest that was put. */
typedef struct {
    struct chunk_bits {
        uint64_t *words; /* owned [n] */
        size_t n;
    } *files; /* owned [n] */
    size_t n;
} chunk_set;

/* In the order in which they were put. */
typedef struct {
    chunk_id *p; /* owned [n] */
    size_t n, cap;
} chunk_list;

bool chunk_is_same(chunk_id a, chunk_id b);

bool chunk_set_has(const chunk_set *s, chunk_id c);
tdm_status chunk_set_put(chunk_set *s, chunk_id c, tdm_err *err); /* Errors: TDM_ENOMEM */
void chunk_set_drop(chunk_set *s, chunk_id c);                    /* one that was put at some time */
void chunk_set_remove(chunk_set *s, const chunk_set *what);       /* all of them */
void chunk_set_free(chunk_set *s);

size_t chunk_list_find(const chunk_list *list, chunk_id c); /* list->n: it is not there */
bool chunk_list_drop(chunk_list *list, chunk_id c);         /* false: it is not there */
tdm_status chunk_list_put(chunk_list *list, chunk_id c, tdm_err *err); /* Errors: TDM_ENOMEM */

/* Any array p [*cap] of elements of `size` bytes with room for at least one behind the n-th; what is new is zero.
 * Returns: it, maybe at another address; NULL with TDM_ENOMEM in err: p is as it was. */
void *chunks_grow(void *p, size_t n, size_t *cap, size_t size, tdm_err *err);

#endif
