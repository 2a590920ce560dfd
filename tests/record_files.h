/* tests/record_files.h - files of records in a folder of their own, and reading them.
 *
 *   char *path = write_file("name.jsonl", bytes, len);
 *   tdm_reader *reader = open_one((const char *const *)&path, 1, &options);
 *   tdm_record r = next(reader);
 *   tdm_reader_close(reader);
 *   remove_file(path);
 *   ...
 *   cmocka_run_group_tests(tests, make_folder, remove_folder); */
#ifndef TESTS_RECORD_FILES_H
#define TESTS_RECORD_FILES_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/inputs.h"
#include "host/record.h"

#define BYTES(s) s, sizeof s - 1
#define COUNT(array) (sizeof(array) / sizeof *(array))

static char folder[] = "/tmp/test_record.XXXXXX";
static tdm_inputs opened; /* of the last reader that open_one made */

static inline int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    (void)state;
    tdm_inputs_free(&opened);
    return rmdir(folder);
}

/* A file in the folder; the caller removes it and frees the path. */
static inline char *write_file(const char *name, const char *data, size_t len)
{
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(len == 0 || fwrite(data, 1, len, f) == len);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline void remove_file(char *path)
{
    assert_int_equal(unlink(path), 0);
    free(path);
}

/* One reader at a time; no paths at all mean stdin. */
static inline tdm_reader *open_one(const char *const *paths, size_t n, const tdm_reader_options *options)
{
    tdm_err err = {0};
    tdm_reader *reader = NULL;
    tdm_inputs_free(&opened);
    if (tdm_inputs_list(paths, n, NULL, &opened, &err) != TDM_OK ||
        tdm_reader_open(&opened, options, &reader, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return reader;
}

static inline tdm_record next(tdm_reader *reader)
{
    tdm_err err = {0};
    tdm_record record;
    if (tdm_reader_next(reader, &record, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return record;
}

#endif
