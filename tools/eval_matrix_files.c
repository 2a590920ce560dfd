#include "tools/eval_matrix.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "host/buf.h"

/* ---- the order of names ---- */

typedef struct {
    enum { TOKEN_END, TOKEN_NUMBER, TOKEN_SIZE, TOKEN_WORD, TOKEN_SIGN } kind; /* in this order */
    double number;                                                             /* of a number, and the rank of a size */
    const char *text;                                                          /* [len] */
    size_t len;
} token;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* 10 to the power that the letter behind a number stands for, where it stands alone; else 1. */
static double unit_of(const char *p)
{
    static const char UNITS[] = "kmbt";
    const char *unit = is_letter(*p) && !is_letter(p[1]) && !is_digit(p[1]) ? strchr(UNITS, *p | 0x20) : NULL;
    double factor = 1;
    for (long i = unit ? unit - UNITS : -1; i >= 0; i--)
        factor *= 1000;
    return factor;
}

static token number_token(const char **at)
{
    token t = {.kind = TOKEN_NUMBER, .text = *at};
    const char *p = *at;
    for (; is_digit(*p); p++)
        t.number = t.number * 10 + (*p - '0');
    if (*p == '.' && is_digit(p[1])) {
        double digit = 1;
        for (p++; is_digit(*p); p++)
            t.number += (*p - '0') * (digit /= 10);
    }
    const double unit = unit_of(p);
    t.number *= unit;
    p += unit > 1;
    t.len = (size_t)(p - *at);
    *at = p;
    return t;
}

static token word_token(const char **at)
{
    static const char *const SIZES[] = {"tiny", "mini", "small", "base", "medium", "large", "xl", "xxl"};
    token t = {.kind = TOKEN_WORD, .text = *at};
    while (is_letter(t.text[t.len]))
        t.len++;
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++)
        if (strlen(SIZES[i]) == t.len && !strncasecmp(SIZES[i], t.text, t.len)) {
            t.kind = TOKEN_SIZE;
            t.number = (double)i;
        }
    *at += t.len;
    return t;
}

static token next_token(const char **at)
{
    if (!**at)
        return (token){.kind = TOKEN_END};
    if (is_digit(**at))
        return number_token(at);
    if (is_letter(**at))
        return word_token(at);
    return (token){.kind = TOKEN_SIGN, .text = (*at)++, .len = 1};
}

static int compare_tokens(const token *a, const token *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->kind == TOKEN_NUMBER || a->kind == TOKEN_SIZE)
        return (a->number > b->number) - (a->number < b->number);
    const size_t n = a->len < b->len ? a->len : b->len;
    const int order = n ? strncasecmp(a->text, b->text, n) : 0;
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

int matrix_compare_names(const char *a, const char *b)
{
    const char *p = a, *q = b;
    for (;;) {
        const token s = next_token(&p), t = next_token(&q);
        const int order = compare_tokens(&s, &t);
        if (order)
            return order;
        if (s.kind == TOKEN_END)
            return strcmp(a, b);
    }
}

/* ---- the files of a row ---- */

static bool cut_ending(char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    if (n <= m || strcmp(name + n - m, ending) != 0)
        return false;
    name[n - m] = '\0';
    return true;
}

static bool cut_records(char *name)
{
    return cut_ending(name, ".jsonl") || cut_ending(name, ".jsonl.gz") || cut_ending(name, ".jsonl.zst");
}

/* Cut the ending off a file of records. False: it is another file, or the errors of a run. */
static bool is_records(char *name)
{
    if (name[0] == '.' || !cut_records(name))
        return false;
    return !cut_ending(name, ".errors") || !cut_records(name);
}

static matrix_kind kind_of(char *stem)
{
    if (!strcmp(stem, "human")) {
        *stem = '\0';
        return MATRIX_ALL_HUMANS;
    }
    return cut_ending(stem, ".human") ? MATRIX_HUMAN : MATRIX_MACHINE;
}

static tdm_status grow(matrix_files *files, tdm_err *err)
{
    if (files->n < files->cap)
        return TDM_OK;
    const size_t cap = files->cap ? files->cap * 2 : 32;
    matrix_file *grown = realloc(files->items, cap * sizeof *grown);
    if (!grown)
        return tdm_fail(err, TDM_ENOMEM, "a list of %zu files", cap);
    files->items = grown;
    files->cap = cap;
    return TDM_OK;
}

static char *join(const char *folder, const char *name)
{
    tdm_buf path = {0};
    const size_t n = strlen(folder);
    if (tdm_buf_printf(&path, NULL, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name) != TDM_OK)
        tdm_buf_free(&path);
    return path.p;
}

/* The kind of what is there, links followed; 0 when it is gone. */
static mode_t kind_of_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? info.st_mode & S_IFMT : 0;
}

static tdm_status add_file(matrix_files *files, const char *row, const char *folder, const char *name, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char *stem = strdup(name);
    matrix_file f = {.row = strdup(row), .path = join(folder, name)};
    TDM_REQUIRE(stem && f.row && f.path, TDM_ENOMEM, "the name of a file");
    if (!is_records(stem) || kind_of_file(f.path) == S_IFDIR)
        goto done;
    TDM_TRY(grow(files, err));
    f.kind = kind_of(stem);
    f.column = stem;
    files->items[files->n++] = f;
    stem = NULL;
    f = (matrix_file){0};
done:
    free(f.row);
    free(f.path);
    free(stem);
    return st;
}

/* Call for every name in a folder, in no order. */
typedef tdm_status visit_name(matrix_files *files, const char *row, const char *folder, const char *name, tdm_err *err);

static tdm_status visit(matrix_files *files, const char *row, const char *folder, visit_name *call, tdm_err *err)
{
    tdm_status st = TDM_OK;
    DIR *dir = opendir(folder);
    TDM_REQUIRE(dir, TDM_ENOINPUT, "%s: %s", folder, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        TDM_REQUIRE(entry || errno == 0, TDM_EIO, "%s: %s", folder, strerror(errno));
        if (!entry)
            break;
        TDM_TRY(call(files, row, folder, entry->d_name, err));
    }
done:
    if (dir)
        closedir(dir);
    return st;
}

/* ---- the rows of a folder ---- */

static tdm_status add_row(matrix_files *files, const char *row, const char *folder, const char *name, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t before = files->n;
    char *path = NULL, *copy = strdup(name);
    (void)row;
    TDM_REQUIRE(copy, TDM_ENOMEM, "the name of a folder");
    path = join(folder, name);
    TDM_REQUIRE(path, TDM_ENOMEM, "the name of a folder");
    if (name[0] == '.' || cut_ending(copy, ".job"))
        goto done;
    const bool is_folder = kind_of_file(path) == S_IFDIR;
    TDM_REQUIRE(is_folder || !is_records(copy), TDM_ENOINPUT, "%s: is in no row: want %s/ROW/%s", path, folder, name);
    if (!is_folder)
        goto done;
    TDM_TRY(visit(files, name, path, add_file, err));
    TDM_REQUIRE(files->n > before, TDM_ENOINPUT, "%s: a row without COLUMN.jsonl, COLUMN.jsonl.gz or COLUMN.jsonl.zst",
                path);
done:
    free(copy);
    free(path);
    return st;
}

static int by_place(const void *a, const void *b)
{
    const matrix_file *f = a, *g = b;
    int order = matrix_compare_names(f->row, g->row);
    order = order ? order : matrix_compare_names(f->column, g->column);
    order = order ? order : (f->kind > g->kind) - (f->kind < g->kind);
    return order ? order : strcmp(f->path, g->path);
}

static tdm_status check_file(const matrix_files *files, size_t i, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const matrix_file *f = &files->items[i], *next = i + 1 < files->n ? f + 1 : NULL;
    TDM_REQUIRE(!next || strcmp(f->row, next->row) != 0 || strcmp(f->column, next->column) != 0 ||
                    f->kind != next->kind,
                TDM_EFORMAT, "%s and %s are both the same cell", f->path, next->path);
    TDM_REQUIRE(f->kind != MATRIX_HUMAN || matrix_find(files, f->row, f->column, MATRIX_MACHINE), TDM_ENOINPUT,
                "%s: there is no %s.jsonl beside it", f->path, f->column);
    if (f->kind == MATRIX_MACHINE)
        TDM_REQUIRE(matrix_find(files, f->row, f->column, MATRIX_HUMAN) ||
                        matrix_find(files, f->row, "", MATRIX_ALL_HUMANS),
                    TDM_ENOINPUT, "%s: there is no human.jsonl beside it", f->path);
done:
    return st;
}

tdm_status matrix_list(const char *dir, matrix_files *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t machines = 0;
    *out = (matrix_files){0};
    TDM_TRY(visit(out, NULL, dir, add_row, err));
    if (out->n)
        qsort(out->items, out->n, sizeof *out->items, by_place);
    for (size_t i = 0; i < out->n; i++) {
        TDM_TRY(check_file(out, i, err));
        machines += out->items[i].kind == MATRIX_MACHINE;
    }
    TDM_REQUIRE(machines, TDM_ENOINPUT, "%s: has no ROW/COLUMN.jsonl", dir);
done:
    if (st != TDM_OK)
        matrix_files_free(out);
    return st;
}

const matrix_file *matrix_find(const matrix_files *files, const char *row, const char *column, matrix_kind kind)
{
    for (size_t i = 0; i < files->n; i++) {
        const matrix_file *f = &files->items[i];
        if (f->kind == kind && !strcmp(f->row, row) && !strcmp(f->column, column))
            return f;
    }
    return NULL;
}

void matrix_files_free(matrix_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        free(files->items[i].row);
        free(files->items[i].column);
        free(files->items[i].path);
    }
    free(files->items);
    *files = (matrix_files){0};
}
