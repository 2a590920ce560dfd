/* tools/bench_table.c - rows of figures as a table, as CSV, or as JSON Lines. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"
#include "tools/bench_common.h"

bool bench_parse(const arg_command *command, const arg_spec *specs, size_t n, int argc, char **argv,
                 int *code)
{
    arg_list operands = {0};
    tdm_err err = {0};
    if (!args_parse(command, specs, n, argc, argv, &operands, code))
        return false;
    if (operands.n == 0)
        return true;
    tdm_fail(&err, TDM_EARG, "unexpected operand %s", operands.items[0]);
    *code = args_fail(command->name, &err);
    return false;
}

tdm_status bench_parse_list(const char *option, const char *text, int64_t *numbers, size_t cap,
                            size_t *n, tdm_err *err)
{
    enum { MOST = 1 << 20 };
    tdm_status st = TDM_OK;
    *n = 0;
    for (const char *p = text;; p++) {
        char *end = NULL;
        const long value = strtol(p, &end, 10);
        TDM_REQUIRE(end != p && (*end == ',' || !*end) && value >= 1 && value <= MOST && *n < cap,
                    TDM_EARG, "--%s %s: want up to %zu numbers from 1 to %d with commas between",
                    option, text, cap, MOST);
        numbers[(*n)++] = value;
        p = end;
        if (!*p)
            break;
    }
done:
    return st;
}

/* A JSON string; a message that does not fit memory is printed as an empty one. */
static void print_json_string(const char *text)
{
    tdm_buf quoted = {0};
    if (tdm_json_put_string(&quoted, text, strlen(text), NULL) == TDM_OK)
        printf("%.*s", (int)quoted.len, quoted.p);
    else
        printf("\"\"");
    tdm_buf_free(&quoted);
}

static void print_json_number(double x, int decimals)
{
    if (isfinite(x))
        printf("%.*f", decimals, x);
    else
        printf("null");
}

static void print_machine(const bench *b)
{
    const bench_machine *m = &b->machine;
    const char *dtype = tdm_dtype_name(b->backend.dtype);
    if (b->options->common.json) {
        printf("{\"bench\": \"machine\", \"part\": \"%s\", \"version\": \"%s\", \"device\": ",
               b->part, TDM_VERSION);
        print_json_string(m->name);
        printf(", \"dtype\": \"%s\", \"copy_gb_s\": ", dtype);
        print_json_number(1e-9 * m->copy, 1);
        printf(", \"read_gb_s\": ");
        print_json_number(1e-9 * m->read, 1);
        printf(", \"gflop_s\": ");
        print_json_number(1e-9 * m->flops, 1);
        printf("}\n");
        return;
    }
    printf("%s%s, %s; ceilings: %.1f GFLOP/s, read %.1f GB/s", b->options->csv ? "# " : "", m->name,
           dtype, 1e-9 * m->flops, 1e-9 * m->read);
    if (isfinite(m->copy))
        printf(", copy %.1f GB/s", 1e-9 * m->copy);
    printf(b->options->csv ? "\n" : "\n\n");
}

void bench_print_head(const bench *b, const bench_column *columns, size_t n)
{
    print_machine(b);
    for (size_t i = 0; i < n && !b->options->common.json; i++) {
        if (b->options->csv)
            printf("%s%s", i ? "," : "", columns[i].name);
        else
            printf("%s%*s", i ? " " : "",
                   columns[i].decimals < 0 ? -columns[i].width : columns[i].width, columns[i].name);
    }
    if (!b->options->common.json)
        putchar('\n');
    fflush(stdout);
}

static void print_cell(const bench *b, const bench_column *column, const bench_cell *cell)
{
    const bool padded = !b->options->csv;
    if (column->decimals < 0)
        printf("%*s", padded ? -column->width : 0, cell->text ? cell->text : "-");
    else if (isfinite(cell->number))
        printf("%*.*f", padded ? column->width : 0, column->decimals, cell->number);
    else
        printf("%*s", padded ? column->width : 0, "-");
}

void bench_print_row(const bench *b, const bench_column *columns, size_t n, const bench_cell *cells)
{
    if (b->options->common.json)
        printf("{\"bench\": \"%s\"", b->part);
    for (size_t i = 0; i < n; i++) {
        if (!b->options->common.json) {
            printf("%s", i == 0 ? "" : b->options->csv ? "," : " ");
            print_cell(b, &columns[i], &cells[i]);
            continue;
        }
        printf(", \"%s\": ", columns[i].name);
        if (columns[i].decimals >= 0)
            print_json_number(cells[i].number, columns[i].decimals);
        else if (cells[i].text)
            print_json_string(cells[i].text);
        else
            printf("null");
    }
    puts(b->options->common.json ? "}" : "");
    fflush(stdout);
}
