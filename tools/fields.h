/* tools/fields.h - what commands that judge records append to each: the names of the fields, with --key-prefix,
 * numbers as JSON, and how records are read that get them.
 *
 *   for (size_t i = 0; i < COUNT(NAMES); i++)
 *       TDM_TRY(fields_add(&fields, prefix, NAMES[i], err));
 *   ...
 *   TDM_TRY(fields_put_key(&fields, 0, first, line, err));
 *   TDM_TRY(fields_put_float(line, d->fake, err));
 *   fields_free(&fields); */
#ifndef TOOLS_FIELDS_H
#define TOOLS_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "host/buf.h"
#include "host/err.h"
#include "host/record.h"
#include "tools/args.h"

enum { FIELDS_MOST = 24 };

typedef struct {
    size_t n;
    char *keys[FIELDS_MOST + 1]; /* owned; NULL at the end: the reader's collide_keys */
    tdm_buf json[FIELDS_MOST];   /* the same as JSON strings */
} fields;

/* Add a name behind prefix; NULL: none. Errors: TDM_ENOMEM; TDM_EINTERNAL for one too many. */
tdm_status fields_add(fields *f, const char *prefix, const char *name, tdm_err *err);
void fields_free(fields *f); /* {0} is fine */

/* With --passthrough, what --id-key names must not be one of them. Errors: TDM_EARG. */
tdm_status fields_check(const fields *f, const common_args *common, bool passthrough, tdm_err *err);

/* How to read records that get these fields; with passthrough, none that has one of them already. */
tdm_reader_options fields_reading(const fields *f, const common_args *common, bool passthrough);

/* Append the name of field i, behind a comma unless it is the first of its object. */
tdm_status fields_put_key(const fields *f, size_t i, bool first, tdm_buf *line, tdm_err *err);

/* Append 9 significant digits that every reader takes for a float: 1 becomes 1.0; what is not finite becomes null. */
tdm_status fields_put_float(tdm_buf *line, double value, tdm_err *err);

#endif
