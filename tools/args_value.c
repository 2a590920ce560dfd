/* tools/args_value.c - the text of one option to its value, strictly. */
#include "tools/args.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_BATCH = 65536 };

static bool unlimited(const arg_spec *spec)
{
    return spec->min == 0 && spec->max == 0;
}

/* strtoll and friends skip leading white space and take a sign: here a number is digits alone. */
static bool read_u64(const char *text, uint64_t *out)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    *out = value;
    return errno == 0 && *end == '\0';
}

static bool read_i64(const char *text, int64_t *out)
{
    char *end = NULL;
    const char *digits = text + (text[0] == '-');
    if (digits[0] < '0' || digits[0] > '9')
        return false;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    *out = value;
    return errno == 0 && *end == '\0';
}

/* Decimal notation only: no inf, nan or hexadecimal; reads up to *end. */
static bool read_f64_until(const char *text, size_t len, double *out)
{
    char copy[64];
    char *end = NULL;
    if (len == 0 || len >= sizeof copy || strspn(text, "+-.0123456789eE") < len)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    errno = 0;
    *out = strtod(copy, &end);
    return errno == 0 && *end == '\0' && isfinite(*out);
}

static tdm_status set_i64(const arg_spec *spec, const char *text, tdm_err *err)
{
    int64_t value = 0;
    const bool is_number = read_i64(text, &value);
    if (unlimited(spec)) {
        if (!is_number)
            return tdm_fail(err, TDM_EARG, "--%s %s: want a whole number", spec->name, text);
    } else if (!is_number || (double)value < spec->min || (double)value > spec->max) {
        return tdm_fail(err, TDM_EARG, "--%s %s: want a whole number from %.0f to %.0f", spec->name,
                        text, spec->min, spec->max);
    }
    *(int64_t *)spec->out = value;
    return TDM_OK;
}

static tdm_status set_u64(const arg_spec *spec, const char *text, tdm_err *err)
{
    uint64_t value = 0;
    if (!read_u64(text, &value))
        return tdm_fail(err, TDM_EARG, "--%s %s: want a whole number from 0 to %" PRIu64, spec->name,
                        text, UINT64_MAX);
    *(uint64_t *)spec->out = value;
    return TDM_OK;
}

static bool within(const arg_spec *spec, double value)
{
    return unlimited(spec) || ((spec->open_min ? value > spec->min : value >= spec->min) &&
                               value <= spec->max);
}

static tdm_status refuse_f64(const arg_spec *spec, const char *text, const char *form, tdm_err *err)
{
    if (unlimited(spec))
        return tdm_fail(err, TDM_EARG, "--%s %s: want %s", spec->name, text, form);
    return tdm_fail(err, TDM_EARG, "--%s %s: want %s %s %.15g and at most %.15g", spec->name, text,
                    form, spec->open_min ? "above" : "of at least", spec->min, spec->max);
}

static tdm_status set_f64(const arg_spec *spec, const char *text, tdm_err *err)
{
    double value = 0;
    if (!read_f64_until(text, strlen(text), &value) || !within(spec, value))
        return refuse_f64(spec, text, "a number", err);
    *(double *)spec->out = value;
    return TDM_OK;
}

static tdm_status set_range(const arg_spec *spec, const char *text, tdm_err *err)
{
    double low = 0, high = 0;
    const char *colon = strchr(text, ':');
    bool good = read_f64_until(text, colon ? (size_t)(colon - text) : strlen(text), &low);
    high = low;
    if (good && colon)
        good = read_f64_until(colon + 1, strlen(colon + 1), &high);
    if (!good || !within(spec, low) || !within(spec, high) || low > high)
        return refuse_f64(spec, text, "a number P, or A:B with A <= B, each", err);
    ((double *)spec->out)[0] = low;
    ((double *)spec->out)[1] = high;
    return TDM_OK;
}

static tdm_status set_size(const arg_spec *spec, const char *text, tdm_err *err)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } UNITS[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    char digits[24], most[64] = "";
    uint64_t count = 0;
    const uint64_t max = spec->max > 0 ? (uint64_t)spec->max : SIZE_MAX / 2;
    const size_t n = strspn(text, "0123456789");
    if (n > 0 && n < sizeof digits) {
        memcpy(digits, text, n);
        digits[n] = '\0';
        for (size_t i = 0; i < COUNT(UNITS); i++)
            if (!strcmp(text + n, UNITS[i].suffix) && read_u64(digits, &count) && count > 0 &&
                count <= max >> UNITS[i].shift) {
                *(size_t *)spec->out = (size_t)count << UNITS[i].shift;
                return TDM_OK;
            }
    }
    if (spec->max > 0)
        snprintf(most, sizeof most, " and at most %" PRIu64, max);
    return tdm_fail(err, TDM_EARG,
                    "--%s %s: want a size of at least 1 byte%s, such as 8MiB, 512KiB or 100",
                    spec->name, text, most);
}

static tdm_status set_choice(const arg_spec *spec, const char *text, tdm_err *err)
{
    char list[256] = "";
    size_t used = 0;
    for (int i = 0; spec->choices[i]; i++) {
        if (!strcmp(text, spec->choices[i])) {
            *(int *)spec->out = i;
            return TDM_OK;
        }
        const int n = snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                               spec->choices[i]);
        used += n > 0 && (size_t)n < sizeof list - used ? (size_t)n : 0;
    }
    return tdm_fail(err, TDM_EARG, "--%s %s: want one of %s", spec->name, text, list);
}

static tdm_status set_errors(const arg_spec *spec, const char *text, tdm_err *err)
{
    uint64_t count = 0;
    tdm_max_errors limit = {0};
    const size_t len = strlen(text);
    bool good = false;
    if (len > 1 && text[len - 1] == '%') {
        limit.percent = true;
        good = read_f64_until(text, len - 1, &limit.limit) && limit.limit >= 0 && limit.limit <= 100;
    } else {
        good = read_u64(text, &count) && count <= (UINT64_C(1) << 53);
        limit.limit = (double)count;
    }
    if (!good)
        return tdm_fail(err, TDM_EARG, "--%s %s: want a number of records, or a percentage from 0%% to 100%%",
                        spec->name, text);
    *(tdm_max_errors *)spec->out = limit;
    return TDM_OK;
}

static tdm_status set_batch(const arg_spec *spec, const char *text, tdm_err *err)
{
    const double max = spec->max > 0 ? spec->max : LARGEST_BATCH;
    int64_t value = 0;
    if (strcmp(text, "auto") && (!read_i64(text, &value) || value < 1 || (double)value > max))
        return tdm_fail(err, TDM_EARG, "--%s %s: want auto or a whole number from 1 to %.0f",
                        spec->name, text, max);
    *(int64_t *)spec->out = value;
    return TDM_OK;
}

static tdm_status append(const arg_spec *spec, const char *text, tdm_err *err)
{
    arg_list *list = spec->out;
    if (!*text)
        return tdm_fail(err, TDM_EARG, "--%s: the value is empty", spec->name);
    const char **grown = realloc(list->items, (list->n + 1) * sizeof *grown); /* not more than argv has */
    if (!grown)
        return tdm_fail(err, TDM_ENOMEM, "--%s: %zu values", spec->name, list->n + 1);
    grown[list->n++] = text;
    list->items = grown;
    return TDM_OK;
}

void args_list_free(arg_list *list)
{
    free(list->items);
    *list = (arg_list){0};
}

tdm_status args_read_value(const arg_spec *spec, const char *text, tdm_err *err)
{
    switch (spec->kind) {
    case ARG_FLAG:
        *(bool *)spec->out = true;
        return TDM_OK;
    case ARG_STR:
        if (!*text)
            return tdm_fail(err, TDM_EARG, "--%s: the value is empty", spec->name);
        *(const char **)spec->out = text;
        return TDM_OK;
    case ARG_I64:
        return set_i64(spec, text, err);
    case ARG_U64:
        return set_u64(spec, text, err);
    case ARG_F64:
        return set_f64(spec, text, err);
    case ARG_RANGE:
        return set_range(spec, text, err);
    case ARG_SIZE:
        return set_size(spec, text, err);
    case ARG_CHOICE:
        return set_choice(spec, text, err);
    case ARG_ERRORS:
        return set_errors(spec, text, err);
    case ARG_BATCH:
        return set_batch(spec, text, err);
    case ARG_LIST:
        return append(spec, text, err);
    }
    return tdm_fail(err, TDM_EINTERNAL, "--%s: unknown kind of option", spec->name);
}

tdm_status args_read_numbers(const arg_spec *spec, const char *text, double *out, int most, int *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (*n = 0;; text++) {
        char piece[64];
        arg_spec one = *spec;
        const size_t len = strcspn(text, ",");
        TDM_REQUIRE(*n < most, TDM_EARG, "--%s: more than %d values", spec->name, most);
        snprintf(piece, sizeof piece, "%.*s", (int)(len < sizeof piece ? len : sizeof piece), text);
        one.out = &out[*n];
        TDM_TRY(args_read_value(&one, piece, err));
        ++*n;
        text += len;
        if (!*text)
            break;
    }
done:
    return st;
}
