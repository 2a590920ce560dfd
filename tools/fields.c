#include "tools/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"

tdm_status fields_add(fields *f, const char *prefix, const char *name, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t prefix_len = prefix ? strlen(prefix) : 0, size = prefix_len + strlen(name) + 1;
    TDM_REQUIRE(f->n < FIELDS_MOST, TDM_EINTERNAL, "more than %d fields", FIELDS_MOST);
    char *key = f->keys[f->n] = malloc(size);
    TDM_REQUIRE(key, TDM_ENOMEM, "--key-prefix of %zu bytes", prefix_len);
    snprintf(key, size, "%s%s", prefix ? prefix : "", name);
    TDM_TRY(tdm_json_put_string(&f->json[f->n], key, size - 1, err));
    f->n++;
done:
    return st;
}

void fields_free(fields *f)
{
    for (size_t i = 0; i < FIELDS_MOST; i++) {
        free(f->keys[i]);
        tdm_buf_free(&f->json[i]);
    }
    *f = (fields){0};
}

tdm_status fields_check(const fields *f, const common_args *common, bool passthrough, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; passthrough && i < f->n; i++)
        TDM_REQUIRE(strcmp(f->keys[i], common->id_key) != 0, TDM_EARG,
                    "--id-key %s: --passthrough appends a field of this name", f->keys[i]);
done:
    return st;
}

tdm_reader_options fields_reading(const fields *f, const common_args *common, bool passthrough)
{
    return (tdm_reader_options){.text_key = common->text_key,
                                .id_key = common->id_key,
                                .max_line = common->max_line,
                                .max_ratio = common->max_ratio,
                                .chunk_bytes = common->chunk,
                                .collide = passthrough,
                                .collide_keys = (const char *const *)f->keys};
}

tdm_status fields_put_key(const fields *f, size_t i, bool first, tdm_buf *line, tdm_err *err)
{
    return tdm_buf_printf(line, err, "%s%.*s: ", first ? "" : ", ", (int)f->json[i].len, f->json[i].p);
}

tdm_status fields_put_float(tdm_buf *line, double value, tdm_err *err)
{
    char text[32];
    if (!isfinite(value))
        return tdm_buf_put(line, "null", 4, err);
    snprintf(text, sizeof text, "%.9g", value);
    return tdm_buf_printf(line, err, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}
