/* tests/emu/ptx_vectors_main.c - golden vectors of the PTX wrappers of kernels/device.cuh.
 *
 *   ptx_vectors --record FILE   on a GPU: write what the hardware computes
 *   ptx_vectors --check FILE    anywhere: compare; status 77 when the file is not there
 *
 * A line is the name of a case, the lane, and its words in hexadecimal. Words must be equal, except
 * that of tdm_exp2 and of products of arbitrary values only the difference as floats is bounded:
 * the hardware tells neither how it rounds 2^x nor in which order it adds. */
#include "tests/emu/ptx_vectors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LANES = 32, MOST_IN = 10, MOST_OUT = 4, SKIPPED = 77 };

static uint32_t next_random(void)
{
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static uint32_t float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float bits_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* ---- inputs, [LANES][words] ---- */

static void any_words(uint32_t *in, int words)
{
    for (int i = 0; i < LANES * words; i++)
        in[i] = next_random();
}

/* Whole numbers -3 .. 3 in 16 bits, by type: every order of the sum is exact. */
static void whole(uint32_t *in, const uint16_t numbers[4])
{
    for (int i = 0; i < LANES * MOST_IN; i++) {
        const uint32_t r = next_random();
        const uint32_t low = numbers[r & 3] | (r >> 2 & 1) << 15;
        const uint32_t high = numbers[r >> 3 & 3] | (r >> 5 & 1) << 15;
        in[i] = i % MOST_IN < 6 ? low | high << 16 : float_bits((float)(int)(r >> 8 & 15) - 8);
    }
}
static void whole_f16(uint32_t *in, int words)
{
    (void)words;
    whole(in, (const uint16_t[]){0x0000, 0x3c00, 0x4000, 0x4200});
}
static void whole_bf16(uint32_t *in, int words)
{
    (void)words;
    whole(in, (const uint16_t[]){0x0000, 0x3f80, 0x4000, 0x4040});
}

/* Magnitudes up to 1, subnormal ones of f16 among them: exponent bits below `top`. */
static void fractions(uint32_t *in, uint32_t exponent_shift, uint32_t top)
{
    for (int i = 0; i < LANES * MOST_IN; i++) {
        uint32_t word = 0;
        for (int half = 0; half < 2; half++) {
            const uint32_t r = next_random();
            const uint32_t exponent = top - (r >> 20) % 15;
            const uint32_t mantissa = r & ((1u << exponent_shift) - 1);
            word |= ((r >> 16 & 0x8000) | exponent << exponent_shift | mantissa) << 16 * half;
        }
        in[i] = i % MOST_IN < 6 ? word : float_bits((float)(next_random() >> 8) * 0x1p-24f);
    }
}
static void fractions_f16(uint32_t *in, int words)
{
    (void)words;
    fractions(in, 10, 14);
}
static void fractions_bf16(uint32_t *in, int words)
{
    (void)words;
    fractions(in, 7, 126);
}

static void exponents(uint32_t *in, int words)
{
    (void)words;
    for (int i = 0; i < LANES; i++)
        in[i] = float_bits(-160.0f + 9.3125f * (float)i);
    in[0] = float_bits(-INFINITY);
    in[1] = float_bits(0.0f);
    in[2] = 1; /* the smallest subnormal */
    in[3] = float_bits(-126.0f);
    in[4] = float_bits(-127.0f);
    in[5] = float_bits(INFINITY);
    in[6] = float_bits(-0x1p-20f);
}

/* ---- cases ---- */

typedef enum { EQUAL, NEAR_SUM, NEAR_POWER } comparison;

static const struct {
    const char *name;
    tdmv_launcher *launch;
    void (*inputs)(uint32_t *in, int words);
    int words_in, words_out;
    comparison how;
} CASES[] = {
    {"mma_f16_whole", tdmv_mma_f16, whole_f16, 10, 4, EQUAL},
    {"mma_bf16_whole", tdmv_mma_bf16, whole_bf16, 10, 4, EQUAL},
    {"mma_f16_fractions", tdmv_mma_f16, fractions_f16, 10, 4, NEAR_SUM},
    {"mma_bf16_fractions", tdmv_mma_bf16, fractions_bf16, 10, 4, NEAR_SUM},
    {"ldmatrix", tdmv_ldmatrix, any_words, 4, 4, EQUAL},
    {"ldmatrix_transposed", tdmv_ldmatrix_transposed, any_words, 4, 4, EQUAL},
    {"copy16", tdmv_copy16, any_words, 4, 4, EQUAL},
    {"copy0", tdmv_copy0, any_words, 4, 4, EQUAL},
    {"load_once", tdmv_load_once, any_words, 4, 4, EQUAL},
    {"exp2", tdmv_exp2, exponents, 1, 1, NEAR_POWER},
};
enum { N_CASES = sizeof CASES / sizeof *CASES };

/* Sums of 16 products and a term, each at most 1: f32 loses at most 2^-23 of 17 at each of 16
 * steps, twice that where it truncates. 2^x: 2 units in the last place on either side. */
static int is_equal(uint32_t a, uint32_t b, comparison how)
{
    const double x = (double)bits_float(a), y = (double)bits_float(b);
    if (a == b)
        return 1;
    if (how == NEAR_SUM)
        return fabs(x - y) <= 2 * 16 * 17 * 0x1p-23;
    return how == NEAR_POWER && fabs(x - y) <= 4 * 0x1p-23 * fabs(x);
}

static int run(int c, uint32_t *out)
{
    uint32_t in[LANES * MOST_IN];
    void *device_in = NULL, *device_out = NULL;
    const size_t in_bytes = sizeof(uint32_t) * LANES * (size_t)CASES[c].words_in;
    const size_t out_bytes = sizeof(uint32_t) * LANES * (size_t)CASES[c].words_out;
    CASES[c].inputs(in, CASES[c].words_in);
    cudaError_t e = cudaMalloc(&device_in, in_bytes);
    if (e == cudaSuccess)
        e = cudaMalloc(&device_out, out_bytes);
    if (e == cudaSuccess)
        e = cudaMemcpy(device_in, in, in_bytes, cudaMemcpyHostToDevice);
    if (e == cudaSuccess)
        e = CASES[c].launch(device_out, device_in, NULL);
    if (e == cudaSuccess)
        e = cudaMemcpy(out, device_out, out_bytes, cudaMemcpyDeviceToHost);
    cudaFree(device_in);
    cudaFree(device_out);
    if (e != cudaSuccess)
        fprintf(stderr, "%s: %s\n", CASES[c].name, cudaGetErrorString(e));
    return e == cudaSuccess;
}

static int record(FILE *f)
{
    for (int c = 0; c < N_CASES; c++) {
        uint32_t out[LANES * MOST_OUT];
        if (!run(c, out))
            return 1;
        for (int lane = 0; lane < LANES; lane++) {
            fprintf(f, "%s %d", CASES[c].name, lane);
            for (int i = 0; i < CASES[c].words_out; i++)
                fprintf(f, " %08x", (unsigned)out[lane * CASES[c].words_out + i]);
            fputc('\n', f);
        }
    }
    return 0;
}

static int check_lane(FILE *f, int c, int lane, const uint32_t *out)
{
    char name[64];
    int at = -1, bad = 0;
    if (fscanf(f, "%63s %d", name, &at) != 2 || strcmp(name, CASES[c].name) != 0 || at != lane) {
        fprintf(stderr, "the file has no line '%s %d' where it is expected\n", CASES[c].name, lane);
        return 1;
    }
    for (int i = 0; i < CASES[c].words_out; i++) {
        unsigned word = 0;
        if (fscanf(f, "%8x", &word) == 1 && is_equal(word, out[i], CASES[c].how))
            continue;
        fprintf(stderr, "%s, lane %d, word %d: %08x (%g), recorded %08x (%g)\n", name, lane, i,
                (unsigned)out[i], (double)bits_float(out[i]), word, (double)bits_float(word));
        bad = 1;
    }
    return bad;
}

static int check(FILE *f)
{
    int bad = 0;
    for (int c = 0; c < N_CASES; c++) {
        uint32_t out[LANES * MOST_OUT];
        if (!run(c, out))
            return 1;
        for (int lane = 0; lane < LANES; lane++)
            bad |= check_lane(f, c, lane, out + lane * CASES[c].words_out);
    }
    return bad;
}

int main(int argc, char **argv)
{
    const int recording = argc == 3 && !strcmp(argv[1], "--record");
    if (argc != 3 || (!recording && strcmp(argv[1], "--check") != 0)) {
        fprintf(stderr, "usage: ptx_vectors --record FILE | --check FILE\n");
        return 2;
    }
    FILE *f = fopen(argv[2], recording ? "w" : "r");
    if (!f) {
        printf("%s is not there: %s\n", argv[2],
               recording ? "it cannot be written" : "no GPU has recorded vectors yet");
        return recording ? 1 : SKIPPED;
    }
    int bad = recording ? record(f) : check(f);
    bad |= fclose(f) != 0;
    return bad;
}
