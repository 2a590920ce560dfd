#include "host/json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/utf8.h"

/* The text is judged by one pass over its bytes that knows the whole grammar and builds nothing but
 * the list of top-level members. cJSON alone would take "\uZZZZ", "01", any byte below 33 between
 * values and a byte order mark, and it reports failures through a global variable; after this pass
 * it fails for want of memory only. */

/* cJSON copies a number into a buffer of this many characters and drops the rest. */
enum { MAX_NUMBER = 63 };

struct tdm_json {
    cJSON *root;
    tdm_json_member *members;
    size_t n_members, cap_members;
    bool only_naturals;
};

typedef struct {
    const char *text, *p, *end;
    size_t n_values, max_values;
    size_t n_keys, stop_at_key; /* stop_at_key: used to find the place of a key again */
    int depth;
    bool in_object[CJSON_NESTING_LIMIT]; /* what each open bracket is */
    tdm_json *doc;                       /* NULL: only judge */
    tdm_status status;
    tdm_json_error why;
    const char *what;
} scanner;

static bool fault(scanner *s, tdm_json_fault class, const char *at, const char *what)
{
    s->status = TDM_EFORMAT;
    s->why = (tdm_json_error){class, (size_t)(at - s->text)};
    s->what = what;
    return false;
}

/* ---- bytes ---- */

/* Say what is wrong with the byte at p, where the grammar does not want it. */
static bool unexpected(scanner *s, const char *what)
{
    const unsigned char c = s->p < s->end ? (unsigned char)*s->p : ' ';
    if (s->p < s->end && c == 0)
        return fault(s, TDM_JSON_NUL, s->p, "a NUL byte");
    if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
        return fault(s, TDM_JSON_CONTROL, s->p, "a raw control character");
    if (c >= 0x80 && tdm_utf8_decode(s->p, s->end, NULL) == 0)
        return fault(s, TDM_JSON_UTF8, s->p, "invalid UTF-8");
    return fault(s, TDM_JSON_SYNTAX, s->p, s->p < s->end ? what : "the text ends too early");
}

static void skip_space(scanner *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

/* First byte that is not printable ASCII other than quote and backslash, eight bytes a step. */
static const char *skip_plain(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x80 * ones;
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        const uint64_t quote = x ^ ('"' * ones), slash = x ^ ('\\' * ones);
        /* A borrow can only reach bytes above the first hit, so the lowest set bit is exact. */
        const uint64_t hit = (x | (x - 0x20 * ones) | (quote - ones) | (slash - ones)) & high;
        if (hit)
            return p + __builtin_ctzll(hit) / 8;
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return p;
}

/* ---- scalars ---- */

/* Four hexadecimal digits at p, or -1. */
static int hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int value = 0;
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        int digit = -1;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* p stands on a backslash. */
static bool scan_escape(scanner *s)
{
    const char *at = s->p;
    if (s->end - at < 2 || !memchr("\"\\/bfnrtu", at[1], 9))
        return fault(s, TDM_JSON_SYNTAX, at, "an unknown escape");
    if (at[1] != 'u') {
        s->p = at + 2;
        return true;
    }
    const int unit = hex4(at + 2, s->end);
    if (unit < 0)
        return fault(s, TDM_JSON_SYNTAX, at, "\\u without four hexadecimal digits");
    if (unit == 0)
        return fault(s, TDM_JSON_NUL, at, "\\u0000");
    s->p = at + 6;
    if (unit < 0xD800 || unit > 0xDFFF)
        return true;
    if (unit > 0xDBFF || s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u')
        return fault(s, TDM_JSON_UTF8, at, "an escape that is a lone surrogate");
    const int low = hex4(s->p + 2, s->end);
    if (low < 0xDC00 || low > 0xDFFF)
        return fault(s, TDM_JSON_UTF8, at, "an escape that is a lone surrogate");
    s->p += 6;
    return true;
}

/* p stands on the opening quote; ends behind the closing one. */
static bool scan_string(scanner *s)
{
    const char *open = s->p++;
    for (;;) {
        s->p = skip_plain(s->p, s->end);
        if (s->p == s->end)
            return fault(s, TDM_JSON_SYNTAX, open, "a string without an end");
        const unsigned char c = (unsigned char)*s->p;
        if (c == '"') {
            s->p++;
            return true;
        }
        if (c == '\\') {
            if (!scan_escape(s))
                return false;
        } else {
            const size_t n = c < 0x80 ? 0 : tdm_utf8_decode(s->p, s->end, NULL);
            if (n == 0)
                return c == '\t' || c == '\n' || c == '\r'
                           ? fault(s, TDM_JSON_CONTROL, s->p, "a raw control character")
                           : unexpected(s, "a byte that cannot stand in a string");
            s->p += n;
        }
    }
}

static bool scan_digits(scanner *s)
{
    const char *first = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > first || unexpected(s, "a number lacks a digit");
}

static bool scan_number(scanner *s)
{
    const char *first = s->p;
    bool natural = *s->p != '-';
    if (!natural)
        s->p++;
    if (s->p < s->end && *s->p == '0')
        s->p++;
    else if (!scan_digits(s))
        return false;
    if (s->p < s->end && *s->p == '.') {
        natural = false;
        s->p++;
        if (!scan_digits(s))
            return false;
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        natural = false;
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!scan_digits(s))
            return false;
    }
    if (s->p - first > MAX_NUMBER)
        return fault(s, TDM_JSON_SYNTAX, first, "a number of more than 63 characters");
    if (s->doc && !natural)
        s->doc->only_naturals = false;
    return true;
}

static bool scan_word(scanner *s)
{
    static const char *const WORDS[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(WORDS[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, WORDS[i], n) == 0) {
            s->p += n;
            return true;
        }
    }
    return unexpected(s, "a value is wanted here");
}

/* ---- structure ---- */

static bool add_member(scanner *s)
{
    tdm_json *doc = s->doc;
    if (doc->n_members == doc->cap_members) {
        const size_t cap = doc->cap_members ? doc->cap_members * 2 : 8;
        tdm_json_member *more = realloc(doc->members, cap * sizeof *more);
        if (!more) {
            s->status = TDM_ENOMEM;
            s->what = "no memory for the members of an object";
            return false;
        }
        doc->members = more;
        doc->cap_members = cap;
    }
    doc->members[doc->n_members++] = (tdm_json_member){.value_at = (size_t)(s->p - s->text)};
    return true;
}

/* The key of a member and its colon; ends before the value. */
static bool scan_key(scanner *s)
{
    skip_space(s);
    if (s->p == s->end || *s->p != '"')
        return unexpected(s, "a key in quotes is wanted here");
    if (++s->n_keys == s->stop_at_key)
        return fault(s, TDM_JSON_DUPLICATE, s->p, "a key that stands twice in one object");
    if (!scan_string(s))
        return false;
    skip_space(s);
    if (s->p == s->end || *s->p != ':')
        return unexpected(s, "a colon is wanted here");
    s->p++;
    skip_space(s);
    return s->depth != 1 || !s->doc || add_member(s);
}

/* p stands on a bracket. *complete tells an empty container from one whose first value follows. */
static bool scan_open(scanner *s, bool *complete)
{
    const bool object = *s->p == '{';
    if (s->depth == CJSON_NESTING_LIMIT)
        return fault(s, TDM_JSON_SYNTAX, s->p, "more than 1000 levels");
    s->in_object[s->depth++] = object;
    s->p++;
    skip_space(s);
    *complete = s->p < s->end && *s->p == (object ? '}' : ']');
    if (*complete) {
        s->depth--;
        s->p++;
        return true;
    }
    return !object || scan_key(s);
}

/* One scalar, or the opening of a container. */
static bool scan_value(scanner *s, bool *complete)
{
    skip_space(s);
    *complete = true;
    if (s->n_values++ == s->max_values)
        return fault(s, TDM_JSON_TOO_BIG, s->p, "more values than allowed");
    if (s->p == s->end)
        return unexpected(s, "");
    if (*s->p == '"')
        return scan_string(s);
    if (*s->p == '{' || *s->p == '[')
        return scan_open(s, complete);
    if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
        return scan_number(s);
    return scan_word(s);
}

/* Behind a complete value: close what ends here, up to a comma (*more) or the end of the root. */
static bool scan_behind(scanner *s, bool *more)
{
    *more = false;
    while (s->depth > 0) {
        const bool object = s->in_object[s->depth - 1];
        if (s->depth == 1 && s->doc && s->doc->n_members) {
            tdm_json_member *m = &s->doc->members[s->doc->n_members - 1];
            m->value_len = (size_t)(s->p - s->text) - m->value_at;
        }
        skip_space(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
            *more = true;
            return !object || scan_key(s);
        }
        if (s->p == s->end || *s->p != (object ? '}' : ']'))
            return unexpected(s, "a comma or a closing bracket is wanted here");
        s->p++;
        s->depth--;
    }
    return true;
}

static bool scan_document(scanner *s)
{
    for (bool more = true; more;) {
        bool complete = false;
        if (!scan_value(s, &complete) || (complete && !scan_behind(s, &more)))
            return false;
    }
    skip_space(s);
    return s->p == s->end || unexpected(s, "bytes behind the value");
}

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

static tdm_status refuse_duplicates(scanner *s, const cJSON *root, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cJSON *twice = NULL;
    TDM_TRY(find_duplicate(root, &twice, err));
    if (twice) {
        /* cJSON keeps no places: count keys up to this one, and scan again up to that count. */
        scanner again = {.text = s->text, .p = s->text, .end = s->end, .max_values = s->max_values};
        char key[80];
        key_number(root, twice, &again.stop_at_key);
        scan_document(&again);
        s->why = again.why;
        tdm_json_quote(key, sizeof key, twice->string, strlen(twice->string));
        st = tdm_fail(err, TDM_EFORMAT, "at byte %zu: the key %s stands twice in one object",
                      s->why.at, key);
    }
done:
    return st;
}

/* ---- public ---- */

static tdm_status build(scanner *s, tdm_json *doc, tdm_err *err)
{
    tdm_status st = TDM_OK;
    doc->only_naturals = true;
    if (!scan_document(s)) {
        st = s->status == TDM_ENOMEM
                 ? tdm_fail(err, TDM_ENOMEM, "%s", s->what)
                 : tdm_fail(err, TDM_EFORMAT, "at byte %zu: %s", s->why.at, s->what);
        goto done;
    }
    const size_t len = (size_t)(s->end - s->text);
    doc->root = cJSON_ParseWithLengthOpts(s->text, len, NULL, false);
    TDM_REQUIRE(doc->root, TDM_ENOMEM, "the tree of a JSON text of %zu bytes", len);
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
    scanner s = {.max_values = max_values, .doc = doc};

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
