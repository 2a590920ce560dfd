/* tools/menu.h - a word chooses what runs: `tandem COMMAND`, `tandem bench PART`. */
#ifndef TOOLS_MENU_H
#define TOOLS_MENU_H

#include <stddef.h>

typedef struct {
    const char *name, *help;
    int (*run)(int argc, char **argv); /* argv[0] is the name */
} menu_entry;

typedef struct {
    const char *program; /* "tandem", "tandem bench" */
    const char *kind;    /* what an entry is called: "command" */
    const char *usage, *list, *notes; /* the help text before the entries, their title, after them */
    const menu_entry *entries;
    size_t n;
} menu;

/* Run the entry that argv[1] names, or print the help text, or say that there is no such entry.
 * Returns the exit code. */
int menu_run(const menu *m, int argc, char **argv);

#endif
