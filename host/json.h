/* host/json.h - JSON through cJSON, with the checks that cJSON leaves out.
 *
 *   tdm_json *doc = NULL;
 *   tdm_json_error why;
 *   TDM_TRY(tdm_json_parse(text, len, 1000000, &doc, &why, err));
 *   const cJSON *layers = cJSON_GetObjectItemCaseSensitive(tdm_json_root(doc), "n_layer");
 *   tdm_json_close(doc);
 *
 * Refused here although cJSON accepts it: invalid UTF-8, raw control characters (also between
 * values, beyond tab, newline and return), a byte order mark, bytes behind the value, \u0000 (it
 * would cut a C string), escapes that are no escapes, duplicate keys in any object, numbers outside
 * the grammar (01, 1., +1), and more values than the caller allows, counted before the tree is
 * built. Limit: 1000 levels (cJSON's). Numbers may have any length.
 * Thread safety: no global state; one document belongs to one thread. */
#ifndef HOST_JSON_H
#define HOST_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/err.h"

typedef enum {
    TDM_JSON_SYNTAX,    /* not JSON; deeper than cJSON goes counts too */
    TDM_JSON_UTF8,      /* invalid UTF-8, or an escape that is a lone surrogate */
    TDM_JSON_NUL,       /* \u0000 or a raw NUL byte */
    TDM_JSON_CONTROL,   /* a raw control character */
    TDM_JSON_DUPLICATE, /* a key that stands twice in one object */
    TDM_JSON_TOO_BIG,   /* more values than allowed */
} tdm_json_fault;

typedef struct {
    tdm_json_fault fault;
    size_t at; /* byte offset in the text */
} tdm_json_error;

typedef struct tdm_json tdm_json;

/* One member of the top-level object, in source order. */
typedef struct {
    const char *key;   /* decoded, NUL-terminated; lives as long as the document */
    size_t key_len;
    size_t value_at;   /* the value's source bytes: [value_at, value_at + value_len) of the text */
    size_t value_len;
    const cJSON *value;
} tdm_json_member;

/* Parse a whole text.
 *   text        [len] bytes; need not end in NUL; not kept
 *   max_values  most values (scalars, arrays, objects) allowed
 *   why         NULL allowed; receives the class and the place of a fault
 * Errors: TDM_EFORMAT (message with the byte offset), TDM_ENOMEM. */
tdm_status tdm_json_parse(const char *text, size_t len, size_t max_values, tdm_json **out,
                          tdm_json_error *why, tdm_err *err);
void tdm_json_close(tdm_json *doc); /* NULL is fine */

const cJSON *tdm_json_root(const tdm_json *doc);
/* The members of the top-level object; NULL and *n = 0 when the root is something else. */
const tdm_json_member *tdm_json_members(const tdm_json *doc, size_t *n);

/* Whether every number in the text is written with digits alone: 12, but not 1.0, 1e3 or -0. */
bool tdm_json_only_naturals(const tdm_json *doc);

/* Append text as a JSON string in the style of Python's json.dumps: quotes, \uXXXX (lower-case hex,
 * surrogate pairs) for everything outside ASCII, short escapes for \b \t \n \f \r \" \\.
 *   text  [len] bytes of valid UTF-8 (an invalid byte becomes U+FFFD); NULL when there are none */
tdm_status tdm_json_put_string(tdm_buf *out, const char *text, size_t len, tdm_err *err);

/* The same into a fixed array, for error messages: what a file holds becomes one printable line,
 * cut to fit and then marked with dots.
 *   dst  [cap] characters, cap at least 8; ends in NUL */
void tdm_json_quote(char *dst, size_t cap, const char *text, size_t len);

#endif
