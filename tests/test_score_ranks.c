/* Scoring on several ranks of the CPU: what one backend alone finds, within rounding, and the same bits however
 * texts are packed. */
#include "host/ranks.h"
#include "tests/score_subject.h"

enum { HEADS = 3 };

static void score_all(const gpt2_model *m, const gpt2_model *observer, int32_t rows, text *memory, tdm_score_text *texts)
{
    const tdm_score_options o = {.rows = rows, .logits = rows / 8, .observer = observer, .top = TOP};
    tdm_err err = {0};
    tdm_scorer *scorer = open_scorer(m, &o);
    make_texts(memory, texts, N_TEXTS);
    if (tdm_scorer_run(scorer, texts, N_TEXTS, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    tdm_scorer_close(scorer);
}

/* n 0: alone */
static void score_on(int32_t n, int32_t rows, text *memory, tdm_score_text *texts)
{
    loaded l = {0};
    tdm_config second;
    gpt2_model *observer = NULL;
    tdm_err err = {0};
    assert_int_equal(n ? tdm_open_cpu_ranks(n, 1, &l.be, &err) : tdm_open_cpu(1, &l.be, &err), TDM_OK);
    load_model(&l.be, 2, HEADS, CONTEXT, 5, &l.config, &l.model);
    load_model(&l.be, 1, HEADS + 1, CONTEXT, 6, &second, &observer);
    score_all(l.model, observer, rows, memory, texts);
    gpt2_close(observer);
    unload(&l);
}

static void records(void **state)
{
    (void)state;
    static text alone[N_TEXTS], first[N_TEXTS], again[N_TEXTS];
    static tdm_score_text texts[N_TEXTS];
    const double bound = 0x1p-16; /* logits of the order of 8, off by 2^-20 of that on either side, with room */
    score_on(0, 100, alone, texts);
    for (int32_t n = 1; n <= HEADS; n++) {
        double worst = 0;
        score_on(n, 100, first, texts);
        score_on(n, CONTEXT, again, texts);
        assert_memory_equal(again, first, sizeof first);
        if (n == 1)
            assert_memory_equal(first, alone, sizeof alone);
        for (size_t i = 0; i < N_TEXTS; i++)
            for (int32_t k = 0; k < texts[i].n - 1; k++) {
                const tdm_stat *got = &first[i].stats[k], *want = &alone[i].stats[k];
                const tdm_cross *p = &first[i].cross[k], *q = &alone[i].cross[k];
                worst = fmax(worst, fabs((double)got->logprob - (double)want->logprob));
                worst = fmax(worst, fabs((double)got->entropy - (double)want->entropy));
                worst = fmax(worst, fabs((double)p->cross - (double)q->cross));
                worst = fmax(worst, fabs((double)first[i].top[k * TOP].logprob - (double)alone[i].top[k * TOP].logprob));
                assert_true(abs(got->rank - want->rank) <= 1); /* equal but for rounding */
            }
        print_message("%d ranks: off by %.2g, allowed %.2g\n", (int)n, worst, bound);
        assert_true(worst <= bound);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(records)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
