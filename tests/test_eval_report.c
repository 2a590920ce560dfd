/* The pictures and the page of tandem eval: well-formed and still, whatever is in results and names; what they say of
 * some results that can be worked out by hand. */
#include "tests/wellformed.h"

#include <float.h>
#include <stdio.h>

#include "tools/eval.h"
#include "tools/eval_markup.h"
#include "tools/eval_wilson.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { MOST_FIELDS = 20 };

static const char HOSTILE[] = "<script>alert(\"1\")</script> & 'x' ]]> \x01\x7f \xff\xfe \xc3\xa9 \xef\xbf\xbf";
static const char *const NAMES[] = {"fake", "fast_detect", "entropy"};
static const eval_options OPTIONS = {.fields = NAMES, .n_fields = 3, .validation = 0.2,
                                     .evaluate = {.fprs = {0.05, 0.01, 0.001}, .n_fprs = 3},
                                     .bootstrap = {.confidence = 0.95, .replicates = 1000}};

static tdm_interval around(double x)
{
    return (tdm_interval){x - 0.02, x + 0.01};
}

/* A made-up result of 400 humans and 200 machines. */
static eval_result ordinary(const char *field)
{
    eval_result r = {.field = field, .is_probability = true, .humans = 400, .machines = 200, .threshold = 0.5, .low = 0,
                     .high = 1, .n_curve = 3, .fitted_on = 120, .best_threshold = 0.62, .n_buckets = 3,
                     .length_field = "used_tokens"};
    const tdm_roc_point curve[] = {{INFINITY, 0, 0}, {0.7, 0.25, 0.5}, {0, 1, 1}};
    memcpy(r.curve, curve, sizeof curve);
    r.values = (tdm_values){.auroc = 0.875, .average_precision = 0.8, .pr_auc = 0.79, .accuracy = 0.81,
                            .balanced_accuracy = 0.8, .precision = 0.7, .recall = 0.75, .f1 = 0.72,
                            .confusion = {150, 50, 360, 40},
                            .at_fpr = {{0.8, 0.6, 0.05}, {0.9, 0.4, 0.01}, {0.97, 0.2, 0}}};
    r.intervals = (tdm_intervals){.auroc = around(0.875), .accuracy = around(0.81), .tpr = {around(0.6), around(0.4), around(0.2)}};
    r.best = r.values;
    r.best_intervals = r.intervals;
    for (int i = 0; i < 3; i++)
        r.buckets[i] = (eval_bucket){.from = 100 * i, .to = i < 2 ? 100 * (i + 1) : INT64_MAX, .humans = 130, .machines = 60,
                                     .is_measured = true, .values = r.values, .intervals = r.intervals};
    for (int i = 0; i < EVAL_HISTOGRAM; i++) {
        r.human_histogram[i] = i < 20 ? 20 : 0;
        r.machine_histogram[i] = i < 20 ? 0 : 10;
    }
    for (int i = 0; i < TDM_CALIBRATION_BINS; i++) {
        r.calibration.bins[i].n = 60;
        r.calibration.bins[i].mean_score = 0.05 + 0.1 * i;
        r.calibration.bins[i].machine = 0.1 * i;
    }
    return r;
}

/* ---- results that are not ordinary ---- */

static void make_zero(eval_result *r)
{
    *r = (eval_result){.field = r->field, .is_probability = true, .threshold = NAN};
}

static void make_one_point(eval_result *r)
{
    r->n_curve = 1;
    r->n_buckets = 1;
    r->buckets[0].to = INT64_MAX;
    r->low = r->high = 0.3;
}

static void make_nan(eval_result *r)
{
    const tdm_interval none = {NAN, NAN};
    r->values = (tdm_values){.auroc = NAN, .accuracy = NAN, .at_fpr = {{NAN, NAN, NAN}, {NAN, NAN, NAN}, {NAN, NAN, NAN}}};
    r->intervals = (tdm_intervals){.auroc = none, .accuracy = none, .tpr = {none, none, none}};
    r->best = r->values;
    r->best_intervals = r->intervals;
    r->best_threshold = NAN;
    r->low = r->high = NAN;
    for (size_t i = 0; i < r->n_curve; i++)
        r->curve[i] = (tdm_roc_point){NAN, NAN, NAN};
    for (int i = 0; i < r->n_buckets; i++) {
        r->buckets[i].values = r->values;
        r->buckets[i].intervals = r->intervals;
    }
    for (int i = 0; i < TDM_CALIBRATION_BINS; i++)
        r->calibration.bins[i].mean_score = r->calibration.bins[i].machine = NAN;
    r->calibration.ece = NAN;
}

static void make_infinite(eval_result *r)
{
    r->best_threshold = -INFINITY;
    r->threshold = INFINITY;
    for (int i = 0; i < 3; i++)
        r->values.at_fpr[i] = (tdm_operating_point){INFINITY, 0, 0};
    r->low = -INFINITY;
    r->high = INFINITY;
}

static void make_wide(eval_result *r)
{
    r->low = -DBL_MAX;
    r->high = DBL_MAX;
    r->threshold = 1e300;
}

static void make_narrow(eval_result *r)
{
    r->low = 1e9;
    r->high = nextafter(1e9, 2e9);
}

static void make_tiny(eval_result *r)
{
    r->low = 0;
    r->high = 5e-324;
}

static void make_many_buckets(eval_result *r)
{
    r->n_buckets = EVAL_BUCKETS_MOST + 1;
    for (int i = 0; i < r->n_buckets; i++)
        r->buckets[i] = (eval_bucket){.from = i, .to = i < EVAL_BUCKETS_MOST ? i + 1 : INT64_MAX, .is_measured = i % 2,
                                      .values = r->values, .intervals = r->intervals};
}

static void make_no_lengths(eval_result *r)
{
    r->n_buckets = 0;
    r->length_field = NULL;
    r->fitted_on = 0;
    r->is_probability = false;
}

static void make_turned(eval_result *r)
{
    r->is_turned = r->is_suspicious = true;
    r->excluded = 7;
}

static void make_hostile(eval_result *r)
{
    r->field = HOSTILE;
    r->length_field = HOSTILE;
}

static void make_huge(eval_result *r)
{
    r->humans = r->machines = INT64_MAX;
    r->human_histogram[3] = INT64_MAX;
    r->calibration.bins[3].n = INT64_MAX;
}

static const struct {
    const char *name;
    void (*make)(eval_result *r);
} KINDS[] = {
    {"zero", make_zero},       {"one point", make_one_point},         {"nan", make_nan},
    {"infinite", make_infinite}, {"wide", make_wide},                 {"narrow", make_narrow},
    {"tiny", make_tiny},       {"many buckets", make_many_buckets},   {"no lengths", make_no_lengths},
    {"turned", make_turned},   {"hostile", make_hostile},             {"huge", make_huge},
};

/* ---- what is printed ---- */

static char *NAMED[] = {"124M", (char *)HOSTILE, "a name that is so long that no cell of the table has the room for it"};

/* A table of which a cell is missing, one has no interval and one no value. */
static eval_matrix made_matrix(eval_cell cells[9])
{
    for (int i = 0; i < 9; i++)
        cells[i] = (eval_cell){.is_there = i != 4, .value = i / 8.0, .interval = around(i / 8.0), .humans = 400, .machines = 100};
    cells[2].interval = (tdm_interval){NAN, NAN};
    cells[3].value = NAN;
    cells[5] = (eval_cell){.is_there = true, .value = INFINITY, .interval = {-INFINITY, INFINITY}};
    return (eval_matrix){.title = (char *)HOSTILE, .row_title = HOSTILE, .column_title = "texts", .n_rows = 3, .n_columns = 3,
                         .rows = NAMED, .columns = NAMED, .cells = cells, .confidence = 0.95, .source = HOSTILE, .note = HOSTILE};
}

static char *finish(tdm_buf *out, tdm_status st, const tdm_err *err)
{
    if (st != TDM_OK)
        fail_msg("%s", err->msg);
    assert_int_equal(tdm_buf_put(out, "", 1, NULL), TDM_OK);
    return out->p;
}

/* The page of n results and n_matrices tables; the caller frees it. */
static char *page(const eval_result *results, size_t n, const eval_matrix *matrices, size_t n_matrices)
{
    tdm_buf out = {0};
    tdm_err err = {0};
    return finish(&out, eval_html(&out, HOSTILE, HOSTILE, results, n, &OPTIONS, matrices, n_matrices, &err), &err);
}

enum { ROC, HISTOGRAM, CALIBRATION, BUCKETS, PICTURES };

static char *picture(int kind, const eval_result *results, size_t n)
{
    tdm_buf out = {0};
    tdm_err err = {0};
    switch (kind) {
    case ROC:
        return finish(&out, eval_svg_roc(&out, results, n, &err), &err);
    case HISTOGRAM:
        return finish(&out, eval_svg_histogram(&out, results, &err), &err);
    case CALIBRATION:
        return finish(&out, eval_svg_calibration(&out, results, &err), &err);
    default:
        return finish(&out, eval_svg_buckets(&out, results, n, &err), &err);
    }
}

static void check_all(const eval_result *results, size_t n)
{
    for (int kind = 0; kind < PICTURES; kind++) {
        if (n == 0 && (kind == HISTOGRAM || kind == CALIBRATION))
            continue;
        char *text = picture(kind, results, n);
        assert_wellformed(text, strlen(text));
        assert_int_equal(strncmp(text, "<svg xmlns=", 11), 0);
        assert_non_null(strstr(text, "role=\"img\""));
        assert_non_null(strstr(text, "<title>"));
        assert_non_null(strstr(text, "<desc>"));
        free(text);
    }
    char *text = page(results, n, NULL, 0);
    assert_wellformed(text, strlen(text));
    assert_null(strstr(text, "http://") && !strstr(text, "http://www.w3.org/2000/svg") ? text : NULL);
    free(text);
}

static void test_any_result_is_wellformed(void **state)
{
    (void)state;
    eval_result results[3];
    for (size_t i = 0; i < COUNT(KINDS); i++) {
        print_message("%s\n", KINDS[i].name);
        for (size_t k = 0; k < 3; k++)
            results[k] = ordinary(NAMES[k]);
        KINDS[i].make(&results[1]);
        check_all(results, 3);
        check_all(&results[1], 1);
    }
}

static void test_no_result_and_many(void **state)
{
    (void)state;
    eval_result *results = calloc(MOST_FIELDS, sizeof *results);
    assert_non_null(results);
    check_all(NULL, 0);
    for (size_t i = 0; i < MOST_FIELDS; i++)
        results[i] = ordinary("logit_fake");
    check_all(results, MOST_FIELDS);
    free(results);
}

static void test_any_matrix_is_wellformed(void **state)
{
    (void)state;
    eval_cell cells[9], none[1] = {{0}};
    const eval_matrix m[] = {made_matrix(cells), {.title = "", .row_title = "", .column_title = "", .cells = none},
                             {.title = "one", .row_title = "r", .column_title = "c", .n_rows = 1, .n_columns = 1, .rows = NAMED,
                              .columns = NAMED, .cells = none}};
    for (size_t i = 0; i < COUNT(m); i++) {
        tdm_buf out = {0};
        tdm_err err = {0};
        char *text = finish(&out, eval_svg_matrix(&out, &m[i], &err), &err);
        assert_wellformed(text, strlen(text));
        free(text);
    }
    char *text = page(NULL, 0, m, COUNT(m));
    assert_wellformed(text, strlen(text));
    free(text);
}

static void test_the_same_twice(void **state)
{
    (void)state;
    eval_cell cells[9];
    const eval_matrix m = made_matrix(cells);
    const eval_result r = ordinary("fake");
    char *a = page(&r, 1, &m, 1), *b = page(&r, 1, &m, 1);
    assert_string_equal(a, b);
    free(a);
    free(b);
}

/* ---- what it says ---- */

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in it", part);
}

static void test_text_is_escaped(void **state)
{
    (void)state;
    tdm_buf out = {0};
    markup m = {.out = &out};
    markup_text(&m, HOSTILE);
    finish(&out, m.st, NULL);
    assert_string_equal(out.p, "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39; ]]&gt; "
                               "\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd \xc3\xa9 \xef\xbf\xbd");
    tdm_buf_free(&out);
}

static void test_text_is_cut(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t most;
        const char *want;
    } CASES[] = {{"abc", 3, "abc"}, {"abcd", 3, "ab\xe2\x80\xa6"}, {"\xc3\xa9\xc3\xa9\xc3\xa9", 3, "\xc3\xa9\xc3\xa9\xc3\xa9"},
                 {"\xc3\xa9\xc3\xa9\xc3\xa9", 2, "\xc3\xa9\xe2\x80\xa6"}, {"", 1, ""}, {"<<<", 2, "&lt;\xe2\x80\xa6"}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_buf out = {0};
        markup m = {.out = &out};
        markup_cut(&m, CASES[i].text, CASES[i].most);
        assert_string_equal(finish(&out, m.st, NULL), CASES[i].want);
        tdm_buf_free(&out);
    }
}

static void test_places(void **state)
{
    (void)state;
    eval_result r = ordinary("fake");
    char *roc = picture(ROC, &r, 1), *histogram = picture(HISTOGRAM, &r, 1), *calibration = picture(CALIBRATION, &r, 1);
    /* of a plot of 390 x 390 at (60, 44) */
    assert_has(roc, "d=\"M60.0 434.0L157.5 239.0L450.0 44.0\"");
    assert_has(roc, "0.875 (0.855 to 0.885)");
    /* 5 % of the class a step, and the axis ends at 5 % */
    assert_has(histogram, "class=\"area f0 s0\" stroke-width=\"1.5\" d=\"M60.0 308.0V98.0H74.0V98.0H88.0");
    assert_has(histogram, "V308.0H606.0V308.0H620.0V308.0Z");
    assert_has(histogram, "threshold 0.5");
    assert_has(histogram, "fitted 0.62");
    /* bin [0.5, 0.6): at 0.55 of the width of 380, at half of the height of 340 */
    assert_has(calibration, "cx=\"269.0\" cy=\"214.0\"");
    free(roc);
    free(histogram);
    free(calibration);
    make_one_point(&r); /* all values are 0.3: at the left edge, where their step is */
    r.threshold = 0.3;
    histogram = picture(HISTOGRAM, &r, 1);
    assert_has(histogram, "<text class=\"soft\" x=\"60.0\" y=\"326.0\" text-anchor=\"middle\">0.3<");
    free(histogram);
    make_nan(&r);
    calibration = picture(CALIBRATION, &r, 1);
    assert_null(strstr(calibration, "<circle"));
    free(calibration);
}

/* Below half a share of chance the axis begins at 0, and else at 50 %. */
static void test_lengths_begin_where_they_have_to(void **state)
{
    (void)state;
    eval_result r = ordinary("fake");
    char *text = picture(BUCKETS, &r, 1);
    assert_has(text, ">0.6<");
    assert_null(strstr(text, ">0.2<"));
    assert_has(text, ">200 and more<");
    assert_has(text, ">0 to 99<");
    assert_has(text, ">used_tokens<");
    assert_has(text, "cx=\"153.3\" cy=\"125.5\""); /* AUROC 0.875 on a height of 190 from 0.5 to 1 */
    assert_has(text, "cx=\"153.3\" cy=\"386.2\""); /* accuracy 0.81 likewise, below it */
    free(text);
    r.buckets[1].intervals.auroc.low = 0.4;
    text = picture(BUCKETS, &r, 1);
    assert_has(text, ">0.2<");
    free(text);
}

/* 400 humans cannot speak about 0.1 %; 1000 can. */
static void test_too_fine_a_rate_is_marked(void **state)
{
    (void)state;
    static const struct {
        int64_t humans;
        const char *want;
    } CASES[] = {{19, "shows a rate below 16.82 %"}, {400, "shows a rate below 0.95 %"}, {999, "shows a rate below 0.38 %"}, {1000, NULL}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        eval_result r = ordinary("fake");
        r.humans = CASES[i].humans;
        char *text = page(&r, 1, NULL, 0);
        if (CASES[i].want) {
            assert_has(text, CASES[i].want);
            assert_has(text, "0.1 % \xe2\x80\xa0");
        } else {
            assert_null(strstr(text, "\xe2\x80\xa0"));
        }
        free(text);
    }
}

static void test_rules(void **state)
{
    (void)state;
    eval_result r = ordinary("fake");
    r.values.at_fpr[2].threshold = INFINITY;
    char *text = page(&r, 1, NULL, 0);
    assert_has(text, "<th>\xe2\x89\xa5 0.5, all texts</th><th>\xe2\x89\xa5 0.62, fitted on 120 texts");
    assert_has(text, "<td>no value</td>");
    assert_has(text, "150 of 200 machine texts found; 40 of 400 human texts accused");
    assert_null(strstr(text, "points the other way than said"));
    free(text);
    make_turned(&r);
    r.best_threshold = INFINITY;
    text = page(&r, 1, NULL, 0);
    assert_has(text, "<th>\xe2\x89\xa4 0.5, all texts</th><th>all values, fitted on 120 texts");
    assert_has(text, "points the other way than said");
    assert_has(text, "7 bad records are left out");
    free(text);
}

static void test_cells_of_a_heat_map(void **state)
{
    (void)state;
    eval_cell cells[9];
    tdm_buf out = {0};
    tdm_err err = {0};
    eval_matrix m = made_matrix(cells);
    m.source = NULL;
    char *text = finish(&out, eval_svg_matrix(&out, &m, &err), &err);
    assert_has(text, ">87.5</text><text font-size=\"11\"");
    assert_has(text, ">85.5 to 88.5</text>");
    assert_has(text, "fill=\"#08346b\""); /* the whole of the scale: 100 % */
    assert_has(text, "124M, 124M: 0.00 %, -2.00 to 1.00; 400 human and 100 machine texts");
    size_t none = 0;
    for (const char *p = text; (p = strstr(p, "class=\"none\"")); p++)
        none++;
    assert_int_equal(none, 3); /* not there, NaN and infinite */
    free(text);
}

static double luminance(unsigned rgb)
{
    static const double WEIGHTS[] = {0.0722, 0.7152, 0.2126};
    double sum = 0;
    for (int i = 0; i < 3; i++, rgb >>= 8) {
        const double c = (rgb & 255) / 255.0;
        sum += WEIGHTS[i] * (c <= 0.04045 ? c / 12.92 : pow((c + 0.055) / 1.055, 2.4));
    }
    return sum;
}

/* Text on every shade has the contrast that WCAG 2 asks of small print, 4.5; and more is darker. */
static void test_shades_are_readable(void **state)
{
    (void)state;
    double before = 1;
    for (int i = 0; i <= 200; i++) {
        eval_cell cell = {.is_there = true, .value = 0.5 + i / 400.0, .interval = {NAN, NAN}};
        const eval_matrix m = {.title = "t", .row_title = "r", .column_title = "c", .n_rows = 1, .n_columns = 1,
                               .rows = NAMED, .columns = NAMED, .cells = &cell};
        tdm_buf out = {0};
        tdm_err err = {0};
        char *text = finish(&out, eval_svg_matrix(&out, &m, &err), &err), *shade = strstr(text, "rx=\"2\" fill=\"#");
        assert_non_null(shade);
        const double light = luminance((unsigned)strtoul(shade + 14, NULL, 16));
        const double ink = strstr(shade, "fill=\"#fff\"") ? 1 : 0;
        assert_non_null(strstr(shade, ink > 0 ? "fill=\"#fff\"" : "fill=\"#000\""));
        const double contrast = (fmax(light, ink) + 0.05) / (fmin(light, ink) + 0.05);
        if (contrast < 4.5 || light > before)
            fail_msg("%.1f %%: contrast %.2f, luminance %.3f after %.3f", 100 * cell.value, contrast, light, before);
        before = light;
        free(text);
    }
}

/* Wilson's interval, from the worked values of statsmodels' proportion_confint(k, n, method="wilson"). */
static void test_wilson(void **state)
{
    (void)state;
    static const struct {
        double k, n, low, high;
    } CASES[] = {{0, 400, 0, 0.009512}, {400, 400, 0.990488, 1}, {10, 20, 0.299298, 0.700702}, {1, 1, 0.206549, 1}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        const tdm_interval w = eval_wilson(CASES[i].k, CASES[i].n);
        assert_true(fabs(w.low - CASES[i].low) < 1e-6);
        assert_true(fabs(w.high - CASES[i].high) < 1e-6);
    }
}

/* The walk of the other tests sees what it is there for. */
static void test_faults_are_seen(void **state)
{
    (void)state;
    static const char *const BAD[] = {
        "<a>", "<a></b>", "</a>", "<a b></a>", "<a b=c></a>", "<a b=\"<\"/>", "&nbsp;", "&", "\x01", "\xff", "<script></script>",
        "<a href=\"b\"/>", "<a onclick=\"b\"/>", "<p x=\"nan\"/>", "<p d=\"M1 inf\"/>", "<p y=\"9999999\"/>", "<a <b/>",
    };
    const char *place;
    for (size_t i = 0; i < COUNT(BAD); i++)
        if (!wellformed_fault(BAD[i], strlen(BAD[i]), &place))
            fail_msg("%s passed", BAD[i]);
    assert_null(wellformed_fault("<a b=\"&lt;\"><c/>x</a>", 21, &place));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults_are_seen),
        cmocka_unit_test(test_any_result_is_wellformed),
        cmocka_unit_test(test_no_result_and_many),
        cmocka_unit_test(test_any_matrix_is_wellformed),
        cmocka_unit_test(test_the_same_twice),
        cmocka_unit_test(test_text_is_escaped),
        cmocka_unit_test(test_text_is_cut),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_lengths_begin_where_they_have_to),
        cmocka_unit_test(test_too_fine_a_rate_is_marked),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_cells_of_a_heat_map),
        cmocka_unit_test(test_shades_are_readable),
        cmocka_unit_test(test_wilson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
