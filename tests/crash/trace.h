/* tests/crash/trace.h - what a process did to the files of a folder, in order, for the replay of a
 * power loss.
 *
 * TDM_FAULT_TRACE=FILE makes tandem_faults append one record for each call that changed something:
 * this struct, then the two names, then the data. While a trace is kept, these calls run one at a
 * time, so that the order in the file is the order in which they happened. Files and folders are
 * known by their inode, since names come and go; a CREATE or MKDIR begins a new life of its inode.
 */
#ifndef TESTS_CRASH_TRACE_H
#define TESTS_CRASH_TRACE_H

#include <stdint.h>

typedef enum {
    TRACE_CREATE,   /* folder/name became file, empty */
    TRACE_MKDIR,    /* folder/name became file, a folder */
    TRACE_WRITE,    /* data [n_data] at byte `at` of file */
    TRACE_TRUNCATE, /* file has `at` bytes now */
    TRACE_SYNC,     /* file (or folder) was brought to the disk: fsync or fdatasync */
    TRACE_RENAME,   /* folder/name, which is file, became other_folder/other_name */
    TRACE_LINK,     /* file, which is folder/name, got the name other_folder/other_name too */
    TRACE_UNLINK,   /* folder/name, which was file, is gone */
    TRACE_RMDIR,    /* the same for a folder */
} trace_op;

typedef struct {
    uint32_t op;              /* trace_op */
    uint32_t n_name, n_other; /* bytes of the names behind this struct */
    uint32_t n_data;
    uint64_t file, folder, other_folder; /* inodes; 0 where the operation has none */
    uint64_t at;
} trace_record;

#endif
