/* tests/crash/situation.h - states of OUT's folder in which a run can find itself, and the calls
 * that it makes from there on.
 *
 *   situation s;
 *   situation_make(&s, w, SITUATION_RESUMED);
 *   for (size_t i = 0; i < s.n_sites; i++) { ...s.sites[i].name, .calls...
 *       run r = situation_try(&s);    // the folder as it was; r.out in it
 *   }
 *   situation_free(&s); */
#ifndef TESTS_CRASH_SITUATION_H
#define TESTS_CRASH_SITUATION_H

#include "tests/crash/crash.h"

typedef enum {
    SITUATION_FRESH,   /* nothing is there */
    SITUATION_RESUMED, /* a run was killed in the middle of a write */
    SITUATION_JOINING, /* the other of two ranks is done: this one joins the parts */
    N_SITUATIONS
} situation_kind;

extern const char *const SITUATION_NAMES[N_SITUATIONS];

typedef struct {
    char name[48]; /* "fsync@0x1a2b" */
    long calls;
} call_site;

typedef struct {
    const workload *w;
    situation_kind kind;
    char folder[PATH_CAP]; /* what is there; copied for each try */
    call_site *sites;      /* owned [n_sites] */
    size_t n_sites;
} situation;

void situation_make(situation *s, const workload *w, situation_kind kind);
void situation_free(situation *s);
run situation_try(const situation *s);
/* Run r until it is killed in the middle of a write, with some chunks committed. */
void run_until_torn(run *r);
/* Whether a site is of this kind of call. */
bool site_is(const call_site *site, const char *kind);
/* How often the fault of the last run with r->list was met. */
long fault_fired(const run *r);

#endif
