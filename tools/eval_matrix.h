/* tools/eval_matrix.h - inside eval --matrix: the files of a folder, and the order of names. */
#ifndef TOOLS_EVAL_MATRIX_H
#define TOOLS_EVAL_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/eval.h"

typedef enum { MATRIX_MACHINE, MATRIX_HUMAN, MATRIX_ALL_HUMANS } matrix_kind; /* COLUMN, COLUMN.human, human */

typedef struct {
    char *row, *column; /* owned; the column of MATRIX_ALL_HUMANS is "" */
    char *path;         /* owned */
    matrix_kind kind;
} matrix_file;

typedef struct {
    matrix_file *items; /* owned [n] in natural order of rows, then columns, then kinds */
    size_t n, cap;
} matrix_files;

/* List DIR/ROW/COLUMN.jsonl[.gz|.zst] and the files of humans.
 * Errors: TDM_ENOINPUT for a folder that cannot be read or has no such files, a row without files, machines without
 * humans, COLUMN.human without its COLUMN; TDM_EFORMAT for two files of one cell; TDM_ENOMEM. */
tdm_status matrix_list(const char *dir, matrix_files *out, tdm_err *err);
void matrix_files_free(matrix_files *files); /* {0} is fine */

/* The file of a cell, or NULL. */
const matrix_file *matrix_find(const matrix_files *files, const char *row, const char *column, matrix_kind kind);

/* Order names as people do: 124M < 355M < 1.5B, small < medium < large < xl, run-2 < run-10. Numbers (with k, M, B or T
 * behind them: thousands, ...) go before words, and sizes before other words. Total: 0 for equal bytes alone. */
int matrix_compare_names(const char *a, const char *b);

/* Of all cells that are there. */
typedef struct {
    bool has_intervals, has_holes, is_mixed; /* is_mixed: some cells point one way and some the other */
    int64_t fewest_humans, most_humans, fewest_machines, most_machines, excluded;
} matrix_facts;

matrix_facts matrix_facts_of(const eval_matrix *m);

/* Decimals of a value in per cent: one, or two where it was published with two. */
int matrix_decimals(const eval_matrix *m, const eval_cell *cell);

#endif
