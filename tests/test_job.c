/* A job is made, goes on where it was left, is complete, and refuses what is not it. */
#include "host/json.h"
#include "tests/job_subject.h"

static void test_at_once(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1);
    assert_int_equal(run_job(&o), SUBJECT_TOTAL);
    check_complete();
    assert_int_equal(run_job(&o), 0); /* complete: nothing to do */
    check_complete();
}

/* Left after every number of chunks, and gone on with, at each of two places. */
static void test_go_on(void **state)
{
    const tdm_job_options o = subject_options(0, 1);
    for (int first = 0; first <= SUBJECT_TOTAL; first++)
        for (int second = 0; second <= SUBJECT_TOTAL - first; second++) {
            clear_out(state);
            tdm_job *job = open_job(&o);
            assert_int_equal(work(job, first), first);
            tdm_job_close(job);
            job = open_job(&o);
            assert_int_equal(work(job, second), second);
            tdm_job_close(job);
            assert_false(there_is(""));
            assert_int_equal(run_job(&o), SUBJECT_TOTAL - first - second);
            check_complete();
        }
}

/* Chunks in another order: OUT is joined by copying, with the same bytes. */
static void test_any_order(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1);
    tdm_job *job = open_job(&o);
    for (size_t f = SUBJECT_FILES; f-- > 0;)
        for (uint64_t k = SUBJECT_CHUNKS[f]; k-- > 0;)
            assert_int_equal(commit_chunk(job, f, k, NULL), TDM_OK);
    finish(job);
    tdm_job_close(job);
    check_complete();
}

/* One process that wrote all in order: its file becomes OUT, it is not copied. */
static void test_no_copy(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1);
    struct stat part, out;
    tdm_job *job = open_job(&o);
    work(job, SUBJECT_TOTAL);
    assert_int_equal(stat(beside(".job/0.data"), &part), 0);
    finish(job);
    tdm_job_close(job);
    assert_int_equal(stat(subject_out, &out), 0);
    assert_int_equal(part.st_ino, out.st_ino);
    assert_int_equal(out.st_nlink, 1);
}

static void test_totals(void **state)
{
    (void)state;
    const tdm_job_options o = subject_options(0, 1);
    tdm_job_totals t;
    tdm_job *job = open_job(&o);
    tdm_job_totals_get(job, &t);
    assert_int_equal(t.chunks_done, 0);
    assert_true(t.chunks_total == TDM_CHUNKS_UNKNOWN);
    work(job, 9);
    tdm_job_close(job);
    job = open_job(&o);
    tdm_job_totals_get(job, &t);
    assert_int_equal(t.chunks_done, 9);
    assert_int_equal(t.chunks_total, SUBJECT_TOTAL); /* the last of the compressed file is there */
    assert_int_equal(t.counts.ok, 18);
    assert_int_equal(t.counts.bad, t.counts.by_fault[TDM_FAULT_EMPTY]);
    assert_int_equal(t.input_done, subject_items[0].size + (subject_items[2].size + 1) / 2);
    work(job, 1);
    finish(job);
    tdm_job_totals_get(job, &t);
    tdm_job_close(job);
    assert_int_equal(t.counts.ok, 20);
    assert_int_equal(t.input_done, subject_items[0].size + subject_items[2].size);
    job = open_job(&o); /* complete */
    tdm_job_totals again;
    tdm_job_totals_get(job, &again);
    tdm_job_close(job);
    assert_memory_equal(&again.counts, &t.counts, sizeof t.counts);
    assert_int_equal(again.tokens, t.tokens);
    assert_int_equal(again.bytes, t.bytes);
}

/* ---- what is not the job ---- */

typedef struct {
    const char *name;
    void (*change)(tdm_job_options *o);
    const char *says;   /* NULL: it is still the job */
    bool when_complete; /* refused then too */
} difference;

static void change_settings(tdm_job_options *o)
{
    o->settings = "{\"top_k\": 40, \"seed\": 9007199254740993}";
}

static void change_seed(tdm_job_options *o) /* one double for both */
{
    o->settings = "{\"top_k\": 0, \"seed\": 9007199254740992}";
}

static void add_setting(tdm_job_options *o)
{
    o->settings = "{\"top_k\": 0, \"seed\": 9007199254740993, \"list\": [1, {\"a\": \"b\"}]}";
}

static void drop_setting(tdm_job_options *o)
{
    o->settings = "{\"top_k\": 0}";
}

static void space_settings(tdm_job_options *o) /* the same by other blanks */
{
    o->settings = "{ \"top_k\":0 ,\"seed\" : 9007199254740993}";
}

static void change_command(tdm_job_options *o)
{
    o->command = "tokenize";
}

static void change_engine(tdm_job_options *o)
{
    o->engine = "{\"device\": \"cuda\"}";
}

static void change_weights(tdm_job_options *o)
{
    char path[2 * SUBJECT_PATH];
    snprintf(path, sizeof path, "%s/model.safetensors", o->model);
    subject_write(path, "WEIGHTS", 7);
}

static void touch_weights(tdm_job_options *o) /* another time, the same bytes */
{
    char path[2 * SUBJECT_PATH];
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    snprintf(path, sizeof path, "%s/model.safetensors", o->model);
    subject_write(path, "weights", 7);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void drop_model(tdm_job_options *o)
{
    o->model = NULL;
}

static void grow_input(tdm_job_options *o)
{
    (void)o;
    subject_write(subject_paths[2], "0123456789 and so on\n\n", 14);
    list_input(2);
}

static void change_input_end(tdm_job_options *o) /* its size and time stay */
{
    (void)o;
    struct stat info;
    assert_int_equal(stat(subject_paths[2], &info), 0);
    subject_write(subject_paths[2], "0123456789 AND so on\n", 13);
    const struct timespec times[2] = {info.st_atim, info.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, subject_paths[2], times, 0), 0);
    list_input(2);
}

static void touch_input(tdm_job_options *o)
{
    (void)o;
    const struct timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 5},
                                      {.tv_sec = 1000, .tv_nsec = 5}};
    assert_int_equal(utimensat(AT_FDCWD, subject_paths[2], times, 0), 0);
    list_input(2);
}

static void swap_inputs(tdm_job_options *o)
{
    (void)o;
    const tdm_input first = subject_items[0];
    subject_items[0] = subject_items[2];
    subject_items[2] = first;
}

static void drop_input(tdm_job_options *o)
{
    static tdm_inputs two = {.items = subject_items, .n = 2};
    o->inputs = &two;
}

static void change_chunks(tdm_job_options *o)
{
    (void)o;
    subject_n_chunks[0] = 6;
}

static void change_nothing(tdm_job_options *o)
{
    (void)o;
}

static const difference DIFFERENCES[] = {
    {"nothing", change_nothing, NULL, false},
    {"a setting", change_settings, "settings.top_k is 40, was 0", true},
    {"a seed beyond doubles", change_seed,
     "settings.seed is 9007199254740992, was 9007199254740993", true},
    {"a new setting", add_setting,
     "settings.list[0] is 1, was not there; settings.list[1].a is \"b\"", true},
    {"a setting less", drop_setting, "settings.seed is not there, was 9007199254740993", true},
    {"blanks", space_settings, NULL, false},
    {"the command", change_command, "command is \"tokenize\", was \"detect\"", true},
    {"the engine", change_engine, "engine.device is \"cuda\", was \"cpu\"", false},
    {"the weights", change_weights, "model[1].sha256 is ", true},
    {"the time of the weights", touch_weights, NULL, false},
    {"no model", drop_model, "model[0] is not there, was \"config.json\"", true},
    {"an input's size", grow_input, "inputs[2].size is 14, was 13", true},
    {"an input's end", change_input_end, "inputs[2].ends (", true},
    {"an input's time", touch_input, "in2.jsonl) is \"1970-01-01T00:16:40.000000005Z\", was ",
     true},
    {"the order of inputs", swap_inputs, "inputs[0] is \"/", true},
    {"an input less", drop_input, "inputs[2] is not there, was \"/", true},
    {"the chunks", change_chunks, "in0.jsonl) is 6, was 5", true},
};

/* Make a job that is worth to be kept. */
static void begin_job(const tdm_job_options *o)
{
    tdm_job *job = open_job(o);
    assert_int_equal(work(job, 1), 1);
    tdm_job_close(job);
}

/* Make a job, change something, and open it again. */
static void check_difference(const difference *d, bool complete)
{
    tdm_err err = {0};
    tdm_job *job = NULL;
    void *none = NULL;
    drop_subject(&none);
    make_subject(&none);
    tdm_job_options o = subject_options(0, 1);
    if (complete)
        run_job(&o);
    else
        begin_job(&o);
    d->change(&o);
    const bool refused = d->says && (!complete || d->when_complete);
    const tdm_status st = tdm_job_open(&o, &job, &err);
    if (st != (refused ? TDM_EMISMATCH : TDM_OK))
        fail_msg("%s%s: %d %s", d->name, complete ? ", complete" : "", st, err.msg);
    if (refused && (!strstr(err.msg, d->says) || !strstr(err.msg, "--restart")))
        fail_msg("%s: %s", d->name, err.msg);
    if (!refused)
        assert_int_equal(tdm_job_is_complete(job), complete);
    tdm_job_close(job);
}

static void test_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(DIFFERENCES); i++) {
        check_difference(&DIFFERENCES[i], false);
        check_difference(&DIFFERENCES[i], true);
    }
}

/* Many differences: options come first, and how many are not shown is said. */
static void test_many_differences(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_job *job = NULL;
    tdm_job_options o = subject_options(0, 1);
    begin_job(&o);
    swap_inputs(&o);
    change_command(&o);
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_EMISMATCH);
    swap_inputs(&o);
    assert_non_null(strstr(err.msg, "not the same job: command is "));
    assert_non_null(strstr(err.msg, "; and "));
    assert_non_null(strstr(err.msg, "with a new time"));
}

/* ---- OUT and its surroundings ---- */

/* Where nothing was committed, nothing stays, unless other ranks may come. What cannot be read stays. */
static void test_nothing(void **state)
{
    (void)state;
    tdm_job_options o = subject_options(0, 1);
    tdm_job_close(open_job(&o));
    assert_false(there_is(".job"));
    change_settings(&o);
    tdm_job_close(open_job(&o)); /* another command is free to use the name */
    o = subject_options(1, 2);
    tdm_job_close(open_job(&o));
    assert_true(there_is(".job/manifest.json"));
    o = subject_options(0, 1);
    tdm_job_close(open_job(&o));
    assert_false(there_is(".job"));
    begin_job(&o);
    subject_write(beside(".job/0.journal"), "what was that?\n", 15);
    tdm_job_close(open_job(&o));
    assert_true(there_is(".job/0.journal"));
}

static void test_restart(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_job *job = NULL;
    tdm_job_options o = subject_options(0, 1);
    run_job(&o);
    change_settings(&o);
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_EMISMATCH);
    o.restart = true;
    job = open_job(&o);
    assert_true(there_is("")); /* until another one takes its place */
    assert_false(there_is(".manifest.json"));
    assert_int_equal(work(job, 4), 4);
    tdm_job_close(job);
    o = subject_options(0, 1);
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_EMISMATCH);
    o.restart = true;
    assert_int_equal(run_job(&o), SUBJECT_TOTAL);
    check_complete();
    o.restart = false;
    assert_int_equal(run_job(&o), 0);
    o.restart = true;
    o.rank = (tdm_rank){0, 2};
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_EARG);
}

static void test_restart_at_work(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_job *job = NULL;
    tdm_job_options o = subject_options(1, 2);
    tdm_job *other = open_job(&o);
    work(other, 2);
    o = subject_options(0, 1);
    o.restart = true;
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_ECANTCREATE);
    tdm_job_close(other);
    o.rank = (tdm_rank){1, 2};
    o.restart = false;
    job = open_job(&o); /* nothing was discarded */
    tdm_job_totals t;
    tdm_job_totals_get(job, &t);
    assert_int_equal(t.chunks_done, 2);
    tdm_job_close(job);
}

static void test_changed_out(void **state)
{
    (void)state;
    tdm_err err = {0};
    tdm_job *job = NULL;
    const tdm_job_options o = subject_options(0, 1);
    subject_write(subject_out, "somebody's", 10);
    subject_write(beside(".errors.jsonl"), "stale", 5);
    run_job(&o); /* takes its place */
    check_complete();
    subject_write(subject_out, "changed", 7);
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_EMISMATCH);
    assert_non_null(strstr(err.msg, "has 7 bytes, and "));
    unlink(subject_out);
    assert_int_equal(run_job(&o), SUBJECT_TOTAL); /* removed: made again */
    check_complete();
    subject_write(beside(".manifest.json"), "{\"complete\": tru", 16);
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_EFORMAT);
    subject_write(beside(".manifest.json"), "{}", 2);
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_EFORMAT);
}

static void test_link(void **state)
{
    (void)state;
    char target[2 * SUBJECT_PATH];
    struct stat info;
    snprintf(target, sizeof target, "%s/target", subject_folder);
    assert_int_equal(symlink("target", subject_out), 0);
    const tdm_job_options o = subject_options(0, 1);
    tdm_err err = {0};
    tdm_job *job = NULL;
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_ECANTCREATE); /* OUT would take the place of the link */
    assert_non_null(strstr(err.msg, "is a link to what is not there"));
    subject_write(target, "old", 3);
    run_job(&o);
    assert_int_equal(lstat(subject_out, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    char data[4096], errors[4096];
    expected(data, errors);
    check_file(target, data);
    assert_int_equal(run_job(&o), 0);
    unlink(subject_out);
    snprintf(subject_out, sizeof subject_out, "%.90s", target); /* all is beside the target */
    clear_out(state);
    snprintf(subject_out, sizeof subject_out, "%s/out.jsonl", subject_folder);
}

static void test_bad_out(void **state)
{
    (void)state;
    static const char *const PLACES[] = {"/dev/null/x", "/no/such/folder/x", "/tmp"};
    for (size_t i = 0; i < COUNT(PLACES); i++) {
        tdm_err err = {0};
        tdm_job *job = NULL;
        tdm_job_options o = subject_options(0, 1);
        o.out = PLACES[i];
        assert_int_equal(tdm_job_open(&o, &job, &err), TDM_ECANTCREATE);
        assert_non_null(strstr(err.msg, PLACES[i]));
    }
    char name[300];
    snprintf(name, sizeof name, "/tmp/%0245d", 0); /* itself it would do, OUT.manifest.json not */
    tdm_err err = {0};
    tdm_job *job = NULL;
    tdm_job_options o = subject_options(0, 1);
    o.out = name;
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_ECANTCREATE);
    assert_non_null(strstr(err.msg, "too long for the files beside it"));
    o.out = subject_out;
    subject_n_chunks[2] = (UINT64_C(1) << 32) + 1;
    assert_int_equal(tdm_job_open(&o, &job, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "in2.jsonl: 4294967297 chunks, want at most 4294967296"));
    list_input(2);
    assert_false(tdm_job_is_for("-"));
    assert_false(tdm_job_is_for("/dev/null"));
    assert_true(tdm_job_is_for("/no/such/folder/x"));
    assert_true(tdm_job_is_for(subject_paths[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_at_once, clear_out),
        cmocka_unit_test_setup(test_go_on, clear_out),
        cmocka_unit_test_setup(test_any_order, clear_out),
        cmocka_unit_test_setup(test_no_copy, clear_out),
        cmocka_unit_test_setup(test_totals, clear_out),
        cmocka_unit_test_setup(test_many_differences, clear_out),
        cmocka_unit_test_setup(test_nothing, clear_out),
        cmocka_unit_test_setup(test_restart, clear_out),
        cmocka_unit_test_setup(test_restart_at_work, clear_out),
        cmocka_unit_test_setup(test_changed_out, clear_out),
        cmocka_unit_test_setup(test_link, clear_out),
        cmocka_unit_test_setup(test_bad_out, clear_out),
        cmocka_unit_test_setup(test_differences, clear_out),
    };
    return cmocka_run_group_tests(tests, make_subject, drop_subject);
}
