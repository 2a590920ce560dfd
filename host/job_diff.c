/* What differs between two manifests: both as lists of (path, value), compared by their source
 * bytes, so that a number of 64 bits is not taken for its neighbour. */
#include "host/job_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    size_t path_at;    /* in leaves.paths */
    const char *path;  /* once all are there */
    const char *value; /* [len] source bytes */
    size_t len;
} leaf;

typedef struct {
    tdm_buf paths;
    leaf *items;
    size_t n, cap;
} leaves;

static void leaves_free(leaves *l)
{
    tdm_buf_free(&l->paths);
    free(l->items);
}

/* ---- a text as leaves ---- */

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* Behind the string, number or word at p. */
static const char *skip_scalar(const char *p, const char *end)
{
    if (p < end && *p == '"') {
        for (p++; p < end && *p != '"'; p++)
            p += *p == '\\';
        return p < end ? p + 1 : end;
    }
    while (p < end && !strchr(",]} \t\r\n", *p))
        p++;
    return p;
}

static tdm_status add_leaf(leaves *l, const tdm_buf *path, const char *value, size_t len,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (l->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 64;
        leaf *items = realloc(l->items, cap * sizeof *items);
        TDM_REQUIRE(items, TDM_ENOMEM, "a manifest of %zu values", cap);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = (leaf){.path_at = l->paths.len, .value = value, .len = len};
    TDM_TRY(tdm_buf_put(&l->paths, path->p, path->len, err));
    TDM_TRY(tdm_buf_put(&l->paths, "", 1, err));
done:
    return st;
}

/* Append what leads to a member: ".key" or "[3]". The name of an input or a model file stands for
 * the whole, so that it is the first that differs. */
static tdm_status put_step(tdm_buf *path, const char *key, size_t len, size_t number, tdm_err *err)
{
    const bool in_list = path->len && path->p[path->len - 1] == ']';
    if (!key)
        return tdm_buf_printf(path, err, "[%zu]", number);
    if (in_list && len == 4 && (!memcmp(key, "path", 4) || !memcmp(key, "file", 4)))
        return TDM_OK;
    return tdm_buf_printf(path, err, "%s%.*s", path->len ? "." : "", (int)len, key);
}

/* Add the value at *p, which is known to be JSON, and go behind it. An empty object or list is a
 * leaf. Recursion is bounded by the nesting that the parser allows. */
static tdm_status flatten(leaves *l, tdm_buf *path, const char **p, const char *end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t before = path->len;
    const char *start = *p = skip_blanks(*p, end);
    const bool is_object = *p < end && **p == '{', is_list = *p < end && **p == '[';
    *p = is_object || is_list ? skip_blanks(*p + 1, end) : skip_scalar(*p, end);
    const bool is_empty = (is_object || is_list) && *p < end && (**p == '}' || **p == ']');
    if (is_empty || !(is_object || is_list)) {
        *p += is_empty;
        st = add_leaf(l, path, start, (size_t)(*p - start), err);
        goto done;
    }
    for (size_t i = 0; *p < end && **p != '}' && **p != ']'; i++) {
        const char *key = NULL;
        size_t len = 0;
        *p = i ? skip_blanks(*p + 1, end) : *p; /* the comma */
        if (is_object) {
            key = *p + 1;
            *p = skip_scalar(*p, end);
            len = (size_t)(*p - key) - 1;
            *p = skip_blanks(*p, end) + 1; /* the colon */
        }
        TDM_TRY(put_step(path, key, len, i, err));
        TDM_TRY(flatten(l, path, p, end, err));
        path->len = before;
        *p = skip_blanks(*p, end);
    }
    *p += *p < end;
done:
    return st;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const leaf *)a)->path, ((const leaf *)b)->path);
}

static tdm_status leaves_of(const char *text, size_t len, leaves *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf path = {0};
    const char *p = text;
    TDM_TRY(tdm_buf_put(&path, "", 0, err));
    TDM_TRY(flatten(l, &path, &p, text + len, err));
    for (size_t i = 0; i < l->n; i++)
        l->items[i].path = l->paths.p + l->items[i].path_at;
    if (l->n)
        qsort(l->items, l->n, sizeof *l->items, by_path);
done:
    tdm_buf_free(&path);
    return st;
}

/* ---- the differences ---- */

enum { SHOWN = 4, VALUE_SHOWN = 48 };

typedef struct {
    tdm_buf text;
    size_t n;
    bool by_time;             /* an input's time is among them */
    const tdm_inputs *inputs; /* of now; NULL: none */
    size_t last_input;        /* 1 + the number of the one named last; 0: none */
} differences;

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static bool ends(const char *text, const char *with)
{
    const size_t n = strlen(text), m = strlen(with);
    return n >= m && !strcmp(text + n - m, with);
}

/* The time of a model file says nothing: its hash does. */
static bool is_ignored(const char *path, bool complete)
{
    return ((begins(path, "model[") || begins(path, "observer[")) && ends(path, ".mtime")) ||
           (complete && (begins(path, "engine") || begins(path, "codec")));
}

static tdm_status put_value(tdm_buf *out, const leaf *l, tdm_err *err)
{
    const bool is_long = l->len > VALUE_SHOWN;
    return tdm_buf_printf(out, err, "%.*s%s", (int)(is_long ? VALUE_SHOWN : l->len), l->value,
                          is_long ? "..." : "");
}

/* Behind "inputs[3].size": which file that is, when it was not the one before. */
static tdm_status put_file(differences *d, const char *path, tdm_err *err)
{
    size_t input = 0;
    if (!d->inputs || sscanf(path, "inputs[%zu]", &input) != 1 || input >= d->inputs->n ||
        d->last_input == input + 1)
        return TDM_OK;
    d->last_input = input + 1;
    if (ends(path, "]")) /* the name itself is what differs */
        return TDM_OK;
    return tdm_buf_printf(&d->text, err, " (%.64s)", d->inputs->items[input].path);
}

/* now or then is NULL where the other one has no such value. */
static tdm_status put_difference(differences *d, const leaf *now, const leaf *then, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const leaf absent = {.value = "not there", .len = 9};
    const char *path = now ? now->path : then->path;
    d->by_time = d->by_time || (now && then && begins(path, "inputs[") && ends(path, ".mtime"));
    if (d->n++ >= SHOWN)
        goto done;
    TDM_TRY(tdm_buf_printf(&d->text, err, "%s%s", d->n > 1 ? "; " : "", path));
    TDM_TRY(put_file(d, path, err));
    TDM_TRY(tdm_buf_printf(&d->text, err, " is "));
    TDM_TRY(put_value(&d->text, now ? now : &absent, err));
    TDM_TRY(tdm_buf_printf(&d->text, err, ", was "));
    TDM_TRY(put_value(&d->text, then ? then : &absent, err));
done:
    return st;
}

static bool is_of_files(const char *path)
{
    return begins(path, "inputs") || begins(path, "model") || begins(path, "observer");
}

/* Walk both sorted lists at once.
 *   of_files  only inputs and model, or only all else: options come first in the message */
static tdm_status compare(const leaves *now, const leaves *then, bool of_files, bool complete,
                          differences *d, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0, j = 0; i < now->n || j < then->n;) {
        const leaf *a = i < now->n ? &now->items[i] : NULL,
                   *b = j < then->n ? &then->items[j] : NULL;
        const int order = !a ? 1 : !b ? -1 : strcmp(a->path, b->path);
        a = order <= 0 ? a : NULL;
        b = order >= 0 ? b : NULL;
        i += a != NULL;
        j += b != NULL;
        const char *path = a ? a->path : b->path;
        const bool same = a && b && a->len == b->len && !memcmp(a->value, b->value, a->len);
        if (!same && is_of_files(path) == of_files && !is_ignored(path, complete))
            TDM_TRY(put_difference(d, a, b, err));
    }
done:
    return st;
}

/* One line that fits into an error with what to do at its end. */
static tdm_status report(const differences *d, const char *path, tdm_err *err)
{
    enum { TEXT_SHOWN = 260 };
    char more[40] = "";
    const bool is_long = d->text.len > TEXT_SHOWN;
    if (d->n > SHOWN)
        snprintf(more, sizeof more, "; and %zu more", d->n - SHOWN);
    return tdm_fail(err, TDM_EMISMATCH, "%s: not the same job: %.*s%s%s%s (--restart discards it)",
                    path, (int)(is_long ? TEXT_SHOWN : d->text.len), d->text.p,
                    is_long ? "..." : "", more,
                    d->by_time ? "; with a new time a file may be another one inside" : "");
}

tdm_status job_diff(const char *now, size_t now_len, const char *then, size_t then_len,
                    const tdm_inputs *inputs, bool complete, const char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    leaves a = {0}, b = {0};
    differences d = {.inputs = inputs};
    TDM_TRY(leaves_of(now, now_len, &a, err));
    TDM_TRY(leaves_of(then, then_len, &b, err));
    TDM_TRY(compare(&a, &b, false, complete, &d, err));
    TDM_TRY(compare(&a, &b, true, complete, &d, err));
    if (d.n)
        st = report(&d, path, err);
done:
    leaves_free(&a);
    leaves_free(&b);
    tdm_buf_free(&d.text);
    return st;
}
