#include "host/codec.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static const struct {
    tdm_codec codec;
    unsigned char bytes[4], mask; /* mask: of the first byte */
    size_t n;
} MAGIC[] = {
    {TDM_GZ, {0x1f, 0x8b}, 0xff, 2},
    {TDM_ZST, {0x28, 0xb5, 0x2f, 0xfd}, 0xff, 4},
    {TDM_ZST, {0x50, 0x2a, 0x4d, 0x18}, 0xf0, 4}, /* a skippable frame */
};
enum { N_MAGIC = sizeof MAGIC / sizeof *MAGIC };

static bool ends_with(const char *text, const char *ending)
{
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcmp(text + n - m, ending);
}

tdm_codec tdm_codec_of_name(const char *path)
{
    return ends_with(path, ".gz") ? TDM_GZ : ends_with(path, ".zst") ? TDM_ZST : TDM_PLAIN;
}

/* Whether the bytes are those of MAGIC[i], as far as they go. */
static bool fits(size_t i, const unsigned char *p, size_t len)
{
    for (size_t k = 0; k < len && k < MAGIC[i].n; k++)
        if ((k ? p[k] : p[k] & MAGIC[i].mask) != MAGIC[i].bytes[k])
            return false;
    return true;
}

tdm_codec tdm_codec_of_bytes(const void *p, size_t len)
{
    for (size_t i = 0; i < N_MAGIC; i++)
        if (len >= MAGIC[i].n && fits(i, p, len))
            return MAGIC[i].codec;
    return TDM_PLAIN;
}

bool tdm_codec_is_open(const void *p, size_t len)
{
    for (size_t i = 0; i < N_MAGIC; i++)
        if (len < MAGIC[i].n && fits(i, p, len))
            return true;
    return false;
}

const char *tdm_codec_name(tdm_codec codec)
{
    return codec == TDM_GZ ? "gzip" : codec == TDM_ZST ? "zstd" : "";
}

const char *tdm_codec_library(tdm_codec codec)
{
    static _Thread_local char name[32];
    if (codec == TDM_PLAIN)
        return "";
    snprintf(name, sizeof name, "%s %s", codec == TDM_GZ ? "zlib" : "zstd",
             codec == TDM_GZ ? zlibVersion() : ZSTD_versionString());
    return name;
}

static tdm_status compress_gz(const void *p, size_t len, tdm_buf *out, tdm_err *err)
{
    enum { PIECE = 1 << 30 }; /* zlib counts in 32 bits */
    tdm_status st = TDM_OK;
    const size_t before = out->len;
    z_stream z = {0};
    bool is_open = false;
    int rc = deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    TDM_REQUIRE(rc == Z_OK, TDM_ENOMEM, "a gzip compressor");
    is_open = true;
    z.next_in = (Bytef *)p; /* zlib's type; it does not write there */
    for (size_t left = len; rc != Z_STREAM_END;) {
        const size_t piece = left < PIECE ? left : PIECE;
        if (z.avail_in == 0) {
            z.avail_in = (uInt)piece;
            left -= piece;
        }
        TDM_TRY(tdm_buf_reserve(out, left + z.avail_in < 4096 ? 4096 : 64 << 10, err));
        const size_t room = out->cap - out->len < PIECE ? out->cap - out->len : PIECE;
        z.next_out = (Bytef *)out->p + out->len;
        z.avail_out = (uInt)room;
        rc = deflate(&z, left ? Z_NO_FLUSH : Z_FINISH);
        TDM_REQUIRE(rc != Z_STREAM_ERROR, TDM_EINTERNAL, "gzip compressor: %s", z.msg);
        out->len += room - z.avail_out;
    }
done:
    if (is_open)
        deflateEnd(&z);
    if (st != TDM_OK)
        out->len = before;
    return st;
}

static tdm_status compress_zst(const void *p, size_t len, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    ZSTD_CCtx *zst = ZSTD_createCCtx();
    TDM_REQUIRE(zst, TDM_ENOMEM, "a zstd compressor");
    ZSTD_CCtx_setParameter(zst, ZSTD_c_compressionLevel, 3);
    ZSTD_CCtx_setParameter(zst, ZSTD_c_checksumFlag, 1);
    TDM_TRY(tdm_buf_reserve(out, ZSTD_compressBound(len), err));
    const size_t n = ZSTD_compress2(zst, out->p + out->len, out->cap - out->len, p, len);
    TDM_REQUIRE(!ZSTD_isError(n), TDM_ENOMEM, "zstd compressor: %s", ZSTD_getErrorName(n));
    out->len += n;
done:
    ZSTD_freeCCtx(zst);
    return st;
}

tdm_status tdm_compress(tdm_codec codec, const void *p, size_t len, tdm_buf *out, tdm_err *err)
{
    switch (codec) {
    case TDM_GZ:
        return compress_gz(p, len, out, err);
    case TDM_ZST:
        return compress_zst(p, len, out, err);
    case TDM_PLAIN:
        break;
    }
    return tdm_buf_put(out, p, len, err);
}
