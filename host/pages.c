#include "host/pages.h"

#include <stdlib.h>
#include <string.h>

#include "host/backend.h"

struct tdm_pages {
    int32_t n_pages, n_free, horizon;
    int32_t *free;    /* [n_free] a stack */
    int32_t *holders; /* [n_pages] */
    /* of a forecast */
    int64_t *change; /* [horizon + 1] pages more that are held from step i on; the last is never given back */
    int32_t *until;  /* [n_pages] last step that a claim holds it; -1: none does */
};

tdm_status tdm_pages_open(int32_t n_pages, int32_t horizon, tdm_pages **out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = NULL;
    tdm_pages *p = calloc(1, sizeof *p);
    TDM_REQUIRE(p, TDM_ENOMEM, "pages");
    TDM_REQUIRE(n_pages > 0 && horizon > 0, TDM_EARG, "%d pages for %d steps", (int)n_pages,
                (int)horizon);
    const size_t n = (size_t)n_pages;
    p->n_pages = p->n_free = n_pages;
    p->horizon = horizon;
    p->free = malloc(n * sizeof *p->free);
    p->holders = calloc(n, sizeof *p->holders);
    p->until = malloc(n * sizeof *p->until);
    p->change = malloc(((size_t)horizon + 1) * sizeof *p->change);
    TDM_REQUIRE(p->free && p->holders && p->until && p->change, TDM_ENOMEM, "list of %d pages",
                (int)n_pages);
    for (int32_t i = 0; i < n_pages; i++)
        p->free[i] = n_pages - 1 - i; /* page 0 is taken first */
    *out = p;
    p = NULL;
done:
    tdm_pages_close(p);
    return st;
}

void tdm_pages_close(tdm_pages *p)
{
    if (!p)
        return;
    free(p->free);
    free(p->holders);
    free(p->until);
    free(p->change);
    free(p);
}

int32_t tdm_pages_left(const tdm_pages *p)
{
    return p->n_free;
}

int32_t tdm_pages_holders(const tdm_pages *p, int32_t page)
{
    return p->holders[page];
}

int32_t tdm_pages_take(tdm_pages *p)
{
    if (p->n_free == 0)
        return -1;
    const int32_t page = p->free[--p->n_free];
    p->holders[page] = 1;
    return page;
}

static tdm_status check_held(const tdm_pages *p, int32_t page, tdm_err *err)
{
    if (page < 0 || page >= p->n_pages || p->holders[page] == 0)
        return tdm_fail(err, TDM_EINTERNAL, "nobody holds page %d of %d", (int)page, (int)p->n_pages);
    return TDM_OK;
}

tdm_status tdm_pages_share(tdm_pages *p, int32_t page, tdm_err *err)
{
    const tdm_status st = check_held(p, page, err);
    if (st == TDM_OK)
        p->holders[page]++;
    return st;
}

tdm_status tdm_pages_drop(tdm_pages *p, int32_t page, tdm_err *err)
{
    const tdm_status st = check_held(p, page, err);
    if (st == TDM_OK && --p->holders[page] == 0)
        p->free[p->n_free++] = page;
    return st;
}

/* ---- forecasts ---- */

void tdm_pages_forecast(tdm_pages *p)
{
    memset(p->change, 0, ((size_t)p->horizon + 1) * sizeof *p->change);
    for (int32_t i = 0; i < p->n_pages; i++)
        p->until[i] = -1;
}

/* n pages more from step `from` to step `last`; what lies beyond the horizon counts as at its end, and
 * is not given back. */
static void hold(tdm_pages *p, int64_t from, int64_t last, int64_t n)
{
    p->change[from < p->horizon ? from : p->horizon] += n;
    if (last + 1 <= p->horizon)
        p->change[last + 1] -= n;
}

void tdm_pages_claim(tdm_pages *p, const tdm_page_claim *c)
{
    const int64_t end = (int64_t)c->wait + c->feeds;
    const int64_t room = ((int64_t)c->n_pages + c->fresh) * TDM_PAGE - c->position;
    for (int32_t i = 0; i < c->n_pages; i++)
        if (end > p->until[c->pages[i]])
            p->until[c->pages[i]] = end < p->horizon ? (int32_t)end : p->horizon;
    hold(p, 0, end, c->fresh);
    for (int64_t step = c->wait + room; step < end; step += TDM_PAGE)
        hold(p, step, end, 1);
}

bool tdm_pages_suffice(tdm_pages *p)
{
    int64_t held = 0;
    for (int32_t i = 0; i < p->n_pages; i++)
        if (p->until[i] >= 0)
            hold(p, 0, p->until[i], 1);
    for (int32_t step = 0; step <= p->horizon; step++) {
        held += p->change[step];
        if (held > p->n_pages)
            return false;
    }
    return true;
}
