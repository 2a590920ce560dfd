/* tests/emu/test_lay_out.c - kernels/lay_out.cu, from and to all dtypes, in both layouts, in parts.
 */
#include "tests/emu/kernel_test.h"

static const tdm_dtype DTYPES[] = {TDM_F32, TDM_F16, TDM_BF16};

typedef struct {
    const char *name;
    int32_t in, out;
    int32_t first[3]; /* the matrix comes in parts: 0 .. first[0] - 1, .. first[1] - 1, the rest */
} lay_out_case;

static const lay_out_case LAY_OUT[] = {
    {"one number", 1, 1, {0, 0}},
    {"one tile", 32, 32, {32, 32}},
    {"odd", 33, 31, {5, 30}},
    {"thinner than a tile", 5, 70, {1, 4}},
    {"several tiles", 70, 100, {33, 65}},
    {"a vocabulary", 3, 50257, {2, 2}},
};

/* src is placed one value after an aligned address. */
static void lay_out_part(void *dst, tdm_dtype dst_dtype, const float *values, tdm_dtype src_dtype,
                         const lay_out_case *c, tdm_layout layout, int32_t first, int32_t n)
{
    const size_t size = tdm_dtype_size(src_dtype);
    const size_t cols = (size_t)(layout == TDM_IN_OUT ? c->out : c->in), count = (size_t)n * cols;
    char *narrowed = checked(calloc(count + 1, size));
    narrow(narrowed + size, values + (size_t)first * cols, src_dtype, count);
    const char *src = on_device(narrowed, (count + 1) * size);
    ASSERT_CUDA(
        tdmk_lay_out(dst, dst_dtype, src + size, src_dtype, c->in, c->out, layout, first, n, NULL));
    free(narrowed);
}

static void check_lay_out(const lay_out_case *c, tdm_dtype dst_dtype, tdm_dtype src_dtype,
                          tdm_layout layout)
{
    const size_t in = (size_t)c->in, out = (size_t)c->out, n = in * out;
    const size_t rows = layout == TDM_IN_OUT ? in : out;
    float *values = random_values(n, 1, 1, 0), *nothing = checked(calloc(n, sizeof *nothing));
    float *want = checked(malloc(n * sizeof *want));
    void *narrowed = checked(malloc(n * sizeof *want));
    values[0] = 70000.f;          /* infinite in f16 */
    values[n - 1] = 1 + 0x1p-11f; /* half way in f16 */
    narrow(narrowed, values, src_dtype, n);
    tdm_to_f32(values, narrowed, src_dtype, n);
    for (size_t i = 0; i < n; i++)
        want[layout == TDM_IN_OUT ? i % out * in + i / out : i] = values[i];
    narrow(narrowed, want, dst_dtype, n);
    tdm_to_f32(want, narrowed, dst_dtype, n);

    const tdm_mat dst = matrix(nothing, (int64_t)out, c->in, dst_dtype);
    const int32_t a = c->first[0] < (int32_t)rows ? c->first[0] : (int32_t)rows;
    const int32_t b = c->first[1] < (int32_t)rows ? c->first[1] : (int32_t)rows;
    const int32_t parts[][2] = {{b, (int32_t)rows - b}, {0, a}, {a, b - a}};
    for (size_t i = 0; i < COUNT(parts); i++)
        lay_out_part(dst.p, dst_dtype, values, src_dtype, c, layout, parts[i][0], parts[i][1]);
    float *got = values_of(dst);
    for (size_t i = 0; i < n; i++)
        if (bits_of(got[i]) != bits_of(want[i]))
            fail_msg("lay_out %s, %s to %s: [%zu, %zu] is %g, want %g", c->name,
                     tdm_dtype_name(src_dtype), tdm_dtype_name(dst_dtype), i / in, i % in,
                     (double)got[i], (double)want[i]);
    free_device();
    free(values);
    free(nothing);
    free(want);
    free(narrowed);
    free(got);
}

static void lay_out_converts(void **state)
{
    (void)state;
    int cases = 0;
    for (size_t c = 0; c < COUNT(LAY_OUT); c++)
        for (int i = 0; i < 9; i++)
            for (int layout = 0; layout < 2; layout++)
                if (LAY_OUT[c].out < 1000 || i == 1) {
                    check_lay_out(&LAY_OUT[c], DTYPES[i / 3], DTYPES[i % 3],
                                  layout ? TDM_IN_OUT : TDM_OUT_IN);
                    cases++;
                }
    print_message("%-12s      %3d cases, exact\n", "lay_out", cases);
}

static void the_launcher_checks(void **state)
{
    (void)state;
    float *values = random_values(64, 1, 1, 0);
    const tdm_mat m = matrix(values, 8, 8, TDM_F32);
    ASSERT_CUDA(tdmk_lay_out(m.p, TDM_F32, m.p, TDM_F32, 8, 8, TDM_OUT_IN, 3, 0, NULL));
    ASSERT_REFUSED(tdmk_lay_out(m.p, TDM_F32, m.p, TDM_F32, 8, 4, TDM_OUT_IN, 3, 2, NULL));
    ASSERT_REFUSED(tdmk_lay_out(m.p, TDM_F32, m.p, TDM_F32, 4, 8, TDM_IN_OUT, 3, 2, NULL));
    ASSERT_REFUSED(tdmk_lay_out(m.p, TDM_F32, m.p, TDM_F32, 8, 8, TDM_OUT_IN, -1, 2, NULL));
    ASSERT_REFUSED(tdmk_lay_out(m.p, (tdm_dtype)3, m.p, TDM_F32, 8, 8, TDM_OUT_IN, 0, 2, NULL));
    free_device();
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lay_out_converts),
        cmocka_unit_test(the_launcher_checks),
    };
    if (!has_device())
        return status_without_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
