/* detector/detector.h - inside the detector: its parts, shared by the file that opens it (detect.c) and
 * the one that judges (window.c). */
#ifndef DETECTOR_DETECTOR_H
#define DETECTOR_DETECTOR_H

#include "detector/detect.h"
#include "detector/roberta.h"
#include "host/checkpoint.h"
#include "host/threads.h"

struct tdm_detect_window {
    size_t context; /* ids of a text at most */
    size_t n, cap;
    int32_t *ids;           /* [cap, context] */
    int32_t *lengths;       /* [cap]; 0: an empty text */
    tdm_detection *results; /* [cap] */
    uint32_t *order;        /* [cap] */
    size_t *ends;           /* [cap + 1] */
    size_t n_batches, next; /* next: the first batch that is not on its way */
};

/* A forward pass on its way: the texts order[from .. from + n) of a window. */
typedef struct {
    tdm_detect_window *window;
    size_t from, n;
    int64_t rows;
    bool last; /* of its window */
} detect_batch;

struct tdm_detector {
    tdm_config config;
    tdm_preprocess preprocess;
    tdm_bpe *bpe;
    tdm_threads *threads;
    const tdm_backend *be; /* borrowed */
    char *dir;             /* owned; for messages */
    bool check_finite;
    tdm_checkpoint *checkpoint; /* until the weights are loaded */
    roberta *model;             /* NULL until then */
    int32_t max_rows, max_texts;
    int32_t *batch_ids;    /* [max_rows] */
    int32_t *batch_starts; /* [max_texts + 1] */
    detect_batch lanes[TDM_LANES];
    uint64_t submitted, collected; /* batches; number i is in lane i % TDM_LANES */
    tdm_detect_window *own;        /* of tdm_detector_run */
};

#endif
