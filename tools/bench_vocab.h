/* tools/bench_vocab.h - a made-up byte-level BPE vocabulary of any size: words of up to four
 * letters.
 *
 * Merges come in two levels: " a" .. " z" and "aa" .. "zz", and then what two of those make. So "
 * abc" is one token, reached by the merges in their order. Thread safety: no state. */
#ifndef TOOLS_BENCH_VOCAB_H
#define TOOLS_BENCH_VOCAB_H

#include "host/buf.h"
#include "host/err.h"

/* Ids of a detector's vocabulary besides the bytes and the merges: four special tokens in front;
 * four words that stand for nothing and <mask> at the end. */
enum { BENCH_DETECTOR_EXTRA = 9 };

/* The text of merges.txt, and (NULL: not wanted) of a RoBERTa's vocab.json.
 *   merges  1 to 400,000 */
tdm_status bench_vocab_make(int merges, tdm_buf *merge_text, tdm_buf *vocab_text, tdm_err *err);

#endif
