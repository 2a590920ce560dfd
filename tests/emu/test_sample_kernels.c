/* tests/emu/test_sample_kernels.c - kernels/sample.cu, token by token, against the sampler of the
 * CPU, which tests/test_sample.c holds against a plain one.
 *
 * Both take equal masses from equal f32 quotients, sum them in different ways to within 1e-9, and
 * take noise from logarithms that agree to the last bit or two of 53. So no draw of these tests may
 * differ. */
#include "host/sample.h"
#include "tests/emu/logit_rows.h"

static tdm_draw make_draw(int32_t n, stream *s)
{
    static const float TEMPERATURES[] = {1, 1, 0.7f, 2, 0.1f, 0, 1e6f, 1e-3f};
    static const float PS[] = {1, 1, 0.9f, 0.95f, 0.5f, 0.25f, 0.01f, 0.999999f, 1e-30f};
    const int32_t ks[] = {0, 0, 1, 2, 7, 40, n - 1, n, 100000};
    return (tdm_draw){.seed = (uint64_t)next_word(s) << 32 | next_word(s),
                      .document = (uint64_t)next_word(s) << (next_word(s) % 33),
                      .position = next_word(s) % 1024,
                      .temperature = TEMPERATURES[next_word(s) % COUNT(TEMPERATURES)],
                      .top_k = ks[next_word(s) % COUNT(ks)],
                      .top_p = PS[next_word(s) % COUNT(PS)],
                      .nucleus = next_word(s) % 2 ? TDM_NUCLEUS_HF : TDM_NUCLEUS_OPENAI};
}

/* ---- slots on the device ---- */

enum { MOST_SLOTS = 40 };

typedef struct {
    int32_t n; /* slots */
    int32_t tokens[MOST_SLOTS], positions[MOST_SLOTS], left[MOST_SLOTS], drawn[MOST_SLOTS];
    tdm_draw draws[MOST_SLOTS];
} slots;

enum { UNTOUCHED = -77 };

static slots running_slots(int32_t n)
{
    slots s = {.n = n};
    for (int32_t i = 0; i < n; i++) {
        s.tokens[i] = s.drawn[i] = UNTOUCHED;
        s.positions[i] = 10 + i;
        s.left[i] = 5;
        s.draws[i] = (tdm_draw){.temperature = 1, .top_p = 1};
    }
    return s;
}

static tdm_slots upload_slots(const slots *s)
{
    return (tdm_slots){.tokens = on_device(s->tokens, sizeof s->tokens),
                       .positions = on_device(s->positions, sizeof s->positions),
                       .left = on_device(s->left, sizeof s->left),
                       .drawn = on_device(s->drawn, sizeof s->drawn),
                       .draws = on_device(s->draws, sizeof s->draws)};
}

static slots fetch_slots(const tdm_slots *state, int32_t n)
{
    slots s = {.n = n};
    fetch(s.tokens, state->tokens, sizeof s.tokens);
    fetch(s.positions, state->positions, sizeof s.positions);
    fetch(s.left, state->left, sizeof s.left);
    fetch(s.drawn, state->drawn, sizeof s.drawn);
    fetch(s.draws, state->draws, sizeof s.draws);
    return s;
}

/* What sample() makes of a slot for which `id` was drawn. */
static void move_on(slots *s, int32_t slot, int32_t id, int32_t eos)
{
    s->drawn[slot] = id;
    if (id < 0 || id == eos || s->left[slot] == 1) {
        s->positions[slot] = -1;
        return;
    }
    s->tokens[slot] = id;
    s->positions[slot]++;
    s->left[slot]--;
    s->draws[slot].position++;
}

static void assert_same_slots(const slots *got, const slots *want)
{
    for (int32_t i = 0; i < want->n; i++) {
        if (got->drawn[i] != want->drawn[i])
            fail_msg("slot %d drew %d, want %d", (int)i, (int)got->drawn[i], (int)want->drawn[i]);
        assert_int_equal(got->tokens[i], want->tokens[i]);
        assert_int_equal(got->positions[i], want->positions[i]);
        assert_int_equal(got->left[i], want->left[i]);
        assert_int_equal(got->draws[i].position, want->draws[i].position);
        assert_int_equal(got->draws[i].document, want->draws[i].document);
    }
}

/* ---- draws against the CPU ---- */

enum { ROWS = 36 };

/* 36 rows of n entries of every kind and setting; slots in another order than rows. */
static void check_draws(tdm_sampler *sampler, int32_t n, int32_t n_rows, int32_t stride,
                        stream *rng)
{
    float *rows = checked(malloc((size_t)n_rows * (size_t)n * sizeof *rows));
    int32_t slot_of[ROWS];
    slots before = running_slots(MOST_SLOTS), want = before;
    for (int32_t r = 0; r < n_rows; r++) {
        const int32_t slot = slot_of[r] = (r * 7 + 3) % MOST_SLOTS;
        make_row(rows + r * n, n, (row_kind)(next_word(rng) % N_KINDS), rng);
        want.draws[slot] = before.draws[slot] = make_draw(n, rng);
        move_on(&want, slot, tdm_sample_row(sampler, rows + r * n, &before.draws[slot]), -5);
    }
    const tdm_slots state = upload_slots(&before);
    ASSERT_CUDA(tdmk_sample(&state, on_device(slot_of, sizeof slot_of),
                            upload_logits(rows, n_rows, n, stride), -5, NULL));
    const slots got = fetch_slots(&state, MOST_SLOTS);
    for (int32_t r = 0; r < n_rows; r++) {
        const tdm_draw *d = &before.draws[slot_of[r]];
        if (got.drawn[slot_of[r]] != want.drawn[slot_of[r]])
            fail_msg("%d entries, row %d, T %g, k %d, p %.9g, nucleus %d: %d, the CPU draws %d",
                     (int)n, (int)r, (double)d->temperature, (int)d->top_k, (double)d->top_p,
                     (int)d->nucleus, (int)got.drawn[slot_of[r]], (int)want.drawn[slot_of[r]]);
    }
    assert_same_slots(&got, &want);
    free_device();
    free(rows);
}

static void draws_are_those_of_the_cpu(void **state)
{
    (void)state;
    static const struct {
        int32_t n, rounds, rows;
    } SIZES[] = {{1, 1, 36},    {2, 20, 36},   {3, 20, 36},   {31, 30, 36}, {257, 20, 36},
                 {1000, 6, 36}, {2000, 2, 36}, {5003, 1, 12}, {50257, 1, 3}};
    int cases = 0;
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        const int32_t n = SIZES[i].n;
        stream rng = {.key = 100 + i};
        tdm_sampler *sampler = NULL;
        assert_int_equal(tdm_sampler_open(n, &sampler, NULL), TDM_OK);
        for (int round = 0; round < SIZES[i].rounds; round++) {
            check_draws(sampler, n, SIZES[i].rows, (n + 3) / 4 * 4 + 4 * (round % 3), &rng);
            cases += SIZES[i].rows;
        }
        tdm_sampler_close(sampler);
    }
    print_message("%-12s f32  %d draws, all as on the CPU\n", "sample", cases);
}

/* ---- corners ---- */

/* One row for each slot, in order; the slots after one step. */
static slots step_of(const slots *before, const float *rows, int32_t n, int32_t eos)
{
    int32_t order[MOST_SLOTS];
    for (int32_t i = 0; i < before->n; i++)
        order[i] = i;
    const tdm_slots state = upload_slots(before);
    ASSERT_CUDA(tdmk_sample(&state, on_device(order, sizeof order),
                            upload_logits(rows, before->n, n, (n + 3) / 4 * 4), eos, NULL));
    const slots after = fetch_slots(&state, before->n);
    free_device();
    return after;
}

static void slots_move_on(void **state)
{
    (void)state;
    enum { N = 6, HOT = 2, BAD = 3, IDLE = 4 };
    float rows[8 * N] = {0};
    for (int r = 0; r < 8; r++)
        rows[r * N + (r == 1 ? 5 : HOT)] = 100;
    rows[BAD * N + 1] = NAN;
    slots before = running_slots(8), want;
    before.left[2] = 1;
    before.positions[IDLE] = -1;
    want = before;
    /* runs, ends with eos, was the last, is not finite, is idle, no slot, runs twice as far, runs
     */
    const int32_t slot_of[8] = {0, 1, 2, BAD, IDLE, -1, 7, 6};
    move_on(&want, 0, HOT, 5);
    move_on(&want, 1, 5, 5);
    move_on(&want, 2, HOT, 5);
    move_on(&want, BAD, TDM_NOT_FINITE, 5);
    want.drawn[IDLE] = TDM_IDLE;
    move_on(&want, 7, HOT, 5);
    move_on(&want, 6, HOT, 5);
    const tdm_slots s = upload_slots(&before);
    const tdm_mat logits = upload_logits(rows, 8, N, 8);
    const int32_t *order = on_device(slot_of, sizeof slot_of);
    ASSERT_CUDA(tdmk_sample(&s, order, logits, 5, NULL));
    slots got = fetch_slots(&s, 8);
    assert_same_slots(&got, &want);
    assert_int_equal(got.positions[1], -1);
    assert_int_equal(got.positions[0], 11);
    assert_int_equal(got.drawn[5], UNTOUCHED);
    /* a second step: what ended is idle now */
    ASSERT_CUDA(tdmk_sample(&s, order, logits, 5, NULL));
    move_on(&want, 0, HOT, 5);
    want.drawn[1] = want.drawn[2] = want.drawn[BAD] = TDM_IDLE;
    move_on(&want, 7, HOT, 5);
    move_on(&want, 6, HOT, 5);
    got = fetch_slots(&s, 8);
    assert_same_slots(&got, &want);
    free_device();
}

static void not_finite_is_reported(void **state)
{
    (void)state;
    enum { N = 999 };
    static const int32_t PLACES[] = {0, 31, 500, 996, 998};
    const float values[] = {NAN, INFINITY, -INFINITY};
    static float rows[3 * N];
    const tdm_draw draws[] = {{.temperature = 0, .top_p = 1},
                              {.temperature = 1, .top_p = 1},
                              {.temperature = 1, .top_p = 0.5f},
                              {.temperature = 1, .top_k = 3, .top_p = 1}};
    for (size_t p = 0; p < COUNT(PLACES); p++)
        for (size_t d = 0; d < COUNT(draws); d++) {
            slots before = running_slots(3);
            memset(rows, 0, sizeof rows);
            for (int v = 0; v < 3; v++) {
                rows[v * N + PLACES[p]] = values[v];
                before.draws[v] = draws[d];
            }
            const slots after = step_of(&before, rows, N, -1);
            for (int v = 0; v < 3; v++) {
                assert_int_equal(after.drawn[v], TDM_NOT_FINITE);
                assert_int_equal(after.positions[v], -1);
            }
        }
    memset(rows, 0, sizeof rows); /* finite, but not after the division */
    rows[3] = 1e30f;
    slots before = running_slots(1);
    before.draws[0].temperature = 1e-20f;
    assert_int_equal(step_of(&before, rows, N, -1).drawn[0], TDM_NOT_FINITE);
}

/* Which entries survive, told from 36 documents at a time of a row with few entries. */
static void nuclei_keep_what_they_should(void **state)
{
    (void)state;
    enum { N = 8 };
    /* falling: .25 .22 .22 .10 .10 .06 .03 .02; sums .25 .47 .69 .79 .89 .95 .98 1 */
    static const double P[N] = {0.06, 0.22, 0.10, 0.22, 0.02, 0.10, 0.25, 0.03};
    static const struct {
        const char *why;
        int32_t top_k;
        float top_p;
        tdm_nucleus nucleus;
        bool keep[N];
    } CASES[] = {
        {"the tie with the second survives", 2, 1, TDM_NUCLEUS_HF, {0, 1, 0, 1, 0, 0, 1, 0}},
        {"openai: what crosses is out", 0, 0.9f, TDM_NUCLEUS_OPENAI, {0, 1, 1, 1, 0, 1, 1, 0}},
        {"hf: it is in", 0, 0.9f, TDM_NUCLEUS_HF, {1, 1, 1, 1, 0, 1, 1, 0}},
        {"openai: a tie survives", 0, 0.8f, TDM_NUCLEUS_OPENAI, {0, 1, 1, 1, 0, 1, 1, 0}},
        {"openai: a tie is out", 0, 0.75f, TDM_NUCLEUS_OPENAI, {0, 1, 0, 1, 0, 0, 1, 0}},
        {"hf: the lower id", 0, 0.75f, TDM_NUCLEUS_HF, {0, 1, 1, 1, 0, 0, 1, 0}},
        {"openai: one is left", 0, 0.1f, TDM_NUCLEUS_OPENAI, {0, 0, 0, 0, 0, 0, 1, 0}},
        {"top-k 5, then .7 of .89", 5, 0.7f, TDM_NUCLEUS_OPENAI, {0, 1, 0, 1, 0, 0, 1, 0}},
    };
    float rows[ROWS * N];
    for (int i = 0; i < ROWS * N; i++)
        rows[i] = (float)log(P[i % N]);
    for (size_t c = 0; c < COUNT(CASES); c++) {
        bool seen[N] = {0};
        for (uint64_t step = 0; step < 20; step++) {
            slots before = running_slots(ROWS);
            for (uint64_t i = 0; i < ROWS; i++)
                before.draws[i] = (tdm_draw){.document = step * ROWS + i,
                                             .temperature = 1,
                                             .top_k = CASES[c].top_k,
                                             .top_p = CASES[c].top_p,
                                             .nucleus = CASES[c].nucleus};
            const slots after = step_of(&before, rows, N, -1);
            for (int i = 0; i < ROWS; i++)
                seen[after.drawn[i]] = true;
        }
        for (int i = 0; i < N; i++)
            if (seen[i] != CASES[c].keep[i])
                fail_msg("%s: entry %d %s", CASES[c].why, i,
                         seen[i] ? "was drawn" : "was not drawn");
    }
}

/* A row alone, in another slot and another place, draws what it drew among others. */
static void draws_do_not_depend_on_neighbours(void **state)
{
    (void)state;
    enum { N = 257 };
    static float rows[ROWS * N];
    stream rng = {.key = 9};
    slots many = running_slots(ROWS);
    for (int r = 0; r < ROWS; r++) {
        make_row(rows + r * N, N, (row_kind)(r % N_KINDS), &rng);
        many.draws[r] = make_draw(N, &rng);
    }
    const slots together = step_of(&many, rows, N, -1);
    for (int r = 0; r < ROWS; r++) {
        slots one = running_slots(1);
        one.draws[0] = many.draws[r];
        assert_int_equal(step_of(&one, rows + r * N, N, -1).drawn[0], together.drawn[r]);
    }
}

/* ---- close calls ---- */

/* One row of n entries for each slot draws what the CPU draws. */
static void assert_as_on_cpu(const slots *before, const float *rows, int32_t n, const char *what)
{
    tdm_sampler *sampler = NULL;
    assert_int_equal(tdm_sampler_open(n, &sampler, NULL), TDM_OK);
    const slots after = step_of(before, rows, n, -1);
    for (int32_t i = 0; i < before->n; i++) {
        const int32_t want = tdm_sample_row(sampler, rows + i * n, &before->draws[i]);
        if (after.drawn[i] != want)
            fail_msg("%s, row %d: %d, the CPU draws %d", what, (int)i, (int)after.drawn[i],
                     (int)want);
    }
    tdm_sampler_close(sampler);
}

/* Neighbouring logits that may become one quotient: a tie, of which top-k keeps both. A product
 * with the reciprocal is another number. */
static void quotients_are_rounded_once(void **state)
{
    (void)state;
    static const float TEMPERATURES[] = {1.3f, 1.9f, 3.f, 0.7f};
    uint64_t rng = 1;
    for (uint64_t round = 0; round < 8; round++) {
        float rows[ROWS * 2];
        slots before = running_slots(ROWS);
        for (uint64_t i = 0; i < ROWS; i++) {
            rows[2 * i] = 50 * uniform(&rng);
            rows[2 * i + 1] = nextafterf(rows[2 * i], 100);
            before.draws[i] = (tdm_draw){.document = round * ROWS + i,
                                         .temperature = TEMPERATURES[i % COUNT(TEMPERATURES)],
                                         .top_k = 1,
                                         .top_p = 1};
        }
        assert_as_on_cpu(&before, rows, 2, "neighbours");
    }
}

/* Two entries whose larger one has a share of p, but for less than 2e-9 and more than 2e-10: f32
 * masses cannot tell on which side it is. */
static void masses_decide_close_calls(void **state)
{
    (void)state;
    float rows[ROWS * 2];
    uint64_t rng = 2;
    for (int nucleus = 0; nucleus < 2; nucleus++) {
        slots before = running_slots(ROWS);
        for (uint64_t i = 0; i < ROWS;) {
            const float below = 0.5f + 0.4f * uniform(&rng);
            const double share = 1 / (1 + exp(-(double)below));
            const double distance = fabs((double)(float)share - share) / share;
            if (distance > 2e-9 || distance < 2e-10)
                continue;
            rows[2 * i] = -below;
            rows[2 * i + 1] = 0;
            before.draws[i] = (tdm_draw){.document = i,
                                         .temperature = 1,
                                         .top_p = (float)share,
                                         .nucleus = (tdm_nucleus)nucleus};
            i++;
        }
        assert_as_on_cpu(&before, rows, 2, "close calls");
    }
}

/* Half of 5000 equal entries: the last survivor, 2499, is the last of its bin in the first pass
 * over the ids. */
static void ties_end_with_a_bin(void **state)
{
    (void)state;
    enum { N = 5000, R = 8 };
    float *rows = checked(calloc(R * N, sizeof *rows));
    slots before = running_slots(R);
    for (uint64_t i = 0; i < R; i++)
        before.draws[i] =
            (tdm_draw){.document = i, .temperature = 1, .top_p = 0.5f, .nucleus = TDM_NUCLEUS_HF};
    assert_as_on_cpu(&before, rows, N, "half of the ties");
    free(rows);
}

/* ---- what the launcher refuses ---- */

static void launcher_checks(void **state)
{
    (void)state;
    const float rows[12] = {0};
    const tdm_mat m = upload_logits(rows, 2, 6, 8);
    const tdm_slots slots_of = {0};
    tdm_mat none = m, refused[N_REFUSED];
    none.rows = 0;
    refused_logits(m, refused);
    ASSERT_CUDA(tdmk_sample(&slots_of, NULL, none, -1, NULL));
    for (int i = 0; i < N_REFUSED; i++)
        ASSERT_REFUSED(tdmk_sample(&slots_of, NULL, refused[i], -1, NULL));
    free_device();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_are_those_of_the_cpu),
        cmocka_unit_test(slots_move_on),
        cmocka_unit_test(not_finite_is_reported),
        cmocka_unit_test(nuclei_keep_what_they_should),
        cmocka_unit_test(draws_do_not_depend_on_neighbours),
        cmocka_unit_test(quotients_are_rounded_once),
        cmocka_unit_test(masses_decide_close_calls),
        cmocka_unit_test(ties_end_with_a_bin),
        cmocka_unit_test(launcher_checks),
    };
    if (!has_device())
        return status_without_device();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
