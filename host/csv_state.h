/* host/csv_state.h - inside host/csv: what reading rows (csv.c) and the file with its names (csv_file.c) share. */
#ifndef HOST_CSV_STATE_H
#define HOST_CSV_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/csv.h"
#include "host/source.h"

typedef enum { AT_START, IN_PLAIN, IN_QUOTES, BEHIND_QUOTE } csv_state;

/* A field while its row is being read: [at, at + len) from the start of the row. */
typedef struct {
    size_t at, len;
    bool is_quoted, is_doubled; /* doubled: holds doubled quotes */
} raw_field;

struct tdm_csv {
    const char *path; /* borrowed */
    tdm_csv_options options;
    tdm_source *source;
    bool at_eof;    /* nothing is behind the buffer */
    tdm_err damage; /* behind the buffer; status is TDM_OK where there is none */
    char *buf;      /* owned [cap]; [start, end) is read and not yet handed out */
    size_t cap, start, end;
    uint64_t offset; /* of buf[start] in the file */
    int64_t line;    /* of buf[start] */
    int64_t number, blank;
    /* the row that is being read; it begins at start unless a part of it was dropped */
    size_t at; /* [start, at) has been looked at */
    csv_state state;
    uint64_t dropped;  /* bytes of it that are gone: it is too long */
    uint64_t row_offset;
    int64_t row_line;
    uint64_t quote_offset; /* of the last opening quote */
    int64_t quote_line;    /* of it; 0: not counted yet, it is in the buffer */
    raw_field raw[TDM_CSV_COLUMNS_MOST];
    size_t n_raw; /* fields of it; those beyond the array are counted alone */
    bool is_bad;
    tdm_fault fault; /* the first one */
    char detail[256];
    tdm_csv_field fields[TDM_CSV_COLUMNS_MOST];
    tdm_csv_field *columns; /* owned [n_columns]; the texts lie in names */
    size_t n_columns;
    tdm_buf names;
};

/* A byte order mark is passed over; offsets count it. */
tdm_status csv_pass_mark(tdm_csv *c, tdm_err *err);

#endif
