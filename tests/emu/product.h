/* tests/emu/product.h - the arithmetic behind the emulated cuBLASLt. */
#ifndef TESTS_EMU_PRODUCT_H
#define TESTS_EMU_PRODUCT_H

#include <library_types.h>
#include <stddef.h>
#include <stdint.h>

namespace tdm_emu
{

/* Element (row, col) lies at row * row_step + col * col_step. */
struct Matrix {
    void *p;
    cudaDataType_t type; /* CUDA_R_16F, CUDA_R_16BF or CUDA_R_32F */
    int64_t row_step, col_step;
};

/* Where the sum over k is cut in two parts. */
enum class SumOrder { whole, quarter, halves };

/* d = epilogue(alpha * a @ b + beta * c + bias): a [m, k], b [k, n], c and d [m, n], bias [m] or
 * NULL of bias_type. Sums in f32, in an order that depends on `order` and k alone. */
struct Product {
    int64_t m, n, k;
    Matrix a, b, c, d;
    float alpha, beta;
    const void *bias;
    cudaDataType_t bias_type;
    bool gelu; /* the tanh form */
    SumOrder order;
    bool varies; /* planted bug: the bits of a column depend on n */
};
void multiply(const Product &product);

size_t type_bytes(cudaDataType_t type); /* 0: not supported */

} // namespace tdm_emu

#endif
