#include "host/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/buf.h"
#include "host/json.h"
#include "host/readfile.h"

/* Checkpoints have hundreds of tensors with 8 to 15 JSON values each; this is room for 100,000. It
 * bounds what a hostile header can take: the most seen is 393 MiB, for 100 MB of 149,000 tensors
 * with names of 607 bytes (the text, and the names twice); 180 MiB for a million members in 10 MB.
 */
enum { MAX_VALUES = 1 << 20, PREFIX = 8 };

static const struct {
    const char *name;
    size_t bytes;
    bool is_float;
    tdm_dtype dtype;
} TYPES[] = {
    {"F32", 4, true, TDM_F32},    {"F16", 2, true, TDM_F16}, {"BF16", 2, true, TDM_BF16},
    {"F64", 8, false, 0},         {"I64", 8, false, 0},      {"U64", 8, false, 0},
    {"I32", 4, false, 0},         {"U32", 4, false, 0},      {"I16", 2, false, 0},
    {"U16", 2, false, 0},         {"I8", 1, false, 0},       {"U8", 1, false, 0},
    {"BOOL", 1, false, 0},        {"F8_E5M2", 1, false, 0},  {"F8_E4M3", 1, false, 0},
    {"F8_E8M0", 1, false, 0},     {"C64", 8, false, 0},      {"F8_E4M3FNUZ", 1, false, 0},
    {"F8_E5M2FNUZ", 1, false, 0},
};

/* ---- one entry ---- */

/* A number that the text writes with digits alone (the document was asked). Below 2^53 the double
 * that cJSON keeps is exact. */
static bool natural(const cJSON *value, int64_t *out)
{
    if (!cJSON_IsNumber(value) || !(value->valuedouble < 0x1p53))
        return false;
    *out = (int64_t)value->valuedouble;
    return true;
}

static tdm_status parse_type(const cJSON *value, tdm_tensor *t, size_t *item_bytes, tdm_err *err)
{
    char quoted[48];
    if (!cJSON_IsString(value))
        return tdm_fail(err, TDM_EFORMAT, "dtype is missing or no string");
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (strcmp(TYPES[i].name, value->valuestring) == 0) {
            t->type_name = TYPES[i].name;
            t->is_float = TYPES[i].is_float;
            t->dtype = TYPES[i].dtype;
            *item_bytes = TYPES[i].bytes;
            return TDM_OK;
        }
    tdm_json_quote(quoted, sizeof quoted, value->valuestring, strlen(value->valuestring));
    return tdm_fail(err, TDM_EFORMAT, "dtype %s is not known", quoted);
}

static tdm_status parse_shape(const cJSON *value, tdm_tensor *t, size_t item_bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(cJSON_IsArray(value), TDM_EFORMAT, "shape is missing or no array");
    t->bytes = item_bytes;
    for (const cJSON *dim = value->child; dim; dim = dim->next) {
        TDM_REQUIRE(t->rank < TDM_MAX_RANK, TDM_EFORMAT, "more than %d dimensions", TDM_MAX_RANK);
        TDM_REQUIRE(natural(dim, &t->shape[t->rank]), TDM_EFORMAT,
                    "dimension %d is no whole number from 0 to 2^53 - 1", t->rank);
        TDM_REQUIRE(tdm_mul_size(t->bytes, (size_t)t->shape[t->rank], &t->bytes), TDM_EFORMAT,
                    "the product of the dimensions does not fit 64 bits");
        t->rank++;
    }
done:
    return st;
}

/* Offsets count from the end of the header; so does t->offset until the ranges are checked. */
static tdm_status parse_range(const cJSON *value, tdm_tensor *t, uint64_t data_bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int64_t begin = 0, end = 0;
    const cJSON *first = cJSON_IsArray(value) ? value->child : NULL;
    const cJSON *second = first ? first->next : NULL;
    TDM_REQUIRE(second && !second->next && natural(first, &begin) && natural(second, &end),
                TDM_EFORMAT, "data_offsets is missing or not two whole numbers");
    TDM_REQUIRE(begin <= end, TDM_EFORMAT, "data_offsets [%" PRId64 ", %" PRId64 "] run backwards",
                begin, end);
    TDM_REQUIRE((uint64_t)end <= data_bytes, TDM_EFORMAT,
                "data_offsets end at %" PRId64 ", the file has %" PRIu64 " bytes of data", end,
                data_bytes);
    TDM_REQUIRE((uint64_t)(end - begin) == t->bytes, TDM_EFORMAT,
                "shape and dtype make %zu bytes, data_offsets %" PRId64, t->bytes, end - begin);
    t->offset = (uint64_t)begin;
done:
    return st;
}

static tdm_status parse_entry(const cJSON *entry, uint64_t data_bytes, tdm_tensor *t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t item_bytes = 0;
    TDM_REQUIRE(cJSON_IsObject(entry) && cJSON_GetArraySize(entry) == 3, TDM_EFORMAT,
                "want an object of dtype, shape and data_offsets");
    TDM_TRY(parse_type(cJSON_GetObjectItemCaseSensitive(entry, "dtype"), t, &item_bytes, err));
    TDM_TRY(parse_shape(cJSON_GetObjectItemCaseSensitive(entry, "shape"), t, item_bytes, err));
    TDM_TRY(
        parse_range(cJSON_GetObjectItemCaseSensitive(entry, "data_offsets"), t, data_bytes, err));
done:
    return st;
}

/* ---- the header ---- */

static bool is_metadata(const tdm_json_member *m)
{
    return strcmp(m->key, "__metadata__") == 0;
}

static tdm_status check_metadata(const cJSON *metadata, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(cJSON_IsObject(metadata), TDM_EFORMAT, "__metadata__ is no object");
    for (const cJSON *c = metadata->child; c; c = c->next)
        TDM_REQUIRE(cJSON_IsString(c), TDM_EFORMAT, "__metadata__ holds a value that is no string");
done:
    return st;
}

/* Names are printed, and looked up as C strings: control characters serve only to hide something.
 */
static bool printable(const char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || *name == 0x7F)
            return false;
    return true;
}

static int by_range(const void *a, const void *b)
{
    const tdm_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The ranges must cover the data from the first byte to the last, each byte once. */
static tdm_status check_tiling(tdm_safetensors *f, uint64_t data_bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t at = 0;
    qsort(f->tensors, f->n, sizeof *f->tensors, by_range);
    for (size_t i = 0; i < f->n; i++) {
        const tdm_tensor *t = &f->tensors[i];
        TDM_REQUIRE(t->offset <= at, TDM_EFORMAT,
                    "%s: a hole of %" PRIu64 " bytes in front of the data", t->name,
                    t->offset - at);
        TDM_REQUIRE(t->offset == at, TDM_EFORMAT,
                    "%s: data at %" PRIu64 " overlaps %s, which ends at %" PRIu64, t->name,
                    t->offset, f->tensors[i - 1].name, at);
        at += t->bytes;
    }
    TDM_REQUIRE(at == data_bytes, TDM_EFORMAT,
                "the tensors end at byte %" PRIu64 " of %" PRIu64 " bytes of data", at, data_bytes);
done:
    return st;
}

/* Room for every tensor and every name, from what has been parsed. */
static tdm_status reserve(const tdm_json_member *m, size_t n, tdm_safetensors *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t names = 1;
    for (size_t i = 0; i < n; i++)
        names += m[i].key_len + 1;
    f->names = malloc(names);
    f->tensors = calloc(n + 1, sizeof *f->tensors);
    TDM_REQUIRE(f->names && f->tensors, TDM_ENOMEM, "the table of %zu tensors", n);
done:
    return st;
}

static tdm_status parse_members(const tdm_json *doc, uint64_t data_bytes, int file,
                                tdm_safetensors *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n = 0;
    char quoted[160];
    const tdm_json_member *m = tdm_json_members(doc, &n);
    TDM_TRY(reserve(m, n, f, err));
    char *name = f->names;
    for (size_t i = 0; i < n; i++) {
        if (is_metadata(&m[i])) {
            TDM_TRY(check_metadata(m[i].value, err));
            continue;
        }
        tdm_json_quote(quoted, sizeof quoted, m[i].key, m[i].key_len);
        TDM_REQUIRE(printable(m[i].key), TDM_EFORMAT, "a control character in the name %s", quoted);
        tdm_tensor *t = &f->tensors[f->n++];
        *t = (tdm_tensor){.name = memcpy(name, m[i].key, m[i].key_len + 1), .file = file};
        name += m[i].key_len + 1;
        st = parse_entry(m[i].value, data_bytes, t, err);
        if (st != TDM_OK) {
            st = tdm_context(err, st, "tensor %s", quoted);
            goto done;
        }
    }
    TDM_TRY(check_tiling(f, data_bytes, err));
done:
    return st;
}

tdm_status tdm_safetensors_parse(const char *header, size_t len, uint64_t data_bytes, int file,
                                 tdm_safetensors *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json *doc = NULL;
    tdm_safetensors f = {.fd = -1, .size = PREFIX + len + data_bytes};
    *out = (tdm_safetensors){.fd = -1};
    TDM_REQUIRE(len > 0 && header[0] == '{', TDM_EFORMAT, "the header does not start with {");
    while (len > 0 && header[len - 1] == ' ')
        len--;
    TDM_TRY(tdm_json_parse(header, len, MAX_VALUES, &doc, NULL, err));
    TDM_REQUIRE(tdm_json_only_naturals(doc), TDM_EFORMAT,
                "a number that is not written with digits alone");
    TDM_TRY(parse_members(doc, data_bytes, file, &f, err));
    for (size_t i = 0; i < f.n; i++)
        f.tensors[i].offset += f.size - data_bytes;
    *out = f;
    f = (tdm_safetensors){.fd = -1};
done:
    tdm_safetensors_close(&f);
    tdm_json_close(doc);
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "header");
}

/* ---- the file ---- */

/* Read the header of an open file into text; its length is checked before memory is asked for. */
static tdm_status read_header(int fd, uint64_t size, tdm_buf *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    unsigned char prefix[PREFIX];
    uint64_t len = 0;
    TDM_REQUIRE(size >= PREFIX, TDM_EFORMAT, "%" PRIu64 " bytes, too short for a header", size);
    TDM_TRY(tdm_file_read(fd, prefix, PREFIX, 0, err));
    for (int i = PREFIX; i-- > 0;)
        len = len << 8 | prefix[i];
    TDM_REQUIRE(len <= TDM_SAFETENSORS_MAX_HEADER, TDM_EFORMAT,
                "the header claims %" PRIu64 " bytes, at most %d are allowed", len,
                TDM_SAFETENSORS_MAX_HEADER);
    TDM_REQUIRE(len <= size - PREFIX, TDM_EFORMAT,
                "the header claims %" PRIu64 " bytes, the file has %" PRIu64, len, size);
    TDM_TRY(tdm_buf_reserve(text, (size_t)len + 1, err));
    TDM_TRY(tdm_file_read(fd, text->p, (size_t)len, PREFIX, err));
    text->len = (size_t)len;
done:
    return st;
}

tdm_status tdm_safetensors_open(const char *path, int file, tdm_safetensors *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf header = {0};
    int fd = -1;
    uint64_t size = 0;
    *out = (tdm_safetensors){.fd = -1};
    if ((st = tdm_file_open(path, &fd, &size, err)) != TDM_OK)
        return st; /* names the path already */
    TDM_TRY(read_header(fd, size, &header, err));
    TDM_TRY(
        tdm_safetensors_parse(header.p, header.len, size - PREFIX - header.len, file, out, err));
    out->fd = fd;
    fd = -1;
done:
    if (fd >= 0)
        close(fd);
    tdm_buf_free(&header);
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s", path);
}

void tdm_safetensors_close(tdm_safetensors *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->tensors);
    free(f->names);
    *f = (tdm_safetensors){.fd = -1};
}
