#include "tools/menu.h"

#include <stdio.h>
#include <string.h>

#include "tools/args.h"

static void print_help(FILE *to, const menu *m)
{
    fprintf(to, "%s\n\n%s:\n", m->usage, m->list);
    for (size_t i = 0; i < m->n; i++)
        fprintf(to, "  %-11s %s\n", m->entries[i].name, m->entries[i].help);
    fprintf(to, "\n%s\n\n", m->notes);
    args_print_exit_codes(to);
}

int menu_run(const menu *m, int argc, char **argv)
{
    enum { MOST = 16 };
    const char *names[MOST];
    if (argc < 2) {
        print_help(stderr, m);
        return TDM_EARG;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        print_help(stdout, m);
        return TDM_OK;
    }
    size_t n = 0;
    for (; n < m->n && n < MOST; n++) {
        if (!strcmp(argv[1], m->entries[n].name))
            return m->entries[n].run(argc - 1, argv + 1);
        names[n] = m->entries[n].name;
    }
    const char *near = args_suggest(argv[1], names, n);
    fprintf(stderr, "%s: there is no %s %s%s%s%s; see %s --help\n", m->program, m->kind, argv[1],
            near ? " (did you mean " : "", near ? near : "", near ? "?)" : "", m->program);
    return TDM_EARG;
}
