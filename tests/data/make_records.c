/* make_records: JSON Lines to try the commands with, as many as wanted, faster than they are read.
 *
 *   make_records --n 1000000 > records.jsonl
 *   make_records --bytes 10000000000 --length 500:1500 --no-ids | tandem detect ...
 *   make_records --n 100000 --bad-every 100 --errors expected.txt > some_bad.jsonl
 *
 * Texts are English words in random order, of lengths spread evenly over --length A:B (bytes; 200:2000). With
 * --bad-every K exactly one line of each K is a bad record, of the kinds below in turn, at a random
 * place; others have CRLF endings, ids of 300 digits, or are blank, none of which is an error. --errors lists
 * what a reader must find: "LINE OFFSET CLASS". The first --handful (5) of the over-long and of the deeply
 * nested lines have --long and --deep bytes and levels. --seed N: other records. Counts go to stderr. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POOL_BYTES = 16 << 20, BUFFER_BYTES = 1 << 20 }; /* the pool exceeds the windows of gzip and zstd */

typedef struct {
    uint64_t n, bytes, shortest, longest, bad_every, handful, long_bytes, deep_levels, seed;
    const char *errors;
    bool no_ids;
} options;

typedef struct {
    options options;
    FILE *errors;
    char *pool;
    char *buffer; /* [BUFFER_BYTES] */
    size_t used;
    uint64_t random;
    uint64_t written, lines, good, bad, blank; /* written: bytes */
    uint64_t n_long, n_deep;
} maker;

static void die(const char *what)
{
    fprintf(stderr, "make_records: %s: %s\n", what, strerror(errno));
    exit(74);
}

static uint64_t draw(maker *m) /* splitmix64 */
{
    uint64_t z = m->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ---- output ---- */

static void flush(maker *m)
{
    for (size_t at = 0; at < m->used;) {
        const ssize_t n = write(STDOUT_FILENO, m->buffer + at, m->used - at);
        if (n < 0 && errno != EINTR)
            die("stdout");
        at += n > 0 ? (size_t)n : 0;
    }
    m->used = 0;
}

static void put(maker *m, const char *p, size_t len)
{
    m->written += len;
    while (len > 0) {
        if (m->used == BUFFER_BYTES)
            flush(m);
        const size_t room = BUFFER_BYTES - m->used;
        const size_t n = len < room ? len : room;
        memcpy(m->buffer + m->used, p, n);
        m->used += n;
        p += n;
        len -= n;
    }
}

static void put_text(maker *m, const char *s)
{
    put(m, s, strlen(s));
}

static void put_many(maker *m, char c, uint64_t n)
{
    char block[4096];
    memset(block, c, sizeof block);
    for (; n > 0; n -= n < sizeof block ? n : sizeof block)
        put(m, block, n < sizeof block ? n : sizeof block);
}

static void put_number(maker *m, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    put(m, digits + at, sizeof digits - at);
}

/* ---- texts ---- */

static void fill_pool(maker *m)
{
    static const char *const WORDS[] = {
        "the ",     "of ",    "and ",      "a ",       "to ",     "in ",      "is ",      "was ",
        "that ",    "it ",    "for ",      "on ",      "with ",   "as ",      "he ",      "said, ",
        "at ",      "by ",    "from ",     "they ",    "this ",   "have ",    "not ",     "or ",
        "had. ",    "which ", "one ",      "were ",    "their ",  "there ",   "when ",    "people ",
        "how ",     "said ",  "each ",     "she ",     "river ",  "time ",    "up ",      "other ",
        "winter. ", "We ",    "language ", "machine ", "1984 ",   "writing ", "don't ",   "question? ",
        "The ",     "It ",    "In ",       "model ",   "under ",  "nothing ", "because ", "government ",
        "light ",   "house ", "between ",  "years ",   "number ", "water; ",  "history ", "again: ",
    };
    m->pool = malloc(POOL_BYTES);
    m->buffer = malloc(BUFFER_BYTES);
    if (!m->pool || !m->buffer)
        die("memory");
    for (size_t at = 0; at < POOL_BYTES;) {
        const char *word = WORDS[draw(m) % (sizeof WORDS / sizeof *WORDS)];
        for (; *word && at < POOL_BYTES; word++)
            m->pool[at++] = *word;
    }
}

/* A text without its quotes; now and then with escapes and characters beyond ASCII. */
static void put_words(maker *m)
{
    const uint64_t bits = draw(m);
    const uint64_t spread = m->options.longest - m->options.shortest + 1;
    const uint64_t len = m->options.shortest + (bits >> 32) % spread;
    if (bits % 8 == 0)
        put_text(m, "\\\"Gr\xc3\xbc\xc3\x9f Gott\\\" \\u00e9t\\u00e9 \xe2\x82\xac\xf0\x9f\x98\x80\\n");
    put(m, m->pool + bits % (POOL_BYTES - m->options.longest), len);
}

static void put_head(maker *m)
{
    if (m->options.no_ids) {
        put_text(m, "{\"text\": \"");
        return;
    }
    put_text(m, "{\"id\": ");
    put_number(m, m->lines);
    put_text(m, ", \"text\": \"");
}

/* ---- bad lines ---- */

typedef struct {
    const char *class;
    const char *whole;  /* the line; NULL: a record with `inside` in the middle of its text and `end` */
    const char *inside;
    const char *end;
    size_t inside_len;
    bool is_long, is_deep;
} bad_kind;
#define INSIDE(s) .inside = s, .inside_len = sizeof s - 1, .end = "\"}"

static const bad_kind KINDS[] = {
    {.class = "line-too-long", .is_long = true},
    {.class = "utf8", INSIDE("\xff")},
    {.class = "utf8", INSIDE("\xc0\xaf")}, /* overlong */
    {.class = "utf8", INSIDE("\\ud800 alone")},
    {.class = "control", INSIDE("\x01")},
    {.class = "json", .inside = "", .end = ""}, /* truncated */
    {.class = "not-object", .whole = "[\"text\", \"a list\"]"},
    {.class = "no-text", .whole = "{\"id\": 7, \"txt\": \"misspelt\"}"},
    {.class = "text-type", .whole = "{\"id\": 8, \"text\": [\"a\", \"list\"]}"},
    {.class = "duplicate-key", .inside = "", .end = "\", \"text\": \"again\"}"},
    {.class = "empty", .whole = "{\"id\": 9, \"text\": \"\"}"},
    {.class = "json", .inside = "", .end = "\", \"score\": NaN}"},
    {.class = "nul", INSIDE("\0")},
    {.class = "nul", INSIDE("\\u0000")},
    {.class = "json", .whole = "\xef\xbb\xbf{\"id\": 10, \"text\": \"a byte order mark in the middle\"}"},
    {.class = "json", .is_deep = true},
};
enum { N_KINDS = sizeof KINDS / sizeof *KINDS };

static void put_bad(maker *m)
{
    const bad_kind *kind = &KINDS[m->bad++ % N_KINDS];
    if (kind->is_long && m->n_long++ >= m->options.handful)
        kind = &KINDS[1 + m->bad % 4];
    if (m->errors)
        fprintf(m->errors, "%" PRIu64 " %" PRIu64 " %s\n", m->lines, m->written, kind->class);
    if (kind->is_deep) {
        const uint64_t levels = m->n_deep++ < m->options.handful ? m->options.deep_levels : 1100;
        put_text(m, "{\"text\": \"deep\", \"more\": ");
        put_many(m, '[', levels);
        put_many(m, ']', levels);
        put_text(m, "}");
    } else if (kind->whole) {
        put_text(m, kind->whole);
    } else {
        put_head(m);
        if (kind->is_long)
            put_many(m, 'x', m->options.long_bytes);
        put_words(m);
        put(m, kind->inside, kind->inside_len);
        put_words(m);
        put_text(m, kind->is_long ? "\"}" : kind->end);
    }
    put(m, "\n", 1);
}

/* A line that looks odd and is none the worse for it. */
static void put_odd(maker *m)
{
    if (m->lines % 3 == 0) {
        m->blank++;
        put_text(m, m->lines % 2 ? "\n" : " \t\r\n");
        return;
    }
    m->good++;
    if (m->lines % 3 == 1) {
        put_head(m);
    } else {
        put_text(m, "{\"id\": 1");
        put_many(m, '0', 299);
        put_text(m, ", \"text\": \"");
    }
    put_words(m);
    put_text(m, "\"}\r\n");
}

static void put_good(maker *m)
{
    m->good++;
    put_head(m);
    put_words(m);
    put_text(m, "\"}\n");
}

static void make(maker *m)
{
    const options *o = &m->options;
    uint64_t bad_at = 0, odd_at = 0; /* in the current K lines */
    while (o->n ? m->lines < o->n : m->written < o->bytes) {
        const uint64_t place = o->bad_every ? m->lines % o->bad_every : 1;
        if (place == 0) {
            bad_at = draw(m) % o->bad_every;
            odd_at = draw(m) % o->bad_every;
        }
        m->lines++;
        if (o->bad_every && place == bad_at)
            put_bad(m);
        else if (o->bad_every && place == odd_at)
            put_odd(m);
        else
            put_good(m);
    }
    flush(m);
}

/* ---- options ---- */

static uint64_t number(const char *name, const char *text, char **end)
{
    errno = 0;
    const uint64_t value = strtoull(text, end, 10);
    if (*text < '0' || *text > '9' || errno) {
        fprintf(stderr, "make_records: --%s %s: want a whole number\n", name, text);
        exit(2);
    }
    return value;
}

static void parse(options *o, int argc, char **argv)
{
    static const struct option LONG[] = {
        {"n", 1, NULL, 0},       {"bytes", 1, NULL, 0}, {"length", 1, NULL, 0}, {"bad-every", 1, NULL, 0},
        {"handful", 1, NULL, 0}, {"long", 1, NULL, 0},  {"deep", 1, NULL, 0},   {"seed", 1, NULL, 0},
        {"errors", 1, NULL, 0},  {"no-ids", 0, NULL, 0}, {0},
    };
    uint64_t *const values[] = {&o->n,       &o->bytes,      &o->shortest,    &o->bad_every,
                                &o->handful, &o->long_bytes, &o->deep_levels, &o->seed};
    int at = 0, c = 0;
    while ((c = getopt_long(argc, argv, "", LONG, &at)) == 0) {
        char *end = NULL;
        if (!LONG[at].has_arg)
            o->no_ids = true;
        else if (!strcmp(LONG[at].name, "errors"))
            o->errors = optarg;
        else
            *values[at] = number(LONG[at].name, optarg, &end);
        if (!strcmp(LONG[at].name, "length"))
            o->longest = *end == ':' ? number("length", end + 1, &end) : o->shortest;
    }
    if (c != -1 || optind < argc || (o->n == 0) == (o->bytes == 0) || o->shortest > o->longest ||
        o->longest >= POOL_BYTES) {
        fprintf(stderr, "Usage: make_records --n N | --bytes N [--length A:B] [--no-ids] [--seed N]\n"
                        "                    [--bad-every K [--errors FILE] [--handful N] [--long N] [--deep N]]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    maker m = {.options = {.shortest = 200, .longest = 2000, .handful = 5, .long_bytes = 9 << 20,
                           .deep_levels = 1000000}};
    parse(&m.options, argc, argv);
    m.random = m.options.seed;
    if (m.options.errors && !(m.errors = fopen(m.options.errors, "w")))
        die(m.options.errors);
    fill_pool(&m);
    make(&m);
    if (m.errors && fclose(m.errors))
        die(m.options.errors);
    fprintf(stderr, "lines %" PRIu64 " ok %" PRIu64 " bad %" PRIu64 " blank %" PRIu64 " bytes %" PRIu64 "\n", m.lines,
            m.good, m.bad, m.blank, m.written);
    free(m.pool);
    free(m.buffer);
    return 0;
}
