/* tools/eval_matrix_print.c - a table as text, as JSON and as CSV. */
#include "tools/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/json.h"
#include "tools/eval_matrix.h"

/* ---- text ---- */

enum { CELL_TEXT = 40 };

int matrix_decimals(const eval_matrix *m, const eval_cell *cell)
{
    const double tenths = 1000 * cell->value;
    return m->source && fabs(tenths - round(tenths)) > 1e-6 ? 2 : 1;
}

static bool has_interval(const eval_cell *cell)
{
    return isfinite(cell->interval.low) && isfinite(cell->interval.high);
}

/* "97.9 [97.1, 98.4]" in per cent, or a dash; published values with the digits that they were published with. */
static void cell_text(char text[CELL_TEXT], const eval_matrix *m, size_t i)
{
    const eval_cell *cell = &m->cells[i];
    if (!cell->is_there || !isfinite(cell->value))
        snprintf(text, CELL_TEXT, "-");
    else if (has_interval(cell))
        snprintf(text, CELL_TEXT, "%.1f [%.1f, %.1f]", 100 * cell->value, 100 * cell->interval.low,
                 100 * cell->interval.high);
    else
        snprintf(text, CELL_TEXT, "%.*f", matrix_decimals(m, cell), 100 * cell->value);
}

/* Characters, as a terminal counts them but for wide ones. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (const char *p = text; *p; p++)
        n += (*p & 0xC0) != 0x80;
    return n;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t column_width(const eval_matrix *m, size_t column)
{
    char text[CELL_TEXT];
    size_t width = width_of(m->columns[column]);
    for (size_t i = 0; i < m->n_rows; i++) {
        cell_text(text, m, i * m->n_columns + column);
        width = larger(width, strlen(text));
    }
    return width;
}

/* A cell or a name; what would end a line, or speak to a terminal, is a question mark. */
static tdm_status put_padded(tdm_buf *out, const char *text, size_t width, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t have = width_of(text);
    for (const char *p = text; *p; p++)
        TDM_TRY(tdm_buf_put(out, (unsigned char)*p < ' ' ? "?" : p, 1, err));
    TDM_TRY(tdm_buf_printf(out, err, "%*s", have < width ? (int)(width - have) : 0, ""));
done:
    return st;
}

static tdm_status put_row(tdm_buf *out, const eval_matrix *m, size_t first, size_t row, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char text[CELL_TEXT];
    TDM_TRY(put_padded(out, row < m->n_rows ? m->rows[row] : "", first, err));
    for (size_t j = 0; j < m->n_columns; j++) {
        TDM_TRY(tdm_buf_printf(out, err, "  "));
        if (row < m->n_rows)
            cell_text(text, m, row * m->n_columns + j);
        TDM_TRY(put_padded(out, row < m->n_rows ? text : m->columns[j], column_width(m, j), err));
    }
    while (out->len && out->p[out->len - 1] == ' ')
        out->len--;
    TDM_TRY(tdm_buf_printf(out, err, "\n"));
done:
    return st;
}

matrix_facts matrix_facts_of(const eval_matrix *m)
{
    matrix_facts f = {.fewest_humans = INT64_MAX, .fewest_machines = INT64_MAX};
    const eval_cell *first = NULL;
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++) {
        const eval_cell *c = &m->cells[i];
        f.has_holes = f.has_holes || !c->is_there;
        if (!c->is_there)
            continue;
        first = first ? first : c;
        f.has_intervals = f.has_intervals || has_interval(c);
        f.is_mixed = f.is_mixed || c->is_turned != first->is_turned;
        f.fewest_humans = c->humans < f.fewest_humans ? c->humans : f.fewest_humans;
        f.most_humans = c->humans > f.most_humans ? c->humans : f.most_humans;
        f.fewest_machines = c->machines < f.fewest_machines ? c->machines : f.fewest_machines;
        f.most_machines = c->machines > f.most_machines ? c->machines : f.most_machines;
        f.excluded += c->excluded;
    }
    return f;
}

static tdm_status put_count(tdm_buf *out, int64_t fewest, int64_t most, tdm_err *err)
{
    if (fewest == most)
        return tdm_buf_printf(out, err, "%" PRId64, most);
    return tdm_buf_printf(out, err, "%" PRId64 " to %" PRId64, fewest, most);
}

/* Which cells have a higher value for humans, where not all have. */
static tdm_status put_directions(tdm_buf *out, const eval_matrix *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool is_first = true;
    TDM_TRY(tdm_buf_printf(out, err, "a lower value is rather a machine's in"));
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++) {
        if (!m->cells[i].is_there || !m->cells[i].is_turned)
            continue;
        TDM_TRY(tdm_buf_printf(out, err, "%s %s x %s", is_first ? "" : ",", m->rows[i / m->n_columns],
                               m->columns[i % m->n_columns]));
        is_first = false;
    }
    TDM_TRY(tdm_buf_printf(out, err, "; a higher one elsewhere\n"));
done:
    return st;
}

static tdm_status put_facts(tdm_buf *out, const eval_matrix *m, const matrix_facts *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (f->most_humans > 0) {
        TDM_TRY(put_count(out, f->fewest_humans, f->most_humans, err));
        TDM_TRY(tdm_buf_printf(out, err, " human and "));
        TDM_TRY(put_count(out, f->fewest_machines, f->most_machines, err));
        TDM_TRY(tdm_buf_printf(out, err, " machine texts a cell\n"));
    }
    if (f->excluded > 0)
        TDM_TRY(tdm_buf_printf(out, err, "%" PRId64 " bad records left out, over all cells\n", f->excluded));
    if (f->is_mixed)
        TDM_TRY(put_directions(out, m, err));
    if (m->source)
        TDM_TRY(tdm_buf_printf(out, err, "source: %s\n", m->source));
    if (m->note)
        TDM_TRY(tdm_buf_printf(out, err, "%s\n", m->note));
done:
    return st;
}

tdm_status eval_matrix_text(tdm_buf *out, const eval_matrix *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const matrix_facts f = matrix_facts_of(m);
    size_t first = 0;
    for (size_t i = 0; i < m->n_rows; i++)
        first = larger(first, width_of(m->rows[i]));
    TDM_TRY(tdm_buf_printf(out, err, "%s (%%)", m->title));
    if (f.has_intervals)
        TDM_TRY(tdm_buf_printf(out, err, " [%g %% bootstrap interval]", 100 * m->confidence));
    TDM_TRY(tdm_buf_printf(out, err, "\nrows: %s; columns: %s\n\n", m->row_title, m->column_title));
    TDM_TRY(put_row(out, m, first, m->n_rows, err)); /* the names of the columns */
    for (size_t i = 0; i < m->n_rows; i++)
        TDM_TRY(put_row(out, m, first, i, err));
    TDM_TRY(tdm_buf_printf(out, err, "\n"));
    TDM_TRY(put_facts(out, m, &f, err));
done:
    return st;
}

/* ---- JSON ---- */

static tdm_status put_key(tdm_buf *out, const char *key, const char *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "\"%s\": ", key));
    if (text)
        TDM_TRY(tdm_json_put_string(out, text, strlen(text), err));
    else
        TDM_TRY(tdm_buf_printf(out, err, "null"));
    TDM_TRY(tdm_buf_printf(out, err, ", "));
done:
    return st;
}

static tdm_status put_names(tdm_buf *out, const char *key, char *const *names, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "\"%s\": [", key));
    for (size_t i = 0; i < n; i++) {
        TDM_TRY(tdm_buf_printf(out, err, "%s", i ? ", " : ""));
        TDM_TRY(tdm_json_put_string(out, names[i], strlen(names[i]), err));
    }
    TDM_TRY(tdm_buf_printf(out, err, "], "));
done:
    return st;
}

/* A number with nine digits, or `none`. */
static tdm_status put_number(tdm_buf *out, double x, const char *none, tdm_err *err)
{
    return isfinite(x) ? tdm_buf_printf(out, err, "%.9g", x) : tdm_buf_printf(out, err, "%s", none);
}

static tdm_status put_cell_json(tdm_buf *out, const eval_cell *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!c->is_there)
        return tdm_buf_printf(out, err, "null");
    TDM_TRY(tdm_buf_printf(out, err, "{\"value\": "));
    TDM_TRY(put_number(out, c->value, "null", err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"low\": "));
    TDM_TRY(put_number(out, c->interval.low, "null", err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"high\": "));
    TDM_TRY(put_number(out, c->interval.high, "null", err));
    if (c->humans > 0)
        TDM_TRY(tdm_buf_printf(out, err,
                               ", \"humans\": %" PRId64 ", \"machines\": %" PRId64 ", \"excluded\": %" PRId64 ", "
                                                                                                              "\"higher"
                                                                                                              "_is\": "
                                                                                                              "\"%s\"",
                               c->humans, c->machines, c->excluded, c->is_turned ? "human" : "machine"));
    TDM_TRY(tdm_buf_printf(out, err, "}"));
done:
    return st;
}

tdm_status eval_matrix_json(tdm_buf *out, const eval_matrix *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "{"));
    TDM_TRY(put_key(out, "title", m->title, err));
    TDM_TRY(put_key(out, "row_title", m->row_title, err));
    TDM_TRY(put_key(out, "column_title", m->column_title, err));
    TDM_TRY(put_names(out, "rows", m->rows, m->n_rows, err));
    TDM_TRY(put_names(out, "columns", m->columns, m->n_columns, err));
    TDM_TRY(tdm_buf_printf(out, err, "\"confidence\": "));
    TDM_TRY(put_number(out, m->confidence, "null", err));
    TDM_TRY(tdm_buf_printf(out, err, ", "));
    TDM_TRY(put_key(out, "source", m->source, err));
    TDM_TRY(put_key(out, "note", m->note, err));
    TDM_TRY(tdm_buf_printf(out, err, "\"cells\": ["));
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++) {
        TDM_TRY(tdm_buf_printf(out, err, "%s%s", i ? ", " : "", i % m->n_columns ? "" : "["));
        TDM_TRY(put_cell_json(out, &m->cells[i], err));
        TDM_TRY(tdm_buf_printf(out, err, "%s", (i + 1) % m->n_columns ? "" : "]"));
    }
    TDM_TRY(tdm_buf_printf(out, err, "]}\n"));
done:
    return st;
}

/* ---- CSV ---- */

/* RFC 4180: in quotes where it has to be. */
static tdm_status put_field(tdm_buf *out, const char *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!strpbrk(text, ",\"\r\n"))
        return tdm_buf_put(out, text, strlen(text), err);
    TDM_TRY(tdm_buf_printf(out, err, "\""));
    for (const char *p = text; *p; p++)
        TDM_TRY(tdm_buf_put(out, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1, err));
    TDM_TRY(tdm_buf_printf(out, err, "\""));
done:
    return st;
}

static tdm_status put_cell_csv(tdm_buf *out, const eval_cell *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(put_number(out, c->is_there ? c->value : NAN, "", err));
    TDM_TRY(tdm_buf_printf(out, err, ","));
    TDM_TRY(put_number(out, c->is_there ? c->interval.low : NAN, "", err));
    TDM_TRY(tdm_buf_printf(out, err, ","));
    TDM_TRY(put_number(out, c->is_there ? c->interval.high : NAN, "", err));
    if (c->is_there && c->humans > 0)
        TDM_TRY(tdm_buf_printf(out, err, ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%s\n", c->humans, c->machines,
                               c->excluded, c->is_turned ? "human" : "machine"));
    else
        TDM_TRY(tdm_buf_printf(out, err, ",,,,\n"));
done:
    return st;
}

static tdm_status put_matrix_csv(tdm_buf *out, const eval_matrix *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++) {
        TDM_TRY(put_field(out, m->title, err));
        TDM_TRY(tdm_buf_printf(out, err, ","));
        TDM_TRY(put_field(out, m->rows[i / m->n_columns], err));
        TDM_TRY(tdm_buf_printf(out, err, ","));
        TDM_TRY(put_field(out, m->columns[i % m->n_columns], err));
        TDM_TRY(tdm_buf_printf(out, err, ","));
        TDM_TRY(put_cell_csv(out, &m->cells[i], err));
    }
done:
    return st;
}

tdm_status eval_matrix_csv(tdm_buf *out, const eval_matrix *matrices, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "table,row,column,value,low,high,humans,machines,excluded,higher_is\n"));
    for (size_t i = 0; i < n; i++)
        TDM_TRY(put_matrix_csv(out, &matrices[i], err));
done:
    return st;
}
