/* tools/bench.h - the parts of "tandem bench"; argv[0] is the part's name. Each prints its table on
 * stdout and returns the exit code of the process. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

int bench_tokenizer(int argc, char **argv);
int bench_device(int argc, char **argv);
int bench_gemm(int argc, char **argv);
int bench_kernels(int argc, char **argv);
int bench_ranks(int argc, char **argv);
int bench_model(int argc, char **argv);
int bench_load(int argc, char **argv);
int bench_generate(int argc, char **argv);
int bench_detect(int argc, char **argv);
int bench_score(int argc, char **argv);
int bench_evaluate(int argc, char **argv);
int bench_pipeline(int argc, char **argv);

#endif
