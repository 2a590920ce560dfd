/* tools/eval.h - inside tandem eval: labelled scores, what was found about them, and who prints it.
 *
 *   records (JSON Lines) -> eval_read.c: eval_scores -> eval_measure.c: eval_result
 *   -> eval_text.c: table; eval_json.c: JSON, CSV; eval_svg.c: pictures; eval_html.c: the report
 *   a folder of files -> eval_matrix.c: eval_matrix -> the same printers */
#ifndef TOOLS_EVAL_H
#define TOOLS_EVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "host/buf.h"
#include "host/err.h"
#include "host/evaluate.h"
#include "host/sink.h"
#include "host/stop.h"

/* Which way a field points. */
typedef enum {
    EVAL_AUTO,    /* known fields as known (README); others: higher is machine; warned about where AUROC < 0.5 */
    EVAL_MACHINE, /* a higher value: rather a machine */
    EVAL_HUMAN,   /* a higher value: rather a human */
    EVAL_FIT,     /* whichever is right more often on the validation split */
} eval_orientation;

enum { EVAL_BUCKETS_MOST = 16, EVAL_CURVE = 512, EVAL_HISTOGRAM = 40 };

typedef struct {
    const char *const *fields; /* [n_fields] */
    size_t n_fields;
    eval_orientation orientation;
    double threshold;    /* NaN: 0.5 for probabilities (fake, real), none for others */
    double validation;   /* share of the records on which the best threshold is fitted, 0 < v < 1 */
    tdm_evaluate_options evaluate; /* fprs */
    tdm_bootstrap_options bootstrap;
    int64_t buckets[EVAL_BUCKETS_MOST]; /* lower bounds of lengths, ascending; the first bucket is below buckets[0] */
    int n_buckets;
} eval_options;

/* Labelled scores, one row a text. */
typedef struct {
    size_t n, cap;
    size_t n_fields;
    double **scores;      /* owned [n_fields][n] as read */
    uint8_t *machine;     /* owned [n] */
    uint8_t *validation;  /* owned [n] 1: fits the best threshold; by hash of label and id, so the same in any order */
    int64_t *lengths;     /* owned [n]; NULL: the records have no length */
    const char *length_field; /* "used_tokens", ...; NULL */
    int64_t excluded;     /* bad records within --max-errors */
} eval_scores;

typedef struct {
    int64_t from, to;     /* lengths [from, to); to INT64_MAX: no end */
    int64_t humans, machines;
    bool is_measured;     /* both classes have texts */
    tdm_values values;
    tdm_intervals intervals;
} eval_bucket;

/* Where labelled records come from: files of one class each, or records with a label. */
typedef struct {
    const char *const *human, *const *machine; /* [n_human], [n_machine] files or folders */
    size_t n_human, n_machine;
    const char *const *labelled; /* [n_labelled] likewise */
    size_t n_labelled;
    const char *label;         /* the field that holds the label; NULL: no labelled files */
    const char *machine_label; /* what it says of machine texts; NULL: true, 1, "machine" or "fake" against false, 0,
                                  "human" or "real" */
    const char *id_key, *length_key; /* length_key NULL: the first of used_tokens, tokens, length that records have */
    size_t max_line;
    double max_ratio;
    tdm_max_errors max_errors; /* bad records: excluded and counted, each said on stderr */
    const char *written[2];    /* files that results will replace, none of them may be read; NULL: none */
    const tdm_stop *stop;      /* NULL allowed */
} eval_sources;

/* Read all records. Ids are unique within a file, and a field is a finite number in every record.
 * Errors: TDM_EFORMAT with file, line and value when there are more bad records than allowed, a file holds no record, or a
 * class none; TDM_EARG for a file that is given twice, or is one of those that are written; TDM_ENOINPUT, TDM_EIO,
 * TDM_ESTOPPED, TDM_ENOMEM. */
tdm_status eval_read(const eval_sources *sources, const eval_options *options, eval_scores *out, tdm_err *err);
void eval_scores_free(eval_scores *s); /* {0} is fine */

/* What was found about one field. Scores are turned (negated) such that higher is machine; thresholds, those of
 * operating points and of the curve too, are the field's own values: machine is >= threshold, turned <= threshold. */
typedef struct {
    const char *field;
    bool is_turned;        /* a higher value is rather a human */
    bool is_probability;
    bool is_suspicious;    /* AUROC < 0.5: points the other way than said */
    int64_t humans, machines, excluded;
    double threshold;      /* in the field's values; NaN: none */
    tdm_values values;     /* of all texts */
    tdm_intervals intervals;
    /* the best threshold, fitted on the validation split, judged on the rest */
    double best_threshold; /* in the field's values */
    int64_t fitted_on;     /* texts; 0: not measured, since a class is missing in a part */
    tdm_values best;
    tdm_intervals best_intervals;
    eval_bucket buckets[EVAL_BUCKETS_MOST + 1];
    int n_buckets;         /* 0: no lengths */
    const char *length_field; /* what buckets are of; NULL: none */
    tdm_calibration calibration; /* of probabilities alone */
    tdm_roc_point curve[EVAL_CURVE];
    size_t n_curve;
    /* of both classes, over equal steps of the field's values from low to high; of probabilities from 0 to 1 */
    double low, high;
    int64_t human_histogram[EVAL_HISTOGRAM], machine_histogram[EVAL_HISTOGRAM];
} eval_result;

/* Which way a field is known to point, by the end of its name: judge_logit_fake is like logit_fake.
 * Returns: false for a name that is not known; the outputs are unchanged then. */
bool eval_known_field(const char *field, bool *is_turned, bool *is_probability);
/* Measure one field. Errors: TDM_EFORMAT when a class has no text; TDM_ENOMEM. */
tdm_status eval_measure(const eval_scores *scores, size_t field, const eval_options *options, eval_result *out,
                        tdm_err *err);

/* ---- trained-on x tested-on ---- */

typedef struct {
    bool is_there;
    bool is_turned;       /* a higher value is rather a human */
    double value;         /* in [0, 1] */
    tdm_interval interval; /* NaN: none */
    int64_t humans, machines, excluded; /* 0 humans: not known */
} eval_cell;

typedef struct {
    char *title;          /* owned; what a cell is: "accuracy of fake at 0.5" */
    const char *row_title, *column_title; /* "trained on", "tested on" */
    size_t n_rows, n_columns;
    char **rows, **columns; /* owned names */
    eval_cell *cells;       /* owned [n_rows, n_columns] */
    double confidence;      /* of the intervals */
    const char *source;     /* where a published table is from; NULL: measured */
    const char *note;       /* what to know of it, and what is not; NULL: nothing */
} eval_matrix;

typedef enum { EVAL_ACCURACY, EVAL_BALANCED, EVAL_BEST, EVAL_AUROC, EVAL_TPR } eval_metric; /* EVAL_BEST: balanced accuracy
    at the threshold that was fitted on the validation split; EVAL_TPR: at the first of options.evaluate.fprs */

/* Measure a folder: DIR/ROW/COLUMN.jsonl[.gz|.zst] holds what ROW's detector said of COLUMN's texts, DIR/ROW/human.jsonl what
 * it said of human ones; DIR/ROW/COLUMN.human.jsonl goes before that. Rows and columns in natural order of their names, a missing
 * file is an empty cell. Hidden names, folders that end in .job and the errors of a run (FILE.errors.jsonl) are passed
 * over. The first field of options.
 *   sources  its keys and limits; the files are those of the folder
 * Errors: TDM_ENOINPUT for a folder without such files, or a row without human ones; TDM_EARG for a field without a threshold where the metric
 * needs one; TDM_EFORMAT for two files of one cell, and texts too few to fit a threshold; those of eval_read and eval_measure. */
tdm_status eval_matrix_measure(const char *dir, eval_metric metric, const eval_sources *sources, const eval_options *options,
                               eval_matrix *out, tdm_err *err);
void eval_matrix_free(eval_matrix *m); /* {0} is fine */

/* Published tables by name, and "" behind the last (eval_reference.c): transfer, tfidf, zero-shot-t1, zero-shot-k40, ... */
const char *eval_reference_name(size_t i);
/* Errors: TDM_EARG for an unknown name, with the list; TDM_ENOMEM. */
tdm_status eval_reference(const char *name, eval_matrix *out, tdm_err *err);

/* ---- printers: append to a buffer ---- */

tdm_status eval_print_text(tdm_buf *out, const eval_result *results, size_t n, const eval_options *o, tdm_err *err);
tdm_status eval_print_json(tdm_buf *out, const eval_result *results, size_t n, const eval_options *o, tdm_err *err);
tdm_status eval_print_csv(tdm_buf *out, const eval_result *results, size_t n, const eval_options *o, tdm_err *err);
tdm_status eval_matrix_text(tdm_buf *out, const eval_matrix *m, tdm_err *err);
tdm_status eval_matrix_json(tdm_buf *out, const eval_matrix *m, tdm_err *err);
tdm_status eval_matrix_csv(tdm_buf *out, const eval_matrix *matrices, size_t n, tdm_err *err); /* a row a cell */

/* Each a whole <svg> element that stands alone. */
tdm_status eval_svg_roc(tdm_buf *out, const eval_result *results, size_t n, tdm_err *err);
tdm_status eval_svg_histogram(tdm_buf *out, const eval_result *result, tdm_err *err);
tdm_status eval_svg_calibration(tdm_buf *out, const eval_result *result, tdm_err *err);
tdm_status eval_svg_buckets(tdm_buf *out, const eval_result *results, size_t n, tdm_err *err);
tdm_status eval_svg_matrix(tdm_buf *out, const eval_matrix *m, tdm_err *err);

/* One self-contained page: no script, no font, no picture from elsewhere.
 *   results  [n]; matrices [n_matrices], published ones among them; either may be empty
 *   title, about  plain text: what was measured, and how (the command line) */
tdm_status eval_html(tdm_buf *out, const char *title, const char *about, const eval_result *results, size_t n,
                     const eval_options *o, const eval_matrix *matrices, size_t n_matrices, tdm_err *err);

#endif
