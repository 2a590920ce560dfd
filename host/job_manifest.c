#include "host/job_state.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/readfile.h"

#define MOST_BYTES ((uint64_t)1 << 30)
enum { MOST_VALUES = 64 << 20 };

/* ---- building ---- */

/* A time as a string: JSON's numbers do not hold nanoseconds. */
static tdm_status put_time(tdm_buf *out, int64_t nanoseconds, tdm_err *err)
{
    const int64_t below = (nanoseconds % 1000000000 + 1000000000) % 1000000000;
    const time_t seconds = (time_t)((nanoseconds - below) / 1000000000);
    struct tm t;
    char text[64] = "?";
    if (gmtime_r(&seconds, &t))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
    return tdm_buf_printf(out, err, "\"%s.%09" PRId64 "Z\"", text, below);
}

static tdm_status put_chunks(tdm_buf *out, uint64_t n, tdm_err *err)
{
    return n == TDM_CHUNKS_UNKNOWN ? tdm_buf_printf(out, err, "\"chunks\": null")
                                   : tdm_buf_printf(out, err, "\"chunks\": %" PRIu64, n);
}

static tdm_status put_input(tdm_buf *out, const tdm_input *input, uint64_t n_chunks, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t hash = 0;
    TDM_TRY(tdm_buf_printf(out, err, "{\"path\": "));
    TDM_TRY(tdm_json_put_string(out, input->path, strlen(input->path), err));
    if (input->is_regular) {
        TDM_TRY(tdm_input_hash_ends(input, &hash, err));
        TDM_TRY(tdm_buf_printf(out, err, ", \"size\": %" PRIu64 ", \"mtime\": ", input->size));
        TDM_TRY(put_time(out, input->mtime, err));
        TDM_TRY(tdm_buf_printf(out, err, ", \"ends\": \"%016" PRIx64 "\"", hash));
    }
    TDM_TRY(tdm_buf_printf(out, err, ", "));
    TDM_TRY(put_chunks(out, n_chunks, err));
    TDM_TRY(tdm_buf_printf(out, err, "}"));
done:
    return st;
}

static tdm_status put_inputs(tdm_buf *out, const tdm_job_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!o->inputs) {
        TDM_TRY(tdm_buf_printf(out, err, ",\n "));
        st = put_chunks(out, o->n_chunks[0], err);
        goto done;
    }
    TDM_TRY(tdm_buf_printf(out, err, ",\n \"inputs\": ["));
    for (size_t i = 0; i < o->inputs->n; i++) {
        TDM_TRY(tdm_check_stop(o->stop, err));
        TDM_TRY(tdm_buf_printf(out, err, "%s\n  ", i ? "," : ""));
        TDM_TRY(put_input(out, &o->inputs->items[i], o->n_chunks[i], err));
    }
    TDM_TRY(tdm_buf_printf(out, err, "]"));
done:
    return st;
}

/* ---- the model's files ---- */

static bool ends(const char *text, const char *with)
{
    const size_t n = strlen(text), m = strlen(with);
    return n >= m && !strcmp(text + n - m, with);
}

static int is_model_file(const struct dirent *e)
{
    static const char *const NAMES[] = {"config.json", "merges.txt", "vocab.bpe", "vocab.json",
                                        "encoder.json"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (!strcmp(e->d_name, NAMES[i]))
            return 1;
    return ends(e->d_name, ".safetensors") || ends(e->d_name, ".safetensors.index.json");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* The hash that a list of files of a former run has for a file of this name, size and time, or NULL. */
static const char *known_hash(const cJSON *before, const char *name, uint64_t size,
                              const char *mtime)
{
    const cJSON *file = NULL;
    cJSON_ArrayForEach(file, before)
    {
        const cJSON *its_name = cJSON_GetObjectItemCaseSensitive(file, "file");
        const cJSON *its_size = cJSON_GetObjectItemCaseSensitive(file, "size");
        const cJSON *its_time = cJSON_GetObjectItemCaseSensitive(file, "mtime");
        const cJSON *hash = cJSON_GetObjectItemCaseSensitive(file, "sha256");
        if (cJSON_IsString(its_name) && cJSON_IsNumber(its_size) && cJSON_IsString(its_time) &&
            cJSON_IsString(hash) && !strcmp(its_name->valuestring, name) &&
            its_size->valuedouble == (double)size && !strcmp(its_time->valuestring, mtime) &&
            strlen(hash->valuestring) == JOB_SHA_TEXT - 1)
            return hash->valuestring;
    }
    return NULL;
}

static tdm_status put_model_file(tdm_buf *out, const char *folder, const char *name,
                                 const tdm_job_options *o, const cJSON *before, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf time = {0};
    char hash[JOB_SHA_TEXT];
    char *path = job_path(folder, name);
    TDM_REQUIRE(path, TDM_ENOMEM, "the name of a model file");
    const job_stamp stamp = job_stamp_of(path);
    TDM_TRY(put_time(&time, stamp.mtime, err));
    time.p[time.len - 1] = 0; /* between the quotes */
    const char *known = known_hash(before, name, stamp.size, time.p + 1);
    if (!known)
        TDM_TRY(job_sha256(path, o->stop, hash, err));
    TDM_TRY(tdm_buf_printf(out, err, "{\"file\": "));
    TDM_TRY(tdm_json_put_string(out, name, strlen(name), err));
    TDM_TRY(tdm_buf_printf(out, err,
                           ", \"size\": %" PRIu64 ", \"mtime\": %s\", \"sha256\": \"%s\"}",
                           stamp.size, time.p, known ? known : hash));
done:
    tdm_buf_free(&time);
    free(path);
    return st;
}

/* The files of a model folder, as the list `key`. */
static tdm_status put_model(tdm_buf *out, const char *key, const char *folder, const tdm_job_options *o,
                            const cJSON *before, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct dirent **names = NULL;
    const cJSON *known = cJSON_GetObjectItemCaseSensitive(before, key);
    int n = scandir(folder, &names, is_model_file, by_name);
    TDM_REQUIRE(n >= 0, TDM_ENOINPUT, "%s: cannot be listed: %s", folder, strerror(errno));
    TDM_TRY(tdm_buf_printf(out, err, ",\n \"%s\": [", key));
    for (int i = 0; i < n; i++) {
        TDM_TRY(tdm_buf_printf(out, err, "%s\n  ", i ? "," : ""));
        TDM_TRY(put_model_file(out, folder, names[i]->d_name, o, known, err));
    }
    TDM_TRY(tdm_buf_printf(out, err, "]"));
done:
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return st;
}

tdm_status job_manifest_build(const tdm_job_options *o, const cJSON *before, tdm_buf *out,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json *doc = NULL;
    const tdm_codec codec = tdm_codec_of_name(o->out);
    out->len = 0;
    TDM_TRY(tdm_buf_printf(out, err, "{\"tandem\": \"%s\",\n \"command\": ", TDM_VERSION));
    TDM_TRY(tdm_json_put_string(out, o->command, strlen(o->command), err));
    TDM_TRY(tdm_buf_printf(out, err, ",\n \"settings\": %s,\n \"engine\": %s",
                           o->settings ? o->settings : "{}", o->engine ? o->engine : "{}"));
    if (codec != TDM_PLAIN)
        TDM_TRY(tdm_buf_printf(out, err, ",\n \"codec\": \"%s\"", tdm_codec_library(codec)));
    if (o->model)
        TDM_TRY(put_model(out, "model", o->model, o, before, err));
    if (o->observer)
        TDM_TRY(put_model(out, "observer", o->observer, o, before, err));
    TDM_TRY(put_inputs(out, o, err));
    TDM_TRY(tdm_buf_printf(out, err, "}\n"));
    st = tdm_json_parse(out->p, out->len, MOST_VALUES, &doc, NULL, err);
    if (st == TDM_EFORMAT)
        st = tdm_fail(err, TDM_EARG, "the settings of the job are no JSON objects");
done:
    tdm_json_close(doc);
    return st;
}

/* ---- the manifest in the folder ---- */

tdm_status job_manifest_load(const char *path, tdm_buf *text, tdm_json **doc, tdm_err *err)
{
    text->len = 0;
    tdm_status st = tdm_file_load(path, MOST_BYTES, text, err);
    if (st != TDM_OK)
        return st;
    st = tdm_json_parse(text->p, text->len, MOST_VALUES, doc, NULL, err);
    return st == TDM_OK ? st
                        : tdm_context(err, st, "%s: damaged (--restart discards the job)", path);
}

/* On a file system where a file has only one name, a lock decides who is first. */
static tdm_status name_locked(const tdm_job *j, const char *own, bool *taken, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *path = j->names.manifest;
    TDM_TRY(job_lock_name(j->lock, &j->names, true, err));
    *taken = access(path, F_OK) == 0;
    if (!*taken && rename(own, path) != 0)
        st = tdm_fail(err, TDM_EIO, "%s: naming it: %s", path, strerror(errno));
    (void)job_lock_name(j->lock, &j->names, false, NULL); /* else it goes with the process */
done:
    return st;
}

/* Write the manifest under a name of this rank alone and then give it the one that counts, which
 * only the first of several processes can: *taken. */
static tdm_status publish(const tdm_job *j, const tdm_buf *text, bool *taken, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *path = j->names.manifest;
    char *own = NULL;
    *taken = false;
    TDM_REQUIRE(asprintf(&own, "%s.%" PRId64, path, j->o.rank.index) >= 0, TDM_ENOMEM,
                "the name of a manifest");
    TDM_TRY(job_write_file(own, text->p, text->len, err));
    if (link(own, path) == 0)
        goto done;
    *taken = errno == EEXIST;
    if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS || errno == EMLINK)
        st = name_locked(j, own, taken, err);
    else
        TDM_REQUIRE(*taken, TDM_EIO, "%s: naming it: %s", path, strerror(errno));
done:
    if (own)
        unlink(own);
    free(own);
    return st;
}

tdm_status job_manifest_settle(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *path = j->names.manifest;
    tdm_buf own = {0};
    tdm_json *before = NULL;
    bool exists = access(path, F_OK) == 0;
    if (exists)
        TDM_TRY(job_manifest_load(path, &j->manifest, &before, err));
    TDM_TRY(job_manifest_build(&j->o, tdm_json_root(before), &own, err));
    if (!exists)
        TDM_TRY(publish(j, &own, &exists, err));
    if (!before)
        TDM_TRY(job_manifest_load(path, &j->manifest, &before, err));
    if (exists)
        TDM_TRY(job_diff(own.p, own.len, j->manifest.p, j->manifest.len, j->o.inputs, false,
                         j->names.folder, err));
    j->id = XXH3_64bits(j->manifest.p, j->manifest.len);
done:
    tdm_json_close(before);
    tdm_buf_free(&own);
    return st;
}
