/* host/csv.h - rows of a CSV file (RFC 4180), one by one, in the memory of one row.
 *
 *   TDM_TRY(tdm_csv_open("train.csv", &options, &csv, err));
 *   const size_t id = tdm_csv_column(csv, "id");           // TDM_CSV_NONE: there is no such column
 *   for (;;) {
 *       TDM_TRY(tdm_csv_next(csv, &row, err));
 *       if (row.kind == TDM_CSV_END) break;
 *       if (row.kind == TDM_CSV_BAD) { ...row.fault, row.detail... }
 *       else { ...row.fields[id].text, row.fields[id].len... }
 *   }
 *   tdm_csv_close(csv);
 *
 * The first row names the columns. Fields are parted by commas; a field in quotes may hold commas, line endings and
 * doubled quotes. A row ends with LF or CRLF outside quotes, the last one also with the file. A byte order
 * mark at the start of the file belongs to no field; empty lines are counted and passed over. The file may be
 * gzip or zstd (host/source.h).
 *
 * A bad row ends where Python's csv module ends it, and reading goes on behind it: a quote inside a field without quotes, or
 * text behind a closing quote, is taken as text to find that end. Thread safety: one object, one thread. */
#ifndef HOST_CSV_H
#define HOST_CSV_H

#include <stddef.h>
#include <stdint.h>

#include "host/err.h"
#include "host/record.h"
#include "host/stop.h"

enum { TDM_CSV_COLUMNS_MOST = 1024 };
#define TDM_CSV_NONE SIZE_MAX

typedef struct tdm_csv tdm_csv;

typedef struct {
    size_t max_row;       /* bytes, line endings included; a longer row is bad and is skipped unread */
    double max_ratio;     /* of compressed files (tdm_source_options); 0: no limit */
    const tdm_stop *stop; /* set: no longer wait for a pipe or terminal. NULL allowed */
} tdm_csv_options;

typedef struct {
    const char *text; /* [len] valid UTF-8 without NUL bytes, doubled quotes made one; not terminated */
    size_t len;
} tdm_csv_field;

typedef enum { TDM_CSV_ROW, TDM_CSV_BAD, TDM_CSV_END } tdm_csv_kind;

/* Valid until the next call. */
typedef struct {
    tdm_csv_kind kind;
    int64_t number;  /* from 1 behind the names; bad rows count, empty lines do not */
    int64_t line;    /* 1-based, in which the row begins, as an editor counts: line endings in quotes count */
    uint64_t offset; /* of its first byte, decompressed. END: of the end of the file */
    uint64_t hash;   /* of its bytes; of their number when it is too long */
    const tdm_csv_field *fields; /* ROW: one for each column */
    tdm_fault fault;    /* BAD: csv (quotes, number of fields), utf8, nul, line-too-long, damaged */
    const char *detail; /* BAD: one line that says what is wrong and where */
} tdm_csv_row;

/* Open a file, or stdin for "-", and read the names of the columns.
 *   path  borrowed; so is what options point to
 * Errors: TDM_EFORMAT names the file and the place when it is empty, or the first row is bad, has more than
 * TDM_CSV_COLUMNS_MOST fields or a name twice; TDM_ENOINPUT, TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM. */
tdm_status tdm_csv_open(const char *path, const tdm_csv_options *options, tdm_csv **out, tdm_err *err);
void tdm_csv_close(tdm_csv *c); /* NULL is fine */
/* The names; they live as long as the object. */
const tdm_csv_field *tdm_csv_columns(const tdm_csv *c, size_t *n);
size_t tdm_csv_column(const tdm_csv *c, const char *name);

/* The next row, good or bad, or the end. Damage of compressed data is a bad row, and then the file ends.
 * Errors: TDM_EIO, TDM_ESTOPPED, TDM_ENOMEM. */
tdm_status tdm_csv_next(tdm_csv *c, tdm_csv_row *row, tdm_err *err);
int64_t tdm_csv_blank(const tdm_csv *c); /* empty lines so far */
/* Bytes of the file itself that have been used (compressed ones count compressed): for progress. */
uint64_t tdm_csv_consumed(const tdm_csv *c);

#endif
