/* Widening to f32, rounding from it, and the search for values that are not finite, against plain arithmetic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/dtype.h"

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The value of a half from its three fields, in double. */
static float half_value(uint16_t h)
{
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const double sign = h & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return mantissa ? NAN : (float)(sign * INFINITY);
    if (exponent == 0)
        return (float)(sign * ldexp(mantissa, -24));
    return (float)(sign * ldexp(1024 + mantissa, exponent - 25));
}

static void every_half(void **state)
{
    (void)state;
    enum { N = 65536 };
    uint16_t *src = malloc(N * sizeof *src);
    float *dst = malloc(N * sizeof *dst);
    for (int i = 0; i < N; i++)
        src[i] = (uint16_t)i;
    tdm_to_f32(dst, src, TDM_F16, N);
    for (int i = 0; i < N; i++) {
        const float want = half_value((uint16_t)i);
        if (isnan(want)) /* sign and payload stay */
            assert_int_equal(bits_of(dst[i]), (uint32_t)(i & 0x8000) << 16 | 0x7F800000u |
                                                  (uint32_t)(i & 1023) << 13);
        else
            assert_int_equal(bits_of(dst[i]), bits_of(want));
    }
    tdm_to_f32(dst, src, TDM_BF16, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(bits_of(dst[i]), (uint32_t)i << 16);
    free(src);
    free(dst);
}

/* Lengths around the vector step, from odd addresses; nothing behind the end is touched. */
static void any_length_and_alignment(void **state)
{
    (void)state;
    static const tdm_dtype TYPES[] = {TDM_F32, TDM_F16, TDM_BF16};
    for (int type = 0; type < 3; type++) {
        for (size_t n = 0; n < 19; n++) {
            const size_t item = tdm_dtype_size(TYPES[type]);
            unsigned char *raw = malloc(1 + n * item);
            float dst[20];
            for (size_t i = 0; i < n * item; i++)
                raw[1 + i] = (unsigned char)(0x31 + 5 * i);
            for (int i = 0; i < 20; i++)
                dst[i] = -7;
            tdm_to_f32(dst, raw + 1, TYPES[type], n);
            for (size_t i = 0; i < n; i++) {
                float want;
                tdm_to_f32(&want, raw + 1 + i * item, TYPES[type], 1);
                assert_int_equal(bits_of(dst[i]), bits_of(want));
            }
            assert_true(dst[n] == -7);
            free(raw);
        }
    }
}

static uint16_t narrow(float x, tdm_dtype type)
{
    uint16_t half = 0xAAAA;
    tdm_from_f32(&half, type, &x, 1);
    return half;
}

/* Every value gives itself; half way to the next one the even one; on either side of that the nearer. */
static void rounds_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        tdm_dtype type;
        uint16_t infinity;
    } KINDS[] = {{TDM_F16, 0x7C00}, {TDM_BF16, 0x7F80}};
    for (int k = 0; k < 2; k++) {
        const tdm_dtype type = KINDS[k].type;
        for (uint16_t h = 0; h < KINDS[k].infinity; h++) {
            const uint16_t next = (uint16_t)(h + 1);
            float low, high;
            tdm_to_f32(&low, &h, type, 1);
            tdm_to_f32(&high, &next, type, 1);
            if (isinf(high)) /* what would come next if the exponent had one more value */
                high = type == TDM_F16 ? 65536.0f : INFINITY;
            const float middle = isinf(high) ? 3.3961775e38f : (float)(((double)low + (double)high) / 2);
            assert_int_equal(narrow(low, type), h);
            assert_int_equal(narrow(-low, type), h | 0x8000);
            assert_int_equal(narrow(middle, type), h & 1 ? next : h);
            assert_int_equal(narrow(-middle, type), (h & 1 ? next : h) | 0x8000);
            assert_int_equal(narrow(nextafterf(middle, 0), type), h);
            assert_int_equal(narrow(nextafterf(middle, INFINITY), type), next);
        }
        assert_int_equal(narrow(INFINITY, type), KINDS[k].infinity);
        assert_int_equal(narrow(-INFINITY, type), KINDS[k].infinity | 0x8000);
        assert_int_equal(narrow(1e30f, TDM_F16), 0x7C00);
        float back;
        const uint16_t nan = narrow(NAN, type);
        tdm_to_f32(&back, &nan, type, 1);
        assert_true(isnan(back));
    }
}

static void rounds_in_place(void **state)
{
    (void)state;
    float values[] = {1, -2, 0.5f, 65504, 3}, again[5];
    tdm_from_f32(values, TDM_F16, values, 5);
    tdm_to_f32(again, values, TDM_F16, 5);
    static const float WANT[] = {1, -2, 0.5f, 65504, 3};
    assert_memory_equal(again, WANT, sizeof WANT);
    tdm_from_f32(again, TDM_F32, again, 5);
    assert_memory_equal(again, WANT, sizeof WANT);
}

static void finds_the_first_not_finite(void **state)
{
    (void)state;
    static const struct {
        tdm_dtype type;
        uint32_t bad[3], fine;
    } KINDS[] = {
        {TDM_F32, {0x7F800000, 0xFF800000, 0x7FC00001}, 0x7F7FFFFF},
        {TDM_F16, {0x7C00, 0xFC00, 0x7E01}, 0x7BFF},
        {TDM_BF16, {0x7F80, 0xFF80, 0x7FC1}, 0x7F7F},
    };
    enum { N = 10000 };
    static const size_t PLACES[] = {0, 1, 2, 3, 4094, 4095, 4096, 4097, 8191, 8192, 9998, 9999};
    for (int k = 0; k < 3; k++) {
        const size_t item = tdm_dtype_size(KINDS[k].type);
        unsigned char *data = malloc(N * item);
        for (size_t i = 0; i < N; i++)
            memcpy(data + i * item, &KINDS[k].fine, item);
        assert_int_equal(tdm_first_not_finite(data, KINDS[k].type, N), N);
        for (size_t p = 0; p < sizeof PLACES / sizeof *PLACES; p++) {
            memcpy(data + PLACES[p] * item, &KINDS[k].bad[p % 3], item);
            assert_int_equal(tdm_first_not_finite(data, KINDS[k].type, N), PLACES[p]);
            assert_int_equal(tdm_first_not_finite(data, KINDS[k].type, PLACES[p]), PLACES[p]);
            memcpy(data + PLACES[p] * item, &KINDS[k].fine, item);
        }
        free(data);
    }
}

static void names_and_sizes(void **state)
{
    (void)state;
    assert_string_equal(tdm_dtype_name(TDM_F32), "f32");
    assert_string_equal(tdm_dtype_name(TDM_F16), "f16");
    assert_string_equal(tdm_dtype_name(TDM_BF16), "bf16");
    assert_int_equal(tdm_dtype_size(TDM_F32), 4);
    assert_int_equal(tdm_dtype_size(TDM_F16), 2);
    assert_int_equal(tdm_dtype_size(TDM_BF16), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half),
        cmocka_unit_test(any_length_and_alignment),
        cmocka_unit_test(rounds_to_nearest_even),
        cmocka_unit_test(rounds_in_place),
        cmocka_unit_test(finds_the_first_not_finite),
        cmocka_unit_test(names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
