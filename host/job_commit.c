/* Committing: what is handed over is appended to a batch in memory; a thread writes one batch while
 * the other one fills. So the slower the disk, the more chunks share a round of fdatasync. */
#include "host/job_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of results that a kill can cost: what a fast device makes while a slow disk syncs. */
enum { MOST_PENDING = 8 << 20 };

static size_t batch_bytes(const job_batch *b)
{
    return b->data.len + b->errors.len + b->journal.len;
}

static void batch_empty(job_batch *b)
{
    b->data.len = b->errors.len = b->journal.len = 0;
    b->totals = (tdm_job_totals){0};
}

/* ---- the thread ---- */

static tdm_status append(tdm_job *j, int which, const tdm_buf *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (b->len == 0)
        goto done;
    TDM_TRY(job_write(j->fd[which], j->path[which], b->p, b->len, j->at[which], err));
    if (fdatasync(j->fd[which]) != 0) {
        st = job_write_failed(j->path[which], errno, err);
        goto done;
    }
    j->at[which] += b->len;
done:
    return st;
}

/* The journal names what is on the disk already. After a failure nothing is written any more:
 * whether a second fsync that succeeds means anything, nobody knows. */
static tdm_status write_batch(tdm_job *j, const job_batch *b, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(append(j, JOB_DATA, &b->data, err));
    TDM_TRY(append(j, JOB_ERRORS, &b->errors, err));
    TDM_TRY(append(j, JOB_JOURNAL, &b->journal, err));
done:
    return st;
}

static void add_totals(tdm_job_totals *to, const tdm_job_totals *from)
{
    job_counts_add(&to->counts, &from->counts);
    to->tokens += from->tokens;
    to->bytes += from->bytes;
    to->chunks_done += from->chunks_done;
    to->input_done += from->input_done;
}

static void *write_batches(void *arg)
{
    tdm_job *j = arg;
    pthread_mutex_lock(&j->mutex);
    for (;;) {
        while (!j->quit && j->batch[j->filling].totals.chunks_done == 0)
            pthread_cond_wait(&j->filled, &j->mutex);
        job_batch *b = &j->batch[j->filling];
        if (b->totals.chunks_done == 0)
            break;
        j->filling = !j->filling;
        j->writing = true;
        const bool fine = j->status == TDM_OK;
        pthread_mutex_unlock(&j->mutex);
        tdm_err err = {0};
        const tdm_status st = fine ? write_batch(j, b, &err) : TDM_OK;
        pthread_mutex_lock(&j->mutex);
        if (st != TDM_OK) {
            j->status = st;
            j->failure = err;
        } else if (fine) {
            add_totals(&j->totals, &b->totals);
        }
        batch_empty(b);
        j->writing = false;
        pthread_cond_broadcast(&j->written);
    }
    pthread_mutex_unlock(&j->mutex);
    return NULL;
}

/* ---- its files ---- */

static tdm_status open_one(tdm_job *j, int which, const char *of, uint64_t end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    j->path[which] = job_part(j->names.folder, (uint32_t)j->o.rank.index, of);
    TDM_REQUIRE(j->path[which], TDM_ENOMEM, "the name of a file of the job");
    const int fd = open(j->path[which], O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0 && (errno == ENOSPC || errno == EDQUOT)) {
        st = job_write_failed(j->path[which], errno, err);
        goto done;
    }
    TDM_REQUIRE(fd >= 0, TDM_ECANTCREATE, "%s: %s", j->path[which], strerror(errno));
    j->fd[which] = fd;
    j->at[which] = end;
    /* What an earlier run did not get into its journal. Durable before anything is written behind
     * it. */
    TDM_REQUIRE(ftruncate(fd, (off_t)end) == 0 && fsync(fd) == 0, TDM_EIO,
                "%s: cutting it to %" PRIu64 " bytes: %s", j->path[which], end, strerror(errno));
done:
    return st;
}

/* The journal is cut first, so that at no time it names what has been cut off the others. */
static tdm_status open_files(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf head = {0};
    TDM_TRY(open_one(j, JOB_JOURNAL, "journal", j->ends.journal, err));
    TDM_TRY(open_one(j, JOB_DATA, "data", j->ends.data, err));
    TDM_TRY(open_one(j, JOB_ERRORS, "errors", j->ends.errors, err));
    if (j->ends.journal == 0) {
        TDM_TRY(job_journal_head(j->id, (uint32_t)j->o.rank.index, &head, err));
        TDM_TRY(append(j, JOB_JOURNAL, &head, err));
    }
    TDM_TRY(job_sync_folder(j->names.folder, err));
done:
    tdm_buf_free(&head);
    return st;
}

/* The thread takes no signals: they would interrupt fdatasync on some file systems. */
static tdm_status start_thread(tdm_job *j, tdm_err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int why = pthread_create(&j->thread, NULL, write_batches, j);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    j->has_thread = why == 0;
    return why == 0 ? TDM_OK : tdm_fail(err, TDM_ENOMEM, "a thread that writes: %s", strerror(why));
}

/* ---- handing over ---- */

tdm_status job_commit_open(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int why = pthread_mutex_init(&j->mutex, NULL);
    TDM_REQUIRE(why == 0, TDM_ENOMEM, "a mutex: %s", strerror(why));
    pthread_cond_init(&j->filled, NULL);
    pthread_cond_init(&j->written, NULL);
    j->has_mutex = true;
done:
    return st;
}

/* Room for the whole chunk in the batch, so that none can get in by half. */
static tdm_status put(tdm_job *j, job_batch *b, const tdm_chunk_result *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t before = b->journal.len;
    TDM_TRY(tdm_buf_reserve(&b->data, r->len, err));
    TDM_TRY(tdm_buf_reserve(&b->errors, r->errors_len, err));
    st = job_journal_line(r, &b->journal, err);
    if (st != TDM_OK) {
        b->journal.len = before;
        goto done;
    }
    tdm_buf_put(&b->data, r->data, r->len, NULL);
    tdm_buf_put(&b->errors, r->errors, r->errors_len, NULL);
    if (r->chunk.is_last && j->index.n_chunks[r->chunk.file] == TDM_CHUNKS_UNKNOWN)
        j->index.n_chunks[r->chunk.file] = r->chunk.number + 1;
    job_counts_add(&b->totals.counts, &r->counts);
    b->totals.tokens += r->tokens;
    b->totals.bytes += r->len;
    b->totals.chunks_done++;
    b->totals.input_done += job_input_share(j, r->chunk.file, r->chunk.number);
done:
    return st;
}

/* With the mutex held: the first failure, in the same words each time. */
static tdm_status earlier_failure(const tdm_job *j, tdm_err *err)
{
    if (j->status != TDM_OK && err)
        *err = j->failure;
    return j->status;
}

/* The first chunk opens the files: a rank without work leaves none. */
static tdm_status start(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (j->has_thread || j->status != TDM_OK)
        goto done;
    TDM_TRY(open_files(j, &j->failure));
    TDM_TRY(start_thread(j, &j->failure));
done:
    j->status = st != TDM_OK ? st : j->status;
    return earlier_failure(j, err);
}

static bool has_room(const tdm_job *j, size_t bytes)
{
    const size_t pending = batch_bytes(&j->batch[0]) + batch_bytes(&j->batch[1]);
    return j->status != TDM_OK || pending == 0 || pending + bytes <= MOST_PENDING;
}

/* With the mutex held. */
static void wait_for_room(tdm_job *j, size_t bytes)
{
    const tdm_job_turns *turns = j->o.turns;
    if (has_room(j, bytes))
        return;
    if (turns)
        turns->waiting(turns->ctx, true);
    while (!has_room(j, bytes))
        pthread_cond_wait(&j->written, &j->mutex);
    if (turns)
        turns->waiting(turns->ctx, false);
}

tdm_status tdm_job_commit(tdm_job *j, const tdm_chunk_result *result, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = result->len + result->errors_len;
    bool locked = false;
    TDM_REQUIRE(result->chunk.file < j->n_files, TDM_EARG, "chunk of file %zu of %zu",
                result->chunk.file, j->n_files);
    TDM_REQUIRE(result->chunk.number < JOB_MOST_CHUNKS, TDM_EARG,
                "chunk %" PRIu64 " of one file, want at most %" PRIu64 "; larger chunks are fewer",
                result->chunk.number + 1, JOB_MOST_CHUNKS);
    pthread_mutex_lock(&j->mutex);
    locked = true;
    TDM_TRY(start(j, err));
    wait_for_room(j, bytes);
    TDM_TRY(earlier_failure(j, err));
    TDM_TRY(put(j, &j->batch[j->filling], result, err));
    pthread_cond_signal(&j->filled);
    if (j->o.turns)
        j->o.turns->committed(j->o.turns->ctx, &result->chunk, &result->counts, result->tokens);
done:
    if (locked)
        pthread_mutex_unlock(&j->mutex);
    return st;
}

tdm_status job_commit_drain(tdm_job *j, tdm_err *err)
{
    pthread_mutex_lock(&j->mutex);
    while (j->has_thread && (j->writing || j->batch[j->filling].totals.chunks_done > 0))
        pthread_cond_wait(&j->written, &j->mutex);
    const tdm_status st = earlier_failure(j, err);
    pthread_mutex_unlock(&j->mutex);
    return st;
}

void job_commit_close(tdm_job *j)
{
    if (j->has_thread) {
        pthread_mutex_lock(&j->mutex);
        j->quit = true;
        pthread_cond_signal(&j->filled);
        pthread_mutex_unlock(&j->mutex);
        pthread_join(j->thread, NULL);
    }
    for (int i = 0; i < JOB_FILES; i++) {
        if (j->fd[i] >= 0)
            close(j->fd[i]); /* all that was written has been synced */
        free(j->path[i]);
    }
    for (int i = 0; i < 2; i++) {
        tdm_buf_free(&j->batch[i].data);
        tdm_buf_free(&j->batch[i].errors);
        tdm_buf_free(&j->batch[i].journal);
    }
    if (j->has_mutex) {
        pthread_mutex_destroy(&j->mutex);
        pthread_cond_destroy(&j->filled);
        pthread_cond_destroy(&j->written);
    }
}

void tdm_job_totals_get(const tdm_job *j, tdm_job_totals *totals)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&j->mutex;
    pthread_mutex_lock(mutex);
    *totals = j->totals;
    totals->chunks_total = job_chunks_total(j->index.n_chunks, j->index.n_files);
    pthread_mutex_unlock(mutex);
}
