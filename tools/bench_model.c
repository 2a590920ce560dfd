/* tools/bench_model.c - folders with random weights, and "tandem bench model", which leaves one
 * behind. */
#include "tools/bench_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "detector/roberta.h"
#include "host/checkpoint.h"
#include "host/gpt2.h"
#include "host/rng.h"
#include "tools/bench.h"
#include "tools/bench_common.h"
#include "tools/bench_vocab.h"

static const bench_shape SHAPES[] = {
    {"tiny", TDM_GPT2, 2, 2, 200, 128},        {"124M", TDM_GPT2, 12, 12, 50000, 1024},
    {"355M", TDM_GPT2, 24, 16, 50000, 1024},   {"774M", TDM_GPT2, 36, 20, 50000, 1024},
    {"1558M", TDM_GPT2, 48, 25, 50000, 1024},  {"tiny-detector", TDM_ROBERTA, 2, 2, 200, 130},
    {"base", TDM_ROBERTA, 12, 12, 50000, 514}, {"large", TDM_ROBERTA, 24, 16, 50000, 514},
};

const bench_shape *bench_shape_find(const char *name)
{
    for (size_t i = 0; i < COUNT(SHAPES); i++)
        if (!strcmp(SHAPES[i].name, name))
            return &SHAPES[i];
    return NULL;
}

tdm_status bench_shape_require(const char *name, const bench_shape **out, tdm_err *err)
{
    *out = bench_shape_find(name);
    return *out ? TDM_OK : tdm_fail(err, TDM_EARG, "--size %s: want " BENCH_SHAPE_NAMES, name);
}

/* ---- files ---- */

static tdm_status open_file(const char *dir, const char *name, FILE **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char path[BENCH_PATH + 64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    *out = fopen(path, "wb");
    TDM_REQUIRE(*out, TDM_ECANTCREATE, "%s: %s", path, strerror(errno));
done:
    return st;
}

/* Close a file that st says was written well so far; NULL is fine. */
static tdm_status close_file(FILE *f, const char *name, tdm_status st, tdm_err *err)
{
    if (!f)
        return st;
    const bool bad = ferror(f) != 0;
    if ((fclose(f) != 0 || bad) && st == TDM_OK)
        st = tdm_fail(err, TDM_EIO, "%s: %s", name, strerror(errno));
    return st;
}

static tdm_status write_text(const char *dir, const char *name, const tdm_buf *text, tdm_err *err)
{
    FILE *f = NULL;
    tdm_status st = open_file(dir, name, &f, err);
    if (st == TDM_OK)
        fwrite(text->p, 1, text->len, f);
    return close_file(f, name, st, err);
}

static int vocabulary_size(const bench_shape *s)
{
    return 256 + s->merges + (s->arch == TDM_GPT2 ? 1 : BENCH_DETECTOR_EXTRA);
}

static tdm_status write_config(const char *dir, const bench_shape *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    const int width = TDM_HEAD * s->heads, vocab = vocabulary_size(s);
    if (s->arch == TDM_GPT2)
        TDM_TRY(tdm_buf_printf(
            &text, err,
            "{\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], \"vocab_size\": "
            "%d, "
            "\"n_positions\": %d, \"n_ctx\": %d, \"n_embd\": %d, \"n_layer\": %d, \"n_head\": %d, "
            "\"activation_function\": \"gelu_new\", \"layer_norm_epsilon\": 1e-05, "
            "\"bos_token_id\": %d, \"eos_token_id\": %d}\n",
            vocab, s->positions, s->positions, width, s->layers, s->heads, vocab - 1, vocab - 1));
    else
        TDM_TRY(tdm_buf_printf(
            &text, err,
            "{\"model_type\": \"roberta\", \"architectures\": "
            "[\"RobertaForSequenceClassification\"], "
            "\"vocab_size\": %d, \"max_position_embeddings\": %d, \"hidden_size\": %d, "
            "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"intermediate_size\": %d, "
            "\"hidden_act\": \"gelu\", \"layer_norm_eps\": 1e-05, \"type_vocab_size\": 1, "
            "\"bos_token_id\": 0, \"pad_token_id\": 1, \"eos_token_id\": 2}\n",
            vocab, s->positions, width, s->layers, s->heads, 4 * width));
    TDM_TRY(write_text(dir, "config.json", &text, err));
done:
    tdm_buf_free(&text);
    return st;
}

/* ---- weights ---- */

typedef struct {
    char name[112];
    int64_t rows, cols; /* cols 0: a vector */
} tensor;

typedef struct {
    tensor *items;
    size_t n, cap;
    tdm_err *err;
} tensor_list;

/* What a loader asks for, each tensor once (the tied word table is asked for twice). */
static tdm_status see_tensor(void *ctx, const char *name, tdm_slice rows, tdm_slice cols, tdm_tensor_role role)
{
    tdm_status st = TDM_OK;
    tensor_list *l = ctx;
    tdm_err *err = l->err;
    (void)role;
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->items[i].name, name))
            return TDM_OK;
    if (l->n == l->cap) {
        const size_t cap = 2 * l->cap + 64;
        tensor *items = realloc(l->items, cap * sizeof *items);
        TDM_REQUIRE(items, TDM_ENOMEM, "%zu tensors", cap);
        l->items = items;
        l->cap = cap;
    }
    tensor *t = &l->items[l->n++];
    *t = (tensor){.rows = rows.size, .cols = cols.size};
    TDM_REQUIRE(strlen(name) < sizeof t->name, TDM_EINTERNAL, "%s: a long name", name);
    strcpy(t->name, name);
done:
    return st;
}

/* The tensors that the model's own loader would ask of a file: it is shown an empty one. */
static tdm_status list_tensors(const char *dir, const bench_shape *s, tensor_list *list,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_config config;
    tdm_checkpoint *empty = NULL;
    const tdm_buf nothing = {.p = (char[]){2, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, .len = 10};
    TDM_TRY(write_text(dir, "model.safetensors", &nothing, err));
    TDM_TRY(tdm_config_load(dir, &config, err));
    TDM_TRY(tdm_checkpoint_open(dir, &empty, err));
    list->err = err;
    TDM_TRY(s->arch == TDM_GPT2 ? gpt2_each_tensor(empty, &config, 0, 0, see_tensor, list)
                                : roberta_each_tensor(empty, &config, 0, 0, see_tensor, list));
done:
    tdm_checkpoint_close(empty);
    return st;
}

static size_t count_values(const tensor *t)
{
    return (size_t)t->rows * (size_t)(t->cols ? t->cols : 1);
}

static tdm_status write_header(FILE *f, const tensor_list *list, tdm_dtype dtype, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    size_t at = 0;
    const char *type = dtype == TDM_F32 ? "F32" : dtype == TDM_F16 ? "F16" : "BF16";
    TDM_TRY(tdm_buf_printf(&text, err, "{\"__metadata__\": {\"format\": \"pt\"}"));
    for (size_t i = 0; i < list->n; i++) {
        const tensor *t = &list->items[i];
        const size_t end = at + count_values(t) * tdm_dtype_size(dtype);
        TDM_TRY(tdm_buf_printf(&text, err, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [%lld",
                               t->name, type, (long long)t->rows));
        if (t->cols)
            TDM_TRY(tdm_buf_printf(&text, err, ", %lld", (long long)t->cols));
        TDM_TRY(tdm_buf_printf(&text, err, "], \"data_offsets\": [%zu, %zu]}", at, end));
        at = end;
    }
    TDM_TRY(tdm_buf_put(&text, "}", 1, err));
    while (text.len % 8)
        TDM_TRY(tdm_buf_put(&text, " ", 1, err));
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)text.len >> 8 * i);
    fwrite(length, 1, sizeof length, f);
    fwrite(text.p, 1, text.len, f);
done:
    tdm_buf_free(&text);
    return st;
}

enum { TABLE_BITS = 12, TABLE = 1 << TABLE_BITS, PIECE = 1 << 18 };

/* TABLE draws from the normal distribution of this mean and spread, in dtype. */
static void normal_table(void *table, tdm_dtype dtype, float mean, float spread)
{
    float values[TABLE];
    for (uint32_t i = 0; i < TABLE; i += 4) {
        uint32_t words[4];
        tdm_philox((uint32_t[4]){i, 0, 0, 0}, 0, words);
        for (uint32_t k = 0; k < 4; k += 2) { /* Box and Muller, 1958 */
            const double r = sqrt(-2 * log(tdm_word_uniform(words[k])));
            const double turn = 6.283185307179586 * tdm_word_uniform(words[k + 1]);
            values[i + k] = mean + spread * (float)(r * cos(turn));
            values[i + k + 1] = mean + spread * (float)(r * sin(turn));
        }
    }
    tdm_from_f32(table, dtype, values, TABLE);
}

/* The spread that training starts with: 0.02, less where residuals add up or positions are looked
 * up. */
static void spread_of(const tensor *t, const bench_shape *s, float *mean, float *spread)
{
    const bool is_norm = !t->cols && strstr(t->name, ".weight");
    *mean = is_norm ? 1 : 0;
    *spread = is_norm ? 0.1f : 0.02f;
    if (t->cols && strstr(t->name, "c_proj.weight"))
        *spread = 0.02f / sqrtf(2 * (float)s->layers);
    if (strstr(t->name, "wpe.weight"))
        *spread = 0.01f;
}

static void write_values(FILE *f, size_t n, const void *table, size_t size, uint64_t *state,
                         char *piece)
{
    while (n > 0) {
        const size_t now = n < PIECE ? n : PIECE;
        for (size_t i = 0; i < now;) {
            *state ^= *state << 13; /* xorshift64 (Marsaglia, 2003) */
            *state ^= *state >> 7;
            *state ^= *state << 17;
            for (int k = 0; k < 4 && i < now; k++, i++) {
                const size_t at = *state >> (16 * k + 4) & (TABLE - 1);
                memcpy(piece + i * size, (const char *)table + at * size, size);
            }
        }
        fwrite(piece, size, now, f);
        n -= now;
    }
}

static tdm_status write_weights(const char *dir, const bench_shape *s, tdm_dtype dtype,
                                tdm_err *err)
{
    tdm_status st = TDM_OK;
    tensor_list list = {0};
    FILE *f = NULL;
    uint64_t state = 0x9E3779B97F4A7C15u;
    const size_t size = tdm_dtype_size(dtype);
    char *table = malloc(TABLE * size), *piece = malloc(PIECE * size);
    TDM_REQUIRE(table && piece, TDM_ENOMEM, "random values");
    TDM_TRY(list_tensors(dir, s, &list, err));
    TDM_TRY(open_file(dir, "model.safetensors", &f, err));
    TDM_TRY(write_header(f, &list, dtype, err));
    for (size_t i = 0; i < list.n && !ferror(f); i++) {
        float mean, spread;
        spread_of(&list.items[i], s, &mean, &spread);
        normal_table(table, dtype, mean, spread);
        write_values(f, count_values(&list.items[i]), table, size, &state, piece);
    }
done:
    free(piece);
    free(table);
    free(list.items);
    return close_file(f, "model.safetensors", st, err);
}

tdm_status bench_model_write(const char *dir, const bench_shape *s, tdm_dtype dtype, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf merges = {0}, vocab = {0};
    TDM_TRY(write_config(dir, s, err));
    TDM_TRY(bench_vocab_make(s->merges, &merges, s->arch == TDM_GPT2 ? NULL : &vocab, err));
    TDM_TRY(write_text(dir, "merges.txt", &merges, err));
    if (s->arch == TDM_ROBERTA)
        TDM_TRY(write_text(dir, "vocab.json", &vocab, err));
    TDM_TRY(write_weights(dir, s, dtype, err));
done:
    tdm_buf_free(&vocab);
    tdm_buf_free(&merges);
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s", dir);
}

/* ---- the part ---- */

static const char *const FILE_DTYPES[] = {"f16", "bf16", "f32", NULL};
static const tdm_dtype FILE_DTYPE_OF[] = {TDM_F16, TDM_BF16, TDM_F32};

static const arg_command COMMAND = {
    .name = "bench model",
    .usage = "--size SIZE --out DIR [options]",
    .summary =
        "Write a model folder of a published shape with random weights and a made-up vocabulary "
        "(words of up to four letters), to measure with where the published files are not at "
        "hand. The same size and dtype give the same bytes.",
    .example = "tandem bench model --size 1558M --out /tmp/xl\n",
};

int bench_model(int argc, char **argv)
{
    const char *size = NULL, *dir = NULL;
    int dtype = 0, code = 0;
    tdm_err err = {0};
    tdm_status st = TDM_OK;
    const bench_shape *shape = NULL;
    const arg_spec specs[] = {
        {.name = "size",
         .kind = ARG_STR,
         .out = &size,
         .value = BENCH_SHAPE_NAMES,
         .required = true,
         .help = "which shape"},
        {.name = "out",
         .kind = ARG_STR,
         .out = &dir,
         .value = "DIR",
         .required = true,
         .help = "folder to write into; it is made if need be"},
        {.name = "dtype",
         .kind = ARG_CHOICE,
         .out = &dtype,
         .value = "f16|bf16|f32",
         .choices = FILE_DTYPES,
         .help = "of the weights in the file"},
    };
    if (!bench_parse(&COMMAND, specs, COUNT(specs), argc, argv, &code))
        return code;
    st = bench_shape_require(size, &shape, &err);
    if (st == TDM_OK && mkdir(dir, 0777) != 0 && errno != EEXIST)
        st = tdm_fail(&err, TDM_ECANTCREATE, "%s: %s", dir, strerror(errno));
    if (st == TDM_OK)
        st = bench_model_write(dir, shape, FILE_DTYPE_OF[dtype], &err);
    return st == TDM_OK ? 0 : args_fail(COMMAND.name, &err);
}
