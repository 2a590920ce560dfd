/* tools/raid_metadata.c - whether RAID's bot can read metadata.json: it makes a Python object of it, and a key that is missing or that
 * it does not know ends the run. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"
#include "host/readfile.h"
#include "tools/args.h"
#include "tools/raid.h"

enum { BYTES_MOST = 1 << 20, VALUES_MOST = 10000 };

static const struct {
    const char *name;
    bool is_required, is_object;
} KEYS[] = {
    {"date_released", true, false},     {"detector_name", true, false}, {"contact_info", true, false},
    {"website", false, false},          {"paper_link", false, false},   {"huggingface_link", false, false},
    {"github_link", false, false},      {"additional_metadata", false, true},
};

void raid_find(raid_findings *f, raid_level level, const char *fmt, ...)
{
    static const char *const LEVELS[RAID_LEVELS] = {"fine", "warning", "error"};
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    f->counts[level]++;
    if (!f->is_json) {
        printf("%s: %s\n", LEVELS[level], text);
        return;
    }
    tdm_buf_printf(&f->json, NULL, "%s{\"level\": \"%s\", \"detail\": ", f->json.len ? ",\n  " : "", LEVELS[level]);
    tdm_json_put_string(&f->json, text, strlen(text), NULL);
    tdm_buf_put(&f->json, "}", 1, NULL);
}

static bool is_date(const char *text)
{
    int year = 0, month = 0, day = 0, n = 0;
    return strlen(text) == 10 && sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &n) == 3 && n == 10 && month >= 1 &&
           month <= 12 && day >= 1 && day <= 31;
}

static void check_known(const char *path, size_t key, const cJSON *value, raid_findings *f)
{
    const char *name = KEYS[key].name;
    const bool is_text = cJSON_IsString(value);
    if (!KEYS[key].is_required && cJSON_IsNull(value))
        return;
    if (KEYS[key].is_object ? !cJSON_IsObject(value) : !is_text)
        raid_find(f, RAID_ERROR, "%s: %s is no %s", path, name, KEYS[key].is_object ? "object" : "string");
    else if (is_text && KEYS[key].is_required && !value->valuestring[0])
        raid_find(f, RAID_ERROR, "%s: %s is empty", path, name);
    else if (is_text && strstr(value->valuestring, "(Optional)"))
        raid_find(f, RAID_WARNING, "%s: %s is still that of the template", path, name);
    else if (!strcmp(name, "date_released") && !is_date(value->valuestring))
        raid_find(f, RAID_WARNING, "%s: date_released is no date like 2024-05-25", path);
}

static void check_members(const char *path, const tdm_json *doc, raid_findings *f)
{
    size_t n = 0;
    bool is_there[COUNT(KEYS)] = {false};
    const char *names[COUNT(KEYS)];
    char shown[64];
    for (size_t k = 0; k < COUNT(KEYS); k++)
        names[k] = KEYS[k].name;
    const tdm_json_member *members = tdm_json_members(doc, &n);
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < COUNT(KEYS) && strcmp(members[i].key, KEYS[k].name) != 0)
            k++;
        if (k < COUNT(KEYS)) {
            is_there[k] = true;
            check_known(path, k, members[i].value, f);
            continue;
        }
        const char *near = args_suggest(members[i].key, names, COUNT(KEYS));
        tdm_json_quote(shown, sizeof shown, members[i].key, members[i].key_len);
        raid_find(f, RAID_ERROR, "%s: RAID does not know the key %s, and stops at it%s%s%s", path, shown,
                  near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    }
    for (size_t k = 0; k < COUNT(KEYS); k++)
        if (KEYS[k].is_required && !is_there[k])
            raid_find(f, RAID_ERROR, "%s: there is no %s", path, KEYS[k].name);
}

tdm_status raid_check_metadata(const char *path, raid_findings *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    tdm_json *doc = NULL;
    tdm_err why = {0};
    const int64_t before = f->counts[RAID_ERROR] + f->counts[RAID_WARNING];
    TDM_TRY(tdm_file_load(path, BYTES_MOST, &text, err));
    st = tdm_json_parse(text.p ? text.p : "", text.len, VALUES_MOST, &doc, NULL, &why);
    TDM_REQUIRE(st == TDM_OK || st == TDM_EFORMAT, st, "%s: %s", path, why.msg);
    if (st == TDM_EFORMAT)
        raid_find(f, RAID_ERROR, "%s: is no JSON: %s", path, why.msg);
    else if (!cJSON_IsObject(tdm_json_root(doc)))
        raid_find(f, RAID_ERROR, "%s: is no object", path);
    else
        check_members(path, doc, f);
    st = TDM_OK;
    if (f->counts[RAID_ERROR] + f->counts[RAID_WARNING] == before)
        raid_find(f, RAID_FINE, "%s: the keys and values that RAID reads", path);
done:
    tdm_json_close(doc);
    tdm_buf_free(&text);
    return st;
}
