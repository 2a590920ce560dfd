/* tools/sample.h - a part of the input files that stands for the whole, for --dry-run.
 *
 *   TDM_TRY(sample_take(&sample, &inputs, &reading, err));
 *   for (size_t i = 0; i < sample.n; i++)
 *       use(sample.items[i].record, sample.items[i].weight); // stands for so many good records of all
 *   sample_free(&sample);
 *
 * Little input is read whole. Of much, places are looked at that lie equally far from each other: a MiB of
 * plain files at each, of compressed ones some MiB from their start, since what is behind them is not to be had
 * for less than all of it. Records without an id are taken from the start too: theirs is the number of the line. */
#ifndef TOOLS_SAMPLE_H
#define TOOLS_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>

#include "host/inputs.h"
#include "host/record.h"

typedef struct {
    tdm_record record; /* a good one; source and text live as long as the sample */
    double weight;
    size_t place;      /* number of the place it was found at */
    size_t id_at, text_at, source_at; /* in the arena */
} sample_item;

typedef struct {
    double records, bad;  /* in all of the input; records include bad ones */
    double text_bytes;    /* decompressed */
    double source_bytes;  /* of good records, without line endings */
    double packed_text_bytes; /* of text_bytes, those in compressed files */
    double bytes_read;    /* that this is known from, decompressed */
    double seconds;       /* that reading and parsing them took */
    bool is_exact;        /* all has been read */
    sample_item *items;   /* owned [n] some of the good records */
    size_t n, cap;
    tdm_buf arena;
} input_sample;

/* reading  as for the run; its chunks and filter are not looked at
 * Errors: TDM_EARG for a pipe or stdin, which can be read only once; those of tdm_reader_next. */
tdm_status sample_take(input_sample *sample, const tdm_inputs *inputs, const tdm_reader_options *reading,
                       tdm_err *err);
void sample_free(input_sample *sample); /* a zeroed one is fine */

#endif
