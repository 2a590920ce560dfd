#include "tools/inspect_job.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/job_state.h"
#include "tools/args.h"

enum { MOST_RANKS = 16, MOST_INPUTS = 8, MOST_VALUES = 64 << 20 };

typedef struct {
    tdm_buf out;      /* the name of OUT; ends in NUL, like all of these */
    tdm_buf path;     /* what is described: OUT.job or OUT.manifest.json */
    tdm_buf errors;   /* OUT.errors.jsonl */
    bool is_complete; /* path is a manifest */
    bool verify;      /* OUT itself was named */
    tdm_buf state;    /* of tdm_job_describe */
    tdm_json *doc;    /* of the state */
    tdm_buf manifest;
    tdm_json *manifest_doc;
    const cJSON *job; /* in the manifest: settings, inputs */
    tdm_buf problems; /* strings, each with its NUL */
    size_t n_problems;
} subject;

/* ---- names ---- */

static bool has_ending(const char *path, size_t len, const char *ending)
{
    const size_t n = strlen(ending);
    return len > n && !memcmp(path + len - n, ending, n);
}

static size_t length_without_slash(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

/* "x" of x.job, x.manifest.json and x; its length. */
static size_t stem_of(const char *path, bool *is_name_of_out)
{
    static const char *const ENDINGS[] = {".job", ".manifest.json"};
    const size_t n = length_without_slash(path);
    *is_name_of_out = false;
    for (size_t i = 0; i < COUNT(ENDINGS); i++)
        if (has_ending(path, n, ENDINGS[i]))
            return n - strlen(ENDINGS[i]);
    *is_name_of_out = true;
    return n;
}

/* The kind of what "STEM.ENDING" names; 0: nothing. */
static mode_t kind_of(const char *path, size_t stem, const char *ending)
{
    char *name = NULL;
    struct stat info;
    if (asprintf(&name, "%.*s%s", (int)stem, path, ending) < 0)
        return 0;
    const mode_t kind = stat(name, &info) == 0 ? info.st_mode & S_IFMT : 0;
    free(name);
    return kind;
}

bool inspect_job_is_for(const char *path)
{
    bool is_name_of_out = false;
    const size_t stem = stem_of(path, &is_name_of_out);
    if (is_name_of_out && kind_of(path, stem, "") == S_IFDIR)
        return false;
    return kind_of(path, stem, ".job") == S_IFDIR || kind_of(path, stem, ".manifest.json") == S_IFREG;
}

static tdm_status set_name(tdm_buf *out, const char *path, size_t stem, const char *ending, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "%.*s%s", (int)stem, path, ending));
    TDM_TRY(tdm_buf_put(out, "", 1, err));
done:
    return st;
}

/* While there is a folder it is the truth: an OUT beside it is of an earlier run, or just being put in place. */
static tdm_status find_names(subject *s, const char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    bool is_name_of_out = false;
    const size_t stem = stem_of(path, &is_name_of_out);
    const bool is_manifest = has_ending(path, strlen(path), ".manifest.json");
    s->is_complete = is_manifest || kind_of(path, stem, ".job") != S_IFDIR;
    s->verify = s->is_complete && is_name_of_out;
    TDM_TRY(set_name(&s->out, path, stem, "", err));
    TDM_TRY(set_name(&s->errors, path, stem, ".errors.jsonl", err));
    TDM_TRY(set_name(&s->path, path, stem, s->is_complete ? ".manifest.json" : ".job", err));
done:
    return st;
}

/* ---- reading ---- */

static tdm_status load(subject *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char *manifest = s->is_complete ? strdup(s->path.p) : job_path(s->path.p, "manifest.json");
    TDM_REQUIRE(manifest, TDM_ENOMEM, "the name of a manifest");
    TDM_TRY(tdm_job_describe(s->path.p, &s->state, err));
    TDM_TRY(tdm_json_parse(s->state.p, s->state.len, MOST_VALUES, &s->doc, NULL, err));
    TDM_TRY(job_manifest_load(manifest, &s->manifest, &s->manifest_doc, err));
    s->job = tdm_json_root(s->manifest_doc);
    if (s->is_complete)
        s->job = cJSON_GetObjectItemCaseSensitive(s->job, "job");
done:
    free(manifest);
    return st;
}

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = member(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *string(const cJSON *object, const char *key)
{
    const cJSON *item = member(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* Whether a file is what the manifest says of it: {"bytes": n, "sha256": "..."}; a problem otherwise. */
static tdm_status verify_file(subject *s, const char *path, const cJSON *made, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    char hash[JOB_SHA_TEXT];
    const size_t before = s->problems.len;
    if (!cJSON_IsObject(made))
        goto done;
    if (stat(path, &info) != 0) {
        TDM_TRY(tdm_buf_printf(&s->problems, err, "%s is missing", path));
    } else if ((double)info.st_size != number(made, "bytes")) {
        TDM_TRY(tdm_buf_printf(&s->problems, err, "%s has %" PRId64 " bytes, its manifest says %.0f", path,
                               (int64_t)info.st_size, number(made, "bytes")));
    } else {
        TDM_TRY(job_sha256(path, NULL, hash, err));
        if (strcmp(hash, string(made, "sha256")) != 0)
            TDM_TRY(tdm_buf_printf(&s->problems, err, "%s has SHA-256 %s, its manifest says %s", path, hash,
                                   string(made, "sha256")));
    }
    if (s->problems.len > before) {
        s->n_problems++;
        TDM_TRY(tdm_buf_put(&s->problems, "", 1, err));
    }
done:
    return st;
}

/* ---- what goes on with a job ---- */

/* Append a word as a shell takes it. */
static tdm_status put_word(tdm_buf *out, const char *word, tdm_err *err)
{
    static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-";
    tdm_status st = TDM_OK;
    if (*word && strspn(word, PLAIN) == strlen(word))
        return tdm_buf_printf(out, err, " %s", word);
    TDM_TRY(tdm_buf_printf(out, err, " '"));
    for (const char *p = word; *p; p++)
        TDM_TRY(*p == '\'' ? tdm_buf_printf(out, err, "'\\''") : tdm_buf_put(out, p, 1, err));
    TDM_TRY(tdm_buf_put(out, "'", 1, err));
done:
    return st;
}

/* A setting as an option, numbers as they are written there: "n": 5, "top-p": [0.5, 0.9]. What is off or not set has
 * none, and what is said of the command as a whole (an object) neither.
 *   value  [len] its source */
static tdm_status put_option(tdm_buf *out, const cJSON *setting, const char *value, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cJSON *second = cJSON_IsArray(setting) ? cJSON_GetArrayItem(setting, 1) : NULL;
    const bool is_unset_length = !strcmp(setting->string, "length") && len == 1 && *value == '0';
    const bool is_off = cJSON_IsFalse(setting) || cJSON_IsNull(setting) || cJSON_IsObject(setting) || is_unset_length ||
                        (cJSON_IsString(setting) && !*setting->valuestring);
    if (is_off)
        goto done;
    TDM_TRY(tdm_buf_printf(out, err, " --%s", setting->string));
    if (cJSON_IsString(setting)) {
        TDM_TRY(put_word(out, setting->valuestring, err));
    } else if (cJSON_IsNumber(setting)) {
        TDM_TRY(tdm_buf_printf(out, err, " %.*s", (int)len, value));
    } else if (second) {
        const size_t first = strcspn(value + 1, ","), rest = first + strlen("[, ");
        TDM_TRY(tdm_buf_printf(out, err, " %.*s", (int)first, value + 1));
        if (rest < len && setting->child->valuedouble != second->valuedouble)
            TDM_TRY(tdm_buf_printf(out, err, ":%.*s", (int)(len - rest - 1), value + rest));
    }
done:
    return st;
}

static tdm_status put_settings(tdm_buf *out, const subject *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json *settings = NULL;
    size_t n = 0, n_settings = 0;
    const tdm_json_member *m = tdm_json_members(s->manifest_doc, &n);
    while (n > 0 && strcmp(m->key, "settings") != 0) {
        m++;
        n--;
    }
    if (n == 0)
        goto done;
    const char *text = s->manifest.p + m->value_at;
    TDM_TRY(tdm_json_parse(text, m->value_len, MOST_VALUES, &settings, NULL, err));
    m = tdm_json_members(settings, &n_settings);
    for (size_t i = 0; i < n_settings; i++)
        TDM_TRY(put_option(out, m[i].value, text + m[i].value_at, m[i].value_len, err));
done:
    tdm_json_close(settings);
    return st;
}

/* The inputs, unless they are many: then whoever ran the command knows better how they were named. */
static tdm_status put_inputs(tdm_buf *out, const cJSON *job, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cJSON *inputs = member(job, "inputs"), *input = NULL;
    bool are_options = false; /* by the looks of their names */
    if (cJSON_GetArraySize(inputs) > MOST_INPUTS)
        return tdm_buf_printf(out, err, " FILE...");
    cJSON_ArrayForEach(input, inputs)
        are_options = are_options || (*string(input, "path") == '-' && strcmp(string(input, "path"), "-"));
    if (inputs && !strcmp(string(job, "command"), "generate"))
        TDM_TRY(tdm_buf_printf(out, err, " --prompts"));
    else if (are_options)
        TDM_TRY(tdm_buf_printf(out, err, " --"));
    cJSON_ArrayForEach(input, inputs)
        TDM_TRY(put_word(out, string(input, "path"), err));
done:
    return st;
}

/* The command, with the settings that the manifest holds, ending in NUL. Where the model lay it does not say. */
static tdm_status put_command(tdm_buf *out, const subject *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const cJSON *engine = member(s->job, "engine");
    TDM_TRY(tdm_buf_printf(out, err, "tandem %s --model DIR%s", string(s->job, "command"),
                           member(s->job, "observer") ? " --observer DIR" : ""));
    TDM_TRY(put_settings(out, s, err));
    if (*string(engine, "backend"))
        TDM_TRY(tdm_buf_printf(out, err, " --device %s --dtype %s", string(engine, "backend"),
                               string(engine, "dtype")));
    TDM_TRY(tdm_buf_printf(out, err, " --out"));
    TDM_TRY(put_word(out, s->out.p, err));
    TDM_TRY(put_inputs(out, s->job, err));
    TDM_TRY(tdm_buf_put(out, "", 1, err));
done:
    return st;
}

/* ---- as text ---- */

static void print_counts(const cJSON *state)
{
    const cJSON *counts = member(state, "counts"), *class = NULL;
    const char *separator = " (";
    printf("records     %.0f: %.0f ok, %.0f bad", number(counts, "in"), number(counts, "ok"),
           number(counts, "bad"));
    cJSON_ArrayForEach(class, member(counts, "by_class"))
    {
        printf("%s%.0f %s", separator, class->valuedouble, class->string);
        separator = ", ";
    }
    printf("%s, %.0f skipped\n", separator[0] == ',' ? ")" : "", number(counts, "skipped"));
    printf("tokens      %.0f\n", number(state, "tokens"));
}

static void print_chunks(const cJSON *chunks)
{
    const double done = number(chunks, "done"), total = number(chunks, "total");
    printf("%.0f", done);
    if (cJSON_IsNumber(member(chunks, "total")))
        printf(" of %.0f (%.0f%%), %.0f left", total, total > 0 ? floor(100 * done / total) : 100, total - done);
    else
        printf(", how many are left shows at the end of what is compressed or a pipe");
    printf("\n");
}

static void print_work(const cJSON *state)
{
    const cJSON *input = member(state, "input"), *file = NULL;
    printf("chunks      ");
    print_chunks(member(state, "chunks"));
    cJSON_ArrayForEach(file, member(state, "files"))
    {
        printf("            %s: ", string(file, "path"));
        print_chunks(member(file, "chunks"));
    }
    if (number(input, "total") > 0)
        printf("input       %.0f bytes; of plain files %.0f are done\n", number(input, "total"),
               number(input, "done"));
    printf("written     %.0f bytes\n", number(state, "bytes"));
}

/* Returns: how many are at work. */
static size_t print_ranks(const cJSON *state)
{
    const cJSON *ranks = member(state, "ranks"), *rank = NULL;
    const int n = cJSON_GetArraySize(ranks);
    size_t at_work = 0;
    int shown = 0;
    cJSON_ArrayForEach(rank, ranks)
    {
        const bool works = cJSON_IsTrue(member(rank, "at_work"));
        at_work += works;
        if (shown++ < MOST_RANKS)
            printf("rank        %.0f: %.0f chunks, %s\n", number(rank, "rank"), number(rank, "chunks"),
                   works ? "at work" : "no process");
    }
    if (n > MOST_RANKS)
        printf("ranks       %d, %zu of them at work\n", n, at_work);
    return at_work;
}

static tdm_status print_folder(const subject *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf command = {0};
    const cJSON *state = tdm_json_root(s->doc);
    const int n_inputs = cJSON_GetArraySize(member(s->job, "inputs"));
    printf("job         %s: %s, not complete\n", s->path.p, string(state, "command"));
    if (n_inputs && !member(state, "files"))
        printf("inputs      %d, the first is %s\n", n_inputs,
               string(cJSON_GetArrayItem(member(s->job, "inputs"), 0), "path"));
    print_work(state);
    print_counts(state);
    const size_t at_work = print_ranks(state);
    if (cJSON_IsTrue(member(state, "joining")))
        printf("joining     a process puts the parts together\n");
    TDM_TRY(put_command(&command, s, err));
    if (at_work == 0)
        printf("to go on    the same command again, on as many processes as you like; DIR is the model:\n"
               "            %s\n",
               command.p);
done:
    tdm_buf_free(&command);
    return st;
}

static void print_made(const char *what, const char *path, const cJSON *made)
{
    if (cJSON_IsObject(made))
        printf("%-12s%s, %.0f bytes, SHA-256 %s\n", what, path, number(made, "bytes"), string(made, "sha256"));
}

static void print_complete(const subject *s)
{
    const cJSON *state = tdm_json_root(s->doc);
    const char *line = s->problems.p;
    printf("job         %s: %s, complete\n", s->out.p, string(state, "command"));
    print_counts(state);
    print_made("output", s->out.p, member(state, "out"));
    print_made("errors", s->errors.p, member(state, "errors"));
    if (s->verify && s->n_problems == 0)
        printf("verified    all is what %s says\n", s->path.p);
    for (size_t i = 0; i < s->n_problems; i++, line += strlen(line) + 1)
        printf("problem     %s\n", line);
}

/* ---- as JSON ---- */

static tdm_status put_problems(tdm_buf *out, const subject *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *line = s->problems.p;
    TDM_TRY(tdm_buf_printf(out, err, ", \"verified\": %s, \"problems\": [", s->n_problems ? "false" : "true"));
    for (size_t i = 0; i < s->n_problems; i++, line += strlen(line) + 1) {
        TDM_TRY(tdm_buf_printf(out, err, "%s", i ? ", " : ""));
        TDM_TRY(tdm_json_put_string(out, line, strlen(line), err));
    }
    TDM_TRY(tdm_buf_put(out, "]", 1, err));
done:
    return st;
}

/* The state, and behind its last member what is added here. */
static tdm_status print_json(const subject *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf out = {0}, command = {0};
    TDM_TRY(tdm_buf_printf(&out, err, "{\"path\": "));
    TDM_TRY(tdm_json_put_string(&out, s->out.p, strlen(s->out.p), err));
    TDM_TRY(tdm_buf_printf(&out, err, ", %.*s", (int)(s->state.len - 2), s->state.p + 1));
    if (s->verify)
        TDM_TRY(put_problems(&out, s, err));
    if (!s->is_complete) {
        TDM_TRY(put_command(&command, s, err));
        TDM_TRY(tdm_buf_printf(&out, err, ", \"go_on\": "));
        TDM_TRY(tdm_json_put_string(&out, command.p, command.len - 1, err));
    }
    TDM_TRY(tdm_buf_put(&out, "}\n", 2, err));
    fwrite(out.p, 1, out.len, stdout); /* a failure shows at the end, in main */
done:
    tdm_buf_free(&out);
    tdm_buf_free(&command);
    return st;
}

/* ---- all ---- */

static tdm_status print(const subject *s, bool json, tdm_err *err)
{
    if (json)
        return print_json(s, err);
    if (!s->is_complete)
        return print_folder(s, err);
    print_complete(s);
    return TDM_OK;
}

tdm_status inspect_job(const char *path, bool json, tdm_err *err)
{
    tdm_status st = TDM_OK;
    subject s = {0};
    TDM_TRY(find_names(&s, path, err));
    TDM_TRY(load(&s, err));
    if (s.verify) {
        TDM_TRY(verify_file(&s, s.out.p, member(tdm_json_root(s.doc), "out"), err));
        TDM_TRY(verify_file(&s, s.errors.p, member(tdm_json_root(s.doc), "errors"), err));
    }
    TDM_TRY(print(&s, json, err));
    TDM_REQUIRE(s.n_problems == 0, TDM_EFORMAT, "%zu problem%s, the first: %s", s.n_problems,
                s.n_problems > 1 ? "s" : "", s.problems.p);
done:
    tdm_json_close(s.doc);
    tdm_json_close(s.manifest_doc);
    tdm_buf_free(&s.out);
    tdm_buf_free(&s.path);
    tdm_buf_free(&s.errors);
    tdm_buf_free(&s.state);
    tdm_buf_free(&s.manifest);
    tdm_buf_free(&s.problems);
    return st;
}
