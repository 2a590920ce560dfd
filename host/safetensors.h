/* host/safetensors.h - one file of the safetensors container.
 *
 *   tdm_safetensors st;
 *   TDM_TRY(tdm_safetensors_open("model.safetensors", 0, &st, err));
 *   for (size_t i = 0; i < st.n; i++)
 *       puts(st.tensors[i].name);
 *   tdm_safetensors_close(&st);
 *
 * A file holds eight bytes of header length N (little-endian), N bytes of JSON, and the data. Every
 * check of the format is made at open; what the reference library refuses is refused here.
 * Refused here although the reference takes it: more than 8 dimensions, dimensions from 2^53 on,
 * members of an entry other than its three, control characters in names, 4-bit and 6-bit types.
 * Thread safety: immutable after open. */
#ifndef HOST_SAFETENSORS_H
#define HOST_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "host/checkpoint.h"
#include "host/err.h"

enum { TDM_SAFETENSORS_MAX_HEADER = 100000000 };

typedef struct {
    int fd;              /* owned; -1 when parsed from memory */
    uint64_t size;       /* bytes in the file */
    tdm_tensor *tensors; /* [n] owned, in the order of their data */
    size_t n;
    char *names; /* owned; what the names of the tensors point to */
} tdm_safetensors;

/* Open and check a file.
 *   file  index to put into the tensors
 *   out   {0} with fd -1 on failure
 * Errors: TDM_ENOINPUT, TDM_EFORMAT (the message names path and tensor), TDM_EIO, TDM_ENOMEM. */
tdm_status tdm_safetensors_open(const char *path, int file, tdm_safetensors *out, tdm_err *err);
void tdm_safetensors_close(tdm_safetensors *st);

/* The checks on the header alone.
 *   header      [len] bytes, the JSON; need not end in NUL
 *   data_bytes  bytes that follow it in the file
 * Errors: TDM_EFORMAT, TDM_ENOMEM; out is {0} with fd -1 then. */
tdm_status tdm_safetensors_parse(const char *header, size_t len, uint64_t data_bytes, int file,
                                 tdm_safetensors *out, tdm_err *err);

#endif
