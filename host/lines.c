#include "host/lines.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "host/source.h"

enum { FIRST_CAP = 256 << 10 };

struct tdm_lines {
    const tdm_inputs *inputs; /* borrowed */
    tdm_lines_options options;
    size_t next_file;
    const tdm_input *input; /* borrowed; the open file, NULL between files */
    tdm_source *source;     /* of the open file */
    bool at_eof;            /* of the open file: there is nothing behind the buffer */
    bool is_over;           /* nothing more is wanted of the open file */
    tdm_err damage;         /* behind the buffer; status is TDM_OK where there is none */
    bool no_wait;           /* leave rather than wait for input */
    bool starved;           /* left because of no_wait: the line is not complete yet */
    bool has_ahead;
    tdm_line ahead; /* fetched already by tdm_lines_would_block */
    char *buf;      /* owned; [start, end) is read and not yet handed out */
    size_t cap, start, end;
    size_t searched; /* bytes from start on that hold no newline */
    int64_t line, blank;   /* line: of the last one handed out */
    bool line_is_known;
    uint64_t offset;       /* of buf[start] in the open file */
    bool in_chunk;         /* chunk, is_wanted and chunk_end are set */
    tdm_chunk chunk;       /* the lines of which come next */
    bool is_wanted;        /* chunk is */
    uint64_t chunk_end;    /* the first byte behind it; lines that begin before belong to it */
    uint64_t bytes_before; /* of the files before the open one */
};

tdm_status tdm_lines_open(const tdm_inputs *inputs, const tdm_lines_options *options, tdm_lines **out,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_lines *l = calloc(1, sizeof *l);
    TDM_REQUIRE(l, TDM_ENOMEM, "line reader");
    l->inputs = inputs;
    l->options = *options;
    if (l->options.max_line > SIZE_MAX / 4)
        l->options.max_line = SIZE_MAX / 4;
    l->buf = malloc(FIRST_CAP);
    TDM_REQUIRE(l->buf, TDM_ENOMEM, "line buffer of %d bytes", FIRST_CAP);
    l->cap = FIRST_CAP;
    *out = l;
    l = NULL;
done:
    tdm_lines_close(l);
    return st;
}

void tdm_lines_close(tdm_lines *l)
{
    if (!l)
        return;
    tdm_source_close(l->source);
    free(l->buf);
    free(l);
}

/* ---- bytes ---- */

/* Bytes of the open file that have been used; all of them when nothing more is wanted. */
static uint64_t bytes_used(const tdm_lines *l)
{
    if (!l->input)
        return 0;
    if (l->is_over && l->input->is_regular)
        return l->input->size;
    return tdm_input_is_seekable(l->input) ? l->offset : tdm_source_consumed(l->source);
}

static void close_file(tdm_lines *l)
{
    l->bytes_before += bytes_used(l);
    tdm_source_close(l->source);
    l->source = NULL;
    l->input = NULL;
}

/* A failure changes nothing. */
static tdm_status open_next(tdm_lines *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_input *input = &l->inputs->items[l->next_file];
    const tdm_source_options options = {.max_ratio = l->options.max_ratio, .stop = l->options.stop};
    TDM_TRY(tdm_source_open(input->path, &options, &l->source, err));
    l->next_file++;
    l->input = input;
    l->at_eof = l->in_chunk = false;
    l->is_over = tdm_input_is_seekable(input) && input->size == 0;
    l->damage.status = TDM_OK;
    l->start = l->end = l->searched = 0;
    l->offset = 0;
    l->chunk.number = 0;
    l->line = 0;
    l->line_is_known = true;
done:
    return st;
}

/* Make room at the end of the buffer; grows only for a line longer than the buffer. */
static tdm_status make_room(tdm_lines *l, tdm_err *err)
{
    if (l->start > 0) { /* what is left is a part of one line: short, as a rule */
        memmove(l->buf, l->buf + l->start, l->end - l->start);
        l->end -= l->start;
        l->start = 0;
    }
    if (l->end < l->cap)
        return TDM_OK;
    char *grown = realloc(l->buf, l->cap * 2);
    if (!grown)
        return tdm_fail(err, TDM_ENOMEM, "%s: byte %" PRIu64 ": a line buffer of %zu bytes",
                        l->input->path, l->offset, l->cap * 2);
    l->buf = grown;
    l->cap *= 2;
    return TDM_OK;
}

/* Read what there is, at least one byte or the end of the file; nothing when starved. */
static tdm_status read_more(tdm_lines *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_err why = {0};
    size_t n = 0;
    TDM_TRY(make_room(l, err));
    const uint64_t at = l->offset + (l->end - l->start), size = l->input->size;
    const bool has_size = tdm_input_is_seekable(l->input);
    size_t want = l->cap - l->end;
    if (has_size && want > size - at)
        want = (size_t)(size - at);
    if (want > 0)
        st = tdm_source_read(l->source, l->buf + l->end, want, l->no_wait, &n, &l->starved, &why);
    TDM_REQUIRE(st == TDM_OK || st == TDM_EFORMAT, st, "%s", why.msg);
    if (st == TDM_EFORMAT)
        l->damage = why;
    st = TDM_OK;
    l->end += n;
    l->at_eof = n == 0 && !l->starved;
    TDM_REQUIRE(!l->at_eof || !has_size || at == size, TDM_EIO,
                "%s: ends at byte %" PRIu64 ", had %" PRIu64 " bytes when it was listed", l->input->path, at,
                size);
done:
    return st;
}

static void consume(tdm_lines *l, size_t n)
{
    l->start += n;
    l->offset += n;
    l->searched = 0;
}

/* ---- one line ---- */

/* Find the end of the line at buf[start]: *len bytes to its newline, or to the end of the file. */
static tdm_status find_end(tdm_lines *l, size_t *len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (;;) {
        const char *from = l->buf + l->start + l->searched;
        const size_t fresh = l->end - l->start - l->searched;
        const char *newline = fresh ? memchr(from, '\n', fresh) : NULL;
        *len = newline ? (size_t)(newline - (l->buf + l->start)) : l->end - l->start;
        l->searched = *len;
        /* a byte order mark and "\r" do not count: only past them is a line surely too long */
        if (newline || l->at_eof || *len > l->options.max_line + 4)
            break;
        TDM_TRY(read_more(l, err));
        if (l->starved)
            break;
    }
done:
    return st;
}

/* Pass over the rest of a line, without keeping it, to behind its newline. *len receives its bytes without
 * the ending, *has_end whether there is one. */
static tdm_status skip_rest(tdm_lines *l, size_t *len, bool *has_end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool has_return = false; /* the last byte so far is "\r" */
    *len = 0;
    l->no_wait = false; /* these bytes are gone: there is no coming back to this line */
    for (;;) {
        const size_t held = l->end - l->start;
        const char *text = l->buf + l->start;
        const char *newline = held ? memchr(text, '\n', held) : NULL;
        const size_t n = newline ? (size_t)(newline - text) : held;
        if (n)
            has_return = text[n - 1] == '\r';
        *len += n;
        *has_end = newline != NULL;
        consume(l, n + *has_end);
        if (*has_end || l->at_eof)
            break;
        TDM_TRY(read_more(l, err));
    }
    *len -= has_return;
done:
    return st;
}

/* Damage stands for the line that begins at `offset`, as far as there is one, and for all that is behind it. */
static void take_damage(tdm_lines *l, uint64_t offset, tdm_line *line)
{
    *line = (tdm_line){.kind = TDM_LINES_DAMAGED, .detail = l->damage.msg};
    line->hash = XXH3_64bits(l->damage.msg, strlen(l->damage.msg));
    l->damage.status = TDM_OK;
    l->start = l->end;
    l->offset = offset;
}

/* What begins at the place, blank or not: a line, or damage. *got is false when starved. */
static tdm_status take_line(tdm_lines *l, tdm_line *line, bool *got, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t len = 0, mark = 0;
    const uint64_t offset = l->offset;
    TDM_TRY(find_end(l, &len, err));
    *got = !l->starved;
    if (l->starved)
        goto done;
    const char *text = l->buf + l->start;
    bool has_end = l->start + len < l->end;
    if (offset == 0 && len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        mark = 3;
    *line = (tdm_line){.kind = TDM_LINES_LINE, .text = text + mark, .len = len - mark};
    if (line->len && text[len - 1] == '\r')
        line->len--;
    if (line->len > l->options.max_line) {
        TDM_TRY(skip_rest(l, &line->len, &has_end, err));
        *line = (tdm_line){.kind = TDM_LINES_TOO_LONG, .len = line->len - mark};
        line->hash = XXH3_64bits(&line->len, sizeof line->len);
    } else {
        line->hash = XXH3_64bits(line->text, line->len);
        consume(l, len + has_end);
    }
    if (!has_end && l->damage.status != TDM_OK)
        take_damage(l, offset, line);
    line->offset = offset;
    line->file = l->input->path;
    line->number = l->chunk.file;
    line->line = l->line_is_known ? ++l->line : 0;
done:
    return st;
}

static bool is_blank(const tdm_line *line)
{
    if (line->kind != TDM_LINES_LINE)
        return false;
    for (size_t i = 0; i < line->len; i++)
        if (line->text[i] != ' ' && line->text[i] != '\t' && line->text[i] != '\r')
            return false;
    return true;
}

/* ---- chunks ---- */

static uint64_t mix(uint64_t hash, uint64_t a, uint64_t b)
{
    const uint64_t words[] = {hash, a, b};
    return XXH3_64bits(words, sizeof words);
}

/* Go to the first line that begins behind byte `at`, which may end the line before it. */
static tdm_status jump(tdm_lines *l, uint64_t at, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t len = 0;
    bool has_end = false;
    TDM_TRY(tdm_source_seek(l->source, at, err));
    l->start = l->end = l->searched = 0;
    l->offset = at;
    l->at_eof = l->line_is_known = false;
    TDM_TRY(skip_rest(l, &len, &has_end, err));
done:
    return st;
}

static bool ask_filter(const tdm_lines *l)
{
    const tdm_chunk_filter *filter = &l->options.filter;
    return !filter->is_wanted || filter->is_wanted(filter->ctx, l->chunk.file, l->chunk.number);
}

/* Begin with chunk.number, or with the next that is wanted where others need not be read. */
static tdm_status enter_chunk(tdm_lines *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const uint64_t size = l->options.chunk_bytes;
    const bool is_seekable = tdm_input_is_seekable(l->input);
    l->chunk = (tdm_chunk){.file = l->next_file - 1, .number = l->chunk.number};
    l->is_wanted = !size || ask_filter(l);
    while (is_seekable && !l->is_wanted) {
        l->is_over = ++l->chunk.number == tdm_input_chunks(l->input, size);
        if (l->is_over)
            goto done;
        l->is_wanted = ask_filter(l);
    }
    l->chunk_end = size ? (l->chunk.number + 1) * size : UINT64_MAX;
    if (is_seekable && l->offset < l->chunk.number * size)
        TDM_TRY(jump(l, l->chunk.number * size - 1, err));
    l->in_chunk = true;
done:
    return st;
}

/* All lines of the chunk have been read: at_end: and all of the file. */
static tdm_status end_chunk(tdm_lines *l, bool at_end, tdm_line *line, bool *got, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_chunk_filter *filter = &l->options.filter;
    tdm_chunk chunk = l->chunk;
    chunk.is_last = at_end && (l->offset ? l->offset - 1 : 0) < l->chunk_end;
    chunk.hash = mix(chunk.hash, (uint64_t)chunk.skipped, 0);
    if (l->options.chunk_bytes && l->is_wanted) {
        *line = (tdm_line){.kind = TDM_LINES_CHUNK, .file = l->input->path, .number = chunk.file,
                           .chunk = chunk};
        *got = true;
    } else if (l->options.chunk_bytes && filter->pass) {
        TDM_TRY(filter->pass(filter->ctx, &chunk, err));
    }
    l->is_over = chunk.is_last;
    l->in_chunk = false;
    l->chunk.number++;
done:
    return st;
}

/* ---- the stream ---- */

/* Whether a line, or damage, begins at the place; not at the end of the file, and not yet when starved. */
static tdm_status look(tdm_lines *l, bool *is_line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    while (l->start == l->end && !l->at_eof && !l->starved)
        TDM_TRY(read_more(l, err));
    *is_line = l->start < l->end || l->damage.status != TDM_OK;
done:
    return st;
}

/* One step in the open file. *got is false where it gave nothing to hand out. */
static tdm_status step(tdm_lines *l, tdm_line *line, bool *got, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool is_line = false, is_read = false;
    if (!l->in_chunk)
        TDM_TRY(enter_chunk(l, err));
    if (l->is_over)
        goto done;
    TDM_TRY(look(l, &is_line, err));
    if (l->starved)
        goto done;
    if (!is_line || l->offset >= l->chunk_end) {
        st = end_chunk(l, !is_line, line, got, err);
        goto done;
    }
    TDM_TRY(take_line(l, line, &is_read, err));
    if (!is_read)
        goto done;
    if (is_blank(line)) {
        l->chunk.skipped++;
        l->blank += l->is_wanted;
        goto done;
    }
    l->chunk.hash = mix(l->chunk.hash, line->offset, line->hash);
    *got = l->is_wanted;
done:
    return st;
}

static tdm_status fetch(tdm_lines *l, tdm_line *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool got = false;
    l->starved = false;
    while (!got && !l->starved) {
        if (!l->input && l->next_file == l->inputs->n) {
            *line = (tdm_line){.kind = TDM_LINES_END};
            break;
        }
        if (!l->input)
            TDM_TRY(open_next(l, err));
        if (l->is_over)
            close_file(l);
        else
            TDM_TRY(step(l, line, &got, err));
    }
done:
    return st;
}

tdm_status tdm_lines_next(tdm_lines *l, tdm_line *line, tdm_err *err)
{
    if (l->has_ahead) {
        l->has_ahead = false;
        *line = l->ahead;
        return TDM_OK;
    }
    l->no_wait = false;
    return fetch(l, line, err);
}

bool tdm_lines_would_block(tdm_lines *l)
{
    if (l->has_ahead)
        return false;
    l->no_wait = true;
    const tdm_status st = fetch(l, &l->ahead, NULL);
    l->no_wait = false;
    l->has_ahead = st == TDM_OK && !l->starved;
    return l->starved; /* an error comes again when the line is asked for */
}

int64_t tdm_lines_blank(const tdm_lines *l)
{
    return l->blank;
}

void tdm_lines_progress(const tdm_lines *l, uint64_t *done, uint64_t *total)
{
    *done = l->bytes_before + bytes_used(l);
    *total = l->inputs->bytes;
}
