/* Which worker may do which chunk: random runs of a simple model of workers, disks, poisonous records and broken
 * devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/supervise_chunks.c"
#include "tools/supervise_sets.c"

enum { FILES = 2, CHUNKS = 8, RECORDS = 4, WORKERS = 4, AHEAD = 4, MOST_FAULTS = 256, MOST_STEPS = 100000 };
enum { NOTHING_YET, DONE, BAD };
enum { UNASKED, YES, NO };

typedef struct {
    bool running, has_announced, is_broken;
    chunks_task task;
    bool on_disk[FILES * CHUNKS]; /* when it was started */
    bool handed[FILES * CHUNKS];  /* to its job, and not on the disk yet */
    int told[FILES * CHUNKS];
    int cursor;                   /* the chunk to ask for next */
    int open[AHEAD], n_open;      /* granted; the first is being done */
    bool reported[FILES * CHUNKS];
    int record;                   /* of open[0], the next one */
} model_worker;

typedef struct {
    int32_t worker;
    bool careful;
    bool open[FILES * CHUNKS];
} model_fault;

typedef struct {
    uint64_t random;
    chunk_board *board;
    int n_workers, n_files, n_chunks;
    int n_records[FILES * CHUNKS];
    bool poison[FILES * CHUNKS][RECORDS];
    int outcome[FILES * CHUNKS][RECORDS];
    int died_with[FILES * CHUNKS]; /* 1 + the record of the last careful death */
    bool on_disk[FILES * CHUNKS];
    model_worker workers[WORKERS];
    model_fault faults[MOST_FAULTS];
    int n_faults, n_broken;
} model;

static uint32_t draw(model *m, uint32_t n)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->random >> 33) % n;
}

static void set_up(model *m, uint64_t seed)
{
    *m = (model){.random = seed};
    m->n_workers = 1 + (int)draw(m, WORKERS);
    m->n_files = 1 + (int)draw(m, FILES);
    m->n_chunks = 1 + (int)draw(m, CHUNKS);
    const uint32_t poison = draw(m, 3) ? 1 + draw(m, 12) : 0; /* of 40 */
    for (int c = 0; c < FILES * CHUNKS; c++) {
        m->n_records[c] = (int)draw(m, RECORDS + 1);
        for (int r = 0; r < m->n_records[c]; r++)
            m->poison[c][r] = draw(m, 40) < poison;
    }
    for (int w = 0; w < m->n_workers; w++)
        m->n_broken += m->workers[w].is_broken = draw(m, 4) == 0;
    assert_int_equal(chunks_open(m->n_workers, &m->board, NULL), TDM_OK);
}

static bool is_in_input(const model *m, int c)
{
    return c / CHUNKS < m->n_files && c % CHUNKS < m->n_chunks;
}

static void model_start(model *m, int w, const chunks_task *task)
{
    model_worker *p = &m->workers[w];
    *p = (model_worker){.running = true, .is_broken = p->is_broken, .task = *task};
    memcpy(p->on_disk, m->on_disk, sizeof p->on_disk);
    chunks_started(m->board, w, task);
}

/* What the job has taken in reaches the disk, all or as far as it goes. */
static void flush(model *m, model_worker *p, bool all)
{
    for (int c = 0; c < FILES * CHUNKS; c++) {
        if (!p->handed[c] || (!all && draw(m, 2)))
            continue;
        p->handed[c] = false;
        m->on_disk[c] = true;
    }
}

static void add_model_fault(model *m, int w, const model_worker *p)
{
    assert_true(m->n_faults < MOST_FAULTS);
    model_fault *f = &m->faults[m->n_faults++];
    *f = (model_fault){.worker = w};
    for (int c = 0; c < FILES * CHUNKS && p->task.kind == CHUNKS_NORMAL; c++)
        f->open[c] = p->told[c] == YES && !p->reported[c];
}

/* A careful worker with record `record` of chunk c: the second time on end that is the reason. */
static void die_with_record(model *m, int w, int c, int record)
{
    const bool convicted = m->died_with[c] == record;
    m->died_with[c] = convicted ? 0 : record;
    for (int i = m->n_faults; i-- > 0;) {
        if (convicted && m->faults[i].open[c])
            m->faults[i] = m->faults[--m->n_faults];
        else if (m->faults[i].careful)
            m->faults[i].open[c] = false;
    }
    if (convicted)
        return;
    add_model_fault(m, w, &m->workers[w]);
    m->faults[m->n_faults - 1].careful = m->faults[m->n_faults - 1].open[c] = true;
}

static void die(model *m, int w, bool of_announced)
{
    model_worker *p = &m->workers[w];
    flush(m, p, false);
    if (of_announced)
        die_with_record(m, w, (int)p->task.file * CHUNKS + (int)p->task.number, p->record);
    else
        add_model_fault(m, w, p);
    p->running = false;
    assert_int_equal(chunks_died(m->board, w, "by signal 9", NULL), TDM_OK);
}

static bool ask(model *m, int w, int c)
{
    bool granted = false;
    assert_int_equal(chunks_grant(m->board, w, (size_t)(c / CHUNKS), (uint64_t)(c % CHUNKS), &granted, NULL), TDM_OK);
    return granted;
}

static void ask_next(model *m, int w)
{
    model_worker *p = &m->workers[w];
    const int c = p->cursor++;
    if (p->on_disk[c] || !is_in_input(m, c))
        return;
    p->told[c] = ask(m, w, c) ? YES : NO;
    if (p->told[c] == YES)
        p->open[p->n_open++] = c;
}

static void ask_again(model *m, int w)
{
    const model_worker *p = &m->workers[w];
    const int c = (int)draw(m, FILES * CHUNKS);
    if (p->told[c] != UNASKED)
        assert_int_equal(ask(m, w, c), p->told[c] == YES);
}

/* Results are the same whoever does them. */
static void settle(model *m, int c, int r, int outcome)
{
    assert_true(m->outcome[c][r] == NOTHING_YET || m->outcome[c][r] == outcome);
    m->outcome[c][r] = outcome;
}

static void do_record(model *m, int w)
{
    model_worker *p = &m->workers[w];
    const int c = p->open[0], r = p->record++;
    const bool careful = p->task.kind == CHUNKS_CAREFUL;
    const uint64_t place = (uint64_t)r * 10;
    if (careful && chunks_is_bad(m->board, (size_t)(c / CHUNKS), (uint64_t)(c % CHUNKS), place, NULL)) {
        settle(m, c, r, BAD);
        return;
    }
    if (careful)
        chunks_announced(m->board, w, place);
    p->has_announced = careful;
    if (m->poison[c][r])
        die(m, w, careful);
    else
        settle(m, c, r, DONE);
}

static void commit(model *m, int w)
{
    model_worker *p = &m->workers[w];
    const int c = p->open[0];
    memmove(p->open, p->open + 1, sizeof p->open - sizeof *p->open);
    p->n_open--;
    p->record = 0;
    p->handed[c] = true;
    if (draw(m, 8) == 0)
        return; /* and dies, maybe, before it said so */
    p->reported[c] = true;
    p->has_announced = false;
    chunks_committed(m->board, w, (size_t)(c / CHUNKS), (uint64_t)(c % CHUNKS));
}

static void step(model *m, int w)
{
    model_worker *p = &m->workers[w];
    if (draw(m, 3) == 0)
        flush(m, p, false);
    if (draw(m, 3) == 0)
        ask_again(m, w);
    if (p->is_broken && !p->has_announced && draw(m, 12) == 0)
        die(m, w, false);
    else if (p->cursor < FILES * CHUNKS && p->n_open < AHEAD && (p->n_open == 0 || draw(m, 2)))
        ask_next(m, w);
    else if (p->n_open > 0 && p->record < m->n_records[p->open[0]])
        do_record(m, w);
    else if (p->n_open > 0)
        commit(m, w);
    else {
        flush(m, p, true);
        p->running = false;
        chunks_finished(m->board, w);
    }
}

static int32_t model_faults(const model *m, int w)
{
    int32_t n = 0;
    for (int i = 0; i < m->n_faults; i++)
        n += m->faults[i].worker == w;
    return n;
}

/* Every idle worker is asked. Returns whether any is running then. */
static bool start_idle(model *m)
{
    bool any = false;
    for (int w = 0; w < m->n_workers; w++) {
        const chunks_task task = chunks_next(m->board, w);
        assert_int_equal(chunks_faults(m->board, w), model_faults(m, w));
        assert_true(task.kind != CHUNKS_LEFT_OUT || model_faults(m, w) >= 3);
        assert_true(task.kind != CHUNKS_NORMAL || model_faults(m, w) < 3);
        if (task.kind == CHUNKS_NORMAL || task.kind == CHUNKS_CAREFUL)
            model_start(m, w, &task);
        any = any || m->workers[w].running;
    }
    return any;
}

static void check_end(const model *m)
{
    const bool done = chunks_is_done(m->board);
    for (int w = 0; w < m->n_workers; w++) {
        if (!done) /* one that works is not left out for good */
            assert_true(model_faults(m, w) >= 3 && m->workers[w].is_broken);
        else if (m->n_broken == 0)
            assert_int_equal(model_faults(m, w), 0); /* poison explains all */
    }
    for (int c = 0; c < FILES * CHUNKS; c++) {
        assert_true(!done || !is_in_input(m, c) || m->on_disk[c]);
        for (int r = 0; m->on_disk[c] && r < m->n_records[c]; r++)
            assert_int_equal(m->outcome[c][r], m->poison[c][r] ? BAD : DONE);
    }
}

static void test_random(void **state)
{
    (void)state;
    int n_done = 0, n_failed = 0;
    uint64_t n_bad = 0;
    for (uint64_t seed = 1; seed <= 6000; seed++) {
        static model m;
        int steps = 0;
        set_up(&m, seed);
        while (start_idle(&m)) {
            const int w = (int)draw(&m, (uint32_t)m.n_workers);
            if (m.workers[w].running)
                step(&m, w);
            if (++steps > MOST_STEPS)
                fail_msg("seed %d does not end", (int)seed);
        }
        check_end(&m);
        n_done += chunks_is_done(m.board);
        n_failed += !chunks_is_done(m.board);
        n_bad += chunks_n_bad(m.board);
        chunks_close(m.board);
    }
    assert_true(n_done > 5000 && n_failed > 10 && n_bad > 5000); /* or the runs show little */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
