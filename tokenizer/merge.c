/* The rule: merge the adjacent pair that gives the lowest symbol, the leftmost of equals, until no
 * pair merges.
 *
 * Short pieces do exactly that over an array.
 *
 * Long pieces keep every pair that is a local minimum (it gives less than the pair on its left and
 * no more than the pair on its right) in a list for the symbol that it gives, and empty these
 * lists in increasing order. That is the same order:
 *   - the leftmost of the lowest pairs is a local minimum, so it waits in the lowest list;
 *   - a merge makes only pairs that give a higher symbol than its own (a symbol's parts are older
 *     than it), and what it uncovers on either side gives no lower symbol, so no list that was
 *     left behind fills again;
 *   - of a run like "aaaa" only the leftmost pair is taken: another one that got into the list
 *     before the run grew to its left is dropped, and waits again when the pair on its left is
 * gone. A node whose pair has changed meanwhile is dropped, too. Local minima are at most every
 * second pair, which halves the memory. */
#include "tokenizer/merge.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_PIECE = 48 };

/* ---- ids ---- */

void tdm_ids_free(tdm_ids *ids)
{
    free(ids->p);
    *ids = (tdm_ids){0};
}

tdm_status tdm_ids_reserve(tdm_ids *ids, size_t more, tdm_err *err)
{
    tdm_status st = TDM_OK;
    if (ids->cap - ids->len >= more)
        goto done;
    size_t want, bytes;
    TDM_REQUIRE(tdm_add_size(ids->len, more, &want) &&
                    tdm_add_size(want, ids->cap / 2 + 64, &want) &&
                    tdm_mul_size(want, sizeof *ids->p, &bytes),
                TDM_ENOMEM, "%zu token ids and %zu more", ids->len, more);
    int32_t *p = realloc(ids->p, bytes);
    TDM_REQUIRE(p, TDM_ENOMEM, "%zu token ids", want);
    ids->p = p;
    ids->cap = want;
done:
    return st;
}

/* ---- short pieces ---- */

/* Merge symbols [n] in place; returns how many are left. */
static size_t merge_short(const tdm_vocab *v, uint32_t *symbols, size_t n)
{
    uint32_t gives[SHORT_PIECE]; /* what symbols[i] and symbols[i + 1] merge to */
    for (size_t i = 0; i + 1 < n; i++)
        gives[i] = tdm_vocab_merge(v, symbols[i], symbols[i + 1]);
    gives[n - 1] = TDM_NO_SYMBOL;
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (gives[i] < gives[best])
                best = i;
        if (gives[best] == TDM_NO_SYMBOL)
            return n;
        symbols[best] = gives[best];
        n--;
        memmove(symbols + best + 1, symbols + best + 2, (n - best - 1) * sizeof *symbols);
        memmove(gives + best, gives + best + 1, (n - best) * sizeof *gives);
        if (best + 1 < n)
            gives[best] = tdm_vocab_merge(v, symbols[best], symbols[best + 1]);
        if (best > 0)
            gives[best - 1] = tdm_vocab_merge(v, symbols[best - 1], symbols[best]);
    }
}

/* ---- long pieces ---- */

/* A slot holds the symbol whose first byte stands there, with this bit, and, when the symbol has
 * several bytes, the slot of its last byte holds it without: so the neighbours on both sides can be
 * found. The slots between mean nothing. */
#define STARTS ((uint32_t)1 << 31)

typedef struct {
    tdm_merge *m;
    uint32_t n; /* bytes in the piece */
} piece;

static uint32_t symbol_at(const piece *p, uint32_t at)
{
    return p->m->slots[at] & ~STARTS;
}

static uint32_t symbol_len(const piece *p, uint32_t symbol)
{
    const uint32_t *text_at = p->m->vocab->text_at;
    return text_at[symbol + 1] - text_at[symbol];
}

static uint32_t next_of(const piece *p, uint32_t at)
{
    return at + symbol_len(p, symbol_at(p, at));
}

static uint32_t previous_of(const piece *p, uint32_t at)
{
    return at - symbol_len(p, symbol_at(p, at - 1));
}

/* What the symbol at `at` and the one behind it merge to. */
static uint32_t pair_at(const piece *p, uint32_t at)
{
    const uint32_t next = next_of(p, at);
    return next < p->n ? tdm_vocab_merge(p->m->vocab, symbol_at(p, at), symbol_at(p, next))
                       : TDM_NO_SYMBOL;
}

/* The pair whose right symbol starts at `at`. */
static uint32_t pair_before(const piece *p, uint32_t at)
{
    if (at == 0)
        return TDM_NO_SYMBOL;
    return tdm_vocab_merge(p->m->vocab, symbol_at(p, at - 1), symbol_at(p, at));
}

static tdm_status grow_nodes(tdm_merge *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t cap = m->nodes_cap + m->nodes_cap / 4 + 256;
    tdm_merge_node *nodes = realloc(m->nodes, cap * sizeof *nodes);
    TDM_REQUIRE(nodes && cap < UINT32_MAX, TDM_ENOMEM, "%zu pairs of a long word", cap);
    m->nodes = nodes;
    m->nodes_cap = cap;
done:
    return st;
}

/* Let the pair at `at` wait to become `symbol`. */
static tdm_status put_pair(tdm_merge *m, uint32_t at, uint32_t symbol, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint32_t node = m->free_node;
    if (node) {
        m->free_node = m->nodes[node].next;
    } else {
        if (m->n_nodes == m->nodes_cap)
            TDM_TRY(grow_nodes(m, err));
        node = (uint32_t)m->n_nodes++;
    }
    m->nodes[node] = (tdm_merge_node){at, m->heads[symbol]};
    m->heads[symbol] = node;
    m->busy[symbol / 64] |= (uint64_t)1 << symbol % 64;
done:
    return st;
}

/* Take a pair out of the list of `symbol`, which is not empty. */
static uint32_t take_pair(tdm_merge *m, uint32_t symbol)
{
    const uint32_t node = m->heads[symbol];
    const uint32_t at = m->nodes[node].at;
    m->heads[symbol] = m->nodes[node].next;
    m->nodes[node].next = m->free_node;
    m->free_node = node;
    if (!m->heads[symbol])
        m->busy[symbol / 64] &= ~((uint64_t)1 << symbol % 64);
    return at;
}

/* Merge the pair at `at`, which gives `symbol`, and let wait what became a local minimum. */
static tdm_status merge_pair(const piece *p, uint32_t at, uint32_t symbol, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_merge *m = p->m;
    const uint32_t right = next_of(p, at), after = next_of(p, right);
    const uint32_t left_was = pair_before(p, at), right_was = pair_at(p, right);
    m->slots[right] = 0;
    m->slots[after - 1] = symbol;
    m->slots[at] = symbol | STARTS;

    const uint32_t left_is = pair_before(p, at), right_is = pair_at(p, at);
    /* The two pairs that the merge changed ... */
    uint32_t left_gives = TDM_NO_SYMBOL, right_gives = TDM_NO_SYMBOL;
    if (at > 0) {
        const uint32_t before = previous_of(p, at);
        left_gives = pair_before(p, before);
        if (left_is < left_gives && left_is <= right_is)
            TDM_TRY(put_pair(m, before, left_is, err));
        /* ... and their neighbours, where only a changed pair was lower. */
        if (left_was < left_gives && left_gives <= left_is && left_gives != TDM_NO_SYMBOL &&
            left_gives < pair_before(p, previous_of(p, before)))
            TDM_TRY(put_pair(m, previous_of(p, before), left_gives, err));
    }
    if (after < p->n) {
        right_gives = pair_at(p, after);
        if (right_is < left_is && right_is <= right_gives)
            TDM_TRY(put_pair(m, at, right_is, err));
        if (right_was <= right_gives && right_gives < right_is &&
            right_gives <= pair_at(p, next_of(p, after)))
            TDM_TRY(put_pair(m, after, right_gives, err));
    }
done:
    return st;
}

/* Whether the node's pair is still there, and the leftmost of its run. */
static bool is_due(const piece *p, uint32_t at, uint32_t symbol)
{
    return (p->m->slots[at] & STARTS) && pair_at(p, at) == symbol && pair_before(p, at) != symbol;
}

static tdm_status merge_all(const piece *p, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_merge *m = p->m;
    const size_t n_words = m->vocab->n_symbols / 64 + 1;
    for (size_t word = 0; word < n_words; word++)
        while (m->busy[word]) {
            const uint32_t symbol =
                (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(m->busy[word]);
            const uint32_t at = take_pair(m, symbol);
            if (is_due(p, at, symbol))
                TDM_TRY(merge_pair(p, at, symbol, err));
        }
done:
    return st;
}

/* Let every local minimum of the bytes wait. From the right, so that the lists run left to right.
 */
static tdm_status put_all(const piece *p, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint32_t gives = TDM_NO_SYMBOL, right = TDM_NO_SYMBOL;
    for (uint32_t at = p->n - 1; at > 0; at--) {
        const uint32_t left = pair_before(p, at);
        if (gives < left && gives <= right)
            TDM_TRY(put_pair(p->m, at, gives, err));
        right = gives;
        gives = left;
    }
    if (gives != TDM_NO_SYMBOL && gives <= right)
        TDM_TRY(put_pair(p->m, 0, gives, err));
done:
    return st;
}

static tdm_status open_long(tdm_merge *m, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(len < UINT32_MAX, TDM_EARG, "a word of %zu bytes, at most 4 GiB", len);
    if (!m->heads) {
        m->heads = calloc(m->vocab->n_symbols, sizeof *m->heads);
        m->busy = calloc(m->vocab->n_symbols / 64 + 1, sizeof *m->busy);
        TDM_REQUIRE(m->heads && m->busy, TDM_ENOMEM, "lists for long words");
    }
    m->n_nodes = 1; /* all lists are empty between two pieces */
    m->free_node = 0;
    TDM_TRY(grow_nodes(m, err));
    if (m->slots_cap < len) {
        free(m->slots);
        m->slots_cap = 0;
        m->slots = malloc(len * sizeof *m->slots);
        TDM_REQUIRE(m->slots, TDM_ENOMEM, "a word of %zu bytes", len);
        m->slots_cap = len;
    }
done:
    return st;
}

static tdm_status merge_long(tdm_merge *m, const unsigned char *bytes, size_t len, tdm_ids *ids,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(open_long(m, len, err));
    const piece p = {m, (uint32_t)len};
    for (size_t i = 0; i < len; i++)
        m->slots[i] = bytes[i] | STARTS;
    TDM_TRY(put_all(&p, err));
    TDM_TRY(merge_all(&p, err));
    /* All lists are empty; their memory need not stand beside that of the ids. */
    free(m->nodes);
    m->nodes = NULL;
    m->nodes_cap = 0;
    size_t count = 0;
    for (uint32_t at = 0; at < p.n; at = next_of(&p, at))
        count++;
    TDM_TRY(tdm_ids_reserve(ids, count, err));
    for (uint32_t at = 0; at < p.n; at = next_of(&p, at))
        ids->p[ids->len++] = m->vocab->id_of[symbol_at(&p, at)];
done:
    return st;
}

tdm_status tdm_merge_piece(tdm_merge *m, const unsigned char *bytes, size_t len, tdm_ids *ids,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint32_t symbols[SHORT_PIECE];
    if (len > SHORT_PIECE)
        return merge_long(m, bytes, len, ids, err);
    for (size_t i = 0; i < len; i++)
        symbols[i] = bytes[i];
    const size_t n = merge_short(m->vocab, symbols, len);
    TDM_TRY(tdm_ids_reserve(ids, n, err));
    for (size_t i = 0; i < n; i++)
        ids->p[ids->len++] = m->vocab->id_of[symbols[i]];
done:
    return st;
}

void tdm_merge_free(tdm_merge *m)
{
    free(m->slots);
    free(m->heads);
    free(m->busy);
    free(m->nodes);
    *m = (tdm_merge){.vocab = m->vocab};
}
