#include "tokenizer/cache.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { LINE = 64, HUGE_PAGE = 2 << 20 };

/* 2 << bits slots of n_words words, all empty. */
static tdm_cache_word *open_slots(unsigned bits, size_t n_words)
{
    const size_t bytes = ((size_t)2 << bits) * n_words * sizeof(tdm_cache_word);
    const bool huge = bytes % HUGE_PAGE == 0;
    tdm_cache_word *slots = aligned_alloc(huge ? HUGE_PAGE : LINE, bytes);
    if (slots && huge)
        madvise(slots, bytes, MADV_HUGEPAGE); /* lookups are random; a refusal costs only time */
    if (slots)
        memset(slots, 0, bytes);
    return slots;
}

tdm_status tdm_cache_open(tdm_cache *cache, size_t n_pieces, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *cache = (tdm_cache){.short_bits = 6, .wide_bits = 4};
    while (((size_t)2 << cache->short_bits) < n_pieces && cache->short_bits < 20)
        cache->short_bits++;
    cache->wide_bits = cache->short_bits - 2;
    cache->short_slots = open_slots(cache->short_bits, TDM_SHORT_WORDS);
    cache->wide_slots = open_slots(cache->wide_bits, TDM_WIDE_WORDS);
    TDM_REQUIRE(cache->short_slots && cache->wide_slots, TDM_ENOMEM, "piece cache");
done:
    if (st != TDM_OK)
        tdm_cache_close(cache);
    return st;
}

void tdm_cache_close(tdm_cache *cache)
{
    free(cache->short_slots);
    free(cache->wide_slots);
    *cache = (tdm_cache){0};
}

/* Write a slot unless another thread is writing it. in[0] holds only its low 32 bits; the version
 * above them is the slot's own. */
static void write_slot(tdm_cache_word *slot, const uint64_t *in, size_t n_words)
{
    const uint64_t one = (uint64_t)1 << 32;
    uint64_t head = atomic_load_explicit(&slot[0], memory_order_relaxed);
    if ((head & one) ||
        !atomic_compare_exchange_strong_explicit(&slot[0], &head, head + one, memory_order_acquire,
                                                 memory_order_relaxed))
        return;
    atomic_thread_fence(memory_order_release);
    for (size_t i = 1; i < n_words; i++)
        atomic_store_explicit(&slot[i], in[i], memory_order_relaxed);
    const uint64_t version = ((head >> 32) + 2) << 32;
    atomic_store_explicit(&slot[0], version | (uint32_t)in[0], memory_order_release);
}

static bool read_slot(const tdm_cache_word *slot, uint64_t *out, size_t n_words)
{
    out[0] = atomic_load_explicit(&slot[0], memory_order_acquire);
    for (size_t i = 1; i < n_words; i++)
        out[i] = atomic_load_explicit(&slot[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return !(out[0] >> 32 & 1) && atomic_load_explicit(&slot[0], memory_order_relaxed) == out[0];
}

/* The ways of a set are overwritten in turn: the one with the lower version was written longer ago.
 */
static tdm_cache_word *choose_way(tdm_cache_word *set, size_t n_words)
{
    const uint64_t first = atomic_load_explicit(&set[0], memory_order_relaxed) >> 32;
    const uint64_t second = atomic_load_explicit(&set[n_words], memory_order_relaxed) >> 32;
    return first <= second ? set : set + n_words;
}

void tdm_cache_short_put(tdm_cache *cache, tdm_short_key key, const int32_t *ids, size_t n)
{
    const uint32_t second = n > 1 ? (uint32_t)ids[1] : UINT32_MAX;
    const uint32_t third = n > 2 ? (uint32_t)ids[2] : UINT32_MAX;
    const uint64_t words[TDM_SHORT_WORDS] = {(uint32_t)ids[0], key.low, key.high,
                                             (uint64_t)third << 32 | second};
    write_slot(choose_way(tdm_cache_short_set(cache, key), TDM_SHORT_WORDS), words,
               TDM_SHORT_WORDS);
}

enum { TEXT_WORDS = TDM_WIDE_BYTES / 8 };

/* Odd numbers without a pattern, for multiply-shift hashing: the products do not wait for each
 * other. */
static const uint64_t MULTIPLIERS[TEXT_WORDS + 1] = {
    0x9E3779B97F4A7C15u, 0xC2B2AE3D27D4EB4Fu, 0x165667B19E3779F9u, 0xD6E8FEB86659FD93u,
    0xA0761D6478BD642Fu, 0xE7037ED1A0B428DBu, 0x8EBC6AF09C88C6E3u, 0x589965CC75374CC3u,
};

/* The text as words, padded with zeros; returns the first of the two slots that may hold it. */
static tdm_cache_word *wide_set(const tdm_cache *cache, const unsigned char *p, size_t len,
                                uint64_t text[TEXT_WORDS])
{
    memset(text, 0, TDM_WIDE_BYTES);
    memcpy(text, p, len);
    uint64_t hash = len * MULTIPLIERS[TEXT_WORDS];
    for (size_t i = 0; i < TEXT_WORDS; i++)
        hash += text[i] * MULTIPLIERS[i];
    return cache->wide_slots + (hash >> (64 - cache->wide_bits)) * 2 * TDM_WIDE_WORDS;
}

size_t tdm_cache_wide_get(const tdm_cache *cache, const unsigned char *p, size_t len, int32_t *ids)
{
    uint64_t text[TEXT_WORDS], words[TDM_WIDE_WORDS];
    const tdm_cache_word *slot = wide_set(cache, p, len, text);
    for (int way = 0; way < 2; way++, slot += TDM_WIDE_WORDS) {
        /* Most slots hold something else: two words tell. */
        if ((uint32_t)atomic_load_explicit(&slot[0], memory_order_relaxed) >> 16 != len ||
            atomic_load_explicit(&slot[1], memory_order_relaxed) != text[0])
            continue;
        const bool whole = read_slot(slot, words, TDM_WIDE_WORDS);
        const uint32_t shape = (uint32_t)words[0];
        if (!whole || shape >> 16 != len || memcmp(words + 1, text, sizeof text) != 0)
            continue;
        memcpy(ids, words + 1 + TEXT_WORDS, TDM_WIDE_IDS * sizeof *ids);
        return shape & 0xFFFF;
    }
    return 0;
}

void tdm_cache_wide_put(tdm_cache *cache, const unsigned char *p, size_t len, const int32_t *ids,
                        size_t n)
{
    uint64_t words[TDM_WIDE_WORDS] = {(uint32_t)(len << 16 | n)};
    tdm_cache_word *set = wide_set(cache, p, len, words + 1);
    memcpy(words + 1 + TEXT_WORDS, ids, n * sizeof *ids);
    write_slot(choose_way(set, TDM_WIDE_WORDS), words, TDM_WIDE_WORDS);
}
