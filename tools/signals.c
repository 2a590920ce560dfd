#include "tools/signals.h"

#include <stddef.h>

static volatile sig_atomic_t caught;

static void remember(int number)
{
    caught = number;
}

const volatile sig_atomic_t *signals_catch(void)
{
    const struct sigaction action = {.sa_handler = remember, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return &caught;
}
