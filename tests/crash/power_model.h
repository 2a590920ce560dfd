/* tests/crash/power_model.h - a disk that keeps only what it must, fed with a trace.
 *
 *   power_log log;
 *   power_disk disk;
 *   power_disk_open(&disk, "folder");   // then the run, traced
 *   power_log_load(&log, "trace");
 *   for (size_t i = 0; i < log.n; i++) {
 *       power_disk_do(&disk, &log.events[i]);
 *       power_disk_lose(&disk, &how, "other");   // what a loss of power right now may leave
 *   }
 *
 * What was brought to the disk (fsync, fdatasync: a file's bytes and size; fsync of a folder: its
 * names) is kept. Of all else, each block of a file has one of the versions that it had since, the
 * size is one of those since, and each change of names has happened or not, all by chance and
 * whatever their order. That is more than any real file system does, and no less than what POSIX
 * allows, but that a rename is one change. */
#ifndef TESTS_CRASH_POWER_MODEL_H
#define TESTS_CRASH_POWER_MODEL_H

#include "tests/crash/crash.h"
#include "tests/crash/trace.h"

typedef struct {
    trace_record r;
    const char *data; /* [r.n_data] in the log's text */
    char name[64], other[64];
} power_event;

typedef struct {
    tdm_buf text;
    power_event *events; /* owned [n] */
    size_t n;
} power_log;

void power_log_load(power_log *log, const char *path);
void power_log_free(power_log *log);

/* A change of names. */
typedef struct {
    trace_op op;
    size_t file, folder, other_folder; /* numbers of nodes */
    char name[64], other[64];
} name_change;

/* A file or folder. */
typedef struct {
    uint64_t inode;
    bool is_folder;
    tdm_buf kept;                /* files: on the disk for certain */
    tdm_buf seen;                /* files: what a program sees */
    const power_event **pending; /* owned [n_pending] files: since the last sync */
    name_change *changes;        /* owned [n_changes] folders: since the last sync */
    size_t n_pending, n_changes;
} power_node;

typedef struct {
    size_t folder, file; /* numbers of nodes */
    char name[64];
} power_entry;

typedef struct {
    power_entry *items; /* owned [n] */
    size_t n;
} power_names;

typedef struct {
    power_node *nodes; /* owned [n]; the first is the root */
    size_t n;
    power_names kept, seen;
} power_disk;

/* How much of what is not certain reaches the disk. */
typedef struct {
    double share; /* of blocks and changes of names */
    size_t block; /* bytes */
    bool garbage; /* blocks that were never written hold something, not zeros */
} power_loss;

/* The disk holds what is in `folder`, for certain. */
void power_disk_open(power_disk *d, const char *folder);
void power_disk_free(power_disk *d);
void power_disk_do(power_disk *d, const power_event *e);
/* Make in `folder`, which is empty, what is left. */
void power_disk_lose(const power_disk *d, const power_loss *how, const char *folder);
/* The file that a program sees as root/a, or root/a/b; NULL: none. */
const power_node *power_disk_find(const power_disk *d, const char *a, const char *b);

#endif
