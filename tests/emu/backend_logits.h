/* tests/emu/backend_logits.h - what the CUDA backend makes of rows of logits: draws beside host/sample.h, statistics
 * beside plain loops in double. */
#ifndef TESTS_EMU_BACKEND_LOGITS_H
#define TESTS_EMU_BACKEND_LOGITS_H

#include "host/sample.h"
#include "tests/emu/backend_test.h"

static void sample_on(const tdm_backend *be)
{
    enum { ROWS = 6, V = 70, STRIDE = 128 };
    float *logits = random_floats(ROWS * STRIDE, 5);
    static const int32_t ROW_SLOTS[ROWS] = {4, 0, -1, 3, 1, 2};
    int32_t tokens[5] = {0}, positions[5] = {10, 20, 30, -1, 50}, left[5] = {2, 2, 1, 2, 2};
    int32_t drawn[5] = {0}, want_drawn[5];
    tdm_draw draws[5];
    tdm_sampler *sampler = NULL;
    ASSERT_OK(tdm_sampler_open(V, &sampler, err));
    for (uint32_t s = 0; s < 5; s++)
        draws[s] = (tdm_draw){.seed = 9,
                              .document = s,
                              .position = 2 * s,
                              .top_k = s == 1 ? 5 : 0,
                              .temperature = s == 4 ? 0 : 0.8f,
                              .top_p = s == 2 ? 0.7f : 1};
    for (size_t i = 0; i < ROWS * STRIDE; i++)
        logits[i] = i % STRIDE < V ? 4 * logits[i] : NAN; /* the gap is not looked at */
    for (int r = 0; r < ROWS; r++)
        if (ROW_SLOTS[r] >= 0)
            want_drawn[ROW_SLOTS[r]] =
                tdm_sample_row(sampler, logits + r * STRIDE, &draws[ROW_SLOTS[r]]);
    want_drawn[3] = TDM_IDLE;
    const tdm_slots state = {on_device(be, tokens, sizeof tokens),
                             on_device(be, positions, sizeof positions),
                             on_device(be, left, sizeof left), on_device(be, drawn, sizeof drawn),
                             on_device(be, draws, sizeof draws)};
    const tdm_mat m = {on_device(be, logits, ROWS * STRIDE * sizeof *logits), ROWS, V, TDM_F32,
                       STRIDE};
    ASSERT_OK(
        tdm_sample(be, &state, on_device(be, ROW_SLOTS, sizeof ROW_SLOTS), m, want_drawn[0], err));
    ASSERT_OK(tdm_download(be, drawn, state.drawn, sizeof drawn, err));
    ASSERT_OK(tdm_download(be, tokens, state.tokens, sizeof tokens, err));
    ASSERT_OK(tdm_download(be, positions, state.positions, sizeof positions, err));
    assert_memory_equal(drawn, want_drawn, sizeof drawn);
    static const int32_t WANT_POSITIONS[] = {-1, 21, -1, -1,
                                             51}; /* 0 drew eos, 2 was on its last */
    assert_memory_equal(positions, WANT_POSITIONS, sizeof positions);
    assert_true(tokens[1] == drawn[1] && tokens[4] == drawn[4]);
    tdm_sampler_close(sampler);
    release_all(be);
    free(logits);
}

static void stats_on(const tdm_backend *be)
{
    enum { ROWS = 4, V = 70, STRIDE = 128 };
    static const int32_t TARGETS[ROWS] = {3, -1, 69, 0};
    record r = {.what = "token_stats"};
    float *logits = random_floats(ROWS * STRIDE, 6);
    tdm_stat stats[ROWS];
    for (size_t i = 0; i < ROWS * STRIDE; i++)
        logits[i] = i % STRIDE < V ? 3 * logits[i] : NAN;
    const tdm_mat m = {on_device(be, logits, ROWS * STRIDE * sizeof *logits), ROWS, V, TDM_F32,
                       STRIDE};
    void *out = take(be, sizeof stats);
    ASSERT_OK(tdm_token_stats(be, out, m, on_device(be, TARGETS, sizeof TARGETS), err));
    ASSERT_OK(tdm_download(be, stats, out, sizeof stats, err));
    for (int i = 0; i < ROWS; i++) {
        const float *row = logits + i * STRIDE;
        double total = 0, sum = 0, squares = 0;
        int32_t rank = 1;
        for (int k = 0; k < V; k++)
            total += exp((double)row[k]);
        for (int k = 0; k < V; k++) {
            const double l = (double)row[k] - log(total), p = exp(l);
            sum += p * l;
            squares += p * l * l;
            rank += TARGETS[i] >= 0 && row[k] > row[TARGETS[i]];
        }
        const bool none = TARGETS[i] < 0;
        const double want[] = {none ? 0 : (double)row[TARGETS[i]] - log(total), none ? 0 : -sum,
                               none ? 0 : squares - sum * sum};
        const float got[] = {stats[i].logprob, stats[i].entropy, stats[i].variance};
        note(&r, "row", be->dtype, got, want, 3, 0x1p-18);
        assert_int_equal(stats[i].rank, none ? 0 : rank);
    }
    print_record(&r, be->dtype);
    release_all(be);
    free(logits);
}

/* Rows of two strides. */
static void cross_on(const tdm_backend *be)
{
    enum { ROWS = 4, V = 72, STRIDE = 128 };
    static const int32_t TARGETS[ROWS] = {3, -1, 71, 0};
    record r = {.what = "cross_stats"};
    float *p = random_floats(ROWS * STRIDE, 6), *q = random_floats(ROWS * V, 7);
    tdm_cross stats[ROWS];
    for (size_t i = 0; i < ROWS * STRIDE; i++)
        p[i] = i % STRIDE < V ? 3 * p[i] : NAN;
    const tdm_mat mp = {on_device(be, p, ROWS * STRIDE * sizeof *p), ROWS, V, TDM_F32, STRIDE};
    const tdm_mat mq = put(be, q, ROWS, V, TDM_F32);
    void *out = take(be, sizeof stats);
    ASSERT_OK(tdm_cross_stats(be, out, mp, mq, on_device(be, TARGETS, sizeof TARGETS), err));
    ASSERT_OK(tdm_download(be, stats, out, sizeof stats, err));
    for (int i = 0; i < ROWS; i++) {
        double total_p = 0, total_q = 0, want[3] = {0};
        for (int k = 0; k < V; k++) {
            total_p += exp((double)p[i * STRIDE + k]);
            total_q += exp((double)q[i * V + k]);
        }
        for (int k = 0; k < V && TARGETS[i] >= 0; k++) {
            const double lp = (double)p[i * STRIDE + k] - log(total_p);
            const double lq = (double)q[i * V + k] - log(total_q);
            want[0] -= exp(lq) * lp;
            want[1] += exp(lq) * lp * lp;
            want[2] -= exp(lp) * lq;
        }
        want[1] -= want[0] * want[0];
        const float got[] = {stats[i].cross, stats[i].variance, stats[i].back};
        note(&r, "row", be->dtype, got, want, 3, 0x1p-18);
    }
    print_record(&r, be->dtype);
    release_all(be);
    free(p);
    free(q);
}

static void top_on(const tdm_backend *be)
{
    enum { ROWS = 3, V = 70, STRIDE = 128, K = 5 };
    static const int32_t TARGETS[ROWS] = {3, -1, 0};
    record r = {.what = "top_tokens"};
    float *logits = random_floats(ROWS * STRIDE, 6);
    tdm_top top[ROWS][K];
    for (size_t i = 0; i < ROWS * STRIDE; i++)
        logits[i] = i % STRIDE < V ? 3 * logits[i] : NAN;
    const tdm_mat m = {on_device(be, logits, ROWS * STRIDE * sizeof *logits), ROWS, V, TDM_F32,
                       STRIDE};
    void *out = take(be, sizeof top);
    ASSERT_OK(tdm_top_tokens(be, out, K, m, on_device(be, TARGETS, sizeof TARGETS), err));
    ASSERT_OK(tdm_download(be, top, out, sizeof top, err));
    for (int i = 0; i < ROWS; i++) {
        const float *row = logits + i * STRIDE;
        double total = 0;
        for (int k = 0; k < V; k++)
            total += exp((double)row[k]);
        for (int j = 0; j < K; j++) {
            const int32_t id = top[i][j].id;
            int32_t larger = 0;
            for (int k = 0; k < V; k++)
                larger += row[k] > row[id];
            const double want = TARGETS[i] < 0 ? 0 : (double)row[id] - log(total);
            assert_true(TARGETS[i] < 0 ? id == 0 : larger == j);
            note(&r, "token", be->dtype, &top[i][j].logprob, &want, 1, 0x1p-18);
        }
    }
    print_record(&r, be->dtype);
    release_all(be);
    free(logits);
}

#endif
