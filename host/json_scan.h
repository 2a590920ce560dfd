/* host/json_scan.h - the pass over a JSON text that stands in front of cJSON; used by json.c alone.
 *
 *   tdm_json_scan s = {.text = text, .p = text, .end = text + len, .max_values = 1000};
 *   if (!tdm_json_scan_text(&s))
 *       ... s.status, s.why, s.what ...
 *   free(s.members);
 *
 * It knows the whole grammar and builds nothing but the list of top-level members. Thread safety:
 * one scan belongs to one thread. */
#ifndef HOST_JSON_SCAN_H
#define HOST_JSON_SCAN_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "host/json.h"

/* cJSON copies a number into a buffer of this many characters and drops the rest. */
enum { TDM_JSON_LONG_NUMBER = 63 };

typedef struct {
    /* set by the caller */
    const char *text, *p, *end; /* borrowed; p is text */
    size_t max_values;
    size_t stop_at_key; /* not 0: fail at this key, counted from 1, to find its place */
    /* results */
    tdm_json_member *members; /* [n_members] the caller frees it; only the spans are set */
    size_t n_members, cap_members;
    bool has_other_numbers; /* than those of digits alone */
    bool has_long_numbers;  /* longer than cJSON takes */
    tdm_status status;      /* of a failure: TDM_EFORMAT, or TDM_ENOMEM without a place */
    tdm_json_error why;
    const char *what; /* the sentence, without the place */
    /* state */
    size_t n_values, n_keys;
    int depth;
    bool in_object[CJSON_NESTING_LIMIT]; /* what each open bracket is */
} tdm_json_scan;

/* Returns: whether the text is one JSON value within the limits; duplicate keys are not seen.
 * Cost: linear, no recursion; allocates only the list of members. */
bool tdm_json_scan_text(tdm_json_scan *s);

#endif
