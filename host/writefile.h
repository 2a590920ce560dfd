/* host/writefile.h - small files that appear whole or not at all.
 *
 *   TDM_TRY(tdm_writefile_check("report.html", err)); // before the work
 *   TDM_TRY(tdm_writefile("report.html", out.p, out.len, err));
 *
 * Thread safety: no state; one thread a path. */
#ifndef HOST_WRITEFILE_H
#define HOST_WRITEFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "host/err.h"

/* Whether a file can be made at `path`, as far as that is known without making one.
 * Errors: TDM_ECANTCREATE for a folder, or where the folder around it is missing or may not be written. */
tdm_status tdm_writefile_check(const char *path, tdm_err *err);
/* Write data [len] under a name beside path, make it durable, and give it its name; what was there is replaced, a link
 * followed. A pipe or a device is written as it is. Nothing is left behind on failure.
 * Errors: TDM_ECANTCREATE, TDM_EIO, TDM_ENOMEM. */
tdm_status tdm_writefile(const char *path, const void *data, size_t len, tdm_err *err);

/* Whether two names are one, or of one regular file that is there: what is written to one replaces the other. */
bool tdm_writefile_same(const char *path, const char *other);

#endif
