/* tests/tiny_roberta.h - a random detector of a few thousand weights, in memory and as a folder.
 *
 *   tiny_roberta m;
 *   tiny_roberta_make(&m, 2, 2, 1);         // layers, heads, seed
 *   char dir[TINY_PATH];
 *   tiny_roberta_write(&m, dir, "roberta.", TDM_F32); // all that a detector's folder holds
 *   ...
 *   tiny_roberta_remove(dir);
 *   tiny_roberta_free(&m);
 *
 * The vocabulary has RoBERTa's order: four special tokens, then bytes and a few merges with ids
 * that have nothing to do with the order of the merges, <|endoftext|> and <mask> at the end. */
#ifndef TESTS_TINY_ROBERTA_H
#define TESTS_TINY_ROBERTA_H

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/buf.h"
#include "host/dtype.h"

enum { TINY_PATH = 64, TINY_TENSORS = 128, TINY_MERGES = 6 };
enum { TINY_VOCAB = 4 + 256 + TINY_MERGES + 2 };

typedef struct {
    char name[96];      /* without "roberta." */
    int64_t rows, cols; /* cols 0: rank 1 */
    float *p;
} tiny_tensor;

typedef struct {
    int layers, heads, width, inner, vocab, positions;
    tiny_tensor tensors[TINY_TENSORS];
    int n_tensors;
} tiny_roberta;

/* ---- numbers ---- */

static inline uint32_t tiny_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* Uniform in [-scale, scale) + shift, with few enough bits to be exact in bf16 and f16. */
static inline float tiny_value(uint64_t *state, float scale, float shift)
{
    const float unit = (float)((int)(tiny_random(state) % 32) - 16) / 16.f;
    return unit * scale + shift;
}

static inline const tiny_tensor *tiny_find(const tiny_roberta *m, const char *name)
{
    for (int i = 0; i < m->n_tensors; i++)
        if (!strcmp(m->tensors[i].name, name))
            return &m->tensors[i];
    fail_msg("tiny model has no %s", name);
    return NULL;
}

static inline void tiny_add(tiny_roberta *m, uint64_t *state, int64_t rows, int64_t cols,
                            float scale, float shift, const char *format, ...)
{
    assert_true(m->n_tensors < TINY_TENSORS);
    tiny_tensor *t = &m->tensors[m->n_tensors++];
    va_list args;
    va_start(args, format);
    vsnprintf(t->name, sizeof t->name, format, args);
    va_end(args);
    t->rows = rows;
    t->cols = cols;
    const size_t n = (size_t)(rows * (cols ? cols : 1));
    t->p = malloc(n * sizeof *t->p);
    assert_non_null(t->p);
    for (size_t i = 0; i < n; i++)
        t->p[i] = tiny_value(state, scale, shift);
}

static inline void tiny_roberta_make(tiny_roberta *m, int layers, int heads, uint64_t seed)
{
    *m = (tiny_roberta){.layers = layers,
                        .heads = heads,
                        .width = 64 * heads,
                        .inner = 96 * heads,
                        .vocab = TINY_VOCAB,
                        .positions = 50};
    const int E = m->width, F = m->inner;
    uint64_t state = seed;
    tiny_add(m, &state, m->vocab, E, 1.f, 0.f, "embeddings.word_embeddings.weight");
    tiny_add(m, &state, m->positions, E, 0.5f, 0.f, "embeddings.position_embeddings.weight");
    tiny_add(m, &state, 1, E, 0.5f, 0.f, "embeddings.token_type_embeddings.weight");
    tiny_add(m, &state, E, 0, 0.25f, 1.f, "embeddings.LayerNorm.weight");
    tiny_add(m, &state, E, 0, 0.25f, 0.f, "embeddings.LayerNorm.bias");
    for (int l = 0; l < layers; l++) {
        static const char *const QKV[] = {"query", "key", "value"};
        for (int i = 0; i < 3; i++) {
            tiny_add(m, &state, E, E, 0.25f, 0.f, "encoder.layer.%d.attention.self.%s.weight", l,
                     QKV[i]);
            tiny_add(m, &state, E, 0, 0.5f, 0.f, "encoder.layer.%d.attention.self.%s.bias", l,
                     QKV[i]);
        }
        const struct {
            const char *name;
            int out, in;
        } DENSE[] = {{"attention.output", E, E}, {"intermediate", F, E}, {"output", E, F}};
        for (int i = 0; i < 3; i++) {
            tiny_add(m, &state, DENSE[i].out, DENSE[i].in, 0.25f, 0.f,
                     "encoder.layer.%d.%s.dense.weight", l, DENSE[i].name);
            tiny_add(m, &state, DENSE[i].out, 0, 0.5f, 0.f, "encoder.layer.%d.%s.dense.bias", l,
                     DENSE[i].name);
            if (i == 1)
                continue;
            tiny_add(m, &state, E, 0, 0.25f, 1.f, "encoder.layer.%d.%s.LayerNorm.weight", l,
                     DENSE[i].name);
            tiny_add(m, &state, E, 0, 0.25f, 0.f, "encoder.layer.%d.%s.LayerNorm.bias", l,
                     DENSE[i].name);
        }
    }
    tiny_add(m, &state, E, E, 0.25f, 0.f, "classifier.dense.weight");
    tiny_add(m, &state, E, 0, 0.5f, 0.f, "classifier.dense.bias");
    tiny_add(m, &state, 2, E, 0.25f, 0.f, "classifier.out_proj.weight");
    tiny_add(m, &state, 2, 0, 0.5f, 0.f, "classifier.out_proj.bias");
}

static inline void tiny_roberta_free(tiny_roberta *m)
{
    for (int i = 0; i < m->n_tensors; i++)
        free(m->tensors[i].p);
    *m = (tiny_roberta){0};
}

/* ---- the vocabulary ---- */

/* The symbol of a byte (tokenizer/symbols.h), as UTF-8. */
static inline void tiny_symbol(unsigned byte, char out[3])
{
    unsigned code = byte;
    if (byte <= 0x20 || (byte >= 0x7F && byte <= 0xA0) || byte == 0xAD)
        code = 0x100 + (byte <= 0x20 ? byte : byte == 0xAD ? 67 : byte - 0x7F + 33);
    if (code < 0x80) {
        out[0] = (char)code;
        out[1] = 0;
    } else {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        out[2] = 0;
    }
}

#define TINY_SPACE "\xC4\xA0" /* the symbol of a space, U+0120 */
static const char *const TINY_MERGE_LINES[TINY_MERGES][2] = {
    {"t", "h"}, {"th", "e"}, {TINY_SPACE, "the"}, {TINY_SPACE, "a"}, {"a", "n"}, {"<", "/"}};

static inline void tiny_vocabulary(tdm_buf *merges, tdm_buf *vocab)
{
    assert_int_equal(tdm_buf_printf(merges, NULL, "#version: 0.2\n"), TDM_OK);
    assert_int_equal(tdm_buf_printf(vocab, NULL,
                                    "{\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, "
                                    "\"<unk>\": 3"),
                     TDM_OK);
    /* Ids run against the order of the merges and bytes, so that mixing the two orders shows. */
    for (int i = 0; i < TINY_MERGES; i++) {
        const char *left = TINY_MERGE_LINES[i][0], *right = TINY_MERGE_LINES[i][1];
        assert_int_equal(tdm_buf_printf(merges, NULL, "%s %s\n", left, right), TDM_OK);
        assert_int_equal(
            tdm_buf_printf(vocab, NULL, ", \"%s%s\": %d", left, right, 3 + TINY_MERGES - i),
            TDM_OK);
    }
    for (unsigned b = 0; b < 256; b++) {
        char symbol[3];
        tiny_symbol(b, symbol);
        assert_int_equal(tdm_buf_printf(vocab, NULL, ", \"%s%s\": %u",
                                        b == '"' || b == '\\' ? "\\" : "", symbol,
                                        3 + TINY_MERGES + 256 - b),
                         TDM_OK);
    }
    assert_int_equal(tdm_buf_printf(vocab, NULL, ", \"<|endoftext|>\": %d, \"<mask>\": %d}",
                                    TINY_VOCAB - 2, TINY_VOCAB - 1),
                     TDM_OK);
}

/* ---- the folder ---- */

static inline void tiny_write_file(const char *dir, const char *name, const void *data, size_t n)
{
    char path[TINY_PATH + 32];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Bits of an f32 as bf16, exact for the values that tiny_value makes. */
static inline uint16_t tiny_bf16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* Bits of an f32 as f16, exact for the values that tiny_value makes (zero or normal numbers). */
static inline uint16_t tiny_f16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000, exponent = bits >> 23 & 0xFF;
    if (exponent == 0)
        return (uint16_t)sign;
    return (uint16_t)(sign | (exponent - 112) << 10 | (bits >> 13 & 0x3FF));
}

/* One safetensors file with these tensors; those of the encoder get `prefix` before their names. */
static inline void tiny_safetensors(tdm_buf *out, const tiny_tensor *tensors, int n,
                                    const char *prefix, tdm_dtype dtype)
{
    static const char *const TYPES[] = {"F32", "F16", "BF16"};
    tdm_buf header = {0}, data = {0};
    assert_int_equal(tdm_buf_put(&header, "{", 1, NULL), TDM_OK);
    for (int i = 0; i < n; i++) {
        const tiny_tensor *t = &tensors[i];
        const size_t count = (size_t)(t->rows * (t->cols ? t->cols : 1)), from = data.len;
        for (size_t k = 0; k < count; k++) {
            const uint16_t half = dtype == TDM_F16 ? tiny_f16(t->p[k]) : tiny_bf16(t->p[k]);
            const void *value = dtype == TDM_F32 ? (const void *)&t->p[k] : &half;
            assert_int_equal(tdm_buf_put(&data, value, tdm_dtype_size(dtype), NULL), TDM_OK);
        }
        char shape[48];
        snprintf(shape, sizeof shape, t->cols ? "%" PRId64 ",%" PRId64 : "%" PRId64, t->rows,
                 t->cols);
        const bool head = !strncmp(t->name, "classifier", 10) || !strncmp(t->name, "lm_head", 7);
        assert_int_equal(tdm_buf_printf(&header, NULL,
                                        "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%s],"
                                        "\"data_offsets\":[%zu,%zu]}",
                                        i ? "," : "", head ? "" : prefix, t->name, TYPES[dtype],
                                        shape, from, data.len),
                         TDM_OK);
    }
    assert_int_equal(tdm_buf_put(&header, "}", 1, NULL), TDM_OK);
    while (header.len % 8)
        assert_int_equal(tdm_buf_put(&header, " ", 1, NULL), TDM_OK);
    const uint64_t n_header = header.len;
    assert_int_equal(tdm_buf_put(out, &n_header, 8, NULL), TDM_OK);
    assert_int_equal(tdm_buf_put(out, header.p, header.len, NULL), TDM_OK);
    assert_int_equal(tdm_buf_put(out, data.p, data.len, NULL), TDM_OK);
    tdm_buf_free(&header);
    tdm_buf_free(&data);
}

/* Make a fresh folder and write the model into it.
 *   dir     receives its path
 *   prefix  "roberta." or "" */
static inline void tiny_roberta_write(const tiny_roberta *m, char dir[TINY_PATH],
                                      const char *prefix, tdm_dtype dtype)
{
    tdm_buf weights = {0}, merges = {0}, vocab = {0}, config = {0};
    snprintf(dir, TINY_PATH, "%s", "/tmp/tandem-tiny-XXXXXX");
    assert_non_null(mkdtemp(dir));
    tiny_safetensors(&weights, m->tensors, m->n_tensors, prefix, dtype);
    tiny_vocabulary(&merges, &vocab);
    assert_int_equal(
        tdm_buf_printf(&config, NULL,
                       "{\"model_type\": \"roberta\", "
                       "\"architectures\": [\"RobertaForSequenceClassification\"], "
                       "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, "
                       "\"hidden_size\": %d, \"intermediate_size\": %d, \"vocab_size\": %d, "
                       "\"max_position_embeddings\": %d, \"type_vocab_size\": 1, "
                       "\"layer_norm_eps\": 1e-05, \"hidden_act\": \"gelu\", "
                       "\"bos_token_id\": 0, \"pad_token_id\": 1, \"eos_token_id\": 2}",
                       m->layers, m->heads, m->width, m->inner, m->vocab, m->positions),
        TDM_OK);
    tiny_write_file(dir, "model.safetensors", weights.p, weights.len);
    tiny_write_file(dir, "merges.txt", merges.p, merges.len);
    tiny_write_file(dir, "vocab.json", vocab.p, vocab.len);
    tiny_write_file(dir, "config.json", config.p, config.len);
    tdm_buf_free(&weights);
    tdm_buf_free(&merges);
    tdm_buf_free(&vocab);
    tdm_buf_free(&config);
}

static inline void tiny_roberta_remove(const char *dir)
{
    static const char *const NAMES[] = {"model.safetensors", "merges.txt", "vocab.json",
                                        "config.json"};
    char path[TINY_PATH + 32];
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, NAMES[i]);
        unlink(path);
    }
    rmdir(dir);
}

#endif
