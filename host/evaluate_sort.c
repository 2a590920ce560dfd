/* host/evaluate_sort.c - scores as integers, and their order: radix sort, a byte at a time. */
#include <stdlib.h>
#include <string.h>

#include "host/evaluate_state.h"

enum { BYTES = 8, VALUES = 256 };

/* The bits of positive numbers rise with the number, those of negative ones fall; the sign bit puts these last. */
uint64_t tdm_key_of(double score)
{
    uint64_t bits;
    score += 0.0; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits >> 63 ? bits : ~bits & UINT64_MAX >> 1;
}

double tdm_score_of(uint64_t key)
{
    const uint64_t bits = key >> 63 ? key : ~key & UINT64_MAX >> 1;
    double score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

static size_t byte_of(uint64_t key, int byte)
{
    return key >> 8 * byte & (VALUES - 1);
}

/* Move to `to` in the order of one byte; what is equal in it stays in order. */
static void sort_by_byte(uint64_t *restrict to, const uint64_t *restrict from, size_t n, int byte,
                         const size_t counts[VALUES])
{
    size_t next[VALUES], sum = 0;
    for (int v = 0; v < VALUES; v++) {
        next[v] = sum;
        sum += counts[v];
    }
    for (size_t i = 0; i < n; i++)
        to[next[byte_of(from[i], byte)]++] = from[i];
}

tdm_status tdm_sort_keys(uint64_t *keys, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t counts[BYTES][VALUES] = {0};
    uint64_t *other = n ? calloc(n, sizeof *other) : NULL, *from = keys, *to = other;
    TDM_REQUIRE(other || n == 0, TDM_ENOMEM, "%zu scores to sort", n);
    for (size_t i = 0; i < n; i++)
        for (int b = 0; b < BYTES; b++)
            counts[b][byte_of(keys[i], b)]++;
    for (int b = 0; b < BYTES && n; b++) {
        if (counts[b][byte_of(keys[0], b)] == n)
            continue; /* all have the same */
        sort_by_byte(to, from, n, b, counts[b]);
        uint64_t *const sorted = to;
        to = from;
        from = sorted;
    }
    if (from != keys)
        memcpy(keys, from, n * sizeof *keys);
done:
    free(other);
    return st;
}
