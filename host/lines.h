/* host/lines.h - several files as one stream of lines, in bounded memory.
 *
 *   TDM_TRY(tdm_lines_open(paths, n_paths, max_line, NULL, &lines, err));
 *   for (;;) {
 *       TDM_TRY(tdm_lines_next(lines, &line, err));
 *       if (!line.file) break;                            // the end
 *       if (line.too_long) ...; else use(line.text, line.len);
 *   }
 *   tdm_lines_close(lines);
 *
 * A line ends at "\n" or at the end of its file; one "\r" before the end belongs to the ending. A
 * UTF-8 byte order mark at the start of a file belongs to no line. Lines of white space alone are
 * counted and passed over. Thread safety: one object, one thread. */
#ifndef HOST_LINES_H
#define HOST_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/err.h"
#include "host/stop.h"

typedef struct tdm_lines tdm_lines;

/* Valid until the next call. */
typedef struct {
    const char *file; /* as given; NULL at the end of the last file */
    int64_t line;     /* 1-based, blank lines counted */
    uint64_t offset;  /* where the line begins in its file: the sum of what came before it */
    const char *text; /* [len] bytes; NULL when too_long */
    size_t len;       /* without the line ending; the true length also when too_long */
    bool too_long;    /* more than max_line bytes; they were skipped */
} tdm_line;

/* Check that every file can be read and open the first.
 *   paths     [n_paths] must outlive the object; "-" is stdin. None at all means stdin
 *   max_line  bytes; memory stays below twice that and 1 MiB
 *   stop      set: no longer wait for a pipe or terminal; looked at several times a second while
 *             waiting. NULL allowed; must outlive the object
 * Errors: TDM_ENOINPUT names a missing or unreadable file or a folder; TDM_EARG a compressed one;
 * TDM_ENOMEM. */
tdm_status tdm_lines_open(const char *const *paths, size_t n_paths, size_t max_line,
                          const tdm_stop *stop, tdm_lines **out, tdm_err *err);
void tdm_lines_close(tdm_lines *l); /* NULL is fine */
/* Errors: TDM_EIO and TDM_ENOINPUT name the file; TDM_ESTOPPED by stop; TDM_ENOMEM. */
tdm_status tdm_lines_next(tdm_lines *l, tdm_line *line, tdm_err *err);
/* Whether the next line would have to be waited for. A line that is too long is waited for here. The
 * line before is no longer valid. */
bool tdm_lines_would_block(tdm_lines *l);
int64_t tdm_lines_blank(const tdm_lines *l);
/* Bytes handed out so far, and in all (0 when a pipe makes that unknown). */
void tdm_lines_progress(const tdm_lines *l, uint64_t *done, uint64_t *total);

#endif
