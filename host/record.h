/* host/record.h - JSON Lines records in, with an error class for everything that is wrong.
 *
 *   TDM_TRY(tdm_reader_open(&inputs, &options, &reader, err));
 *   while ((st = tdm_reader_next(reader, &record, err)) == TDM_OK && record.kind != TDM_RECORD_END) {
 *       if (record.kind == TDM_RECORD_BAD) { ...record.fault, record.detail... }
 *       else if (record.kind == TDM_RECORD_CHUNK) { ...record.chunk... } // with options.chunk_bytes
 *       else { ...record.text, record.id_json... }
 *   }
 *   tdm_reader_close(reader);
 *
 * A reader wants one of three things of a record: its text, token ids, or the values of some fields.
 * CRLF is accepted, a UTF-8 byte order mark at the start of a file is skipped, blank lines are
 * skipped and counted, the last line needs no newline. Memory is bounded by max_line.
 * Thread safety: one reader, one thread. */
#ifndef HOST_RECORD_H
#define HOST_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/chunk.h"
#include "host/err.h"
#include "host/inputs.h"
#include "host/stop.h"

#define TDM_FAULT_MAP(X)                                                                           \
    X(UTF8, "utf8")                                                                                \
    X(JSON, "json")                                                                                \
    X(NOT_OBJECT, "not-object")                                                                    \
    X(NO_TEXT, "no-text")                                                                          \
    X(TEXT_TYPE, "text-type")                                                                      \
    X(EMPTY, "empty")                                                                              \
    X(NUL, "nul")                                                                                  \
    X(CONTROL, "control")                                                                          \
    X(DUPLICATE_KEY, "duplicate-key")                                                              \
    X(LINE_TOO_LONG, "line-too-long")                                                              \
    X(PROMPT_TOO_LONG, "prompt-too-long")                                                          \
    X(TOO_SHORT, "too-short") /* no token to score */                                              \
    X(COLLISION, "collision")                                                                      \
    X(NON_FINITE, "non-finite")                                                                    \
    X(CSV, "csv") /* quotes, or the number of fields (host/csv.h) */                               \
    X(DAMAGED, "damaged") /* compressed data: what is behind it cannot be read */                  \
    X(DEVICE, "device-fault") /* workers died with it (tools/supervise.h) */

typedef enum {
#define X(name, text) TDM_FAULT_##name,
    TDM_FAULT_MAP(X)
#undef X
} tdm_fault;

const char *tdm_fault_name(tdm_fault fault);

typedef enum { TDM_RECORD_OK, TDM_RECORD_BAD, TDM_RECORD_CHUNK, TDM_RECORD_END } tdm_record_kind;

typedef enum {
    TDM_FIELD_ABSENT,
    TDM_FIELD_NUMBER,
    TDM_FIELD_STRING,
    TDM_FIELD_BOOL,
    TDM_FIELD_NULL,
    TDM_FIELD_OTHER, /* an array or an object */
} tdm_field_kind;

/* What a record holds under a name. */
typedef struct {
    tdm_field_kind kind;
    double number;      /* NUMBER: the double nearest to the source, finite; BOOL: 1 or 0 */
    const char *string; /* STRING: decoded, ends in NUL */
    const char *source; /* [source_len] the value's bytes in the record; NULL when absent */
    size_t source_len;
} tdm_field;

/* All pointers are valid until the next call on the same reader. */
typedef struct {
    tdm_record_kind kind;
    const char *file; /* as given; "-" is stdin */
    size_t file_number; /* among the inputs */
    int64_t line;     /* 1-based, blank lines counted; 0: not counted, since the file is read in parts. Known
                         where id_json names it; else tdm_line_number can tell */
    uint64_t offset;  /* of the line's first byte in its file, decompressed */
    uint64_t hash;    /* of the line */
    const char *id_json; /* [id_len] the id's source bytes, or "FILE:LINE" as a JSON string */
    bool has_no_id;      /* id_json is "FILE:LINE" */
    size_t id_len;       /* 0 in a bad record that is no object: its id is unknown */
    const char *text;    /* [text_len] valid UTF-8, decoded; OK records of text readers only */
    size_t text_len;     /* at least 1; white space alone is a text */
    const char *source;  /* [source_len] the line without its ending; NULL when it is too long */
    size_t source_len;
    const int32_t *ids; /* [n_ids] 0 .. 2^31 - 1; OK records of ids readers only */
    size_t n_ids;
    const tdm_field *fields; /* one for each of options.want_fields, in their order; OK records of such readers only */
    tdm_fault fault;    /* BAD records only */
    const char *detail; /* one line that says what is wrong and where in the line */
    tdm_chunk chunk;    /* CHUNK records only: all of its records have been handed out */
} tdm_record;

typedef struct {
    const char *text_key; /* "text" */
    const char *id_key;   /* "id" */
    size_t max_line;      /* bytes; a longer line is a bad record and is skipped unread */
    double max_ratio;     /* of compressed files, decompressed to compressed: 500. More is TDM_FAULT_DAMAGED */
    uint64_t chunk_bytes; /* 0: no chunks (host/chunk.h) */
    tdm_chunk_filter filter; /* of the chunks */
    bool want_ids;        /* read {"ids": [...]} instead of text */
    const char *const *want_fields; /* NULL-terminated: read these instead of text, whatever they hold; a number that no
                             double can hold, and NaN or infinity anywhere, is TDM_FAULT_NON_FINITE. NULL allowed */
    bool collide;         /* refuse records that hold one of collide_keys (--passthrough) */
    const char *const *collide_keys; /* NULL-terminated; NULL allowed */
    const tdm_stop *stop; /* set: no longer wait for input. NULL allowed */
} tdm_reader_options;
#define TDM_READER_DEFAULTS                                                                        \
    {                                                                                              \
        .text_key = "text", .id_key = "id", .max_line = (size_t)8 << 20, .max_ratio = 500          \
    }

typedef struct tdm_reader tdm_reader;

/* Read the files one after the other. What options point to, and inputs, must outlive the reader. Files are
 * opened, and the filter is asked, in tdm_reader_next and tdm_reader_skip. Errors: TDM_ENOMEM. */
tdm_status tdm_reader_open(const tdm_inputs *inputs, const tdm_reader_options *options, tdm_reader **out,
                           tdm_err *err);
void tdm_reader_close(tdm_reader *r); /* NULL is fine */
/* The next record, good or bad, or TDM_RECORD_END.
 * Errors: TDM_ENOINPUT, TDM_EIO, TDM_ESTOPPED by options.stop while waiting for a pipe or terminal, TDM_EMISMATCH by
 * options.filter, TDM_ENOMEM. */
tdm_status tdm_reader_next(tdm_reader *r, tdm_record *record, tdm_err *err);
/* The next record without a look into it: OK with file, line, offset and hash alone, or CHUNK, or END. What
 * cannot be a record (a line that is too long, damaged data) is BAD as ever. For records that are
 * somebody else's. Errors: as above. */
tdm_status tdm_reader_skip(tdm_reader *r, tdm_record *record, tdm_err *err);
/* Whether tdm_reader_next would have to wait for a pipe or terminal: time to hand on what is done.
 * Ends the validity of the last record's source. */
bool tdm_reader_would_block(tdm_reader *r);
int64_t tdm_reader_blank_lines(const tdm_reader *r);
/* Bytes read so far and in all (0 when unknown, as for a pipe): for progress. */
void tdm_reader_progress(const tdm_reader *r, uint64_t *done, uint64_t *total);

#endif
