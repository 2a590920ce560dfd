/* tests/emu/attention_texts.h - batches of texts, their cache, and one step of attention over them.
 *
 * Every text has its own pages, in a shuffled order; all else in the cache is NaN and must still be
 * NaN afterwards. Rows of matrices have gaps of NaN. */
#ifndef TESTS_EMU_ATTENTION_TEXTS_H
#define TESTS_EMU_ATTENTION_TEXTS_H

#include "tests/emu/kernel_test.h"

static cudaStream_t stream;

/* n numbers without a value; free() them. */
static inline float *nans(size_t n)
{
    float *x = checked(malloc(n * sizeof *x + 1));
    memset(x, 0xff, n * sizeof *x);
    return x;
}

static inline void *narrowed_on_device(const float *x, size_t n, tdm_dtype dtype)
{
    void *bytes = checked(malloc(n * sizeof *x + 1));
    narrow(bytes, x, dtype, n);
    void *p = on_device(bytes, n * tdm_dtype_size(dtype));
    free(bytes);
    return p;
}

static inline float *fetch_floats(const void *p, size_t n, tdm_dtype dtype)
{
    const tdm_mat m = {(void *)p, 1, (int32_t)n, dtype, 0};
    return values_of(m);
}

static inline void round_to(float *x, size_t n, tdm_dtype dtype)
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
    int n_slots, text_pages;
    int32_t first_page; /* the number of the first page that there is */
    tdm_dtype act, cache;
    float *qkv; /* [rows, 3E], rounded to act */
} texts;

static inline texts make_texts(const int *lengths, int n, int heads, tdm_dtype act, tdm_dtype cache)
{
    texts t = {.n = n, .heads = heads, .act = act, .cache = cache, .text_pages = TEXT_PAGES};
    const size_t width = (size_t)heads * TDM_HEAD;
    for (int i = 0; i < n; i++)
        if (lengths[i] > t.text_pages * TDM_PAGE)
            t.text_pages = (lengths[i] + TDM_PAGE - 1) / TDM_PAGE;
    t.n_slots = t.text_pages > TEXT_PAGES ? n : MOST; /* long texts have no slots beside theirs */
    for (int i = 0; i < n; i++) {
        t.starts[i + 1] = t.starts[i] + lengths[i];
        t.slots[i] = (i * 7 + 3) % t.n_slots;
    }
    const size_t size = (size_t)t.starts[n] * 3 * width;
    t.qkv = random_values(size, (uint64_t)n * 31 + (uint64_t)heads, 1, 0);
    for (size_t i = 0; i < size; i++)
        if (i % (3 * width) < 2 * width)
            t.qkv[i] *= 2;
    round_to(t.qkv, size, act);
    return t;
}

static inline size_t length_of(const texts *t, int i)
{
    return (size_t)(t->starts[i + 1] - t->starts[i]);
}

static inline const float *text_qkv(const texts *t, int i)
{
    return t->qkv + (size_t)t->starts[i] * 3 * TDM_HEAD * (size_t)t->heads;
}

/* Text i as its rows see it: keys and values as the cache rounds them. The caller frees it. */
static inline float *seen_qkv(const texts *t, int i)
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
    int32_t pages[MOST * TEXT_PAGES], *device_pages;
    void *there; /* the pages that there are, `n` elements: the others are before them */
    size_t n;
} test_cache;

static inline size_t page_elements(int heads)
{
    return (size_t)LAYERS * 2 * (size_t)heads * TDM_PAGE * TDM_HEAD;
}

static inline void fill_cache(test_cache *cache, const texts *t, const float *values)
{
    const size_t before = (size_t)t->first_page * page_elements(t->heads);
    cache->there = narrowed_on_device(values, cache->n, t->cache);
    cache->c.p = (void *)((uintptr_t)cache->there - before * tdm_dtype_size(t->cache));
}

static inline test_cache open_cache(const texts *t)
{
    const int32_t pages = t->n_slots * t->text_pages;
    test_cache cache = {
        .c = {NULL, t->cache, LAYERS, t->heads, t->first_page + pages, t->text_pages}};
    assert_true(pages <= (int32_t)COUNT(cache.pages) && pages % 29);
    for (int32_t i = 0; i < pages; i++) /* each once: 29 is a prime */
        cache.pages[i] = t->first_page + (i * 29 + 11) % pages;
    cache.n = (size_t)pages * page_elements(t->heads);
    float *empty = nans(cache.n);
    fill_cache(&cache, t, empty);
    cache.device_pages = on_device(cache.pages, sizeof cache.pages);
    free(empty);
    return cache;
}

/* Where the contract says that an element is, from the first page that there is. */
static inline size_t cache_at(const test_cache *cache, const texts *t, int i, size_t key, int part,
                              size_t head, size_t d)
{
    const size_t heads = (size_t)cache->c.heads;
    const int32_t number = cache->pages[t->slots[i] * t->text_pages + (int)key / TDM_PAGE];
    const size_t page = (size_t)(number - t->first_page);
    return ((((page * LAYERS + LAYER) * 2 + (size_t)part) * heads + head) * TDM_PAGE +
            key % TDM_PAGE) *
               TDM_HEAD +
           d;
}

/* The cache with the first n - `short_of` keys of each text; all else NaN. The caller frees it. */
static inline float *cache_image(const test_cache *cache, const texts *t, size_t short_of)
{
    const size_t width = (size_t)t->heads * TDM_HEAD;
    float *image = nans(cache->n);
    for (int i = 0; i < t->n; i++) {
        float *seen = seen_qkv(t, i);
        for (size_t r = 0; r + short_of < length_of(t, i); r++)
            for (size_t c = 0; c < 2 * width; c++)
                image[cache_at(cache, t, i, r, c >= width, c % width / TDM_HEAD, c % TDM_HEAD)] =
                    seen[r * 3 * width + width + c];
        free(seen);
    }
    return image;
}

/* The cache holds all keys of all texts, and nothing else was written. */
static inline void check_cache(const test_cache *cache, const texts *t)
{
    float *got = fetch_floats(cache->there, cache->n, cache->c.dtype);
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
static inline tdm_mat device_rows(const float *x, size_t rows, size_t cols, tdm_dtype dtype)
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
static inline float *fetch_rows(tdm_mat m)
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
static inline float *run_ragged(kernel k, const texts *t, const test_cache *cache, const int *first,
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
static inline float *run_decode(const texts *t, const test_cache *cache)
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
static inline float *run(kernel k, const texts *t)
{
    test_cache cache = {0};
    float *y = NULL;
    if (k == PREFILL || k == DECODE)
        cache = open_cache(t);
    if (k == DECODE) {
        float *image = cache_image(&cache, t, 1);
        fill_cache(&cache, t, image);
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
static inline size_t at_text(kernel k, const texts *t, int i)
{
    return (size_t)(k == DECODE ? i : t->starts[i]) * (size_t)t->heads * TDM_HEAD;
}
static inline size_t rows_of_text(kernel k, const texts *t, int i)
{
    return k == DECODE ? 1 : length_of(t, i);
}

#endif
