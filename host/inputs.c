#include "host/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "host/readfile.h"

enum { END_BYTES = 1 << 20 };

typedef struct {
    dev_t dev;
    ino_t ino;
} file_id;

typedef struct {
    tdm_inputs *inputs;
    size_t cap;
    file_id written[3]; /* files that the run writes, where they exist already */
    size_t n_written;
    bool out_is_ours; /* a run made OUT, or is at it */
    bool has_stdin;
} list;

/* A folder that is being read, and those above it. */
typedef struct folder {
    const struct folder *above;
    const char *path;
    file_id id;
} folder;

static bool ends_with(const char *text, const char *ending)
{
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcmp(text + n - m, ending);
}

static bool is_same(file_id a, const struct stat *b)
{
    return a.dev == b->st_dev && a.ino == b->st_ino;
}

/* ---- what the run writes ---- */

static void note_written(list *l, const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode))
        l->written[l->n_written++] = (file_id){info.st_dev, info.st_ino};
}

/* What belongs to a file that results go to: its errors, and what tells that a run made it. */
static tdm_status note_beside(list *l, const char *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf name = {0};
    TDM_TRY(tdm_buf_printf(&name, err, "%s.errors.jsonl", out));
    note_written(l, name.p);
    static const char *const SIGNS[] = {".manifest.json", ".job"};
    for (size_t i = 0; i < sizeof SIGNS / sizeof *SIGNS; i++) {
        name.len = 0;
        TDM_TRY(tdm_buf_printf(&name, err, "%s%s", out, SIGNS[i]));
        l->out_is_ours = l->out_is_ours || access(name.p, F_OK) == 0;
    }
done:
    tdm_buf_free(&name);
    return st;
}

/* OUT and what is beside it, or beside what it is a link to. */
static tdm_status note_out(list *l, const char *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char *target = realpath(out, NULL); /* NULL while there is no such file */
    note_written(l, out);
    TDM_TRY(note_beside(l, out, err));
    TDM_TRY(note_beside(l, target ? target : out, err));
done:
    free(target);
    return st;
}

static bool is_written(const list *l, const struct stat *info)
{
    for (size_t i = 0; i < l->n_written; i++)
        if (is_same(l->written[i], info))
            return true;
    return false;
}

/* ---- files ---- */

/* The first bytes tell how a regular file is compressed; to read them shows that it can be read. */
static tdm_status look_into(tdm_input *input, tdm_err *err)
{
    tdm_status st = TDM_OK;
    unsigned char first[4];
    const size_t n = input->size < sizeof first ? (size_t)input->size : sizeof first;
    const tdm_codec promised = tdm_codec_of_name(input->path);
    const int fd = open(input->path, O_RDONLY | O_CLOEXEC);
    TDM_REQUIRE(fd >= 0, TDM_ENOINPUT, "%s: %s", input->path, strerror(errno));
    st = tdm_file_read(fd, first, n, 0, err);
    if (st != TDM_OK) {
        st = tdm_context(err, st, "%s", input->path);
        goto done;
    }
    input->codec = tdm_codec_of_bytes(first, n);
    TDM_REQUIRE(promised == TDM_PLAIN || input->codec == promised, TDM_EFORMAT,
                "%s: is no %s data, though its name says so", input->path, tdm_codec_name(promised));
done:
    if (fd >= 0)
        close(fd);
    return st;
}

/* Append a file; info is NULL for stdin. */
static tdm_status add_file(list *l, const char *path, const struct stat *info, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_inputs *inputs = l->inputs;
    tdm_input input = {.codec = tdm_codec_of_name(path), .path = strdup(path)};
    TDM_REQUIRE(input.path, TDM_ENOMEM, "the name of an input");
    input.is_regular = info && S_ISREG(info->st_mode);
    if (input.is_regular) {
        input.size = (uint64_t)info->st_size;
        input.mtime = (int64_t)info->st_mtim.tv_sec * 1000000000 + info->st_mtim.tv_nsec;
        TDM_TRY(look_into(&input, err));
    }
    if (inputs->n == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 16;
        tdm_input *grown = realloc(inputs->items, cap * sizeof *grown);
        TDM_REQUIRE(grown, TDM_ENOMEM, "a list of %zu inputs", cap);
        inputs->items = grown;
        l->cap = cap;
    }
    inputs->items[inputs->n++] = input;
    input.path = NULL;
done:
    free(input.path);
    return st;
}

/* ---- folders ---- */

static tdm_status add_below(list *l, const folder *here, tdm_err *err);

static tdm_status enter_folder(list *l, const folder *above, const char *path, const struct stat *info,
                               tdm_err *err)
{
    const folder here = {above, path, {info->st_dev, info->st_ino}};
    for (const folder *f = above; f; f = f->above)
        if (is_same(f->id, info))
            return tdm_fail(err, TDM_ENOINPUT, "%s: is a link to a folder that it is in", path);
    return add_below(l, &here, err);
}

static tdm_status add_entry(list *l, const folder *here, const char *name, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf path = {0};
    struct stat info;
    const char *slash = ends_with(here->path, "/") ? "" : "/";
    if (name[0] == '.')
        return TDM_OK;
    TDM_TRY(tdm_buf_printf(&path, err, "%s%s%s", here->path, slash, name));
    const bool is_records = ends_with(name, ".jsonl") || ends_with(name, ".jsonl.gz") ||
                            ends_with(name, ".jsonl.zst");
    const bool is_there = stat(path.p, &info) == 0;
    TDM_REQUIRE(is_there || !is_records, TDM_ENOINPUT, "%s: %s", path.p, strerror(errno));
    if (is_there && S_ISDIR(info.st_mode) && !ends_with(name, ".job"))
        TDM_TRY(enter_folder(l, here, path.p, &info, err));
    else if (!is_there || !is_records || !S_ISREG(info.st_mode))
        goto done;
    else if (!is_written(l, &info))
        TDM_TRY(add_file(l, path.p, &info, err));
    else
        TDM_REQUIRE(l->out_is_ours, TDM_EARG,
                    "%s: is among the inputs, and results would take its place", path.p);
done:
    tdm_buf_free(&path);
    return st;
}

static tdm_status add_below(list *l, const folder *here, tdm_err *err)
{
    tdm_status st = TDM_OK;
    DIR *dir = opendir(here->path);
    TDM_REQUIRE(dir, TDM_ENOINPUT, "%s: %s", here->path, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        TDM_REQUIRE(entry || errno == 0, TDM_EIO, "%s: %s", here->path, strerror(errno));
        if (!entry)
            break;
        TDM_TRY(add_entry(l, here, entry->d_name, err));
    }
done:
    if (dir)
        closedir(dir);
    return st;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const tdm_input *)a)->path, ((const tdm_input *)b)->path);
}

/* ---- operands ---- */

static tdm_status add_operand(list *l, const char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    const size_t before = l->inputs->n;
    if (!strcmp(path, "-")) {
        TDM_REQUIRE(!l->has_stdin, TDM_EARG, "stdin (\"-\") can be read only once");
        l->has_stdin = true;
        return add_file(l, path, NULL, err);
    }
    TDM_REQUIRE(stat(path, &info) == 0 && access(path, R_OK) == 0, TDM_ENOINPUT, "%s: %s", path,
                strerror(errno));
    TDM_REQUIRE(!is_written(l, &info), TDM_EARG, "%s: is input and output at once", path);
    if (!S_ISDIR(info.st_mode))
        return add_file(l, path, &info, err);
    TDM_TRY(enter_folder(l, NULL, path, &info, err));
    TDM_REQUIRE(l->inputs->n > before, TDM_ENOINPUT,
                "%s: a folder without .jsonl, .jsonl.gz or .jsonl.zst files", path);
    qsort(l->inputs->items + before, l->inputs->n - before, sizeof *l->inputs->items, by_path);
done:
    return st;
}

tdm_status tdm_inputs_list(const char *const *operands, size_t n, const char *out, tdm_inputs *inputs,
                           tdm_err *err)
{
    static const char *const STDIN_ALONE[] = {"-"};
    tdm_status st = TDM_OK;
    list l = {.inputs = inputs};
    bool all_known = true;
    *inputs = (tdm_inputs){0};
    if (n == 0) {
        operands = STDIN_ALONE;
        n = 1;
    }
    if (out && strcmp(out, "-") != 0)
        TDM_TRY(note_out(&l, out, err));
    for (size_t i = 0; i < n; i++)
        TDM_TRY(add_operand(&l, operands[i], err));
    for (size_t i = 0; i < inputs->n; i++) {
        inputs->bytes += inputs->items[i].size;
        all_known = all_known && inputs->items[i].is_regular;
    }
    if (!all_known)
        inputs->bytes = 0;
done:
    if (st != TDM_OK)
        tdm_inputs_free(inputs);
    return st;
}

void tdm_inputs_free(tdm_inputs *inputs)
{
    for (size_t i = 0; i < inputs->n; i++)
        free(inputs->items[i].path);
    free(inputs->items);
    *inputs = (tdm_inputs){0};
}

/* ---- one file ---- */

bool tdm_input_is_seekable(const tdm_input *input)
{
    return input->is_regular && input->codec == TDM_PLAIN;
}

uint64_t tdm_input_chunks(const tdm_input *input, uint64_t chunk_bytes)
{
    if (!tdm_input_is_seekable(input))
        return TDM_CHUNKS_UNKNOWN;
    return input->size / chunk_bytes + (input->size % chunk_bytes != 0);
}

/* Add n bytes from `at` on to a hash. */
static tdm_status hash_end(const char *path, int fd, uint64_t at, unsigned char *buf, size_t n,
                           XXH3_state_t *state, tdm_err *err)
{
    if (tdm_file_read(fd, buf, n, at, err) != TDM_OK)
        return tdm_context(err, TDM_EIO, "%s", path);
    XXH3_64bits_update(state, buf, n);
    return TDM_OK;
}

tdm_status tdm_input_hash_ends(const tdm_input *input, uint64_t *hash, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = input->size < END_BYTES ? (size_t)input->size : END_BYTES;
    unsigned char *buf = malloc(END_BYTES);
    XXH3_state_t *state = XXH3_createState();
    const int fd = open(input->path, O_RDONLY | O_CLOEXEC);
    TDM_REQUIRE(fd >= 0, TDM_ENOINPUT, "%s: %s", input->path, strerror(errno));
    TDM_REQUIRE(buf && state, TDM_ENOMEM, "a buffer of %d bytes", END_BYTES);
    XXH3_64bits_reset(state);
    TDM_TRY(hash_end(input->path, fd, 0, buf, n, state, err));
    TDM_TRY(hash_end(input->path, fd, input->size - n, buf, n, state, err));
    *hash = XXH3_64bits_digest(state);
done:
    if (fd >= 0)
        close(fd);
    XXH3_freeState(state);
    free(buf);
    return st;
}
