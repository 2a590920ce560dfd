/* host/readfile.h - regular files, read whole or by position.
 *
 * A file that is missing or unreadable is TDM_ENOINPUT and one that ends too early TDM_EFORMAT; the
 * messages name the path. Thread safety: no state. */
#ifndef HOST_READFILE_H
#define HOST_READFILE_H

#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/err.h"

/* Open for reading; symbolic links are followed, pipes and folders are refused without waiting.
 *   fd    receives the descriptor; -1 on failure
 *   size  receives the bytes in the file
 * Errors: TDM_ENOINPUT. */
tdm_status tdm_file_open(const char *path, int *fd, uint64_t *size, tdm_err *err);

/* Read exactly n bytes at offset `at` into dst. Any number of threads may read from one descriptor.
 * Errors: TDM_EIO; TDM_EFORMAT when the file ends before. */
tdm_status tdm_file_read(int fd, void *dst, size_t n, uint64_t at, tdm_err *err);

/* Append a whole file of at most `limit` bytes to out.
 * Errors: TDM_ENOINPUT, TDM_EFORMAT (larger than limit, or it shrank), TDM_EIO, TDM_ENOMEM. */
tdm_status tdm_file_load(const char *path, uint64_t limit, tdm_buf *out, tdm_err *err);

#endif
