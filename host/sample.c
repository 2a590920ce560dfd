/* host/sample.c - see sample.h for the definition. What makes it quick, and why that is exact:
 *
 *   noise      Gumbel noise costs two logarithms in double, so it is computed only for entries that
 *              can still win by an upper bound (host/rng.h). Words come 256 at a time from a loop
 *              without branches, and not at all where the largest logit plus the most that noise
 *              can be is too small.
 *   selection  top-k and top-p need the value at which a running sum in falling order crosses a
 *              target, not an order: a histogram over the values finds the bin, a quickselect that
 *              carries weights finds the value inside it. What is cut becomes -infinity.
 *   exp        ours, in double: a plain loop that the compiler turns into vectors, with the same
 *              bits on every machine (the build forbids fused multiply-adds here). The noise has
 *              no such promise: it takes its logarithms from the C library, which may differ in the
 *              last of 53 bits from version to version and, in glibc, between processors with and
 *              without fused multiply-adds. That decides a draw only where two entries come within
 *              2^-48 of each other. */
#include "host/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/rng.h"

/* ThreadSanitizer is not there yet when the clone is chosen. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

enum {
    CHUNK = 256,        /* vocabulary entries whose words are made at once */
    BLOCKS = CHUNK / 4, /* Philox blocks of four words in a chunk */
    GROUP = 64,         /* entries that are ruled out together */
    BINS = 1024,        /* of the histogram over values */
};

static const uint32_t P_POSITION = UINT32_MAX; /* of a document's own top-p */

struct tdm_sampler {
    int32_t n_vocab;
    float *scaled;   /* [n_vocab] logits / temperature; -infinity where top-k or top-p cut */
    double *masses;  /* [n_vocab] exp(scaled - largest); 1 for top-k */
    uint16_t *bins;  /* [n_vocab] place of each value in the histogram */
    double sums[BINS];
    float *values;   /* [n_vocab] the values of one bin */
    double *weights; /* [n_vocab] their masses */
};

tdm_status tdm_sampler_open(int32_t n_vocab, tdm_sampler **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_sampler *s = calloc(1, sizeof *s);
    TDM_REQUIRE(n_vocab > 0, TDM_EARG, "vocabulary of %d entries", (int)n_vocab);
    TDM_REQUIRE(s, TDM_ENOMEM, "sampler");
    const size_t n = (size_t)n_vocab;
    s->n_vocab = n_vocab;
    s->scaled = malloc(n * sizeof *s->scaled);
    s->values = malloc(n * sizeof *s->values);
    s->weights = malloc(n * sizeof *s->weights);
    s->masses = malloc(n * sizeof *s->masses);
    s->bins = malloc(n * sizeof *s->bins);
    TDM_REQUIRE(s->scaled && s->values && s->weights && s->masses && s->bins, TDM_ENOMEM,
                "sampler for %d entries", (int)n_vocab);
    *out = s;
    s = NULL;
done:
    tdm_sampler_close(s);
    return st;
}

void tdm_sampler_close(tdm_sampler *s)
{
    if (!s)
        return;
    free(s->bins);
    free(s->masses);
    free(s->weights);
    free(s->values);
    free(s->scaled);
    free(s);
}

/* ---- loops over all of the vocabulary, written so that compilers vectorise them ---- */

/* out = in / divisor, with its largest and smallest value. Returns false if any quotient is NaN or
 * infinite. */
CLONES static bool scale(float *restrict out, const float *restrict in, int32_t n, float divisor,
                         float *largest, float *smallest)
{
    enum { LANES = 32 };
    float top[LANES], low[LANES], bad[LANES];
    for (int j = 0; j < LANES; j++) {
        top[j] = low[j] = in[0] / divisor;
        bad[j] = 0;
    }
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            const float v = in[i + j] / divisor;
            out[i + j] = v;
            top[j] = v > top[j] ? v : top[j];
            low[j] = v < low[j] ? v : low[j];
            bad[j] += v * 0.f; /* 0 for a finite v, else NaN */
        }
    for (; i < n; i++) {
        out[i] = in[i] / divisor;
        top[0] = out[i] > top[0] ? out[i] : top[0];
        low[0] = out[i] < low[0] ? out[i] : low[0];
        bad[0] += out[i] * 0.f;
    }
    for (int j = 1; j < LANES; j++) {
        top[0] = top[j] > top[0] ? top[j] : top[0];
        low[0] = low[j] < low[0] ? low[j] : low[0];
        bad[0] += bad[j];
    }
    *largest = top[0];
    *smallest = low[0];
    return !isnan(bad[0]);
}

/* exp(x) for x <= 0, relative error below 1e-15; 0 below e^-700. */
static inline double exp_of(double x)
{
    const double round_it = 0x1.8p52; /* adding it leaves the nearest integer in the low bits */
    const double shifted = x * 1.4426950408889634 + round_it;
    const double k = shifted - round_it;
    /* ln 2 in two parts: the first ends in zeros, so that k times it is exact */
    const double r = (x - k * 0x1.62e42fefap-1) - k * 0x1.cf79abc9e3b3ap-40;
    double y = 1.0 / 479001600; /* the series up to r^12 / 12!; |r| <= ln 2 / 2 */
    y = y * r + 1.0 / 39916800;
    y = y * r + 1.0 / 3628800;
    y = y * r + 1.0 / 362880;
    y = y * r + 1.0 / 40320;
    y = y * r + 1.0 / 5040;
    y = y * r + 1.0 / 720;
    y = y * r + 1.0 / 120;
    y = y * r + 1.0 / 24;
    y = y * r + 1.0 / 6;
    y = y * r + 0.5;
    y = y * r + 1.0;
    y = y * r + 1.0;
    uint64_t exponent, bits;
    memcpy(&exponent, &shifted, sizeof exponent);
    memcpy(&bits, &y, sizeof bits);
    bits += exponent << 52; /* times 2^k: k is in the low bits, modulo 2^12 */
    memcpy(&y, &bits, sizeof y);
    return x < -700.0 ? 0.0 : y; /* x = -infinity too, where y is NaN */
}

/* masses = exp(logits - largest) */
CLONES static void masses_of(double *restrict masses, const float *restrict logits, int32_t n,
                             float largest)
{
    enum { LANES = 16 };
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            masses[i + j] = exp_of((double)logits[i + j] - (double)largest);
    for (; i < n; i++)
        masses[i] = exp_of((double)logits[i] - (double)largest);
}

static inline uint16_t bin_of(float below, float range, float per_unit)
{
    const int32_t bin = (int32_t)((below < range ? below : range) * per_unit);
    return (uint16_t)(bin < BINS - 1 ? bin : BINS - 1);
}

/* The bin of each value: 0 for the largest, BINS - 1 from `range` below it; monotone in the value. */
CLONES static void bins_of(uint16_t *restrict bins, const float *restrict values, int32_t n,
                           float largest, float range)
{
    enum { LANES = 32 };
    const float per_unit = range > 0 ? BINS / range : 0.f;
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            bins[i + j] = bin_of(largest - values[i + j], range, per_unit);
    for (; i < n; i++)
        bins[i] = bin_of(largest - values[i], range, per_unit);
}

CLONES static void cut_below(float *values, int32_t n, float threshold)
{
    enum { LANES = 32 };
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            values[i + j] = values[i + j] >= threshold ? values[i + j] : -INFINITY;
    for (; i < n; i++)
        values[i] = values[i] >= threshold ? values[i] : -INFINITY;
}

CLONES static float largest_of(const float *values, int32_t n)
{
    enum { LANES = 16 };
    float top[LANES];
    for (int j = 0; j < LANES; j++)
        top[j] = -INFINITY;
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            top[j] = values[i + j] > top[j] ? values[i + j] : top[j];
    for (; i < n; i++)
        top[0] = values[i] > top[0] ? values[i] : top[0];
    for (int j = 1; j < LANES; j++)
        top[0] = top[j] > top[0] ? top[j] : top[0];
    return top[0];
}

/* The words of vocabulary entries 4 * block .. 4 * block + CHUNK - 1. */
CLONES static void chunk_words(uint32_t *restrict words, uint32_t block, const tdm_draw *draw)
{
    uint32_t c0[BLOCKS], c1[BLOCKS], c2[BLOCKS], c3[BLOCKS];
    uint32_t k0 = (uint32_t)draw->seed, k1 = (uint32_t)(draw->seed >> 32);
    for (int i = 0; i < BLOCKS; i++) {
        c0[i] = block + (uint32_t)i;
        c1[i] = draw->position;
        c2[i] = (uint32_t)draw->document;
        c3[i] = (uint32_t)(draw->document >> 32);
    }
    for (int round = 0; round < TDM_PHILOX_ROUNDS; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            const uint64_t p0 = (uint64_t)TDM_PHILOX_M0 * c0[i];
            const uint64_t p1 = (uint64_t)TDM_PHILOX_M1 * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
        }
        k0 += TDM_PHILOX_W0;
        k1 += TDM_PHILOX_W1;
    }
    for (int i = 0; i < BLOCKS; i++) {
        words[4 * i] = c0[i];
        words[4 * i + 1] = c1[i];
        words[4 * i + 2] = c2[i];
        words[4 * i + 3] = c3[i];
    }
}

/* The largest logit + bound of its noise in each group of GROUP entries. */
CLONES static void group_bounds(float *restrict bounds, const uint32_t *restrict words,
                                const float *restrict logits)
{
    enum { LANES = 16 };
    for (int g = 0; g < CHUNK / GROUP; g++) {
        float top[LANES];
        for (int j = 0; j < LANES; j++)
            top[j] = -INFINITY;
        for (int i = g * GROUP; i < (g + 1) * GROUP; i += LANES)
            for (int j = 0; j < LANES; j++) {
                const float b = logits[i + j] + tdm_word_gumbel_bound(words[i + j]);
                top[j] = b > top[j] ? b : top[j];
            }
        for (int j = 1; j < LANES; j++)
            top[0] = top[j] > top[0] ? top[j] : top[0];
        bounds[g] = top[0];
    }
}

/* The smallest value that is larger than v; v itself if there is none. */
CLONES static float next_above(const float *values, int32_t n, float v)
{
    enum { LANES = 16 };
    float next[LANES];
    for (int j = 0; j < LANES; j++)
        next[j] = INFINITY;
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            const float candidate = values[i + j] > v ? values[i + j] : INFINITY;
            next[j] = candidate < next[j] ? candidate : next[j];
        }
    for (; i < n; i++)
        next[0] = values[i] > v && values[i] < next[0] ? values[i] : next[0];
    for (int j = 1; j < LANES; j++)
        next[0] = next[j] < next[0] ? next[j] : next[0];
    return isinf(next[0]) ? v : next[0];
}

/* ---- Gumbel-max ---- */

typedef struct {
    double value; /* logit + noise of the best entry so far */
    int32_t id;
} best_entry;

/* Entry `id` takes the lead if its value is larger; ids come in rising order, so the lowest of equals
 * stays. The bound is compared in f32: rounding is monotone, so nothing that exceeds best->value can
 * fall below its f32 value. */
static inline void consider(best_entry *best, int32_t id, float logit, uint32_t word)
{
    if (logit + tdm_word_gumbel_bound(word) < (float)best->value)
        return;
    const double value = (double)logit + tdm_word_gumbel(word);
    if (value > best->value)
        *best = (best_entry){value, id};
}

static int32_t gumbel_max(const float *logits, int32_t n, const tdm_draw *draw)
{
    uint32_t words[CHUNK];
    float bounds[CHUNK / GROUP], tail[CHUNK];
    best_entry best = {-INFINITY, 0};
    for (int32_t first = 0; first < n; first += CHUNK) {
        const float *chunk = logits + first;
        const int32_t count = n - first < CHUNK ? n - first : CHUNK;
        const float largest = largest_of(chunk, count);
        if (isinf(largest) || largest + TDM_MOST_GUMBEL < (float)best.value)
            continue;
        if (count < CHUNK) { /* entries beyond the vocabulary can never win */
            for (int i = 0; i < CHUNK; i++)
                tail[i] = i < count ? chunk[i] : -INFINITY;
            chunk = tail;
        }
        chunk_words(words, (uint32_t)first / 4, draw);
        group_bounds(bounds, words, chunk);
        for (int i = 0; i < count; i++) {
            if (i % GROUP == 0 && bounds[i / GROUP] < (float)best.value)
                i += GROUP - 1; /* the whole group is out */
            else
                consider(&best, first + i, chunk[i], words[i]);
        }
    }
    return best.id;
}

/* ---- top-k and top-p ---- */

/* Keep those of values [n] that are larger, or smaller, than pivot, with their weights. Returns how
 * many. No branch depends on the data. */
static int32_t keep(float *values, double *weights, int32_t n, float pivot, bool larger)
{
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++) {
        const float v = values[i];
        values[m] = v;
        weights[m] = weights[i];
        m += larger ? v > pivot : v < pivot;
    }
    return m;
}

static float middle(float a, float b, float c)
{
    const float low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

typedef struct {
    float value;  /* the largest value v such that the weight of {x >= v} reaches the target */
    double above; /* the weight of {x > v} */
    double equal; /* the weight of one entry that is equal to v */
} crossing;

/* Where the running sum of weights, in falling order of values, reaches a target. If it never does,
 * the smallest value.
 *   values, weights [n] are overwritten; equal values have equal weights
 *   above           the sum before the largest of these values. Cost: linear on average. */
static crossing crossing_of(float *values, double *weights, int32_t n, double above, double target)
{
    for (;;) {
        const float pivot = middle(values[0], values[n / 2], values[n - 1]);
        double larger = 0, equal = 0, each = 0;
        int32_t n_larger = 0, n_smaller = 0;
        for (int32_t i = 0; i < n; i++) {
            const bool is_equal = values[i] == pivot;
            larger += values[i] > pivot ? weights[i] : 0;
            n_larger += values[i] > pivot;
            n_smaller += values[i] < pivot;
            equal += is_equal ? weights[i] : 0;
            each = is_equal ? weights[i] : each;
        }
        if (n_larger > 0 && above + larger >= target) {
            n = keep(values, weights, n, pivot, true);
        } else if (n_smaller == 0 || above + larger + equal >= target) {
            return (crossing){pivot, above + larger, each};
        } else {
            above += larger + equal;
            n = keep(values, weights, n, pivot, false);
        }
    }
}

/* Sort s->scaled and s->masses [n_vocab] into bins. Returns the sum of the masses. */
static double fill_histogram(tdm_sampler *s, float largest, float smallest)
{
    double parts[4][BINS] = {0}, total = 0; /* four, so that equal bins do not wait for each other */
    const float spread = largest - smallest;
    bins_of(s->bins, s->scaled, s->n_vocab, largest, spread < 64 ? spread : 64.f);
    for (int32_t i = 0; i < s->n_vocab; i++)
        parts[i % 4][s->bins[i]] += s->masses[i];
    for (int bin = 0; bin < BINS; bin++) {
        s->sums[bin] = (parts[0][bin] + parts[1][bin]) + (parts[2][bin] + parts[3][bin]);
        total += s->sums[bin];
    }
    return total;
}

/* The crossing over all of the vocabulary; needs the histogram and keeps scaled and masses. */
static crossing find_crossing(tdm_sampler *s, double target)
{
    double above = 0;
    int bin = 0;
    int32_t n = 0;
    while (bin < BINS - 1 && above + s->sums[bin] < target)
        above += s->sums[bin++];
    for (int32_t i = 0; i < s->n_vocab; i++) {
        s->values[n] = s->scaled[i];
        s->weights[n] = s->masses[i];
        n += s->bins[i] == bin;
    }
    return crossing_of(s->values, s->weights, n, above, target);
}

/* Returns the smallest survivor. */
static float top_k(tdm_sampler *s, float largest, float smallest, int32_t k)
{
    for (int32_t i = 0; i < s->n_vocab; i++)
        s->masses[i] = 1.0;
    fill_histogram(s, largest, smallest);
    const float threshold = find_crossing(s, k).value;
    cut_below(s->scaled, s->n_vocab, threshold);
    return threshold;
}

/* Of the entries equal to v keep the first `ties`. */
static void cut_ties(float *values, int32_t n, float v, double ties)
{
    for (int32_t i = 0; i < n; i++) {
        if (values[i] != v)
            continue;
        if (ties <= 0)
            values[i] = -INFINITY;
        ties -= 1;
    }
}

static void top_p(tdm_sampler *s, float largest, float smallest, const tdm_draw *draw)
{
    const bool openai = draw->nucleus == TDM_NUCLEUS_OPENAI;
    masses_of(s->masses, s->scaled, s->n_vocab, largest);
    const double target = (double)draw->top_p * fill_histogram(s, largest, smallest);
    const crossing c = find_crossing(s, target);
    float threshold = c.value;
    /* openai: the first entry beyond the target is out; those that tie with one that fits are in */
    if (openai && c.above + c.equal > target)
        threshold = next_above(s->scaled, s->n_vocab, c.value);
    cut_below(s->scaled, s->n_vocab, threshold);
    if (!openai) /* as many of the ties as it takes to reach the target, one at least */
        cut_ties(s->scaled, s->n_vocab, c.value, fmax(1.0, ceil((target - c.above) / c.equal)));
}

/* ---- the draw ---- */

static int32_t greedy(const float *logits, int32_t n, float largest)
{
    int32_t i = 0;
    while (i + 1 < n && logits[i] != largest)
        i++;
    return i;
}

int32_t tdm_sample_row(tdm_sampler *s, const float *logits, const tdm_draw *draw)
{
    const int32_t n = s->n_vocab;
    const bool is_greedy = !(draw->temperature > 0);
    float largest, smallest;
    if (!scale(s->scaled, logits, n, is_greedy ? 1.f : draw->temperature, &largest, &smallest))
        return -1;
    if (is_greedy)
        return greedy(s->scaled, n, largest);
    if (draw->top_k > 0 && draw->top_k < n)
        smallest = top_k(s, largest, smallest, draw->top_k);
    if (draw->top_p < 1.f)
        top_p(s, largest, smallest, draw);
    return gumbel_max(s->scaled, n, draw);
}

float tdm_draw_top_p(uint64_t seed, uint64_t document, float a, float b)
{
    uint32_t words[4];
    const uint32_t counter[4] = {0, P_POSITION, (uint32_t)document, (uint32_t)(document >> 32)};
    tdm_philox(counter, seed, words);
    const float p = (float)(a + tdm_word_uniform(words[0]) * ((double)b - a));
    return p < b ? p : a < b ? nextafterf(b, a) : a; /* rounding to f32 must not reach b */
}
