#include "host/hash.h"

static uint64_t hash_word(uint64_t hash, uint32_t word)
{
    for (int shift = 0; shift < 32; shift += 8)
        hash = (hash ^ (word >> shift & 255)) * UINT64_C(0x100000001b3);
    return hash;
}

uint64_t tdm_hash_ids(uint64_t hash, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = hash_word(hash, (uint32_t)ids[i]);
    return hash_word(hash, UINT32_MAX);
}
