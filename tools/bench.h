/* tools/bench.h - the parts of "tandem bench"; argv[0] is the part's name. Each prints its table on
 * stdout and returns the exit code of the process. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

int bench_tokenizer(int argc, char **argv);
int bench_gemm(int argc, char **argv);

#endif
