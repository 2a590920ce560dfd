/* tools/bench_load.c - "tandem bench load": from files to weights on the device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detector/roberta.h"
#include "host/checkpoint.h"
#include "host/gpt2.h"
#include "tools/bench.h"
#include "tools/bench_job.h"

/* Seconds of opening, reading and closing again, until the backend has done its part. */
static tdm_status load(const tdm_backend *be, const job *j, bool check, double *seconds,
                       double *bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_checkpoint *ck = NULL;
    gpt2_model *gpt2 = NULL;
    roberta *detector = NULL;
    const roberta_limits limits = {.rows = j->config.n_context, .texts = 1};
    const double start = bench_seconds();
    TDM_TRY(tdm_checkpoint_open(j->dir, &ck, err));
    TDM_TRY(j->config.arch == TDM_GPT2
                ? gpt2_open(be, ck, &j->config, check, &gpt2, err)
                : roberta_open(be, ck, &j->config, &limits, check, &detector, err));
    TDM_TRY(tdm_sync(be, err));
    *seconds = bench_seconds() - start;
    *bytes = 0;
    for (int i = 0; i < tdm_checkpoint_files(ck); i++) {
        uint64_t size = 0;
        tdm_checkpoint_file(ck, i, &size);
        *bytes += (double)size;
    }
done:
    roberta_close(detector);
    gpt2_close(gpt2);
    tdm_checkpoint_close(ck);
    return st;
}

/* Seconds of a byte that goes from host memory to the backend and is nothing else. */
static tdm_status measure_upload(const tdm_backend *be, bool small, double *per_byte, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = (size_t)(small ? 1 : 256) << 20;
    void *src = malloc(bytes), *dst = NULL;
    double best = INFINITY;
    TDM_REQUIRE(src, TDM_ENOMEM, "%zu bytes", bytes);
    memset(src, 1, bytes); /* pages of its own */
    TDM_TRY(tdm_alloc(be, bytes, &dst, err));
    for (int round = 0; round < 4; round++) {
        const double start = bench_seconds();
        TDM_TRY(tdm_upload(be, dst, src, bytes, err));
        TDM_TRY(tdm_sync(be, err));
        const double spent = bench_seconds() - start;
        best = spent < best ? spent : best;
    }
    *per_byte = best / (double)bytes;
done:
    tdm_release(be, dst);
    free(src);
    return st;
}

static const bench_column COLUMNS[] = {
    {"weight_check", 12, -1}, {"round", 5, 0}, {"file_gb", 8, 3}, {"seconds", 8, 3},
    {"gb_s", 7, 2},           {"floor", 7, 2}, {"share", 6, 3},
};

static tdm_status run(const job_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    job j = {0};
    tdm_backend be = {0};
    double seconds = 0, bytes = 0, upload = 0;
    tdm_config config = {0};
    TDM_REQUIRE(o->model || o->size, TDM_EARG, "want one of --model and --size");
    const bench_shape *shape = o->size ? bench_shape_find(o->size) : NULL;
    if (o->model)
        TDM_TRY(tdm_config_load(o->model, &config, err));
    TDM_TRY(job_open(o, "load", shape ? shape->arch : config.arch, &j, err));
    TDM_TRY(args_open_backend(&o->bench.common, &be, err));
    TDM_TRY(measure_upload(&be, o->bench.small, &upload, err));
    bench_print_head(&j.b, COLUMNS, COUNT(COLUMNS));
    for (int64_t round = 0; round < o->rounds; round++)
        for (int check = 1; check >= 0; check--) {
            TDM_TRY(load(&be, &j, check, &seconds, &bytes, err));
            const bench_cell cells[] = {
                BENCH_TEXT(check ? "yes" : "no"),
                BENCH_NUMBER(round + 1),
                BENCH_NUMBER(1e-9 * bytes),
                BENCH_NUMBER(seconds),
                BENCH_NUMBER(1e-9 * bytes / seconds),
                BENCH_NUMBER(1e-9 / upload),
                BENCH_NUMBER(bytes * upload / seconds),
            };
            bench_print_row(&j.b, COLUMNS, COUNT(COLUMNS), cells);
        }
done:
    tdm_backend_close(&be);
    job_close(&j);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench load",
    .usage = "(--model DIR | --size SIZE) [options]",
    .summary =
        "Load a model onto the device, with and without the search for NaN and infinity. A file "
        "that was read before comes from the system's page cache: what is timed then is copying "
        "and converting; the first round of --model may come from the disk.",
    .example = "tandem bench load --size 1558M --device cuda\n",
    .notes =
        "Columns: whether weights are checked, round, size of the files, seconds, GB/s, floor in\n"
        "GB/s: what a plain copy from host memory reaches; share of it.\n",
};

int bench_load(int argc, char **argv)
{
    job_options o = {.bench = BENCH_OPTIONS_DEFAULTS, .rounds = 2};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {JOB_ARGS_MODEL(&o), JOB_ARGS_ROUNDS(&o), BENCH_ARGS(&o.bench)};
    o.bench.common.quiet = true;
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    return run(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
