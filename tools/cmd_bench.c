/* tools/cmd_bench.c - tandem bench PART [options]: find the part and run it. */
#include "tools/args.h"
#include "tools/bench.h"
#include "tools/commands.h"
#include "tools/menu.h"

static const menu_entry PARTS[] = {
    {"tokenizer", "text to ids, MB/s", bench_tokenizer},
    {"device", "the ceilings of this machine: memory, multiply-adds", bench_device},
    {"gemm", "matrix product, GFLOP/s and share of the ceiling; choice of cuBLASLt's algorithms",
     bench_gemm},
    {"kernels", "the other operations of the models, GB/s and share of the ceiling", bench_kernels},
    {"ranks", "what --tp sends between GPUs, microseconds and GB/s", bench_ranks},
    {"model", "write a model folder with random weights", bench_model},
    {"load", "weights from a file to the device, GB/s", bench_load},
    {"generate", "whole runs of generate, tokens/s and share of the floor", bench_generate},
    {"detect", "whole runs of detect, texts/s and share of the floor", bench_detect},
    {"score", "GPT-2 judges given texts, tokens/s and share of the floor", bench_score},
    {"evaluate", "scores to values and intervals, seconds and memory", bench_evaluate},
    {"pipeline", "generate and detect without a model, records/s and what each step takes", bench_pipeline},
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
