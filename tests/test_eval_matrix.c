/* Tables of tandem eval: the order of names, a folder to cells, the printers, and the published figures. */
#include "tests/record_files.h"

#include <dirent.h>
#include <math.h>
#include <sys/stat.h>

#include "host/json.h"
#include "tools/eval.h"
#include "tools/eval_matrix.h"

/* ---- names ---- */

/* Each line in order. */
static const char *const ORDERED[][8] = {
    {"117M", "124M", "355M", "762M", "774M", "1542M", "1558M", NULL},
    {"124M", "355M", "774M", "1.5B", "2T", NULL},
    {"0.2M", "0.5M", "1.8M", "12M", NULL},
    {"999", "1k", "1.5K", "2000", "1M", NULL},
    {"tiny", "small", "base", "medium", "large", "xl", "xxl", NULL},
    {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", NULL},
    {"Small", "MEDIUM", "large", "apple", "lemon", "zoo", NULL},
    {"run-2", "run-10", "run-10bit", "run-1k", NULL},
    {"nucleus", "temperature-1", "top-k-4", "top-k-40", NULL},
    {"", "1", "a", "b", NULL},
    {"A", "a", "B", "b", NULL},
    {"v1.25", "v1.5", "v2", NULL}, /* decimals, not versions */
};

static void test_names_are_in_natural_order(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(ORDERED); k++)
        for (int i = 0; ORDERED[k][i]; i++)
            for (int j = 0; ORDERED[k][j]; j++) {
                const int order = matrix_compare_names(ORDERED[k][i], ORDERED[k][j]);
                if ((order > 0) - (order < 0) != (i > j) - (i < j))
                    fail_msg("%s and %s: %d", ORDERED[k][i], ORDERED[k][j], order);
            }
}

/* An order: of any three names, none goes round in a circle. */
static void test_the_order_is_total(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"large", "lemon", "medium", "1M", "1m", "1000000", "1e6", "01", "1", "1.0", "1.",
                                        ".1",    "-",     "",       "a1", "A1", "a-1",     "\xc3\xa9", "b", "1b", "1bb", "1B"};
    for (size_t i = 0; i < COUNT(NAMES); i++)
        for (size_t j = 0; j < COUNT(NAMES); j++) {
            const int ij = matrix_compare_names(NAMES[i], NAMES[j]), ji = matrix_compare_names(NAMES[j], NAMES[i]);
            assert_true((ij > 0) == (ji < 0) && (ij == 0) == (i == j));
            for (size_t k = 0; k < COUNT(NAMES); k++)
                if (ij < 0 && matrix_compare_names(NAMES[j], NAMES[k]) < 0)
                    assert_true(matrix_compare_names(NAMES[i], NAMES[k]) < 0);
        }
}

/* ---- folders ---- */

static char *below(const char *name)
{
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    return path;
}

static void make_dir(const char *name)
{
    char *path = below(name);
    assert_int_equal(mkdir(path, 0700), 0);
    free(path);
}

/* n records whose field fake is `right` for the first few of them, then `wrong`. */
static void make_scores(const char *name, int n, int n_first, double first, double rest)
{
    char *path = below(name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < n; i++)
        fprintf(f, "{\"id\": %d, \"fake\": %.3f, \"used_tokens\": %d}\n", i, i < n_first ? first : rest, 10 + i);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static void remove_below(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char *name = NULL;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        assert_true(asprintf(&name, "%s/%s", path, e->d_name) > 0);
        if (remove(name) != 0) { /* a folder that is not empty */
            remove_below(name);
            assert_int_equal(rmdir(name), 0);
        }
        free(name);
    }
    closedir(dir);
}

static const char *const FAKE[] = {"fake"}, *const LOGIT[] = {"logit"};
static const eval_options OPTIONS = {.fields = FAKE, .n_fields = 1, .threshold = NAN, .validation = 0.2,
                                     .evaluate = {.fprs = {0.1}, .n_fprs = 1},
                                     .bootstrap = {.replicates = 50, .seed = 1, .confidence = 0.9, .threads = 1}};
static const eval_sources SOURCES = {.id_key = "id", .max_line = 1 << 20, .max_ratio = 1000};

static tdm_status measure(eval_metric metric, eval_matrix *m, tdm_err *err)
{
    return eval_matrix_measure(folder, metric, &SOURCES, &OPTIONS, m, err);
}

/* Two detectors, three writers; a hole; one column with humans of its own; what a run leaves beside. */
static void make_example(void)
{
    make_dir("large");
    make_dir("small");
    make_dir("old.job");
    make_dir(".hidden");
    make_scores("old.job/x.jsonl", 1, 1, 0, 0);
    make_scores("small/human.jsonl", 100, 90, 0.1, 0.9);
    make_scores("small/355M.jsonl", 100, 80, 0.8, 0.2);
    make_scores("small/124M.jsonl", 100, 100, 0.8, 0.2);
    make_scores("small/124M.jsonl.errors.jsonl", 3, 3, 0, 0);
    make_scores("small/124M.human.jsonl", 50, 50, 0.1, 0.1);
    make_scores("small/notes.json", 3, 3, 0, 0);
    make_scores("large/human.jsonl", 100, 100, 0.1, 0.1);
    make_scores("large/1.5B.jsonl", 40, 20, 0.9, 0.05);
    make_scores("large/355M.jsonl", 100, 100, 0.9, 0.9);
    make_scores("README.md", 1, 1, 0, 0);
}

static void test_a_folder_becomes_a_table(void **state)
{
    (void)state;
    tdm_err err = {0};
    eval_matrix m = {0};
    make_example();
    if (measure(EVAL_ACCURACY, &m, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(m.title, "accuracy of fake at 0.5");
    assert_int_equal(m.n_rows, 2);
    assert_int_equal(m.n_columns, 3);
    static const char *const ROWS[] = {"small", "large"}, *const COLUMNS[] = {"124M", "355M", "1.5B"};
    for (int i = 0; i < 2; i++)
        assert_string_equal(m.rows[i], ROWS[i]);
    for (int j = 0; j < 3; j++)
        assert_string_equal(m.columns[j], COLUMNS[j]);
    static const struct {
        bool is_there;
        double value;
        int humans, machines;
    } WANT[6] = {{true, 1, 50, 100},     {true, 0.85, 100, 100}, {false, 0, 0, 0},
                 {false, 0, 0, 0},       {true, 1, 100, 100},    {true, 120 / 140.0, 100, 40}};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(m.cells[i].is_there, WANT[i].is_there);
        assert_true(fabs(m.cells[i].value - WANT[i].value) < 1e-12);
        assert_int_equal(m.cells[i].humans, WANT[i].humans);
        assert_int_equal(m.cells[i].machines, WANT[i].machines);
    }
    assert_true(m.cells[1].interval.low < 0.85 && m.cells[1].interval.high > 0.85);
    eval_matrix_free(&m);
    remove_below(folder);
}

/* What stands in the cell of one detector and one writer, for each metric; and its title. */
static void test_metrics(void **state)
{
    (void)state;
    static const struct {
        eval_metric metric;
        double value;
        const char *title;
    } CASES[] = {
        {EVAL_ACCURACY, 60 / 70.0, "accuracy of fake at 0.5"},
        {EVAL_BALANCED, 0.5 * (0.9 + 0.75), "balanced accuracy of fake at 0.5"},
        {EVAL_AUROC, 0.75 * 0.9 + 0.5 * (0.75 * 0.1 + 0.25 * 0.9), "AUROC of fake"},
        {EVAL_TPR, 0.75, "true positive rate of fake at a false positive rate of 10 %"},
        {EVAL_BEST, NAN, "balanced accuracy of fake, threshold fitted on 20 % of the texts"},
    };
    make_dir("r");
    make_scores("r/human.jsonl", 50, 45, 0.1, 0.9);
    make_scores("r/c.jsonl", 20, 15, 0.9, 0.1);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        tdm_err err = {0};
        eval_matrix m = {0};
        if (measure(CASES[i].metric, &m, &err) != TDM_OK)
            fail_msg("%s", err.msg);
        assert_string_equal(m.title, CASES[i].title);
        if (!isnan(CASES[i].value))
            assert_true(fabs(m.cells[0].value - CASES[i].value) < 1e-12);
        assert_true(m.cells[0].value >= 0 && m.cells[0].value <= 1);
        eval_matrix_free(&m);
    }
    remove_below(folder);
}

static const struct {
    const char *files[4]; /* that are there; a name that ends in "/" is a folder */
    tdm_status status;
    const char *says;
} REFUSED[] = {
    {{NULL}, TDM_ENOINPUT, "has no ROW/COLUMN.jsonl"},
    {{"a/", NULL}, TDM_ENOINPUT, "/a: a row without COLUMN.jsonl"},
    {{"a/", "a/x.txt", NULL}, TDM_ENOINPUT, "/a: a row without COLUMN.jsonl"},
    {{"a/", "a/human.jsonl", NULL}, TDM_ENOINPUT, "has no ROW/COLUMN.jsonl"},
    {{"a/", "a/x.jsonl", NULL}, TDM_ENOINPUT, "/a/x.jsonl: there is no human.jsonl beside it"},
    {{"a/", "a/x.human.jsonl", "a/human.jsonl", NULL}, TDM_ENOINPUT, "/a/x.human.jsonl: there is no x.jsonl beside it"},
    {{"x.jsonl", NULL}, TDM_ENOINPUT, "/x.jsonl: is in no row: want"},
    {{"a/", "a/x.jsonl", "a/x.jsonl.gz", "a/human.jsonl"}, TDM_EFORMAT, "are both the same cell"},
    {{"a/", "a/human.jsonl", "a/human.jsonl.zst", NULL}, TDM_EFORMAT, "are both the same cell"},
};

static void test_folders_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(REFUSED); i++) {
        tdm_err err = {0};
        eval_matrix m = {0};
        for (int k = 0; k < 4 && REFUSED[i].files[k]; k++) {
            const char *name = REFUSED[i].files[k];
            if (name[strlen(name) - 1] == '/')
                make_dir(name);
            else
                make_scores(name, 30, 15, 0.1, 0.9);
        }
        assert_int_equal(measure(EVAL_ACCURACY, &m, &err), REFUSED[i].status);
        if (!strstr(err.msg, REFUSED[i].says))
            fail_msg("%s: want %s", err.msg, REFUSED[i].says);
        assert_null(m.cells);
        remove_below(folder);
    }
    tdm_err err = {0};
    eval_matrix m = {0};
    assert_int_equal(eval_matrix_measure("/nowhere", EVAL_ACCURACY, &SOURCES, &OPTIONS, &m, &err), TDM_ENOINPUT);
}

static void test_cells_are_refused(void **state)
{
    (void)state;
    tdm_err err = {0};
    eval_matrix m = {0};
    eval_options options = OPTIONS;
    make_dir("a");
    make_scores("a/human.jsonl", 1, 1, 0.1, 0.9);
    make_scores("a/x.jsonl", 1, 1, 0.9, 0.9);
    assert_int_equal(measure(EVAL_BEST, &m, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "a/x.jsonl: 1 human and 1 machine texts: too few to fit a threshold"));
    options.evaluate.n_fprs = 0;
    assert_int_equal(eval_matrix_measure(folder, EVAL_TPR, &SOURCES, &options, &m, &err), TDM_EARG);
    options.fields = LOGIT;
    assert_int_equal(eval_matrix_measure(folder, EVAL_AUROC, &SOURCES, &options, &m, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "human.jsonl"));
    options = OPTIONS;
    static const char *const LENGTH[] = {"used_tokens"};
    options.fields = LENGTH;
    assert_int_equal(eval_matrix_measure(folder, EVAL_ACCURACY, &SOURCES, &options, &m, &err), TDM_EARG);
    assert_non_null(strstr(err.msg, "used_tokens has no threshold of its own"));
    remove_below(folder);
}

/* ---- printers ---- */

static eval_matrix made(eval_cell cells[4])
{
    static char *rows[] = {"caf\xc3\xa9", "a,\"b\""}, *columns[] = {"x", "long name"};
    const tdm_interval none = {NAN, NAN};
    cells[0] = (eval_cell){.is_there = true, .value = 0.9791, .interval = {0.9702, 0.9849}, .humans = 400, .machines = 100};
    cells[1] = (eval_cell){.is_there = true, .is_turned = true, .value = 1, .interval = {1, 1}, .humans = 300, .machines = 100,
                           .excluded = 2};
    cells[2] = (eval_cell){.is_there = false, .interval = none};
    cells[3] = (eval_cell){.is_there = true, .value = 0.5, .interval = none, .humans = 400, .machines = 100};
    return (eval_matrix){.title = "accuracy", .row_title = "detector", .column_title = "texts", .n_rows = 2, .n_columns = 2,
                         .rows = rows, .columns = columns, .cells = cells, .confidence = 0.9};
}

static char *print(tdm_status (*printer)(tdm_buf *, const eval_matrix *, tdm_err *), const eval_matrix *m)
{
    tdm_buf out = {0};
    assert_int_equal(printer(&out, m, NULL), TDM_OK);
    assert_int_equal(tdm_buf_put(&out, "", 1, NULL), TDM_OK);
    return out.p;
}

static tdm_status csv_of_one(tdm_buf *out, const eval_matrix *m, tdm_err *err)
{
    return eval_matrix_csv(out, m, 1, err);
}

static void test_printers(void **state)
{
    (void)state;
    eval_cell cells[4];
    const eval_matrix m = made(cells);
    char *text = print(eval_matrix_text, &m);
    assert_string_equal(text, "accuracy (%) [90 % bootstrap interval]\n"
                              "rows: detector; columns: texts\n\n"
                              "       x                  long name\n"
                              "caf\xc3\xa9   97.9 [97.0, 98.5]  100.0 [100.0, 100.0]\n"
                              "a,\"b\"  -                  50.0\n\n"
                              "300 to 400 human and 100 machine texts a cell\n"
                              "2 bad records left out, over all cells\n"
                              "a lower value is rather a machine's in caf\xc3\xa9 x long name; a higher one elsewhere\n");
    free(text);
    text = print(csv_of_one, &m);
    assert_string_equal(text, "table,row,column,value,low,high,humans,machines,excluded,higher_is\n"
                              "accuracy,caf\xc3\xa9,x,0.9791,0.9702,0.9849,400,100,0,machine\n"
                              "accuracy,caf\xc3\xa9,long name,1,1,1,300,100,2,human\n"
                              "accuracy,\"a,\"\"b\"\"\",x,,,,,,,\n"
                              "accuracy,\"a,\"\"b\"\"\",long name,0.5,,,400,100,0,machine\n");
    free(text);
    text = print(eval_matrix_json, &m);
    assert_string_equal(text,
                        "{\"title\": \"accuracy\", \"row_title\": \"detector\", \"column_title\": \"texts\", \"rows\": "
                        "[\"caf\\u00e9\", \"a,\\\"b\\\"\"], \"columns\": [\"x\", \"long name\"], \"confidence\": 0.9, "
                        "\"source\": null, \"note\": null, \"cells\": [[{\"value\": 0.9791, \"low\": 0.9702, \"high\": 0.9849, "
                        "\"humans\": 400, \"machines\": 100, \"excluded\": 0, \"higher_is\": \"machine\"}, {\"value\": 1, "
                        "\"low\": 1, \"high\": 1, \"humans\": 300, \"machines\": 100, \"excluded\": 2, \"higher_is\": "
                        "\"human\"}], [null, {\"value\": 0.5, \"low\": null, \"high\": null, \"humans\": 400, \"machines\": "
                        "100, \"excluded\": 0, \"higher_is\": \"machine\"}]]}\n");
    free(text);
}

/* ---- published ---- */

static const struct {
    const char *name;
    size_t rows, columns;
    size_t row, column;
    double percent; /* 0: not published */
} PUBLISHED[] = {
    {"transfer", 4, 4, 0, 3, 79.3},       {"transfer", 4, 4, 3, 0, 96.9},        {"tfidf", 4, 2, 2, 1, 94.43},
    {"tfidf", 4, 2, 3, 0, 74.31},         {"zero-shot-t1", 4, 4, 3, 0, 76.0},    {"zero-shot-t1", 4, 4, 0, 3, 95.7},
    {"zero-shot-k40", 4, 4, 3, 3, 81.8},  {"zero-shot-k40", 4, 4, 0, 2, 61.2},   {"fine-tuned", 2, 4, 0, 3, 70.2},
    {"fine-tuned", 2, 4, 0, 2, 0},        {"fine-tuned", 2, 4, 1, 2, 63.2},      {"length", 6, 2, 5, 1, 92.7},
    {"length", 6, 2, 1, 0, 0},            {"transfer-sampling", 3, 3, 0, 2, 49.22}, {"transfer-sampling", 3, 3, 2, 0, 51.17},
};

static void test_published_figures(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(PUBLISHED); i++) {
        tdm_err err = {0};
        eval_matrix m;
        assert_int_equal(eval_reference(PUBLISHED[i].name, &m, &err), TDM_OK);
        assert_int_equal(m.n_rows, PUBLISHED[i].rows);
        assert_int_equal(m.n_columns, PUBLISHED[i].columns);
        const eval_cell *c = &m.cells[PUBLISHED[i].row * m.n_columns + PUBLISHED[i].column];
        assert_int_equal(c->is_there, PUBLISHED[i].percent > 0);
        assert_true(fabs(c->value * 100 - PUBLISHED[i].percent) < 1e-9);
        eval_matrix_free(&m);
    }
}

/* Each says where it is from and what is not known, and prints the digits that were published. */
static void test_published_tables(void **state)
{
    (void)state;
    size_t n = 0;
    tdm_err err = {0};
    eval_matrix m;
    for (; *eval_reference_name(n); n++) {
        assert_int_equal(eval_reference(eval_reference_name(n), &m, &err), TDM_OK);
        assert_true(strlen(m.source) > 20);
        assert_non_null(strstr(m.note, "Not known: "));
        for (size_t i = 0; i < m.n_rows * m.n_columns; i++)
            assert_true(m.cells[i].value >= 0 && m.cells[i].value < 1 && isnan(m.cells[i].interval.low));
        eval_matrix_free(&m);
    }
    assert_int_equal(n, 7);
    assert_string_equal(eval_reference_name(n + 5), "");
    assert_int_equal(eval_reference("tfidf", &m, &err), TDM_OK);
    char *text = print(eval_matrix_text, &m);
    assert_non_null(strstr(text, "117M   88.29          96.79\n"));
    free(text);
    eval_matrix_free(&m);
    assert_int_equal(eval_reference("tranfer", &m, &err), TDM_EARG);
    assert_string_equal(err.msg, "there is no published table tranfer; there are transfer, tfidf, zero-shot-t1, "
                                 "zero-shot-k40, fine-tuned, length, transfer-sampling");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_in_natural_order),
        cmocka_unit_test(test_the_order_is_total),
        cmocka_unit_test(test_a_folder_becomes_a_table),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_folders_are_refused),
        cmocka_unit_test(test_cells_are_refused),
        cmocka_unit_test(test_printers),
        cmocka_unit_test(test_published_figures),
        cmocka_unit_test(test_published_tables),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
