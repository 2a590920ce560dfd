/* damage: cuts and flipped bits of compressed inputs. What comes before the damage is in the
 * results, and the damage is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/crash/crash.h"
#include "tests/crash/workload.h"

typedef struct {
    workload w;      /* its results are plain */
    tdm_codec codec; /* of the input */
    tdm_buf file;    /* undamaged */
    char path[PATH_CAP];
    long told, harmless, cut_between; /* outcomes; cut_between: two members or frames */
} subject;

/* ---- the oracle: the libraries themselves, on what is before the damage ---- */

/* Append what gzip members in p [len] hold. Returns whether they end with the data. */
static bool gunzip_prefix(const char *p, size_t len, tdm_buf *text)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)p, .avail_in = (uInt)len};
    bool ended = true;
    EXPECT(inflateInit2(&z, 31) == Z_OK, "no memory");
    for (int code = Z_OK; code == Z_OK;) {
        EXPECT(tdm_buf_reserve(text, 1 << 16, NULL) == TDM_OK, "no memory");
        z.next_out = (Bytef *)text->p + text->len;
        z.avail_out = 1 << 16;
        code = inflate(&z, Z_NO_FLUSH);
        text->len += (1 << 16) - z.avail_out;
        ended = code == Z_STREAM_END && z.avail_in == 0;
        if (code == Z_STREAM_END && z.avail_in > 0)
            code = inflateReset(&z);
    }
    inflateEnd(&z);
    return ended;
}

/* whole: text is to end with the last frame that ends. What a frame's checksum does not vouch for,
 * the library may keep for itself. */
static bool unzstd_prefix(const char *p, size_t len, bool whole, tdm_buf *text)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer in = {p, len, 0};
    size_t left = 0, frames = 0;
    EXPECT(z, "no memory");
    for (bool moved = true; moved;) {
        EXPECT(tdm_buf_reserve(text, 1 << 16, NULL) == TDM_OK, "no memory");
        ZSTD_outBuffer out = {text->p + text->len, 1 << 16, 0};
        const size_t before = in.pos;
        left = ZSTD_decompressStream(z, &out, &in);
        text->len += out.pos;
        frames = left == 0 ? text->len : frames;
        moved = !ZSTD_isError(left) && (in.pos > before || out.pos > 0);
    }
    ZSTD_freeDStream(z);
    text->len = whole ? frames : text->len;
    return left == 0;
}

/* Records among the complete lines of a text. */
static size_t count_records(const tdm_buf *text)
{
    size_t n = 0;
    const char *p = text->p, *end = text->p + text->len;
    for (const char *stop; p < end && (stop = memchr(p, '\n', (size_t)(end - p))); p = stop + 1)
        n += stop > p && *p == '{';
    return n;
}

static size_t records_before(const subject *s, size_t len, bool is_cut, bool *ended)
{
    tdm_buf text = {0};
    *ended = s->codec == TDM_GZ ? gunzip_prefix(s->file.p, len, &text)
                                : unzstd_prefix(s->file.p, len, !is_cut, &text);
    const size_t n = count_records(&text);
    tdm_buf_free(&text);
    return n;
}

/* ---- what tandem makes of it ---- */

/* The first n lines of the undamaged results are there, and with `only` nothing else. */
static void expect_prefix(const subject *s, const run *r, size_t n, bool only, const char *what)
{
    tdm_buf got = {0};
    const tdm_buf *all = &s->w.ref.out;
    size_t len = 0;
    EXPECT(load(r->out, &got), "%s: %s: no output", s->w.name, what);
    for (; n > 0; n--)
        len = (size_t)((char *)memchr(all->p + len, '\n', all->len - len) - all->p) + 1;
    EXPECT(got.len >= len && (len == 0 || !memcmp(got.p, all->p, len)),
           "%s: %s: results before the damage are missing", s->w.name, what);
    EXPECT(!only || got.len == len, "%s: %s: results from nowhere", s->w.name, what);
    tdm_buf_free(&got);
}

/* The error record names the file and both places. */
static void expect_told(const subject *s, const run *r, const char *what)
{
    char path[PATH_CAP];
    unsigned long compressed = 0, decompressed = 0;
    tdm_buf text = {0};
    beside(path, r->out, ".errors.jsonl");
    EXPECT(load(path, &text) && tdm_buf_put(&text, "", 1, NULL) == TDM_OK, "%s: %s: no errors",
           s->w.name, what);
    const char *line = strstr(text.p, "\"class\": \"damaged\"");
    EXPECT(line && strstr(text.p, s->path), "%s: %s: damage is not told: %s", s->w.name, what,
           text.p);
    const char *at = strstr(line, " byte ");
    EXPECT(at && sscanf(at, " byte %lu (byte %lu of the text)", &compressed, &decompressed) == 2,
           "%s: %s: without its places: %s", s->w.name, what, line);
    EXPECT(compressed <= s->file.len, "%s: %s: byte %lu of %zu", s->w.name, what, compressed,
           s->file.len);
    tdm_buf_free(&text);
}

/* Run on a file whose damage begins behind `before` bytes; is_cut: it ends there. */
static void expect_damage(subject *s, size_t before, bool is_cut, const char *what)
{
    run r = {.w = &s->w, .out = try_out(&s->w), .input = s->path, .max_errors = "0"};
    tdm_buf said = {0}, text = {0};
    bool ended;
    const size_t n = records_before(s, before, is_cut, &ended);
    const int code = run_to_end(&r);
    load_stderr(&r, &said);
    if (code == 0) { /* nothing was lost, or nothing can be seen */
        EXPECT(!is_cut || ended, "%s: %s: silent", s->w.name, what);
        EXPECT(load(r.out, &text), "%s: %s: no output", s->w.name, what);
        EXPECT(is_cut ||
                   (text.len == s->w.ref.out.len && !memcmp(text.p, s->w.ref.out.p, text.len)),
               "%s: %s: silent", s->w.name, what);
        expect_prefix(s, &r, n, is_cut, what);
        *(is_cut ? &s->cut_between : &s->harmless) += 1;
    } else {
        EXPECT(code == 65 && count_lines(&said) == 1, "%s: %s: exit %d: %.*s", s->w.name, what,
               code, (int)said.len, said.p);
        r.max_errors = "100%";
        const int allowed = run_to_end(&r);
        s->told++;
        if (allowed == 65) { /* not even its first bytes are right */
            EXPECT(before < 4, "%s: %s: exit 65 with --max-errors 100%%", s->w.name, what);
        } else {
            EXPECT(allowed == 3, "%s: %s: exit %d with --max-errors", s->w.name, what, allowed);
            expect_prefix(s, &r, n, is_cut, what);
            expect_told(s, &r, what);
        }
    }
    tdm_buf_free(&said);
    tdm_buf_free(&text);
}

static void open_subject(subject *s, tdm_codec codec)
{
    tdm_buf text = {0};
    *s = (subject){.codec = codec,
                   .w = {.name = codec == TDM_GZ ? "gz" : "zst", .command = "detect"}};
    scratch_path(s->path, "damaged.jsonl.%s", s->w.name);
    make_records(&text, 7, 150, 0, false);
    store_compressed(s->path, codec, &text, 9000);
    EXPECT(load(s->path, &s->file), "%s is not there", s->path);
    const run r = {.w = &s->w, .out = try_out(&s->w), .input = s->path, .max_errors = "0"};
    const int code = run_to_end(&r);
    EXPECT(code == 0 && load(r.out, &s->w.ref.out), "%s: exit %d undamaged", s->w.name, code);
    tdm_buf_free(&text);
}

static void damage(tdm_codec codec, long n)
{
    subject s;
    char what[64];
    open_subject(&s, codec);
    for (long i = 0; i < n; i++) {
        const size_t at = 1 + random_below(s.file.len - 1);
        snprintf(what, sizeof what, "cut at byte %zu", at);
        store(s.path, s.file.p, at);
        expect_damage(&s, at, true, what);
    }
    printf("damage %s: %ld cuts of %zu bytes: %ld told with both places, %ld between two members: "
           "all complete lines before are there\n",
           s.w.name, n, s.file.len, s.told, s.cut_between);
    s.told = 0;
    for (long i = 0; i < n; i++) {
        const size_t at = random_below(s.file.len);
        const int bit = 1 << random_below(8);
        snprintf(what, sizeof what, "bit %d of byte %zu", bit, at);
        s.file.p[at] = (char)(s.file.p[at] ^ bit);
        store(s.path, s.file.p, s.file.len);
        s.file.p[at] = (char)(s.file.p[at] ^ bit);
        expect_damage(&s, at, false, what);
    }
    printf("damage %s: %ld flipped bits: %ld told, %ld without effect on the text\n", s.w.name, n,
           s.told, s.harmless);
    tdm_buf_free(&s.file);
    tdm_buf_free(&s.w.ref.out);
}

void mode_damage(const mode_args *args)
{
    damage(TDM_GZ, args->n);
    damage(TDM_ZST, args->n);
}
