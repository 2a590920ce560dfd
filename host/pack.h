/* host/pack.h - which texts go through the network together.
 *
 *   n_batches = tdm_pack(lengths, n_texts, 2048, 0, order, ends);
 *   for (b = 0, i = 0; b < n_batches; b++)
 *       for (; i < ends[b]; i++)
 *           ...text order[i] is in batch b...
 *
 * The rows of a batch are the tokens of its texts, one text behind the other: there is no padding,
 * so the only cost of a batch is that it must be filled. A text is never split.
 * Thread safety: no state. */
#ifndef HOST_PACK_H
#define HOST_PACK_H

#include <stddef.h>
#include <stdint.h>

/* Sort texts by length, longest first and equal lengths by number, and cut them into batches.
 *   lengths    [n] tokens of each text; 0: the text takes part in no batch
 *   max_rows   tokens in a batch at most, at least the longest text
 *   max_texts  texts in a batch at most; 0: any number
 *   order      [n] receives the numbers of the texts, batch after batch
 *   ends       [n] receives for each batch the end of its part of order
 * Returns: the number of batches. Cost: O(n log n). */
size_t tdm_pack(const int32_t *lengths, size_t n, int32_t max_rows, size_t max_texts,
                uint32_t *order, size_t *ends);

#endif
