/* tests/crash/journal.h - OUT.job/RANK.journal, read by the tests themselves: what the product's
 * own reader takes for granted is not taken for granted here. */
#ifndef TESTS_CRASH_JOURNAL_H
#define TESTS_CRASH_JOURNAL_H

#include "tests/crash/crash.h"

/* The chunks of one journal, in its order. */
typedef struct {
    size_t n;
    uint64_t *lens; /* owned [n] bytes of data */
    uint64_t bytes; /* of all */
} journal_chunks;

/* Read the journal of a rank up to its first line without an end. */
void journal_read(journal_chunks *c, const char *out, int rank);
/* That of a run up to its end. */
void journal_of_reference(journal_chunks *c, const workload *w);
void journal_free(journal_chunks *c);
/* Chunks in a journal's bytes, up to the first line that is not as it was written. */
size_t journal_good_lines(const tdm_buf *journal);
/* Compare each line of a journal with what lies in the files that it speaks of.
 *   n_want  chunks that must be there at least */
void journal_verify(const char *out, int rank, size_t n_want);

#endif
