/* A job over made-up inputs: its options, the results of a chunk, which depend on the chunk alone,
 * and a look at the files that it leaves. */
#ifndef TESTS_JOB_SUBJECT_H
#define TESTS_JOB_SUBJECT_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/job.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { SUBJECT_FILES = 3, SUBJECT_PATH = 96 };

/* Three inputs: five chunks, a compressed file whose chunks are found out (three), two chunks. */
static const uint64_t SUBJECT_CHUNKS[SUBJECT_FILES] = {5, 3, 2};
enum { SUBJECT_TOTAL = 10 };

static char subject_folder[64];
static char subject_out[SUBJECT_PATH], subject_model[SUBJECT_PATH];
static char subject_paths[SUBJECT_FILES][SUBJECT_PATH];
static tdm_input subject_items[SUBJECT_FILES];
static tdm_inputs subject_inputs = {.items = subject_items, .n = SUBJECT_FILES};
static uint64_t subject_n_chunks[SUBJECT_FILES];

/* ---- files ---- */

static inline void subject_write(const char *path, const void *p, size_t len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* The bytes of a file and a NUL, to be freed; NULL where there is none. */
static inline char *subject_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    char *p = calloc(1, *len + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *len, f), *len);
    fclose(f);
    return p;
}

/* OUT followed by `ending`, valid until the call after the next. */
static inline const char *beside(const char *ending)
{
    static char names[2][2 * SUBJECT_PATH];
    static int turn;
    turn = !turn;
    snprintf(names[turn], sizeof names[turn], "%s%s", subject_out, ending);
    return names[turn];
}

static inline bool there_is(const char *ending)
{
    return access(beside(ending), F_OK) == 0;
}

static inline void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char name[2 * SUBJECT_PATH + 300];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(name, sizeof name, "%.200s/%.250s", path, e->d_name);
        if (unlink(name) != 0)
            remove_folder(name);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

/* Nothing of an earlier test is left beside the inputs and the model. */
static inline int clear_out(void **state)
{
    (void)state;
    static const char *const ENDINGS[] = {"", ".errors.jsonl", ".manifest.json"};
    for (size_t i = 0; i < COUNT(ENDINGS); i++)
        unlink(beside(ENDINGS[i]));
    remove_folder(beside(".job"));
    return 0;
}

/* Look at a file again, as tdm_inputs_list does. */
static inline void list_input(size_t i)
{
    struct stat info;
    assert_int_equal(stat(subject_paths[i], &info), 0);
    subject_items[i] = (tdm_input){
        .path = subject_paths[i],
        .is_regular = true,
        .codec = i == 1 ? TDM_GZ : TDM_PLAIN,
        .size = (uint64_t)info.st_size,
        .mtime = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec,
    };
    subject_n_chunks[i] = i == 1 ? TDM_CHUNKS_UNKNOWN : SUBJECT_CHUNKS[i];
}

static inline int make_subject(void **state)
{
    (void)state;
    char path[2 * SUBJECT_PATH];
    /* In memory where that can be had: these tests make thousands of files durable. */
    static const char *const PARENTS[] = {"/dev/shm", "/tmp"};
    const char *made = NULL;
    for (size_t i = 0; i < COUNT(PARENTS) && !made; i++) {
        snprintf(subject_folder, sizeof subject_folder, "%s/test_job.XXXXXX", PARENTS[i]);
        made = mkdtemp(subject_folder);
    }
    if (!made)
        return -1;
    snprintf(subject_out, sizeof subject_out, "%s/out.jsonl", subject_folder);
    snprintf(subject_model, sizeof subject_model, "%s/model", subject_folder);
    for (size_t i = 0; i < SUBJECT_FILES; i++) {
        snprintf(subject_paths[i], SUBJECT_PATH, "%s/in%zu%s", subject_folder, i,
                 i == 1 ? ".jsonl.gz" : ".jsonl");
        subject_write(subject_paths[i], "0123456789 and so on\n", 11 + i);
        list_input(i);
    }
    mkdir(subject_model, 0777);
    snprintf(path, sizeof path, "%s/config.json", subject_model);
    subject_write(path, "{}", 2);
    snprintf(path, sizeof path, "%s/model.safetensors", subject_model);
    subject_write(path, "weights", 7);
    return 0;
}

static inline int drop_subject(void **state)
{
    (void)state;
    remove_folder(subject_folder);
    return 0;
}

/* ---- a job ---- */

static inline tdm_job_options subject_options(int64_t index, int64_t count)
{
    return (tdm_job_options){
        .out = subject_out,
        .command = "detect",
        .settings = "{\"top_k\": 0, \"seed\": 9007199254740993}",
        .engine = "{\"device\": \"cpu\"}",
        .model = subject_model,
        .inputs = &subject_inputs,
        .n_chunks = subject_n_chunks,
        .chunk_bytes = 1000,
        .rank = {index, count},
    };
}

static inline tdm_job *open_job(const tdm_job_options *options)
{
    tdm_err err = {0};
    tdm_job *job = NULL;
    if (tdm_job_open(options, &job, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return job;
}

/* What a chunk's text and results are: every third chunk has an error record, every fifth no
 * result. */
static inline void chunk_result(size_t file, uint64_t number, tdm_chunk_result *r, char data[256],
                                char errors[256])
{
    const uint64_t serial = file * 100 + number;
    *r = (tdm_chunk_result){
        .chunk = {.file = file,
                  .number = number,
                  .skipped = (int64_t)number,
                  .hash = serial * 7919,
                  .is_last = number + 1 == SUBJECT_CHUNKS[file]},
        .counts = {.ok = 2, .skipped = (int64_t)number},
        .tokens = serial,
        .data = data,
        .errors = errors,
    };
    if (serial % 5 != 4)
        r->len = (size_t)snprintf(data, 256, "{\"id\": %" PRIu64 ", \"fake\": 0.5}\n%.*s\n", serial,
                                  (int)(serial % 50),
                                  "..................................................");
    if (serial % 3 == 1) {
        r->errors_len = (size_t)snprintf(errors, 256, "{\"line\": %" PRIu64 "}\n", serial);
        r->counts.bad = r->counts.by_fault[TDM_FAULT_EMPTY] = 1;
    }
}

static inline tdm_status commit_chunk(tdm_job *job, size_t file, uint64_t number, tdm_err *err)
{
    tdm_chunk_result r;
    char data[256], errors[256];
    chunk_result(file, number, &r, data, errors);
    return tdm_job_commit(job, &r, err);
}

/* Commit at most `most` of the chunks that are wanted; returns how many. */
static inline int work(tdm_job *job, int most)
{
    const tdm_chunk_filter filter = tdm_job_filter(job);
    int n = 0;
    for (size_t f = 0; f < SUBJECT_FILES; f++)
        for (uint64_t k = 0; k < SUBJECT_CHUNKS[f] && n < most; k++)
            if (filter.is_wanted(filter.ctx, f, k)) {
                tdm_err err = {0};
                if (commit_chunk(job, f, k, &err) != TDM_OK)
                    fail_msg("%s", err.msg);
                n++;
            }
    return n;
}

static const tdm_max_errors ANY_ERRORS = {.limit = 1e9};

static inline void finish(tdm_job *job)
{
    tdm_err err = {0};
    if (tdm_job_finish(job, ANY_ERRORS, &err) != TDM_OK)
        fail_msg("%s", err.msg);
}

/* One process from the beginning to the end. Returns the chunks that it did. */
static inline int run_job(const tdm_job_options *options)
{
    tdm_job *job = open_job(options);
    const int n = tdm_job_is_complete(job) ? 0 : work(job, SUBJECT_TOTAL);
    finish(job);
    assert_true(tdm_job_is_complete(job));
    tdm_job_close(job);
    return n;
}

/* ---- what must come of it ---- */

static inline void expected(char *data, char *errors)
{
    *data = *errors = 0;
    for (size_t f = 0; f < SUBJECT_FILES; f++)
        for (uint64_t k = 0; k < SUBJECT_CHUNKS[f]; k++) {
            tdm_chunk_result r;
            char of_data[256], of_errors[256];
            chunk_result(f, k, &r, of_data, of_errors);
            strncat(data, of_data, r.len);
            strncat(errors, of_errors, r.errors_len);
        }
}

static inline void check_file(const char *path, const char *want)
{
    size_t len = 0;
    char *text = subject_read(path, &len);
    assert_non_null(text);
    assert_string_equal(text, want);
    free(text);
}

/* The files beside OUT are those of an uninterrupted run, and OUT.job is gone.
 *   manifest  of the first call is kept: later ones must be the same */
static inline void check_complete(void)
{
    static char manifest[4096];
    char data[4096], errors[4096];
    size_t len = 0;
    expected(data, errors);
    check_file(subject_out, data);
    check_file(beside(".errors.jsonl"), errors);
    char *text = subject_read(beside(".manifest.json"), &len);
    assert_non_null(text);
    if (!*manifest)
        snprintf(manifest, sizeof manifest, "%s", text);
    assert_string_equal(text, manifest);
    free(text);
    assert_false(there_is(".job"));
}

#endif
