/* tools/tp.h - --tp: on how many devices the weights are, and opening these as one backend.
 *
 *   TDM_TRY(tp_open(common, &(tp_work){.observer = args->observer}, &backend, err));
 *
 * --tp auto is the smallest number of devices on which the model has room for a useful batch (tools/tp_plan.h), and says
 * on stderr what it was chosen by. */
#ifndef TOOLS_TP_H
#define TOOLS_TP_H

#include "host/backend.h"
#include "host/err.h"
#include "host/generate.h"
#include "tools/args.h"

/* What the command will do with the model of common->model. */
typedef struct {
    const tdm_generate_options *generate; /* NULL: texts are read */
    bool has_prompts;
    const char *observer; /* another model's folder; NULL: none */
    int32_t top;          /* of tdm_score_options */
} tp_work;

/* As args_open_backend where --tp is 1. Otherwise opens the first devices of the machine, or under --devices those of this
 * worker.
 * Errors: TDM_EARG for more ranks than a model has heads, for a device of --device that is no choice then; TDM_ENODEV
 * for more than there are devices; TDM_ENOMEM with the numbers where auto finds no number of devices that has room; those of
 * args_open_backend, config and checkpoint. */
tdm_status tp_open(const common_args *common, const tp_work *work, tdm_backend *out, tdm_err *err);

#endif
