#include "host/job_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- which chunks are whose ---- */

/* Stripes: a rank reads and writes some chunks on end, and each rank has enough of them that none
 * is left with much more than another. */
bool tdm_rank_owns(tdm_rank rank, uint64_t first, uint64_t number, uint64_t total)
{
    enum { STRIPES_PER_RANK = 64, LONGEST = 64 };
    const uint64_t count = (uint64_t)rank.count;
    uint64_t length = total == TDM_CHUNKS_UNKNOWN ? 1 : total / (count * STRIPES_PER_RANK);
    length = length < 1 ? 1 : length > LONGEST ? LONGEST : length;
    return (first + number) / length % count == (uint64_t)rank.index;
}

/* Its workers share what a process owns. */
static tdm_rank process_of(const tdm_job *j)
{
    return j->o.turns ? j->o.process : j->o.rank;
}

static bool owns(const tdm_job *j, size_t file, uint64_t number)
{
    const tdm_rank rank = process_of(j);
    if (j->o.n_chunks[file] != TDM_CHUNKS_UNKNOWN)
        return tdm_rank_owns(rank, j->first[file], number, j->total);
    const uint64_t turn = j->o.all_read ? number : j->first[file];
    return turn % (uint64_t)rank.count == (uint64_t)rank.index;
}

static bool is_wanted(void *ctx, size_t file, uint64_t number)
{
    const tdm_job *j = ctx;
    const tdm_job_turns *turns = j->o.turns;
    return file < j->n_files && owns(j, file, number) && !job_index_has(&j->index, file, number) &&
           (!turns || turns->grant(turns->ctx, file, number));
}

static tdm_status pass(void *ctx, const tdm_chunk *chunk, tdm_err *err)
{
    const tdm_job *j = ctx;
    const job_entry *e = job_index_find(&j->index, chunk->file, chunk->number);
    const char *name = j->o.inputs ? j->o.inputs->items[chunk->file].path : "input";
    if (j->o.turns)
        j->o.turns->passed(j->o.turns->ctx);
    if (!e || (e->hash == chunk->hash && e->is_last == chunk->is_last))
        return TDM_OK;
    if (j->o.chunk_bytes == 0)
        return tdm_fail(err, TDM_EMISMATCH,
                        "%s: chunk %" PRIu64 " is not what it was when the job began", name,
                        chunk->number);
    return tdm_fail(err, TDM_EMISMATCH,
                    "%s: chunk %" PRIu64 " (text bytes %" PRIu64 " to %" PRIu64
                    ") is not what it was when the job began",
                    name, chunk->number, chunk->number * j->o.chunk_bytes,
                    (chunk->number + 1) * j->o.chunk_bytes);
}

tdm_chunk_filter tdm_job_filter(tdm_job *j)
{
    return (tdm_chunk_filter){.ctx = j, .is_wanted = is_wanted, .pass = pass};
}

/* A chunk's share of the bytes of a file whose chunks are known. The shares of a file add up to its
 * size. */
uint64_t job_input_share(const tdm_job *j, size_t file, uint64_t number)
{
    const uint64_t n = j->o.n_chunks[file];
    if (!j->o.inputs || n == TDM_CHUNKS_UNKNOWN || number >= n)
        return 0;
    const uint64_t size = j->o.inputs->items[file].size, each = size / n, more = size % n;
    return each + (number < more);
}

/* ---- into the folder ---- */

bool tdm_job_is_for(const char *path)
{
    struct stat info;
    if (!strcmp(path, "-"))
        return false;
    return stat(path, &info) != 0 || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode);
}

bool tdm_job_is_left(const char *path)
{
    job_names n = {0};
    const bool left = job_names_find(&n, path, NULL) == TDM_OK && access(n.folder, F_OK) == 0;
    job_names_free(&n);
    return left;
}

/* Whether another process has finished the job since it was opened. */
static bool was_finished(const tdm_job *j)
{
    const job_stamp now = job_stamp_of(j->names.out);
    return now.inode != 0 && !job_stamp_equal(&now, &j->out_then);
}

/* Whether the folder that was locked is no longer the one of that name. */
static bool was_removed(const tdm_job *j)
{
    struct stat locked, named;
    return j->lock >= 0 && (fstat(j->lock, &locked) != 0 || stat(j->names.lock, &named) != 0 ||
                            locked.st_ino != named.st_ino || locked.st_dev != named.st_dev);
}

/* Make and lock OUT.job. *gone: another process removed it meanwhile. */
static tdm_status enter(tdm_job *j, bool *gone, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool made = mkdir(j->names.folder, 0777) == 0;
    if (!made && (errno == ENOSPC || errno == EDQUOT)) {
        st = job_write_failed(j->names.folder, errno, err);
        goto done;
    }
    TDM_REQUIRE(made || errno == EEXIST, TDM_ECANTCREATE, "%s: cannot be made: %s", j->names.folder,
                strerror(errno));
    j->lock = open(j->names.lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    *gone = j->lock < 0 && errno == ENOENT;
    if (*gone)
        goto done;
    if (j->lock < 0 && (errno == ENOSPC || errno == EDQUOT)) {
        st = job_write_failed(j->names.lock, errno, err);
        goto done;
    }
    TDM_REQUIRE(j->lock >= 0, TDM_ECANTCREATE, "%s: cannot be opened: %s", j->names.lock,
                strerror(errno));
    TDM_TRY(job_lock_take(j->lock, &j->names, j->o.rank, err));
done:
    return st;
}

static void leave(tdm_job *j)
{
    if (j->lock >= 0)
        close(j->lock);
    j->lock = -1;
    job_index_close(&j->index);
}

/* --restart: the one rank of a job has it to itself (job_lock_take), and so has the first of several workers. The
 * locks stay, so that nobody comes between. */
static tdm_status discard(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(job_lock_alone(j->lock, &j->names, j->o.rank, err));
    TDM_TRY(job_remove(j->names.final, err));
    TDM_TRY(job_clear_folder(&j->names, false, err));
    TDM_TRY(job_sync_folder(j->names.folder, err));
    TDM_TRY(job_sync_folder(j->names.parent, err));
    j->o.restart = false;
done:
    return st;
}

static tdm_status note_ends(void *ctx, uint32_t rank, const job_ends *ends, tdm_err *err)
{
    tdm_job *j = ctx;
    (void)err;
    if (rank == (uint64_t)j->o.rank.index)
        j->ends = *ends;
    return TDM_OK;
}

/* What all ranks have committed. */
static tdm_status load_index(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    job_index_close(&j->index);
    j->ends = (job_ends){0};
    TDM_TRY(job_index_open(&j->index, j->n_files, j->o.n_chunks, err));
    TDM_TRY(job_index_load(&j->index, j->names.folder, j->id, note_ends, j, err));
    j->totals = j->index.totals;
    for (size_t i = 0; i < j->index.n; i++)
        j->totals.input_done +=
            job_input_share(j, j->index.entries[i].file, j->index.entries[i].number);
done:
    return st;
}

static tdm_status settle(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (j->o.restart)
        TDM_TRY(discard(j, err));
    TDM_TRY(job_manifest_settle(j, err));
    TDM_TRY(job_sync_folder(j->names.folder, err));
    TDM_TRY(job_sync_folder(j->names.parent, err));
    TDM_TRY(load_index(j, err));
done:
    return st;
}

/* What a finished job left behind, when nobody is at work in it. Whoever else comes finds OUT. */
static tdm_status clear_leftovers(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    /* made where it is gone already: whoever removed it was killed, or lost its power, before the
     * rest went */
    const int fd = open(j->names.lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return TDM_OK;
    const bool alone = job_lock_all(fd);
    if (alone)
        st = job_clear_folder(&j->names, true, err);
    close(fd);
    return alone && st == TDM_OK ? job_remove_folder(&j->names, err) : st; /* as in job_join.c */
}

/* Open the job, unless another rank joins it and removes it meanwhile: *again. That rank gives OUT
 * its name before it removes anything, so what was read is whole, and who holds a lock is at work,
 * if that did not happen. */
static tdm_status try_open(tdm_job *j, bool *again, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *again = false;
    j->out_then = job_stamp_of(j->names.out);
    if (!j->o.restart)
        TDM_TRY(job_final_check(j, err));
    if (j->is_complete) {
        TDM_TRY(clear_leftovers(j, err));
        goto done;
    }
    st = enter(j, again, err);
    if (st == TDM_OK && !*again)
        st = settle(j, err);
    *again = *again || was_removed(j) || was_finished(j);
    st = *again ? TDM_OK : st;
done:
    if (*again)
        leave(j);
    return st;
}

/* ---- open and close ---- */

static tdm_status number_files(tdm_job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t unknown = 0;
    j->n_files = j->o.inputs ? j->o.inputs->n : 1;
    j->first = calloc(j->n_files ? j->n_files : 1, sizeof *j->first);
    TDM_REQUIRE(j->first, TDM_ENOMEM, "the chunks of %zu files", j->n_files);
    for (size_t i = 0; i < j->n_files; i++) {
        const uint64_t n = j->o.n_chunks[i];
        j->first[i] = n == TDM_CHUNKS_UNKNOWN ? unknown++ : j->total;
        if (n == TDM_CHUNKS_UNKNOWN)
            continue;
        TDM_REQUIRE(n <= JOB_MOST_CHUNKS && !__builtin_add_overflow(j->total, n, &j->total), TDM_EARG,
                    "%s: %" PRIu64 " chunks, want at most %" PRIu64 "; larger chunks are fewer",
                    j->o.inputs ? j->o.inputs->items[i].path : "documents", n, JOB_MOST_CHUNKS);
    }
done:
    return st;
}

tdm_status tdm_job_open(const tdm_job_options *options, tdm_job **out, tdm_err *err)
{
    enum { ATTEMPTS = 8 };
    tdm_status st = TDM_OK;
    bool again = true;
    *out = NULL;
    tdm_job *j = calloc(1, sizeof *j);
    TDM_REQUIRE(j, TDM_ENOMEM, "a job");
    j->o = *options;
    j->lock = j->fd[JOB_DATA] = j->fd[JOB_ERRORS] = j->fd[JOB_JOURNAL] = -1;
    const tdm_rank rank = j->o.rank;
    TDM_REQUIRE(0 <= rank.index && rank.index < rank.count && rank.count <= 1000000, TDM_EARG,
                "rank %" PRId64 " of %" PRId64, rank.index, rank.count);
    TDM_REQUIRE(!j->o.restart || process_of(j).count == 1, TDM_EARG,
                "--restart is for one process, this is one of %" PRId64, process_of(j).count);
    TDM_TRY(number_files(j, err));
    TDM_TRY(job_names_find(&j->names, j->o.out, err));
    TDM_TRY(job_commit_open(j, err));
    for (int i = 0; i < ATTEMPTS && again; i++)
        TDM_TRY(try_open(j, &again, err));
    TDM_REQUIRE(!again, TDM_ECANTCREATE, "%s: other processes keep removing it", j->names.folder);
    j->is_open = true;
    *out = j;
    j = NULL;
done:
    tdm_job_close(j);
    return st;
}

static tdm_status note_work(void *ctx, uint32_t rank, const job_ends *ends, tdm_err *err)
{
    tdm_job *j = ctx;
    char *path = job_part(j->names.folder, rank, "journal");
    if (!path)
        return tdm_fail(err, TDM_ENOMEM, "the name of a journal");
    if (job_stamp_of(path).size > ends->journal) /* damaged, maybe: for people to look at */
        j->index.totals.chunks_done++;
    free(path);
    return TDM_OK;
}

/* A job of which nothing is committed is of no use to anybody, and in the way of the next command for OUT. One
 * of several processes leaves it: another one may be about to come in. */
static void clear_nothing(tdm_job *j)
{
    if (!j->is_open || j->lock < 0 || process_of(j).count > 1 || j->totals.chunks_done > 0 ||
        !job_lock_all(j->lock))
        return;
    job_index_close(&j->index);
    if (job_index_open(&j->index, j->n_files, j->o.n_chunks, NULL) == TDM_OK &&
        job_index_load(&j->index, j->names.folder, j->id, note_work, j, NULL) == TDM_OK &&
        j->index.totals.chunks_done == 0 && !was_removed(j))
        job_clear_folder(&j->names, true, NULL); /* what cannot be removed is a job to go on with */
}

void tdm_job_close(tdm_job *j)
{
    if (!j)
        return;
    job_commit_close(j);
    clear_nothing(j);
    leave(j);
    job_names_free(&j->names);
    tdm_buf_free(&j->manifest);
    free(j->first);
    free(j);
}

bool tdm_job_is_complete(const tdm_job *j)
{
    return j->is_complete;
}

bool tdm_job_is_waiting(const tdm_job *j)
{
    return j->is_waiting;
}

/* ---- the end ---- */

static tdm_status judge(const tdm_job *j, tdm_max_errors max, tdm_err *err)
{
    const tdm_counts *c = &j->totals.counts;
    const double bad = (double)c->bad, records = (double)c->ok + bad;
    const bool over = max.percent ? bad * 100 > max.limit * records : bad > max.limit;
    if (!over)
        return TDM_OK;
    return tdm_fail(
        err, TDM_EFORMAT,
        "%.0f of %.0f records are bad, --max-errors %.15g%s; the results stay in %s: run "
        "again with more to have them",
        bad, records, max.limit, max.percent ? "%" : "", j->names.folder);
}

/* Whoever joins removes OUT.job/manifest.json first of all parts, and when OUT is there. */
static bool was_joined(const tdm_job *j)
{
    return access(j->names.manifest, F_OK) != 0 && access(j->names.final, F_OK) == 0;
}

tdm_status tdm_job_finish(tdm_job *j, tdm_max_errors max_errors, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(job_commit_drain(j, err));
    if (j->is_complete)
        goto done;
    TDM_TRY(load_index(j, err));
    if (job_index_is_full(&j->index)) {
        TDM_TRY(judge(j, max_errors, err));
        bool joins = false;
        TDM_TRY(job_lock_join(j->lock, &j->names, &joins, err));
        if (joins && !was_joined(j)) {
            TDM_TRY(job_join(j, err));
            j->is_complete = true;
        }
    }
    if (!j->is_complete && was_joined(j)) {
        TDM_TRY(job_final_totals(j, err));
        j->is_complete = true;
    }
    /* Of several workers, one that is alone may have been denied chunks too. */
    TDM_REQUIRE(j->is_complete || j->o.rank.count > 1 || j->o.turns, TDM_EIO,
                "%s: chunks that were committed are no longer in its journals; run again",
                j->names.folder);
    j->is_waiting = !j->is_complete;
done:
    return st;
}
