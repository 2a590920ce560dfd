/* host/lines.h - several files as one stream of lines, in bounded memory, chunk by chunk where asked.
 *
 *   TDM_TRY(tdm_lines_open(&inputs, &options, &lines, err));
 *   for (;;) {
 *       TDM_TRY(tdm_lines_next(lines, &line, err));
 *       if (line.kind == TDM_LINES_END) break;
 *       ...
 *   }
 *   tdm_lines_close(lines);
 *
 * A line ends at "\n" or at the end of its file; one "\r" before the end belongs to the ending. A
 * UTF-8 byte order mark at the start of a file belongs to no line. Lines of white space alone are
 * counted and passed over. A plain regular file ends where it ended when it was listed: what has been
 * appended since is not read, and a line that lies across that place ends there.
 * Thread safety: one object, one thread. */
#ifndef HOST_LINES_H
#define HOST_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/chunk.h"
#include "host/err.h"
#include "host/inputs.h"
#include "host/stop.h"

typedef struct tdm_lines tdm_lines;

typedef struct {
    size_t max_line;         /* bytes; memory stays below twice that and 1 MiB, and what a zstd frame's
                                window takes */
    double max_ratio;        /* of compressed files (tdm_source_options); 0: no limit */
    uint64_t chunk_bytes;    /* 0: no chunks */
    tdm_chunk_filter filter; /* with chunks: which are read. A seekable file is read from where a wanted one
                                begins; in others what is not wanted is read and passed over */
    const tdm_stop *stop;    /* set: no longer wait for a pipe or terminal; looked at several times a second
                                while waiting. NULL allowed; must outlive the object */
} tdm_lines_options;

typedef enum {
    TDM_LINES_LINE,
    TDM_LINES_TOO_LONG, /* a line of more than max_line bytes; they were skipped */
    TDM_LINES_DAMAGED,  /* compressed data that cannot be read on; detail says why and where. The file ends. A
                           line that had begun is lost; it stands for that line, in its chunk */
    TDM_LINES_CHUNK,    /* with chunks: `chunk` has been read. Each wanted one comes, also without a line. A
                           file that is not seekable has at least one */
    TDM_LINES_END,
} tdm_line_kind;

/* Valid until the next call. */
typedef struct {
    tdm_line_kind kind;
    const char *file; /* as given */
    size_t number;    /* of the file */
    int64_t line;     /* 1-based, blank lines counted; 0: not known, since what is before it was not read */
    uint64_t offset;  /* where the line begins in its file, decompressed */
    const char *text; /* [len] bytes; NULL unless LINE */
    size_t len;       /* without the line ending; the true length also when too long */
    uint64_t hash;    /* of text; of the length when too long */
    const char *detail; /* DAMAGED */
    tdm_chunk chunk;    /* CHUNK; hash is over its lines' hashes and offsets and the number of blank ones */
} tdm_line;

/* inputs (which were checked when they were listed) and what options point to are borrowed. Files are opened,
 * and the filter is asked, in tdm_lines_next. Errors: TDM_ENOMEM. */
tdm_status tdm_lines_open(const tdm_inputs *inputs, const tdm_lines_options *options, tdm_lines **out,
                          tdm_err *err);
void tdm_lines_close(tdm_lines *l); /* NULL is fine */
/* Errors: TDM_EIO, also for a plain regular file that is shorter than when it was listed, and TDM_ENOINPUT name
 * the file; TDM_ESTOPPED by stop; TDM_EMISMATCH by the filter; TDM_ENOMEM. */
tdm_status tdm_lines_next(tdm_lines *l, tdm_line *line, tdm_err *err);
/* Whether the next line would have to be waited for. A line that is too long is waited for here. The
 * line before is no longer valid. */
bool tdm_lines_would_block(tdm_lines *l);
/* Blank lines so far; not those of chunks that are not wanted. */
int64_t tdm_lines_blank(const tdm_lines *l);
/* Bytes of the files themselves read so far (compressed ones count compressed), and in all (0 when a pipe makes
 * that unknown). Parts that the filter leaves out of a seekable file count as read. */
void tdm_lines_progress(const tdm_lines *l, uint64_t *done, uint64_t *total);

/* ---- line numbers of files that are read in parts ---- */

/* Counts lines from the last place that it was asked for. One object, one thread. */
typedef struct {
    int fd;        /* -1: none */
    size_t number; /* of the open file */
    uint64_t at;   /* bytes of it that were looked at */
    int64_t newlines;
    char *buf; /* owned */
} tdm_line_counter;
#define TDM_LINE_COUNTER_NONE                                                                      \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* The 1-based number of the line that begins at `offset` of a plain regular file: reads what is before it.
 *   number  of the file among the inputs, to know it again
 * Errors: TDM_ENOINPUT, TDM_EIO, TDM_ESTOPPED by stop (NULL allowed), TDM_ENOMEM. */
tdm_status tdm_line_number(tdm_line_counter *c, const char *path, size_t number, uint64_t offset,
                           const tdm_stop *stop, int64_t *line, tdm_err *err);
void tdm_line_counter_close(tdm_line_counter *c);

#endif
