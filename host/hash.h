/* host/hash.h - a fingerprint of token ids: whether two runs gave the same tokens, in one number.
 *
 *   uint64_t hash = TDM_HASH_START;
 *   for (each record, in output order)
 *       hash = tdm_hash_ids(hash, ids, n);
 *
 * No defence against anyone who wants two runs to look alike. Thread safety: no state. */
#ifndef HOST_HASH_H
#define HOST_HASH_H

#include <stddef.h>
#include <stdint.h>

#define TDM_HASH_START UINT64_C(0xcbf29ce484222325)

/* Go on with the 64-bit FNV-1a hash (Fowler, Noll and Vo) over the bytes of ids [n] as 32-bit numbers,
 * little-endian, and of one -1 behind them: where a record ends is a part of it. */
uint64_t tdm_hash_ids(uint64_t hash, const int32_t *ids, size_t n);

#endif
