/* Values of every kind of option, read from the command line: taken whole or refused with their limits.
 * The option code belongs to the executable, so its source is part of this test. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tools/args.c"
#include "tools/args_help.c"
#include "tools/args_value.c"

/* Every kind of value at once; `spec` chooses one by its kind. */
typedef struct {
    bool flag;
    const char *string;
    int64_t i64, batch;
    uint64_t u64;
    double f64, range[2];
    size_t size;
    int choice;
    tdm_max_errors errors;
    arg_list list;
} values;

static const char *const COLOURS[] = {"red", "green", NULL};

static arg_spec spec_of(arg_kind kind, values *v)
{
    void *const outs[] = {[ARG_FLAG] = &v->flag,     [ARG_STR] = &v->string,
                          [ARG_I64] = &v->i64,       [ARG_U64] = &v->u64,    [ARG_F64] = &v->f64,
                          [ARG_RANGE] = v->range,    [ARG_SIZE] = &v->size,  [ARG_CHOICE] = &v->choice,
                          [ARG_ERRORS] = &v->errors, [ARG_BATCH] = &v->batch,
                          [ARG_LIST] = &v->list};
    return (arg_spec){.name = "o", .kind = kind, .out = outs[kind], .value = "V", .help = "help",
                      .choices = COLOURS};
}

static const struct {
    arg_kind kind;
    double min, max;
    bool open_min;
    const char *text;
    double want, want_high; /* the value; NAN: refused */
} NUMBERS[] = {
    {ARG_I64, 1, 10, false, "1", 1, 0},
    {ARG_I64, 1, 10, false, "10", 10, 0},
    {ARG_I64, 1, 10, false, "010", 10, 0},
    {ARG_I64, 1, 10, false, "0", NAN, 0},
    {ARG_I64, 1, 10, false, "11", NAN, 0},
    {ARG_I64, 1, 10, false, "5x", NAN, 0},
    {ARG_I64, 1, 10, false, "", NAN, 0},
    {ARG_I64, 1, 10, false, " 5", NAN, 0},
    {ARG_I64, 1, 10, false, "+5", NAN, 0},
    {ARG_I64, 1, 10, false, "5.0", NAN, 0},
    {ARG_I64, 1, 10, false, "0x5", NAN, 0},
    {ARG_I64, 0, 0, false, "-5", -5, 0}, /* no limits */
    {ARG_I64, 0, 0, false, "-", NAN, 0},
    {ARG_I64, 0, 0, false, "9223372036854775808", NAN, 0},
    {ARG_I64, 1, 1e15, false, "1000000000000000", 1e15, 0},
    {ARG_I64, 1, 1e15, false, "1000000000000001", NAN, 0},
    {ARG_F64, 0, 2, false, "0", 0, 0},
    {ARG_F64, 0, 2, true, "0", NAN, 0},
    {ARG_F64, 0, 2, true, "1e-3", 1e-3, 0},
    {ARG_F64, 0, 2, true, "2", 2, 0},
    {ARG_F64, 0, 2, false, "2.0000001", NAN, 0},
    {ARG_F64, 0, 2, false, "-0.1", NAN, 0},
    {ARG_F64, 0, 2, false, "nan", NAN, 0},
    {ARG_F64, 0, 0, false, "nan", NAN, 0},
    {ARG_F64, 0, 0, false, "inf", NAN, 0},
    {ARG_F64, 0, 0, false, "1e999", NAN, 0},
    {ARG_F64, 0, 0, false, "-.5", -.5, 0},
    {ARG_F64, 0, 0, false, "1e", NAN, 0},
    {ARG_F64, 0, 0, false, "1 ", NAN, 0},
    {ARG_F64, 0, 0, false, "0x1p3", NAN, 0},
    {ARG_F64, 0, 0, false, "1,5", NAN, 0},
    {ARG_F64, 0, 0, false, "1111111111111111111111111111111111111111111111111111111111111111", NAN, 0},
    {ARG_RANGE, 0, 1, true, "0.9", 0.9, 0.9},
    {ARG_RANGE, 0, 1, true, "0.8:1", 0.8, 1},
    {ARG_RANGE, 0, 1, true, "0.8:0.8", 0.8, 0.8},
    {ARG_RANGE, 0, 1, true, "0.9:0.8", NAN, 0},
    {ARG_RANGE, 0, 1, true, "0:0.8", NAN, 0},
    {ARG_RANGE, 0, 1, true, "0.8:1.1", NAN, 0},
    {ARG_RANGE, 0, 1, true, "0.8:", NAN, 0},
    {ARG_RANGE, 0, 1, true, ":0.8", NAN, 0},
    {ARG_RANGE, 0, 1, true, "0.7:0.8:0.9", NAN, 0},
    {ARG_SIZE, 0, 0, false, "1", 1, 0},
    {ARG_SIZE, 0, 0, false, "100B", 100, 0},
    {ARG_SIZE, 0, 0, false, "3KiB", 3072, 0},
    {ARG_SIZE, 0, 0, false, "8MiB", 8388608, 0},
    {ARG_SIZE, 0, 0, false, "2GiB", 2147483648.0, 0},
    {ARG_SIZE, 0, 0, false, "0", NAN, 0},
    {ARG_SIZE, 0, 0, false, "MiB", NAN, 0},
    {ARG_SIZE, 0, 0, false, "8 MiB", NAN, 0},
    {ARG_SIZE, 0, 0, false, "8mib", NAN, 0},
    {ARG_SIZE, 0, 0, false, "17179869184GiB", NAN, 0},
    {ARG_SIZE, 0, 1 << 30, false, "1GiB", 1073741824.0, 0},
    {ARG_SIZE, 0, 1 << 30, false, "1073741824", 1073741824.0, 0},
    {ARG_SIZE, 0, 1 << 30, false, "1073741825", NAN, 0},
    {ARG_SIZE, 0, 1 << 30, false, "1025MiB", NAN, 0},
    {ARG_SIZE, 0, 1 << 30, false, "0", NAN, 0},
    {ARG_SIZE, 0, 0, false, "99999999999999999999999999", NAN, 0},
    {ARG_BATCH, 0, 0, false, "auto", 0, 0},
    {ARG_BATCH, 0, 0, false, "64", 64, 0},
    {ARG_BATCH, 0, 0, false, "65536", 65536, 0},
    {ARG_BATCH, 0, 0, false, "65537", NAN, 0},
    {ARG_BATCH, 0, 8, false, "9", NAN, 0},
    {ARG_BATCH, 0, 0, false, "0", NAN, 0},
    {ARG_CHOICE, 0, 0, false, "red", 0, 0},
    {ARG_CHOICE, 0, 0, false, "green", 1, 0},
    {ARG_CHOICE, 0, 0, false, "gree", NAN, 0},
    {ARG_CHOICE, 0, 0, false, "", NAN, 0},
};

static double number_of(arg_kind kind, const values *v)
{
    switch (kind) {
    case ARG_I64:
        return (double)v->i64;
    case ARG_F64:
        return v->f64;
    case ARG_RANGE:
        return v->range[0];
    case ARG_SIZE:
        return (double)v->size;
    case ARG_BATCH:
        return (double)v->batch;
    default:
        return v->choice;
    }
}

static void test_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(NUMBERS); i++) {
        values v = {.i64 = -77, .f64 = -77, .range = {-77, -77}, .size = 77, .batch = -77, .choice = -77};
        values before;
        tdm_err err = {0};
        arg_spec spec = spec_of(NUMBERS[i].kind, &v);
        memcpy(&before, &v, sizeof v); /* with its padding */
        spec.min = NUMBERS[i].min;
        spec.max = NUMBERS[i].max;
        spec.open_min = NUMBERS[i].open_min;
        const tdm_status st = args_read_value(&spec, NUMBERS[i].text, &err);
        if (isnan(NUMBERS[i].want)) {
            if (st != TDM_EARG)
                fail_msg("case %zu: \"%s\" was taken", i, NUMBERS[i].text);
            assert_memory_equal(&v, &before, sizeof v);
            assert_int_equal(strncmp(err.msg, "--o ", 4), 0);
            assert_non_null(strstr(err.msg, NUMBERS[i].text));
            assert_non_null(strstr(err.msg, "want "));
            continue;
        }
        if (st != TDM_OK || number_of(NUMBERS[i].kind, &v) != NUMBERS[i].want)
            fail_msg("case %zu: \"%s\" gave %g", i, NUMBERS[i].text, number_of(NUMBERS[i].kind, &v));
        if (NUMBERS[i].kind == ARG_RANGE)
            assert_true(v.range[1] == NUMBERS[i].want_high);
    }
}

static void test_u64(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        uint64_t want;
    } CASES[] = {{"0", true, 0},
                 {"18446744073709551615", true, UINT64_MAX},
                 {"18446744073709551616", false, 0},
                 {"-1", false, 0},
                 {"1.0", false, 0},
                 {"", false, 0}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        values v = {0};
        const arg_spec spec = spec_of(ARG_U64, &v);
        assert_int_equal(args_read_value(&spec, CASES[i].text, NULL) == TDM_OK, CASES[i].good);
        assert_true(v.u64 == CASES[i].want);
    }
}

static void test_max_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good, percent;
        double limit;
    } CASES[] = {{"0", true, false, 0},   {"12", true, false, 12},  {"0%", true, true, 0},
                 {"2.5%", true, true, 2.5}, {"100%", true, true, 100}, {"100.1%", false, false, 0},
                 {"2.5", false, false, 0}, {"%", false, false, 0},  {"-1", false, false, 0},
                 {"-1%", false, false, 0}, {"5%%", false, false, 0}, {"", false, false, 0}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        values v = {0};
        const arg_spec spec = spec_of(ARG_ERRORS, &v);
        assert_int_equal(args_read_value(&spec, CASES[i].text, NULL) == TDM_OK, CASES[i].good);
        assert_int_equal(v.errors.percent, CASES[i].percent);
        assert_true(v.errors.limit == CASES[i].limit);
    }
}

static void test_suggest(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"generate", "detect", "n", "seed"};
    static const struct {
        const char *word, *want;
    } CASES[] = {{"genrate", "generate"}, {"gen", "generate"}, {"detetc", "detect"}, {"sed", "seed"},
                 {"x", NULL},             {"m", NULL},         {"", NULL},           {"frobnicate", NULL},
                 {"a word that is far too long to be meant as any of these names", NULL}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        const char *got = args_suggest(CASES[i].word, NAMES, COUNT(NAMES));
        if (CASES[i].want)
            assert_string_equal(got, CASES[i].want);
        else
            assert_null(got);
    }
}

/* ---- whole command lines ---- */

static const arg_command COMMAND = {.name = "try", .usage = "[options]", .summary = "Tries."};

/* Parse words; the caller sees `v`, the operands and the exit code (-1: go on). */
static int parse(values *v, arg_list *operands, int argc, const char *const *words)
{
    static char *argv[32];
    int code = -1;
    arg_spec specs[] = {spec_of(ARG_FLAG, v), spec_of(ARG_STR, v), spec_of(ARG_I64, v)};
    specs[0].name = "flag";
    specs[1].name = "string";
    specs[1].required = true;
    specs[2].name = "number";
    for (int i = 0; i < argc; i++)
        argv[i] = (char *)(uintptr_t)words[i];
    argv[argc] = NULL;
    return args_parse(&COMMAND, specs, COUNT(specs), argc, argv, operands, &code) ? -1 : code;
}
#define PARSE(v, operands, ...)                                                                    \
    parse(v, operands, (int)COUNT(((const char *[]){"try", __VA_ARGS__})),                         \
          (const char *[]){"try", __VA_ARGS__})

static void test_parse(void **state)
{
    (void)state;
    values v = {0};
    arg_list operands;
    assert_int_equal(PARSE(&v, &operands, "a", "--string=x", "b", "--fl", "--number", "-3", "-"), -1);
    assert_string_equal(v.string, "x");
    assert_true(v.flag);
    assert_int_equal(v.i64, -3);
    assert_int_equal(operands.n, 3);
    assert_string_equal(operands.items[0], "a");
    assert_string_equal(operands.items[2], "-");

    assert_int_equal(PARSE(&v, &operands, "--string", "1", "--string", "2", "--", "--flag"), -1);
    assert_string_equal(v.string, "2"); /* the last one counts */
    assert_int_equal(operands.n, 1);
    assert_string_equal(operands.items[0], "--flag");

    assert_int_equal(PARSE(&v, &operands, "--flag"), 2); /* --string is required */
    assert_int_equal(PARSE(&v, &operands, "--string"), 2);
    assert_int_equal(PARSE(&v, &operands, "--flag=1"), 2);
    assert_int_equal(PARSE(&v, &operands, "--string", "x", "--other"), 2);
    assert_int_equal(PARSE(&v, &operands, "-n", "3"), 2);
}

static void test_list(void **state)
{
    (void)state;
    static const char *const WORDS[] = {"a", "b", "a"};
    const arg_command command = {.name = "try", .usage = "", .summary = ""};
    arg_list list = {0}, operands;
    bool flag = false;
    const arg_spec specs[] = {{.name = "file", .kind = ARG_LIST, .out = &list, .value = "FILE", .help = "help",
                               .default_text = "stdin"},
                              {.name = "flag", .kind = ARG_FLAG, .out = &flag, .help = "help"}};
    char *good[] = {(char[]){"try"}, (char[]){"--file"}, (char[]){"a"}, (char[]){"x"}, (char[]){"--file=b"},
                    (char[]){"--file"}, (char[]){"a"}, NULL};
    char *bad[] = {(char[]){"try"}, (char[]){"--file=a"}, (char[]){"--file="}, NULL};
    char *text = NULL;
    size_t len = 0;
    int code = -1;
    assert_true(args_parse(&command, specs, COUNT(specs), 7, good, &operands, &code));
    assert_int_equal(list.n, COUNT(WORDS));
    for (size_t i = 0; i < COUNT(WORDS); i++)
        assert_string_equal(list.items[i], WORDS[i]);
    assert_int_equal(operands.n, 1);
    assert_string_equal(operands.items[0], "x");
    args_list_free(&list);
    assert_null(list.items);
    assert_int_equal(list.n, 0);

    assert_false(args_parse(&command, specs, COUNT(specs), 3, bad, &operands, &code));
    assert_int_equal(code, TDM_EARG);
    assert_null(list.items); /* what came before the error is freed */
    assert_int_equal(list.n, 0);

    FILE *to = open_memstream(&text, &len);
    assert_non_null(to);
    args_print_help(to, &command, specs, COUNT(specs));
    assert_int_equal(fclose(to), 0);
    assert_non_null(strstr(text, "\n  --file FILE             help; may be given several times [default: stdin]\n"));
    free(text);
}

static const arg_rule RULES[] = {{.option = "flag", .other = "number", .with = true},
                                 {.option = "string", .other = "number"},
                                 {.option = "number", .other = "string", .with = true, .unless = "third"}};

static void test_rules(void **state)
{
    (void)state;
    static const struct {
        const char *words[4];
        int argc, code;
    } CASES[] = {{{"try", "--number=1", "--string=x", "--third"}, 4, -1},
                 {{"try", "--number=1", "--string=x"}, 3, TDM_EARG},
                 {{"try", "--number=1"}, 2, -1},
                 {{"try", "--flag"}, 2, -1},
                 {{"try", "--flag", "--number=1"}, 3, TDM_EARG},
                 {{"try", "--string=x"}, 2, TDM_EARG},
                 {{"try", "--flag", "--string=x"}, 3, TDM_EARG}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        const arg_command command = {.name = "try", .usage = "", .summary = "", .rules = RULES,
                                     .n_rules = COUNT(RULES)};
        values v = {0};
        arg_list operands;
        char *argv[5] = {NULL};
        int code = -1;
        bool third = false;
        arg_spec specs[] = {spec_of(ARG_FLAG, &v), spec_of(ARG_STR, &v), spec_of(ARG_I64, &v),
                            {.name = "third", .kind = ARG_FLAG, .out = &third, .help = "third"}};
        specs[0].name = "flag";
        specs[1].name = "string";
        specs[2].name = "number";
        for (int k = 0; k < CASES[i].argc; k++)
            argv[k] = (char *)(uintptr_t)CASES[i].words[k];
        const bool parsed =
            args_parse(&command, specs, COUNT(specs), CASES[i].argc, argv, &operands, &code);
        assert_int_equal(parsed ? -1 : code, CASES[i].code);
    }
}

static void test_help(void **state)
{
    (void)state;
    static const char *const WANT[] = {
        "Usage: tandem try [options]\n\nTries.\n",
        "\n  --o V                   help [default: 8MiB]\n",
        "\n  --o V                   help [default: 0.8:1]\n",
        "\n  --o V                   help [default: green]\n",
        "\n  --o V                   help [default: 2.5%]\n",
        "\n  --o V                   help [default: auto]\n",
        "\n  --o V                   help [default: what fits]\n",
        "\n  --o V                   help (required)\n",
        "\nExit codes:\n",
    };
    values v = {.size = 8 << 20, .range = {0.8, 1}, .choice = 1, .errors = {true, 2.5}};
    arg_spec specs[] = {spec_of(ARG_SIZE, &v),   spec_of(ARG_RANGE, &v), spec_of(ARG_CHOICE, &v),
                        spec_of(ARG_ERRORS, &v), spec_of(ARG_BATCH, &v), spec_of(ARG_I64, &v),
                        spec_of(ARG_STR, &v)};
    char *text = NULL;
    size_t len = 0;
    specs[5].default_text = "what fits";
    specs[6].required = true;
    FILE *to = open_memstream(&text, &len);
    assert_non_null(to);
    args_print_help(to, &COMMAND, specs, COUNT(specs));
    assert_int_equal(fclose(to), 0);
    for (size_t i = 0; i < COUNT(WANT); i++)
        if (!strstr(text, WANT[i]))
            fail_msg("%s is not in\n%s", WANT[i], text);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_u64),   cmocka_unit_test(test_max_errors),
        cmocka_unit_test(test_suggest), cmocka_unit_test(test_parse), 
        cmocka_unit_test(test_help), cmocka_unit_test(test_rules), cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
