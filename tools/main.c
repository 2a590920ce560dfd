/* tools/main.c - tandem COMMAND [options]: find the command and run it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/args.h"
#include "tools/commands.h"
#include "tools/menu.h"

static const menu_entry COMMANDS[] = {
    {"generate", "documents, from nothing or from prompts, as dataset records", cmd_generate},
    {"detect", "the probability that each text was written by a machine", cmd_detect},
    {"score", "how probable GPT-2 finds each text: every zero-shot measure", cmd_score},
    {"eval", "how well scores part machine texts from human ones", cmd_eval},
    {"raid", "the RAID benchmark: its data, a submission, its results", cmd_raid},
    {"tokenize", "records to token ids, and back", cmd_tokenize},
    {"inspect", "what is in a checkpoint, a job or an output", cmd_inspect},
    {"bench", "the speed of the parts, beside the machine's ceiling", cmd_bench},
};

static const menu MENU = {
    .program = "tandem",
    .kind = "command",
    .usage = "Usage: tandem COMMAND [options]\n\n"
             "Writes with GPT-2 and reads with the GPT-2 output detector, in bulk.",
    .list = "Commands",
    .notes = "\"tandem COMMAND --help\" describes one command; \"tandem --version\" prints the version.\n"
             "Data goes to stdout, everything else to stderr.",
    .entries = COMMANDS,
    .n = COUNT(COMMANDS),
};

static int run(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--version")) {
        puts("tandem " TDM_VERSION);
        return TDM_OK;
    }
    return menu_run(&MENU, argc, argv);
}

/* A file that is opened must not get the number of stdin, stdout or stderr where these are closed: what is meant for
 * a terminal would be written into it. What stands in their place refuses what is done with them, as before. */
static bool take_standard_numbers(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if (!take_standard_numbers()) {
        fprintf(stderr, "tandem: /dev/null: %s (%s)\n", strerror(errno), tdm_status_text(TDM_EIO));
        return TDM_EIO;
    }
    /* A closed pipe is to be an error of write(), which the sink reports, not a silent death. */
    signal(SIGPIPE, SIG_IGN);
    const int code = run(argc, argv);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno != EPIPE)
        fprintf(stderr, "tandem: stdout: %s (%s)\n", strerror(errno), tdm_status_text(TDM_EIO));
    return code == TDM_OK ? TDM_EIO : code;
}
