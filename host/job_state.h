/* host/job_state.h - what the files of the job share (host/job.h says what a job is). */
#ifndef HOST_JOB_STATE_H
#define HOST_JOB_STATE_H

#include <openssl/evp.h>
#include <pthread.h>
#include <xxhash.h>

#include "host/job.h"
#include "host/json.h"

/* ---- names and files (job_files.c) ---- */

typedef struct {
    char *out;               /* what a link points to */
    char *parent;            /* its folder */
    char *errors, *final;    /* OUT.errors.jsonl, OUT.manifest.json */
    char *folder;            /* OUT.job */
    char *manifest, *lock;   /* manifest.json and lock in it */
} job_names;

/* Errors: TDM_ECANTCREATE for a folder, a file that may not be written, or a parent that cannot be opened. */
tdm_status job_names_find(job_names *n, const char *path, tdm_err *err);
void job_names_free(job_names *n);
char *job_path(const char *folder, const char *name);             /* NULL: no memory */
char *job_part(const char *folder, uint32_t rank, const char *of); /* of: "data", ... */
bool job_part_rank(const char *name, uint32_t *rank);             /* of a journal's name */

/* Which file a name stands for: whether it was replaced in the meantime. */
typedef struct {
    uint64_t device, inode, size;
    int64_t mtime;
} job_stamp;
job_stamp job_stamp_of(const char *path); /* zero: no such file */
bool job_stamp_equal(const job_stamp *a, const job_stamp *b);

/* The sentence for a failed write, fsync or close. A full disk is named as such. */
tdm_status job_write_failed(const char *path, int why, tdm_err *err);
tdm_status job_write(int fd, const char *path, const void *p, size_t len, uint64_t at, tdm_err *err);
tdm_status job_close_file(int *fd, const char *path, tdm_err *err);
/* Make a file, or make it anew, with these bytes, durably but for its name. */
tdm_status job_write_file(const char *path, const void *p, size_t len, tdm_err *err);
tdm_status job_sync_folder(const char *path, tdm_err *err);
tdm_status job_remove(const char *path, tdm_err *err); /* one that is not there is removed already */
/* What a job made in its folder; with_lock: also the lock and the folder. */
tdm_status job_clear_folder(const job_names *n, bool with_lock, tdm_err *err);
tdm_status job_remove_folder(const job_names *n, tdm_err *err); /* if it is empty */

enum { JOB_SHA_TEXT = 65 };
/* SHA-256 in hexadecimal. Errors: TDM_ENOINPUT, TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM. */
void job_sha_text(EVP_MD_CTX *sha, char text[JOB_SHA_TEXT]); /* the end of a computation */
tdm_status job_sha256(const char *path, const tdm_stop *stop, char text[JOB_SHA_TEXT], tdm_err *err);

/* ---- locks (job_lock.c) ---- */

/* Errors: TDM_ECANTCREATE names the rank or the number of ranks at work. */
tdm_status job_lock_take(int fd, const job_names *n, tdm_rank rank, tdm_err *err);
/* taken: false when another process joins. Errors: TDM_EIO. */
tdm_status job_lock_join(int fd, const job_names *n, bool *taken, tdm_err *err);
/* Waits for whoever is giving the manifest its name. Errors: TDM_EIO. */
tdm_status job_lock_name(int fd, const job_names *n, bool take, tdm_err *err);
bool job_lock_all(int fd);    /* false: another process has one */
/* Whether rank, which has taken its locks, is the only one at work. Errors: TDM_ECANTCREATE when it is not. */
tdm_status job_lock_alone(int fd, const job_names *n, tdm_rank rank, tdm_err *err);
bool job_lock_held(int fd, uint32_t rank);
bool job_lock_joining(int fd);
int64_t job_lock_count(int fd); /* of the ranks at work, 0: none is */

/* ---- the manifest (job_manifest.c, job_diff.c) ---- */

/* Everything that the bytes of OUT depend on, as JSON, in *out.
 *   before  the manifest that a former run wrote, whose hashes of unchanged model files are believed; or NULL */
tdm_status job_manifest_build(const tdm_job_options *o, const cJSON *before, tdm_buf *out, tdm_err *err);
tdm_status job_manifest_load(const char *path, tdm_buf *text, tdm_json **doc, tdm_err *err);
/* Make OUT.job/manifest.json or compare with the one that is there; j->manifest is what is there then. */
tdm_status job_manifest_settle(tdm_job *j, tdm_err *err);
/* Errors: TDM_EMISMATCH lists what differs. complete: the engine may be another one. */
tdm_status job_diff(const char *now, size_t now_len, const char *then, size_t then_len,
                    const tdm_inputs *inputs, bool complete, const char *path, tdm_err *err);

/* ---- OUT.manifest.json (job_final.c) ---- */

typedef struct {
    uint64_t bytes;
    char sha256[JOB_SHA_TEXT];
} job_made;

tdm_status job_final_put(const tdm_job *j, const job_made *data, const job_made *errors, tdm_buf *out,
                         tdm_err *err);
/* Set j->is_complete and the totals where OUT is there, made by the same command.
 * Errors: TDM_EMISMATCH when it is another job's, or OUT is not what was written; TDM_EFORMAT, TDM_EIO, ... */
tdm_status job_final_check(tdm_job *j, tdm_err *err);
tdm_status job_final_totals(tdm_job *j, tdm_err *err); /* of a job that another process finished */
tdm_status job_counts_put(tdm_buf *out, const tdm_counts *c, tdm_err *err); /* as JSON */
uint64_t job_number(const cJSON *object, const char *key, uint64_t otherwise); /* a natural number */

/* ---- journals (job_journal.c) and all of them as one index (job_index.c) ---- */

#define JOB_MOST_CHUNKS ((uint64_t)1 << 32) /* of one file: 4 PiB */

typedef struct {
    uint64_t number, hash; /* of the chunk, and of what was read for it */
    uint64_t data_at, data_len, errors_at, errors_len;
    XXH128_hash_t data_hash, errors_hash;
    uint32_t file, rank; /* rank: in whose files it lies */
    bool is_last;
} job_entry;

/* Behind the last good line of a journal. */
typedef struct {
    uint64_t journal, data, errors; /* bytes; journal 0: not even a first line */
    uint64_t chunks;
} job_ends;

/* The committed chunks of all ranks. */
typedef struct {
    size_t n_files;
    uint64_t *n_chunks; /* [n_files] owned; of a file that must be read to know, once its last is committed */
    struct job_bits {
        uint64_t *words;
        uint64_t n;
    } *done;            /* [n_files] owned; a bit for each chunk */
    job_entry *entries; /* [n] owned, by file and number */
    size_t n, cap;
    tdm_job_totals totals; /* input_done and chunks_total are left to the job */
} job_index;

tdm_status job_index_open(job_index *x, size_t n_files, const uint64_t *n_chunks, tdm_err *err);
void job_index_close(job_index *x);
/* A chunk that is there already, by another rank, counts once: both are equal. */
tdm_status job_index_add(job_index *x, const job_entry *e, const tdm_counts *counts, uint64_t tokens,
                         tdm_err *err);
/* Read the journals of all ranks. A folder that is not there has none.
 *   seen  called for each journal */
typedef tdm_status (*job_seen)(void *ctx, uint32_t rank, const job_ends *ends, tdm_err *err);
tdm_status job_index_load(job_index *x, const char *folder, uint64_t id, job_seen seen, void *ctx,
                          tdm_err *err);
bool job_index_has(const job_index *x, size_t file, uint64_t number);
const job_entry *job_index_find(const job_index *x, size_t file, uint64_t number);
uint64_t job_chunks_total(const uint64_t *n_chunks, size_t n_files);
bool job_index_is_full(const job_index *x);

void job_counts_add(tdm_counts *to, const tdm_counts *from);
tdm_status job_journal_head(uint64_t id, uint32_t rank, tdm_buf *out, tdm_err *err);
tdm_status job_journal_line(const tdm_chunk_result *r, tdm_buf *out, tdm_err *err);
/* Add the chunks of a rank's journal up to the first line that is not as it was written. No journal: none. */
tdm_status job_journal_read(const char *folder, uint32_t rank, uint64_t id, job_index *x, job_ends *ends,
                            tdm_err *err);

/* ---- the job ---- */

/* Chunks on their way to the disk, one behind the other. */
typedef struct {
    tdm_buf data, errors, journal;
    tdm_job_totals totals;
} job_batch;

enum { JOB_DATA, JOB_ERRORS, JOB_JOURNAL, JOB_FILES };

struct tdm_job {
    tdm_job_options o;
    job_names names;
    size_t n_files;
    uint64_t *first; /* [n_files] owned; chunks of the files before; of files whose chunks are unknown, the
                        number of such files before */
    uint64_t total;  /* of the files whose chunks are known */
    tdm_buf manifest; /* OUT.job/manifest.json */
    uint64_t id;      /* its hash, which the journals name */
    int lock;         /* -1: none */
    job_stamp out_then; /* OUT when the job was opened */
    bool is_open; /* the manifest is this job's */
    bool is_complete, is_waiting;
    job_index index; /* when the job was opened, and again when it was finished */
    job_ends ends;   /* of this rank's files when the job was opened */

    /* job_commit.c */
    int fd[JOB_FILES];
    char *path[JOB_FILES];
    uint64_t at[JOB_FILES];
    bool has_thread, has_mutex;
    pthread_t thread;
    pthread_mutex_t mutex; /* of all below and index.n_chunks */
    pthread_cond_t filled, written;
    job_batch batch[2];
    int filling;  /* which of them; the other one is being written */
    bool writing, quit;
    tdm_status status; /* of the first write that failed */
    tdm_err failure;
    tdm_job_totals totals;
};

uint64_t job_input_share(const tdm_job *j, size_t file, uint64_t number);
tdm_status job_commit_open(tdm_job *j, tdm_err *err);
tdm_status job_commit_drain(tdm_job *j, tdm_err *err);
void job_commit_close(tdm_job *j);
/* Make OUT and what is beside it of a full index, and remove OUT.job. With the join lock held. */
tdm_status job_join(tdm_job *j, tdm_err *err);

#endif
