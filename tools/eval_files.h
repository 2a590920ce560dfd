/* tools/eval_files.h - what tandem eval found, as files: each appears whole or not at all.
 *
 *   const eval_files files = {.csv = "out.csv", .svg = "pictures", .html = "report.html", .about = "tandem eval ..."};
 *   TDM_TRY(eval_files_check(&files, err)); // before anything is read
 *   TDM_TRY(eval_files_write(&files, &found, &options, err)); */
#ifndef TOOLS_EVAL_FILES_H
#define TOOLS_EVAL_FILES_H

#include "tools/eval.h"

typedef struct {
    const char *csv, *svg, *html; /* NULL: not wanted. svg is a folder, made if it is not there */
    const char *about;            /* the command line */
} eval_files;

/* Results of fields, or matrices, the measured one first. */
typedef struct {
    const eval_result *results; /* [n] */
    size_t n;
    const eval_matrix *matrices; /* [n_matrices] */
    size_t n_matrices;
} eval_found;

/* Errors: TDM_ECANTCREATE names what cannot be written; TDM_EARG for one file twice. */
tdm_status eval_files_check(const eval_files *files, tdm_err *err);
/* Whether pictures of two fields would have one name. */
bool eval_files_collide(const char *field, const char *other);
/* Write what is wanted: roc.svg, lengths.svg, histogram-FIELD.svg and calibration-FIELD.svg, or of matrices
 * matrix.svg, matrix-2.svg, ...; CSV of all of them. Errors: TDM_ECANTCREATE, TDM_EIO, TDM_ENOMEM. */
tdm_status eval_files_write(const eval_files *files, const eval_found *found, const eval_options *options, tdm_err *err);

#endif
