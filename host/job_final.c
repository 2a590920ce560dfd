/* OUT.manifest.json, which stays: what the job was, what came of it, and whether that is still
 * there. */
#include "host/job_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define X(name, text) +1
enum { FAULTS = 0 TDM_FAULT_MAP(X) };
#undef X

/* ---- writing ---- */

tdm_status job_counts_put(tdm_buf *out, const tdm_counts *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *comma = "";
    TDM_TRY(tdm_buf_printf(out, err,
                           "{\"in\": %" PRId64 ", \"ok\": %" PRId64 ", \"bad\": %" PRId64
                           ", \"skipped\": %" PRId64 ", \"by_class\": {",
                           c->ok + c->bad + c->skipped, c->ok, c->bad, c->skipped));
    for (int i = 0; i < FAULTS; i++) {
        if (c->by_fault[i] == 0)
            continue;
        TDM_TRY(tdm_buf_printf(out, err, "%s\"%s\": %" PRId64, comma, tdm_fault_name((tdm_fault)i),
                               c->by_fault[i]));
        comma = ", ";
    }
    TDM_TRY(tdm_buf_printf(out, err, "}}"));
done:
    return st;
}

static tdm_status put_made(tdm_buf *out, const char *name, const job_made *made, tdm_err *err)
{
    return tdm_buf_printf(out, err, ",\n \"%s\": {\"bytes\": %" PRIu64 ", \"sha256\": \"%s\"}",
                          name, made->bytes, made->sha256);
}

/* Nothing in it depends on when, how often and by how many processes the job was done. */
tdm_status job_final_put(const tdm_job *j, const job_made *data, const job_made *errors,
                         tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "{\"complete\": true,\n \"counts\": "));
    TDM_TRY(job_counts_put(out, &j->totals.counts, err));
    TDM_TRY(tdm_buf_printf(out, err, ",\n \"tokens\": %" PRIu64 ",\n \"chunks\": %" PRIu64,
                           j->totals.tokens, j->totals.chunks_done));
    TDM_TRY(put_made(out, "out", data, err));
    if (errors->bytes > 0)
        TDM_TRY(put_made(out, "errors", errors, err));
    TDM_TRY(tdm_buf_printf(out, err, ",\n \"job\": "));
    TDM_TRY(tdm_buf_put(out, j->manifest.p, j->manifest.len - 1, err)); /* its newline comes last */
    TDM_TRY(tdm_buf_put(out, "}\n", 2, err));
done:
    return st;
}

/* ---- reading ---- */

uint64_t job_number(const cJSON *object, const char *key, uint64_t otherwise)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const bool fits = cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 0x1p53;
    return fits ? (uint64_t)item->valuedouble : otherwise;
}

static void read_totals(const cJSON *manifest, tdm_job_totals *t)
{
    const cJSON *counts = cJSON_GetObjectItemCaseSensitive(manifest, "counts");
    const cJSON *classes = cJSON_GetObjectItemCaseSensitive(counts, "by_class");
    *t = (tdm_job_totals){
        .counts = {.ok = (int64_t)job_number(counts, "ok", 0),
                   .bad = (int64_t)job_number(counts, "bad", 0),
                   .skipped = (int64_t)job_number(counts, "skipped", 0)},
        .tokens = job_number(manifest, "tokens", 0),
        .bytes = job_number(cJSON_GetObjectItemCaseSensitive(manifest, "out"), "bytes", 0),
        .chunks_done = job_number(manifest, "chunks", 0),
    };
    for (int i = 0; i < FAULTS; i++)
        t->counts.by_fault[i] = (int64_t)job_number(classes, tdm_fault_name((tdm_fault)i), 0);
}

/* Whether OUT is what its manifest says. While there is a job, a crash may have come between the
 * two: then the bytes decide. */
static tdm_status check_out(tdm_job *j, const cJSON *manifest, bool has_job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cJSON *out = cJSON_GetObjectItemCaseSensitive(manifest, "out");
    const cJSON *sha = cJSON_GetObjectItemCaseSensitive(out, "sha256");
    const uint64_t bytes = job_number(out, "bytes", UINT64_MAX);
    char hash[JOB_SHA_TEXT] = "";
    struct stat info;
    TDM_REQUIRE(cJSON_IsString(sha) && bytes != UINT64_MAX, TDM_EFORMAT,
                "%s: damaged (--restart discards it)", j->names.final);
    if (stat(j->names.out, &info) != 0)
        goto done;
    const bool same_size = (uint64_t)info.st_size == bytes;
    TDM_REQUIRE(same_size || has_job, TDM_EMISMATCH,
                "%s: has %" PRId64 " bytes, and %" PRIu64
                " when it was written (--restart replaces it)",
                j->names.out, (int64_t)info.st_size, bytes);
    if (same_size && has_job)
        TDM_TRY(job_sha256(j->names.out, j->o.stop, hash, err));
    j->is_complete = same_size && (!has_job || !strcmp(hash, sha->valuestring));
done:
    return st;
}

/* "job" in the manifest: the member, whose source bytes are compared. NULL: not there. */
static const tdm_json_member *job_member(const tdm_json *doc)
{
    size_t n = 0;
    const tdm_json_member *members = tdm_json_members(doc, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(members[i].key, "job"))
            return &members[i];
    return NULL;
}

tdm_status job_final_check(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0}, own = {0};
    tdm_json *doc = NULL;
    if (access(j->names.final, F_OK) != 0)
        goto done;
    TDM_TRY(job_manifest_load(j->names.final, &text, &doc, err));
    const tdm_json_member *job = job_member(doc);
    TDM_REQUIRE(job, TDM_EFORMAT, "%s: damaged (--restart discards it)", j->names.final);
    TDM_TRY(job_manifest_build(&j->o, job->value, &own, err));
    TDM_TRY(job_diff(own.p, own.len, text.p + job->value_at, job->value_len, j->o.inputs, true,
                     j->names.final, err));
    TDM_TRY(check_out(j, tdm_json_root(doc), access(j->names.manifest, F_OK) == 0, err));
    if (j->is_complete)
        read_totals(tdm_json_root(doc), &j->totals);
done:
    tdm_json_close(doc);
    tdm_buf_free(&own);
    tdm_buf_free(&text);
    return st;
}

tdm_status job_final_totals(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    tdm_json *doc = NULL;
    TDM_TRY(job_manifest_load(j->names.final, &text, &doc, err));
    read_totals(tdm_json_root(doc), &j->totals);
done:
    tdm_json_close(doc);
    tdm_buf_free(&text);
    return st;
}
