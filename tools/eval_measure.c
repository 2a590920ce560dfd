/* tools/eval_measure.c - what one field says of the texts. */
#include "tools/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/args.h"

/* ---- which way a field points ---- */

/* By the end of a name: judge_logit_fake is like logit_fake, which stands before fake. */
static const struct {
    const char *name;
    bool is_turned, is_probability;
} KNOWN[] = {
    {"logit_fake", false, false},  {"logit_real", true, false},
    {"fake", false, true},         {"real", true, true},
    {"lrr", false, false},         {"fast_detect_observer", false, false},
    {"fast_detect", false, false}, {"mean_logprob", false, false},
    {"logprob", false, false},     {"entropy", true, false},
    {"ppl", true, false},          {"mean_rank", true, false},
    {"mean_logrank", true, false}, {"binoculars_paper", true, false},
    {"binoculars", true, false},
};

static bool is_like(const char *field, const char *name)
{
    const size_t n = strlen(field), len = strlen(name);
    return n >= len && !strcmp(field + n - len, name) && (n == len || strchr("_.-", field[n - len - 1]));
}

bool eval_known_field(const char *field, bool *is_turned, bool *is_probability)
{
    for (size_t i = 0; i < COUNT(KNOWN); i++) {
        if (!is_like(field, KNOWN[i].name))
            continue;
        *is_turned = KNOWN[i].is_turned;
        *is_probability = KNOWN[i].is_probability;
        return true;
    }
    return false;
}

/* ---- parts of the texts ---- */

/* Scores that grow with "machine": those of a field that points the other way are negated, which is exact. */
typedef struct {
    const eval_scores *from;
    const eval_options *options;
    const double *values;  /* [n] as read */
    const double *scores;  /* [n] values, or own */
    double *own;           /* owned [n]; NULL: the field is not turned */
    uint8_t *wanted;       /* owned [n] scratch */
    tdm_evaluate_options evaluate;
} measuring;

/* A threshold of scores as one of the field's values, and back. */
static double of_field(bool is_turned, double threshold)
{
    return is_turned ? 0 - threshold : threshold; /* no -0 */
}

static void count_wanted(const measuring *m, int64_t *humans, int64_t *machines)
{
    *humans = *machines = 0;
    for (size_t i = 0; i < m->from->n; i++) {
        *machines += m->wanted[i] && m->from->machine[i];
        *humans += m->wanted[i] && !m->from->machine[i];
    }
}

static tdm_scored wanted_of(const measuring *m, bool all)
{
    return (tdm_scored){.scores = m->scores, .machine = m->from->machine, .wanted = all ? NULL : m->wanted,
                        .n = m->from->n};
}

/* Values and intervals of a part, at a threshold of scores; thresholds come back as the field's values. */
static tdm_status measure(const measuring *m, const tdm_ranking *ranking, double threshold, bool is_turned,
                          tdm_values *values, tdm_intervals *intervals, tdm_err *err)
{
    tdm_evaluate_options options = m->evaluate;
    options.threshold = threshold;
    tdm_evaluate(ranking, &options, values);
    for (int i = 0; i < options.n_fprs; i++)
        values->at_fpr[i].threshold = of_field(is_turned, values->at_fpr[i].threshold);
    return tdm_bootstrap(ranking, &options, &m->options->bootstrap, intervals, err);
}

static tdm_status measure_wanted(const measuring *m, double threshold, bool is_turned, tdm_values *values,
                                 tdm_intervals *intervals, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ranking *ranking = NULL;
    const tdm_scored set = wanted_of(m, false);
    TDM_TRY(tdm_ranking_open(&set, &ranking, err));
    TDM_TRY(measure(m, ranking, threshold, is_turned, values, intervals, err));
done:
    tdm_ranking_close(ranking);
    return st;
}

/* ---- the steps ---- */

static void find_range(const measuring *m, eval_result *out)
{
    out->low = INFINITY;
    out->high = -INFINITY;
    for (size_t i = 0; i < m->from->n; i++) {
        out->low = fmin(out->low, m->values[i]);
        out->high = fmax(out->high, m->values[i]);
        if (m->from->machine[i])
            out->machines++;
        else
            out->humans++;
    }
}

static void want_validation(const measuring *m, bool validation)
{
    for (size_t i = 0; i < m->from->n; i++)
        m->wanted[i] = m->from->validation[i] == validation;
}

/* The direction that is right more often on the validation split. */
static tdm_status fit_orientation(const measuring *m, bool *is_turned, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ranking *ranking = NULL;
    tdm_values values;
    int64_t humans = 0, machines = 0;
    const tdm_evaluate_options options = {.threshold = NAN};
    want_validation(m, true);
    count_wanted(m, &humans, &machines);
    TDM_REQUIRE(humans && machines, TDM_EFORMAT,
                "the validation split has %s text: too few records to fit an orientation",
                humans ? "no machine" : "no human");
    const tdm_scored set = wanted_of(m, false);
    TDM_TRY(tdm_ranking_open(&set, &ranking, err));
    tdm_evaluate(ranking, &options, &values);
    *is_turned = values.auroc < 0.5;
done:
    tdm_ranking_close(ranking);
    return st;
}

static tdm_status find_orientation(measuring *m, eval_result *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const eval_orientation said = m->options->orientation;
    eval_known_field(out->field, &out->is_turned, &out->is_probability);
    out->is_probability = out->is_probability && out->low >= 0 && out->high <= 1;
    if (said == EVAL_FIT)
        TDM_TRY(fit_orientation(m, &out->is_turned, err));
    else if (said != EVAL_AUTO)
        out->is_turned = said == EVAL_HUMAN;
    if (out->is_turned) {
        m->scores = m->own = malloc((m->from->n + 1) * sizeof *m->own); /* as large as what was read */
        TDM_REQUIRE(m->own, TDM_ENOMEM, "%zu scores", m->from->n);
        for (size_t i = 0; i < m->from->n; i++)
            m->own[i] = -m->values[i];
    }
done:
    return st;
}

static tdm_status measure_all(const measuring *m, eval_result *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ranking *ranking = NULL;
    const tdm_scored set = wanted_of(m, true);
    TDM_TRY(tdm_ranking_open(&set, &ranking, err));
    TDM_TRY(measure(m, ranking, of_field(out->is_turned, out->threshold), out->is_turned, &out->values,
                    &out->intervals, err));
    out->is_suspicious = out->values.auroc < 0.5;
    out->n_curve = tdm_roc_curve(ranking, out->curve, EVAL_CURVE);
    for (size_t i = 0; i < out->n_curve; i++)
        out->curve[i].threshold = of_field(out->is_turned, out->curve[i].threshold);
done:
    tdm_ranking_close(ranking);
    return st;
}

/* Fit a threshold on one part and judge it on the other. */
static tdm_status measure_best(const measuring *m, eval_result *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ranking *ranking = NULL;
    int64_t humans = 0, machines = 0;
    out->best_threshold = NAN;
    want_validation(m, false);
    count_wanted(m, &humans, &machines);
    if (!humans || !machines)
        goto done;
    want_validation(m, true);
    count_wanted(m, &humans, &machines);
    if (!humans || !machines)
        goto done;
    const tdm_scored set = wanted_of(m, false);
    TDM_TRY(tdm_ranking_open(&set, &ranking, err));
    const double best = tdm_best_threshold(ranking);
    out->best_threshold = of_field(out->is_turned, best);
    out->fitted_on = humans + machines;
    want_validation(m, false);
    TDM_TRY(measure_wanted(m, best, out->is_turned, &out->best, &out->best_intervals, err));
done:
    tdm_ranking_close(ranking);
    return st;
}

static tdm_status measure_bucket(const measuring *m, const eval_result *out, eval_bucket *b, tdm_err *err)
{
    const int64_t *lengths = m->from->lengths;
    for (size_t i = 0; i < m->from->n; i++)
        m->wanted[i] = lengths[i] >= b->from && (lengths[i] < b->to || b->to == INT64_MAX);
    count_wanted(m, &b->humans, &b->machines);
    b->is_measured = b->humans && b->machines;
    if (!b->is_measured)
        return TDM_OK;
    return measure_wanted(m, of_field(out->is_turned, out->threshold), out->is_turned, &b->values, &b->intervals, err);
}

static tdm_status measure_buckets(const measuring *m, eval_result *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const eval_options *o = m->options;
    if (!m->from->lengths || !o->n_buckets)
        return TDM_OK;
    for (int i = 0; i <= o->n_buckets; i++) {
        out->buckets[i] = (eval_bucket){.from = i ? o->buckets[i - 1] : 0,
                                        .to = i < o->n_buckets ? o->buckets[i] : INT64_MAX};
        TDM_TRY(measure_bucket(m, out, &out->buckets[i], err));
        out->n_buckets = i + 1;
    }
done:
    return st;
}

static tdm_status calibrate(measuring *m, eval_result *out, tdm_err *err)
{
    if (!out->is_probability)
        return TDM_OK;
    for (size_t i = 0; out->is_turned && i < m->from->n; i++)
        m->own[i] = 1 - m->values[i];
    const tdm_scored set = wanted_of(m, true);
    return tdm_calibrate(&set, &out->calibration, err);
}

static void fill_histogram(const measuring *m, eval_result *out)
{
    if (out->is_probability) {
        out->low = 0;
        out->high = 1;
    }
    const double width = out->high / 2 - out->low / 2; /* halves: the whole may be more than a double holds */
    for (size_t i = 0; i < m->from->n; i++) {
        const double at = width > 0 ? (m->values[i] / 2 - out->low / 2) / width * EVAL_HISTOGRAM : 0;
        const int step = at < EVAL_HISTOGRAM - 1 ? (int)at : EVAL_HISTOGRAM - 1;
        if (m->from->machine[i])
            out->machine_histogram[step]++;
        else
            out->human_histogram[step]++;
    }
}

tdm_status eval_measure(const eval_scores *scores, size_t field, const eval_options *options, eval_result *out,
                        tdm_err *err)
{
    tdm_status st = TDM_OK;
    measuring m = {.from = scores, .options = options, .values = scores->scores[field],
                   .scores = scores->scores[field], .evaluate = options->evaluate};
    *out = (eval_result){.field = options->fields[field], .excluded = scores->excluded,
                          .length_field = scores->length_field};
    m.wanted = malloc(scores->n + 1);
    TDM_REQUIRE(m.wanted, TDM_ENOMEM, "%zu texts", scores->n);
    find_range(&m, out);
    TDM_TRY(find_orientation(&m, out, err));
    out->threshold = isnan(options->threshold) && out->is_probability ? 0.5 : options->threshold;
    TDM_TRY(measure_all(&m, out, err));
    TDM_TRY(measure_best(&m, out, err));
    TDM_TRY(measure_buckets(&m, out, err));
    fill_histogram(&m, out);
    TDM_TRY(calibrate(&m, out, err));
done:
    free(m.own);
    free(m.wanted);
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "field \"%s\"", options->fields[field]);
}
