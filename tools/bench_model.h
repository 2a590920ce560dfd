/* tools/bench_model.h - model folders of the published shapes with random weights and a made-up
 * vocabulary, so that every job can be timed without a download.
 *
 *   char dir[BENCH_PATH];
 *   TDM_TRY(bench_folder_make(dir, err));
 *   TDM_TRY(bench_model_write(dir, bench_shape_find("1558M"), TDM_F16, err));
 *   ...
 *   bench_folder_remove(dir);
 *
 * A size and a dtype give the same bytes always. Thread safety: none needed; no state. */
#ifndef TOOLS_BENCH_MODEL_H
#define TOOLS_BENCH_MODEL_H

#include "host/config.h"
#include "host/dtype.h"
#include "host/err.h"

enum { BENCH_PATH = 512 };

typedef struct {
    const char *name;
    tdm_arch arch;
    int layers, heads; /* the width is 64 times this, the inner layer 4 times the width */
    int merges;        /* of the vocabulary */
    int positions;     /* rows of the position table */
} bench_shape;

#define BENCH_SHAPE_NAMES "tiny|124M|355M|774M|1558M|tiny-detector|base|large"

/* NULL when there is no such shape. */
const bench_shape *bench_shape_find(const char *name);
/* The words of --help, or a sentence about them. Errors: TDM_EARG. */
tdm_status bench_shape_require(const char *name, const bench_shape **out, tdm_err *err);

/* Write config.json, model.safetensors, merges.txt and (detectors) vocab.json into dir, which
 * exists. Weights are drawn with the spread that the models start training with. Errors:
 * TDM_ECANTCREATE, TDM_EIO, TDM_ENOMEM. */
tdm_status bench_model_write(const char *dir, const bench_shape *shape, tdm_dtype dtype,
                             tdm_err *err);

/* A new folder in $TMPDIR (/tmp); and its end, with the files in it. Errors: TDM_ECANTCREATE. */
tdm_status bench_folder_make(char dir[BENCH_PATH], tdm_err *err);
void bench_folder_remove(const char *dir); /* "" is fine */

#endif
