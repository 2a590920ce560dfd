#include "tools/bench_job.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/json.h"
#include "tokenizer/bpe.h"
#include "tools/signals.h"

extern char **environ;

/* ---- folders ---- */

tdm_status bench_folder_make(char dir[BENCH_PATH], tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *base = getenv("TMPDIR");
    const int len =
        snprintf(dir, BENCH_PATH, "%s/tandem-bench-XXXXXX", base && *base ? base : "/tmp");
    TDM_REQUIRE(len < BENCH_PATH, TDM_ECANTCREATE, "TMPDIR is a long path");
    TDM_REQUIRE(mkdtemp(dir), TDM_ECANTCREATE, "%s: %s", dir, strerror(errno));
done:
    if (st != TDM_OK)
        dir[0] = 0;
    return st;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    remove(path);
    return 0;
}

void bench_folder_remove(const char *dir)
{
    enum { OPEN_FOLDERS = 4 };
    if (*dir)
        nftw(dir, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS); /* a job that was ended leaves a folder */
}

/* ---- jobs ---- */

tdm_status job_open(const job_options *options, const char *part, tdm_arch arch, job *out,
                    tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bench_shape *shape = NULL;
    *out = (job){.options = options, .stop = signals_catch()}; /* job_close removes the scratch */
    TDM_REQUIRE(!options->model != !options->size, TDM_EARG, "want one of --model and --size");
    TDM_TRY(bench_folder_make(out->scratch, err));
    if (options->size) {
        TDM_TRY(bench_shape_require(options->size, &shape, err));
        TDM_TRY(bench_model_write(out->scratch, shape, TDM_F16, err));
    }
    snprintf(out->dir, sizeof out->dir, "%s", options->model ? options->model : out->scratch);
    TDM_TRY(tdm_config_load(out->dir, &out->config, err));
    TDM_REQUIRE(out->config.arch == arch, TDM_EARG, "%s: not a %s", out->dir,
                arch == TDM_GPT2 ? "GPT-2" : "detector");
    TDM_TRY(bench_open(&options->bench, part, &out->b, err));
    const double devices = out->b.is_cuda ? (double)options->bench.common.tp : 1;
    out->b.machine.copy *= devices;
    out->b.machine.read *= devices;
    out->b.machine.flops *= devices;
    const tdm_dtype dtype = out->b.backend.dtype;
    static const tdm_dtype KV_DTYPES[] = {TDM_F16, TDM_BF16, TDM_F32};
    const int kv_dtype = options->bench.common.kv_dtype;
    out->kv_dtype = kv_dtype ? KV_DTYPES[kv_dtype - 1] : dtype;
    tdm_backend_close(&out->b.backend);
    out->b.backend = (tdm_backend){.dtype = dtype};
done:
    return st;
}

void job_close(job *j)
{
    bench_close(&j->b);
    bench_folder_remove(j->scratch);
    *j = (job){0};
}

/* ---- a command in a process of its own ---- */

enum { MOST_ARGS = 48 };

static tdm_status spawn(char *const *argv, int *out, pid_t *pid, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int ends[2] = {-1, -1};
    posix_spawn_file_actions_t actions;
    TDM_REQUIRE(pipe(ends) == 0, TDM_EIO, "pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    const int error = posix_spawn(pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error) {
        close(ends[0]);
        return tdm_fail(err, TDM_EIO, "starting %s: %s", argv[1], strerror(error));
    }
    *out = ends[0];
done:
    return st;
}

/* What the process prints, to its end. A signal to us ends the process too. */
static tdm_status read_all(int fd, pid_t pid, const tdm_stop *stop, tdm_buf *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    ssize_t n = 0;
    do {
        TDM_TRY(tdm_buf_reserve(text, 4096, err));
        n = read(fd, text->p + text->len, 4096);
        text->len += n > 0 ? (size_t)n : 0;
        if (n < 0 && tdm_stopped(stop))
            kill(pid, SIGTERM);
    } while (n > 0 || (n < 0 && errno == EINTR));
done:
    close(fd);
    return st;
}

/* A command that failed has said why on stderr; its exit code is a status of the library. */
static tdm_status check_end(const char *command, int status, tdm_err *err)
{
    if (WIFSIGNALED(status))
        return tdm_fail(err, TDM_EINTERNAL, "%s ended with signal %d", command, WTERMSIG(status));
    if (WEXITSTATUS(status) == TDM_OK)
        return TDM_OK;
    return tdm_fail(err, (tdm_status)WEXITSTATUS(status), "%s ended with exit code %d", command,
                    WEXITSTATUS(status));
}

static double number_or_nan(const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

static tdm_status parse_summary(const tdm_buf *text, job_result *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json *doc = NULL;
    TDM_TRY(tdm_json_parse(text->p, text->len, 1000, &doc, NULL, err));
    const cJSON *root = tdm_json_root(doc);
    const cJSON *seconds = cJSON_GetObjectItemCaseSensitive(root, "seconds");
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(root, "tokens");
    const cJSON *ok = cJSON_GetObjectItemCaseSensitive(root, "ok");
    const cJSON *hash = cJSON_GetObjectItemCaseSensitive(root, "token_hash");
    TDM_REQUIRE(cJSON_IsNumber(seconds) && cJSON_IsNumber(tokens) && cJSON_IsNumber(ok) &&
                    cJSON_IsString(hash),
                TDM_EINTERNAL, "the summary lacks seconds, tokens, ok or token_hash");
    out->seconds = seconds->valuedouble;
    out->tokens = tokens->valuedouble;
    out->records = ok->valuedouble;
    out->steps = number_or_nan(root, "steps");
    const cJSON *cpu = cJSON_GetObjectItemCaseSensitive(root, "cpu_seconds");
#define X(step) out->cpu_steps.step = number_or_nan(cpu, #step);
    SUMMARY_STEPS(X)
#undef X
    snprintf(out->hash, sizeof out->hash, "%s", hash->valuestring);
done:
    tdm_json_close(doc);
    return st;
}

tdm_status job_run(const job *j, const char *const *args, size_t n, job_result *out, tdm_err *err)
{
    static const char *const NO_ARGS[] = {"tandem"};
    tdm_status st = TDM_OK;
    const common_args *c = &j->options->bench.common;
    const char *argv[MOST_ARGS + 16] = {NO_ARGS[0]};
    char threads[24], tp[24];
    tdm_buf text = {0};
    struct rusage usage, own;
    int fd = -1, status = 0;
    pid_t pid = 0;
    TDM_REQUIRE(n <= MOST_ARGS, TDM_EARG, "%zu arguments for %s", n, args[0]);
    TDM_TRY(tdm_check_stop(j->stop, err));
    for (size_t i = 0; i < n; i++)
        argv[1 + i] = args[i];
    snprintf(threads, sizeof threads, "%lld", (long long)c->threads);
    snprintf(tp, sizeof tp, "%lld", (long long)c->tp);
    const char *const more[] = {"--model",   j->dir,  "--device", c->device, "--dtype", DTYPE_CHOICES[c->dtype],
                                "--threads", threads, "--tp",     tp,        "--json",  "--quiet"};
    for (size_t i = 0; i < COUNT(more); i++)
        argv[1 + n + i] = more[i];
    const double start = bench_seconds();
    TDM_TRY(spawn((char *const *)(uintptr_t)argv, &fd, &pid, err));
    st = read_all(fd, pid, j->stop, &text, err);
    while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR)
        ;
    const double wall = bench_seconds() - start;
    TDM_TRY(st);
    TDM_TRY(check_end(args[0], status, err));
    TDM_TRY(parse_summary(&text, out, err));
    out->start = wall - out->seconds;
    out->cpu = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    getrusage(RUSAGE_SELF, &own); /* a new process counts what it was before it became this one */
    out->peak = usage.ru_maxrss > own.ru_maxrss ? 1024.0 * (double)usage.ru_maxrss : NAN;
done:
    tdm_buf_free(&text);
    return st;
}

/* ---- floors ---- */

/* Multiply-adds of the matrix products of one token, logits apart. */
static double products(const tdm_config *c)
{
    const double E = c->n_embd, F = c->n_inner;
    return c->n_layer * (4 * E * E + 2 * E * F);
}

double job_floor_generate(const job *j, double texts, double length)
{
    const tdm_config *c = &j->config;
    const double size = (double)tdm_dtype_size(j->b.backend.dtype), E = c->n_embd;
    const double weights = products(c) + (double)c->n_vocab * E, keys = (length + 1) / 2;
    const double per_key = (double)c->n_layer * E;
    return bench_floor(&j->b.machine, 4 * per_key * keys,
                       2 * (double)tdm_dtype_size(j->kv_dtype) * per_key * keys) +
           bench_floor(&j->b.machine, 2 * weights, size * weights / texts);
}

double job_floor_read(const job *j, double length)
{
    const tdm_config *c = &j->config;
    const bool is_gpt2 = c->arch == TDM_GPT2;
    const double E = c->n_embd, logits = is_gpt2 ? (double)c->n_vocab * E : 0;
    const double pairs = is_gpt2 ? length * (length + 1) / 2 : length * length;
    return (2 * length * (products(c) + logits) + 4 * c->n_layer * E * pairs) / j->b.machine.flops;
}

/* ---- texts ---- */

static bool is_word(const char *text, size_t len)
{
    if (!text || len < 2 || text[0] != ' ')
        return false;
    for (size_t i = 1; i < len; i++)
        if (text[i] < 'a' || text[i] > 'z')
            return false;
    return true;
}

/* The ids of " word" that the merges reach. */
static tdm_status find_words(const tdm_bpe *bpe, tdm_ids *words, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ids again = {0};
    for (int32_t id = 0; id < tdm_bpe_size(bpe); id++) {
        size_t len = 0;
        const char *text = tdm_bpe_token(bpe, id, &len);
        if (!is_word(text, len))
            continue;
        again.len = 0;
        TDM_TRY(tdm_bpe_encode(bpe, text, len, 0, &again, err));
        if (again.len != 1 || again.p[0] != id)
            continue;
        TDM_TRY(tdm_ids_reserve(words, 1, err));
        words->p[words->len++] = id;
    }
    TDM_REQUIRE(words->len > 0, TDM_EARG, "the vocabulary has no lower-case words");
done:
    tdm_ids_free(&again);
    return st;
}

tdm_status job_write_texts(const job *j, const char *path, int64_t n, int64_t length, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_bpe *bpe = NULL;
    tdm_ids words = {0};
    uint64_t state = 0x2545F4914F6CDD1Du;
    FILE *f = fopen(path, "wb");
    TDM_REQUIRE(f, TDM_ECANTCREATE, "%s: %s", path, strerror(errno));
    TDM_TRY(tdm_bpe_open_dir(j->dir, &bpe, err));
    TDM_TRY(find_words(bpe, &words, err));
    for (int64_t i = 0; i < n; i++) {
        fprintf(f, "{\"id\": %lld, \"text\": \"", (long long)i);
        for (int64_t k = 0; k < length; k++) {
            state =
                state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
            size_t len = 0;
            const char *word = tdm_bpe_token(bpe, words.p[(state >> 33) % words.len], &len);
            fwrite(word, 1, len, f);
        }
        fputs("\"}\n", f);
    }
    TDM_REQUIRE(!ferror(f), TDM_EIO, "%s: %s", path, strerror(errno));
done:
    if (f && fclose(f) != 0 && st == TDM_OK)
        st = tdm_fail(err, TDM_EIO, "%s: %s", path, strerror(errno));
    tdm_ids_free(&words);
    tdm_bpe_close(bpe);
    return st;
}
