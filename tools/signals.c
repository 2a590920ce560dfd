#include "tools/signals.h"

#include <stddef.h>

static volatile sig_atomic_t caught;

static void remember(int number)
{
    if (caught) {
        signal(number, SIG_DFL);
        raise(number); /* kills once this handler has returned */
    }
    caught = number;
}

const volatile sig_atomic_t *signals_catch(void)
{
    static const int NUMBERS[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction action = {.sa_handler = remember};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        struct sigaction before;
        if (sigaction(NUMBERS[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(NUMBERS[i], &action, NULL);
    }
    return &caught;
}
