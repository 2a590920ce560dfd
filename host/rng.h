/* host/rng.h - counter-based random numbers: Philox4x32-10.
 *
 *   uint32_t words[4];
 *   tdm_philox((uint32_t[4]){block, position, document_low, document_high}, seed, words);
 *
 * There is no state: four words are a function of (key, counter), so a draw is the same number
 * whatever the batch, the slot, the thread or the order in which texts are computed.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011. */
#ifndef HOST_RNG_H
#define HOST_RNG_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* nvcc compiles these for the host and for the device; to others they are plain C. */
#ifdef __CUDACC__
#define TDM_HOST_DEVICE __host__ __device__
#else
#define TDM_HOST_DEVICE
#endif

#define TDM_PHILOX_ROUNDS 10
#define TDM_PHILOX_M0 UINT32_C(0xD2511F53)
#define TDM_PHILOX_M1 UINT32_C(0xCD9E8D57)
#define TDM_PHILOX_W0 UINT32_C(0x9E3779B9) /* what the key grows by from round to round */
#define TDM_PHILOX_W1 UINT32_C(0xBB67AE85)

/* Four words for one counter.
 *   key  low 32 bits are key word 0, high 32 bits key word 1 */
TDM_HOST_DEVICE static inline void tdm_philox(const uint32_t counter[4], uint64_t key,
                                              uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < TDM_PHILOX_ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)TDM_PHILOX_M0 * c0, p1 = (uint64_t)TDM_PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += TDM_PHILOX_W0;
        k1 += TDM_PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* A word as a number strictly between 0 and 1: the middle of its interval of width 2^-32. Exact. */
TDM_HOST_DEVICE static inline double tdm_word_uniform(uint32_t word)
{
    return ((double)word + 0.5) * 0x1p-32;
}

#define TDM_MOST_GUMBEL 22.9f /* no noise is larger: 33 ln 2 = 22.87 */

/* A word as standard Gumbel noise, in double (f32 cannot tell u from 1 near the top, which is where
 * draws are decided). */
TDM_HOST_DEVICE static inline double tdm_word_gumbel(uint32_t word)
{
    return -log(-log(tdm_word_uniform(word)));
}

/* A number that the noise of this word does not exceed, without logarithms or branches.
 *
 * With x = ~word: 1 - u = (x + 1/2) / 2^32, and -ln(u) >= 1 - u, so noise <= ln 2 * (32 - log2(x + 1/2)).
 * y = x >> 8 converts to f32 exactly, and x + 1/2 > 2^8 y. Its bits, divided by 2^23, less 127, are
 * at most log2(y), because log2(1 + m) >= m (far below it for y = 0). 1e-4 covers the rounding of
 * this expression, which is below 3e-5. */
TDM_HOST_DEVICE static inline float tdm_word_gumbel_bound(uint32_t word)
{
    const float ln2 = 0.69314718055994531f, y = (float)(int32_t)(~word >> 8);
    int32_t bits;
    memcpy(&bits, &y, sizeof bits);
    return (151 * ln2 + 1e-4f) - (float)bits * (ln2 * 0x1p-23f);
}

#endif
