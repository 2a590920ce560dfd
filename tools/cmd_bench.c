/* tools/cmd_bench.c - tandem bench PART [options]: find the part and run it. */
#include <stdio.h>
#include <string.h>

#include "tools/args.h"
#include "tools/bench.h"
#include "tools/commands.h"

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} PARTS[] = {
    {"tokenizer", "text to ids, MB/s", bench_tokenizer},
    {"gemm", "matrix product of the CPU, GFLOP/s and share of the machine's ceiling", bench_gemm},
};

static void print_usage(FILE *to)
{
    fputs("Usage: tandem bench PART [options]\n\n"
          "Measures one part of the engine on this machine and prints a table on stdout.\n\n"
          "Parts:\n",
          to);
    for (size_t i = 0; i < COUNT(PARTS); i++)
        fprintf(to, "  %-10s %s\n", PARTS[i].name, PARTS[i].help);
    fputs("\n\"tandem bench PART --help\" describes one part.\n\n"
          "Example:\n  tandem bench gemm --help\n\n",
          to);
    args_print_exit_codes(to);
}

int cmd_bench(int argc, char **argv)
{
    const char *names[COUNT(PARTS)];
    if (argc < 2) {
        print_usage(stderr);
        return TDM_EARG;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        print_usage(stdout);
        return TDM_OK;
    }
    for (size_t i = 0; i < COUNT(PARTS); i++) {
        if (!strcmp(argv[1], PARTS[i].name))
            return PARTS[i].run(argc - 1, argv + 1);
        names[i] = PARTS[i].name;
    }
    const char *near = args_suggest(argv[1], names, COUNT(names));
    fprintf(stderr, "tandem bench: there is no part %s%s%s%s; see tandem bench --help\n", argv[1],
            near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    return TDM_EARG;
}
