/* tokenizer/cache.h - the ids of pieces met before, shared by all threads without a lock.
 *
 *   n = tdm_cache_get(cache, &key, ids);               // 0: not there
 *   tdm_cache_put(cache, &key, ids, n);
 *
 * Two tables of fixed size, each set-associative with two ways; a new piece replaces an old one.
 * Short pieces (up to 15 bytes and 3 ids, nearly all of English) fill half a cache line; wide ones
 * (up to 56 bytes and 16 ids) two lines.
 * Thread safety: every slot is a sequence lock. Its first word carries a version that is odd while
 * a thread writes; a reader that sees it odd, or changed, treats the slot as empty. A writer that
 * finds it odd gives up. So a lookup can miss, but never returns another piece's ids. */
#ifndef TOKENIZER_CACHE_H
#define TOKENIZER_CACHE_H

#include <endian.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "host/err.h"

enum {
    TDM_SHORT_BYTES = 15,
    TDM_SHORT_IDS = 3,
    TDM_WIDE_BYTES = 56,
    TDM_WIDE_IDS = 16,
    TDM_SHORT_WORDS = 4, /* version and first id; key; key; second and third id */
    TDM_WIDE_WORDS = 16, /* version, length and count; 7 of text; 8 of ids */
};

typedef _Atomic(uint64_t) tdm_cache_word;

typedef struct {
    tdm_cache_word *short_slots; /* [2 << short_bits][TDM_SHORT_WORDS], on a cache line */
    tdm_cache_word *wide_slots;  /* [2 << wide_bits][TDM_WIDE_WORDS] */
    unsigned short_bits, wide_bits;
} tdm_cache;

/* The text of a short piece, padded with zeros, and its length in the top byte. */
typedef struct {
    uint64_t low, high;
} tdm_short_key;

/* Room for at least n_pieces short pieces. Errors: TDM_ENOMEM. */
tdm_status tdm_cache_open(tdm_cache *cache, size_t n_pieces, tdm_err *err);
void tdm_cache_close(tdm_cache *cache); /* {0} is fine */

/* The key of a piece of len <= TDM_SHORT_BYTES bytes; reads 16 bytes at p. */
static inline tdm_short_key tdm_cache_key(const unsigned char *p, size_t len)
{
    tdm_short_key key;
    memcpy(&key.low, p, 8);
    memcpy(&key.high, p + 8, 8);
    key.low = le64toh(key.low);
    key.high = le64toh(key.high);
    const size_t cut = 8 * (8 - len % 8) % 64; /* bits to clear in the last word that is in use */
    if (len <= 8) {
        key.low = key.low << cut >> cut;
        key.high = 0;
    } else {
        key.high = key.high << cut >> cut;
    }
    key.high |= (uint64_t)len << 56;
    return key;
}

/* The first of the two slots that may hold the key. Multiply-shift hashing of two words. */
static inline tdm_cache_word *tdm_cache_short_set(const tdm_cache *cache, tdm_short_key key)
{
    const uint64_t hash = key.low * 0x9E3779B97F4A7C15u + key.high * 0xC2B2AE3D27D4EB4Fu;
    return cache->short_slots + (hash >> (64 - cache->short_bits)) * 2 * TDM_SHORT_WORDS;
}

/* Look up a short piece.
 *   ids   [TDM_SHORT_IDS] written whole when found; what is behind the count means nothing
 * Returns the number of ids, 0 when it is not there. */
static inline size_t tdm_cache_short_get(const tdm_cache *cache, tdm_short_key key, int32_t *ids)
{
    const tdm_cache_word *slot = tdm_cache_short_set(cache, key);
    for (int way = 0; way < 2; way++, slot += TDM_SHORT_WORDS) {
        const uint64_t head = atomic_load_explicit(&slot[0], memory_order_acquire);
        const uint64_t low = atomic_load_explicit(&slot[1], memory_order_relaxed);
        const uint64_t high = atomic_load_explicit(&slot[2], memory_order_relaxed);
        const uint64_t tail = atomic_load_explicit(&slot[3], memory_order_relaxed);
        if (low != key.low || high != key.high)
            continue;
        atomic_thread_fence(memory_order_acquire);
        if ((head >> 32 & 1) || atomic_load_explicit(&slot[0], memory_order_relaxed) != head)
            return 0;
        ids[0] = (int32_t)(uint32_t)head;
        ids[1] = (int32_t)(uint32_t)tail;
        ids[2] = (int32_t)(uint32_t)(tail >> 32);
        return 1u + (ids[1] >= 0) + (ids[2] >= 0);
    }
    return 0;
}

/* Remember a short piece; 1 <= n <= TDM_SHORT_IDS. */
void tdm_cache_short_put(tdm_cache *cache, tdm_short_key key, const int32_t *ids, size_t n);

/* The same for a piece of 1 <= len <= TDM_WIDE_BYTES bytes and n <= TDM_WIDE_IDS ids.
 *   ids   [TDM_WIDE_IDS] */
size_t tdm_cache_wide_get(const tdm_cache *cache, const unsigned char *p, size_t len, int32_t *ids);
void tdm_cache_wide_put(tdm_cache *cache, const unsigned char *p, size_t len, const int32_t *ids,
                        size_t n);

#endif
