/* Which worker may do which chunk: courses of events in a small language. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/supervise_chunks.c"
#include "tools/supervise_sets.c"

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
    {"three faults of the only device", 1, "0+ 0?0 0X 0+ 0?1 0X 0+ 0?2 0X 0#3 0=L busy"},

    {"a poisonous record", 1,
     "0+ 0?4 0?5 0.4 0X 0+ 0?5 0X 0#2 0=C5 0+ 0!4 0?5 0@10 0@20 0X 0+ 0@20 0X 0#0 b:5@20 g:5@10 g:4@20"
     " 0=C5 0+ 0?5 0@10 0@30 0.5 0E 0=N 0+ 0!5 0?6 0E done"},
    {"one death with a record says nothing of it", 1,
     "0+ 0?5 0X 0+ 0?5 0X 0=C5 0+ 0@10 0@20 0X g:5@20 0#3 0=C5 0+ 0@10 0@20 0@30 0.5 0E 0#3 0=L"},
    {"nor do two that are not of one record", 1,
     "0+ 0?5 0X 0+ 0?5 0X 0+ 0@20 0X 0+ 0@10 0X g:5@10 g:5@20 0+ 0@20 0X g:5@20 0#5 0=C5 0+ 0@30 0X g:5@30 0#6 0=L"},
    {"two of them in a chunk", 1,
     "0+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0+ 0@10 0X 0+ 0@10 0X b:5@10 0+ 0@20 0X 0+ 0@20 0X b:5@10 b:5@20 0#0 0+ 0@30 0.5 0E 0+ 0E done"},
    {"of two chunks one is innocent", 1,
     "0+ 0?4 0.4 0?5 0?6 0X 0+ 0?5 0?6 0X 0=C5 0+ 0?5 0!6 0@1 0.5 0E 0#2 0=C6 0+ 0?6 0@9 0X 0+ 0@9 0X b:6@9 0#0"
     " 0+ 0@8 0.6 0E 0+ 0E done"},
    {"what was open with a poisonous record is for everybody again", 2,
     "0+ 1+ 0?4 0.4 0?5 0?6 0X 0+ 0?5 0?6 0?7 0X 1!5 1?8 1.8 0=N 1E 1=C5 1+ 1@1 0+ 0!5 0!6 0E 1X 1+ 1@1 1X b:5@1 0=C5 1=C5 0+ 1=N 1+"
     " 1!5 1?6 1?7 1E busy 0.5 0E done 0#0"},
    {"and may turn out to be poisonous too", 1,
     "0+ 0?4 0.4 0?5 0?6 0X 0+ 0?5 0?6 0X 0+ 0@1 0X 0+ 0@1 0X b:5@1 0#0 0+ 0.5 0E 0=N 0+ 0?6 0X 0=N 0+ 0?6 0X 0#2 0=C6"
     " 0+ 0@2 0X 0+ 0@2 0X b:6@2 0#0 0=C6 0+ 0.6 0E 0+ 0E done"},
    {"but not while another worker has it alone", 2,
     "0+ 1+ 0?4 1?8 0.4 1.8 0?5 0?6 0X 1?5 1?6 1X 0=C5 0+ 1=C6 1+ 0@1 1@1 0X 0+ 0@1 0X b:5@1 1X 1+ 1.5 1E 0+ 0@1 0X b:6@1 0#0 1#0"},
    {"who was open first comes first", 1,
     "0+ 0?4 0.4 0?5 0?6 0?7 0X 0+ 0?5 0?6 0?7 0X 0=C5 0+ 0.5 0E 0=C6 0+ 0.6 0E 0=C7"},
    {"faults stay where the chunk was innocent", 1,
     "0+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0+ 0@1 0.5 0E 0#2 0=N 0+ 0?6 0X 0#3 0=L busy"},
    {"a chunk that was done by another after one death", 2, "0+ 1+ 0?5 0X 1?5 1.5 0#1 0+ 0!5 0?6 0X 0#2 1E 0+ 0?6 0E done"},
    {"nobody gets a careful chunk", 2, "0+ 1+ 0?5 0X 0+ 0?5 0X 1!5 1?6 0#2 0+ 0!5 0E 1E busy"},
    {"another's walk says nothing of a chunk that is out", 2, "0+ 0?4 0.4 0?5 0X 0+ 1+ 0?5 1!5 1E 0X 0#2 0=N 1=C5"},
    {"careful work goes to a device that did not die with it", 2,
     "0+ 1+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0=N 1?6 1.6 1E 1=C5 0=N 1+ 1?5 1@1 1.5 1E 0#2 0+ 0E done"},
    {"unless the others are left out", 2,
     "1+ 1X 1+ 1X 1+ 1X 1=L 0+ 0?5 0X 0+ 0?5 0X 0=C5 0+ 0@1 0X 0+ 0@1 0X b:5@1 0#0 0+ 0.5 0E 0=N 0+ 0E done 1=L"},
    {"or died with it too", 2,
     "0+ 1+ 0?4 0.4 0?5 1?6 1.6 0X 1?5 1X 0=C5 1=C5 1+ 0=N 1@1 1X 1+ 1@1 1X 0#0 1#0 b:5@1 0=C5 0+ 0.5 0E 1+ 1E done"},
    {"no work for two on the same careful chunk", 2,
     "0+ 1+ 0?4 0.4 0?5 0X 1?5 1X 0=C5 0+ 1=N 1+ 1!5 1E 1=- 0.5 0E done 0#1 1#1"},
    {"faults that others' careful work explains", 2,
     "0+ 1+ 1?4 1.4 0?5 0X 0+ 0?5 0X 0+ 0?6 0X 0#3 0=L 1E 1=C5 1+ 1@1 1X 1+ 1@1 1X b:5@1 0#1 0=C5 1=C5 1+ 1.5 0=N 1E"
     " 0+ 0?6 0E done"},
    {"or one's own, if there is no one else", 2,
     "0+ 1+ 0?5 0X 0+ 0?5 0X 0=N 0+ 0?6 0X 0#3 0=L 1X 1=C5 1+ 1X 1=C5 1+ 1X 1=L 0=C5 0+ 0@1 0X 0+ 0@1 0X b:5@1 0#1 0=C5 0+ 0.5 0E"
     " 0=N 0+ 0?6 0E done"},
    {"but not others'", 2,
     "0+ 1+ 1?5 1X 0?4 0.4 0?6 0X 0+ 0?7 0X 0#2 0+ 0?8 1+ 1?5 1X 0X 0#3 0=L 1=C5"},
    {"a careful worker that dies before it announced anything", 1,
     "0+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0=C5 0+ 0?5 0X 0#3 0=C5 0+ 0X 0#4 0=C5 0+ 0X 0#5 0=L g:5@0"},
    {"or when the chunk was done", 2,
     "0+ 1+ 0?4 0.4 0?5 0X 1?5 1X 0+ 0@1 0.5 0X 0#2 g:5@1 0=C5 0+ 0E 0#2 1#1 0=N 0+ 0E done"},
    {"that fault is not explained by another one", 2,
     "0+ 1+ 0?4 0.4 0?5 1?6 1.6 0X 1?5 1X 0=C5 0+ 0X 0#2 1#1 1=C5 1+ 1@1 1X 1+ 1@1 1X 0#1 1#0 b:5@1"},
    {"a careful worker that finds its chunk on the disk", 1, "0+ 0?4 0.4 0?5 0X 0+ 0?5 0X 0=C5 0+ 0E 0=N 0+ 0E done 0#2"},
    {"careful before normal work", 2,
     "0+ 1+ 1?4 1.4 0?5 0?6 0X 1?5 1X 0=C5 1=C5 1+ 0=N 1@1 1X 1+ 1@1 1X 1+ 1.5 1E 1=N 1+ 1?6 1E done"},
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
    for (int i = 0; i < 4; i++) {
        bool granted;
        start(b, 0);
        assert_int_equal(chunks_grant(b, 0, 3, 8, &granted, NULL), TDM_OK);
        assert_int_equal(chunks_grant(b, 0, 3, 9, &granted, NULL), TDM_OK);
        chunks_committed(b, 0, 3, 9);
        chunks_announced(b, 0, 77);
        assert_int_equal(chunks_died(b, 0, i < 3 ? "by signal 11" : "by signal 9", NULL), TDM_OK);
    }
    assert_true(chunks_is_bad(b, 3, 8, 77, &reason));
    assert_string_equal(reason, "4 workers died with it, the last by signal 9");
    assert_int_equal(chunks_n_bad(b), 1);
    for (int i = 0; i < 2; i++) {
        start(b, 0);
        chunks_announced(b, 0, 78);
        assert_int_equal(chunks_died(b, 0, longer, NULL), TDM_OK);
    }
    assert_true(chunks_is_bad(b, 3, 8, 78, &reason));
    assert_int_equal(strlen(reason), strlen("3 workers died with it, the last ") + 120);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_courses),
        cmocka_unit_test(test_reason),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
