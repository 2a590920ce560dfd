/* Pages: who holds them, and forecasts beside a simulation that goes step by step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/backend.h"
#include "host/pages.h"

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static int32_t between(uint64_t *state, int32_t least, int32_t most)
{
    return least + (int32_t)(next_random(state) % (uint32_t)(most - least + 1));
}

/* ---- holders ---- */

static void test_holders(void **state)
{
    (void)state;
    enum { N = 5 };
    tdm_pages *p = NULL;
    tdm_err err = {0};
    bool seen[N] = {false};
    assert_int_equal(tdm_pages_open(0, 10, &p, &err), TDM_EARG);
    assert_int_equal(tdm_pages_open(N, 0, &p, &err), TDM_EARG);
    assert_null(p);
    assert_int_equal(tdm_pages_open(N, 10, &p, &err), TDM_OK);
    for (int i = 0; i < N; i++) {
        const int32_t page = tdm_pages_take(p);
        assert_in_range(page, 0, N - 1);
        assert_false(seen[page]);
        seen[page] = true;
        assert_int_equal(tdm_pages_holders(p, page), 1);
    }
    assert_int_equal(tdm_pages_left(p), 0);
    assert_int_equal(tdm_pages_take(p), -1);
    assert_int_equal(tdm_pages_share(p, 3, &err), TDM_OK);
    assert_int_equal(tdm_pages_drop(p, 3, &err), TDM_OK);
    assert_int_equal(tdm_pages_left(p), 0); /* one holder is left */
    assert_int_equal(tdm_pages_drop(p, 3, &err), TDM_OK);
    assert_int_equal(tdm_pages_left(p), 1);
    assert_int_equal(tdm_pages_drop(p, 3, &err), TDM_EINTERNAL); /* twice */
    assert_non_null(strstr(err.msg, "nobody holds page 3 of 5"));
    assert_int_equal(tdm_pages_share(p, 3, &err), TDM_EINTERNAL);
    assert_int_equal(tdm_pages_drop(p, -1, &err), TDM_EINTERNAL);
    assert_int_equal(tdm_pages_drop(p, N, &err), TDM_EINTERNAL);
    assert_int_equal(tdm_pages_left(p), 1);
    assert_int_equal(tdm_pages_take(p), 3);
    tdm_pages_close(p);
    tdm_pages_close(NULL);
}

/* ---- forecasts ---- */

enum { MOST_TEXTS = 12, MOST_PAGES = 60, MOST_OF_TEXT = 40, HORIZON = 800 };

typedef struct {
    tdm_page_claim claim;
    int32_t held[MOST_OF_TEXT];
} claimed;

/* The largest number of pages that are held at any step, one step after the other. */
static int32_t simulate(const claimed *texts, int n)
{
    int32_t most = 0;
    for (int32_t step = 0; step < 2 * HORIZON; step++) {
        bool held[MOST_PAGES] = {false};
        int32_t count = 0;
        for (int i = 0; i < n; i++) {
            const tdm_page_claim *c = &texts[i].claim;
            /* the draw of its last step is looked at behind the next one */
            if (step > c->wait + c->feeds)
                continue;
            for (int32_t k = 0; k < c->n_pages; k++)
                held[c->pages[k]] = true;
            /* its own: those taken at once, and one for each page that a fed token has begun */
            int32_t own = c->fresh;
            for (int32_t s = c->wait; s <= step && s < c->wait + c->feeds; s++)
                if ((c->position + s - c->wait) / TDM_PAGE == c->n_pages + own)
                    own++;
            count += own;
        }
        for (int32_t k = 0; k < MOST_PAGES; k++)
            count += held[k];
        most = count > most ? count : most;
    }
    return most;
}

/* Texts in all stages, some of which share their first pages; the last is one to be admitted. */
static int make_claims(claimed *texts, uint64_t *random, int32_t *n_held)
{
    const int n = between(random, 1, MOST_TEXTS);
    int32_t used = 0;
    for (int i = 0; i < n; i++) {
        claimed *t = &texts[i];
        tdm_page_claim *c = &t->claim;
        *c = (tdm_page_claim){.pages = t->held};
        const int32_t room = MOST_PAGES - used;
        const int32_t own = between(random, 0, room < 3 ? room : 3);
        if (i > 0 && between(random, 0, 2) == 0) /* all pages of another but its last */
            while (c->n_pages + 1 < texts[i - 1].claim.n_pages) {
                t->held[c->n_pages] = texts[i - 1].held[c->n_pages];
                c->n_pages++;
            }
        for (int32_t k = 0; k < own; k++)
            t->held[c->n_pages++] = used++;
        c->fresh = i + 1 == n ? between(random, 0, 2) : 0;
        const int32_t end = (c->n_pages + c->fresh) * TDM_PAGE;
        c->position = end - between(random, 0, end > 0 ? TDM_PAGE : 0);
        c->wait = between(random, 0, 3) ? 0 : between(random, 0, 40);
        c->feeds = between(random, 0, 3) ? between(random, 0, 300) : between(random, 0, 3);
    }
    *n_held = used;
    return n;
}

static bool forecast(tdm_pages *p, const claimed *texts, int n)
{
    tdm_pages_forecast(p);
    for (int i = 0; i < n; i++)
        tdm_pages_claim(p, &texts[i].claim);
    return tdm_pages_suffice(p);
}

static void test_forecasts(void **state)
{
    (void)state;
    enum { ROUNDS = 3000 };
    static claimed texts[MOST_TEXTS];
    uint64_t random = 1;
    int compared = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t held = 0;
        const int n = make_claims(texts, &random, &held);
        const int32_t most = simulate(texts, n);
        /* One page less than is needed does not suffice, exactly as many do. */
        for (int32_t pages = most - 1; pages <= most + 1; pages++) {
            tdm_pages *p = NULL;
            if (pages < 1 || pages < held)
                continue;
            compared++;
            assert_int_equal(tdm_pages_open(pages, HORIZON, &p, NULL), TDM_OK);
            if (forecast(p, texts, n) != (most <= pages))
                fail_msg("round %d: %d pages for %d at most", round, (int)pages, (int)most);
            tdm_pages_close(p);
            /* A short look ahead assumes the worst. */
            assert_int_equal(tdm_pages_open(pages, between(&random, 1, 200), &p, NULL), TDM_OK);
            if (forecast(p, texts, n) && most > pages)
                fail_msg("round %d: %d pages for %d at most, short horizon", round, (int)pages, (int)most);
            tdm_pages_close(p);
        }
    }
    assert_true(compared > 2 * ROUNDS);
}

/* ---- whole runs: texts are let in as the forecast says, and end when they like ---- */

typedef struct {
    int32_t pages[MOST_OF_TEXT], n_pages;
    int32_t position, feeds, ends_after; /* feeds: as far as anybody knows */
    bool runs, over;                     /* over: has ended, which is not known yet */
} running;

static int admit(tdm_pages *p, running *texts, int n, uint64_t *random)
{
    int free_slot = -1;
    const int32_t first = between(random, 0, 150), feeds = between(random, 1, 200);
    tdm_pages_forecast(p);
    for (int i = 0; i < n; i++) {
        const running *t = &texts[i];
        if (!t->runs)
            free_slot = i;
        else
            tdm_pages_claim(p, &(tdm_page_claim){.pages = t->pages, .n_pages = t->n_pages,
                                                 .position = t->position, .feeds = t->feeds});
    }
    tdm_pages_claim(p, &(tdm_page_claim){.fresh = first / TDM_PAGE + 1, .position = first,
                                         .feeds = feeds});
    if (free_slot < 0 || !tdm_pages_suffice(p))
        return 0;
    running *t = &texts[free_slot];
    *t = (running){.runs = true, .position = first, .feeds = feeds};
    t->ends_after = between(random, 0, 1) ? feeds : between(random, 1, feeds);
    while (t->n_pages <= first / TDM_PAGE) {
        t->pages[t->n_pages] = tdm_pages_take(p);
        assert_true(t->pages[t->n_pages++] >= 0);
    }
    return 1;
}

/* One step: each feeds a token; then those are looked at that had ended in the step before. */
static void step(tdm_pages *p, running *texts, int n)
{
    for (int i = 0; i < n; i++) {
        running *t = &texts[i];
        if (!t->runs || t->feeds == 0)
            continue;
        if (t->position++ / TDM_PAGE == t->n_pages) {
            t->pages[t->n_pages] = tdm_pages_take(p);
            if (t->pages[t->n_pages++] < 0)
                fail_msg("no page left for text %d", i);
        }
        t->feeds--;
    }
    for (int i = 0; i < n; i++) {
        running *t = &texts[i];
        if (!t->runs)
            continue;
        if (t->over) {
            while (t->n_pages > 0)
                assert_int_equal(tdm_pages_drop(p, t->pages[--t->n_pages], NULL), TDM_OK);
            t->runs = false;
        }
        t->over = --t->ends_after <= 0;
    }
}

static void test_nobody_comes_short(void **state)
{
    (void)state;
    enum { SLOTS = 30, STEPS = 4000 };
    for (int32_t pages = 6; pages <= 60; pages += 18) {
        running texts[SLOTS] = {{.runs = false}};
        uint64_t random = (uint64_t)pages;
        int admitted = 0;
        tdm_pages *p = NULL;
        assert_int_equal(tdm_pages_open(pages, 1000, &p, NULL), TDM_OK);
        for (int i = 0; i < STEPS; i++) {
            while (admit(p, texts, SLOTS, &random))
                admitted++;
            step(p, texts, SLOTS);
        }
        assert_true(admitted > STEPS / 100);
        tdm_pages_close(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holders),
        cmocka_unit_test(test_forecasts),
        cmocka_unit_test(test_nobody_comes_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
