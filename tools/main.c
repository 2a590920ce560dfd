/* tools/main.c - tandem COMMAND [options]: find the command and run it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/args.h"
#include "tools/commands.h"

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} COMMANDS[] = {
    {"generate", "documents, from nothing or from prompts, as dataset records", cmd_generate},
    {"detect", "the probability that each text was written by a machine", cmd_detect},
    {"tokenize", "records to token ids, and back", cmd_tokenize},
    {"inspect", "what is in a checkpoint, and the memory that it needs", cmd_inspect},
    {"bench", "the speed of the parts, beside the machine's ceiling", cmd_bench},
};

static void print_usage(FILE *to)
{
    fputs("Usage: tandem COMMAND [options]\n\n"
          "Writes with GPT-2 and reads with the GPT-2 output detector, in bulk.\n\n"
          "Commands:\n",
          to);
    for (size_t i = 0; i < COUNT(COMMANDS); i++)
        fprintf(to, "  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].help);
    fputs("\n\"tandem COMMAND --help\" describes one command; \"tandem --version\" prints the version.\n"
          "Data goes to stdout, everything else to stderr.\n\n",
          to);
    args_print_exit_codes(to);
}

static int unknown_command(const char *name)
{
    const char *names[COUNT(COMMANDS)];
    for (size_t i = 0; i < COUNT(COMMANDS); i++)
        names[i] = COMMANDS[i].name;
    const char *near = args_suggest(name, names, COUNT(names));
    fprintf(stderr, "tandem: there is no command %s%s%s%s; see tandem --help\n", name,
            near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    return TDM_EARG;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return TDM_EARG;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        print_usage(stdout);
        return TDM_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("tandem " TDM_VERSION);
        return TDM_OK;
    }
    for (size_t i = 0; i < COUNT(COMMANDS); i++)
        if (!strcmp(argv[1], COMMANDS[i].name))
            return COMMANDS[i].run(argc - 1, argv + 1);
    return unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
    /* A closed pipe is to be an error of write(), which the sink reports, not a silent death. */
    signal(SIGPIPE, SIG_IGN);
    const int code = run(argc, argv);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno != EPIPE)
        fprintf(stderr, "tandem: stdout: %s (%s)\n", strerror(errno), tdm_status_text(TDM_EIO));
    return code == TDM_OK ? TDM_EIO : code;
}
