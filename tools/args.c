#include "tools/args.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *const DTYPE_CHOICES[] = {"auto", "f16", "bf16", "f32", NULL};
const char *const PROGRESS_CHOICES[] = {"auto", "bar", "plain", "json", "none", NULL};

enum { MAX_SPECS = 64, MAX_WORD = 32 };

/* One line, whatever is in the name of a file, and nothing that a terminal obeys. */
static void make_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

int args_fail(const char *name, const tdm_err *err)
{
    tdm_err said = *err;
    make_line(said.msg);
    fprintf(stderr, "tandem %s: %s (%s)\n", name, said.msg, tdm_status_text(err->status));
    return (int)err->status;
}

void args_note(const char *name, const char *fmt, ...)
{
    char text[1024];
    va_list values;
    va_start(values, fmt);
    vsnprintf(text, sizeof text, fmt, values);
    va_end(values);
    make_line(text);
    fprintf(stderr, "tandem %s: %s\n", name, text);
}

/* The number of insertions, deletions and substitutions between two words (Wagner and Fischer). */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[MAX_WORD + 1];
    const size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            const size_t substituted = diagonal + (a[i] != b[j]);
            const size_t shifted = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = substituted < shifted ? substituted : shifted;
        }
    }
    return row[n];
}

const char *args_suggest(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    const size_t len = strlen(word);
    size_t best_distance = len < 4 ? len / 2 + 1 : 3; /* a word further off is another word */
    if (len > MAX_WORD)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (strlen(names[i]) > MAX_WORD)
            continue;
        const bool is_prefix = len > 1 && !strncmp(names[i], word, len);
        const size_t distance = is_prefix ? 0 : edit_distance(word, names[i]);
        if (distance < best_distance) {
            best_distance = distance;
            best = names[i];
        }
    }
    return best;
}

/* Say what is wrong with an option that getopt_long does not take: ambiguous or unknown. */
static tdm_status refuse_option(const char *text, const arg_spec *specs, size_t n, tdm_err *err)
{
    char word[MAX_WORD + 1] = "";
    char list[256] = "";
    const char *names[MAX_SPECS];
    size_t used = 0, n_matches = 0;
    const size_t len = strcspn(text + 2, "=");
    for (size_t i = 0; i < n; i++) {
        names[i] = specs[i].name;
        if (strncmp(specs[i].name, text + 2, len) != 0)
            continue;
        n_matches++;
        const int m = snprintf(list + used, sizeof list - used, " --%s", specs[i].name);
        used += m > 0 && (size_t)m < sizeof list - used ? (size_t)m : 0;
    }
    if (n_matches > 1)
        return tdm_fail(err, TDM_EARG, "--%.*s could be%s", (int)len, text + 2, list);
    if (len < sizeof word)
        memcpy(word, text + 2, len);
    const char *near = word[0] ? args_suggest(word, names, n) : NULL;
    return tdm_fail(err, TDM_EARG, "there is no option --%.*s%s%s%s", (int)len, text + 2,
                    near ? " (did you mean --" : "", near ? near : "", near ? "?)" : "");
}

enum { CODE_HELP = 'h', CODE_SPEC = 256 };

static void make_long_options(struct option *options, const arg_spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        options[i] = (struct option){.name = specs[i].name,
                                     .has_arg = specs[i].kind == ARG_FLAG ? no_argument
                                                                          : required_argument,
                                     .val = CODE_SPEC + (int)i};
    options[n] = (struct option){.name = "help", .has_arg = no_argument, .val = CODE_HELP};
    options[n + 1] = (struct option){0};
}

/* Look for --help before anything is parsed: the help text prints the defaults. */
static bool asks_for_help(const struct option *options, int argc, char **argv)
{
    int c = 0;
    optind = 0;
    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        if (c == CODE_HELP)
            return true;
    return false;
}

static tdm_status parse_options(const struct option *options, const arg_spec *specs, size_t n,
                                int argc, char **argv, bool *given, tdm_err *err)
{
    tdm_status st = TDM_OK;
    optind = 0;
    for (;;) {
        const int c = getopt_long(argc, argv, ":h", options, NULL);
        if (c == -1)
            break;
        TDM_REQUIRE(c != ':', TDM_EARG, "--%s needs a value", specs[optopt - CODE_SPEC].name);
        TDM_REQUIRE(c != '?' || optopt < CODE_SPEC, TDM_EARG, "--%s takes no value",
                    specs[optopt - CODE_SPEC].name);
        TDM_REQUIRE(c != '?' || !optopt, TDM_EARG, "there is no option -%c; options start with --",
                    optopt);
        if (c == '?')
            TDM_TRY(refuse_option(argv[optind - 1], specs, n, err));
        given[c - CODE_SPEC] = true;
        TDM_TRY(args_read_value(&specs[c - CODE_SPEC], optarg, err));
    }
    for (size_t i = 0; i < n; i++)
        TDM_REQUIRE(!specs[i].required || given[i], TDM_EARG, "--%s %s is required", specs[i].name,
                    specs[i].value ? specs[i].value : "");
done:
    return st;
}

static bool is_given(const char *name, const arg_spec *specs, size_t n, const bool *given)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(specs[i].name, name))
            return given[i];
    return false;
}

/* Refuse what would silently do nothing. */
static tdm_status check_rules(const arg_command *command, const arg_spec *specs, size_t n,
                              const bool *given, tdm_err *err)
{
    for (size_t i = 0; i < command->n_rules; i++) {
        const arg_rule *rule = &command->rules[i];
        if (is_given(rule->option, specs, n, given) && is_given(rule->other, specs, n, given) == rule->with &&
            !(rule->unless && is_given(rule->unless, specs, n, given)))
            return tdm_fail(err, TDM_EARG, "--%s means nothing %s --%s", rule->option,
                            rule->with ? "with" : "without", rule->other);
    }
    return TDM_OK;
}

static void free_lists(const arg_spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (specs[i].kind == ARG_LIST)
            args_list_free(specs[i].out);
}

bool args_parse(const arg_command *command, const arg_spec *specs, size_t n_specs, int argc,
                char **argv, arg_list *operands, int *code)
{
    struct option options[MAX_SPECS + 2];
    bool given[MAX_SPECS] = {false};
    tdm_err err = {0};
    opterr = 0;
    *operands = (arg_list){0};
    if (n_specs > MAX_SPECS) {
        tdm_fail(&err, TDM_EINTERNAL, "%zu options, at most %d", n_specs, MAX_SPECS);
        *code = args_fail(command->name, &err);
        return false;
    }
    make_long_options(options, specs, n_specs);
    if (asks_for_help(options, argc, argv)) {
        args_print_help(stdout, command, specs, n_specs);
        *code = TDM_OK;
        return false;
    }
    if (parse_options(options, specs, n_specs, argc, argv, given, &err) != TDM_OK ||
        check_rules(command, specs, n_specs, given, &err) != TDM_OK) {
        free_lists(specs, n_specs);
        *code = args_fail(command->name, &err);
        return false;
    }
    operands->items = (const char **)argv + optind;
    operands->n = (size_t)(argc - optind);
    return true;
}
