/* Which worker may do which chunk: courses of events in a small language, and thousands of random runs of a simple
 * model of workers, disks, poisonous records and broken devices. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/supervise_chunks.c"

/* ---- courses of events ---- */

/* Words of a course, w a worker and c a chunk of file 0:
 *   w=N w=Cc w=L w=-   what w should do: normal, careful with c, left out, nothing
 *   w+   w starts with that
 *   w?c  w asks for c and gets it;  w!c  and does not
 *   w.c  w reports c as committed
 *   w@p  w announces place p
 *   wX   w dies by signal 9;  wE  w finishes
 *   w#n  n faults are held against w
 *   b:c@p  the record at p of c is bad;  g:c@p  it is not
 *   done  busy */
typedef struct {
    const char *name;
    int32_t n_workers;
    const char *course;
} course;

static const course COURSES[] = {
    {"one worker, to the end", 1, "busy 0=N 0+ 0=- 0?0 0?1 0.0 0?2 busy 0E 0=- done"},
    {"a chunk belongs to whoever asks first", 2, "0+ 1+ 0?0 1!0 1?1 0!1 0.0 1!0 0E 1!0 1E done"},
    {"asking again gives the same answer", 2, "0+ 1+ 0?0 0?0 0.0 0?0 1!0 0X 1!0 0+ 0?0 1!0 0E 1E done"},
    {"answers in any order", 1, "0+ 0?700 0?3 0?699 0?3 0E done"},
    {"a worker at the start is started again until the input is walked", 2, "0+ 1+ 0X 0#1 0=N 0+ 1E 0E 0=- 1=- done"},
    {"chunks go back, reported or not", 2, "0+ 1+ 0?0 0?1 0.0 0X 1?0 1?1 1E 0=N 0+ 0E done"},
    {"a chunk that had reached the disk is not asked for again", 1, "0+ 0?0 0X 0+ 0?1 0E done 0#1"},
    {"what went back behind all who run", 2, "0+ 1+ 0?0 1!0 1?1 0X 1E busy 1=N 1+ 1?0 0=- 1E done"},
    {"as many as there are chunks that went back", 3,
     "0+ 1+ 2+ 0?0 0?1 1E 2!0 2!1 0X 2E 0=N 0+ 1=N 1+ 2=- 0?0 1!0 1?1 2=- 0E 1E done"},
    {"a life that began before the last death does not vouch for it", 2,
     "0+ 1+ 0?0 1?1 1!0 0X 1E busy 0=N 0+ 0?0 0E done"},
    {"a death that lost nothing needs no walk", 2, "0+ 1+ 0?0 0E 1X 1=- done 1#1"},
    {"three faults", 2, "0+ 1+ 0X 0+ 0X 0#2 0+ 0X 0#3 0=L 1?0 1E 0=L 1=- done"},
    {"three faults of the only device", 1, "0+ 0?0 0X 0+ 0?0 0X 0#2 0=N 0+ 0X 0#3 0=L busy"},

    {"a poisonous record", 1,
     "0+ 0?4 0?5 0.4 0X 0+ 0?5 0X 0#2 0=C5 0+ 0!4 0?5 0@10 0@20 0X 0#0 b:5@20 g:5@10 g:4@20"
     " 0=C5 0+ 0?5 0@10 0@30 0.5 0E 0=N 0+ 0!5 0?6 0E done"},
    {"two of them in a chunk", 1,
     "0+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0+ 0@10 0X b:5@10 0+ 0@20 0X b:5@10 b:5@20 0#0 0+ 0@30 0.5 0E 0+ 0E done"},
    {"of two chunks one is innocent", 1,
     "0+ 0?4 0.4 0?5 0?6 0X 0+ 0?5 0?6 0X 0=C5 0+ 0?5 0!6 0@1 0.5 0E 0#2 0=C6 0+ 0?6 0@9 0X b:6@9 0#0"
     " 0+ 0@8 0.6 0E 0+ 0E done"},
    {"what was open with a poisonous record is for everybody again", 2,
     "0+ 1+ 0?4 0.4 0?5 0?6 0X 0+ 0?5 0?6 0?7 0X 1!5 1?8 1.8 0=N 1E 1=C5 1+ 1@1 0+ 0!5 0!6 0E 1X b:5@1 0=C5 1=C5 0+ 1=N 1+"
     " 1!5 1?6 1?7 1E busy 0.5 0E done 0#0"},
    {"and may turn out to be poisonous too", 1,
     "0+ 0?4 0.4 0?5 0?6 0X 0+ 0?5 0?6 0X 0+ 0@1 0X b:5@1 0#0 0+ 0.5 0E 0=N 0+ 0?6 0X 0=N 0+ 0?6 0X 0#2 0=C6"
     " 0+ 0@2 0X b:6@2 0#0 0=C6 0+ 0.6 0E 0+ 0E done"},
    {"but not while another worker has it alone", 2,
     "0+ 1+ 0?4 1?8 0.4 1.8 0?5 0?6 0X 1?5 1?6 1X 0=C5 0+ 1=C6 1+ 0@1 1@1 0X b:5@1 1X b:6@1 0=C5 1=C5 0#0 1#0"},
    {"who was open first comes first", 1,
     "0+ 0?4 0.4 0?5 0?6 0?7 0X 0+ 0?5 0?6 0?7 0X 0=C5 0+ 0.5 0E 0=C6 0+ 0.6 0E 0=C7"},
    {"faults stay where the chunk was innocent", 1,
     "0+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0+ 0@1 0.5 0E 0#2 0=N 0+ 0?6 0X 0#3 0=L busy"},
    {"a chunk that was done by another after one death", 2, "0+ 1+ 0?5 0X 1?5 1.5 0#1 0+ 0!5 0?6 0X 0#2 1E 0+ 0?6 0E done"},
    {"nobody gets a careful chunk", 2, "0+ 1+ 0?5 0X 0+ 0?5 0X 1!5 1?6 0#2 0+ 0!5 0E 1E busy"},
    {"another's walk says nothing of a chunk that is out", 2, "0+ 0?4 0.4 0?5 0X 0+ 1+ 0?5 1!5 1E 0X 0#2 0=C5"},
    {"careful work goes to a device that did not die with it", 2,
     "0+ 1+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0=C5 1?6 1.6 0=N 1E 1=C5 0=N 1+ 1?5 1@1 1.5 1E 0#2 0+ 0E done"},
    {"nor to one that has never worked", 2, "0+ 1+ 0?4 0.4 0?5 0X 0+ 0?5 0X 1X 0=C5 1=N 0+ 0.5 0E 0+ 0E 1=- done"},
    {"unless nothing else is left", 1, "0+ 0?5 0X 0+ 0?5 0X 0=N 0+ 0!5 0E 0=C5 0+ 0@1 0X b:5@1 0#0"},
    {"unless the others are left out", 2,
     "1+ 1?4 1.4 1X 1+ 1X 1+ 1X 1=L 0+ 0?5 0X 0+ 0?5 0X 0=N 0+ 0E 0=C5 0+ 0@1 0X b:5@1 0#0 0+ 0.5 0E done 1=L"},
    {"or died with it too", 2,
     "0+ 1+ 0?4 0.4 0?5 1?6 1.6 0X 1?5 1X 0=C5 1=C5 1+ 0=N 1@1 1X 0#0 1#0 b:5@1 0=C5 0+ 0.5 0E 1+ 1E done"},
    {"no work for two on the same careful chunk", 2,
     "0+ 1+ 0?4 0.4 0?5 0X 1?5 1X 0=C5 0+ 1=N 1+ 1!5 1E 1=- 0.5 0E done 0#1 1#1"},
    {"faults that others' careful work explains", 2,
     "0+ 1+ 1?4 1.4 0?5 0X 0+ 0?5 0X 0+ 0?6 0X 0#3 0=L 1E 1=C5 1+ 1@1 1X b:5@1 0#1 0=N 1=C5 1+ 1.5 0=N 1E"
     " 0+ 0?6 0E done"},
    {"or one's own, if there is no one else", 1,
     "0+ 0?4 0?5 0X 0+ 0?4 0?5 0X 0=N 0+ 0?3 0.3 0?6 0X 0#3 0=C4 0+ 0@1 0X b:4@1 0#1 0=C4 0+ 0.4 0E"
     " 0=N 0+ 0?5 0?6 0E done"},
    {"but not others'", 2,
     "0+ 1+ 1?5 1X 0?4 0.4 0?6 0X 0+ 0?7 0X 0#2 0+ 0?8 1+ 1?5 1X 0X 0#3 0=L 1=N 1+ 1E 0=L 1=C5"},
    {"but not if the device has never worked", 1, "0+ 0?5 0X 0+ 0?5 0X 0+ 0?6 0X 0#3 0=L"},
    {"a careful worker that dies before it announced anything", 1,
     "0+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0=C5 0+ 0?5 0X 0#3 0=C5 0+ 0X 0#4 0=C5 0+ 0X 0#5 0=L g:5@0"},
    {"or when the chunk was done", 2,
     "0+ 1+ 0?4 0.4 0?5 0X 1?5 1X 0+ 0@1 0.5 0X 0#2 g:5@1 0=C5 0+ 0E 0#2 1#1 0=N 0+ 0E done"},
    {"that fault is not explained by another one", 2,
     "0+ 1+ 0?4 0.4 0?5 1?6 1.6 0X 1?5 1X 0=C5 0+ 0X 0#2 1#1 1=C5 1+ 1@1 1X 0#1 1#0 b:5@1"},
    {"a careful worker that finds its chunk on the disk", 1, "0+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0=C5 0+ 0E 0=N 0+ 0E done 0#2"},
    {"careful before normal work", 2,
     "0+ 1+ 1?4 1.4 0?5 0?6 0X 1?5 1X 0=N 1=C5 1+ 1@1 1X 1+ 1.5 1E 1=N 1+ 1?6 1E done"},
    {"two workers die at once", 2, "0+ 1+ 0?0 1?1 0X 1X 0=N 1=N 0+ 1+ 0?0 0?1 1!0 1!1 0E 1E done"},
    {"a worker that was not started", 1, "0X 0#1 0X 0X 0=L busy"},
};

/* The numbers of a word, which begins with a worker or, of records, with b: or g:. */
typedef struct {
    char what;
    int32_t worker;
    uint64_t first, second;
} event;

static event read_word(const char *word)
{
    event e = {0};
    char *end = NULL;
    if (word[1] == ':') {
        e.what = word[0];
        e.first = strtoull(word + 2, &end, 10);
        e.second = strtoull(end + 1, NULL, 10);
    } else {
        e.worker = word[0] - '0';
        e.what = word[1];
        e.first = strtoull(word + 2, NULL, 10);
    }
    return e;
}

static void expect_next(const chunk_board *b, int32_t worker, const char *want)
{
    char got[32] = "";
    const chunks_task t = chunks_next(b, worker);
    snprintf(got, sizeof got, "%c", "-NCL"[t.kind]);
    if (t.kind == CHUNKS_CAREFUL)
        snprintf(got, sizeof got, "C%d", (int)t.number);
    assert_string_equal(got, want);
}

static void start(chunk_board *b, int32_t worker)
{
    const chunks_task t = chunks_next(b, worker);
    assert_true(t.kind == CHUNKS_NORMAL || t.kind == CHUNKS_CAREFUL);
    chunks_started(b, worker, &t);
}

static void play_word(chunk_board *b, const char *word)
{
    const event e = read_word(word);
    bool granted = false;
    if (!isdigit((unsigned char)word[0]) && word[1] != ':')
        assert_int_equal(chunks_is_done(b), strcmp(word, "done") == 0);
    else if (e.what == 'b' || e.what == 'g')
        assert_int_equal(chunks_is_bad(b, 0, e.first, e.second, NULL), e.what == 'b');
    else if (e.what == '=')
        expect_next(b, e.worker, word + 2);
    else if (e.what == '+')
        start(b, e.worker);
    else if (e.what == '.')
        chunks_committed(b, e.worker, 0, e.first);
    else if (e.what == '@')
        chunks_announced(b, e.worker, e.first);
    else if (e.what == 'E')
        chunks_finished(b, e.worker);
    else if (e.what == 'X')
        assert_int_equal(chunks_died(b, e.worker, "by signal 9", NULL), TDM_OK);
    else if (e.what == '#')
        assert_int_equal(chunks_faults(b, e.worker), e.first);
    else {
        assert_true(e.what == '?' || e.what == '!');
        assert_int_equal(chunks_grant(b, e.worker, 0, e.first, &granted, NULL), TDM_OK);
        assert_int_equal(granted, e.what == '?');
    }
}

static void test_courses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof COURSES / sizeof *COURSES; i++) {
        chunk_board *b = NULL;
        char words[512];
        assert_int_equal(chunks_open(COURSES[i].n_workers, &b, NULL), TDM_OK);
        snprintf(words, sizeof words, "%s", COURSES[i].course);
        for (char *at = NULL, *word = strtok_r(words, " ", &at); word; word = strtok_r(NULL, " ", &at)) {
            print_message("%s: %s\n", COURSES[i].name, word); /* the last one is where it failed */
            play_word(b, word);
        }
        chunks_close(b);
    }
}

static void test_reason(void **state)
{
    (void)state;
    chunk_board *b = NULL;
    const char *reason = NULL;
    char longer[300];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(chunks_open(1, &b, NULL), TDM_OK);
    for (int i = 0; i < 3; i++) {
        bool granted;
        start(b, 0);
        assert_int_equal(chunks_grant(b, 0, 3, 8, &granted, NULL), TDM_OK);
        assert_int_equal(chunks_grant(b, 0, 3, 9, &granted, NULL), TDM_OK);
        chunks_committed(b, 0, 3, 9);
        chunks_announced(b, 0, 77);
        assert_int_equal(chunks_died(b, 0, i < 2 ? "by signal 11" : "by signal 9", NULL), TDM_OK);
    }
    assert_true(chunks_is_bad(b, 3, 8, 77, &reason));
    assert_string_equal(reason, "3 workers died with it, the last by signal 9");
    assert_int_equal(chunks_n_bad(b), 1);
    start(b, 0);
    chunks_announced(b, 0, 78);
    assert_int_equal(chunks_died(b, 0, longer, NULL), TDM_OK);
    assert_true(chunks_is_bad(b, 3, 8, 78, &reason));
    assert_int_equal(strlen(reason), strlen("3 workers died with it, the last ") + 95);
    assert_int_equal(chunks_n_bad(b), 2);
    chunks_close(b);
}

static void test_limits(void **state)
{
    (void)state;
    chunk_board *b = NULL;
    bool granted = false;
    tdm_err err = {0};
    assert_int_equal(chunks_open(1, &b, NULL), TDM_OK);
    start(b, 0);
    assert_int_equal(chunks_grant(b, 0, 0, (uint64_t)1 << 32, &granted, &err), TDM_EINTERNAL);
    assert_string_equal(err.msg, "chunk 4294967296 of file 0, want less than 4294967296");
    assert_int_equal(chunks_grant(b, 0, 1000, 1000000, &granted, &err), TDM_OK);
    assert_true(granted);
    chunks_close(b);
    chunks_close(NULL);
}

/* ---- random runs ---- */

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
    bool open[FILES * CHUNKS];
} model_fault;

typedef struct {
    uint64_t random;
    chunk_board *board;
    int n_workers, n_files, n_chunks;
    int n_records[FILES * CHUNKS];
    bool poison[FILES * CHUNKS][RECORDS];
    int outcome[FILES * CHUNKS][RECORDS];
    bool on_disk[FILES * CHUNKS];
    model_worker workers[WORKERS];
    model_fault faults[MOST_FAULTS];
    int n_faults, n_broken;
    bool has_worked[WORKERS];
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

static void die(model *m, int w, bool of_announced)
{
    model_worker *p = &m->workers[w];
    const int careful = (int)p->task.file * CHUNKS + (int)p->task.number;
    flush(m, p, false);
    if (!of_announced)
        add_model_fault(m, w, p);
    for (int i = m->n_faults; of_announced && i-- > 0;)
        if (m->faults[i].open[careful])
            m->faults[i] = m->faults[--m->n_faults];
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
    m->has_worked[w] = true;
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
            assert_true(model_faults(m, w) >= 3 && (m->workers[w].is_broken || !m->has_worked[w]));
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_courses),
        cmocka_unit_test(test_reason),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
