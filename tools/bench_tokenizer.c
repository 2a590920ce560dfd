/* tools/bench_tokenizer.c - "tandem bench tokenizer": how fast text becomes ids.
 * tools/compare_tokenizers.py prints the figures beside those of tiktoken and HF tokenizers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/readfile.h"
#include "host/threads.h"
#include "tokenizer/bpe.h"
#include "tools/args.h"
#include "tools/bench.h"

static const arg_command COMMAND = {
    .name = "bench tokenizer",
    .usage = "(--model DIR | --merges FILE [--vocab FILE]) [options] FILE...",
    .summary =
        "Time the tokenizer on text files, read whole and cut into documents of about 16 KiB "
        "behind a line feed. 64 MB or more give steady figures.",
    .example = "tandem bench tokenizer --model gpt2 texts/*.txt\n",
    .notes =
        "Columns: pass, threads, seconds, MB/s (10^6 bytes), million tokens/s. A cold pass is the\n"
        "first with a newly opened tokenizer, a warm one the median of --repeats that follow. The\n"
        "hash at the end is the same whatever the number of threads.\n",
};

enum { DOCUMENT_BYTES = 16384, STRIPES_PER_THREAD = 8, MAX_REPEATS = 101 };

/* A share of the documents; one thread at a time works on it. */
typedef struct {
    size_t first, end; /* documents */
    uint64_t tokens, hash;
    tdm_ids ids;
    tdm_status st;
    tdm_err err;
} stripe;

typedef struct {
    const char *merges, *vocab, *model;
    int64_t n_threads, repeats;
    bool csv, hashing;
    tdm_bpe *bpe;
    tdm_threads *threads;
    tdm_buf text;
    size_t *document_at; /* [n_documents + 1] offsets in text */
    size_t n_documents, cap_documents;
    stripe *stripes;
    size_t n_stripes;
} bench;

/* ---- text ---- */

static tdm_status add_document(bench *b, size_t end, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (b->n_documents + 1 >= b->cap_documents) {
        const size_t cap = b->cap_documents * 2 + 1024;
        size_t *at = realloc(b->document_at, cap * sizeof *at);
        TDM_REQUIRE(at, TDM_ENOMEM, "%zu documents", cap);
        b->document_at = at;
        b->cap_documents = cap;
        b->document_at[0] = 0;
    }
    b->document_at[++b->n_documents] = end;
done:
    return st;
}

/* Cut the text from `at` on. compare_tokenizers.py cuts the same way. */
static tdm_status cut_documents(bench *b, size_t at, tdm_err *err)
{
    tdm_status st = TDM_OK;
    while (at < b->text.len) {
        size_t end = b->text.len;
        if (end - at > DOCUMENT_BYTES) {
            const char *from = b->text.p + at + DOCUMENT_BYTES;
            const char *feed = memchr(from, '\n', (size_t)(b->text.p + end - from));
            end = feed ? (size_t)(feed + 1 - b->text.p) : end;
        }
        TDM_TRY(add_document(b, end, err));
        at = end;
    }
done:
    return st;
}

static tdm_status load_texts(bench *b, const arg_list *files, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < files->n; i++) {
        const size_t at = b->text.len;
        TDM_TRY(tdm_file_load(files->items[i], (uint64_t)1 << 40, &b->text, err));
        TDM_TRY(cut_documents(b, at, err));
    }
    TDM_REQUIRE(b->text.len > 0, TDM_EARG, "no text, want one or more files");
done:
    return st;
}

/* ---- passes ---- */

/* A hash over (document, position, id); sums of it do not depend on who computes what. */
static uint64_t hash_id(size_t document, size_t position, int32_t id)
{
    uint64_t x = (uint64_t)document << 32 | (uint32_t)position;
    x = (x + 1) * 0x9E3779B97F4A7C15u + (uint32_t)id;
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDu;
    return x ^ x >> 33;
}

static void encode_stripe(void *context, size_t i)
{
    bench *b = context;
    stripe *s = &b->stripes[i];
    s->tokens = s->hash = 0;
    for (size_t d = s->first; d < s->end && s->st == TDM_OK; d++) {
        s->ids.len = 0;
        s->st = tdm_bpe_encode(b->bpe, b->text.p + b->document_at[d],
                               b->document_at[d + 1] - b->document_at[d], 0, &s->ids, &s->err);
        s->tokens += s->ids.len;
        for (size_t k = 0; b->hashing && k < s->ids.len; k++)
            s->hash += hash_id(d, k, s->ids.p[k]);
    }
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Encode everything once.
 *   tokens, hash  receive the totals; hash is 0 unless b->hashing */
static tdm_status run_pass(bench *b, double *seconds, uint64_t *tokens, uint64_t *hash,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    const double start = seconds_now();
    tdm_parallel(b->threads, b->n_stripes, encode_stripe, b);
    *seconds = seconds_now() - start;
    *tokens = *hash = 0;
    for (size_t i = 0; i < b->n_stripes; i++) {
        const stripe *s = &b->stripes[i];
        TDM_REQUIRE(s->st == TDM_OK, s->st, "%s", s->err.msg);
        *tokens += s->tokens;
        *hash += s->hash;
    }
done:
    return st;
}

static void print_row(const bench *b, const char *pass, double seconds, uint64_t tokens)
{
    printf(b->csv ? "%s,%d,%.4f,%.1f,%.2f\n" : "%-6s %7d %9.4f %9.1f %9.2f\n", pass,
           tdm_threads_count(b->threads), seconds, 1e-6 * (double)b->text.len / seconds,
           1e-6 * (double)tokens / seconds);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static tdm_status open_tokenizer(bench *b, tdm_err *err)
{
    tdm_bpe_close(b->bpe);
    b->bpe = NULL;
    return b->model ? tdm_bpe_open_dir(b->model, &b->bpe, err)
                    : tdm_bpe_open(b->merges, b->vocab, &b->bpe, err);
}

/* The rows of one number of threads, and the hash of all ids. */
static tdm_status time_threads(bench *b, int n_threads, uint64_t *tokens, uint64_t *hash,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    double seconds = 0, warm[MAX_REPEATS];
    TDM_TRY(tdm_threads_open(n_threads, &b->threads, err));
    TDM_TRY(open_tokenizer(b, err));
    TDM_TRY(run_pass(b, &seconds, tokens, hash, err));
    print_row(b, "cold", seconds, *tokens);
    for (int64_t i = 0; i < b->repeats; i++)
        TDM_TRY(run_pass(b, &warm[i], tokens, hash, err));
    qsort(warm, (size_t)b->repeats, sizeof *warm, by_value);
    print_row(b, "warm", warm[b->repeats / 2], *tokens);
    b->hashing = true;
    TDM_TRY(run_pass(b, &seconds, tokens, hash, err));
done:
    b->hashing = false;
    tdm_threads_close(b->threads);
    b->threads = NULL;
    return st;
}

/* ---- command ---- */

static tdm_status open_stripes(bench *b, int n_threads, tdm_err *err)
{
    tdm_status st = TDM_OK;
    b->n_stripes = (size_t)n_threads * STRIPES_PER_THREAD;
    b->stripes = calloc(b->n_stripes, sizeof *b->stripes);
    TDM_REQUIRE(b->stripes, TDM_ENOMEM, "%zu shares", b->n_stripes);
    for (size_t i = 0; i < b->n_stripes; i++) {
        b->stripes[i].first = b->n_documents * i / b->n_stripes;
        b->stripes[i].end = b->n_documents * (i + 1) / b->n_stripes;
    }
done:
    return st;
}

static tdm_status run(bench *b, const arg_list *files, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t tokens = 0, hash = 0, hash_of_all = 0;
    TDM_REQUIRE(!b->model != !b->merges, TDM_EARG, "want one of --model and --merges");
    TDM_TRY(load_texts(b, files, err));
    TDM_TRY(tdm_threads_open((int)b->n_threads, &b->threads, err));
    const int n_threads = tdm_threads_count(b->threads);
    tdm_threads_close(b->threads);
    b->threads = NULL;
    TDM_TRY(open_stripes(b, n_threads, err));
    if (!b->csv)
        printf("%.1f MB in %zu documents\n", 1e-6 * (double)b->text.len, b->n_documents);
    printf(b->csv ? "pass,threads,seconds,mb_s,mtokens_s\n"
                  : "pass   threads   seconds      MB/s  Mtoken/s\n");
    TDM_TRY(time_threads(b, 1, &tokens, &hash, err));
    if (n_threads > 1) {
        TDM_TRY(time_threads(b, n_threads, &tokens, &hash_of_all, err));
        TDM_REQUIRE(hash == hash_of_all, TDM_EINTERNAL, "ids differ between 1 and %d threads",
                    n_threads);
    }
    printf("%s%" PRIu64 " tokens, hash %016" PRIx64 "\n", b->csv ? "# " : "", tokens, hash);
done:
    return st;
}

static void close_bench(bench *b)
{
    for (size_t i = 0; i < b->n_stripes; i++)
        tdm_ids_free(&b->stripes[i].ids);
    free(b->stripes);
    tdm_threads_close(b->threads);
    tdm_bpe_close(b->bpe);
    free(b->document_at);
    tdm_buf_free(&b->text);
}

int bench_tokenizer(int argc, char **argv)
{
    bench b = {.repeats = 5};
    const arg_spec specs[] = {
        {"model", ARG_STR, &b.model, "DIR", .help = "folder with merges.txt or vocab.bpe"},
        {"merges", ARG_STR, &b.merges, "FILE", .help = "merge list"},
        {"vocab", ARG_STR, &b.vocab, "FILE", .help = "vocab.json or encoder.json"},
        {"threads", ARG_I64, &b.n_threads, "N", "most threads to measure; 0 is one per core",
         .min = 0, .max = 1024},
        {"repeats", ARG_I64, &b.repeats, "N", "warm passes", .min = 1, .max = MAX_REPEATS},
        {"csv", ARG_FLAG, &b.csv, NULL, .help = "comma-separated, for a file"},
    };
    arg_list files = {0};
    tdm_err err = {0};
    int code = 0;
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &files, &code))
        return code;
    const tdm_status st = run(&b, &files, &err);
    close_bench(&b);
    return st == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
