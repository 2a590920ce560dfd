#include "host/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json_scan.h"

/* The scan judges the text before cJSON sees it. cJSON alone would take "\uZZZZ", "01", any byte
 * below 33 between values and a byte order mark, and it reports failures through a global variable;
 * after the scan it fails for want of memory only. */

struct tdm_json {
    cJSON *root;
    tdm_json_member *members; /* [n_members] owned */
    size_t n_members;
    bool only_naturals;
};

/* ---- duplicate keys ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The key of `object` that stands twice, or NULL. Few keys are compared in pairs, many are sorted.
 */
static tdm_status repeated_key(const cJSON *object, const char **out, tdm_err *err)
{
    enum { FEW = 8 };
    const char *few[FEW];
    tdm_status st = TDM_OK;
    size_t n = 0;
    *out = NULL;
    for (const cJSON *c = object->child; c; c = c->next)
        n++;
    const char **keys = n <= FEW ? few : malloc(n * sizeof *keys);
    TDM_REQUIRE(keys, TDM_ENOMEM, "the keys of an object of %zu members", n);
    n = 0;
    for (const cJSON *c = object->child; c; c = c->next)
        keys[n++] = c->string;
    if (n > FEW)
        qsort(keys, n, sizeof *keys, by_text);
    for (size_t i = 1; i < n && !*out; i++)
        for (size_t j = n > FEW ? i - 1 : 0; j < i; j++)
            if (strcmp(keys[i], keys[j]) == 0)
                *out = keys[i];
done:
    if (keys != few)
        free(keys);
    return st;
}

/* Number of the key node in the order of the text, counted from 1; *n counts. */
static bool key_number(const cJSON *node, const cJSON *wanted, size_t *n)
{
    for (const cJSON *c = node->child; c; c = c->next) {
        *n += c->string != NULL;
        if (c == wanted || key_number(c, wanted, n))
            return true;
    }
    return false;
}

/* Look into every object below node. Recursion is bounded by the nesting limit.
 *   twice  receives the second of two members with one key, or NULL */
static tdm_status find_duplicate(const cJSON *node, const cJSON **twice, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *key = NULL;
    if (cJSON_IsObject(node))
        TDM_TRY(repeated_key(node, &key, err));
    for (const cJSON *c = node->child; c && !*twice; c = c->next) {
        if (key && strcmp(c->string, key) == 0) {
            for (c = c->next; strcmp(c->string, key) != 0;)
                c = c->next;
            *twice = c;
        } else if (!key && c->child) {
            TDM_TRY(find_duplicate(c, twice, err));
        }
    }
done:
    return st;
}

static tdm_status refuse_duplicates(tdm_json_scan *s, const cJSON *root, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cJSON *twice = NULL;
    TDM_TRY(find_duplicate(root, &twice, err));
    if (twice) {
        /* cJSON keeps no places: count keys up to this one, and scan again up to that count. */
        tdm_json_scan again = {
            .text = s->text, .p = s->text, .end = s->end, .max_values = s->max_values};
        char key[80];
        key_number(root, twice, &again.stop_at_key);
        tdm_json_scan_text(&again);
        free(again.members);
        s->why = again.why;
        tdm_json_quote(key, sizeof key, twice->string, strlen(twice->string));
        st = tdm_fail(err, TDM_EFORMAT, "at byte %zu: the key %s stands twice in one object",
                      s->why.at, key);
    }
done:
    return st;
}

/* ---- long numbers ---- */

/* Write the number in [p, end) in at most 63 characters: the same double, then spaces. */
static void shorten(char *p, const char *end)
{
    char text[32];
    const double value = strtod(p, NULL);
    /* JSON has no infinity; cJSON reads 1e999 as one. */
    const int n = isinf(value) ? snprintf(text, sizeof text, value < 0 ? "-1e999" : "1e999")
                               : snprintf(text, sizeof text, "%.17g", value);
    memcpy(p, text, (size_t)n);
    memset(p + n, ' ', (size_t)(end - p - n));
}

/* A copy of a text that the scan has accepted, in which cJSON can read every number. Places stay
 * what they are. NULL when there is no memory. */
static char *with_short_numbers(const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = 0;
    for (char *p = copy; *p;) {
        const size_t number = strspn(p, "+-.eE0123456789");
        if (number > TDM_JSON_LONG_NUMBER)
            shorten(p, p + number);
        if (*p == '"') {
            for (p++; *p != '"'; p++)
                p += *p == '\\';
        }
        p += number ? number : 1;
    }
    return copy;
}

/* The tree of a text that the scan has accepted: NULL only when there is no memory. */
static cJSON *build_tree(const tdm_json_scan *s)
{
    const size_t len = (size_t)(s->end - s->text);
    if (!s->has_long_numbers)
        return cJSON_ParseWithLengthOpts(s->text, len, NULL, false);
    char *copy = with_short_numbers(s->text, len);
    cJSON *root = copy ? cJSON_ParseWithLengthOpts(copy, len, NULL, false) : NULL;
    free(copy);
    return root;
}

/* ---- public ---- */

static tdm_status build(tdm_json_scan *s, tdm_json *doc, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool fine = tdm_json_scan_text(s);
    doc->members = s->members;
    doc->n_members = s->n_members;
    doc->only_naturals = !s->has_other_numbers;
    if (!fine) {
        st = s->status == TDM_ENOMEM
                 ? tdm_fail(err, TDM_ENOMEM, "%s", s->what)
                 : tdm_fail(err, TDM_EFORMAT, "at byte %zu: %s", s->why.at, s->what);
        goto done;
    }
    doc->root = build_tree(s);
    TDM_REQUIRE(doc->root, TDM_ENOMEM, "the tree of a JSON text of %zu bytes",
                (size_t)(s->end - s->text));
    TDM_TRY(refuse_duplicates(s, doc->root, err));

    const cJSON *value = doc->root->child;
    for (size_t i = 0; i < doc->n_members; i++, value = value->next) {
        doc->members[i].key = value->string;
        doc->members[i].key_len = strlen(value->string);
        doc->members[i].value = value;
    }
done:
    return st;
}

tdm_status tdm_json_parse(const char *text, size_t len, size_t max_values, tdm_json **out,
                          tdm_json_error *why, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json *doc = calloc(1, sizeof *doc);
    tdm_json_scan s = {.max_values = max_values};

    *out = NULL;
    TDM_REQUIRE(doc, TDM_ENOMEM, "a JSON document");
    s.text = s.p = text ? text : "";
    s.end = s.text + (text ? len : 0);
    TDM_TRY(build(&s, doc, err));
    *out = doc;
    doc = NULL;
done:
    if (why)
        *why = s.why;
    tdm_json_close(doc);
    return st;
}

void tdm_json_close(tdm_json *doc)
{
    if (!doc)
        return;
    cJSON_Delete(doc->root);
    free(doc->members);
    free(doc);
}

const cJSON *tdm_json_root(const tdm_json *doc)
{
    return doc ? doc->root : NULL;
}

const tdm_json_member *tdm_json_members(const tdm_json *doc, size_t *n)
{
    const bool object = doc && cJSON_IsObject(doc->root);
    *n = object ? doc->n_members : 0;
    return object ? doc->members : NULL;
}

bool tdm_json_only_naturals(const tdm_json *doc)
{
    return doc && doc->only_naturals;
}
