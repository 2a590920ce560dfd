/* host/codec.h - gzip and zstd: files of any size in, in bounded memory; one member or frame out.
 *
 *   TDM_TRY(tdm_source_open(&input, &options, &source, err));
 *   do {
 *       TDM_TRY(tdm_source_read(source, p, cap, &n, err));
 *   } while (n > 0);
 *   tdm_source_close(source);
 *
 *   TDM_TRY(tdm_compress(codec, text, len, &out, err)); // appends
 *
 * Read are: gzip of any number of members, zero bytes behind the last as gzip allows them; zstd of any number
 * of frames, skippable ones too, with windows of up to 128 MiB. Thread safety: one object, one thread. */
#ifndef HOST_CODEC_H
#define HOST_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/err.h"
#include "host/stop.h"

typedef enum { TDM_PLAIN, TDM_GZ, TDM_ZST } tdm_codec;

/* By the ending of the name: .gz, .zst, or neither. */
tdm_codec tdm_codec_of_name(const char *path);
/* What data begins with: [len] its first bytes; four are enough. No line of JSON begins like gzip or zstd. */
tdm_codec tdm_codec_of_bytes(const void *p, size_t len);
/* "zlib 1.2.13", "zstd 1.5.4", "": the library whose version the bytes of tdm_compress depend on. */
const char *tdm_codec_library(tdm_codec codec);

/* Append p [len] to out as one gzip member (level 6, no name, no time) or one zstd frame (level 3, with a
 * checksum); plain bytes as they are. Equal input, equal output. Errors: TDM_ENOMEM. */
tdm_status tdm_compress(tdm_codec codec, const void *p, size_t len, tdm_buf *out, tdm_err *err);

typedef struct {
    double max_ratio;     /* decompressed to compressed, judged once 16 MiB came out; 0: no limit */
    const tdm_stop *stop; /* set: no longer wait for a pipe or terminal. NULL allowed */
} tdm_source_options;

typedef struct tdm_source tdm_source; /* the decompressed bytes of one file, pipe or terminal */

/* Open a file, or stdin for "-". How it is compressed is seen from its first bytes when they are read; a
 * name that ends in .gz or .zst promises that it is. Opening a named pipe does not wait for its writer.
 * Errors: TDM_ENOINPUT names a missing or unreadable file or a folder; TDM_ENOMEM. */
tdm_status tdm_source_open(const char *path, const tdm_source_options *options, tdm_source **out,
                           tdm_err *err);
void tdm_source_close(tdm_source *s); /* NULL is fine; stdin stays open */

/* Read at most cap bytes; *n is 0 at the end alone, or, with no_wait, when it would have to wait (*starved).
 * Damaged or truncated data, or a ratio over the limit: all bytes before it are handed out first, then
 * TDM_EFORMAT with a message like "gzip data is damaged behind byte 812 (byte 4096 of the text): ..."
 * without the file's name, each time it is asked again.
 * Errors: TDM_EFORMAT; TDM_EIO, TDM_ESTOPPED and TDM_ENOMEM name the file. */
tdm_status tdm_source_read(tdm_source *s, void *p, size_t cap, bool no_wait, size_t *n, bool *starved,
                           tdm_err *err);
/* Go to a byte of a plain regular file. Errors: TDM_EARG for anything else, TDM_EIO. */
tdm_status tdm_source_seek(tdm_source *s, uint64_t at, tdm_err *err);
/* Bytes of the file itself that have been read: of compressed ones, compressed bytes. For progress. */
uint64_t tdm_source_consumed(const tdm_source *s);

#endif
