/* tools/raid_array.c - predictions.json item by item: a scanner that knows strings and brackets finds where an item
 * ends, host/json.h reads it. Memory is that of one item. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"
#include "host/source.h"
#include "tools/raid.h"

enum { READ_AT_ONCE = 256 << 10, ITEM_MOST = 64 << 10, VALUES_MOST = 64 };

struct raid_array {
    const char *path; /* borrowed */
    raid_limits limits;
    tdm_source *source;
    char *buf; /* owned [READ_AT_ONCE]; [start, end) is not yet used */
    size_t start, end;
    uint64_t offset; /* of buf[start] */
    bool at_eof, has_begun, is_over;
    int64_t number;
    uint64_t item_offset;
    tdm_buf text; /* of the item */
    tdm_json *doc;
    char detail[256];
};

tdm_status raid_array_open(const char *path, const raid_limits *limits, raid_array **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_source_options options = {.max_ratio = limits->max_ratio, .stop = limits->stop};
    *out = NULL;
    raid_array *a = calloc(1, sizeof *a);
    TDM_REQUIRE(a, TDM_ENOMEM, "%s: a reader", path);
    a->path = path;
    a->limits = *limits;
    a->buf = malloc(READ_AT_ONCE);
    TDM_REQUIRE(a->buf, TDM_ENOMEM, "%s: a buffer of %d bytes", path, READ_AT_ONCE);
    TDM_TRY(tdm_source_open(path, &options, &a->source, err));
    *out = a;
    a = NULL;
done:
    raid_array_close(a);
    return st;
}

void raid_array_close(raid_array *a)
{
    if (!a)
        return;
    tdm_json_close(a->doc);
    tdm_source_close(a->source);
    tdm_buf_free(&a->text);
    free(a->buf);
    free(a);
}

/* ---- bytes ---- */

/* A byte at the place, or the end of the file, is there. */
static tdm_status look(raid_array *a, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_err why = {0};
    size_t n = 0;
    bool starved = false;
    if (a->start < a->end || a->at_eof)
        goto done;
    TDM_TRY(tdm_check_stop(a->limits.stop, err));
    st = tdm_source_read(a->source, a->buf, READ_AT_ONCE, false, &n, &starved, &why);
    TDM_REQUIRE(st != TDM_EFORMAT, st, "%s: %s", a->path, why.msg);
    TDM_REQUIRE(st == TDM_OK, st, "%s", why.msg);
    a->start = 0;
    a->end = n;
    a->at_eof = n == 0;
done:
    return st;
}

static void use(raid_array *a, size_t n)
{
    a->start += n;
    a->offset += n;
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* The next byte that is no white space; 0 at the end of the file. It is not used. */
static tdm_status skip_space(raid_array *a, char *byte, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (;;) {
        TDM_TRY(look(a, err));
        *byte = a->start < a->end ? a->buf[a->start] : 0;
        if (a->at_eof || !is_space(*byte))
            break;
        use(a, 1);
    }
done:
    return st;
}

/* ---- the array ---- */

static tdm_status begin(raid_array *a, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char byte = 0;
    TDM_TRY(skip_space(a, &byte, err));
    TDM_REQUIRE(!a->at_eof, TDM_EFORMAT, "%s: is empty; want an array [{\"id\": ..., \"score\": ...}, ...]", a->path);
    TDM_REQUIRE(byte != '\xef', TDM_EFORMAT,
                "%s: begins with a byte order mark, which RAID's reader refuses", a->path);
    TDM_REQUIRE(byte == '[', TDM_EFORMAT,
                "%s: byte %" PRIu64 ": want an array [{\"id\": ..., \"score\": ...}, ...], found %s", a->path, a->offset,
                byte == '{' ? "an object (of JSON Lines, tandem raid predictions makes the array)" : "something else");
    use(a, 1);
    a->has_begun = true;
done:
    return st;
}

/* Go to the first byte of the next item, or to the end of the file. */
static tdm_status go_to_item(raid_array *a, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char byte = 0;
    TDM_TRY(skip_space(a, &byte, err));
    if (byte == ',' && a->number > 0) {
        use(a, 1);
        TDM_TRY(skip_space(a, &byte, err));
        TDM_REQUIRE(byte != ']', TDM_EFORMAT, "%s: byte %" PRIu64 ": there is no item behind the last comma",
                    a->path, a->offset);
    } else if (byte == ']') {
        use(a, 1);
        TDM_TRY(skip_space(a, &byte, err));
        TDM_REQUIRE(a->at_eof, TDM_EFORMAT, "%s: byte %" PRIu64 ": the file goes on behind the array", a->path,
                    a->offset);
        a->is_over = true;
        goto done;
    } else {
        TDM_REQUIRE(a->number == 0 || a->at_eof, TDM_EFORMAT,
                    "%s: byte %" PRIu64 ": want a comma behind item %" PRId64, a->path, a->offset, a->number);
    }
    TDM_REQUIRE(!a->at_eof, TDM_EFORMAT, "%s: byte %" PRIu64 ": the file ends behind item %" PRId64 ", without ]", a->path,
                a->offset, a->number);
    TDM_REQUIRE(byte != ',', TDM_EFORMAT, "%s: byte %" PRIu64 ": a comma where an item should be", a->path, a->offset);
done:
    return st;
}

typedef struct {
    int64_t depth;
    bool in_string, is_escaped, has_ended;
} item_scan;

/* How many bytes of p [n] belong to the item, which may end there. */
static size_t scan(item_scan *s, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char c = p[i];
        if (s->in_string) {
            const bool ends = c == '"' && !s->is_escaped;
            s->is_escaped = c == '\\' && !s->is_escaped;
            s->in_string = !ends;
            s->has_ended = ends && s->depth == 0;
        } else if (s->depth == 0 && (c == ',' || c == ']' || c == '}' || is_space(c))) {
            s->has_ended = true;
            return i;
        } else {
            s->in_string = c == '"';
            s->depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            s->has_ended = (c == '}' || c == ']') && s->depth == 0;
        }
        if (s->has_ended)
            return i + 1;
    }
    return n;
}

static tdm_status take_text(raid_array *a, tdm_err *err)
{
    tdm_status st = TDM_OK;
    item_scan s = {0};
    a->text.len = 0;
    a->item_offset = a->offset;
    a->number++;
    while (!s.has_ended) {
        TDM_TRY(look(a, err));
        TDM_REQUIRE(!a->at_eof, TDM_EFORMAT,
                    "%s: the file ends in the middle of item %" PRId64 ", which begins at byte %" PRIu64, a->path, a->number,
                    a->item_offset);
        const size_t n = scan(&s, a->buf + a->start, a->end - a->start);
        TDM_REQUIRE(a->text.len + n <= ITEM_MOST, TDM_EFORMAT,
                    "%s: item %" PRId64 " at byte %" PRIu64 " has more than %d bytes", a->path, a->number,
                    a->item_offset, ITEM_MOST);
        TDM_TRY(tdm_buf_put(&a->text, a->buf + a->start, n, err));
        use(a, n);
    }
done:
    return st;
}

/* ---- one item ---- */

__attribute__((format(printf, 3, 4))) static void refuse(raid_array *a, raid_item *item, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(a->detail, sizeof a->detail, fmt, args);
    va_end(args);
    item->kind = RAID_ITEM_BAD;
    item->detail = a->detail;
}

/* Python reads bare NaN, Infinity and -Infinity, which are no JSON: make them 0 and spaces. Whether there were any. */
static bool make_numbers(char *p, size_t n)
{
    static const char *const WORDS[] = {"-Infinity", "Infinity", "NaN"};
    bool in_string = false, is_escaped = false, found = false;
    for (size_t i = 0; i < n; i++) {
        const bool ends = p[i] == '"' && !is_escaped;
        is_escaped = in_string && p[i] == '\\' && !is_escaped;
        in_string = in_string != ends;
        for (size_t k = 0; k < 3 && !in_string; k++) {
            const size_t len = strlen(WORDS[k]);
            if (n - i < len || memcmp(p + i, WORDS[k], len) != 0)
                continue;
            memset(p + i, ' ', len);
            p[i] = '0';
            found = true;
        }
    }
    return found;
}

static void read_members(raid_array *a, raid_item *item)
{
    char shown[64];
    size_t n = 0;
    const tdm_json_member *members = tdm_json_members(a->doc, &n);
    const cJSON *id = NULL, *score = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(members[i].key, "id")) {
            id = members[i].value;
        } else if (!strcmp(members[i].key, "score")) {
            score = members[i].value;
        } else {
            tdm_json_quote(shown, sizeof shown, members[i].key, members[i].key_len);
            refuse(a, item, "has a key %s; want id and score alone", shown);
            return;
        }
    }
    if (!id || !score)
        refuse(a, item, "has no %s", id ? "score" : "id");
    else if (!cJSON_IsString(id) || !id->valuestring[0])
        refuse(a, item, "the id is %s, want a string", cJSON_IsString(id) ? "empty" : "no string");
    else if (!cJSON_IsNumber(score) && !cJSON_IsNull(score))
        refuse(a, item, "the score is no number");
    if (item->kind == RAID_ITEM_BAD)
        return;
    item->id = id->valuestring;
    item->id_len = strlen(item->id);
    item->score = cJSON_IsNumber(score) ? score->valuedouble : NAN;
    if (!isfinite(item->score))
        item->kind = RAID_ITEM_NOT_FINITE;
}

static tdm_status read_item(raid_array *a, raid_item *item, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_err why = {0};
    st = tdm_json_parse(a->text.p, a->text.len, VALUES_MOST, &a->doc, NULL, &why);
    const bool has_nan = st == TDM_EFORMAT && make_numbers(a->text.p, a->text.len);
    if (has_nan)
        st = tdm_json_parse(a->text.p, a->text.len, VALUES_MOST, &a->doc, NULL, &why);
    TDM_REQUIRE(st == TDM_OK || st == TDM_EFORMAT, st, "%s: item %" PRId64 ": %s", a->path, a->number, why.msg);
    if (st == TDM_EFORMAT) {
        st = TDM_OK;
        refuse(a, item, "is no JSON: %s", why.msg);
    } else if (!cJSON_IsObject(tdm_json_root(a->doc))) {
        refuse(a, item, "is no object {\"id\": ..., \"score\": ...}");
    } else {
        read_members(a, item);
        if (has_nan && item->kind == RAID_ITEM_OK)
            item->kind = RAID_ITEM_NOT_FINITE;
    }
done:
    return st;
}

tdm_status raid_array_next(raid_array *a, raid_item *item, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json_close(a->doc);
    a->doc = NULL;
    *item = (raid_item){.kind = RAID_ITEM_END};
    if (!a->has_begun)
        TDM_TRY(begin(a, err));
    if (!a->is_over)
        TDM_TRY(go_to_item(a, err));
    if (a->is_over)
        goto done;
    TDM_TRY(take_text(a, err));
    item->kind = RAID_ITEM_OK;
    item->number = a->number;
    item->offset = a->item_offset;
    TDM_TRY(read_item(a, item, err));
done:
    return st;
}
