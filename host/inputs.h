/* host/inputs.h - what a command is given to read, as a list of files in a fixed order.
 *
 *   TDM_TRY(tdm_inputs_list(operands, n, out_path, &inputs, err));
 *   for (size_t i = 0; i < inputs.n; i++) use(&inputs.items[i]);
 *   tdm_inputs_free(&inputs);
 *
 * A folder stands for the files below it whose names end in .jsonl, .jsonl.gz or .jsonl.zst, in the byte order
 * of their paths; hidden ones, folders that end in .job, what is no regular file, and what the run itself writes
 * (OUT, OUT.errors.jsonl) are passed over. Links are followed. Thread safety: no state. */
#ifndef HOST_INPUTS_H
#define HOST_INPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/chunk.h"
#include "host/codec.h"
#include "host/err.h"

typedef struct {
    char *path;      /* owned; "-" is stdin */
    bool is_regular; /* a file, whose size and time are known and which can be read again */
    tdm_codec codec; /* of a regular file, by its first bytes; of others by the name alone */
    uint64_t size;   /* bytes on disk, 0 unless regular */
    int64_t mtime;   /* nanoseconds since 1970, 0 unless regular */
} tdm_input;

typedef struct {
    tdm_input *items; /* owned [n] */
    size_t n;
    uint64_t bytes;   /* on disk; 0 when a pipe makes that unknown */
} tdm_inputs;

/* operands  [n] files, folders, "-"; none at all means stdin. The same file may be named twice, stdin once
 * out       where results go, NULL or "-" for none: a file named here and there is an error, and so is one in a
 *           folder that exists and that no run made (there is neither OUT.manifest.json nor OUT.job)
 * Errors: TDM_ENOINPUT names a missing or unreadable file, or a folder without such files; TDM_EARG for what
 * the run writes among the files, and stdin named twice; TDM_EFORMAT for a regular file named .gz or .zst that is none;
 * TDM_ENOMEM. */
tdm_status tdm_inputs_list(const char *const *operands, size_t n, const char *out, tdm_inputs *inputs,
                           tdm_err *err);
void tdm_inputs_free(tdm_inputs *inputs);

/* Whether any part can be read without what comes before it: a plain regular file. */
bool tdm_input_is_seekable(const tdm_input *input);
/* Chunks of a seekable file, by its size; of others TDM_CHUNKS_UNKNOWN. */
uint64_t tdm_input_chunks(const tdm_input *input, uint64_t chunk_bytes);
/* XXH3 (64 bits) over the first and the last MiB of a regular file: to notice that it is another one.
 * Errors: TDM_ENOINPUT, TDM_EIO. */
tdm_status tdm_input_hash_ends(const tdm_input *input, uint64_t *hash, tdm_err *err);

#endif
