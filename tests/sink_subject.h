/* tests/sink_subject.h - a folder for the output of a sink, and calls of it that must succeed. */
#ifndef TESTS_SINK_SUBJECT_H
#define TESTS_SINK_SUBJECT_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/sink.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char folder[] = "/tmp/test_sink.XXXXXX";
static char out[64], gz[64]; /* OUT by its endings */

static void clear_folder(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s/*", folder);
    assert_int_equal(system(command), 0);
}

static int make_folder(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder))
        return -1;
    snprintf(out, sizeof out, "%s/out.jsonl", folder);
    snprintf(gz, sizeof gz, "%s/out.jsonl.gz", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    clear_folder();
    return rmdir(folder);
}

static const tdm_max_errors NONE = {0};

static tdm_sink *open_sink(const char *path, tdm_job *job, tdm_max_errors max)
{
    tdm_err err = {0};
    tdm_sink *sink = NULL;
    const tdm_sink_options options = {
        .path = path, .job = job, .codec = tdm_codec_of_name(path), .max_errors = max};
    if (tdm_sink_open(&options, &sink, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    return sink;
}

static void end_chunk(tdm_sink *sink, uint64_t number, int64_t skipped)
{
    tdm_err err = {0};
    const tdm_chunk chunk = {.number = number, .skipped = skipped, .is_last = number == 1};
    if (tdm_sink_end_chunk(sink, &chunk, 10, &err) != TDM_OK)
        fail_msg("%s", err.msg);
}

static void finish(tdm_sink *sink)
{
    tdm_err err = {0};
    if (tdm_sink_finish(sink, &err) != TDM_OK)
        fail_msg("%s", err.msg);
}

#endif
