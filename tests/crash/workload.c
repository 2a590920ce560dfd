#include "tests/crash/workload.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *program, *source;
size_t workload_scale = 1;

workload WORKLOADS[] = {
    {.name = "detect-plain", .command = "detect", .codec = TDM_PLAIN},
    {.name = "detect-gz", .command = "detect", .codec = TDM_GZ},
    {.name = "detect-zst", .command = "detect", .codec = TDM_ZST},
    {.name = "generate-plain", .command = "generate", .codec = TDM_PLAIN},
    {.name = "generate-gz", .command = "generate", .codec = TDM_GZ},
    {.name = "generate-zst", .command = "generate", .codec = TDM_ZST},
    {.name = "score-plain", .command = "score", .codec = TDM_PLAIN},
};
const size_t N_WORKLOADS = COUNT(WORKLOADS);

/* ---- records ---- */

static const char *const BAD_LINES[] = {
    "{\"id\": 1, \"text\": \"no end",
    "[\"text\"]",
    "{\"id\": \"x\"}",
    "{\"text\": 7}",
    "{\"text\": \"\"}",
    "{\"text\": \"a\", \"text\": \"b\"}",
    "{\"text\": \"\\u0000\"}",
    "{\"text\": \"\xff\"}",
    "{\"text\": \"a\tb\"}",
};

static void put(tdm_buf *out, const char *text)
{
    EXPECT(tdm_buf_put(out, text, strlen(text), NULL) == TDM_OK, "no memory");
}

static void put_words(tdm_buf *out, size_t n)
{
    static const char *const WORDS[] = {"the",
                                        "river",
                                        "of",
                                        "stone",
                                        "was",
                                        "quiet",
                                        "and",
                                        "no",
                                        "one",
                                        "said",
                                        "\\\"so\\\"",
                                        "before",
                                        "caf\xc3\xa9",
                                        "then",
                                        "1,024",
                                        "rain",
                                        "\\u00e9t\\u00e9",
                                        "fell.",
                                        "We",
                                        "saw"};
    for (size_t i = 0; i < n; i++) {
        put(out, i ? " " : "");
        put(out, WORDS[random_below(COUNT(WORDS))]);
    }
}

void make_records(tdm_buf *out, uint64_t seed, size_t n, size_t bad_every, bool as_prompts)
{
    const uint64_t kept = random_state;
    random_state = seed;
    for (size_t i = 0; i < n; i++) {
        char id[64];
        snprintf(id, sizeof id, i % 7 == 3 ? "{\"text\": \"" : "{\"id\": \"r-%zu\", \"text\": \"",
                 i);
        if (bad_every && i % bad_every == bad_every - 1) {
            put(out, BAD_LINES[i / bad_every % COUNT(BAD_LINES)]);
        } else {
            put(out, id);
            put_words(out, as_prompts ? 1 + random_below(4) : 5 + random_below(80));
            put(out, "\"}");
        }
        put(out, i % 31 == 30 ? "\r\n\n" : "\n");
    }
    random_state = kept;
}

void store_compressed(const char *path, tdm_codec codec, const tdm_buf *text, size_t member_bytes)
{
    tdm_buf out = {0};
    for (size_t at = 0; at < text->len; at += member_bytes) {
        const size_t n = text->len - at < member_bytes ? text->len - at : member_bytes;
        EXPECT(tdm_compress(codec, text->p + at, n, &out, NULL) == TDM_OK, "no memory");
    }
    store(path, out.p, out.len);
    tdm_buf_free(&out);
}

static const char *const ENDINGS[] = {".jsonl", ".jsonl.gz", ".jsonl.zst"};

/* Three files of different sizes, or one of prompts, in a folder of the workload's own. */
static void make_inputs(const workload *w)
{
    static const size_t RECORDS[] = {170, 3, 90};
    const bool as_prompts = !strcmp(w->command, "generate");
    char path[PATH_CAP];
    scratch_path(path, "in-%s", w->name);
    EXPECT(mkdir(path, 0777) == 0, "%s: %s", path, strerror(errno));
    for (size_t i = 0; i < (as_prompts ? 1 : COUNT(RECORDS)); i++) {
        tdm_buf text = {0};
        const size_t n = (as_prompts ? 400 : RECORDS[i]) * workload_scale;
        make_records(&text, 100 + i, n, 19, as_prompts);
        scratch_path(path, "in-%s/%c%s", w->name, (char)('a' + i), ENDINGS[w->codec]);
        store_compressed(path, w->codec, &text, 5000);
        tdm_buf_free(&text);
    }
}

/* ---- the command line ---- */

static void add(arguments *a, const char *name, const char *value)
{
    EXPECT(a->n + 3 < MAX_ARGUMENTS, "too many arguments");
    a->items[a->n++] = name;
    if (value)
        a->items[a->n++] = value;
}

static char *new_text(arguments *a)
{
    EXPECT(a->n_texts < COUNT(a->texts), "too many arguments");
    return a->texts[a->n_texts++];
}

void workload_arguments(const run *r, arguments *a)
{
    const bool detects = !strcmp(r->w->command, "detect"), generates = !strcmp(r->w->command, "generate");
    char *input = new_text(a), *model = new_text(a), *shard = new_text(a);
    if (r->input)
        snprintf(input, LONG_ARGUMENT, "%s", r->input);
    else
        scratch_path(input, "in-%s", r->w->name);
    snprintf(model, LONG_ARGUMENT, "%s/tools/demo/%s", source, detects ? "reader" : "writer");
    snprintf(shard, LONG_ARGUMENT, "%d/%d", r->shard, r->shards);
    add(a, program, r->w->command);
    add(a, "--model", model);
    add(a, "--device", "null");
    add(a, "--threads", "1");
    add(a, "--quiet", NULL);
    add(a, "--out", r->out);
    add(a, "--max-errors", r->max_errors ? r->max_errors : "100%");
    add(a, "--batch", "8");
    if (r->shards)
        add(a, "--shard", shard);
    if (generates) {
        add(a, "--chunk", "24");
        add(a, "--length", "6");
        add(a, "--prompts", input);
    } else {
        add(a, "--chunk", "2048");
        add(a, input, NULL);
    }
}

/* ---- the reference ---- */

void load_counts(const char *out, tdm_buf *counts)
{
    char path[PATH_CAP];
    tdm_buf text = {0};
    beside(path, out, ".manifest.json");
    EXPECT(load(path, &text), "%s is not there", path);
    counts->len = 0;
    EXPECT(tdm_buf_put(counts, text.p, text.len, NULL) == TDM_OK &&
               tdm_buf_put(counts, "", 1, NULL) == TDM_OK,
           "no memory");
    tdm_buf_free(&text);
}

void expect_alone(const char *out)
{
    char folder[PATH_CAP];
    snprintf(folder, sizeof folder, "%s", out);
    *strrchr(folder, '/') = '\0';
    const char *name = out + strlen(folder) + 1;
    DIR *d = opendir(folder);
    EXPECT(d, "%s: %s", folder, strerror(errno));
    for (const struct dirent *e; (e = readdir(d));)
        EXPECT(*e->d_name == '.' || !strncmp(e->d_name, name, strlen(name)),
               "%s/%s was left behind", folder, e->d_name);
    closedir(d);
}

static void make_reference(workload *w)
{
    reference *ref = &w->ref;
    const run r = {.w = w, .out = try_out(w)};
    for (int i = 0; i < 3; i++) { /* the fastest of three: the caches are warm then */
        char path[PATH_CAP];
        const run fresh = {.w = w, .out = try_out(w)};
        const double start = now();
        ref->code = run_to_end(&fresh);
        const double seconds = now() - start;
        ref->seconds = i == 0 || seconds < ref->seconds ? seconds : ref->seconds;
        EXPECT(ref->code == 3, "%s: exit %d without a fault, want 3", w->name, ref->code);
        beside(path, r.out, ".errors.jsonl");
        EXPECT(load(r.out, &ref->out) && load(path, &ref->errors), "%s: no output", w->name);
    }
    load_counts(r.out, &ref->counts);
    expect_same(w, r.out);
}

workload *workload_at(size_t i)
{
    workload *w = &WORKLOADS[i];
    if (w->ref.out.len == 0) {
        make_inputs(w);
        make_reference(w);
    }
    return w;
}

workload *workload_get(const char *name)
{
    for (size_t i = 0; i < N_WORKLOADS; i++)
        if (!strcmp(WORKLOADS[i].name, name))
            return workload_at(i);
    give_up(__FILE__, __LINE__, "%s: no such workload", name);
}

void workloads_free(void)
{
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        tdm_buf_free(&WORKLOADS[i].ref.out);
        tdm_buf_free(&WORKLOADS[i].ref.errors);
        tdm_buf_free(&WORKLOADS[i].ref.counts);
    }
}
