#include "host/csv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "host/csv_state.h"
#include "host/utf8.h"

/* ---- bytes ---- */

static int64_t count_newlines(const char *p, size_t n)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += p[i] == '\n';
    return count;
}

static tdm_status make_room(tdm_csv *c, tdm_err *err)
{
    if (c->start > 0) { /* what is left is a part of one row: short, as a rule */
        memmove(c->buf, c->buf + c->start, c->end - c->start);
        c->end -= c->start;
        c->at -= c->start;
        c->start = 0;
    }
    if (c->end < c->cap)
        return TDM_OK;
    char *grown = realloc(c->buf, c->cap * 2);
    if (!grown)
        return tdm_fail(err, TDM_ENOMEM, "%s: byte %" PRIu64 ": a row buffer of %zu bytes", c->path,
                        c->offset, c->cap * 2);
    c->buf = grown;
    c->cap *= 2;
    return TDM_OK;
}

static tdm_status read_more(tdm_csv *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_err why = {0};
    size_t n = 0;
    bool starved = false;
    TDM_TRY(make_room(c, err));
    st = tdm_source_read(c->source, c->buf + c->end, c->cap - c->end, false, &n, &starved, &why);
    TDM_REQUIRE(st == TDM_OK || st == TDM_EFORMAT, st, "%s", why.msg);
    if (st == TDM_EFORMAT)
        c->damage = why;
    st = TDM_OK;
    c->end += n;
    c->at_eof = n == 0;
done:
    return st;
}

tdm_status csv_pass_mark(tdm_csv *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    while (c->end < 3 && !c->at_eof)
        TDM_TRY(read_more(c, err));
    if (c->end >= 3 && !memcmp(c->buf, "\xef\xbb\xbf", 3)) {
        c->start = c->at = 3;
        c->offset = 3;
    }
done:
    return st;
}

/* ---- what is wrong ---- */

/* The first fault of a row is the one that is told. */
__attribute__((format(printf, 3, 4))) static void refuse(tdm_csv *c, tdm_fault fault, const char *fmt, ...)
{
    va_list args;
    if (c->is_bad)
        return;
    c->is_bad = true;
    c->fault = fault;
    va_start(args, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, args);
    va_end(args);
}

/* A fault at a byte of the buffer, with its line and its place in the file. */
static void refuse_at(tdm_csv *c, tdm_fault fault, size_t at, const char *what)
{
    if (!c->is_bad)
        refuse(c, fault, "row %" PRId64 ", line %" PRId64 ", byte %" PRIu64 ": %s", c->number + 1,
               c->line + count_newlines(c->buf + c->start, at - c->start),
               c->offset + (at - c->start), what);
}

/* The line of the last opening quote, while the buffer still has it. */
static void count_quote_line(tdm_csv *c)
{
    if (!c->quote_line && c->quote_offset >= c->offset)
        c->quote_line = c->line + count_newlines(c->buf + c->start, (size_t)(c->quote_offset - c->offset));
}

/* ---- fields ---- */

static void end_field(tdm_csv *c, size_t end, bool is_quoted)
{
    if (c->n_raw < TDM_CSV_COLUMNS_MOST && !c->dropped) {
        raw_field *f = &c->raw[c->n_raw];
        f->len = end - c->start - f->at;
        f->is_quoted = is_quoted;
    }
    c->n_raw++;
    c->state = AT_START;
}

static void begin_field(tdm_csv *c, size_t at)
{
    if (c->n_raw < TDM_CSV_COLUMNS_MOST && !c->dropped)
        c->raw[c->n_raw] = (raw_field){.at = at - c->start};
}

/* A separator, or the end of the row, at `at`, or neither. Waits (returns false, *at unchanged) for the byte behind "\r".
 *   end  of the field's text
 *   row_ends  receives whether it was the end of the row */
static bool take_end(tdm_csv *c, size_t end, bool is_quoted, bool *row_ends)
{
    const char *p = c->buf + c->at;
    const size_t left = c->end - c->at;
    if (*p == '\r' && left == 1 && !c->at_eof)
        return false;
    const size_t ending = *p == '\n' ? 1 : *p == '\r' && left == 1 ? 1 : *p == '\r' && p[1] == '\n' ? 2 : 0;
    *row_ends = ending > 0;
    if (*row_ends || *p == ',') {
        end_field(c, end, is_quoted);
        c->at += *row_ends ? ending : 1;
        return true;
    }
    refuse_at(c, TDM_FAULT_CSV, c->at,
              is_quoted    ? "text behind a closing quote"
              : *p == '\r' ? "a carriage return that ends no line, outside quotes"
                           : "a quote inside a field without quotes");
    c->state = IN_PLAIN;
    c->at++;
    return true;
}

static bool is_special(char byte)
{
    return byte == ',' || byte == '\n' || byte == '\r' || byte == '"';
}

static void enter_field(tdm_csv *c)
{
    const bool is_quoted = c->buf[c->at] == '"';
    if (is_quoted) {
        c->quote_offset = c->offset + (c->at - c->start);
        c->quote_line = c->dropped ? c->line + count_newlines(c->buf + c->start, c->at - c->start) : 0;
        c->at++;
    }
    begin_field(c, c->at);
    c->state = is_quoted ? IN_QUOTES : IN_PLAIN;
}

static void walk_quotes(tdm_csv *c)
{
    const char *quote = memchr(c->buf + c->at, '"', c->end - c->at);
    c->at = quote ? (size_t)(quote - c->buf) + 1 : c->end;
    if (quote)
        c->state = BEHIND_QUOTE;
}

static void take_doubled(tdm_csv *c)
{
    if (c->n_raw < TDM_CSV_COLUMNS_MOST)
        c->raw[c->n_raw].is_doubled = true;
    c->state = IN_QUOTES;
    c->at++;
}

/* Look at what the buffer holds. Returns: whether the row ended, before buf[at]. */
static bool scan(tdm_csv *c)
{
    bool row_ends = false;
    while (c->at < c->end && !row_ends) {
        switch (c->state) {
        case AT_START:
            enter_field(c);
            break;
        case IN_PLAIN:
            while (c->at < c->end && !is_special(c->buf[c->at]))
                c->at++;
            if (c->at < c->end && !take_end(c, c->at, false, &row_ends))
                return false;
            break;
        case IN_QUOTES:
            walk_quotes(c);
            break;
        case BEHIND_QUOTE:
            if (c->buf[c->at] == '"')
                take_doubled(c);
            else if (!take_end(c, c->at - 1, true, &row_ends))
                return false;
            break;
        }
    }
    return row_ends;
}

/* ---- rows ---- */

static void begin_row(tdm_csv *c)
{
    c->at = c->start;
    c->state = AT_START;
    c->dropped = 0;
    c->row_offset = c->offset;
    c->row_line = c->line;
    c->quote_line = 0;
    c->n_raw = 0;
    c->is_bad = false;
}

/* What has been looked at is used up. */
static void consume(tdm_csv *c)
{
    c->line += count_newlines(c->buf + c->start, c->at - c->start);
    c->offset += c->at - c->start;
    c->start = c->at;
}

/* Keep no more of a row that is too long; its end is still looked for. */
static void drop(tdm_csv *c)
{
    count_quote_line(c);
    if (c->state == IN_QUOTES)
        refuse(c, TDM_FAULT_LINE_TOO_LONG,
               "row %" PRId64 ": more than %zu bytes, in quotes that begin at line %" PRId64 ", byte %" PRIu64,
               c->number + 1, c->options.max_row, c->quote_line, c->quote_offset);
    else
        refuse(c, TDM_FAULT_LINE_TOO_LONG, "row %" PRId64 ": more than %zu bytes", c->number + 1,
               c->options.max_row);
    c->dropped += c->at - c->start;
    consume(c);
}

/* The file ends where no row has ended. */
static void end_last(tdm_csv *c)
{
    count_quote_line(c);
    if (c->state == IN_QUOTES)
        refuse(c, TDM_FAULT_CSV,
               "row %" PRId64 ": the quote at line %" PRId64 ", byte %" PRIu64
               " is not closed before the end of the file",
               c->number + 1, c->quote_line, c->quote_offset);
    if (c->state == AT_START)
        begin_field(c, c->at);
    end_field(c, c->state == BEHIND_QUOTE ? c->at - 1 : c->at, c->state == BEHIND_QUOTE);
    if (c->damage.status != TDM_OK) {
        c->is_bad = false; /* whatever is wrong with what there is of it */
        refuse(c, TDM_FAULT_DAMAGED, "%s", c->damage.msg);
        c->damage.status = TDM_OK;
    }
}

/* Bring a row, its bytes and ending [start, at), into the buffer. *got is false at the end of the file. */
static tdm_status find_row(tdm_csv *c, bool *got, tdm_err *err)
{
    tdm_status st = TDM_OK;
    begin_row(c);
    for (;;) {
        const bool has_ended = scan(c);
        if (c->at - c->start + c->dropped > c->options.max_row)
            drop(c);
        if (has_ended)
            break;
        if (!c->at_eof) {
            TDM_TRY(read_more(c, err));
            continue;
        }
        *got = c->at > c->start || c->dropped || c->damage.status != TDM_OK;
        if (*got)
            end_last(c);
        goto done;
    }
    *got = true;
done:
    return st;
}

static bool is_blank(const tdm_csv *c)
{
    return c->n_raw == 1 && !c->is_bad && !c->raw[0].is_quoted && c->raw[0].len == 0;
}

/* The first byte of p [n] that is not valid UTF-8; n: there is none. */
static size_t find_invalid(const char *p, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)p;
    size_t i = 0;
    while (i < n) {
        uint64_t word = 0;
        int32_t code = 0;
        if (n - i >= sizeof word) {
            memcpy(&word, p + i, sizeof word);
            if (!(word & UINT64_C(0x8080808080808080))) {
                i += sizeof word;
                continue;
            }
        }
        const size_t step = tdm_utf8_next(bytes + i, n - i, &code);
        if (code < 0)
            return i;
        i += step;
    }
    return n;
}

static void check_text(tdm_csv *c)
{
    const char *text = c->buf + c->start;
    const size_t len = c->at - c->start;
    if (c->is_bad)
        return;
    const char *nul = memchr(text, 0, len);
    const size_t invalid = find_invalid(text, len);
    if (invalid < len)
        refuse_at(c, TDM_FAULT_UTF8, c->start + invalid, "invalid UTF-8");
    else if (nul)
        refuse_at(c, TDM_FAULT_NUL, (size_t)(nul - c->buf), "a NUL byte");
}

/* Make doubled quotes one, in place. Returns: the new length. */
static size_t undouble(char *p, size_t len)
{
    const char *from = p, *end = p + len;
    char *to = p;
    while (from < end) {
        const char *quote = memchr(from, '"', (size_t)(end - from));
        const size_t n = (size_t)((quote ? quote + 1 : end) - from);
        memmove(to, from, n);
        to += n;
        from += n + (quote != NULL);
    }
    return (size_t)(to - p);
}

/* row: its bytes, which change */
static void make_fields(tdm_csv *c, char *row)
{
    for (size_t i = 0; i < c->n_raw; i++) {
        const raw_field *f = &c->raw[i];
        char *text = row + f->at;
        c->fields[i] = (tdm_csv_field){text, f->is_doubled ? undouble(text, f->len) : f->len};
    }
}

tdm_status tdm_csv_next(tdm_csv *c, tdm_csv_row *row, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool got = false;
    do {
        TDM_TRY(find_row(c, &got, err));
        if (got && is_blank(c)) {
            c->blank++;
            consume(c);
        }
    } while (got && is_blank(c));
    *row = (tdm_csv_row){.kind = TDM_CSV_END, .line = c->row_line, .offset = c->row_offset};
    if (!got)
        goto done;
    const uint64_t bytes = c->dropped + (c->at - c->start);
    row->hash = c->dropped ? XXH3_64bits(&bytes, sizeof bytes) : XXH3_64bits(c->buf + c->start, bytes);
    check_text(c);
    const size_t want = c->columns ? c->n_columns : c->n_raw;
    if (c->n_raw != want || c->n_raw > TDM_CSV_COLUMNS_MOST)
        refuse(c, TDM_FAULT_CSV, "row %" PRId64 ": %zu fields, want %s%zu", c->number + 1, c->n_raw,
               c->columns ? "" : "at most ", c->columns ? want : (size_t)TDM_CSV_COLUMNS_MOST);
    char *bytes_of_row = c->buf + c->start;
    consume(c); /* counts lines, so before the bytes change */
    if (!c->is_bad)
        make_fields(c, bytes_of_row);
    row->kind = c->is_bad ? TDM_CSV_BAD : TDM_CSV_ROW;
    row->number = ++c->number;
    row->fields = c->is_bad ? NULL : c->fields;
    row->fault = c->fault;
    row->detail = c->is_bad ? c->detail : NULL;
done:
    return st;
}
