#include "tools/signals.h"

#include <signal.h>
#include <stddef.h>

static tdm_stop caught;
static pid_t only_from; /* 0: anybody */

static void remember(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (only_from && info->si_pid != only_from)
        return;
    if (!only_from && tdm_stopped(&caught)) { /* a worker may have been forked behind the first one */
        signal(number, SIG_DFL);
        raise(number); /* kills once this handler has returned */
    }
    tdm_stop_set(&caught, number);
}

static const struct sigaction action = {.sa_sigaction = remember, .sa_flags = SA_SIGINFO};

const tdm_stop *signals_catch(void)
{
    static const int NUMBERS[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        struct sigaction before;
        if (sigaction(NUMBERS[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(NUMBERS[i], &action, NULL);
    }
    return &caught;
}

void signals_only_from(pid_t sender)
{
    only_from = sender;
    sigaction(SIGTERM, &action, NULL); /* which may have been inherited as ignored */
}
