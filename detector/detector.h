/* detector/detector.h - inside the detector: its parts, shared by the file that opens it (detect.c) and
 * the one that judges (window.c). */
#ifndef DETECTOR_DETECTOR_H
#define DETECTOR_DETECTOR_H

#include "detector/detect.h"
#include "detector/roberta.h"
#include "host/checkpoint.h"
#include "host/threads.h"

struct tdm_detect_window {
    tdm_packed packed;
    size_t context, cap;    /* context: ids of a text at most */
    int32_t *ids;           /* [cap, context] */
    tdm_detection *results; /* [cap] */
};

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
    tdm_detect_window *own; /* of tdm_detector_run */
};

#endif
