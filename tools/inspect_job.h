/* tools/inspect_job.h - what tandem inspect says of a job, and of what a job has made.
 *
 *   if (inspect_job_is_for(path))
 *       TDM_TRY(inspect_job(path, json, err)); */
#ifndef TOOLS_INSPECT_JOB_H
#define TOOLS_INSPECT_JOB_H

#include <stdbool.h>

#include "host/err.h"

/* Whether path is OUT.job, OUT.manifest.json, or an OUT that has one of them beside it. */
bool inspect_job_is_for(const char *path);

/* Print the state on stdout, as text or as one JSON object: of a job what is done, who is at work and what goes
 * on with it; of an OUT also whether it and OUT.errors.jsonl are what OUT.manifest.json says: all is read.
 * Errors: TDM_EFORMAT when they are not, and for a damaged manifest; TDM_ENOINPUT, TDM_EIO, TDM_ENOMEM. */
tdm_status inspect_job(const char *path, bool json, tdm_err *err);

#endif
