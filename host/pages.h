/* host/pages.h - who holds which page of the cache, and whether one more text can be let in.
 *
 *   TDM_TRY(tdm_pages_open(7264, 4096, &pages, err));
 *   tdm_pages_forecast(pages);
 *   for (each text that runs)
 *       tdm_pages_claim(pages, &what_it_may_need);
 *   tdm_pages_claim(pages, &what_the_new_one_may_need);
 *   if (tdm_pages_suffice(pages))
 *       page = tdm_pages_take(pages);
 *   TDM_TRY(tdm_pages_drop(pages, page, err));
 *
 * Texts take their pages one by one as they grow, so the cache can have fewer pages than all slots
 * could fill. The forecast assumes that every text grows to its most tokens, one token a step, and gives
 * its pages back then: if the pages suffice for that, they suffice whatever the texts do, since a text
 * that ends earlier only gives back earlier. Thread safety: one tdm_pages, one thread. */
#ifndef HOST_PAGES_H
#define HOST_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "host/err.h"

typedef struct tdm_pages tdm_pages;

/* All pages are free.
 *   horizon  steps that a forecast looks ahead; beyond them it assumes the worst
 * Errors: TDM_EARG for fewer than 1 page or step, TDM_ENOMEM. */
tdm_status tdm_pages_open(int32_t n_pages, int32_t horizon, tdm_pages **out, tdm_err *err);
void tdm_pages_close(tdm_pages *p); /* NULL is fine */

int32_t tdm_pages_left(const tdm_pages *p);
int32_t tdm_pages_holders(const tdm_pages *p, int32_t page);

/* A free page, held by the caller from now on; -1: there is none. */
int32_t tdm_pages_take(tdm_pages *p);
/* One more holder of a page; one less. With its last holder gone a page is free.
 * Errors: TDM_EINTERNAL for a page that nobody holds. */
tdm_status tdm_pages_share(tdm_pages *p, int32_t page, tdm_err *err);
tdm_status tdm_pages_drop(tdm_pages *p, int32_t page, tdm_err *err);

/* What a text holds and may come to need. Step 0 is the next one. */
typedef struct {
    const int32_t *pages; /* [n_pages] that it holds, of its first tokens */
    int32_t n_pages;
    int32_t fresh;        /* pages that it takes before step 0, behind those */
    int32_t position;     /* of the token that it feeds first; in those pages or right behind them */
    int32_t wait;         /* steps before that */
    int32_t feeds;        /* tokens that it feeds at most, one a step */
} tdm_page_claim;

/* Begin a forecast: a page that no claim names counts as free. */
void tdm_pages_forecast(tdm_pages *p);
/* The text feeds in steps wait .. wait + feeds - 1; in each it takes the page that its token begins, if it
 * begins one. Its pages are free from step wait + feeds + 1 on: what a step drew is known while the
 * next runs. A page that several claims name is held as long as the longest of them. Cost: one addition
 * for each page. */
void tdm_pages_claim(tdm_pages *p, const tdm_page_claim *claim);
/* Whether at no step more pages are held than there are. */
bool tdm_pages_suffice(tdm_pages *p);

#endif
