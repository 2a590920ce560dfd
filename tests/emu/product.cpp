/* tests/emu/product.cpp - a matrix product that is fast enough to run whole small models.
 *
 * Operands are turned into f32 with k contiguous; a tile is 4 rows of a by 2 columns of b. Every
 * element is one sum in vector lanes, added up by a fixed tree, by one piece of code whatever m and
 * n are: an odd column is computed twice. */
#include "tests/emu/product.h"

#include <math.h>
#include <string.h>
#include <vector>

#include "tests/emu/emu.h"

namespace tdm_emu
{

constexpr int64_t LANES = 16, TILE_ROWS = 4, TILE_COLS = 2, PANEL = 32;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

size_t type_bytes(cudaDataType_t type)
{
    switch (type) {
    case CUDA_R_32F:
        return 4;
    case CUDA_R_16F:
    case CUDA_R_16BF:
        return 2;
    default:
        return 0;
    }
}

/* ---- one element ---- */

static float load(const void *p, int64_t i, cudaDataType_t type)
{
    if (type == CUDA_R_32F)
        return static_cast<const float *>(p)[i];
    if (type == CUDA_R_16F)
        return static_cast<float>(static_cast<const _Float16 *>(p)[i]);
    const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(p)[i]) << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float round_to_bf16(float f)
{
    uint32_t bits;
    if (isnan(f))
        return f;
    memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void store(void *p, int64_t i, cudaDataType_t type, float f)
{
    if (type == CUDA_R_32F) {
        static_cast<float *>(p)[i] = f;
    } else if (type == CUDA_R_16F) {
        static_cast<_Float16 *>(p)[i] = static_cast<_Float16>(f);
    } else {
        uint32_t bits;
        f = round_to_bf16(f);
        memcpy(&bits, &f, sizeof bits);
        static_cast<uint16_t *>(p)[i] = isnan(f) ? 0x7fff : static_cast<uint16_t>(bits >> 16);
    }
}

/* ---- sums ---- */

/* n values, `step` apart, as f32; zeros up to a whole number of vectors. */
static void unpack(float *to, const void *p, int64_t first, int64_t step, int64_t n,
                   cudaDataType_t type, int64_t padded)
{
    if (type == CUDA_R_16F && step == 1)
        for (int64_t i = 0; i < n; i++)
            to[i] = static_cast<float>(static_cast<const _Float16 *>(p)[first + i]);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = load(p, first + i * step, type);
    for (int64_t i = n; i < padded; i++)
        to[i] = 0.0f;
}

static float add_up(Lanes v)
{
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            v[i] += v[i + half];
    return v[0];
}

struct Tile {
    float sum[TILE_ROWS][TILE_COLS];
};

/* The sums over [from, to) of k, both multiples of LANES. a and b: rows of `padded` values. */
static __attribute__((noinline)) Tile sum_tile(const float *a, const float *const b[TILE_COLS],
                                               int64_t padded, int64_t from, int64_t to)
{
    Lanes sums[TILE_ROWS][TILE_COLS] = {};
    for (int64_t k = from; k < to; k += LANES) {
        Lanes right[TILE_COLS];
        for (int j = 0; j < TILE_COLS; j++)
            memcpy(&right[j], b[j] + k, sizeof right[j]);
        for (int i = 0; i < TILE_ROWS; i++) {
            Lanes left;
            memcpy(&left, a + i * padded + k, sizeof left);
            for (int j = 0; j < TILE_COLS; j++)
                sums[i][j] += left * right[j];
        }
    }
    Tile t;
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < TILE_COLS; j++)
            t.sum[i][j] = add_up(sums[i][j]);
    return t;
}

static Tile sum_in_order(const Product &p, const float *a, const float *const b[TILE_COLS],
                         int64_t padded)
{
    int64_t cut = 0;
    if (p.varies)
        cut = padded / LANES * (p.n % 4) / 4 * LANES;
    else if (p.order == SumOrder::halves)
        cut = padded / LANES / 2 * LANES;
    else if (p.order == SumOrder::quarter)
        cut = padded / LANES / 4 * LANES;
    Tile t = sum_tile(a, b, padded, cut, padded);
    if (cut == 0)
        return t;
    const Tile head = sum_tile(a, b, padded, 0, cut);
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < TILE_COLS; j++)
            t.sum[i][j] += p.varies ? round_to_bf16(head.sum[i][j]) : head.sum[i][j];
    return t;
}

/* ---- the product ---- */

static void finish(const Product &p, int64_t i, int64_t j, float sum)
{
    float v = p.alpha * sum;
    if (p.beta != 0.0f)
        v += p.beta * load(p.c.p, i * p.c.row_step + j * p.c.col_step, p.c.type);
    if (p.bias)
        v += load(p.bias, i, p.bias_type);
    if (p.gelu)
        v = 0.5f * v * (1.0f + tanhf(0.7978845608f * (v + 0.044715f * v * v * v)));
    store(p.d.p, i * p.d.row_step + j * p.d.col_step, p.d.type, v);
}

/* Rows first .. first + PANEL - 1 of d. columns: b with k contiguous. */
static void multiply_panel(const Product &p, int64_t first, const float *columns, int64_t padded)
{
    std::vector<float> rows(static_cast<size_t>(TILE_ROWS * padded));
    for (int64_t i = first; i < p.m && i < first + PANEL; i += TILE_ROWS) {
        const int64_t n_rows = p.m - i < TILE_ROWS ? p.m - i : TILE_ROWS;
        for (int64_t r = 0; r < n_rows; r++)
            unpack(&rows[static_cast<size_t>(r * padded)], p.a.p, (i + r) * p.a.row_step,
                   p.a.col_step, p.k, p.a.type, padded);
        for (int64_t j = 0; j < p.n; j += TILE_COLS) {
            const int64_t n_cols = p.n - j < TILE_COLS ? 1 : TILE_COLS;
            const float *const b[TILE_COLS] = {columns + j * padded,
                                               columns + (j + n_cols - 1) * padded};
            const Tile t = sum_in_order(p, rows.data(), b, padded);
            for (int64_t r = 0; r < n_rows; r++)
                for (int64_t c = 0; c < n_cols; c++)
                    finish(p, i + r, j + c, t.sum[r][c]);
        }
    }
}

void multiply(const Product &p)
{
    const int64_t padded = (p.k + LANES - 1) / LANES * LANES;
    std::vector<float> columns(static_cast<size_t>(p.n * padded));
    for (int64_t j = 0; j < p.n; j++)
        unpack(&columns[static_cast<size_t>(j * padded)], p.b.p, j * p.b.col_step, p.b.row_step,
               p.k, p.b.type, padded);
    run_parallel(static_cast<int>((p.m + PANEL - 1) / PANEL),
                 [&](int panel) { multiply_panel(p, panel * PANEL, columns.data(), padded); });
}

} // namespace tdm_emu
