/* The end of a job: the parts in the order of the chunks, each checked against the hash that its
 * journal has.
 *
 * Everything is made under a name in OUT.job and renamed. OUT is last, and only when the other two
 * are on the disk; OUT.job goes when OUT is. A crash in between leaves all parts where they are,
 * and the next run joins them again. */
#include "host/job_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/readfile.h"

enum { PIECE = 1 << 20 };

/* Either the results or the error records, being read in order. */
typedef struct {
    const tdm_job *job;
    bool of_errors;
    int from;      /* the part that is open, -1: none */
    uint32_t rank; /* whose */
    int to;        /* -1: only checked */
    char *path;    /* borrowed; of to */
    job_made made;
    EVP_MD_CTX *sha;
    XXH3_state_t *xxh;
    char *buf; /* [PIECE] */
} joiner;

static void joiner_close(joiner *w)
{
    if (w->from >= 0)
        close(w->from);
    if (w->to >= 0)
        close(w->to);
    EVP_MD_CTX_free(w->sha);
    XXH3_freeState(w->xxh);
    free(w->buf);
}

static tdm_status joiner_open(joiner *w, const tdm_job *job, bool of_errors, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *w = (joiner){.job = job, .of_errors = of_errors, .from = -1, .to = -1};
    w->sha = EVP_MD_CTX_new();
    w->xxh = XXH3_createState();
    w->buf = malloc(PIECE);
    TDM_REQUIRE(w->sha && w->xxh && w->buf && EVP_DigestInit_ex(w->sha, EVP_sha256(), NULL),
                TDM_ENOMEM, "joining the parts");
done:
    return st;
}

/* Hash bytes that OUT is to have, and write them where they are not there already. */
static tdm_status take(joiner *w, const char *p, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(EVP_DigestUpdate(w->sha, p, len), TDM_EINTERNAL, "SHA-256");
    if (w->to >= 0)
        TDM_TRY(job_write(w->to, w->path, p, len, w->made.bytes, err));
    w->made.bytes += len;
done:
    return st;
}

static tdm_status open_part(joiner *w, uint32_t rank, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t size;
    if (w->from >= 0 && w->rank == rank)
        goto done;
    char *path = job_part(w->job->names.folder, rank, w->of_errors ? "errors" : "data");
    TDM_REQUIRE(path, TDM_ENOMEM, "the name of a part");
    if (w->from >= 0)
        close(w->from);
    st = tdm_file_open(path, &w->from, &size, err);
    w->rank = rank;
    free(path);
done:
    return st;
}

static tdm_status damaged(const joiner *w, const job_entry *e, tdm_err *err)
{
    const tdm_job *j = w->job;
    return tdm_fail(err, TDM_EIO,
                    "%s/%" PRIu32 ".%s: chunk %" PRIu64 " of %s, at byte %" PRIu64
                    ", is not what was written; remove %" PRIu32
                    ".journal there and run again to do that rank's part once more",
                    j->names.folder, e->rank, w->of_errors ? "errors" : "data", e->number,
                    j->o.inputs ? j->o.inputs->items[e->file].path : "the documents",
                    w->of_errors ? e->errors_at : e->data_at, e->rank);
}

static tdm_status take_chunk(joiner *w, const job_entry *e, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t at = w->of_errors ? e->errors_at : e->data_at;
    const uint64_t len = w->of_errors ? e->errors_len : e->data_len, end = at + len;
    const XXH128_hash_t want = w->of_errors ? e->errors_hash : e->data_hash;
    if (len == 0)
        goto done;
    TDM_TRY(open_part(w, e->rank, err));
    XXH3_128bits_reset(w->xxh);
    while (at < end) {
        const size_t n = end - at < PIECE ? (size_t)(end - at) : PIECE;
        TDM_TRY(tdm_check_stop(w->job->o.stop, err));
        st = tdm_file_read(w->from, w->buf, n, at, err);
        if (st != TDM_OK) {
            st = st == TDM_EFORMAT ? damaged(w, e, err)
                                   : tdm_context(err, st, "%s", w->job->names.folder);
            goto done;
        }
        XXH3_128bits_update(w->xxh, w->buf, n);
        TDM_TRY(take(w, w->buf, n, err));
        at += n;
    }
    if (!XXH128_isEqual(XXH3_128bits_digest(w->xxh), want))
        st = damaged(w, e, err);
done:
    return st;
}

static tdm_status take_all(joiner *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const job_index *x = &w->job->index;
    for (size_t i = 0; i < x->n; i++)
        TDM_TRY(take_chunk(w, &x->entries[i], err));
done:
    return st;
}

/* A file of results that is compressed has one member or frame at least. */
static tdm_status take_nothing(joiner *w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf none = {0};
    TDM_TRY(tdm_compress(tdm_codec_of_name(w->job->o.out), "", 0, &none, err));
    TDM_TRY(take(w, none.p, none.len, err));
done:
    tdm_buf_free(&none);
    return st;
}

static tdm_status copy_parts(joiner *w, char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    w->path = path;
    w->to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (w->to < 0) {
        st = job_write_failed(path, errno, err);
        goto done;
    }
    TDM_TRY(take_all(w, err));
    if (w->made.bytes == 0 && !w->of_errors)
        TDM_TRY(take_nothing(w, err));
    if (fsync(w->to) != 0) {
        st = job_write_failed(path, errno, err);
        goto done;
    }
    TDM_TRY(job_close_file(&w->to, path, err));
done:
    if (st != TDM_OK)
        unlink(path); /* where the disk is full, its space helps */
    return st;
}

/* The rank whose data file is OUT already: all chunks in order, and nothing else. */
static bool find_whole(const tdm_job *j, uint32_t *rank)
{
    const job_index *x = &j->index;
    uint64_t at = 0;
    for (size_t i = 0; i < x->n; i++) {
        const job_entry *e = &x->entries[i];
        if (e->rank != x->entries[0].rank || e->data_at != at)
            return false;
        at += e->data_len;
    }
    char *path = at > 0 ? job_part(j->names.folder, x->entries[0].rank, "data") : NULL;
    const bool whole = path && job_stamp_of(path).size == at;
    *rank = x->n ? x->entries[0].rank : 0;
    free(path);
    return whole;
}

/* Check the one part that is all of OUT and give it a second name; *done is false on a file system
 * where a file has only one. The first name goes with OUT.job, so that at no time the bytes are
 * without one. */
static tdm_status link_part(joiner *w, uint32_t rank, const char *to, bool *done, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char *part = job_part(w->job->names.folder, rank, "data");
    TDM_REQUIRE(part, TDM_ENOMEM, "the name of a part");
    *done = link(part, to) == 0;
    if (*done)
        TDM_TRY(take_all(w, err));
done:
    free(part);
    return st;
}

/* Make FOLDER/name of the results or of the errors. Its length and hash stay in w. */
static tdm_status make(joiner *w, char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint32_t rank = 0;
    bool linked = false;
    TDM_TRY(job_remove(path, err)); /* of a run that ended here; it may be a second name of a part */
    if (!w->of_errors && find_whole(w->job, &rank))
        TDM_TRY(link_part(w, rank, path, &linked, err));
    if (!linked)
        TDM_TRY(copy_parts(w, path, err));
    job_sha_text(w->sha, w->made.sha256);
done:
    return st;
}

/* ---- all together ---- */

typedef struct {
    char *data, *errors, *manifest; /* in OUT.job */
} names_made;

static tdm_status rename_to(const char *from, const char *to, tdm_err *err)
{
    if (rename(from, to) == 0)
        return TDM_OK;
    return errno == ENOSPC || errno == EDQUOT
               ? job_write_failed(to, errno, err)
               : tdm_fail(err, TDM_EIO, "%s: renaming %s to it: %s", to, from, strerror(errno));
}

static tdm_status publish(const job_names *n, const names_made *m, bool has_errors, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (has_errors)
        TDM_TRY(rename_to(m->errors, n->errors, err));
    else
        TDM_TRY(job_remove(n->errors, err)); /* of an earlier job */
    TDM_TRY(rename_to(m->manifest, n->final, err));
    TDM_TRY(job_sync_folder(n->parent, err));
    TDM_TRY(rename_to(m->data, n->out, err));
    TDM_TRY(job_sync_folder(n->parent, err));
done:
    return st;
}

static tdm_status join(tdm_job *j, const names_made *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    joiner data = {.from = -1, .to = -1}, errors = data;
    TDM_TRY(joiner_open(&data, j, false, err));
    TDM_TRY(joiner_open(&errors, j, true, err));
    TDM_TRY(make(&data, m->data, err));
    TDM_TRY(make(&errors, m->errors, err));
    TDM_TRY(job_final_put(j, &data.made, &errors.made, &text, err));
    TDM_TRY(job_write_file(m->manifest, text.p, text.len, err));
    TDM_TRY(publish(&j->names, m, errors.made.bytes > 0, err));
done:
    joiner_close(&data);
    joiner_close(&errors);
    tdm_buf_free(&text);
    return st;
}

static void close_parts(tdm_job *j)
{
    for (int i = 0; i < JOB_FILES; i++) {
        if (j->fd[i] >= 0)
            close(j->fd[i]);
        j->fd[i] = -1;
    }
}

/* All of it while it is locked: what is in a folder that is not might be the next job's. */
static tdm_status remove_folder(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    close_parts(j);
    TDM_TRY(job_clear_folder(&j->names, true, err));
    close(j->lock);
    j->lock = -1;
    TDM_TRY(job_remove_folder(&j->names, err)); /* NFS keeps it as long as a file in it is open */
    TDM_TRY(job_sync_folder(j->names.parent, err));
done:
    return st;
}

tdm_status job_join(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    names_made m = {.data = job_path(j->names.folder, "joined"),
                    .errors = job_path(j->names.folder, "joined.errors"),
                    .manifest = job_path(j->names.folder, "joined.manifest")};
    TDM_REQUIRE(m.data && m.errors && m.manifest, TDM_ENOMEM, "the names of what is joined");
    TDM_TRY(join(j, &m, err));
    TDM_TRY(remove_folder(j, err));
done:
    free(m.data);
    free(m.errors);
    free(m.manifest);
    return st;
}
