#include "tests/crash/situation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const SITUATION_NAMES[] = {"fresh", "resumed", "joining"};

/* Lines of TDM_FAULT_LIST: "KIND@0xADDRESS COUNT" and "fired COUNT". */
static void read_sites(situation *s, const char *path)
{
    FILE *f = fopen(path, "r");
    EXPECT(f, "%s is not there", path);
    call_site site;
    while (fscanf(f, "%47s %ld", site.name, &site.calls) == 2) {
        if (!strchr(site.name, '@'))
            continue;
        s->sites = realloc(s->sites, (s->n_sites + 1) * sizeof *s->sites);
        EXPECT(s->sites, "no memory");
        s->sites[s->n_sites++] = site;
    }
    fclose(f);
}

long fault_fired(const run *r)
{
    FILE *f = fopen(r->list, "r");
    char name[64];
    long count, fired = 0;
    if (!f)
        return 0;
    while (fscanf(f, "%63s %ld", name, &count) == 2)
        if (!strcmp(name, "fired"))
            fired += count;
    fclose(f);
    return fired;
}

/* How many chunks share a round of writing depends on time: the middle of the run is looked for. */
void run_until_torn(run *r)
{
    char fault[32];
    for (int n = 27; n > 1; n--) {
        const char *out = try_out(r->w);
        snprintf(fault, sizeof fault, "pwrite:%d:torn", n);
        r->fault = fault;
        const int code = run_to_end(r);
        r->fault = NULL;
        if (code == -9 && journal_lines(out) > 2)
            return;
    }
    give_up(__FILE__, __LINE__, "%s: no run ends in the middle", r->w->name);
}

static void prepare(const situation *s, const char *out)
{
    run r = {.w = s->w, .out = out};
    if (s->kind == SITUATION_RESUMED) {
        run_until_torn(&r);
    } else if (s->kind == SITUATION_JOINING) {
        r.shard = 1;
        r.shards = 2;
        const int code = run_to_end(&r);
        EXPECT(code == 0 || code == 3, "%s: rank 1 of 2 ended with %d", s->w->name, code);
    }
}

void situation_make(situation *s, const workload *w, situation_kind kind)
{
    char list[PATH_CAP], try[PATH_CAP];
    *s = (situation){.w = w, .kind = kind};
    scratch_path(s->folder, "start-%s", SITUATION_NAMES[kind]);
    scratch_path(list, "list");
    scratch_path(try, "try");
    remove_tree(s->folder);
    remove_tree(list);
    prepare(s, try_out(w));
    copy_tree(try, s->folder);
    run r = situation_try(s);
    r.list = list;
    const int code = run_to_end(&r);
    EXPECT(code == w->ref.code, "%s: %s ended with %d", w->name, SITUATION_NAMES[kind], code);
    expect_same(w, r.out);
    read_sites(s, list);
}

void situation_free(situation *s)
{
    remove_tree(s->folder);
    free(s->sites);
}

run situation_try(const situation *s)
{
    char folder[PATH_CAP];
    const run r = {.w = s->w, .out = try_out(s->w), .shards = s->kind == SITUATION_JOINING ? 2 : 0};
    scratch_path(folder, "try");
    remove_tree(folder);
    copy_tree(s->folder, folder);
    return r;
}

bool site_is(const call_site *site, const char *kind)
{
    return !strncmp(site->name, kind, strlen(kind)) && site->name[strlen(kind)] == '@';
}
