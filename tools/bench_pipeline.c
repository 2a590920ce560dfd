/* tools/bench_pipeline.c - "tandem bench pipeline": whole runs on the null device. What is left is all that is
 * not the model: reading, decompressing, parsing, tokenising, writing, compressing, committing. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/codec.h"
#include "tools/bench.h"
#include "tools/bench_job.h"

/* WORDS: of one token each, about 2 kB. */
enum { WORDS = 330, RECORDS = 500000, SMALL_RECORDS = 500, MOST_ARGS = 8 };

static const char *const ENDINGS[] = {"", ".gz", ".zst"}; /* by tdm_codec */
enum { CODECS = COUNT(ENDINGS) };

static tdm_status pack(const char *from, const char *to, tdm_codec codec, tdm_err *err)
{
    enum { PIECE = 1 << 20 };
    tdm_status st = TDM_OK;
    tdm_buf packed = {0};
    char *piece = malloc(PIECE);
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    TDM_REQUIRE(piece, TDM_ENOMEM, "%d bytes", PIECE);
    TDM_REQUIRE(in && out, TDM_ECANTCREATE, "%s: %s", to, strerror(errno));
    for (size_t n; (n = fread(piece, 1, PIECE, in)) > 0;) {
        packed.len = 0;
        TDM_TRY(tdm_compress(codec, piece, n, &packed, err));
        fwrite(packed.p, 1, packed.len, out);
    }
    TDM_REQUIRE(!ferror(in) && !ferror(out), TDM_EIO, "%s: %s", to, strerror(errno));
done:
    if (in)
        fclose(in);
    if (out && fclose(out) && st == TDM_OK)
        st = tdm_fail(err, TDM_EIO, "%s: %s", to, strerror(errno));
    free(piece);
    tdm_buf_free(&packed);
    return st;
}

/* ---- runs ---- */

typedef struct {
    const char *name;
    const char *args[MOST_ARGS]; /* ends with NULL */
} pipeline_run;

static const pipeline_run READING[] = {{"detect", {"detect"}},
                                       {"detect --passthrough", {"detect", "--passthrough"}}};
static const pipeline_run WRITING[] = {{"generate", {"generate"}}};

static const bench_column COLUMNS[] = {
    {"run", 20, -1},     {"form", 5, -1},     {"records", 8, 0},    {"mb", 7, 1},
    {"seconds", 8, 2},   {"records_s", 9, 0}, {"mb_s", 7, 1},       {"read_us", 8, 2},
    {"tokenise_us", 11, 2}, {"judge_us", 8, 2}, {"write_us", 8, 2}, {"compress_us", 11, 2},
    {"other_us", 8, 2},  {"cpu_us", 8, 2},    {"on_16", 8, 0},
};

/* Records a second on 16 cores, from what one takes on one: as fast as the busiest thread, and as all cores. The
 * thread that reads is one of 16 that tokenise, the one that writes one of 8 that compress: a window has
 * about 8 chunks of these records. A run that does not say what its steps take has one thread. */
static double rate_on_cores(const run_steps *us, double all)
{
    enum { CORES = 16, PACKERS = 8 };
    if (isnan(us->read))
        return 1e6 / all;
    const double reading = us->read + us->tokenise / CORES, writing = us->write + us->compress / PACKERS;
    return fmin(1e6 / fmax(fmax(reading, writing), fmax(us->judge, us->other)), CORES * 1e6 / all);
}

static void print_run(const job *j, const char *name, tdm_codec codec, double bytes, const job_result *r)
{
    const double scale = 1e6 / r->records;
    run_steps us = r->cpu_steps;
#define X(step) us.step *= scale;
    SUMMARY_STEPS(X)
#undef X
    const bench_cell cells[] = {BENCH_TEXT(name),
                                BENCH_TEXT(*ENDINGS[codec] ? ENDINGS[codec] + 1 : "plain"),
                                BENCH_NUMBER(r->records),
                                BENCH_NUMBER(1e-6 * bytes),
                                BENCH_NUMBER(r->seconds),
                                BENCH_NUMBER(r->records / r->seconds),
                                BENCH_NUMBER(1e-6 * bytes / r->seconds),
                                BENCH_NUMBER(us.read),
                                BENCH_NUMBER(us.tokenise),
                                BENCH_NUMBER(us.judge),
                                BENCH_NUMBER(us.write),
                                BENCH_NUMBER(us.compress),
                                BENCH_NUMBER(us.other),
                                BENCH_NUMBER(r->cpu * scale),
                                BENCH_NUMBER(rate_on_cores(&us, r->cpu * scale))};
    bench_print_row(&j->b, COLUMNS, COUNT(COLUMNS), cells);
}

/* The best of some rounds. */
static tdm_status run_rounds(const job *j, const char *const *args, size_t n, job_result *best, tdm_err *err)
{
    tdm_status st = TDM_OK;
    job_result result;
    *best = (job_result){.seconds = INFINITY};
    for (int64_t round = 0; round < j->options->rounds; round++) {
        TDM_TRY(job_run(j, args, n, &result, err));
        TDM_REQUIRE(isinf(best->seconds) || !strcmp(best->hash, result.hash), TDM_EINTERNAL,
                    "%s: #%s, then #%s", args[0], best->hash, result.hash);
        *best = result.seconds < best->seconds ? result : *best;
    }
done:
    return st;
}

static double size_of(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (double)info.st_size : NAN;
}

/* One kind of run in all forms. What it reads, or else writes, is counted as plain text. */
static tdm_status run_forms(const job *j, const pipeline_run *run, bool reads, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char in[BENCH_PATH + 24], out[BENCH_PATH + 24], n[24], length[24];
    double bytes = NAN;
    job_result best;
    snprintf(n, sizeof n, "%" PRId64, j->options->n);
    snprintf(length, sizeof length, "%" PRId64, j->options->length);
    for (int codec = 0; codec < CODECS; codec++) {
        const char *args[MOST_ARGS + 8];
        size_t n_args = 0;
        snprintf(in, sizeof in, "%s/texts.jsonl%s", j->scratch, ENDINGS[codec]);
        snprintf(out, sizeof out, "%s/out.jsonl%s", j->scratch, ENDINGS[codec]);
        while (run->args[n_args]) {
            args[n_args] = run->args[n_args];
            n_args++;
        }
        const char *const more[2][6] = {{"--restart", "--out", out, "--n", n, NULL},
                                        {"--restart", "--out", out, in, NULL}};
        for (const char *const *arg = more[reads]; *arg; arg++)
            args[n_args++] = *arg;
        if (!reads && j->options->length) {
            args[n_args++] = "--length";
            args[n_args++] = length;
        }
        TDM_TRY(run_rounds(j, args, n_args, &best, err));
        bytes = codec ? bytes : size_of(reads ? in : out);
        print_run(j, run->name, (tdm_codec)codec, bytes, &best);
    }
done:
    return st;
}

static tdm_status write_records(const job *j, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char plain[BENCH_PATH + 24], packed[BENCH_PATH + 24];
    snprintf(plain, sizeof plain, "%s/texts.jsonl", j->scratch);
    TDM_TRY(job_write_texts(j, plain, j->options->n, j->options->length ? j->options->length : WORDS, err));
    for (int codec = TDM_GZ; codec < CODECS; codec++) {
        snprintf(packed, sizeof packed, "%s%s", plain, ENDINGS[codec]);
        TDM_TRY(pack(plain, packed, (tdm_codec)codec, err));
    }
done:
    return st;
}

static tdm_status run_all(job_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    job j = {0};
    tdm_config config = {0};
    const bench_shape *shape = o->size ? bench_shape_find(o->size) : NULL;
    if (o->model)
        TDM_TRY(tdm_config_load(o->model, &config, err));
    const tdm_arch arch = shape ? shape->arch : config.arch;
    const bool reads = arch == TDM_ROBERTA;
    TDM_TRY(job_open(o, "pipeline", arch, &j, err)); /* says what machine this is */
    o->bench.common.device = "null";
    if (reads)
        TDM_TRY(write_records(&j, err));
    bench_print_head(&j.b, COLUMNS, COUNT(COLUMNS));
    const pipeline_run *runs = reads ? READING : WRITING;
    for (size_t i = 0; i < (reads ? COUNT(READING) : COUNT(WRITING)); i++)
        TDM_TRY(run_forms(&j, &runs[i], reads, err));
done:
    job_close(&j);
    return st;
}

static const arg_command COMMAND = {
    .name = "bench pipeline",
    .usage = "(--model DIR | --size SIZE) [options]",
    .summary =
        "Run tandem detect (a detector) or tandem generate (a GPT-2) from file to file on the null "
        "device: what is left is reading, parsing, tokenising, writing and committing. Of plain "
        "files, gzip and zstd, in and out. The result is how fast a device may be before it waits.",
    .example = "tandem bench pipeline --model roberta-base-openai-detector\n",
    .notes =
        "Columns: run, form of what is read and written, records, their size as plain text in MB,\n"
        "seconds, records/s, MB/s; microseconds of one core that a record takes to be read\n"
        "(and decompressed, and parsed), tokenised (on all cores), judged, written, compressed (on\n"
        "all cores), and for the rest, which is committing; and in all, with loading; records/s to\n"
        "be expected on 16 such cores: those of the busiest thread, or of all cores.\n",
};

int bench_pipeline(int argc, char **argv)
{
    job_options o = {.bench = BENCH_OPTIONS_DEFAULTS, .rounds = 1};
    tdm_err err = {0};
    int code = 0;
    const arg_spec specs[] = {
        JOB_ARGS_MODEL(&o),
        {.name = "n",
         .kind = ARG_I64,
         .out = &o.n,
         .value = "N",
         .min = 1,
         .max = 1e9,
         .default_text = "500000, with --small 500",
         .help = "records"},
        {.name = "length",
         .kind = ARG_I64,
         .out = &o.length,
         .value = "N",
         .min = 1,
         .max = 1e6,
         .default_text = "330, about 2 kB; of documents what fits the context",
         .help = "words of one text, a token each; tokens of one document at most"},
        JOB_ARGS_ROUNDS(&o),
        {.name = "threads",
         .kind = ARG_I64,
         .out = &o.bench.common.threads,
         .value = "N",
         .min = 0,
         .max = 1024,
         .help = "CPU threads that tokenise; 0 is one per core"},
        BENCH_ARGS_FORMAT(&o.bench),
        {.name = "small",
         .kind = ARG_FLAG,
         .out = &o.bench.small,
         .help = "few records: shows that it works, not how fast it is"},
    };
    o.bench.common.quiet = true;
    o.bench.common.device = "cpu";
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    o.n = o.n ? o.n : o.bench.small ? SMALL_RECORDS : RECORDS;
    return run_all(&o, &err) == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
