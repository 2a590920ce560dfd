#include "host/ranks.h"

tdm_share tdm_share_of(int32_t units, int32_t rank, int32_t n_ranks)
{
    if (n_ranks == 0)
        return (tdm_share){0, units};
    const int32_t each = units / n_ranks, more = units % n_ranks;
    return (tdm_share){rank * each + (rank < more ? rank : more), each + (rank < more)};
}

static tdm_share share_of_columns(int32_t inner, int32_t rank, int32_t n_ranks)
{
    enum { UNIT = 64 };
    const int32_t units = inner < UNIT ? 1 : inner / UNIT;
    const tdm_share s = tdm_share_of(units, rank, n_ranks);
    const int32_t end = s.first + s.n == units ? inner : (s.first + s.n) * UNIT;
    return s.n ? (tdm_share){s.first * UNIT, end - s.first * UNIT} : (tdm_share){inner, 0};
}

tdm_part tdm_part_of(int32_t heads, int32_t inner, int32_t vocab, int32_t rank, int32_t n_ranks)
{
    tdm_part p = {tdm_share_of(heads, rank, n_ranks), share_of_columns(inner, rank, n_ranks), {0, vocab}, vocab};
    if (n_ranks == 0)
        return p;
    p.block = tdm_padded(vocab / n_ranks + (vocab % n_ranks != 0));
    const int32_t first = rank * p.block < vocab ? rank * p.block : vocab;
    p.words = (tdm_share){first, vocab - first < p.block ? vocab - first : p.block};
    return p;
}
