#include "tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/readfile.h"
#include "host/utf8.h"
#include "tokenizer/cache.h"
#include "tokenizer/merge.h"
#include "tokenizer/pretoken.h"
#include "tokenizer/symbols.h"
#include "tokenizer/vocab.h"

/* A file of GPT-2's size has 1 MB; this leaves room for 2 million tokens. */
enum { MAX_FILE = 256 << 20 };

/* How many short pieces the cache has room for, for each symbol of the vocabulary: 400,000 for
 * GPT-2's, in 32 MB with the wide ones. */
enum { PIECES_PER_SYMBOL = 8 };

struct tdm_bpe {
    tdm_vocab vocab;
    tdm_cache *cache; /* shared by all threads; see tokenizer/cache.h */
};

/* ---- open and close ---- */

static tdm_status open_sources(const tdm_vocab_source *merges, const tdm_vocab_source *vocab,
                               tdm_bpe **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_bpe *bpe = calloc(1, sizeof *bpe);
    TDM_REQUIRE(bpe, TDM_ENOMEM, "tokenizer handle");
    bpe->cache = calloc(1, sizeof *bpe->cache);
    TDM_REQUIRE(bpe->cache, TDM_ENOMEM, "tokenizer handle");
    tdm_pretoken_init();
    TDM_TRY(tdm_vocab_load(&bpe->vocab, merges, vocab, err));
    TDM_TRY(tdm_cache_open(bpe->cache, (size_t)bpe->vocab.n_symbols * PIECES_PER_SYMBOL, err));
    *out = bpe;
    bpe = NULL;
done:
    tdm_bpe_close(bpe);
    return st;
}

tdm_status tdm_bpe_open_memory(const char *merges, size_t merges_len, const char *vocab,
                               size_t vocab_len, tdm_bpe **out, tdm_err *err)
{
    return open_sources(&(tdm_vocab_source){"merges", merges, merges_len},
                        vocab ? &(tdm_vocab_source){"vocabulary", vocab, vocab_len} : NULL, out,
                        err);
}

tdm_status tdm_bpe_open(const char *merges_path, const char *vocab_path, tdm_bpe **out,
                        tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf merges = {0}, vocab = {0};
    TDM_TRY(tdm_file_load(merges_path, MAX_FILE, &merges, err));
    if (vocab_path)
        TDM_TRY(tdm_file_load(vocab_path, MAX_FILE, &vocab, err));
    const tdm_vocab_source merges_source = {merges_path, merges.p ? merges.p : "", merges.len};
    const tdm_vocab_source vocab_source = {vocab_path, vocab.p ? vocab.p : "", vocab.len};
    TDM_TRY(open_sources(&merges_source, vocab_path ? &vocab_source : NULL, out, err));
done:
    tdm_buf_free(&vocab);
    tdm_buf_free(&merges);
    return st;
}

/* Write the path of the first of two files that is in the folder; an empty path when none is. */
static tdm_status find_file(const char *dir, const char *first, const char *second, tdm_buf *path,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *const names[] = {first, second};
    for (size_t i = 0; i < 2; i++) {
        path->len = 0;
        TDM_TRY(tdm_buf_printf(path, err, "%s/%s", dir, names[i]));
        TDM_TRY(tdm_buf_put(path, "", 1, err));
        if (access(path->p, F_OK) == 0)
            goto done;
    }
    path->len = 0;
done:
    return st;
}

tdm_status tdm_bpe_open_dir(const char *dir, tdm_bpe **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf merges = {0}, vocab = {0};
    TDM_TRY(find_file(dir, "merges.txt", "vocab.bpe", &merges, err));
    TDM_REQUIRE(merges.len > 0, TDM_ENOINPUT, "%s: neither merges.txt nor vocab.bpe", dir);
    TDM_TRY(find_file(dir, "vocab.json", "encoder.json", &vocab, err));
    TDM_TRY(tdm_bpe_open(merges.p, vocab.len ? vocab.p : NULL, out, err));
done:
    tdm_buf_free(&vocab);
    tdm_buf_free(&merges);
    return st;
}

void tdm_bpe_close(tdm_bpe *bpe)
{
    if (!bpe)
        return;
    tdm_vocab_free(&bpe->vocab);
    if (bpe->cache)
        tdm_cache_close(bpe->cache);
    free(bpe->cache);
    free(bpe);
}

/* ---- ids ---- */

int32_t tdm_bpe_size(const tdm_bpe *bpe)
{
    return bpe->vocab.n_ids;
}

int32_t tdm_bpe_special(const tdm_bpe *bpe, const char *text)
{
    for (int i = 0; i < TDM_N_SPECIALS; i++)
        if (strcmp(tdm_special_text((tdm_special)i), text) == 0)
            return bpe->vocab.special_id[i];
    return -1;
}

const char *tdm_bpe_token(const tdm_bpe *bpe, int32_t id, size_t *len)
{
    const tdm_vocab *v = &bpe->vocab;
    *len = 0;
    if (id < 0 || id >= v->n_ids || v->entry_of[id] < 0)
        return NULL;
    const int32_t entry = v->entry_of[id];
    *len = v->text_at[entry + 1] - v->text_at[entry];
    return v->text + v->text_at[entry];
}

static bool is_same_token(const tdm_bpe *a, const tdm_bpe *b, int32_t id)
{
    size_t a_len, b_len;
    const char *a_text = tdm_bpe_token(a, id, &a_len), *b_text = tdm_bpe_token(b, id, &b_len);
    return !a_text == !b_text && a_len == b_len && (a_len == 0 || memcmp(a_text, b_text, a_len) == 0);
}

static tdm_status differ(const tdm_bpe *a, const tdm_bpe *b, int32_t id, tdm_err *err)
{
    char shown[2][64];
    size_t a_len, b_len;
    const char *a_text = tdm_bpe_token(a, id, &a_len), *b_text = tdm_bpe_token(b, id, &b_len);
    return tdm_fail(err, TDM_EFORMAT, "token %d is \"%s\", not \"%s\"", (int)id,
                    tdm_symbols_show(b_text, b_len, shown[0], sizeof shown[0]),
                    tdm_symbols_show(a_text, a_len, shown[1], sizeof shown[1]));
}

tdm_status tdm_bpe_check_same(const tdm_bpe *a, const tdm_bpe *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_vocab *v = &a->vocab, *w = &b->vocab;
    TDM_REQUIRE(v->n_ids == w->n_ids, TDM_EFORMAT, "%d tokens, not %d", (int)w->n_ids, (int)v->n_ids);
    for (int32_t id = 0; id < v->n_ids; id++)
        if (!is_same_token(a, b, id))
            return differ(a, b, id, err);
    TDM_REQUIRE(v->n_symbols == w->n_symbols && v->roberta == w->roberta, TDM_EFORMAT, "%u merges, not %u",
                w->n_symbols - 256, v->n_symbols - 256);
    for (size_t i = 0; i >> v->pair_bits == 0; i++) {
        const uint64_t pair = v->pairs[i], key = pair >> TDM_SYMBOL_BITS;
        const uint32_t left = (uint32_t)(key >> TDM_SYMBOL_BITS), right = (uint32_t)key & (TDM_MAX_SYMBOLS - 1);
        const uint32_t result = (uint32_t)pair & (TDM_MAX_SYMBOLS - 1);
        TDM_REQUIRE(pair == 0 || tdm_vocab_merge(w, left, right) == result, TDM_EFORMAT,
                    "merge %u is of other tokens", result - 255);
    }
done:
    return st;
}

tdm_status tdm_bpe_put_symbol(unsigned char byte, tdm_buf *out, tdm_err *err)
{
    const int32_t c = tdm_symbol_of(byte); /* below U+0800: two bytes at most */
    const char two[] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))}, one = (char)c;
    return c < 0x80 ? tdm_buf_put(out, &one, 1, err) : tdm_buf_put(out, two, 2, err);
}

tdm_status tdm_bpe_decode(const tdm_bpe *bpe, const int32_t *ids, size_t n, tdm_buf *out,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t len_before = out->len;
    for (size_t i = 0; i < n; i++) {
        TDM_REQUIRE(ids[i] >= 0 && ids[i] < bpe->vocab.n_ids, TDM_EARG, "token id %d, want 0 to %d",
                    (int)ids[i], (int)bpe->vocab.n_ids - 1);
        size_t len;
        const char *text = tdm_bpe_token(bpe, ids[i], &len);
        if (out->cap - out->len < len)
            TDM_TRY(tdm_buf_reserve(out, len, err));
        if (len > 0)
            memcpy(out->p + out->len, text, len);
        out->len += len;
    }
done:
    if (st != TDM_OK)
        out->len = len_before;
    return st;
}

/* ---- encode ---- */

typedef struct {
    tdm_cache *cache;
    tdm_merge merge;
    tdm_ids *ids;
} encoder;

/* Append the ids of any piece. */
static tdm_status encode_piece(encoder *e, const unsigned char *p, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ids *ids = e->ids;
    unsigned char padded[16] = {0};
    tdm_short_key key = {0};
    TDM_TRY(tdm_ids_reserve(ids, TDM_WIDE_IDS, err));
    size_t n = 0;
    if (len <= TDM_SHORT_BYTES) {
        memcpy(padded, p, len);
        key = tdm_cache_key(padded, len);
        n = tdm_cache_short_get(e->cache, key, ids->p + ids->len);
    }
    if (n == 0 && len <= TDM_WIDE_BYTES)
        n = tdm_cache_wide_get(e->cache, p, len, ids->p + ids->len);
    ids->len += n;
    if (n > 0)
        goto done;

    const size_t first = ids->len;
    TDM_TRY(tdm_merge_piece(&e->merge, p, len, ids, err));
    n = ids->len - first;
    if (len <= TDM_SHORT_BYTES && n <= TDM_SHORT_IDS)
        tdm_cache_short_put(e->cache, key, ids->p + first, n);
    else if (len <= TDM_WIDE_BYTES && n <= TDM_WIDE_IDS)
        tdm_cache_wide_put(e->cache, p, len, ids->p + first, n);
done:
    return st;
}

/* Pieces are cut this far ahead of their look-ups, so that the slots of the cache are on their way
 * while others are compared: without it every second of three was spent waiting for memory. */
enum { AHEAD = 32 };

typedef struct {
    const unsigned char *p;
    size_t len;
    tdm_short_key key; /* {0} where the piece is not a short one */
} piece;

/* Cut the next pieces off the text, up to AHEAD. Returns how many; *p moves behind them. */
static size_t cut_pieces(const tdm_cache *cache, const unsigned char **p, const unsigned char *end,
                         piece pieces[AHEAD])
{
    const unsigned char *at = *p;
    size_t n = 0;
    for (; n < AHEAD && at < end; n++) {
        const size_t len = tdm_pretoken(at, end);
        pieces[n] = (piece){.p = at, .len = len};
        if (len <= TDM_SHORT_BYTES && end - at >= 16) {
            pieces[n].key = tdm_cache_key(at, len);
            __builtin_prefetch((const void *)tdm_cache_short_set(cache, pieces[n].key));
        }
        at += len;
    }
    *p = at;
    return n;
}

/* Append the ids of the first pieces for as long as they are short and in the cache; there is room
 * for TDM_SHORT_IDS of each. Returns how many pieces. */
static size_t encode_known(const tdm_cache *cache, const piece *pieces, size_t n, tdm_ids *ids)
{
    int32_t *next = ids->p + ids->len;
    size_t i = 0;
    for (; i < n && pieces[i].key.high != 0; i++) {
        const size_t found = tdm_cache_short_get(cache, pieces[i].key, next);
        if (found == 0)
            break;
        next += found;
    }
    ids->len = (size_t)(next - ids->p);
    return i;
}

/* Append the ids of text in which nothing is special. */
static tdm_status encode_plain(encoder *e, const unsigned char *p, const unsigned char *end,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    piece pieces[AHEAD];
    while (p < end) {
        const size_t n = cut_pieces(e->cache, &p, end, pieces);
        for (size_t i = 0; i < n; i++) {
            TDM_TRY(tdm_ids_reserve(e->ids, (n - i) * TDM_SHORT_IDS, err));
            i += encode_known(e->cache, pieces + i, n - i, e->ids);
            if (i < n)
                TDM_TRY(encode_piece(e, pieces[i].p, pieces[i].len, err));
        }
    }
done:
    return st;
}

/* ---- special tokens in text ---- */

/* Where the first special token at or behind p starts, and which it is; `end` when there is none.
 */
static const unsigned char *find_special(const tdm_vocab *v, const unsigned char *p,
                                         const unsigned char *end, tdm_special *which)
{
    while (p < end && (p = memchr(p, '<', (size_t)(end - p))) != NULL) {
        for (int i = 0; i < TDM_N_SPECIALS; i++) {
            const char *text = tdm_special_text((tdm_special)i);
            const size_t len = strlen(text);
            if ((size_t)(end - p) >= len && memcmp(p, text, len) == 0 &&
                tdm_special_is_parsed(v, (tdm_special)i)) {
                *which = (tdm_special)i;
                return p;
            }
        }
        p++;
    }
    return end;
}

/* Where the white space that stands before `end` starts, not before `start`. */
static const unsigned char *trim_right(const unsigned char *start, const unsigned char *end)
{
    while (end > start) {
        const unsigned char *at = end - 1;
        while (at > start && end - at < 3 && (*at & 0xC0) == 0x80) /* no white space has 4 bytes */
            at--;
        int32_t c;
        if (tdm_utf8_next(at, (size_t)(end - at), &c) != (size_t)(end - at) ||
            tdm_class_of(c) != TDM_CLASS_SPACE)
            return end;
        end = at;
    }
    return end;
}

/* Special tokens become their ids, and <mask> takes the white space on its left; what is between
 * them is encoded as if it stood alone. */
static tdm_status encode_with_specials(encoder *e, const tdm_vocab *v, const unsigned char *p,
                                       const unsigned char *end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    while (p < end) {
        tdm_special which = TDM_N_SPECIALS;
        const unsigned char *at = find_special(v, p, end, &which);
        TDM_TRY(encode_plain(e, p, which == TDM_SPECIAL_MASK ? trim_right(p, at) : at, err));
        p = at;
        if (which == TDM_N_SPECIALS)
            break;
        TDM_TRY(tdm_ids_reserve(e->ids, 1, err));
        e->ids->p[e->ids->len++] = v->special_id[which];
        p += strlen(tdm_special_text(which));
    }
done:
    return st;
}

tdm_status tdm_bpe_encode(const tdm_bpe *bpe, const char *text, size_t len, unsigned flags,
                          tdm_ids *ids, tdm_err *err)
{
    tdm_status st = TDM_OK;
    encoder e = {bpe->cache, {.vocab = &bpe->vocab}, ids};
    const size_t len_before = ids->len;
    const unsigned char *p = (const unsigned char *)text;
    if (len == 0)
        goto done;
    TDM_TRY(flags & TDM_BPE_PARSE_SPECIAL ? encode_with_specials(&e, &bpe->vocab, p, p + len, err)
                                          : encode_plain(&e, p, p + len, err));
done:
    tdm_merge_free(&e.merge);
    if (st != TDM_OK)
        ids->len = len_before;
    return st;
}
