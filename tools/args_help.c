/* tools/args_help.c - the help text of a command, from the same table that parses its options. */
#include "tools/args.h"

#include <inttypes.h>
#include <string.h>

enum { HELP_INDENT = 26, HELP_WIDTH = 80 };

static void size_text(size_t bytes, char *out, size_t size)
{
    static const char *const UNITS[] = {"", "KiB", "MiB", "GiB"};
    size_t unit = 0;
    for (; bytes && bytes % 1024 == 0 && unit + 1 < COUNT(UNITS); unit++)
        bytes /= 1024;
    snprintf(out, size, "%zu%s", bytes, UNITS[unit]);
}

static void range_text(const double *range, char *out, size_t size)
{
    if (range[0] < range[1])
        snprintf(out, size, "%.15g:%.15g", range[0], range[1]);
    else
        snprintf(out, size, "%.15g", range[0]);
}

/* What stands in the table before parsing, as text; "" when there is nothing to say. */
static void default_text(const arg_spec *spec, char *out, size_t size)
{
    const void *value = spec->out;
    const tdm_max_errors *limit = value;
    out[0] = '\0';
    const bool is_auto = spec->kind == ARG_BATCH && *(const int64_t *)value == 0;
    if (spec->default_text || is_auto) {
        snprintf(out, size, "%s", spec->default_text ? spec->default_text : "auto");
        return;
    }
    switch (spec->kind) {
    case ARG_FLAG:
    case ARG_LIST: /* empty before parsing */
        break;
    case ARG_STR:
        snprintf(out, size, "%s", *(const char *const *)value ? *(const char *const *)value : "");
        break;
    case ARG_BATCH:
    case ARG_I64:
        snprintf(out, size, "%" PRId64, *(const int64_t *)value);
        break;
    case ARG_U64:
        snprintf(out, size, "%" PRIu64, *(const uint64_t *)value);
        break;
    case ARG_F64:
        snprintf(out, size, "%.15g", *(const double *)value);
        break;
    case ARG_RANGE:
        range_text(value, out, size);
        break;
    case ARG_SIZE:
        size_text(*(const size_t *)value, out, size);
        break;
    case ARG_CHOICE:
        snprintf(out, size, "%s", spec->choices[*(const int *)value]);
        break;
    case ARG_ERRORS:
        snprintf(out, size, "%.15g%s", limit->limit, limit->percent ? "%" : "");
        break;
    }
}

/* Print words from column `column` on, broken before HELP_WIDTH and indented by `indent`. */
static void print_wrapped(FILE *to, const char *text, int column, int indent)
{
    while (*text) {
        const int len = (int)strcspn(text, " \n");
        if (column > indent && column + 1 + len > HELP_WIDTH) {
            fprintf(to, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', to);
            column++;
        }
        fwrite(text, 1, (size_t)len, to);
        column += len;
        text += len;
        if (*text == '\n') {
            fprintf(to, "\n%*s", indent, "");
            column = indent;
        }
        text += *text != '\0';
    }
    fputc('\n', to);
}

static void print_option(FILE *to, const arg_spec *spec)
{
    char initial[128], text[1024];
    int column = fprintf(to, "  --%s%s%s", spec->name, spec->value ? " " : "",
                         spec->value ? spec->value : "");
    if (column > HELP_INDENT - 2) {
        fputc('\n', to);
        column = 0;
    }
    fprintf(to, "%*s", HELP_INDENT - column, "");
    default_text(spec, initial, sizeof initial);
    snprintf(text, sizeof text, "%s%s%s%s%s%s", spec->help,
             spec->kind == ARG_LIST ? "; may be given several times" : "",
             spec->required ? " (required)" : "", initial[0] ? " [default: " : "", initial, initial[0] ? "]" : "");
    print_wrapped(to, text, HELP_INDENT, HELP_INDENT);
}

/* Print lines of text as they were set, indented by two; only one that is far too long is broken. */
static void print_block(FILE *to, const char *title, const char *text)
{
    enum { INDENT = 2, WIDEST = 100, MAX_LINE = 512 };
    char line[MAX_LINE];
    fprintf(to, "\n%s:\n", title);
    while (*text) {
        const size_t len = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)len, text);
        fprintf(to, "%*s", *line ? INDENT : 0, "");
        if (len <= WIDEST)
            fprintf(to, "%s\n", line);
        else
            print_wrapped(to, line, INDENT, INDENT);
        text += len + (text[len] == '\n');
    }
}

void args_print_exit_codes(FILE *to)
{
    fputs("Exit codes:\n"
          "   0  done\n"
          "   2  wrong option or value\n"
          "   3  finished; some bad records, within --max-errors\n"
          "  65  too many bad records, or a corrupt input or model\n"
          "  66  a named file or folder is missing or unreadable\n"
          "  69  no usable GPU\n"
          "  70  an internal or numerical check failed\n"
          "  71  out of memory\n"
          "  73  the output cannot be created, or another process is at work on it\n"
          "  74  reading or writing failed, the disk is full; without a message: the\n"
          "      reader of a pipe went away\n"
          "  75  stopped by a signal, or the device was lost: run it again to go on\n"
          "  78  what is at --out already was made of other options, inputs or weights\n",
          to);
}

void args_print_help(FILE *to, const arg_command *command, const arg_spec *specs, size_t n_specs)
{
    fprintf(to, "Usage: tandem %s %s\n\n", command->name, command->usage);
    print_wrapped(to, command->summary, 0, 0);
    fputs("\nOptions:\n", to);
    for (size_t i = 0; i < n_specs; i++)
        print_option(to, &specs[i]);
    fprintf(to, "  --help%*sprint this text\n", HELP_INDENT - 8, "");
    if (command->notes)
        print_block(to, "Output", command->notes);
    if (command->example)
        print_block(to, "Example", command->example);
    fputc('\n', to);
    args_print_exit_codes(to);
}
