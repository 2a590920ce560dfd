/* tools/commands.h - the subcommands. Each parses its own options (tools/args.h), prints data on
 * stdout and everything else on stderr, and returns the exit code of the process. */
#ifndef TOOLS_COMMANDS_H
#define TOOLS_COMMANDS_H

/* argv[0] is the command's name. */
int cmd_generate(int argc, char **argv);
int cmd_detect(int argc, char **argv);
int cmd_score(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_raid(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_bench(int argc, char **argv);

#endif
