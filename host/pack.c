/* host/pack.c - sort by length, then fill one batch after the other. */
#include "host/pack.h"

#include <stdlib.h>

static int longest_first(const void *a, const void *b, void *lengths)
{
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const int32_t li = ((const int32_t *)lengths)[i], lj = ((const int32_t *)lengths)[j];
    if (li != lj)
        return li > lj ? -1 : 1;
    return i < j ? -1 : i > j;
}

size_t tdm_pack(const int32_t *lengths, size_t n, int32_t max_rows, size_t max_texts,
                uint32_t *order, size_t *ends)
{
    size_t n_texts = 0, n_batches = 0;
    for (size_t i = 0; i < n; i++)
        if (lengths[i] > 0)
            order[n_texts++] = (uint32_t)i;
    if (n_texts > 0)
        qsort_r(order, n_texts, sizeof *order, longest_first, (void *)(uintptr_t)lengths);

    int64_t rows = 0;
    size_t texts = 0;
    for (size_t i = 0; i < n_texts; i++) {
        const int32_t length = lengths[order[i]];
        if (texts && (rows + length > max_rows || texts == max_texts)) {
            ends[n_batches++] = i;
            rows = 0;
            texts = 0;
        }
        rows += length;
        texts++;
    }
    if (texts)
        ends[n_batches++] = n_texts;
    return n_batches;
}
