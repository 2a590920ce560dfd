/* Documents in chunks: the same bytes whatever is left out, by whomever, and an end behind each chunk. */
#include "tests/generate_subject.h"

/* ---- work, and who does which part of it ---- */

#define GOOD "{\"text\": \"the \"}\n"
#define LONG "{\"text\": \"012345678901234567890123456789012\"}\n" /* 33 tokens, the context has 32 */
#define BLANK " \t\n"

static const struct {
    const char *why;
    const char *prompts;
    uint64_t n; /* documents, or prompts */
    int32_t samples;
    int64_t blank;
} WORKS[] = {
    {"one document", NULL, 1, 1, 0},
    {"whole chunks", NULL, 20, 1, 0},
    {"a part of a chunk at the end", NULL, 23, 1, 0},
    {"prompts", GOOD "{\"id\": 1, \"text\": \"a\"}\n" GOOD GOOD "{\"text\": \"b\"}\n" GOOD GOOD, 7, 1, 0},
    {"samples across the ends of chunks", GOOD "{\"id\": 1, \"text\": \"a\"}\n{\"text\": \"b\"}\n" GOOD, 4, 3, 0},
    {"more samples than a chunk has", GOOD "{\"text\": \"a\"}\n" GOOD, 3, 11, 0},
    {"prompts of one length",
     "{\"text\": \"0123456789012345\"}\n{\"text\": \"1234567890123456\"}\n"
     "{\"text\": \"2345678901234567\"}\n{\"text\": \"3456789012345678\"}\n", 4, 3, 0},
    {"a bad one first", "1\n" GOOD GOOD, 3, 3, 0},
    {"a bad one last", GOOD GOOD "{\"text\": \"\"}", 3, 3, 0},
    {"bad ones across the ends of chunks", GOOD "[]\n" LONG GOOD LONG "no\n" GOOD, 7, 7, 0},
    {"all bad", "1\n" LONG "3\n" LONG "5", 5, 2, 0},
    {"logits that are not finite", "{\"text\": \"xA\"}\n" GOOD "{\"text\": \"xA\"}\n", 3, 3, 0},
    {"blank lines", BLANK BLANK GOOD "1\n" BLANK GOOD GOOD BLANK BLANK BLANK GOOD GOOD BLANK BLANK, 6, 2, 8},
    {"blank lines alone", BLANK BLANK BLANK, 0, 3, 3},
    {"nothing", "", 0, 3, 0},
};
static const uint64_t SIZES[] = {1, 2, 4, 5, 64};
enum { N_WORKS = sizeof WORKS / sizeof *WORKS, N_SIZES = sizeof SIZES / sizeof *SIZES, RULES = 3 };

typedef struct {
    uint64_t ranks, rank;
    int rule;
    const output *whole;
    uint64_t n_passed;
    uint64_t end;      /* chunks, where is_wanted is asked for no other; 0: unknown */
} share;

static uint64_t owner(const share *s, uint64_t chunk)
{
    const uint64_t scattered = (chunk * 2654435761u) >> 7;
    return (s->rule == 0 ? chunk : s->rule == 1 ? chunk / 3 : scattered) % s->ranks;
}

static bool is_mine(void *ctx, size_t file, uint64_t chunk)
{
    const share *s = ctx;
    assert_int_equal(file, 0);
    if (s->end > 0)
        assert_true(chunk < s->end);
    return owner(s, chunk) == s->rank;
}

static void expect_same_chunk(const tdm_chunk *got, const tdm_chunk *want)
{
    assert_int_equal(got->file, want->file);
    assert_int_equal(got->number, want->number);
    assert_int_equal(got->skipped, want->skipped);
    assert_int_equal(got->hash, want->hash);
    assert_int_equal(got->is_last, want->is_last);
}

static tdm_status pass(void *ctx, const tdm_chunk *chunk, tdm_err *err)
{
    share *s = ctx;
    (void)err;
    assert_true(owner(s, chunk->number) != s->rank);
    assert_true(chunk->number < s->whole->n_ends);
    expect_same_chunk(chunk, &s->whole->ends[chunk->number].chunk);
    s->n_passed++;
    return TDM_OK;
}

static tdm_generate_options options_of(size_t work)
{
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    o.n = WORKS[work].prompts ? 1 : WORKS[work].n;
    o.seed = 2;
    o.first_id = 1000;
    o.length = 5;
    o.samples_per_prompt = WORKS[work].samples;
    o.top_p[0] = 0.8f;
    if (WORKS[work].prompts)
        write_prompts(WORKS[work].prompts);
    return o;
}

/* ---- all chunks in one process ---- */

static void expect_all_chunks(size_t work, uint64_t size, const output *out)
{
    const uint64_t documents = WORKS[work].n * (uint64_t)WORKS[work].samples;
    int64_t blank = 0;
    assert_int_equal(out->n_ends, documents > 0 ? (documents + size - 1) / size : 1);
    for (size_t i = 0; i < out->n_ends; i++) {
        const tdm_chunk *c = &out->ends[i].chunk;
        assert_int_equal(c->number, i);
        assert_int_equal(c->file, 0);
        assert_int_equal(c->is_last, i + 1 == out->n_ends);
        assert_true(i == 0 || out->ends[i].at >= out->ends[i - 1].at);
        blank += c->skipped;
    }
    assert_int_equal(blank, WORKS[work].blank);
    assert_int_equal(out->ends[out->n_ends - 1].at, out->lines.len - 1);
}

/* The ids of the lines of a chunk are among its own. */
static void expect_own_ids(const output *out, uint64_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < out->n_ends; at = out->ends[i++].at) {
        const char *p = out->lines.p + at, *end = out->lines.p + out->ends[i].at;
        for (; p < end; p = strchr(p, '\n') + 1) {
            unsigned long long id = 0;
            if (sscanf(p, "{\"id\": %llu,", &id) != 1) /* "bad ..." */
                continue;
            assert_true(id >= 1000 && (id - 1000) / size == out->ends[i].chunk.number);
        }
    }
}

static void test_chunks_change_nothing(void **state)
{
    (void)state;
    loaded l;
    load(&l, dir, 1);
    for (size_t w = 0; w < N_WORKS; w++) {
        tdm_generate_options o = options_of(w);
        tdm_generate_totals want_totals, totals;
        static output want, got;
        generate_ok(&l, &o, WORKS[w].prompts ? prompts : NULL, NULL, &want, &want_totals);
        assert_int_equal(want.n_ends, 0);
        for (size_t i = 0; i < N_SIZES; i++) {
            const tdm_generate_to to = {.chunk_documents = SIZES[i]};
            o.batch = (int32_t)i * 3 + 1;
            generate_ok(&l, &o, WORKS[w].prompts ? prompts : NULL, &to, &got, &totals);
            assert_string_equal(got.lines.p, want.lines.p);
            assert_memory_equal(&totals, &want_totals, sizeof totals);
            expect_all_chunks(w, SIZES[i], &got);
            expect_own_ids(&got, SIZES[i]);
            tdm_buf_free(&got.lines);
        }
        tdm_buf_free(&want.lines);
    }
    unload(&l);
}

/* ---- shares ---- */

/* What this share gave is what the whole run has at those places. */
static void expect_share(const share *s, const output *part)
{
    size_t at = 0, n = 0;
    for (size_t i = 0; i < s->whole->n_ends; i++) {
        if (owner(s, i) != s->rank)
            continue;
        assert_true(n < part->n_ends);
        expect_same_chunk(&part->ends[n].chunk, &s->whole->ends[i].chunk);
        const size_t from = i > 0 ? s->whole->ends[i - 1].at : 0, len = s->whole->ends[i].at - from;
        assert_int_equal(part->ends[n].at - at, len);
        assert_memory_equal(part->lines.p + at, s->whole->lines.p + from, len);
        at = part->ends[n++].at;
    }
    assert_int_equal(part->n_ends, n);
    assert_int_equal(part->lines.len - 1, at);
}

/* All shares of one work under one rule. */
static void check_shares(const loaded *l, size_t work, uint64_t size, uint64_t ranks, int rule,
                         const output *whole, const tdm_generate_totals *whole_totals)
{
    tdm_generate_options o = options_of(work);
    tdm_generate_totals sum = {0}, totals;
    static output part;
    const bool has_prompts = WORKS[work].prompts != NULL;
    size_t n_ends = 0;
    for (uint64_t rank = 0; rank < ranks; rank++) {
        share s = {.ranks = ranks, .rank = rank, .rule = rule, .whole = whole};
        const tdm_generate_to to = {.chunk_documents = size,
                                    .filter = {.ctx = &s, .is_wanted = is_mine, .pass = pass}};
        s.end = has_prompts ? 0 : whole->n_ends;
        o.batch = (int32_t)rank * 3 + 1;
        generate_ok(l, &o, has_prompts ? prompts : NULL, &to, &part, &totals);
        expect_share(&s, &part);
        assert_int_equal(s.n_passed, has_prompts ? whole->n_ends - part.n_ends : 0);
        n_ends += part.n_ends;
        sum.documents += totals.documents;
        sum.bad += totals.bad;
        sum.tokens += totals.tokens;
        sum.prompt_tokens += totals.prompt_tokens;
        tdm_buf_free(&part.lines);
    }
    assert_int_equal(n_ends, whole->n_ends);
    assert_int_equal(sum.documents, whole_totals->documents);
    assert_int_equal(sum.bad, whole_totals->bad);
    assert_int_equal(sum.tokens, whole_totals->tokens);
    assert_int_equal(sum.prompt_tokens, whole_totals->prompt_tokens);
}

static void test_shares_make_the_whole(void **state)
{
    (void)state;
    static const uint64_t RANKS[] = {2, 3, 40};
    loaded l;
    load(&l, dir, 1);
    for (size_t w = 0; w < N_WORKS; w++)
        for (size_t i = 0; i < N_SIZES; i++) {
            const tdm_generate_options o = options_of(w);
            const tdm_generate_to to = {.chunk_documents = SIZES[i]};
            tdm_generate_totals totals;
            static output whole;
            generate_ok(&l, &o, WORKS[w].prompts ? prompts : NULL, &to, &whole, &totals);
            for (size_t r = 0; r < sizeof RANKS / sizeof *RANKS; r++)
                for (int rule = 0; rule < RULES; rule++)
                    check_shares(&l, w, SIZES[i], RANKS[r], rule, &whole, &totals);
            tdm_buf_free(&whole.lines);
        }
    unload(&l);
}

/* ---- going on ---- */

static bool is_not_done(void *ctx, size_t file, uint64_t chunk)
{
    const output *done = ctx;
    (void)file;
    return chunk >= done->n_ends; /* chunks end in their order */
}

/* A run that fails at its n-th delivery, and one that goes on behind its last whole chunk. */
static void test_going_on(void **state)
{
    (void)state;
    loaded l;
    load(&l, dir, 1);
    for (size_t w = 0; w < N_WORKS; w++) {
        tdm_generate_options o = options_of(w);
        tdm_generate_to to = {.chunk_documents = 4};
        tdm_generate_totals totals;
        static output whole, first, rest;
        const char *file = WORKS[w].prompts ? prompts : NULL;
        o.batch = 7;
        generate_ok(&l, &o, file, &to, &whole, &totals);
        for (int at = 1; at <= whole.n; at++) {
            first = (output){.fail_at = at};
            assert_int_equal(generate(&l, &o, file, &to, &first, &totals, NULL), TDM_EIO);
            const size_t n = first.n_ends, kept = n > 0 ? first.ends[n - 1].at : 0;
            tdm_generate_to on = {.chunk_documents = 4, .filter = {.ctx = &first, .is_wanted = is_not_done}};
            generate_ok(&l, &o, file, &on, &rest, &totals);
            assert_int_equal(n + rest.n_ends, whole.n_ends);
            assert_memory_equal(first.lines.p, whole.lines.p, kept);
            assert_string_equal(rest.lines.p, whole.lines.p + kept);
            tdm_buf_free(&first.lines);
            tdm_buf_free(&rest.lines);
        }
        tdm_buf_free(&whole.lines);
    }
    unload(&l);
}

/* ---- far chunks ---- */

typedef struct {
    uint64_t wanted, asked, stop_at;
    tdm_stop *stop;
} far_chunk;

static bool is_far(void *ctx, size_t file, uint64_t chunk)
{
    far_chunk *f = ctx;
    (void)file;
    if (++f->asked == f->stop_at)
        tdm_stop_set(f->stop, 1);
    return chunk == f->wanted;
}

/* A million chunks before the one that is wanted, of a million documents each. */
static void test_far_chunk(void **state)
{
    (void)state;
    enum { MILLION = 1000000 };
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    tdm_err err = {0};
    static output out;
    loaded l;
    far_chunk far = {.wanted = MILLION};
    const tdm_generate_to to = {.chunk_documents = MILLION, .filter = {.ctx = &far, .is_wanted = is_far}};
    load(&l, dir, 1);
    o.n = (uint64_t)MILLION * MILLION + 3;
    o.length = 2;
    o.batch = 2;
    generate_ok(&l, &o, NULL, &to, &out, &totals);
    assert_int_equal(far.asked, MILLION + 1);
    assert_int_equal(out.n, 3);
    assert_int_equal(strncmp(out.lines.p, "{\"id\": 1000000000000, ", 22), 0);
    assert_int_equal(out.n_ends, 1);
    assert_int_equal(out.ends[0].chunk.number, MILLION);
    assert_true(out.ends[0].chunk.is_last);
    tdm_buf_free(&out.lines);
    out = (output){0};
    far = (far_chunk){.wanted = MILLION, .stop_at = 1000, .stop = &out.stop};
    assert_int_equal(generate(&l, &o, NULL, &to, &out, &totals, &err), TDM_ESTOPPED);
    assert_int_equal(far.asked, 1000);
    unload(&l);
}

/* Ids end among prompts that are somebody else's. */
static void test_no_more_ids(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    tdm_err err = {0};
    static output out;
    loaded l;
    far_chunk far = {.wanted = 1000};
    const tdm_generate_to to = {.chunk_documents = 2, .filter = {.ctx = &far, .is_wanted = is_far}};
    load(&l, dir, 1);
    o.first_id = INT64_MAX - 4;
    o.samples_per_prompt = 3;
    write_prompts("1\n" GOOD GOOD);
    out = (output){0};
    assert_int_equal(generate(&l, &o, prompts, &to, &out, &totals, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "document 6 has no id"));
    assert_int_equal(out.n, 0);
    unload(&l);
}

/* ---- prompts that are others this time ---- */

typedef struct {
    uint64_t hashes[8];
    size_t n;
} passed;

static bool is_none(void *ctx, size_t file, uint64_t chunk)
{
    (void)ctx, (void)file, (void)chunk;
    return false;
}

static tdm_status note_hash(void *ctx, const tdm_chunk *chunk, tdm_err *err)
{
    passed *p = ctx;
    assert_true(p->n < 8);
    if (chunk->number == 3)
        return tdm_fail(err, TDM_EMISMATCH, "chunk 3 is another one");
    p->hashes[p->n++] = chunk->hash;
    return TDM_OK;
}

static void pass_all(const loaded *l, const char *text, passed *p)
{
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    tdm_err err = {0};
    static output out;
    const tdm_generate_to to = {.chunk_documents = 2,
                                .filter = {.ctx = p, .is_wanted = is_none, .pass = note_hash}};
    o.samples_per_prompt = 3;
    *p = (passed){0};
    out = (output){0};
    write_prompts(text);
    assert_int_equal(generate(l, &o, prompts, &to, &out, &totals, &err), TDM_EMISMATCH);
    assert_string_equal(err.msg, "chunk 3 is another one");
    assert_int_equal(out.n + (int)out.n_ends, 0);
    assert_int_equal(p->n, 3);
}

/* Chunk 0 has the first prompt alone, 1 and 2 the second too; 3 and 4 have the third. */
static void test_hash_is_of_prompts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool same[3];
    } OTHERS[] = {
        {"{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"x\"}\n", {true, true, true}},
        {"{\"text\": \"x\"}\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n", {false, false, false}},
        {"{\"text\": \"a\"}\n{\"text\": \"x\"}\n{\"text\": \"c\"}\n", {true, false, false}},
        {"{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n", {true, false, false}},
    };
    passed want, got;
    loaded l;
    load(&l, dir, 1);
    pass_all(&l, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n", &want);
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) {
        pass_all(&l, OTHERS[i].text, &got);
        for (int c = 0; c < 3; c++)
            assert_int_equal(got.hashes[c] == want.hashes[c], OTHERS[i].same[c]);
    }
    unload(&l);
}

/* ---- speed ---- */

/* The end of a chunk keeps no document from being written beside those of the chunk before. */
static void test_no_step_more(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        int32_t batch;
    } RUNS[] = {{1, 1}, {40, 40}, {64, 64}, {200, 8}, {200, 64}};
    loaded l;
    load(&l, dir, 2);
    for (size_t i = 0; i < sizeof RUNS / sizeof *RUNS; i++) {
        tdm_generate_options o = TDM_GENERATE_DEFAULTS;
        tdm_generate_totals totals;
        static output without, with;
        o.n = RUNS[i].n;
        o.batch = RUNS[i].batch;
        generate_ok(&l, &o, NULL, NULL, &without, &totals);
        for (uint64_t size = 1; size <= 64; size *= 8) {
            const tdm_generate_to to = {.chunk_documents = size};
            generate_ok(&l, &o, NULL, &to, &with, &totals);
            assert_int_equal(with.steps, without.steps);
            tdm_buf_free(&with.lines);
        }
        tdm_buf_free(&without.lines);
    }
    unload(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_change_nothing),
        cmocka_unit_test(test_shares_make_the_whole),
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_far_chunk),
        cmocka_unit_test(test_no_more_ids),
        cmocka_unit_test(test_hash_is_of_prompts),
        cmocka_unit_test(test_no_step_more),
    };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
