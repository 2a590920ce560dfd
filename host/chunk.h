/* host/chunk.h - the units in which a job is divided among processes, computed, and committed.
 *
 * A chunk is a fixed part of the work, whoever does it. Of a file with records it is the lines that begin in
 * bytes [number x size, (number + 1) x size) of the decompressed file; of documents without an input, or
 * with prompts, documents [number x size, (number + 1) x size). */
#ifndef HOST_CHUNK_H
#define HOST_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"

enum { TDM_CHUNK_BYTES = 1 << 20, TDM_CHUNK_DOCUMENTS = 64 };
#define TDM_CHUNKS_UNKNOWN UINT64_MAX /* of a file that must be read to its end to know */

/* A chunk that has been passed: all of its lines were read, or all of its documents were written. */
typedef struct {
    size_t file;     /* its number among the inputs; 0 where there are none */
    uint64_t number; /* from 0 in each file */
    int64_t skipped; /* blank lines */
    uint64_t hash;   /* of what was read for it, to notice that a pipe gives something else this time */
    bool is_last;    /* of its file */
} tdm_chunk;

/* One process of several that share a job: 0 <= index < count. */
typedef struct {
    int64_t index, count;
} tdm_rank;

/* Which chunks to read. NULL functions: all are wanted. */
typedef struct {
    void *ctx;
    bool (*is_wanted)(void *ctx, size_t file, uint64_t number);
    /* A chunk that is not wanted had to be read to come by: is it the one that was meant?
     * Errors: TDM_EMISMATCH when its hash is another one now. */
    tdm_status (*pass)(void *ctx, const tdm_chunk *chunk, tdm_err *err);
} tdm_chunk_filter;

#endif
