#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host/csv_state.h"
#include "host/json.h"

enum { FIRST_CAP = 256 << 10 };

static tdm_status check_names(const tdm_csv *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char shown[64];
    for (size_t i = 0; i < c->n_columns; i++)
        for (size_t k = 0; k < i; k++) {
            const tdm_csv_field *a = &c->columns[i], *b = &c->columns[k];
            tdm_json_quote(shown, sizeof shown, a->text, a->len);
            TDM_REQUIRE(a->len != b->len || memcmp(a->text, b->text, a->len) != 0, TDM_EFORMAT,
                        "%s: line 1: columns %zu and %zu are both named %s", c->path, k + 1, i + 1, shown);
        }
done:
    return st;
}

/* The first row names the columns, and is no row. */
static tdm_status read_names(tdm_csv *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_csv_row row;
    TDM_TRY(tdm_csv_next(c, &row, err));
    TDM_REQUIRE(row.kind != TDM_CSV_END, TDM_EFORMAT, "%s: is empty; want a first row that names the columns",
                c->path);
    TDM_REQUIRE(row.kind == TDM_CSV_ROW, TDM_EFORMAT, "%s: line %" PRId64 ": the names of the columns: %s",
                c->path, row.line, row.detail);
    c->columns = calloc(c->n_raw, sizeof *c->columns);
    TDM_REQUIRE(c->columns, TDM_ENOMEM, "%s: %zu columns", c->path, c->n_raw);
    for (size_t i = 0; i < c->n_raw; i++)
        TDM_TRY(tdm_buf_put(&c->names, row.fields[i].text, row.fields[i].len, err));
    size_t at = 0;
    for (size_t i = 0; i < c->n_raw; i++) {
        c->columns[i] = (tdm_csv_field){c->names.p ? c->names.p + at : "", row.fields[i].len};
        at += row.fields[i].len;
    }
    c->n_columns = c->n_raw;
    c->number = 0;
    TDM_TRY(check_names(c, err));
done:
    return st;
}

tdm_status tdm_csv_open(const char *path, const tdm_csv_options *options, tdm_csv **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_source_options source = {.max_ratio = options->max_ratio, .stop = options->stop};
    *out = NULL;
    tdm_csv *c = calloc(1, sizeof *c);
    TDM_REQUIRE(c, TDM_ENOMEM, "%s: a CSV reader", path);
    c->path = path;
    c->options = *options;
    c->line = 1;
    c->buf = malloc(FIRST_CAP);
    TDM_REQUIRE(c->buf, TDM_ENOMEM, "%s: a row buffer of %d bytes", path, FIRST_CAP);
    c->cap = FIRST_CAP;
    TDM_TRY(tdm_source_open(path, &source, &c->source, err));
    TDM_TRY(csv_pass_mark(c, err));
    TDM_TRY(read_names(c, err));
    *out = c;
    c = NULL;
done:
    tdm_csv_close(c);
    return st;
}

void tdm_csv_close(tdm_csv *c)
{
    if (!c)
        return;
    tdm_source_close(c->source);
    tdm_buf_free(&c->names);
    free(c->columns);
    free(c->buf);
    free(c);
}

const tdm_csv_field *tdm_csv_columns(const tdm_csv *c, size_t *n)
{
    *n = c->n_columns;
    return c->columns;
}

size_t tdm_csv_column(const tdm_csv *c, const char *name)
{
    const size_t len = strlen(name);
    for (size_t i = 0; i < c->n_columns; i++)
        if (c->columns[i].len == len && !memcmp(c->columns[i].text, name, len))
            return i;
    return TDM_CSV_NONE;
}

int64_t tdm_csv_blank(const tdm_csv *c)
{
    return c->blank;
}

uint64_t tdm_csv_consumed(const tdm_csv *c)
{
    return tdm_source_consumed(c->source);
}
