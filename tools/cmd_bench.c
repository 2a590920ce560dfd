/* tools/cmd_bench.c - tandem bench PART [options]: find the part and run it. */
#include "tools/args.h"
#include "tools/bench.h"
#include "tools/commands.h"
#include "tools/menu.h"

static const menu_entry PARTS[] = {
    {"tokenizer", "text to ids, MB/s", bench_tokenizer},
    {"gemm", "matrix product of the CPU, GFLOP/s and share of the machine's ceiling", bench_gemm},
};

static const menu MENU = {
    .program = "tandem bench",
    .kind = "part",
    .usage = "Usage: tandem bench PART [options]\n\n"
             "Measures one part of the engine on this machine and prints a table on stdout.",
    .list = "Parts",
    .notes = "\"tandem bench PART --help\" describes one part.\n\n"
             "Example:\n  tandem bench gemm --help",
    .entries = PARTS,
    .n = COUNT(PARTS),
};

int cmd_bench(int argc, char **argv)
{
    return menu_run(&MENU, argc, argv);
}
