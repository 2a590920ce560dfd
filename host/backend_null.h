/* host/backend_null.h - a device that computes nothing: what is left is the rest of the program.
 *
 *   TDM_TRY(tdm_open_null(&backend, err));
 *
 * Results are made up, in no time, from what a result may depend on: the logits of a text from its
 * token ids, a drawn token from (seed, document, position). So they are the same whatever the batch, the
 * order and the number of processes, and a program that mixes texts up is found out. For `--device null`: to
 * measure and to test everything around the models. */
#ifndef HOST_BACKEND_NULL_H
#define HOST_BACKEND_NULL_H

#include "host/backend.h"

/* f32; takes no memory for weights and activations. Errors: TDM_ENOMEM. */
tdm_status tdm_open_null(tdm_backend *out, tdm_err *err);

#endif
