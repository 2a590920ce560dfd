/* tests/emu/test_attention_kernels.c - the attention kernels against float64, and the promise that
 * a row's bits depend on its text alone. Written against the CUDA runtime, so it runs on a GPU as
 * well.
 *
 * Keys and values of a text: every text has its own pages, in a shuffled order; all else in the
 * cache is NaN and must still be NaN afterwards. */
#include "tests/emu/kernel_test.h"

static const tdm_dtype DTYPES[] = {TDM_F32, TDM_F16, TDM_BF16};

/* Inputs are exact and sums are f32, so what is left in 16 bits is the rounding of the result, and
 * on the tensor cores that of the weights, which is of the same size. In f32 a score s is off by a
 * few s * 2^-24, which the exponential makes relative. */
static double tolerance(tdm_dtype act)
{
    return unit_of(act) * (act == TDM_F32 ? 128 : 4);
}

static cudaStream_t stream;

/* n numbers without a value; free() them. */
static float *nans(size_t n)
{
    float *x = checked(malloc(n * sizeof *x + 1));
    memset(x, 0xff, n * sizeof *x);
    return x;
}

static void *narrowed_on_device(const float *x, size_t n, tdm_dtype dtype)
{
    void *bytes = checked(malloc(n * sizeof *x + 1));
    narrow(bytes, x, dtype, n);
    void *p = on_device(bytes, n * tdm_dtype_size(dtype));
    free(bytes);
    return p;
}

static float *fetch_floats(const void *p, size_t n, tdm_dtype dtype)
{
    const tdm_mat m = {(void *)p, 1, (int32_t)n, dtype, 0};
    return values_of(m);
}

static void round_to(float *x, size_t n, tdm_dtype dtype)
{
    void *bytes = checked(malloc(n * sizeof *x + 1));
    narrow(bytes, x, dtype, n);
    tdm_to_f32(x, bytes, dtype, n);
    free(bytes);
}

/* ---- texts ---- */

enum { MOST = 12, LAYERS = 2, LAYER = 1, TEXT_PAGES = 4, GAP = 8 };

/* Texts of a batch: q | k | v of all their rows one after another. */
typedef struct {
    int n, heads, starts[MOST + 1], slots[MOST];
    tdm_dtype act, cache;
    float *qkv; /* [rows, 3E], rounded to act */
} texts;

static const int LENGTHS[] = {17, 1, 200, 64, 65, 2, 16, 130, 15, 63};

static texts make_texts(const int *lengths, int n, int heads, tdm_dtype act, tdm_dtype cache)
{
    texts t = {.n = n, .heads = heads, .act = act, .cache = cache};
    const size_t width = (size_t)heads * TDM_HEAD;
    for (int i = 0; i < n; i++) {
        t.starts[i + 1] = t.starts[i] + lengths[i];
        t.slots[i] = (i * 7 + 3) % MOST;
    }
    const size_t size = (size_t)t.starts[n] * 3 * width;
    t.qkv = random_values(size, (uint64_t)n * 31 + (uint64_t)heads, 1, 0);
    for (size_t i = 0; i < size; i++)
        if (i % (3 * width) < 2 * width)
            t.qkv[i] *= 2;
    round_to(t.qkv, size, act);
    return t;
}

static size_t length_of(const texts *t, int i)
{
    return (size_t)(t->starts[i + 1] - t->starts[i]);
}

static const float *text_qkv(const texts *t, int i)
{
    return t->qkv + (size_t)t->starts[i] * 3 * TDM_HEAD * (size_t)t->heads;
}

/* Text i as its rows see it: keys and values as the cache rounds them. The caller frees it. */
static float *seen_qkv(const texts *t, int i)
{
    const size_t n = length_of(t, i), width = (size_t)t->heads * TDM_HEAD;
    float *seen = nans(n * 3 * width);
    memcpy(seen, text_qkv(t, i), n * 3 * width * sizeof *seen);
    for (size_t r = 0; r < n; r++)
        round_to(seen + r * 3 * width + width, 2 * width, t->cache);
    return seen;
}

/* ---- the cache ---- */

typedef struct {
    tdmk_cache c;
    int32_t pages[MOST][TEXT_PAGES], *device_pages;
    size_t n; /* elements */
} test_cache;

static test_cache open_cache(const texts *t)
{
    test_cache cache = {.c = {NULL, t->cache, LAYERS, t->heads, MOST * TEXT_PAGES, TEXT_PAGES}};
    for (int i = 0; i < MOST * TEXT_PAGES; i++) /* 29 has no factor in common with 48 */
        cache.pages[i / TEXT_PAGES][i % TEXT_PAGES] = (i * 29 + 11) % (MOST * TEXT_PAGES);
    cache.n = (size_t)cache.c.pages * LAYERS * 2 * (size_t)t->heads * TDM_PAGE * TDM_HEAD;
    float *empty = nans(cache.n);
    cache.c.p = narrowed_on_device(empty, cache.n, t->cache);
    cache.device_pages = on_device(cache.pages, sizeof cache.pages);
    free(empty);
    return cache;
}

/* Where the contract says that an element is. */
static size_t cache_at(const test_cache *cache, int slot, size_t key, int part, size_t head,
                       size_t d)
{
    const size_t page = (size_t)cache->pages[slot][key / TDM_PAGE], heads = (size_t)cache->c.heads;
    return ((((page * LAYERS + LAYER) * 2 + (size_t)part) * heads + head) * TDM_PAGE +
            key % TDM_PAGE) *
               TDM_HEAD +
           d;
}

/* The cache with the first n - `short_of` keys of each text; all else NaN. The caller frees it. */
static float *cache_image(const test_cache *cache, const texts *t, size_t short_of)
{
    const size_t width = (size_t)t->heads * TDM_HEAD;
    float *image = nans(cache->n);
    for (int i = 0; i < t->n; i++) {
        float *seen = seen_qkv(t, i);
        for (size_t r = 0; r + short_of < length_of(t, i); r++)
            for (size_t c = 0; c < 2 * width; c++)
                image[cache_at(cache, t->slots[i], r, c >= width, c % width / TDM_HEAD,
                               c % TDM_HEAD)] = seen[r * 3 * width + width + c];
        free(seen);
    }
    return image;
}

/* The cache holds all keys of all texts, and nothing else was written. */
static void check_cache(const test_cache *cache, const texts *t)
{
    float *got = fetch_floats(cache->c.p, cache->n, cache->c.dtype);
    float *want = cache_image(cache, t, 0);
    for (size_t i = 0; i < cache->n; i++)
        if (isnan(want[i]) ? !isnan(got[i]) : got[i] != want[i])
            fail_msg("cache[%zu] is %g, want %g", i, (double)got[i], (double)want[i]);
    free(want);
    free(got);
}

/* ---- running ---- */

typedef enum { PREFILL, DECODE, PACKED, CAUSAL } kernel; /* PACKED: bidirectional */
static const char *const NAMES[] = {"attend_prefill", "attend_decode", "attend_packed",
                                    "attend_packed causal"};

/* A matrix with gaps between its rows; x: NULL or its rows, without gaps. */
static tdm_mat device_rows(const float *x, size_t rows, size_t cols, tdm_dtype dtype)
{
    const size_t stride = cols + GAP;
    float *gapped = nans(rows * stride);
    for (size_t r = 0; x && r < rows; r++)
        memcpy(gapped + r * stride, x + r * cols, cols * sizeof *x);
    const tdm_mat m = {narrowed_on_device(gapped, rows * stride, dtype), (int64_t)rows,
                       (int32_t)cols, dtype, (int32_t)stride};
    free(gapped);
    return m;
}

/* The rows of a matrix; its gaps must still be NaN. The caller frees them. */
static float *fetch_rows(tdm_mat m)
{
    const size_t rows = (size_t)m.rows, cols = (size_t)m.cols, stride = (size_t)m.stride;
    float *x = fetch_floats(m.p, rows * stride, m.dtype);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = cols; c < stride; c++)
            if (!isnan(x[r * stride + c]))
                fail_msg("gap of row %zu was written", r);
        memmove(x + r * cols, x + r * stride, cols * sizeof *x);
    }
    return x;
}

/* One ragged step: rows first[i] .. first[i] + n[i] - 1 of each text, all where first is NULL.
 * Returns y of these rows; the caller frees it. */
static float *run_ragged(kernel k, const texts *t, const test_cache *cache, const int *first,
                         const int *n)
{
    const size_t width = (size_t)t->heads * TDM_HEAD;
    int32_t starts[MOST + 1] = {0}, longest = 0;
    float *qkv = nans((size_t)t->starts[t->n] * 3 * width);
    int32_t *positions = checked(malloc((size_t)t->starts[t->n] * sizeof *positions));
    for (int i = 0; i < t->n; i++) {
        const int from = first ? first[i] : 0, rows = first ? n[i] : (int)length_of(t, i);
        starts[i + 1] = starts[i] + rows;
        longest = rows > longest ? rows : longest;
        for (int r = 0; r < rows; r++)
            positions[starts[i] + r] = from + r;
        memcpy(qkv + (size_t)starts[i] * 3 * width, text_qkv(t, i) + (size_t)from * 3 * width,
               (size_t)rows * 3 * width * sizeof *qkv);
    }
    const size_t rows = (size_t)starts[t->n];
    const tdm_step step = {.n_rows = starts[t->n],
                           .n_seqs = t->n,
                           .longest = longest,
                           .starts = on_device(starts, sizeof starts),
                           .positions = on_device(positions, rows * sizeof *positions),
                           .slots = on_device(t->slots, sizeof t->slots),
                           .pages = cache ? cache->device_pages : NULL};
    const tdm_mat x = device_rows(qkv, rows, 3 * width, t->act);
    const tdm_mat y = device_rows(NULL, rows, width, t->act);
    if (k == PREFILL)
        ASSERT_CUDA(tdmk_attend_prefill(y, x, cache->c, LAYER, &step, stream));
    else
        ASSERT_CUDA(tdmk_attend_packed(y, x, &step, k == CAUSAL, stream));
    free(positions);
    free(qkv);
    return fetch_rows(y);
}

/* One decoding step: the last row of each text. An idle row stands before each text's: with a
 * negative slot, then with a slot of negative position, and so on. Returns y of the texts' rows,
 * [n, E]. */
static float *run_decode(const texts *t, const test_cache *cache)
{
    const size_t width = (size_t)t->heads * TDM_HEAD, rows = 2 * (size_t)t->n;
    int32_t slots[2 * MOST], positions[MOST + 1];
    float *qkv = nans(rows * 3 * width);
    memset(positions, 0xff, sizeof positions);
    for (int i = 0; i < t->n; i++) {
        const size_t last = length_of(t, i) - 1;
        slots[2 * i] = i % 2 ? MOST : -1;
        slots[2 * i + 1] = t->slots[i];
        positions[t->slots[i]] = (int32_t)last;
        memcpy(qkv + (2 * (size_t)i + 1) * 3 * width, text_qkv(t, i) + last * 3 * width,
               3 * width * sizeof *qkv);
    }
    const tdm_step step = {.n_rows = (int32_t)rows,
                           .n_seqs = (int32_t)rows,
                           .longest = 1,
                           .positions = on_device(positions, sizeof positions),
                           .slots = on_device(slots, sizeof slots),
                           .pages = cache->device_pages};
    const tdm_mat x = device_rows(qkv, rows, 3 * width, t->act);
    const tdm_mat y = device_rows(NULL, rows, width, t->act);
    ASSERT_CUDA(tdmk_attend_decode(y, x, cache->c, LAYER, &step, stream));
    float *got = fetch_rows(y);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < width; c++) {
            if (r % 2 == 0 && got[r * width + c] != 0)
                fail_msg("idle row %zu is %g", r, (double)got[r * width + c]);
            if (r % 2)
                got[r / 2 * width + c] = got[r * width + c];
        }
    free(qkv);
    return got;
}

/* y of all rows, of a decoding step of the last rows. The caller frees it. */
static float *run(kernel k, const texts *t)
{
    test_cache cache = {0};
    float *y = NULL;
    if (k == PREFILL || k == DECODE)
        cache = open_cache(t);
    if (k == DECODE) {
        float *image = cache_image(&cache, t, 1);
        cache.c.p = narrowed_on_device(image, cache.n, t->cache);
        free(image);
        y = run_decode(t, &cache);
    } else {
        y = run_ragged(k, t, &cache, NULL, NULL);
    }
    if (cache.n)
        check_cache(&cache, t);
    free_device();
    return y;
}

/* Where the rows of text i begin in what run() returns. */
static size_t at_text(kernel k, const texts *t, int i)
{
    return (size_t)(k == DECODE ? i : t->starts[i]) * (size_t)t->heads * TDM_HEAD;
}
static size_t rows_of_text(kernel k, const texts *t, int i)
{
    return k == DECODE ? 1 : length_of(t, i);
}

/* ---- against float64 ---- */

/* One head of one row, which sees the first `keys` keys; k is the first, its value `width` further
 * on. */
static void reference_row(double *y, const float *q, const float *k, size_t width, size_t keys,
                          double scale)
{
    double *weights = checked(malloc(keys * sizeof *weights));
    double largest = -INFINITY, total = 0;
    memset(y, 0, TDM_HEAD * sizeof *y);
    for (size_t i = 0; i < keys; i++) {
        weights[i] = 0;
        for (size_t d = 0; d < TDM_HEAD; d++)
            weights[i] += (double)q[d] * (double)k[i * 3 * width + d] * scale;
        largest = fmax(largest, weights[i]);
    }
    for (size_t i = 0; i < keys; i++)
        total += weights[i] = exp(weights[i] - largest);
    for (size_t i = 0; i < keys; i++)
        for (size_t d = 0; d < TDM_HEAD; d++)
            y[d] += weights[i] / total * (double)k[i * 3 * width + width + d];
    free(weights);
}

/* Rows first .. n - 1 of a text of n; row r sees keys 0 .. r + extra, at most all. free() it. */
static double *reference(const float *qkv, size_t n, size_t width, size_t first, size_t extra,
                         double scale)
{
    double *y = checked(malloc((n - first) * width * sizeof *y));
    for (size_t r = first; r < n; r++)
        for (size_t h = 0; h < width; h += TDM_HEAD)
            reference_row(y + (r - first) * width + h, qkv + r * 3 * width + h, qkv + width + h,
                          width, r + extra < n ? r + extra + 1 : n, scale);
    return y;
}

/* Text i of y; a wrong scale or a mask that is off by one must be told apart. */
static void check_text(kernel k, const texts *t, int i, const float *y, record *r)
{
    const size_t n = length_of(t, i), width = (size_t)t->heads * TDM_HEAD;
    const size_t rows = rows_of_text(k, t, i), skip = n - rows, extra = k == PACKED ? n : 0;
    float *seen = seen_qkv(t, i);
    char name[32];
    snprintf(name, sizeof name, "%d heads, %zu keys", t->heads, n);
    double *want = reference(seen, n, width, skip, extra, 0.125);
    double *scaled = reference(seen, n, width, skip, extra, 0.135);
    double *masked = reference(seen, n, width, skip, extra ? 0 : 1, 0.125);
    note(r, name, y, want, rows * width);
    if (n > 1 && error_of(y, scaled, rows * width) <= r->tolerance)
        fail_msg("%s, %s: a wrong scale is not noticed", r->what, name);
    if (n > 1 && k != DECODE && error_of(y, masked, rows * width) <= r->tolerance)
        fail_msg("%s, %s: a wrong mask is not noticed", r->what, name);
    free(masked);
    free(scaled);
    free(want);
    free(seen);
}

static void check_pair(kernel k, tdm_dtype act, tdm_dtype cache)
{
    char what[64];
    record r = {what, act, tolerance(act), 0, 0};
    snprintf(what, sizeof what, "%s, keys %s", NAMES[k], tdm_dtype_name(cache));
    for (int heads = 1; heads <= 3; heads += 2) {
        texts t = make_texts(LENGTHS, COUNT(LENGTHS), heads, act, cache);
        float *y = run(k, &t);
        for (int i = 0; i < t.n; i++)
            check_text(k, &t, i, y + at_text(k, &t, i), &r);
        free(y);
        free(t.qkv);
    }
    print_record(&r);
}

static void attention_matches_float64(void **state)
{
    (void)state;
    for (int k = PREFILL; k <= CAUSAL; k++)
        for (size_t a = 0; a < COUNT(DTYPES); a++)
            for (size_t c = 0; c < COUNT(DTYPES); c++)
                if (k == PREFILL || k == DECODE || a == c)
                    check_pair((kernel)k, DTYPES[a], DTYPES[c]);
}

/* ---- bits ---- */

static void assert_bits(const float *got, const float *want, size_t n, const char *what, int i)
{
    for (size_t j = 0; j < n; j++)
        if (memcmp(got + j, want + j, sizeof *got))
            fail_msg("%s, text %d: element %zu is %.9g, want %.9g", what, i, j, (double)got[j],
                     (double)want[j]);
}

/* Each text alone, in another slot, has the bits that it has among the others. */
static void check_alone(kernel k, tdm_dtype act, tdm_dtype cache)
{
    texts t = make_texts(LENGTHS, 5, 2, act, cache);
    const size_t width = (size_t)t.heads * TDM_HEAD;
    float *y = run(k, &t);
    for (int i = 0; i < t.n; i++) {
        const int length = (int)length_of(&t, i);
        texts one = make_texts(&length, 1, t.heads, act, cache);
        memcpy(one.qkv, text_qkv(&t, i), (size_t)length * 3 * width * sizeof *one.qkv);
        one.slots[0] = i;
        float *alone = run(k, &one);
        assert_bits(alone, y + at_text(k, &t, i), rows_of_text(k, &t, i) * width, NAMES[k], i);
        free(alone);
        free(one.qkv);
    }
    free(y);
    free(t.qkv);
}

static void neighbours_do_not_matter(void **state)
{
    (void)state;
    for (int k = PREFILL; k <= CAUSAL; k++)
        for (size_t a = 0; a < COUNT(DTYPES); a++) {
            check_alone((kernel)k, DTYPES[a], DTYPES[a]);
            if (k == PREFILL || k == DECODE)
                check_alone((kernel)k, DTYPES[a], DTYPES[(a + 1) % COUNT(DTYPES)]);
        }
}

/* One text of NaN changes no other text's bits, and is NaN itself. */
static void check_nan(kernel k, tdm_dtype act)
{
    enum { BAD = 3 };
    texts t = make_texts(LENGTHS, 5, 2, act, act);
    const size_t width = (size_t)t.heads * TDM_HEAD;
    float *clean = run(k, &t);
    memset(t.qkv + (size_t)t.starts[BAD] * 3 * width, 0xff,
           length_of(&t, BAD) * 3 * width * sizeof *t.qkv);
    float *y = run(k, &t);
    for (int i = 0; i < t.n; i++) {
        const size_t at = at_text(k, &t, i), n = rows_of_text(k, &t, i) * width;
        if (i != BAD)
            assert_bits(y + at, clean + at, n, "beside a NaN", i);
        for (size_t j = 0; i == BAD && j < n; j++)
            assert_true(isnan(y[at + j]));
    }
    free(clean);
    free(y);
    free(t.qkv);
}

static void a_nan_stays_in_its_text(void **state)
{
    (void)state;
    for (int k = PREFILL; k <= CAUSAL; k++)
        for (size_t a = 0; a < COUNT(DTYPES); a++)
            check_nan((kernel)k, DTYPES[a]);
}

/* Two texts in steps: the first of cuts[0] rows, then cuts[1], the last repeats. The second text is
 * one step behind, so that steps hold texts of different places, and one of no rows. */
static void check_cut(const texts *t, const float *whole, const int *cuts)
{
    enum { STEPS = 256 };
    const size_t width = (size_t)t->heads * TDM_HEAD;
    test_cache cache = open_cache(t);
    int done[2] = {0};
    for (int s = 0; s < STEPS && (done[0] < t->starts[1] || done[1] < (int)length_of(t, 1)); s++) {
        int n[2] = {0};
        for (int i = 0; i < 2; i++) {
            const int left = (int)length_of(t, i) - done[i], cut = cuts[s - i > 0];
            n[i] = s < i ? 0 : cut < left ? cut : left;
        }
        const size_t kept = device_arrays;
        float *y = run_ragged(PREFILL, t, &cache, done, n);
        for (int i = 0; i < 2; i++)
            assert_bits(y + (i ? (size_t)n[0] * width : 0),
                        whole + at_text(PREFILL, t, i) + (size_t)done[i] * width,
                        (size_t)n[i] * width, "cut", i);
        for (int i = 0; i < 2; i++)
            done[i] += n[i];
        while (device_arrays > kept)
            ASSERT_CUDA(cudaFree(device_memory[--device_arrays]));
        free(y);
    }
    check_cache(&cache, t);
    free_device();
}

static void cuts_do_not_matter(void **state)
{
    static const int CUTS[][2] = {{1, 70}, {63, 64}, {64, 65}, {65, 1}, {130, 7}};
    static const int TWO[] = {140, 77};
    (void)state;
    for (size_t a = 0; a < COUNT(DTYPES); a++)
        for (size_t c = 0; c < COUNT(DTYPES); c++) {
            texts t = make_texts(TWO, 2, 1, DTYPES[a], DTYPES[c]);
            float *whole = run(PREFILL, &t);
            for (size_t i = 0; i < COUNT(CUTS); i++)
                if (a == c || i == 0)
                    check_cut(&t, whole, CUTS[i]);
            free(whole);
            free(t.qkv);
        }
}

/* ---- refusals ---- */

static void what_cannot_be_done_is_refused(void **state)
{
    (void)state;
    float *const filler = nans(1 << 14), *const p = on_device(filler, 1 << 16);
    free(filler);
    const tdm_mat y = {p, 2, 64, TDM_F16, 0}, x = {p, 2, 192, TDM_F16, 0};
    const tdmk_cache cache = {p, TDM_F16, 2, 1, 4, 2};
    const tdm_step step = {.n_rows = 2,
                           .n_seqs = 2,
                           .longest = 1,
                           .positions = (int32_t *)p,
                           .slots = (int32_t *)p,
                           .pages = (int32_t *)p};
    tdm_step ragged = step, none = {0};
    ragged.starts = (int32_t *)p;
    const tdm_mat odd = {p, 2, 60, TDM_F16, 0}, wide = {p, 2, 128, TDM_F16, 0};
    const tdm_mat off = {(char *)p + 8, 2, 64, TDM_F16, 0}, other = {p, 2, 64, TDM_BF16, 0};
    const tdm_mat few = {p, 1, 64, TDM_F16, 0}, gap = {p, 2, 64, TDM_F16, 68};
    const tdm_mat bad[] = {odd, wide, off, other, few, gap};
    for (size_t i = 0; i < COUNT(bad); i++) {
        ASSERT_REFUSED(tdmk_attend_decode(bad[i], x, cache, 0, &step, stream));
        ASSERT_REFUSED(tdmk_attend_prefill(bad[i], x, cache, 0, &ragged, stream));
        ASSERT_REFUSED(tdmk_attend_packed(bad[i], x, &ragged, true, stream));
    }
    ASSERT_REFUSED(tdmk_attend_decode(y, x, cache, 2, &step, stream));
    ASSERT_REFUSED(tdmk_attend_decode(y, x, cache, 0, &ragged, stream));
    ASSERT_REFUSED(tdmk_attend_prefill(y, x, cache, -1, &ragged, stream));
    ASSERT_REFUSED(tdmk_attend_prefill(y, x, cache, 0, &step, stream));
    ASSERT_REFUSED(tdmk_attend_packed(y, x, &step, false, stream));
    ASSERT_CUDA(tdmk_attend_decode(y, x, cache, 0, &none, stream));
    ASSERT_CUDA(tdmk_attend_prefill(y, x, cache, 0, &none, stream));
    ASSERT_CUDA(tdmk_attend_packed(y, x, &none, true, stream));
    free_device();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_matches_float64),
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(a_nan_stays_in_its_text),
        cmocka_unit_test(cuts_do_not_matter),
        cmocka_unit_test(what_cannot_be_done_is_refused),
    };
    if (!has_device())
        return status_without_device();
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
