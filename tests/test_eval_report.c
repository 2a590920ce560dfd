/* The pictures and the page of tandem eval: well-formed and still, whatever is in results and names; what they say of
 * some results that can be worked out by hand. */
#include "tests/eval_report_subject.h"
#include "tests/wellformed.h"

#include <stdio.h>

#include "tools/eval_markup.h"
#include "tools/eval_wilson.h"

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
    static const char SVG[] = "://www.w3.org/2000/svg\"";
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
    for (const char *at = text; (at = strstr(at, "://")); at++) /* nothing is loaded: the name of SVG alone */
        assert_int_equal(strncmp(at, SVG, sizeof SVG - 1), 0);
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
