/* host/source.h - the bytes of one file, pipe or terminal, decompressed: any size, bounded memory.
 *
 *   TDM_TRY(tdm_source_open(path, &options, &source, err));
 *   do {
 *       TDM_TRY(tdm_source_read(source, p, cap, false, &n, &starved, err));
 *   } while (n > 0);
 *   tdm_source_close(source);
 *
 * Read are: gzip of any number of members, zero bytes behind the last as gzip allows them; zstd of any number
 * of frames, skippable ones too, with windows of up to 128 MiB. What is neither is plain.
 * Thread safety: one object, one thread. */
#ifndef HOST_SOURCE_H
#define HOST_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"
#include "host/stop.h"

typedef struct {
    double max_ratio;     /* decompressed to compressed, judged once 16 MiB came out; 0: no limit */
    const tdm_stop *stop; /* set: no longer wait for a pipe or terminal. NULL allowed */
} tdm_source_options;

typedef struct tdm_source tdm_source;

/* Open a file, or stdin for "-". How it is compressed is seen from its first bytes when they are read; a
 * name that ends in .gz or .zst promises that it is. Opening a named pipe does not wait for its writer.
 * Errors: TDM_ENOINPUT names a missing or unreadable file or a folder; TDM_ENOMEM. */
tdm_status tdm_source_open(const char *path, const tdm_source_options *options, tdm_source **out,
                           tdm_err *err);
void tdm_source_close(tdm_source *s); /* NULL is fine; stdin stays open */

/* Read at most cap bytes, cap at least 1; *n is 0 at the end alone, or, with no_wait, when it would have to
 * wait (*starved).
 * Damaged or truncated data, or a ratio over the limit: all bytes before it are handed out first, then
 * TDM_EFORMAT with a message like "gzip data is damaged behind byte 812 (byte 4096 of the text): ..."
 * without the file's name, each time it is asked again. A checksum covers a whole member or frame and stands
 * at its end: what came out since the last one that was whole may be wrong; the message says where that was.
 * Errors: TDM_EFORMAT; TDM_EIO, TDM_ESTOPPED and TDM_ENOMEM name the file. */
tdm_status tdm_source_read(tdm_source *s, void *p, size_t cap, bool no_wait, size_t *n, bool *starved,
                           tdm_err *err);
/* Go to a byte of a plain regular file. Errors: TDM_EARG for anything else, TDM_EIO, TDM_EFORMAT. */
tdm_status tdm_source_seek(tdm_source *s, uint64_t at, tdm_err *err);
/* Bytes of the file itself that have been used: of compressed ones, compressed bytes. For progress. */
uint64_t tdm_source_consumed(const tdm_source *s);

#endif
