/* JSON from any bytes. What the scan accepts cJSON must build, and a document must agree with its
 * source: every member's span is a text of its own, and keys survive being written and read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"

enum { MAX_VALUES = 10000 };

static void require(int condition)
{
    if (!condition)
        abort();
}

static void check_member(const char *text, size_t size, const tdm_json_member *m)
{
    tdm_json *value = NULL, *key = NULL;
    tdm_buf written = {0};
    require(m->value_at < size && m->value_len <= size - m->value_at && m->value_len > 0);
    require(tdm_json_parse(text + m->value_at, m->value_len, MAX_VALUES, &value, NULL, NULL) ==
            TDM_OK);
    char *alone = cJSON_PrintUnformatted(tdm_json_root(value));
    char *inside = cJSON_PrintUnformatted(m->value);
    require(alone && inside && strcmp(alone, inside) == 0);
    cJSON_free(alone);
    cJSON_free(inside);
    require(tdm_json_put_string(&written, m->key, m->key_len, NULL) == TDM_OK);
    require(tdm_json_parse(written.p, written.len, 1, &key, NULL, NULL) == TDM_OK);
    require(strcmp(tdm_json_root(key)->valuestring, m->key) == 0);
    tdm_json_close(value);
    tdm_json_close(key);
    tdm_buf_free(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tdm_json *doc = NULL;
    tdm_json_error why = {0};
    tdm_err err = {0};
    size_t n = 0;
    const char *text = (const char *)data;
    const tdm_status st = tdm_json_parse(text, size, MAX_VALUES, &doc, &why, &err);
    require(st == TDM_OK || (st == TDM_EFORMAT && !doc && why.at <= size && err.msg[0]));
    const tdm_json_member *m = tdm_json_members(doc, &n);
    for (size_t i = 0; i < n && i < 16; i++)
        check_member(text, size, &m[i]);
    tdm_json_close(doc);
    return 0;
}
