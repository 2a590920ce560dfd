/* tools/supervise_chunks.c - see supervise_chunks.h.
 *
 * A bit in `taken` means: not for whoever asks. It is set by a grant, cleared by the death of that life, and stays set
 * where a chunk has become careful. All that a dead life had goes back, so what is missing on the disk is known to
 * no one: the job is done when a life that was started after the last such death has walked all of the input, and
 * all others have finished too. */
#include "tools/supervise_chunks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/supervise_sets.h"

#define MOST_CHUNKS ((uint64_t)1 << 32) /* of a file; what a journal can number */
enum { CAREFUL_DEATHS = 2, RECORD_DEATHS = 2, HOW_TEXT = 120, REASON_TEXT = HOW_TEXT + 64 };

typedef struct {
    chunks_kind kind; /* NOTHING: none is running */
    chunk_id careful;
    uint64_t since;     /* when it was started, in events of the board */
    chunk_set yes, no;  /* what it was told */
    chunk_list open;    /* of yes: not reported as committed */
    bool has_announced; /* place */
    uint64_t place;
} life;

typedef struct {
    uint64_t place;
    char reason[REASON_TEXT];
} bad_record;

/* A chunk that workers died with. */
typedef struct {
    chunk_id chunk;
    int32_t deaths;
    bool is_out; /* a running life has it */
    bool has_last; /* last: the record that the last careful worker died with */
    uint64_t last;
    bad_record *bad;
    size_t n_bad, cap_bad;
} suspect;

typedef struct {
    int32_t worker;
    bool careful; /* of a careful worker: open is its chunk, until another record has come under suspicion */
    chunk_list open;
} fault;

struct chunk_board {
    int32_t n_workers;
    life *lives; /* [n_workers] */
    chunk_set taken;
    suspect *suspects;
    size_t n_suspects, cap_suspects;
    fault *faults;
    size_t n_faults, cap_faults;
    uint64_t now, lost; /* events so far; the last one that made chunks go back */
    bool has_seen_end;  /* some life has walked all of the input */
    bool is_walked;     /* one that was started after `lost` */
    uint64_t n_bad;
};

/* ---- opening ---- */

tdm_status chunks_open(int32_t n_workers, chunk_board **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    chunk_board *b = calloc(1, sizeof *b);
    TDM_REQUIRE(b, TDM_ENOMEM, "the chunks of the workers");
    b->n_workers = n_workers;
    b->lives = calloc((size_t)n_workers, sizeof *b->lives);
    TDM_REQUIRE(b->lives, TDM_ENOMEM, "%d workers", (int)n_workers);
    *out = b;
    b = NULL;
done:
    chunks_close(b);
    return st;
}

static void end_life(life *l)
{
    chunk_set_free(&l->yes);
    chunk_set_free(&l->no);
    free(l->open.p);
    *l = (life){0};
}

void chunks_close(chunk_board *b)
{
    if (!b)
        return;
    for (int32_t i = 0; b->lives && i < b->n_workers; i++)
        end_life(&b->lives[i]);
    for (size_t i = 0; i < b->n_suspects; i++)
        free(b->suspects[i].bad);
    for (size_t i = 0; i < b->n_faults; i++)
        free(b->faults[i].open.p);
    free(b->lives);
    free(b->suspects);
    free(b->faults);
    chunk_set_free(&b->taken);
    free(b);
}

/* ---- suspects and faults ---- */

static suspect *find_suspect(const chunk_board *b, chunk_id c)
{
    for (size_t i = 0; i < b->n_suspects; i++)
        if (chunk_is_same(b->suspects[i].chunk, c))
            return &b->suspects[i];
    return NULL;
}

static bool is_careful(const suspect *s)
{
    return s->deaths >= CAREFUL_DEATHS;
}

/* A chunk is done: whatever happened, it was not the reason. The others keep their order: who was open first is the
 * likelier reason. */
static void acquit(chunk_board *b, chunk_id c)
{
    suspect *s = find_suspect(b, c);
    if (!s)
        return;
    free(s->bad);
    b->n_suspects--;
    memmove(s, s + 1, (size_t)(b->suspects + b->n_suspects - s) * sizeof *s);
}

/* Chunks went back, which those who run have passed, maybe. */
static void note_loss(chunk_board *b)
{
    b->lost = ++b->now;
    b->is_walked = false;
}

/* A death that a chunk was suspected for is explained by another one (with a bad record): without it, the chunk may be
 * one for everybody again. */
static void forgive(chunk_board *b, chunk_id c)
{
    suspect *s = find_suspect(b, c);
    if (!s || s->is_out || s->n_bad > 0 || s->has_last)
        return;
    if (s->deaths-- == CAREFUL_DEATHS) {
        chunk_set_drop(&b->taken, c);
        note_loss(b);
    }
}

/* One of its records was the reason. */
static void convict(chunk_board *b, chunk_id c)
{
    for (size_t i = b->n_faults; i-- > 0;) {
        fault f = b->faults[i];
        if (chunk_list_find(&f.open, c) == f.open.n)
            continue;
        for (size_t k = 0; k < f.open.n; k++)
            forgive(b, f.open.p[k]);
        free(f.open.p);
        b->faults[i] = b->faults[--b->n_faults];
    }
}

int32_t chunks_faults(const chunk_board *b, int32_t worker)
{
    int32_t n = 0;
    for (size_t i = 0; i < b->n_faults; i++)
        n += b->faults[i].worker == worker;
    return n;
}

static bool died_with(const chunk_board *b, int32_t worker, chunk_id c)
{
    bool found = false;
    for (size_t i = 0; i < b->n_faults && !found; i++)
        found = b->faults[i].worker == worker &&
                chunk_list_find(&b->faults[i].open, c) < b->faults[i].open.n;
    return found;
}

/* ---- what to do ---- */

/* Where only one device died with a chunk, another one is better to tell which of the two is the reason. */
static bool is_for(const chunk_board *b, int32_t worker, chunk_id c)
{
    bool better = false;
    for (int32_t v = 0; v < b->n_workers && !better; v++)
        better = chunks_faults(b, v) < CHUNKS_MOST_FAULTS && !died_with(b, v, c);
    return !better || !died_with(b, worker, c);
}

/* Careful work for a worker; own: only with a chunk that it died with. NULL: none. */
static const suspect *find_careful(const chunk_board *b, int32_t worker, bool own)
{
    for (size_t i = 0; i < b->n_suspects; i++) {
        const suspect *s = &b->suspects[i];
        if (is_careful(s) && !s->is_out && is_for(b, worker, s->chunk) && (!own || died_with(b, worker, s->chunk)))
            return s;
    }
    return NULL;
}

/* Whether a device stays out: no chunk can explain enough of its faults. */
static bool is_hopeless(const chunk_board *b, int32_t worker)
{
    int32_t n = 0;
    for (size_t i = 0; i < b->n_faults; i++)
        n += b->faults[i].worker == worker && b->faults[i].open.n == 0;
    return n >= CHUNKS_MOST_FAULTS;
}

/* Lives that will come by all that went back. */
static size_t count_coming(const chunk_board *b)
{
    size_t n = 0;
    for (int32_t i = 0; i < b->n_workers; i++)
        n += b->lives[i].kind == CHUNKS_NORMAL && b->lives[i].since > b->lost;
    return n;
}

/* Whether one more worker would find something to do: until one has seen the end, it may; then, what went back. */
static bool needs_worker(const chunk_board *b)
{
    size_t left = 0;
    for (size_t i = 0; i < b->n_suspects; i++)
        left += !b->suspects[i].is_out && !is_careful(&b->suspects[i]);
    return !b->is_walked && (!b->has_seen_end || count_coming(b) < (left ? left : 1));
}

chunks_task chunks_next(const chunk_board *b, int32_t worker)
{
    if (b->lives[worker].kind != CHUNKS_NOTHING)
        return (chunks_task){.kind = CHUNKS_NOTHING};
    const bool is_out = chunks_faults(b, worker) >= CHUNKS_MOST_FAULTS;
    const suspect *careful = find_careful(b, worker, is_out);
    if (is_out && (!careful || is_hopeless(b, worker)))
        return (chunks_task){.kind = CHUNKS_LEFT_OUT};
    if (careful)
        return (chunks_task){CHUNKS_CAREFUL, careful->chunk.file, careful->chunk.number};
    return (chunks_task){.kind = needs_worker(b) ? CHUNKS_NORMAL : CHUNKS_NOTHING};
}

bool chunks_is_done(const chunk_board *b)
{
    bool done = b->is_walked && b->n_suspects == 0;
    for (int32_t i = 0; i < b->n_workers; i++)
        done = done && b->lives[i].kind == CHUNKS_NOTHING;
    return done;
}

/* ---- what a worker says ---- */

void chunks_started(chunk_board *b, int32_t worker, const chunks_task *task)
{
    life *l = &b->lives[worker];
    *l = (life){.kind = task->kind, .careful = {task->file, task->number}, .since = ++b->now};
    suspect *s = task->kind == CHUNKS_CAREFUL ? find_suspect(b, l->careful) : NULL;
    if (s)
        s->is_out = true;
}

static tdm_status answer(chunk_board *b, life *l, chunk_id c, bool granted, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(chunk_set_put(granted ? &l->yes : &l->no, c, err));
    if (!granted)
        goto done;
    TDM_TRY(chunk_set_put(&b->taken, c, err));
    TDM_TRY(chunk_list_put(&l->open, c, err));
    suspect *s = find_suspect(b, c);
    if (s)
        s->is_out = true;
done:
    return st;
}

tdm_status chunks_grant(chunk_board *b, int32_t worker, size_t file, uint64_t number, bool *granted, tdm_err *err)
{
    tdm_status st = TDM_OK;
    life *l = &b->lives[worker];
    const chunk_id c = {file, number};
    TDM_REQUIRE(number < MOST_CHUNKS, TDM_EINTERNAL, "chunk %" PRIu64 " of file %zu, want less than %" PRIu64,
                number, file, MOST_CHUNKS);
    if (l->kind == CHUNKS_CAREFUL) {
        *granted = chunk_is_same(c, l->careful);
        goto done;
    }
    *granted = chunk_set_has(&l->yes, c);
    if (*granted || chunk_set_has(&l->no, c))
        goto done;
    *granted = !chunk_set_has(&b->taken, c);
    TDM_TRY(answer(b, l, c, *granted, err));
done:
    return st;
}

void chunks_committed(chunk_board *b, int32_t worker, size_t file, uint64_t number)
{
    life *l = &b->lives[worker];
    const chunk_id c = {file, number};
    const bool careful = l->kind == CHUNKS_CAREFUL;
    if (careful ? !chunk_is_same(c, l->careful) : !chunk_list_drop(&l->open, c))
        return;
    l->has_announced = false;
    if (!careful)
        acquit(b, c);
}

void chunks_announced(chunk_board *b, int32_t worker, uint64_t place)
{
    life *l = &b->lives[worker];
    l->has_announced = true;
    l->place = place;
}

bool chunks_is_bad(const chunk_board *b, size_t file, uint64_t number, uint64_t place, const char **reason)
{
    const suspect *s = find_suspect(b, (chunk_id){file, number});
    for (size_t i = 0; s && i < s->n_bad; i++) {
        if (s->bad[i].place != place)
            continue;
        if (reason)
            *reason = s->bad[i].reason;
        return true;
    }
    return false;
}

/* ---- how a worker ends ---- */

/* What went back and was not asked for by one that came by all of it is on the disk. */
static void acquit_walked(chunk_board *b)
{
    for (size_t i = b->n_suspects; i-- > 0;)
        if (!b->suspects[i].is_out && !is_careful(&b->suspects[i]))
            acquit(b, b->suspects[i].chunk);
}

void chunks_finished(chunk_board *b, int32_t worker)
{
    life *l = &b->lives[worker];
    if (l->kind == CHUNKS_CAREFUL) {
        acquit(b, l->careful);
    } else {
        for (size_t i = 0; i < l->open.n; i++)
            acquit(b, l->open.p[i]);
        b->has_seen_end = true;
        b->is_walked = b->is_walked || l->since > b->lost;
        if (l->since > b->lost)
            acquit_walked(b);
    }
    end_life(l);
}

static suspect *add_suspect(chunk_board *b, chunk_id c, tdm_err *err)
{
    suspect *p = chunks_grow(b->suspects, b->n_suspects, &b->cap_suspects, sizeof *p, err);
    if (!p)
        return NULL;
    b->suspects = p;
    p[b->n_suspects] = (suspect){.chunk = c};
    return &p[b->n_suspects++];
}

static tdm_status suspect_chunk(chunk_board *b, chunk_id c, tdm_err *err)
{
    suspect *s = find_suspect(b, c);
    if (!s)
        s = add_suspect(b, c, err);
    if (!s)
        return TDM_ENOMEM;
    s->deaths++;
    s->is_out = false;
    return is_careful(s) ? chunk_set_put(&b->taken, c, err) : TDM_OK;
}

/* The fault takes the list of what was open. */
static tdm_status add_fault(chunk_board *b, int32_t worker, chunk_list *open, tdm_err *err)
{
    fault *p = chunks_grow(b->faults, b->n_faults, &b->cap_faults, sizeof *p, err);
    if (!p)
        return TDM_ENOMEM;
    b->faults = p;
    p[b->n_faults++] = (fault){.worker = worker, .open = *open};
    *open = (chunk_list){0};
    return TDM_OK;
}

/* The announced record is bad. */
static tdm_status add_bad(chunk_board *b, suspect *s, uint64_t place, const char *how, tdm_err *err)
{
    bad_record *p = chunks_grow(s->bad, s->n_bad, &s->cap_bad, sizeof *p, err);
    if (!p)
        return TDM_ENOMEM;
    s->bad = p;
    p += s->n_bad++;
    p->place = place;
    snprintf(p->reason, sizeof p->reason, "%d workers died with it, the last %.*s", (int)s->deaths + RECORD_DEATHS, HOW_TEXT,
             how);
    s->has_last = false;
    b->n_bad++;
    convict(b, s->chunk);
    return TDM_OK;
}

static tdm_status normal_died(chunk_board *b, int32_t worker, tdm_err *err)
{
    tdm_status st = TDM_OK;
    life *l = &b->lives[worker];
    chunk_set_remove(&b->taken, &l->yes);
    for (size_t i = 0; i < l->open.n; i++)
        TDM_TRY(suspect_chunk(b, l->open.p[i], err));
    if (l->yes.n > 0)
        note_loss(b);
    TDM_TRY(add_fault(b, worker, &l->open, err));
done:
    return st;
}

/* Once two careful workers died with it, a record is bad; one may have been killed by anybody. Until then the death is a fault, and
 * where the last one was with another record, that one was not the reason, and nothing explains it any more. */
static tdm_status record_died(chunk_board *b, int32_t worker, suspect *s, const char *how, tdm_err *err)
{
    tdm_status st = TDM_OK;
    life *l = &b->lives[worker];
    if (s->has_last && s->last == l->place)
        return add_bad(b, s, l->place, how, err);
    for (size_t i = 0; i < b->n_faults; i++)
        if (b->faults[i].careful && chunk_list_find(&b->faults[i].open, s->chunk) < b->faults[i].open.n)
            b->faults[i].open.n = 0;
    TDM_TRY(chunk_list_put(&l->open, s->chunk, err));
    TDM_TRY(add_fault(b, worker, &l->open, err));
    b->faults[b->n_faults - 1].careful = true;
    s->has_last = true;
    s->last = l->place;
done:
    return st;
}

static tdm_status careful_died(chunk_board *b, int32_t worker, const char *how, tdm_err *err)
{
    tdm_status st = TDM_OK;
    life *l = &b->lives[worker];
    suspect *s = find_suspect(b, l->careful);
    TDM_REQUIRE(s, TDM_EINTERNAL, "a careful worker for a chunk that is not suspected");
    s->is_out = false;
    if (l->has_announced)
        TDM_TRY(record_died(b, worker, s, how, err));
    else
        TDM_TRY(add_fault(b, worker, &l->open, err));
done:
    return st;
}

tdm_status chunks_died(chunk_board *b, int32_t worker, const char *how, tdm_err *err)
{
    life *l = &b->lives[worker];
    const tdm_status st = l->kind == CHUNKS_CAREFUL ? careful_died(b, worker, how, err) : normal_died(b, worker, err);
    end_life(l);
    return st;
}

uint64_t chunks_n_bad(const chunk_board *b)
{
    return b->n_bad;
}
