/* tools/eval_matrix.c - every detector of a folder against every set of texts. */
#include "tools/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/eval_matrix.h"

/* ---- names ---- */

static tdm_status add_name(char **names, size_t *n, const char *name, tdm_err *err)
{
    for (size_t i = 0; i < *n; i++)
        if (!strcmp(names[i], name))
            return TDM_OK;
    names[*n] = strdup(name);
    if (!names[*n])
        return tdm_fail(err, TDM_ENOMEM, "the name of a row or column");
    (*n)++;
    return TDM_OK;
}

static int by_name(const void *a, const void *b)
{
    return matrix_compare_names(*(char *const *)a, *(char *const *)b);
}

static tdm_status make_frame(const matrix_files *files, eval_matrix *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n_cells;
    m->rows = calloc(files->n, sizeof *m->rows);
    m->columns = calloc(files->n, sizeof *m->columns);
    TDM_REQUIRE(m->rows && m->columns, TDM_ENOMEM, "the names of %zu files", files->n);
    for (size_t i = 0; i < files->n; i++) {
        TDM_TRY(add_name(m->rows, &m->n_rows, files->items[i].row, err));
        if (files->items[i].kind == MATRIX_MACHINE)
            TDM_TRY(add_name(m->columns, &m->n_columns, files->items[i].column, err));
    }
    qsort(m->rows, m->n_rows, sizeof *m->rows, by_name);
    qsort(m->columns, m->n_columns, sizeof *m->columns, by_name);
    TDM_REQUIRE(tdm_mul_size(m->n_rows, m->n_columns, &n_cells), TDM_ENOMEM, "%zu rows", m->n_rows);
    m->cells = calloc(n_cells, sizeof *m->cells);
    TDM_REQUIRE(m->cells, TDM_ENOMEM, "%zu cells", n_cells);
done:
    return st;
}

/* ---- cells ---- */

static tdm_status pick(eval_metric metric, const eval_result *r, eval_cell *cell, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool needs_threshold = metric == EVAL_ACCURACY || metric == EVAL_BALANCED;
    TDM_REQUIRE(!needs_threshold || !isnan(r->threshold), TDM_EARG,
                "%s has no threshold of its own: name one, or choose another metric (best, auroc, tpr)", r->field);
    TDM_REQUIRE(metric != EVAL_BEST || r->fitted_on > 0, TDM_EFORMAT,
                "%lld human and %lld machine texts: too few to fit a threshold on a part of them", (long long)r->humans,
                (long long)r->machines);
    switch (metric) {
    case EVAL_ACCURACY:
        cell->value = r->values.accuracy;
        cell->interval = r->intervals.accuracy;
        break;
    case EVAL_BALANCED:
        cell->value = r->values.balanced_accuracy;
        cell->interval = r->intervals.balanced_accuracy;
        break;
    case EVAL_BEST:
        cell->value = r->best.balanced_accuracy;
        cell->interval = r->best_intervals.balanced_accuracy;
        break;
    case EVAL_AUROC:
        cell->value = r->values.auroc;
        cell->interval = r->intervals.auroc;
        break;
    case EVAL_TPR:
        cell->value = r->values.at_fpr[0].tpr;
        cell->interval = r->intervals.tpr[0];
        break;
    }
    cell->is_there = true;
    cell->is_turned = r->is_turned;
    cell->humans = r->humans;
    cell->machines = r->machines;
    cell->excluded = r->excluded;
done:
    return st;
}

/* What every cell is measured with. */
typedef struct {
    const matrix_files *files;
    eval_metric metric;
    const eval_sources *sources;
    eval_options options; /* of the first field alone */
    eval_result result;   /* of the last cell */
} measuring_cells;

static tdm_status measure_cell(measuring_cells *c, const char *row, const char *column, eval_cell *cell, tdm_err *err)
{
    tdm_status st = TDM_OK;
    eval_scores scores = {0};
    const matrix_file *machine = matrix_find(c->files, row, column, MATRIX_MACHINE);
    const matrix_file *human = matrix_find(c->files, row, column, MATRIX_HUMAN);
    if (!machine)
        return TDM_OK;
    if (!human)
        human = matrix_find(c->files, row, "", MATRIX_ALL_HUMANS);
    eval_sources sources = *c->sources;
    sources.human = (const char *const *)&human->path;
    sources.machine = (const char *const *)&machine->path;
    sources.n_human = sources.n_machine = 1;
    sources.n_labelled = 0;
    TDM_TRY(eval_read(&sources, &c->options, &scores, err));
    free(scores.lengths); /* a cell has no buckets */
    scores.lengths = NULL;
    st = eval_measure(&scores, 0, &c->options, &c->result, err);
    if (st == TDM_OK)
        st = pick(c->metric, &c->result, cell, err);
    if (st != TDM_OK)
        st = tdm_context(err, st, "%s", machine->path);
done:
    eval_scores_free(&scores);
    return st;
}

static tdm_status make_title(const measuring_cells *c, char **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf b = {0};
    const char *field = c->options.fields[0];
    switch (c->metric) {
    case EVAL_ACCURACY:
        TDM_TRY(tdm_buf_printf(&b, err, "accuracy of %s at %g", field, c->result.threshold));
        break;
    case EVAL_BALANCED:
        TDM_TRY(tdm_buf_printf(&b, err, "balanced accuracy of %s at %g", field, c->result.threshold));
        break;
    case EVAL_BEST:
        TDM_TRY(tdm_buf_printf(&b, err, "balanced accuracy of %s, threshold fitted on %g %% of the texts", field,
                               100 * c->options.validation));
        break;
    case EVAL_AUROC:
        TDM_TRY(tdm_buf_printf(&b, err, "AUROC of %s", field));
        break;
    case EVAL_TPR:
        TDM_TRY(tdm_buf_printf(&b, err, "true positive rate of %s at a false positive rate of %g %%", field,
                               100 * c->options.evaluate.fprs[0]));
        break;
    }
    *out = b.p;
    b = (tdm_buf){0};
done:
    tdm_buf_free(&b);
    return st;
}

tdm_status eval_matrix_measure(const char *dir, eval_metric metric, const eval_sources *sources,
                               const eval_options *options, eval_matrix *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    matrix_files files = {0};
    measuring_cells *c = calloc(1, sizeof *c);
    *out = (eval_matrix){.row_title = "detector", .column_title = "texts", .confidence = options->bootstrap.confidence};
    TDM_REQUIRE(c, TDM_ENOMEM, "a table");
    *c = (measuring_cells){.files = &files, .metric = metric, .sources = sources, .options = *options};
    c->options.n_fields = 1;
    TDM_REQUIRE(metric != EVAL_TPR || options->evaluate.n_fprs > 0, TDM_EARG, "no false positive rate is given");
    TDM_TRY(matrix_list(dir, &files, err));
    TDM_TRY(make_frame(&files, out, err));
    for (size_t i = 0; i < out->n_rows; i++)
        for (size_t j = 0; j < out->n_columns; j++)
            TDM_TRY(measure_cell(c, out->rows[i], out->columns[j], &out->cells[i * out->n_columns + j], err));
    TDM_TRY(make_title(c, &out->title, err));
done:
    if (st != TDM_OK)
        eval_matrix_free(out);
    matrix_files_free(&files);
    free(c);
    return st;
}

static void free_names(char **names, size_t n)
{
    for (size_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
}

void eval_matrix_free(eval_matrix *m)
{
    free(m->title);
    free_names(m->rows, m->n_rows);
    free_names(m->columns, m->n_columns);
    free(m->cells);
    *m = (eval_matrix){0};
}
