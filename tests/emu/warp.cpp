/* tests/emu/warp.cpp - collectives of a warp: lanes meet in one object per (mask, operation). */
#include "tests/emu/block.h"

#include <string.h>

namespace tdm_emu
{

static const char *kind_name(Kind kind)
{
    switch (kind) {
    case Kind::sync:
        return "__syncwarp";
    case Kind::shuffle:
        return "__shfl_sync";
    case Kind::ballot:
        return "__ballot_sync";
    case Kind::mma:
        return "mma";
    case Kind::ldmatrix:
        return "ldmatrix";
    default:
        return "__reduce_sync";
    }
}

void warps_start(Block *b)
{
    for (unsigned w = 0; w * LANES < b->n_threads; w++) {
        const unsigned lanes = b->n_threads - w * LANES;
        b->exited[w] = lanes >= LANES ? 0 : ~0u << lanes;
        b->open[w].clear();
    }
}

/* ---- what the last lane computes ---- */

static unsigned combine(Kind kind, bool is_signed, unsigned a, unsigned b)
{
    const bool less = is_signed ? static_cast<int>(a) < static_cast<int>(b) : a < b;
    switch (kind) {
    case Kind::reduce_add:
        return a + b;
    case Kind::reduce_min:
        return less ? a : b;
    case Kind::reduce_max:
        return less ? b : a;
    case Kind::reduce_and:
        return a & b;
    case Kind::reduce_or:
        return a | b;
    default:
        return a ^ b;
    }
}

static void complete_vote(Collective *c)
{
    bool first = true;
    c->result = 0;
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (!(c->mask >> lane & 1))
            continue;
        unsigned value;
        memcpy(&value, c->in[lane], sizeof value);
        if (c->kind == Kind::ballot)
            c->result |= value << lane;
        else
            c->result = first ? value : combine(c->kind, c->detail == 1, c->result, value);
        first = false;
    }
}

static float from_16_bits(unsigned bits, bool bf16)
{
    if (bf16) {
        const unsigned wide = bits << 16;
        float f;
        memcpy(&f, &wide, sizeof f);
        return f;
    }
    _Float16 h;
    const uint16_t narrow = static_cast<uint16_t>(bits);
    memcpy(&h, &narrow, sizeof h);
    return static_cast<float>(h);
}

/* Gather the fragments of kernels/device.cuh into matrices, multiply, scatter. Products of 16-bit
 * values are exact in f32; the order of the sum is k = 0 .. 15, the hardware's is not told. */
static void complete_mma(Collective *c)
{
    float a[16][16], b[16][8], d[16][8];
    const bool bf16 = c->detail == 1;
    const MmaInput *lanes[LANES];
    for (int l = 0; l < 32; l++) {
        const MmaInput *in = lanes[l] = reinterpret_cast<const MmaInput *>(c->in[l]);
        const int g = l / 4, t = l % 4;
        for (int r = 0; r < 4; r++)
            for (int half = 0; half < 2; half++)
                a[g + r % 2 * 8][2 * t + r / 2 * 8 + half] =
                    from_16_bits(in->a[r] >> 16 * half & 0xffff, bf16);
        for (int r = 0; r < 2; r++)
            for (int half = 0; half < 2; half++)
                b[2 * t + r * 8 + half][g] = from_16_bits(in->b[r] >> 16 * half & 0xffff, bf16);
        for (int i = 0; i < 4; i++)
            d[g + i / 2 * 8][2 * t + i % 2] = in->d[i];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                d[i][j] += a[i][k] * b[k][j];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++)
            c->out[l][i] = d[l / 4 + i / 2 * 8][2 * (l % 4) + i % 2];
}

/* ---- meeting ---- */

static void complete(Block *b, unsigned warp, Collective *c)
{
    c->readers = static_cast<unsigned>(__builtin_popcount(c->mask));
    std::vector<Collective *> &open = b->open[warp];
    for (Collective *&o : open) {
        if (o == c) {
            o = open.back();
            open.pop_back();
            break;
        }
    }
    if (c->kind == Kind::mma)
        complete_mma(c);
    else if (c->kind == Kind::sync)
        race_warp_syncs(b, warp, c->mask);
    else if (c->kind != Kind::shuffle && c->kind != Kind::ldmatrix)
        complete_vote(c);
}

/* The collective that this lane joins, or NULL: it is the first. */
static Collective *find_open(const Thread *t, Kind kind, int detail, unsigned mask, Site site)
{
    for (Collective *o : t->block->open[t->warp]) {
        if (!(o->mask & mask))
            continue;
        if (o->mask != mask)
            fatal(site, "%s: mask %08x overlaps mask %08x of lanes that wait at %s:%d",
                  kind_name(kind), mask, o->mask, o->site.file, o->site.line);
        if (o->kind != kind || o->detail != detail)
            fatal(site, "%s: other lanes of the warp wait in another collective, %s at %s:%d",
                  kind_name(kind), kind_name(o->kind), o->site.file, o->site.line);
        return o;
    }
    return nullptr;
}

static Collective *open_collective(const Thread *t, Kind kind, int detail, unsigned mask, Site site)
{
    Block *b = t->block;
    if (b->unused.empty())
        b->unused.push_back(new Collective);
    Collective *c = b->unused.back();
    b->unused.pop_back();
    c->kind = kind;
    c->detail = detail;
    c->mask = mask;
    c->arrived = 0;
    c->site = site;
    b->open[t->warp].push_back(c);
    return c;
}

Collective *collect(Kind kind, int detail, unsigned mask, const void *in, size_t bytes, Site site)
{
    const Thread *t = current();
    Block *b = t->block;
    if (!(mask >> t->lane & 1))
        fatal(site, "%s: lane %u is not in its mask %08x", kind_name(kind), t->lane, mask);
    if (b->exited[t->warp] & mask)
        fatal(site, "%s: mask %08x names lanes %08x, which returned or do not exist",
              kind_name(kind), mask, b->exited[t->warp] & mask);
    Collective *c = find_open(t, kind, detail, mask, site);
    if (!c)
        c = open_collective(t, kind, detail, mask, site);
    if (bytes)
        memcpy(c->in[t->lane], in, bytes);
    c->arrived |= 1u << t->lane;
    if (c->arrived != mask) {
        wait(State::warp, kind_name(kind), site);
        return c;
    }
    complete(b, t->warp, c);
    for (unsigned lane = 0; lane < LANES; lane++)
        if (mask >> lane & 1 && lane != t->lane)
            make_ready(&b->threads[t->warp * LANES + lane]);
    return c;
}

void release(Collective *c)
{
    if (--c->readers == 0)
        current()->block->unused.push_back(c);
}

void lane_exits(Thread *t)
{
    Block *b = t->block;
    for (const Collective *c : b->open[t->warp])
        if (c->mask >> t->lane & 1)
            fatal(c->site, "%s: waits for lane %u, which returns from the kernel",
                  kind_name(c->kind), t->lane);
    b->exited[t->warp] |= 1u << t->lane;
}

/* Every lane looks up its words in the rows that all lanes named; a lane accounts for its own row.
 */
void load_matrices(unsigned (&r)[4], const void *row, bool transposed, Site site)
{
    const Thread *t = current();
    if (reinterpret_cast<uintptr_t>(row) % 16)
        fatal(site, "ldmatrix: row %p is not 16-byte aligned", row);
    if (!in_shared_array(t->block, row, 16))
        fatal(site, "ldmatrix: row %p is not in shared memory", row);
    Collective *c = collect(Kind::ldmatrix, transposed, 0xffffffffu, &row, sizeof row, site);
    race_access(row, 16, Access::read, place_of(site));
    const unsigned major = t->lane / 4, minor = 2 * (t->lane % 4);
    for (unsigned i = 0; i < 4; i++) {
        const uint16_t *rows[8];
        for (unsigned j = 0; j < 8; j++)
            memcpy(&rows[j], c->in[8 * i + j], sizeof rows[j]);
        const unsigned low = transposed ? rows[minor][major] : rows[major][minor];
        const unsigned high = transposed ? rows[minor + 1][major] : rows[major][minor + 1];
        r[i] = low | high << 16;
    }
    release(c);
}

} // namespace tdm_emu
