/* tools/dry_run.h - --dry-run: how much work a command is, and what it will take, before anything is written.
 *
 * Records are known from a sample of the input (tools/sample.h), tokens, output and time from a few
 * seconds in which the model works on some of them, here and now, as it would in the run. Nothing is created.
 * In homogeneous data the figures are good for some ten per cent; what is exact says so. */
#ifndef TOOLS_DRY_RUN_H
#define TOOLS_DRY_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "host/backend.h"
#include "host/generate.h"
#include "host/inputs.h"
#include "tools/args.h"

/* How long the model works, once it is warm. */
#define DRY_RUN_SECONDS 2.0

/* What a command is expected to do. */
typedef struct {
    const char *command, *unit; /* "detect"; of what it writes: "texts" */
    const tdm_inputs *inputs;   /* NULL: none */
    double text_bytes;          /* of the inputs, decompressed */
    double records, bad;        /* of the inputs, bad ones included */
    bool records_are_exact;
    double results; /* that are written */
    double tokens;  /* through the model */
    bool tokens_are_most; /* an upper bound: no text of the trial came to its end */
    double chunks, out_bytes;
    double seconds; /* of one process that does it all */
    double tried;   /* results that this is known from */
} dry_run_estimate;

/* Print it on stdout, as text or, with --json, as one object; and whether the folder of --out has room for it.
 * Errors: those of ranks_find; TDM_ECANTCREATE when OUT could not be made there. */
tdm_status dry_run_print(const dry_run_estimate *e, const common_args *common, const tdm_backend *backend,
                         tdm_err *err);

/* Whether this process is one of several that have nothing to say, since the first does.
 * Errors: those of ranks_find. */
tdm_status dry_run_is_idle(const common_args *common, bool *idle, tdm_err *err);
/* The end of the command. Returns: its exit code; a failure has been printed. */
int dry_run_finish(const char *command, tdm_status st, const tdm_err *err);

/* generate: let the model write, then print. */
typedef struct {
    const common_args *common;
    const gpt2_model *model;
    const tdm_backend *backend;
    const tdm_config *config;
    const tdm_bpe *bpe;
    const tdm_generate_options *options; /* as planned for the run */
    const tdm_inputs *prompts;           /* NULL: none */
    const tdm_reader_options *reading;   /* of prompts */
    uint64_t chunk;                      /* documents */
} dry_run_generator;

/* Errors: those of sample_take, tdm_generate and dry_run_print. */
tdm_status dry_run_generate(const dry_run_generator *g, tdm_err *err);

/* Seconds of a clock that only goes forward. */
double dry_run_clock(void);

#endif
