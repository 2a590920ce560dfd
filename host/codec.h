/* host/codec.h - gzip and zstd: how they are told apart, and one member or frame out (in: host/source.h).
 *
 *   tdm_codec codec = tdm_codec_of_name("texts.jsonl.gz");
 *   TDM_TRY(tdm_compress(codec, text, len, &out, err)); // appends
 *
 * Thread safety: no state. */
#ifndef HOST_CODEC_H
#define HOST_CODEC_H

#include <stdbool.h>
#include <stddef.h>

#include "host/buf.h"
#include "host/err.h"

typedef enum { TDM_PLAIN, TDM_GZ, TDM_ZST } tdm_codec;

/* By the ending of the name: .gz, .zst, or neither. */
tdm_codec tdm_codec_of_name(const char *path);
/* What data begins with: [len] its first bytes; four are enough. No line of JSON begins like gzip or zstd. */
tdm_codec tdm_codec_of_bytes(const void *p, size_t len);
/* Whether further bytes could make gzip or zstd of what begins like this. */
bool tdm_codec_is_open(const void *p, size_t len);
/* "gzip", "zstd", "": for messages. */
const char *tdm_codec_name(tdm_codec codec);
/* "zlib 1.2.13", "zstd 1.5.4", "": the library whose version the bytes of tdm_compress depend on. Valid until
 * the thread ends or asks again. */
const char *tdm_codec_library(tdm_codec codec);

/* Append p [len] to out as one gzip member (level 6, no name, no time) or one zstd frame (level 3, with a
 * checksum); plain bytes as they are. Equal input, equal output. Errors: TDM_ENOMEM; out is unchanged then. */
tdm_status tdm_compress(tdm_codec codec, const void *p, size_t len, tdm_buf *out, tdm_err *err);

#endif
