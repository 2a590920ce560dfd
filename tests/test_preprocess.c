/* The three preprocessings: cases by hand, and random texts against the rules of Python spelled out
 * over lists of code points and pieces. */
#include "detector/preprocess.h"

#include "tests/tiny_roberta.h"

enum { CONTEXT = 12, BOS = 0, PAD = 1, EOS = 2, UNK = 3, MASK = TINY_VOCAB - 1 };
enum { MAX_CODES = 400, MAX_PIECES = 128 };

static const char *const SPECIALS[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
static const int32_t SPECIAL_IDS[] = {BOS, PAD, EOS, UNK, MASK};
enum { N_SPECIALS = 5 };

static tdm_bpe *bpe;

static int open_bpe(void **state)
{
    (void)state;
    tdm_buf merges = {0}, vocab = {0};
    tdm_err err = {0};
    tiny_vocabulary(&merges, &vocab);
    if (tdm_bpe_open_memory(merges.p, merges.len, vocab.p, vocab.len, &bpe, &err) != TDM_OK)
        print_message("%s\n", err.msg);
    tdm_buf_free(&merges);
    tdm_buf_free(&vocab);
    return bpe ? 0 : -1;
}

static int close_bpe(void **state)
{
    (void)state;
    tdm_bpe_close(bpe);
    return 0;
}

static void encode_plain(const char *text, size_t len, tdm_ids *ids)
{
    assert_int_equal(tdm_bpe_encode(bpe, text, len, 0, ids, NULL), TDM_OK);
}

static void put(tdm_ids *ids, int32_t id)
{
    if (ids->len == ids->cap) {
        ids->cap = ids->cap ? ids->cap * 2 : 16;
        ids->p = realloc(ids->p, ids->cap * sizeof *ids->p);
        assert_non_null(ids->p);
    }
    ids->p[ids->len++] = id;
}

/* What the model would see, and the counts, from the ids of a whole text. */
static void frame(const tdm_ids *encoded, tdm_ids *ids, tdm_token_counts *counts)
{
    const size_t used = encoded->len < CONTEXT - 2 ? encoded->len : CONTEXT - 2;
    ids->len = 0;
    *counts = (tdm_token_counts){(int64_t)encoded->len, (int64_t)used};
    if (!encoded->len)
        return;
    put(ids, BOS);
    for (size_t i = 0; i < used; i++)
        put(ids, encoded->p[i]);
    put(ids, EOS);
}

static void check(tdm_preprocess_mode mode, const char *text, size_t len, const tdm_ids *want,
                  tdm_token_counts want_counts)
{
    tdm_preprocess p;
    tdm_ids ids = {0};
    tdm_token_counts counts;
    assert_int_equal(tdm_preprocess_init(&p, bpe, mode, CONTEXT, BOS, EOS, NULL), TDM_OK);
    assert_int_equal(tdm_preprocess_text(&p, text, len, &ids, &counts, NULL), TDM_OK);
    assert_int_equal(ids.len, want->len);
    if (ids.len)
        assert_memory_equal(ids.p, want->p, ids.len * sizeof *ids.p);
    assert_int_equal(counts.all_tokens, want_counts.all_tokens);
    assert_int_equal(counts.used_tokens, want_counts.used_tokens);
    tdm_ids_free(&ids);
}

/* ---- cases by hand: the pieces that are encoded one by one; a special stands for itself ---- */

/* clang-format off */
static const struct {
    const char *why;
    tdm_preprocess_mode mode;
    const char *text;
    const char *pieces[6];
} CASES[] = {
    {"plain", TDM_PREPROCESS_RELEASE, "the an", {"the an"}},
    {"stripped", TDM_PREPROCESS_RELEASE, " \t\n the \r\n", {"the"}},
    {"U+001C to U+001F go", TDM_PREPROCESS_RELEASE, "\x1c\x1d" "a\x1e\x1f", {"a"}},
    {"inner space stays", TDM_PREPROCESS_RELEASE, "a \xC2\xA0 b", {"a \xC2\xA0 b"}},
    {"no-break, ideographic, line separator", TDM_PREPROCESS_RELEASE,
     "\xC2\xA0\xE3\x80\x80" "a\xE2\x80\xA8\xE2\x80\xAF\xE1\x9A\x80\xE2\x81\x9F\xC2\x85", {"a"}},
    {"zero-width space, byte order mark, U+180E are no white space", TDM_PREPROCESS_RELEASE,
     "\xE2\x80\x8B" "a\xEF\xBB\xBF", {"\xE2\x80\x8B" "a\xEF\xBB\xBF"}},
    {"U+180E", TDM_PREPROCESS_RELEASE, "\xE1\xA0\x8E" "a", {"\xE1\xA0\x8E" "a"}},
    {"specials are text", TDM_PREPROCESS_RELEASE, "<s>", {"<", "s", ">"}},
    {"nothing left", TDM_PREPROCESS_RELEASE, " \n\xE2\x80\x80\xE2\x80\x8A", {0}},
    {"nothing", TDM_PREPROCESS_RELEASE, "", {0}},
    {"cut at the context", TDM_PREPROCESS_RELEASE, "0123456789abc", {"0123456789abc"}},

    {"hf strips nothing", TDM_PREPROCESS_HF, " the ", {" the "}},
    {"hf reads specials", TDM_PREPROCESS_HF, "a</s>b", {"a", "</s>", "b"}},
    {"hf: white space is a text", TDM_PREPROCESS_HF, "\n", {"\n"}},
    {"hf: nothing", TDM_PREPROCESS_HF, "", {0}},

    {"demo adds a space, and the specials twice", TDM_PREPROCESS_DEMO, "the",
     {"<s>", " the", "</s>"}},
    {"demo: no space before white space", TDM_PREPROCESS_DEMO, "\tthe", {"<s>", "\tthe", "</s>"}},
    {"demo: U+001C is white space", TDM_PREPROCESS_DEMO, "\x1c" "a", {"<s>", "\x1c" "a", "</s>"}},
    {"demo strips the end alone", TDM_PREPROCESS_DEMO, "  a \n ", {"<s>", "  a", "</s>"}},
    {"demo strips before a special, not behind it", TDM_PREPROCESS_DEMO, "a <mask> b ",
     {"<s>", " a", "<mask>", " b", "</s>"}},
    {"demo: pieces of white space go", TDM_PREPROCESS_DEMO, "<s> <pad>",
     {"<s>", "<s>", "<pad>", "</s>"}},
    {"demo: half a special is text", TDM_PREPROCESS_DEMO, "a<pa", {"<s>", " a<pa", "</s>"}},
    {"demo: white space is empty", TDM_PREPROCESS_DEMO, " \n", {0}},
    {"demo: nothing", TDM_PREPROCESS_DEMO, "", {0}},
    {"demo: the inner </s> is cut away first", TDM_PREPROCESS_DEMO, "012345678",
     {"<s>", " 012345678", "</s>"}},
};
/* clang-format on */

static void test_cases(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        tdm_ids encoded = {0}, want = {0};
        tdm_token_counts counts;
        print_message("%s\n", CASES[c].why);
        for (int i = 0; i < 6 && CASES[c].pieces[i]; i++) {
            const char *piece = CASES[c].pieces[i];
            int special = 0;
            while (special < N_SPECIALS && strcmp(piece, SPECIALS[special]))
                special++;
            if (special < N_SPECIALS)
                put(&encoded, SPECIAL_IDS[special]);
            else
                encode_plain(piece, strlen(piece), &encoded);
        }
        frame(&encoded, &want, &counts);
        check(CASES[c].mode, CASES[c].text, strlen(CASES[c].text), &want, counts);
        tdm_ids_free(&encoded);
        tdm_ids_free(&want);
    }
}

/* ---- Python's rules, letter by letter ---- */

typedef struct {
    uint32_t codes[MAX_CODES];
    size_t n;
    int special; /* this piece is SPECIALS[special]; -1: text */
} piece;

static bool is_space(uint32_t c)
{
    static const uint32_t SPACES[] = {
        0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x1C,   0x1D,   0x1E,   0x1F,   0x20,
        0x85,   0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006,
        0x2007, 0x2008, 0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
    for (size_t i = 0; i < sizeof SPACES / sizeof *SPACES; i++)
        if (SPACES[i] == c)
            return true;
    return false;
}

static size_t to_utf8(const uint32_t *codes, size_t n, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t c = codes[i];
        if (c < 0x80) {
            out[len++] = (char)c;
        } else if (c < 0x800) {
            out[len++] = (char)(0xC0 | c >> 6);
            out[len++] = (char)(0x80 | (c & 0x3F));
        } else if (c < 0x10000) {
            out[len++] = (char)(0xE0 | c >> 12);
            out[len++] = (char)(0x80 | (c >> 6 & 0x3F));
            out[len++] = (char)(0x80 | (c & 0x3F));
        } else {
            out[len++] = (char)(0xF0 | c >> 18);
            out[len++] = (char)(0x80 | (c >> 12 & 0x3F));
            out[len++] = (char)(0x80 | (c >> 6 & 0x3F));
            out[len++] = (char)(0x80 | (c & 0x3F));
        }
    }
    return len;
}

static void encode_codes(const uint32_t *codes, size_t n, tdm_ids *ids)
{
    char text[4 * MAX_CODES];
    encode_plain(text, to_utf8(codes, n, text), ids);
}

static void python_release(const piece *text, tdm_ids *encoded)
{
    size_t from = 0, to = text->n;
    while (from < to && is_space(text->codes[from]))
        from++;
    while (to > from && is_space(text->codes[to - 1]))
        to--;
    encode_codes(text->codes + from, to - from, encoded);
}

/* split_on_token of transformers 2.9.1: str.split(token), rstrip of parts, the token between. */
static size_t split_on(int special, const piece *in, piece *out)
{
    const char *token = SPECIALS[special];
    const size_t n = strlen(token);
    size_t n_out = 0, from = 0;
    for (size_t at = 0; at <= in->n; at++) {
        bool match = at + n <= in->n;
        for (size_t i = 0; match && i < n; i++)
            match = in->codes[at + i] == (unsigned char)token[i];
        if (!match && at < in->n)
            continue;
        size_t to = at;
        while (to > from && is_space(in->codes[to - 1]))
            to--;
        if (to > from) {
            piece *part = &out[n_out++];
            part->special = -1;
            part->n = to - from;
            memcpy(part->codes, in->codes + from, part->n * sizeof *part->codes);
        }
        if (match) {
            out[n_out++] = (piece){.special = special};
            from = at + n;
            at = from - 1;
        }
    }
    return n_out;
}

static void python_demo(const piece *text, tdm_ids *encoded)
{
    static piece lists[2][MAX_PIECES];
    piece *now = lists[0], *next = lists[1];
    size_t n_now = 1, spaces = 0;
    while (spaces < text->n && is_space(text->codes[spaces]))
        spaces++;
    if (spaces == text->n)
        return;
    now[0] = *text;
    if (spaces == 0) {
        memmove(now[0].codes + 1, now[0].codes, text->n * sizeof *text->codes);
        now[0].codes[0] = ' ';
        now[0].n++;
    }
    for (int special = 0; special < N_SPECIALS; special++) {
        size_t n_next = 0;
        for (size_t i = 0; i < n_now; i++) {
            if (now[i].special < 0)
                n_next += split_on(special, &now[i], next + n_next);
            else
                next[n_next++] = now[i];
        }
        piece *swap = now;
        now = next;
        next = swap;
        n_now = n_next;
    }
    put(encoded, BOS);
    for (size_t i = 0; i < n_now; i++) {
        if (now[i].special >= 0)
            put(encoded, SPECIAL_IDS[now[i].special]);
        else
            encode_codes(now[i].codes, now[i].n, encoded);
    }
    put(encoded, EOS);
}

static void add_text(piece *p, const char *ascii)
{
    for (; *ascii; ascii++)
        p->codes[p->n++] = (unsigned char)*ascii;
}

/* Up to 20 items: white space, letters that have merges, specials, beginnings of specials. */
static void random_text(uint64_t *random, piece *p)
{
    static const uint32_t CODES[] = {' ',    ' ',    '\n',   0x1C,   0x1F,   0x85,    0xA0,
                                     0x1680, 0x2000, 0x200A, 0x200B, 0x2028, 0x202F,  0x205F,
                                     0x3000, 0x180E, 0xFEFF, 0xE9,   0x4E2D, 0x1F600, '<'};
    static const char *const WORDS[] = {"the", "an", "a", "<", "<pa", "s>", "/", "<|endoftext|>"};
    enum { N_CODES = sizeof CODES / sizeof *CODES, N_WORDS = sizeof WORDS / sizeof *WORDS };
    *p = (piece){.special = -1};
    for (uint32_t left = tiny_random(random) % 21; left; left--) {
        const uint32_t what = tiny_random(random) % 4, pick = tiny_random(random);
        if (what < 2)
            p->codes[p->n++] = CODES[pick % N_CODES];
        else
            add_text(p, what == 2 ? WORDS[pick % N_WORDS] : SPECIALS[pick % N_SPECIALS]);
    }
}

static void test_against_python_rules(void **state)
{
    (void)state;
    static piece text;
    uint64_t random = 11;
    for (int round = 0; round < 20000; round++) {
        char utf8[4 * MAX_CODES];
        tdm_ids encoded = {0}, want = {0};
        tdm_token_counts counts;
        random_text(&random, &text);
        const size_t len = to_utf8(text.codes, text.n, utf8);
        python_release(&text, &encoded);
        frame(&encoded, &want, &counts);
        check(TDM_PREPROCESS_RELEASE, utf8, len, &want, counts);
        encoded.len = 0;
        python_demo(&text, &encoded);
        frame(&encoded, &want, &counts);
        check(TDM_PREPROCESS_DEMO, utf8, len, &want, counts);
        tdm_ids_free(&encoded);
        tdm_ids_free(&want);
    }
}

/* Every code point below U+10000: white space or not, before and behind. */
static void test_every_space(void **state)
{
    (void)state;
    for (uint32_t c = 1; c < 0x10000; c++) {
        char text[8] = "x";
        if (c >= 0xD800 && c < 0xE000)
            continue;
        const size_t n = to_utf8(&c, 1, text + 1);
        const size_t want = is_space(c) ? n : 0;
        text[1 + n] = 'x';
        assert_int_equal(tdm_space_before(text + 1, n + 1), want);
        assert_int_equal(tdm_space_after(text, n + 1), want);
    }
}

static void test_init_errors(void **state)
{
    (void)state;
    tdm_preprocess p;
    tdm_err err = {0};
    tdm_bpe *gpt2 = NULL;
    const char *merges = "#version: 0.2\nt h\n";
    assert_int_equal(tdm_preprocess_init(&p, bpe, TDM_PREPROCESS_HF, 2, BOS, EOS, &err), TDM_EARG);
    assert_int_equal(tdm_preprocess_init(&p, bpe, TDM_PREPROCESS_HF, 512, 5, EOS, &err),
                     TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "<s> = 0"));
    assert_int_equal(tdm_bpe_open_memory(merges, strlen(merges), NULL, 0, &gpt2, &err), TDM_OK);
    assert_int_equal(tdm_preprocess_init(&p, gpt2, TDM_PREPROCESS_HF, 512, BOS, EOS, &err),
                     TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "<s>"));
    tdm_bpe_close(gpt2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_against_python_rules),
        cmocka_unit_test(test_every_space),
        cmocka_unit_test(test_init_errors),
    };
    return cmocka_run_group_tests(tests, open_bpe, close_bpe);
}
