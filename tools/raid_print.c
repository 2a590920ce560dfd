/* tools/raid_print.c - RAID's results as a table, as CSV, and as its results.json. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "host/json.h"
#include "tools/raid.h"

static const char *value_name(const raid_results *r, size_t group, raid_factor f)
{
    const size_t value = raid_value_of(r, group, f);
    return value == RAID_NONE ? "all" : raid_ids_text(&r->data->values[f], value);
}

/* The group of one value of one factor and all values of the others; of all where value is RAID_NONE. */
static size_t group_of(const raid_results *r, raid_factor factor, size_t value)
{
    size_t at = 0;
    for (int f = 0; f < RAID_FACTORS; f++)
        at = at * r->dims[f] + ((raid_factor)f == factor && value != RAID_NONE ? value : r->dims[f] - 1);
    return at;
}

/* ---- table ---- */

static tdm_status put_domains(tdm_buf *out, const raid_results *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "%-22s %8s %7s %12s %8s %14s %8s\n", "domain", "humans", "target", "threshold",
                           "FPR", "RAID's search", "FPR"));
    for (size_t i = 0; i < r->n_domains; i++)
        for (int k = 0; k < r->options.n_fprs; k++) {
            const raid_domain *d = &r->domains[i];
            TDM_TRY(tdm_buf_printf(out, err, "%-22s %8" PRId64 " %6g%% %12.6g %7.3f%% %14.6g %7.3f%%%s\n", d->name,
                                   d->tuned_on, 100 * r->options.fprs[k], d->exact[k].threshold, 100 * d->exact[k].fpr,
                                   d->raid[k].threshold, 100 * d->raid[k].fpr,
                                   isnan(d->raid[k].threshold) ? "  fails" : d->raid[k].is_met ? "" : "  not met"));
        }
done:
    return st;
}

static tdm_status put_line(tdm_buf *out, const raid_results *r, size_t group, const char *factor, const char *value,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    const raid_group *g = &r->groups[group];
    if (g->n + g->missing == 0)
        goto done;
    TDM_TRY(tdm_buf_printf(out, err, "%-18s %-20s %9" PRId64, factor, value, g->n + g->missing));
    if (!raid_has_result(r, group)) {
        TDM_TRY(tdm_buf_printf(out, err, "  left out: scores are missing\n"));
        goto done;
    }
    TDM_TRY(tdm_buf_printf(out, err, " %7.4f", raid_auroc(r, group)));
    for (int k = 0; k < r->options.n_fprs; k++) {
        TDM_TRY(tdm_buf_printf(out, err, " %7.2f%%", 100 * (double)g->exact[k] / (double)g->n));
        if (raid_is_met(r, group, k))
            TDM_TRY(tdm_buf_printf(out, err, " %7.2f%%", 100 * (double)g->raid[k] / (double)g->n));
        else
            TDM_TRY(tdm_buf_printf(out, err, " %8s", "-"));
    }
    TDM_TRY(tdm_buf_put(out, "\n", 1, err));
done:
    return st;
}

tdm_status raid_print_text(tdm_buf *out, const raid_results *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(put_domains(out, r, err));
    TDM_TRY(tdm_buf_printf(out, err, "\n%-39s %9s %7s", "machine texts", "texts", "AUROC"));
    for (int k = 0; k < r->options.n_fprs; k++)
        TDM_TRY(tdm_buf_printf(out, err, " TPR@%3g%% %8s", 100 * r->options.fprs[k], "RAID's"));
    TDM_TRY(tdm_buf_put(out, "\n", 1, err));
    TDM_TRY(put_line(out, r, group_of(r, RAID_DOMAIN, RAID_NONE), "all", "", err));
    for (int f = 0; f < RAID_FACTORS; f++)
        for (size_t i = 0; i + 1 < r->dims[f]; i++)
            TDM_TRY(put_line(out, r, group_of(r, (raid_factor)f, i), RAID_FACTOR_NAMES[f],
                             raid_ids_text(&r->data->values[f], i), err));
done:
    return st;
}

/* ---- CSV ---- */

static tdm_status put_csv_text(tdm_buf *out, const char *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (!strpbrk(text, ",\"\r\n"))
        return tdm_buf_put(out, text, strlen(text), err);
    TDM_TRY(tdm_buf_put(out, "\"", 1, err));
    for (const char *p = text; *p; p++)
        TDM_TRY(tdm_buf_put(out, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1, err));
    TDM_TRY(tdm_buf_put(out, "\"", 1, err));
done:
    return st;
}

static tdm_status put_csv_group(tdm_buf *out, const raid_results *r, size_t group, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const raid_group *g = &r->groups[group];
    for (int f = 0; f < RAID_FACTORS; f++) {
        TDM_TRY(put_csv_text(out, value_name(r, group, (raid_factor)f), err));
        TDM_TRY(tdm_buf_put(out, ",", 1, err));
    }
    TDM_TRY(tdm_buf_printf(out, err, "%" PRId64 ",%.17g", g->n, raid_auroc(r, group)));
    for (int k = 0; k < r->options.n_fprs; k++) {
        TDM_TRY(tdm_buf_printf(out, err, ",%.17g,", (double)g->exact[k] / (double)g->n));
        if (raid_is_met(r, group, k))
            TDM_TRY(tdm_buf_printf(out, err, "%.17g", (double)g->raid[k] / (double)g->n));
    }
    TDM_TRY(tdm_buf_put(out, "\n", 1, err));
done:
    return st;
}

tdm_status raid_print_csv(tdm_buf *out, const raid_results *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int f = 0; f < RAID_FACTORS; f++)
        TDM_TRY(tdm_buf_printf(out, err, "%s,", RAID_FACTOR_NAMES[f]));
    TDM_TRY(tdm_buf_printf(out, err, "texts,auroc"));
    for (int k = 0; k < r->options.n_fprs; k++)
        TDM_TRY(tdm_buf_printf(out, err, ",tpr_%g,raid_tpr_%g", r->options.fprs[k], r->options.fprs[k]));
    TDM_TRY(tdm_buf_put(out, "\n", 1, err));
    for (size_t i = 0; i < r->n_groups; i++)
        if (raid_has_result(r, i))
            TDM_TRY(put_csv_group(out, r, i, err));
done:
    return st;
}

/* ---- JSON ---- */

static tdm_status put_string(tdm_buf *out, const char *text, tdm_err *err)
{
    return tdm_json_put_string(out, text, strlen(text), err);
}

static tdm_status put_number(tdm_buf *out, double value, tdm_err *err)
{
    return isfinite(value) ? tdm_buf_printf(out, err, "%.17g", value) : tdm_buf_printf(out, err, "null");
}

/* {"0.05": {"tp": ..., "fn": ..., "accuracy": ...}, ...} */
static tdm_status put_accuracy(tdm_buf *out, const raid_results *r, size_t group, bool is_exact, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const raid_group *g = &r->groups[group];
    for (int k = 0; k < r->options.n_fprs; k++) {
        const int64_t tp = is_exact ? g->exact[k] : g->raid[k];
        TDM_TRY(tdm_buf_printf(out, err, "%s\"%g\": ", k ? ", " : "{", r->options.fprs[k]));
        if (is_exact || raid_is_met(r, group, k))
            TDM_TRY(tdm_buf_printf(out, err, "{\"tp\": %" PRId64 ", \"fn\": %" PRId64 ", \"accuracy\": %.17g}", tp,
                                   g->n - tp, (double)tp / (double)g->n));
        else
            TDM_TRY(tdm_buf_printf(out, err, "null"));
    }
    TDM_TRY(tdm_buf_put(out, "}", 1, err));
done:
    return st;
}

static tdm_status put_group(tdm_buf *out, const raid_results *r, size_t group, tdm_err *err)
{
    static const raid_factor ORDER[] = {RAID_DOMAIN, RAID_MODEL, RAID_DECODING, RAID_PENALTY, RAID_ATTACK};
    tdm_status st = TDM_OK;
    for (int i = 0; i < RAID_FACTORS; i++) {
        TDM_TRY(tdm_buf_printf(out, err, "%s\"%s\": ", i ? ", " : "{", RAID_FACTOR_NAMES[ORDER[i]]));
        TDM_TRY(put_string(out, value_name(r, group, ORDER[i]), err));
    }
    TDM_TRY(tdm_buf_printf(out, err, ", \"accuracy\": "));
    TDM_TRY(put_accuracy(out, r, group, false, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"exact\": "));
    TDM_TRY(put_accuracy(out, r, group, true, err));
    TDM_TRY(tdm_buf_printf(out, err, ", \"auroc\": %.17g}", raid_auroc(r, group)));
done:
    return st;
}

typedef double domain_number(const raid_domain *d, int fpr);

static double raid_threshold(const raid_domain *d, int fpr)
{
    return d->raid[fpr].threshold;
}

static double raid_fpr(const raid_domain *d, int fpr)
{
    return d->raid[fpr].fpr;
}

static double exact_threshold(const raid_domain *d, int fpr)
{
    return d->exact[fpr].threshold;
}

static double exact_fpr(const raid_domain *d, int fpr)
{
    return d->exact[fpr].fpr;
}

/* , "name": {"0.05": {"books": ..., ...}, ...} */
static tdm_status put_by_domain(tdm_buf *out, const raid_results *r, const char *name, domain_number *number, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, ",\n \"%s\": {", name));
    for (int k = 0; k < r->options.n_fprs; k++) {
        TDM_TRY(tdm_buf_printf(out, err, "%s\"%g\": {", k ? ", " : "", r->options.fprs[k]));
        for (size_t i = 0; i < r->n_domains; i++) {
            TDM_TRY(tdm_buf_put(out, ", ", i ? 2 : 0, err));
            TDM_TRY(put_string(out, r->domains[i].name, err));
            TDM_TRY(tdm_buf_put(out, ": ", 2, err));
            TDM_TRY(put_number(out, number(&r->domains[i], k), err));
        }
        TDM_TRY(tdm_buf_put(out, "}", 1, err));
    }
    TDM_TRY(tdm_buf_put(out, "}", 1, err));
done:
    return st;
}

tdm_status raid_print_json(tdm_buf *out, const raid_results *r, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *before = "";
    TDM_TRY(tdm_buf_printf(out, err, "{\"scores\": ["));
    for (size_t i = 0; i < r->n_groups; i++) {
        if (!raid_has_result(r, i))
            continue;
        TDM_TRY(tdm_buf_printf(out, err, "%s\n  ", before));
        TDM_TRY(put_group(out, r, i, err));
        before = ",";
    }
    TDM_TRY(tdm_buf_put(out, "]", 1, err));
    TDM_TRY(put_by_domain(out, r, "thresholds", raid_threshold, err));
    TDM_TRY(put_by_domain(out, r, "fpr", raid_fpr, err));
    TDM_TRY(put_by_domain(out, r, "exact_thresholds", exact_threshold, err));
    TDM_TRY(put_by_domain(out, r, "exact_fpr", exact_fpr, err));
    TDM_TRY(tdm_buf_put(out, "}\n", 2, err));
done:
    return st;
}
