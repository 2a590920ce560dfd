/* tests/emu/logit_rows.h - rows of logits of every kind, and how they get to the device. */
#ifndef TESTS_EMU_LOGIT_ROWS_H
#define TESTS_EMU_LOGIT_ROWS_H

#include "host/rng.h"
#include "tests/emu/kernel_test.h"

typedef struct {
    uint64_t key;
    uint32_t i;
} stream;

static inline uint32_t next_word(stream *s)
{
    uint32_t words[4];
    tdm_philox((uint32_t[4]){s->i++, 0, 0, 0x7e57}, s->key, words);
    return words[0];
}

static inline double next_normal(stream *s)
{
    const double r = sqrt(-2 * log(tdm_word_uniform(next_word(s))));
    return r * cos(6.283185307179586 * tdm_word_uniform(next_word(s)));
}

typedef enum {
    NORMAL,
    FAR,   /* all of one sign and size, as GPT-2's are */
    FLAT,  /* all equal */
    TIES,  /* a dozen values */
    ZEROS, /* 0 and -0, which are equal, and a few others */
    PEAKED,
    ONE_HOT,
    STEEP,
    OUTLIER, /* one entry is -1e10, which sample.py puts in place of a masked logit */
    N_KINDS
} row_kind;

static inline float entry_of(row_kind kind, double x, double scale, int32_t i, int32_t n)
{
    switch (kind) {
    case FAR:
        return (float)(x * 3 - 90);
    case FLAT:
        return 1.5f;
    case TIES:
        return (float)(floor(x * 2) / 2);
    case ZEROS:
        return x > 1 ? (float)floor(x) : i % 3 ? -0.0f : 0.0f;
    case PEAKED:
        return (float)(x * scale * 0.1 + (i == n / 3) * 12.0);
    case ONE_HOT:
        return i == n / 2 ? 30.f : 0.f;
    case STEEP:
        return (float)(x * 100);
    case OUTLIER:
        return i == n - 1 ? -1e10f : (float)(x * scale);
    default:
        return (float)(x * scale);
    }
}

static inline void make_row(float *row, int32_t n, row_kind kind, stream *s)
{
    const double scale = exp(next_normal(s));
    for (int32_t i = 0; i < n; i++)
        row[i] = entry_of(kind, next_normal(s), scale, i, n);
}

/* rows [rows, n] with gaps of NaN up to the stride */
static inline tdm_mat upload_logits(const float *rows, int64_t n_rows, int32_t n, int32_t stride)
{
    float *padded = checked(malloc((size_t)n_rows * (size_t)stride * sizeof *padded + 1));
    for (int64_t r = 0; r < n_rows; r++)
        for (int32_t i = 0; i < stride; i++)
            padded[r * stride + i] = i < n ? rows[r * n + i] : NAN;
    const tdm_mat m = {on_device(padded, (size_t)n_rows * (size_t)stride * sizeof *padded), n_rows,
                       n, TDM_F32, stride};
    free(padded);
    return m;
}

/* Matrices that launchers refuse, made of one that they take, [2, 6] with stride 8. */
enum { N_REFUSED = 5 };
static inline void refused_logits(tdm_mat m, tdm_mat refused[N_REFUSED])
{
    for (int i = 0; i < N_REFUSED; i++)
        refused[i] = m;
    refused[0].dtype = TDM_F16;
    refused[1].stride = 6;
    refused[2].stride = 4;
    refused[3].p = (float *)m.p + 1;
    refused[4].cols = 0;
}

#endif
