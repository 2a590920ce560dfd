/* Documents: their order, their records, prompts good and bad, and the same bytes whatever the
 * batch. */
#include "tests/generate_subject.h"

/* ---- the same bytes ---- */

static void test_batch_does_not_matter(void **state)
{
    (void)state;
    static const int32_t BATCHES[] = {1, 3, 7, 64};
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals want_totals, totals;
    output want, got;
    loaded l;
    o.n = 200;
    o.seed = 9;
    o.first_id = 255000;
    o.top_k = 200;
    o.top_p[0] = 0.8f;
    load(&l, dir, 1);
    generate_ok(&l, &o, NULL, NULL, &want, &want_totals);
    unload(&l);
    assert_int_equal(want_totals.documents + want_totals.bad, 200);
    assert_true(want_totals.bad > 0 && want_totals.ended > 0); /* every kind of end is among them */
    for (int threads = 1; threads <= 3; threads++) {
        load(&l, dir, threads);
        for (size_t i = 0; i < sizeof BATCHES / sizeof *BATCHES; i++) {
            o.batch = BATCHES[i];
            generate_ok(&l, &o, NULL, NULL, &got, &totals);
            assert_string_equal(got.lines.p, want.lines.p);
            assert_memory_equal(&totals, &want_totals, sizeof totals);
            assert_true(got.ticks >= (int64_t)totals.tokens);
            tdm_buf_free(&got.lines);
        }
        unload(&l);
    }
    tdm_buf_free(&want.lines);
}

/* A part of the ids gives that part of the documents: ids are what draws depend on. */
static void test_parts_of_a_corpus(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    output whole, part;
    loaded l;
    load(&l, dir, 2);
    o.n = 30;
    o.batch = 8;
    o.length = 12;
    generate_ok(&l, &o, NULL, NULL, &whole, &totals);
    o.first_id = 11;
    o.n = 7;
    generate_ok(&l, &o, NULL, NULL, &part, &totals);
    assert_non_null(strstr(whole.lines.p, part.lines.p));
    o.seed = 1;
    tdm_buf_free(&part.lines);
    generate_ok(&l, &o, NULL, NULL, &part, &totals);
    assert_null(strstr(whole.lines.p, part.lines.p));
    tdm_buf_free(&part.lines);
    tdm_buf_free(&whole.lines);
    unload(&l);
}

/* ---- prompts ---- */

static const char PROMPTS[] =
    "{\"id\": \"a\", \"text\": \"the \"}\n"
    "not json\n"
    "{\"id\": 12345678901234567890123, \"text\": \"\\u00e9\"}\n"
    "\n"
    "{\"text\": \"0123456789012345678901234567890\"}\n" /* 31 tokens: two more fit */
    "{\"text\": \"01234567890123456789012345678901\"}\n" /* 32: one more fits */
    "{\"text\": \"012345678901234567890123456789012\"}\n" /* 33: one too many */
    "{\"id\": \"n\", \"text\": \"xA\"}\n"
    "{\"id\": \"z\", \"text\": \"\"}\n"
    "{\"id\": null, \"text\": \"<|endoftext|>\"}"; /* plain text */

static int count(const char *text, const char *what)
{
    int n = 0;
    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

static void test_prompts(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals want_totals, totals;
    output want, got;
    loaded l;
    load(&l, dir, 2);
    write_prompts(PROMPTS);
    o.seed = 2; /* no other document draws an 'A' */
    o.samples_per_prompt = 3;
    o.length = 5;
    generate_ok(&l, &o, prompts, NULL, &want, &want_totals);
    const char *p = want.lines.p;
    assert_int_equal(strncmp(p, "{\"id\": 0, \"ended\": ", 19), 0);
    assert_int_equal(count(p, ", \"prompt_id\": \"a\"}\n"), 3);
    assert_int_equal(count(p, ", \"prompt_id\": 12345678901234567890123}\n"), 3);
    assert_int_equal(count(p, "prompts.jsonl:6\"}\n"), 3);
    assert_int_equal(count(p, "bad 2 json "), 1);
    assert_int_equal(count(p, "bad 7 prompt-too-long "), 1);
    assert_non_null(strstr(p, "prompts.jsonl:7\" 33 tokens, the context has 32\n"));
    assert_int_equal(count(p, "bad 8 non-finite \"n\" a logit behind token 2 is"), 3);
    assert_int_equal(count(p, "bad 9 empty \"z\" "), 1);
    assert_int_equal(count(p, "{\"id\": 24, "), 1); /* record number 8, sample 0 */
    assert_int_equal(count(p, "\"prompt_id\": null}\n"), 3);
    assert_int_equal(want_totals.bad, 1 + 1 + 3 + 1);
    assert_int_equal(want_totals.documents, 15);
    /* one tick for each draw: also those that end a text or find no number */
    assert_int_equal(want.ticks, want_totals.tokens + want_totals.ended + 3);
    assert_int_equal(want_totals.prompt_tokens, 3 * (2 + 2 + 31 + 32 + 13));
    for (int32_t batch = 2; batch < 20; batch += 5) {
        o.batch = batch;
        generate_ok(&l, &o, prompts, NULL, &got, &totals);
        assert_string_equal(got.lines.p, want.lines.p);
        assert_memory_equal(&totals, &want_totals, sizeof totals);
        tdm_buf_free(&got.lines);
    }
    tdm_buf_free(&want.lines);
    unload(&l);
}

/* What fits behind a prompt, with and without --length. */
static void test_room_behind_prompts(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    output out;
    loaded l;
    load(&l, dir, 1);
    o.temperature = 0;
    write_prompts("{\"text\": \"01234567890123456789012345678901\"}\n"
                  "{\"text\": \"0123456789012345678901234567\"}\n"); /* 32 and 28 tokens of 32 */
    generate_ok(&l, &o, prompts, NULL, &out, &totals);
    assert_int_equal(count(out.lines.p, "\"length\": 1, "), 1);
    assert_int_equal(count(out.lines.p, "\"length\": 5, "), 1);
    tdm_buf_free(&out.lines);
    o.length = 3;
    generate_ok(&l, &o, prompts, NULL, &out, &totals);
    assert_int_equal(count(out.lines.p, "\"length\": 1, "), 1);
    assert_int_equal(count(out.lines.p, "\"length\": 3, "), 1);
    tdm_buf_free(&out.lines);
    o.length = 0;
    o.n = 40;
    o.temperature = 1;
    generate_ok(&l, &o, NULL, NULL, &out, &totals); /* all of the context, the start not counted */
    assert_true(count(out.lines.p, "\"ended\": false, \"length\": 32, ") > 0);
    assert_int_equal(count(out.lines.p, "\"ended\": false, "),
                     count(out.lines.p, "\"ended\": false, \"length\": 32, "));
    tdm_buf_free(&out.lines);
    unload(&l);
}

/* More documents behind the oldest one than the window holds: bad prompts need no slot, so nothing
 * but the window keeps them from being read while the first prompt is still running. */
static void test_window(void **state)
{
    (void)state;
    tdm_buf text = {0};
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    output out;
    loaded l;
    load(&l, dir, 2);
    o.batch = 2;
    const int n = (int)tdm_generate_window(o.batch, POSITIONS) * 2 + 7;
    for (int i = 0; i < n; i++)
        assert_int_equal(tdm_buf_printf(&text, NULL, "%s", i % 300 ? "1\n" : "{\"text\": \"01\"}\n"),
                         TDM_OK);
    tiny_write_file(dir, "prompts.jsonl", text.p, text.len);
    o.temperature = 0;
    generate_ok(&l, &o, prompts, NULL, &out, &totals);
    assert_int_equal(totals.documents, 3); /* 0, 300, 600 */
    assert_int_equal(totals.bad, n - 3);
    assert_int_equal(out.last_id, n - 1);
    tdm_buf_free(&out.lines);
    tdm_buf_free(&text);
    unload(&l);
}

/* Ids end in the middle of a file of prompts, good or bad. */
static void test_no_more_ids(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    tdm_err err = {0};
    loaded l;
    load(&l, dir, 1);
    o.first_id = INT64_MAX - 4;
    o.samples_per_prompt = 3;
    o.length = 1;
    for (int bad = 0; bad < 2; bad++) {
        output out = {0};
        write_prompts(bad ? "1\n2\n3\n" : "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
        assert_int_equal(generate(&l, &o, prompts, NULL, &out, &totals, &err), TDM_EARG);
        assert_non_null(strstr(err.msg, bad ? "document 6 has no id" : "document 4 has no id"));
        tdm_buf_free(&out.lines);
    }
    unload(&l);
}

/* ---- one at a time ---- */

static struct {
    uint64_t first_id;
    int n;
    uint64_t last;
} begun;

/* Refuses every fifth document, and the one behind it. */
static bool begin_alone(void *ctx, uint64_t number, const char **reason)
{
    const output *out = ctx;
    assert_true(begun.n == 0 || (number > begun.last && out->last_id >= begun.first_id + begun.last));
    begun.n++;
    begun.last = number;
    *reason = "it was refused";
    return number % 5 > 1;
}

static bool is_second(void *ctx, size_t file, uint64_t number)
{
    (void)ctx;
    return file == 0 && number == 1;
}

/* The line of a document: what was refused in place of it. */
static void expect_alone(tdm_buf *want, const char *line, size_t len, bool has_prompts)
{
    const uint64_t id = strtoull(line + strlen("{\"id\": "), NULL, 10);
    const char *prompt_id = strstr(line, "\"prompt_id\": ");
    tdm_status st = TDM_OK;
    if ((id - begun.first_id) % 5 > 1)
        st = tdm_buf_put(want, line, len, NULL);
    else if (!has_prompts)
        st = tdm_buf_printf(want, NULL, "bad 0 device-fault %d it was refused\n", (int)id);
    else
        st = tdm_buf_printf(want, NULL, "bad %d device-fault %.*s it was refused\n", (int)id / 3 + 1,
                            (int)(line + len - 2 - (prompt_id + 13)), prompt_id + 13);
    assert_int_equal(st, TDM_OK);
}

static void check_alone(const loaded *l, const tdm_generate_options *o, const char *file, bool second)
{
    tdm_generate_to to = {.chunk_documents = 7};
    tdm_generate_totals totals;
    output all, got;
    tdm_buf want = {0};
    if (second)
        to.filter = (tdm_chunk_filter){.is_wanted = is_second};
    generate_ok(l, o, file, &to, &all, &totals);
    assert_int_equal(totals.bad, 0);
    for (const char *p = all.lines.p, *end; *p; p = end) {
        end = strchr(p, '\n') + 1;
        expect_alone(&want, p, (size_t)(end - p), file != NULL);
    }
    assert_int_equal(tdm_buf_put(&want, "", 1, NULL), TDM_OK);
    to.begin = begin_alone;
    begun.n = 0;
    generate_ok(l, o, file, &to, &got, &totals);
    assert_string_equal(got.lines.p, want.p);
    assert_int_equal(got.n_ends, all.n_ends);
    assert_int_equal(begun.n, all.n); /* no bad prompts here */
    assert_true(got.n == all.n && count(got.lines.p, "device-fault") == (int)totals.bad);
    tdm_buf_free(&all.lines);
    tdm_buf_free(&got.lines);
    tdm_buf_free(&want);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    loaded l;
    load(&l, dir, 2);
    write_prompts("{\"id\": \"a\", \"text\": \"the \"}\n{\"text\": \"0123\"}\n{\"id\": 7, \"text\": \"the\"}\n"
                  "{\"id\": 8, \"text\": \"thet\"}\n{\"id\": [9], \"text\": \"012\"}\n");
    o.n = 20;
    o.batch = 8;
    o.seed = 4;
    o.length = 5;
    begun.first_id = o.first_id = 1000;
    for (int second = 0; second < 2; second++)
        check_alone(&l, &o, NULL, second);
    o.samples_per_prompt = 3;
    begun.first_id = o.first_id = 0;
    for (int second = 0; second < 2; second++)
        check_alone(&l, &o, prompts, second);
    unload(&l);
}

/* ---- ends that are not the end ---- */

static void test_stop_and_failure(void **state)
{
    (void)state;
    tdm_generate_options o = TDM_GENERATE_DEFAULTS;
    tdm_generate_totals totals;
    tdm_err err = {0};
    loaded l;
    load(&l, dir, 1);
    o.n = 50;
    o.batch = 4;
    output out = {.fail_at = 5};
    assert_int_equal(generate(&l, &o, NULL, NULL, &out, &totals, &err), TDM_EIO);
    assert_string_equal(err.msg, "disk full");
    tdm_buf_free(&out.lines);
    out = (output){.stop_at = 5};
    assert_int_equal(generate(&l, &o, NULL, NULL, &out, &totals, &err), TDM_ESTOPPED);
    assert_true(out.n >= 5 && out.n < 50);
    tdm_buf_free(&out.lines);
    unload(&l);
}

/* ---- options and records ---- */

static const struct {
    const char *why;
    tdm_generate_options o;
    const char *message; /* NULL: accepted */
} OPTIONS[] = {
#define DEFAULTS .n = 1, .temperature = 1.f, .top_p = {1.f, 1.f}, .samples_per_prompt = 1, .batch = 1
    {"defaults", {DEFAULTS}, NULL},
    {"the longest", {DEFAULTS, .length = POSITIONS}, NULL},
    {"one longer", {DEFAULTS, .length = POSITIONS + 1}, "length 33, want 1 to 32"},
    {"the last ids", {DEFAULTS, .first_id = INT64_MAX - 1}, NULL},
    {"ids that end", {DEFAULTS, .first_id = INT64_MAX}, "first-id"},
    {"no documents", {.temperature = 1.f, .top_p = {1.f, 1.f}, .samples_per_prompt = 1, .batch = 1}, "n is 0"},
    {"cold", {.n = 1, .temperature = -0.5f, .top_p = {1.f, 1.f}, .samples_per_prompt = 1, .batch = 1}, "temperature -0.5"},
    {"almost cold", {.n = 1, .temperature = 1e-7f, .top_p = {1.f, 1.f}, .samples_per_prompt = 1, .batch = 1}, "temperature 1e-07"},
    {"not a temperature", {.n = 1, .temperature = NAN, .top_p = {1.f, 1.f}, .samples_per_prompt = 1, .batch = 1}, "temperature nan"},
    {"top-k", {DEFAULTS, .top_k = -1}, "top-k -1"},
    {"p of 0", {.n = 1, .temperature = 1.f, .top_p = {0.f, 1.f}, .samples_per_prompt = 1, .batch = 1}, "top-p 0:1"},
    {"p beyond 1", {.n = 1, .temperature = 1.f, .top_p = {0.5f, 1.5f}, .samples_per_prompt = 1, .batch = 1}, "top-p 0.5:1.5"},
    {"p backwards", {.n = 1, .temperature = 1.f, .top_p = {0.9f, 0.8f}, .samples_per_prompt = 1, .batch = 1}, "top-p 0.9:0.8"},
    {"no samples", {.n = 1, .temperature = 1.f, .top_p = {1.f, 1.f}, .batch = 1}, "samples-per-prompt 0"},
    {"any batch", {.n = 1, .temperature = 1.f, .top_p = {1.f, 1.f}, .samples_per_prompt = 1}, NULL},
    {"no batch", {.n = 1, .temperature = 1.f, .top_p = {1.f, 1.f}, .samples_per_prompt = 1, .batch = -1}, "batch -1"},
};

static void test_options(void **state)
{
    (void)state;
    const tdm_config config = {.n_context = POSITIONS};
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) {
        tdm_err err = {0};
        const tdm_status st = tdm_generate_check(&OPTIONS[i].o, &config, &err);
        const char *message = OPTIONS[i].message;
        if (message ? st != TDM_EARG || !strstr(err.msg, message) : st != TDM_OK)
            fail_msg("%s: status %d, %s", OPTIONS[i].why, (int)st, err.msg);
    }
}

static void test_records(void **state)
{
    (void)state;
    static const struct {
        tdm_document d;
        const char *line;
    } RECORDS[] = {
        {{.id = 255000, .ended = true, .length = 3, .text = "a \"b\"\n\xc3\xa9\xf0\x9f\x99\x82", .text_len = 12},
         "{\"id\": 255000, \"ended\": true, \"length\": 3, \"text\": \"a \\\"b\\\"\\n\\u00e9\\ud83d\\ude42\"}\n"},
        {{.id = INT64_MAX, .text = ""},
         "{\"id\": 9223372036854775807, \"ended\": false, \"length\": 0, \"text\": \"\"}\n"},
        {{.text = "x", .text_len = 1, .length = 1, .has_p = true, .p = 0.9f, .prompt_id = "[1, 2]", .prompt_id_len = 6},
         "{\"id\": 0, \"ended\": false, \"length\": 1, \"text\": \"x\", \"p\": 0.899999976, \"prompt_id\": [1, 2]}\n"},
    };
    for (size_t i = 0; i < sizeof RECORDS / sizeof *RECORDS; i++) {
        tdm_buf line = {0};
        assert_int_equal(tdm_document_put(&line, &RECORDS[i].d, NULL), TDM_OK);
        assert_int_equal(tdm_buf_put(&line, "", 1, NULL), TDM_OK);
        assert_string_equal(line.p, RECORDS[i].line);
        tdm_buf_free(&line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_does_not_matter),
        cmocka_unit_test(test_parts_of_a_corpus),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_room_behind_prompts),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_no_more_ids),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_stop_and_failure),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
