/* tests/crash/workload.h - what tandem is given to do: a command, its inputs, and what it must
 * give. */
#ifndef TESTS_CRASH_WORKLOAD_H
#define TESTS_CRASH_WORKLOAD_H

#include "tests/crash/crash.h"

enum { MAX_ARGUMENTS = 48, LONG_ARGUMENT = 640 };

typedef struct {
    const char *items[MAX_ARGUMENTS]; /* NULL-terminated; the first is the program */
    size_t n;
    char texts[8][LONG_ARGUMENT]; /* where an argument had to be put together */
    size_t n_texts;
} arguments;

void workload_arguments(const run *r, arguments *a);
/* The part of OUT.manifest.json that counts. */
void load_counts(const char *out, tdm_buf *counts);
/* Nothing lies in OUT's folder but OUT, its errors and its manifest. */
void expect_alone(const char *out);
/* Lines of records, n of them; each `bad_every`-th is bad (0: none). The same for the same seed. */
void make_records(tdm_buf *out, uint64_t seed, size_t n, size_t bad_every, bool as_prompts);
/* The text in several members or frames. */
void store_compressed(const char *path, tdm_codec codec, const tdm_buf *text, size_t member_bytes);

extern const char *program; /* tandem_faults */
extern const char *source;  /* the repository */

#endif
