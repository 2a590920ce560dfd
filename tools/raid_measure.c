/* tools/raid_measure.c - thresholds by domain, and what they find in each group of machine texts.
 *
 * A machine text belongs to 32 groups: its own or all values of each factor. So that none of them need be sorted, each text brings its
 * share of the AUROC: the human texts of its domain, and of all, that its score is above. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/raid.h"

enum { GROUPS_MOST = 1 << 20 };

typedef struct {
    const raid_data *data;
    const double *scores;
    raid_results *out;
    size_t none;     /* the attack "none"; RAID_NONE: there is no such value */
    uint8_t *wanted; /* owned [n] scratch of a ranking */
    uint8_t *machine; /* owned [n] */
    double *humans, *sorted; /* owned [n] scratch of the search */
} measuring;

/* ---- domains ---- */

static bool is_tuned_on(const measuring *m, size_t text)
{
    const raid_origin *o = &m->data->origins[text];
    return o->is_human && o->value[RAID_ATTACK] == m->none && !isnan(m->scores[text]);
}

static void count_humans(measuring *m)
{
    const raid_data *d = m->data;
    raid_domain *domains = m->out->domains, *all = &domains[m->out->n_domains];
    for (size_t i = 0; i < d->ids.n; i++) {
        if (!d->origins[i].is_human)
            continue;
        raid_domain *both[] = {&domains[d->origins[i].value[RAID_DOMAIN]], all};
        for (int k = 0; k < 2; k++) {
            both[k]->missing += isnan(m->scores[i]);
            both[k]->humans += !isnan(m->scores[i]);
            both[k]->tuned_on += is_tuned_on(m, i);
        }
    }
}

/* Human scores by domain, and all of them behind the last domain. */
static tdm_status take_humans(measuring *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const raid_data *d = m->data;
    const size_t n_domains = m->out->n_domains;
    raid_domain *domains = m->out->domains, *all = &domains[n_domains];
    count_humans(m);
    for (size_t k = 0; k <= n_domains; k++) {
        domains[k].name = k < n_domains ? raid_ids_text(&d->values[RAID_DOMAIN], k) : "all";
        domains[k].sorted = malloc((size_t)(domains[k].humans + 1) * sizeof(double));
        TDM_REQUIRE(domains[k].sorted, TDM_ENOMEM, "scores of %" PRId64 " human texts", domains[k].humans);
        domains[k].humans = 0; /* counted again as they are put down */
    }
    for (size_t i = 0; i < d->ids.n; i++) {
        if (!d->origins[i].is_human || isnan(m->scores[i]))
            continue;
        raid_domain *own = &domains[d->origins[i].value[RAID_DOMAIN]];
        own->sorted[own->humans++] = m->scores[i];
        all->sorted[all->humans++] = m->scores[i];
    }
    for (size_t k = 0; k <= n_domains; k++)
        raid_sort(domains[k].sorted, (size_t)domains[k].humans);
done:
    return st;
}

static tdm_status find_exact(measuring *m, size_t domain, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_ranking *ranking = NULL;
    tdm_values values;
    int64_t machines = 0;
    raid_domain *own = &m->out->domains[domain];
    for (size_t i = 0; i < m->data->ids.n; i++) {
        const raid_origin *o = &m->data->origins[i];
        const bool is_machine = !o->is_human && !isnan(m->scores[i]);
        m->wanted[i] = o->value[RAID_DOMAIN] == domain && (is_machine || is_tuned_on(m, i));
        machines += m->wanted[i] && is_machine;
    }
    if (machines == 0) {
        for (int k = 0; k < m->out->options.n_fprs; k++)
            own->exact[k] = (tdm_operating_point){.threshold = INFINITY};
        goto done;
    }
    const tdm_scored set = {m->scores, m->machine, m->wanted, m->data->ids.n};
    TDM_TRY(tdm_ranking_open(&set, &ranking, err));
    tdm_evaluate(ranking, &m->out->options, &values);
    memcpy(own->exact, values.at_fpr, sizeof own->exact);
done:
    tdm_ranking_close(ranking);
    return st;
}

static tdm_status tune(measuring *m, size_t domain, tdm_err *err)
{
    tdm_status st = TDM_OK;
    raid_domain *own = &m->out->domains[domain];
    size_t n = 0;
    for (size_t i = 0; i < m->data->ids.n; i++)
        if (m->data->origins[i].value[RAID_DOMAIN] == domain && is_tuned_on(m, i))
            m->humans[n++] = m->scores[i];
    TDM_REQUIRE(n > 0, TDM_EFORMAT,
                "domain %s: no human text without an attack has a score; RAID's evaluator fails there too", own->name);
    memcpy(m->sorted, m->humans, n * sizeof *m->sorted);
    raid_sort(m->sorted, n);
    for (int k = 0; k < m->out->options.n_fprs; k++)
        own->raid[k] = raid_search(m->humans, m->sorted, n, m->out->options.fprs[k]);
    TDM_TRY(find_exact(m, domain, err));
done:
    return st;
}

/* ---- groups ---- */

static uint64_t wins_over(const raid_domain *d, double score)
{
    const size_t n = (size_t)d->humans, below = raid_count_below(d->sorted, n, score);
    const size_t up_to = raid_count_below(d->sorted, n, nextafter(score, INFINITY));
    return (uint64_t)below + up_to; /* 2 x those below + those equal */
}

static void count_in(const measuring *m, raid_group *g, const raid_domain *own, double score, uint64_t wins)
{
    if (isnan(score)) {
        g->missing++;
        return;
    }
    g->n++;
    g->wins += wins;
    for (int k = 0; k < m->out->options.n_fprs; k++) {
        g->exact[k] += score >= own->exact[k].threshold;
        g->raid[k] += score >= own->raid[k].threshold;
    }
}

static void take_machine(const measuring *m, size_t text)
{
    const raid_results *r = m->out;
    const raid_origin *o = &m->data->origins[text];
    const double score = m->scores[text];
    const raid_domain *own = &r->domains[o->value[RAID_DOMAIN]];
    const uint64_t wins[] = {isnan(score) ? 0 : wins_over(own, score),
                             isnan(score) ? 0 : wins_over(&r->domains[r->n_domains], score)};
    for (unsigned all = 0; all < 1u << RAID_FACTORS; all++) {
        size_t at = 0;
        bool is_group = true;
        for (int f = 0; f < RAID_FACTORS; f++) {
            const bool is_all = all >> f & 1;
            is_group = is_group && (is_all || o->value[f] != RAID_EMPTY);
            at = at * r->dims[f] + (is_all ? r->dims[f] - 1 : o->value[f]);
        }
        if (is_group)
            count_in(m, &r->groups[at], own, score, wins[all >> RAID_DOMAIN & 1]);
    }
}

size_t raid_value_of(const raid_results *r, size_t group, raid_factor factor)
{
    for (int f = RAID_FACTORS - 1; f > (int)factor; f--)
        group /= r->dims[f];
    const size_t value = group % r->dims[factor];
    return value + 1 == r->dims[factor] ? RAID_NONE : value;
}

static const raid_domain *domain_of(const raid_results *r, size_t group)
{
    const size_t domain = raid_value_of(r, group, RAID_DOMAIN);
    return &r->domains[domain == RAID_NONE ? r->n_domains : domain];
}

bool raid_has_result(const raid_results *r, size_t group)
{
    const raid_group *g = &r->groups[group];
    const raid_domain *d = domain_of(r, group);
    return g->n > 0 && g->missing == 0 && d->humans > 0 && d->missing == 0;
}

double raid_auroc(const raid_results *r, size_t group)
{
    const raid_group *g = &r->groups[group];
    return (double)g->wins / (2 * (double)g->n * (double)domain_of(r, group)->humans);
}

bool raid_is_met(const raid_results *r, size_t group, int fpr)
{
    const size_t domain = raid_value_of(r, group, RAID_DOMAIN);
    for (size_t i = 0; i < r->n_domains; i++)
        if ((domain == RAID_NONE || domain == i) && !r->domains[i].raid[fpr].is_met)
            return false;
    return true;
}

/* ---- all ---- */

static tdm_status open_results(measuring *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    raid_results *r = m->out;
    const size_t n = m->data->ids.n;
    r->n_groups = 1;
    for (int f = 0; f < RAID_FACTORS; f++) {
        r->dims[f] = m->data->values[f].n + 1;
        r->n_groups *= r->dims[f];
        TDM_REQUIRE(r->n_groups <= GROUPS_MOST, TDM_EFORMAT,
                    "more than %d groups of domain, attack, model, decoding and repetition_penalty", GROUPS_MOST);
    }
    r->n_domains = m->data->values[RAID_DOMAIN].n;
    r->domains = calloc(r->n_domains + 1, sizeof *r->domains);
    r->groups = calloc(r->n_groups, sizeof *r->groups);
    m->wanted = malloc(n);
    m->machine = malloc(n);
    m->humans = malloc(n * sizeof *m->humans);
    m->sorted = malloc(n * sizeof *m->sorted);
    TDM_REQUIRE(r->domains && r->groups && m->wanted && m->machine && m->humans && m->sorted, TDM_ENOMEM,
                "results of %zu texts in %zu groups", n, r->n_groups);
    for (size_t i = 0; i < n; i++)
        m->machine[i] = !m->data->origins[i].is_human;
done:
    return st;
}

tdm_status raid_measure(const raid_data *data, const double *scores, const tdm_evaluate_options *options,
                        raid_results *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = (raid_results){.data = data, .options = *options};
    out->options.threshold = NAN;
    measuring m = {.data = data, .scores = scores, .out = out, .none = raid_ids_find(&data->values[RAID_ATTACK], "none", 4)};
    TDM_TRY(open_results(&m, err));
    TDM_TRY(take_humans(&m, err));
    for (size_t k = 0; k < out->n_domains; k++)
        TDM_TRY(tune(&m, k, err));
    for (size_t i = 0; i < data->ids.n; i++)
        if (!data->origins[i].is_human)
            take_machine(&m, i);
done:
    free(m.wanted);
    free(m.machine);
    free(m.humans);
    free(m.sorted);
    return st;
}

void raid_results_free(raid_results *r)
{
    for (size_t i = 0; r->domains && i <= r->n_domains; i++)
        free(r->domains[i].sorted);
    free(r->domains);
    free(r->groups);
    *r = (raid_results){0};
}
