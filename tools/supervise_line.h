/* tools/supervise_line.h - what a worker and the first process say to one another: whole messages of one size over a
 * pair of sockets, one for each worker. An ask and a begin wait for their answer; nothing else is answered. */
#ifndef TOOLS_SUPERVISE_LINE_H
#define TOOLS_SUPERVISE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/job.h"
#include "tools/summary.h"
#include "tools/supervise.h"

typedef enum {
    LINE_OPENED,    /* opened: the job is there */
    LINE_STARTED,   /* started: the model is loaded */
    LINE_ASK,       /* place: may it do this chunk? */
    LINE_BEGIN,     /* place: may it do this record? */
    LINE_ANSWER,    /* answer: to both, from the first process */
    LINE_NOTE,      /* news */
    LINE_COMMITTED, /* committed */
    LINE_DISK,      /* waiting: for the disk, begins or ends */
    LINE_WORKED,    /* all records are done; what comes now is the disk's */
    LINE_END,       /* end: the last one */
} line_kind;

typedef struct {
    line_kind kind;
    union {
        struct {
            char device[160]; /* for people; cut */
            tdm_job_totals totals;
            bool is_complete;
        } opened;
        struct {
            char unit[16];
            uint64_t total, before, bad_before; /* of tdm_progress_options */
        } started;
        struct {
            size_t file;
            uint64_t chunk, record;
        } place;
        struct {
            bool yes;
            char reason[160];
        } answer;
        worker_news news;
        struct {
            size_t file;
            uint64_t chunk;
            tdm_counts counts;
        } committed;
        bool waiting;
        run_end end;
    };
} line_message;

/* A pair of sockets that no program gets that is started from here. Errors: TDM_ENOMEM. */
tdm_status line_open(int fd[2], tdm_err *err);
/* false: there is nobody at the other end. Both wait. */
bool line_send(int fd, const line_message *m);
bool line_receive(int fd, line_message *m);

#endif
