/* tests/emu/test_attention_kernels.c - the attention kernels against float64, and the promise that
 * a row's bits depend on its text alone. Runs on a GPU as well. */
#include "tests/emu/attention_texts.h"

static const tdm_dtype DTYPES[] = {TDM_F32, TDM_F16, TDM_BF16};
/* Is there where the device is emulated, which is too slow for texts of full length. */
extern long tdm_emu_allocations(void) __attribute__((weak));

static const int LENGTHS[] = {17, 1, 200, 64, 65, 2, 16, 130, 15, 63};

/* Inputs are exact and sums are f32, so what is left in 16 bits is the rounding of the result, and
 * on the tensor cores that of the weights, which is of the same size. In f32 a score s is off by a
 * few s * 2^-24, which the exponential makes relative. */
static double tolerance(tdm_dtype act)
{
    return unit_of(act) * (act == TDM_F32 ? 128 : 4);
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

/* Every 31st row from the last, and every sixth head, of texts as long as GPT-2 1558M takes and as
 * wide. */
static void check_long(kernel k, const int *lengths, int heads, tdm_dtype act, tdm_dtype cache)
{
    enum { ROW_STEP = 31, HEAD_STEP = 6 };
    char what[64];
    double want[TDM_HEAD];
    record r = {what, act, tolerance(act), 0, 0};
    snprintf(what, sizeof what, "long, %s, keys %s", NAMES[k], tdm_dtype_name(cache));
    texts t = make_texts(lengths, 2, heads, act, cache);
    const size_t width = (size_t)heads * TDM_HEAD;
    float *y = run(k, &t);
    for (int i = 0; i < t.n; i++) {
        const size_t n = length_of(&t, i), rows = rows_of_text(k, &t, i);
        const float *of_text = y + at_text(k, &t, i);
        float *seen = seen_qkv(&t, i);
        for (size_t left = rows; left > 0; left -= left > ROW_STEP ? ROW_STEP : left)
            for (size_t h = 0; h < width; h += HEAD_STEP * TDM_HEAD) {
                const size_t row = left - 1, keys = k == PACKED ? n : n - rows + left;
                reference_row(want, seen + (n - rows + row) * 3 * width + h, seen + width + h,
                              width, keys, 0.125);
                note(&r, "a row", of_text + row * width + h, want, TDM_HEAD);
            }
        free(seen);
    }
    print_record(&r);
    free(y);
    free(t.qkv);
}

/* In full on a GPU, and where TDM_LONG_TEXTS is set; else with a few pages more than above. */
static void long_texts_match_float64(void **state)
{
    (void)state;
    const bool full = !tdm_emu_allocations || getenv("TDM_LONG_TEXTS");
    const int lengths[] = {full ? 1024 : 321, full ? 513 : 66}, heads = full ? 25 : 1;
    for (int k = PREFILL; k <= CAUSAL; k++)
        for (size_t a = 0; a < COUNT(DTYPES); a++)
            check_long((kernel)k, lengths, heads, DTYPES[a], DTYPES[a]);
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

/* Pages whose elements are beyond 2^31 from the cache's first: there is no memory for the pages
 * before them, which nothing may touch. */
static void far_pages_are_found(void **state)
{
    enum { HEADS = 2 };
    (void)state;
    for (int k = PREFILL; k <= DECODE; k++)
        for (size_t c = 0; c < COUNT(DTYPES); c++) {
            texts t = make_texts(LENGTHS, 5, HEADS, TDM_F16, DTYPES[c]);
            float *near = run((kernel)k, &t);
            t.first_page = (int32_t)(((size_t)1 << 31) / page_elements(HEADS));
            float *far = run((kernel)k, &t);
            for (int i = 0; i < t.n; i++) {
                const size_t at = at_text((kernel)k, &t, i);
                assert_bits(far + at, near + at, rows_of_text((kernel)k, &t, i) * HEADS * TDM_HEAD,
                            NAMES[k], i);
            }
            free(far);
            free(near);
            free(t.qkv);
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

/* A NaN in one element of a query, key or value: the rows that see it are NaN, no softmax hides it;
 * rows before its page, and of a query all others, are not. */
static void check_hidden(kernel k, tdm_dtype act, int part, int place)
{
    enum { N = 70, E = TDM_HEAD, AT = 5 };
    static const int LENGTH = N;
    texts t = make_texts(&LENGTH, 1, 1, act, act);
    t.qkv[place * 3 * E + part * E + AT] = NAN;
    float *y = run(k, &t);
    for (int r = k == DECODE ? N - 1 : 0; r < N; r++) {
        const bool seen = part == 0 ? r == place : k == PACKED || r >= place;
        const bool clean = part == 0 ? r != place : k != PACKED && r < place / TDM_PAGE * TDM_PAGE;
        const float value = y[(k == DECODE ? 0 : r) * E + AT];
        if ((seen && !isnan(value)) || (clean && isnan(value)))
            fail_msg("%s %s: NaN in part %d of row %d: row %d is %g", NAMES[k], tdm_dtype_name(act),
                     part, place, r, (double)value);
    }
    free(y);
    free(t.qkv);
}

static void nans_are_not_hidden(void **state)
{
    static const int PLACES[] = {0, 40, 66, 69};
    (void)state;
    for (int k = PREFILL; k <= CAUSAL; k++)
        for (size_t a = 0; a < COUNT(DTYPES); a++)
            for (int part = 0; part < 3; part++)
                for (size_t i = 0; i < COUNT(PLACES); i++)
                    check_hidden((kernel)k, DTYPES[a], part, PLACES[i]);
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
        cmocka_unit_test(long_texts_match_float64),
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(far_pages_are_found),
        cmocka_unit_test(a_nan_stays_in_its_text),
        cmocka_unit_test(cuts_do_not_matter),
        cmocka_unit_test(nans_are_not_hidden),
        cmocka_unit_test(what_cannot_be_done_is_refused),
    };
    if (!has_device())
        return status_without_device();
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
