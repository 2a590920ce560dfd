#include "host/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/buf.h"
#include "host/json.h"
#include "host/readfile.h"
#include "host/safetensors.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

/* Every file stays open, and 1024 descriptors is a common limit. */
enum { MAX_FILES = 256, MAX_INDEX_BYTES = 100000000, MAX_INDEX_VALUES = 1 << 20 };

struct tdm_checkpoint {
    char *path;             /* owned; of the folder, or of the one file */
    tdm_safetensors *files; /* [n_files] owned */
    char **file_names;      /* [n_files] owned, each owned; as in the index, or the path */
    int n_files;
    tdm_tensor *tensors; /* [n] owned; sorted by name */
    size_t n;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tdm_tensor *)a)->name, ((const tdm_tensor *)b)->name);
}

/* ---- opening ---- */

static tdm_status join(const char *dir, const char *name, tdm_buf *path, tdm_err *err)
{
    path->len = 0;
    tdm_status st = tdm_buf_printf(path, err, "%s/%s", dir, name);
    return st == TDM_OK ? tdm_buf_put(path, "", 1, err) : st;
}

/* Open one more file; `name` is what messages call it. */
static tdm_status add_file(tdm_checkpoint *ck, const char *path, const char *name, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = (size_t)ck->n_files + 1;
    TDM_REQUIRE(n <= MAX_FILES, TDM_EFORMAT, "more than %d files", MAX_FILES);
    tdm_safetensors *files = realloc(ck->files, n * sizeof *files);
    TDM_REQUIRE(files, TDM_ENOMEM, "the list of files");
    ck->files = files;
    char **names = realloc(ck->file_names, n * sizeof *names);
    TDM_REQUIRE(names, TDM_ENOMEM, "the list of files");
    ck->file_names = names;
    names[n - 1] = strdup(name);
    TDM_REQUIRE(names[n - 1], TDM_ENOMEM, "the name of a file");
    files[n - 1] = (tdm_safetensors){.fd = -1};
    ck->n_files++;
    TDM_TRY(tdm_safetensors_open(path, ck->n_files - 1, &files[n - 1], err));
done:
    return st;
}

/* One table of all tensors, sorted by name. */
static tdm_status merge(tdm_checkpoint *ck, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n = 0;
    for (int i = 0; i < ck->n_files; i++)
        n += ck->files[i].n;
    ck->tensors = calloc(n + 1, sizeof *ck->tensors);
    TDM_REQUIRE(ck->tensors, TDM_ENOMEM, "the table of %zu tensors", n);
    for (int i = 0; i < ck->n_files; i++) {
        for (size_t k = 0; k < ck->files[i].n; k++)
            ck->tensors[ck->n++] = ck->files[i].tensors[k];
    }
    qsort(ck->tensors, ck->n, sizeof *ck->tensors, by_name);
    for (size_t i = 1; i < ck->n; i++)
        TDM_REQUIRE(strcmp(ck->tensors[i - 1].name, ck->tensors[i].name) != 0, TDM_EFORMAT,
                    "tensor %s is in %s and in %s", ck->tensors[i].name,
                    ck->file_names[ck->tensors[i - 1].file], ck->file_names[ck->tensors[i].file]);
done:
    return st;
}

/* A shard lies in the folder itself: a name with a slash could lead anywhere. */
static bool is_shard_name(const char *name)
{
    const size_t n = strlen(name), end = strlen(".safetensors");
    if (name[0] == '.' || strchr(name, '/') || n <= end)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7F)
            return false;
    return strcmp(name + n - end, ".safetensors") == 0;
}

/* Open the file that the index names, unless it is open already. */
static tdm_status open_shard(tdm_checkpoint *ck, const char *name, tdm_buf *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char quoted[128];
    for (int i = ck->n_files; i-- > 0;) /* neighbours in the index share a file */
        if (strcmp(ck->file_names[i], name) == 0)
            return TDM_OK;
    tdm_json_quote(quoted, sizeof quoted, name, strlen(name));
    TDM_REQUIRE(is_shard_name(name), TDM_EFORMAT,
                "%s is not the name of a .safetensors file in the folder", quoted);
    TDM_TRY(join(ck->path, name, path, err));
    TDM_TRY(add_file(ck, path->p, name, err));
done:
    return st;
}

/* Each tensor is in exactly the file that the index names, and the index names every tensor. */
static tdm_status check_index(const tdm_checkpoint *ck, const cJSON *map, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char name[160];
    bool *named = calloc(ck->n + 1, sizeof *named); /* one more: calloc(0) may give NULL */
    TDM_REQUIRE(named, TDM_ENOMEM, "the index of %zu tensors", ck->n);
    for (const cJSON *c = map->child; c; c = c->next) {
        const tdm_tensor *t = tdm_checkpoint_find(ck, c->string);
        tdm_json_quote(name, sizeof name, c->string, strlen(c->string));
        TDM_REQUIRE(t, TDM_EFORMAT, "tensor %s is not in %s", name, c->valuestring);
        TDM_REQUIRE(strcmp(ck->file_names[t->file], c->valuestring) == 0, TDM_EFORMAT,
                    "tensor %s is in %s, not in %s", name, ck->file_names[t->file], c->valuestring);
        named[t - ck->tensors] = true;
    }
    for (size_t i = 0; i < ck->n; i++)
        TDM_REQUIRE(named[i], TDM_EFORMAT, "tensor %s of %s is not in weight_map",
                    ck->tensors[i].name, ck->file_names[ck->tensors[i].file]);
done:
    free(named);
    return st;
}

static tdm_status read_index(tdm_checkpoint *ck, const tdm_buf *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf path = {0};
    tdm_json *doc = NULL;
    TDM_TRY(tdm_json_parse(text->p, text->len, MAX_INDEX_VALUES, &doc, NULL, err));
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(tdm_json_root(doc), "weight_map");
    TDM_REQUIRE(cJSON_IsObject(map) && map->child, TDM_EFORMAT,
                "weight_map is missing or no object with members");
    for (const cJSON *c = map->child; c; c = c->next) {
        TDM_REQUIRE(cJSON_IsString(c), TDM_EFORMAT, "weight_map holds a value that is no string");
        TDM_TRY(open_shard(ck, c->valuestring, &path, err));
    }
    TDM_TRY(merge(ck, err));
    TDM_TRY(check_index(ck, map, err));
done:
    tdm_json_close(doc);
    tdm_buf_free(&path);
    return st;
}

static tdm_status open_shards(tdm_checkpoint *ck, const char *index, tdm_err *err)
{
    tdm_buf text = {0};
    tdm_status st = tdm_file_load(index, MAX_INDEX_BYTES, &text, err);
    if (st == TDM_OK) {
        st = read_index(ck, &text, err);
        if (st != TDM_OK)
            st = tdm_context(err, st, "%s", index);
    }
    tdm_buf_free(&text);
    return st;
}

/* The folder has neither of the two files: say what it has instead. */
static tdm_status nothing_to_open(const char *dir, tdm_err *err)
{
    static const char *const OTHER[] = {".bin",   ".pt", ".pth",  ".ckpt",
                                        ".index", ".h5", ".gguf", ".msgpack"};
    char found[128] = "";
    DIR *d = opendir(dir);
    for (struct dirent *e; d && !found[0] && (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        for (size_t i = 0; dot && i < sizeof OTHER / sizeof *OTHER; i++)
            if (strcmp(dot, OTHER[i]) == 0)
                tdm_json_quote(found, sizeof found, e->d_name, strlen(e->d_name));
    }
    if (d)
        closedir(d);
    if (found[0])
        return tdm_fail(err, TDM_ENOINPUT, "%s: no " SINGLE ", only %s: convert it to safetensors",
                        dir, found);
    return tdm_fail(err, TDM_ENOINPUT, "%s: neither " SINGLE " nor " INDEX " is there", dir);
}

static tdm_status open_folder(tdm_checkpoint *ck, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    tdm_buf path = {0};
    TDM_TRY(join(ck->path, SINGLE, &path, err));
    if (stat(path.p, &info) == 0 || errno != ENOENT) {
        TDM_TRY(add_file(ck, path.p, SINGLE, err));
        TDM_TRY(merge(ck, err));
        goto done;
    }
    TDM_TRY(join(ck->path, INDEX, &path, err));
    if (stat(path.p, &info) == 0 || errno != ENOENT)
        TDM_TRY(open_shards(ck, path.p, err));
    else
        st = nothing_to_open(ck->path, err);
done:
    tdm_buf_free(&path);
    return st;
}

tdm_status tdm_checkpoint_open(const char *dir, tdm_checkpoint **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    *out = NULL;
    tdm_checkpoint *ck = calloc(1, sizeof *ck);
    TDM_REQUIRE(ck, TDM_ENOMEM, "a checkpoint");
    ck->path = strdup(dir);
    TDM_REQUIRE(ck->path, TDM_ENOMEM, "a checkpoint");
    TDM_REQUIRE(stat(dir, &info) == 0, TDM_ENOINPUT, "%s: %s", dir, strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        TDM_TRY(open_folder(ck, err));
    } else {
        TDM_TRY(add_file(ck, dir, dir, err));
        TDM_TRY(merge(ck, err));
    }
    *out = ck;
    ck = NULL;
done:
    tdm_checkpoint_close(ck);
    return st;
}

void tdm_checkpoint_close(tdm_checkpoint *ck)
{
    if (!ck)
        return;
    for (int i = 0; i < ck->n_files; i++) {
        tdm_safetensors_close(&ck->files[i]);
        free(ck->file_names[i]);
    }
    free(ck->files);
    free(ck->file_names);
    free(ck->tensors);
    free(ck->path);
    free(ck);
}

/* ---- looking up and reading ---- */

size_t tdm_checkpoint_count(const tdm_checkpoint *ck)
{
    return ck->n;
}

const tdm_tensor *tdm_checkpoint_at(const tdm_checkpoint *ck, size_t i)
{
    return &ck->tensors[i];
}

const tdm_tensor *tdm_checkpoint_find(const tdm_checkpoint *ck, const char *name)
{
    const tdm_tensor key = {.name = name};
    return ck->n ? bsearch(&key, ck->tensors, ck->n, sizeof key, by_name) : NULL;
}

int tdm_checkpoint_files(const tdm_checkpoint *ck)
{
    return ck->n_files;
}

const char *tdm_checkpoint_file(const tdm_checkpoint *ck, int i, uint64_t *bytes)
{
    *bytes = ck->files[i].size;
    return ck->file_names[i];
}

void tdm_tensor_shape(const tdm_tensor *t, char *text, size_t cap)
{
    size_t n = (size_t)snprintf(text, cap, "[");
    for (int i = 0; i < t->rank && n < cap; i++)
        n += (size_t)snprintf(text + n, cap - n, "%s%" PRId64, i ? ", " : "", t->shape[i]);
    if (n < cap)
        snprintf(text + n, cap - n, "]");
}

tdm_status tdm_checkpoint_expect(const tdm_checkpoint *ck, const char *name, int64_t rows,
                                 int64_t cols, const tdm_tensor **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char has[TDM_SHAPE_TEXT], want[TDM_SHAPE_TEXT];
    const tdm_tensor wanted = {.rank = cols ? 2 : 1, .shape = {rows, cols}};
    const tdm_tensor *t = tdm_checkpoint_find(ck, name);
    *out = NULL;
    TDM_REQUIRE(t, TDM_EFORMAT, "%s: no tensor %s", ck->path, name);
    tdm_tensor_shape(t, has, sizeof has);
    tdm_tensor_shape(&wanted, want, sizeof want);
    TDM_REQUIRE(t->is_float, TDM_EFORMAT, "%s: %s: dtype %s, want F32, F16 or BF16", ck->path, name,
                t->type_name);
    TDM_REQUIRE(strcmp(has, want) == 0, TDM_EFORMAT, "%s: %s: shape %s, want %s", ck->path, name,
                has, want);
    *out = t;
done:
    return st;
}

/* Elements of t from byte `first` on. */
static tdm_status check_values(const tdm_tensor *t, size_t first, size_t bytes, const void *data,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!t->is_float)
        return st;
    const size_t item = tdm_dtype_size(t->dtype), n = bytes / item;
    const size_t bad = tdm_first_not_finite(data, t->dtype, n);
    if (bad < n) {
        float value = 0;
        tdm_to_f32(&value, (const char *)data + bad * item, t->dtype, 1);
        st = tdm_fail(err, TDM_EFORMAT, "element %zu is %g", first / item + bad, (double)value);
    }
    return st;
}

tdm_status tdm_checkpoint_read(const tdm_checkpoint *ck, const tdm_tensor *t, bool check_finite,
                               void *dst, tdm_err *err)
{
    return tdm_checkpoint_read_part(ck, t, 0, t->bytes, check_finite, dst, err);
}

tdm_status tdm_checkpoint_read_part(const tdm_checkpoint *ck, const tdm_tensor *t, size_t first,
                                    size_t n, bool check_finite, void *dst, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_file_read(ck->files[t->file].fd, dst, n, t->offset + first, err));
    if (check_finite)
        TDM_TRY(check_values(t, first, n, dst, err));
done:
    return st == TDM_OK
               ? TDM_OK
               : tdm_context(err, st, "%s: %s: %s", ck->path, ck->file_names[t->file], t->name);
}
