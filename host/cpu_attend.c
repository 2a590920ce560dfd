/* host/cpu_attend.c - the cache of keys and values, and attention over it or over a packed batch. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/buf.h"
#include "host/cpu.h"

/* Key blocks [page][layer][head]; see CPU_KEY_BLOCK. */
typedef struct {
    tdm_kv shape; /* first: what the front door sees */
    float *blocks;
    size_t bytes, page; /* page: floats */
} cpu_kv;

static bool page_floats(int32_t layers, int32_t heads, size_t *floats)
{
    return tdm_mul_size((size_t)layers, (size_t)heads * CPU_KEY_BLOCK, floats);
}

size_t cpu_kv_page_bytes(void *self, int32_t layers, int32_t heads)
{
    (void)self;
    size_t floats = 0, bytes = 0;
    return page_floats(layers, heads, &floats) && tdm_mul_size(floats, sizeof(float), &bytes)
               ? bytes : SIZE_MAX;
}

/* Memory that the kernel hands out when it is first written: a cache costs what its texts fill. */
tdm_status cpu_kv_open(void *self, int32_t layers, int32_t heads, int32_t pages, int32_t text_pages,
                       tdm_kv **kv, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t bytes = 0;
    cpu_kv *cache = calloc(1, sizeof *cache);
    TDM_REQUIRE(cache, TDM_ENOMEM, "cache handle");
    cache->shape = (tdm_kv){layers, heads, pages, text_pages};
    const bool fits = page_floats(layers, heads, &cache->page) &&
                      tdm_mul_size(cache->page, sizeof(float), &bytes) &&
                      tdm_mul_size(bytes, (size_t)pages, &bytes);
    TDM_REQUIRE(fits, TDM_ENOMEM, "a cache of %d layers x %d heads x %d pages", layers, heads, pages);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    TDM_REQUIRE(p != MAP_FAILED, TDM_ENOMEM, "%zu bytes for a cache of %d layers x %d heads x %d pages",
                bytes, layers, heads, pages);
    madvise(p, bytes, MADV_HUGEPAGE); /* advice: where it fails, small pages do */
    cache->blocks = p;
    cache->bytes = bytes;
    *kv = &cache->shape;
    cache = NULL;
done:
    cpu_kv_close(self, cache ? &cache->shape : NULL);
    return st;
}

tdm_status cpu_kv_copy(void *self, tdm_kv *kv, int32_t to, int32_t from, tdm_err *err)
{
    (void)self;
    (void)err;
    const cpu_kv *cache = (const cpu_kv *)kv;
    memcpy(cache->blocks + (size_t)to * cache->page, cache->blocks + (size_t)from * cache->page,
           cache->page * sizeof(float));
    return TDM_OK;
}

void cpu_kv_close(void *self, tdm_kv *kv)
{
    (void)self;
    cpu_kv *cache = (cpu_kv *)kv;
    if (cache && cache->blocks)
        munmap(cache->blocks, cache->bytes);
    free(cache);
}

typedef struct {
    float *y;
    const float *qkv;
    const tdm_step *step;
    const cpu_kv *kv; /* NULL: packed */
    size_t layer, heads;
    bool causal;
} attend_job;

/* Key and value of one head into place `key` of a block. The key becomes a column. */
static void put_key(float *block, size_t key, const float *k, const float *v)
{
    float *column = block + key;
    float *row = block + CPU_KEYS * TDM_HEAD + key * TDM_HEAD;
    for (size_t d = 0; d < TDM_HEAD; d++)
        column[d * CPU_KEYS] = k[d];
    for (size_t d = 0; d < TDM_HEAD; d++)
        row[d] = v[d];
}

/* The rows of text i, and the position of the first; false: idle. */
static bool text_rows(const tdm_step *step, size_t i, size_t *row, size_t *n, size_t *position)
{
    *row = step->starts ? (size_t)step->starts[i] : i;
    *n = step->starts ? (size_t)step->starts[i + 1] - *row : 1;
    *position = 0;
    if (!*n || !step->slots)
        return *n > 0;
    const int32_t slot = step->slots[i];
    if (slot < 0)
        return false;
    const int32_t first = step->positions[step->starts ? *row : (size_t)slot];
    *position = first < 0 ? 0 : (size_t)first;
    return first >= 0;
}

/* One text and head: store its new keys and values, then let its rows see. */
static void attend_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    const attend_job *job = arg;
    const size_t text = i / job->heads, head = i % job->heads, width = job->heads * TDM_HEAD;
    size_t start, n, first;
    const bool runs = text_rows(job->step, text, &start, &n, &first);
    cpu_attention a = {
        .y = job->y + start * width + head * TDM_HEAD,
        .q = job->qkv + start * 3 * width + head * TDM_HEAD,
        .y_stride = width,
        .q_stride = 3 * width,
        .n_rows = n,
        .n_keys = job->causal ? first + 1 : n,
        .step = job->causal ? 1 : 0,
    };
    float *blocks = lane->blocks;
    a.block_stride = CPU_KEY_BLOCK;
    if (!runs) {
        if (n)
            memset(a.y, 0, TDM_HEAD * sizeof *a.y);
        return;
    }
    if (job->kv) {
        blocks = job->kv->blocks + (job->layer * job->heads + head) * CPU_KEY_BLOCK;
        a.block_stride = job->kv->page;
        a.pages = job->step->pages +
                  (size_t)job->step->slots[text] * (size_t)job->kv->shape.text_pages;
    }
    a.blocks = blocks;
    for (size_t r = 0; r < n; r++) {
        const size_t key = first + r, block = key / CPU_KEYS;
        put_key(blocks + (a.pages ? (size_t)a.pages[block] : block) * a.block_stride, key % CPU_KEYS,
                a.q + r * 3 * width + width, a.q + r * 3 * width + 2 * width);
    }
    be->kernels->attend(&a);
}

/* Rows of each text follow each other; `longest` receives the rows of the longest text. */
static tdm_status check_texts(const tdm_step *step, size_t *longest, tdm_err *err)
{
    int32_t row = 0;
    *longest = 0;
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const int32_t end = step->starts[i + 1];
        if (step->starts[i] != row || end < row || end > step->n_rows)
            return tdm_fail(err, TDM_EARG, "text %d has rows %d to %d, want them to begin at %d "
                            "and to end by %d", i, step->starts[i], end, row, step->n_rows);
        if ((size_t)(end - row) > *longest)
            *longest = (size_t)(end - row);
        row = end;
    }
    if (row != step->n_rows)
        return tdm_fail(err, TDM_EARG, "the texts have %d rows, the step has %d", row, step->n_rows);
    return TDM_OK;
}

/* The pages of positions 0 .. last of the text in a slot are in the cache. */
static tdm_status check_pages(const tdm_kv *kv, const tdm_step *step, int32_t text, int64_t last,
                              tdm_err *err)
{
    const int64_t context = (int64_t)kv->text_pages * TDM_PAGE;
    if (last >= context)
        return tdm_fail(err, TDM_EARG, "text %d: position %lld, want 0 to %lld", text,
                        (long long)last, (long long)context - 1);
    const int32_t *pages = step->pages + (size_t)step->slots[text] * (size_t)kv->text_pages;
    for (int64_t i = 0; i <= last / TDM_PAGE; i++)
        if (pages[i] < 0 || pages[i] >= kv->pages)
            return tdm_fail(err, TDM_EARG, "text %d: page %lld of slot %d is %d, want 0 to %d", text,
                            (long long)i, step->slots[text], pages[i], kv->pages - 1);
    return TDM_OK;
}

static tdm_status check_ragged(const tdm_kv *kv, const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const int32_t start = step->starts[i], n = step->starts[i + 1] - start;
        TDM_REQUIRE(step->slots[i] >= 0, TDM_EARG, "text %d: slot %d", i, step->slots[i]);
        for (int32_t r = 0; r < n; r++) {
            const int64_t place = step->positions[start + r];
            TDM_REQUIRE(place >= 0, TDM_EARG, "text %d: position %lld", i, (long long)place);
            TDM_REQUIRE(place == step->positions[start] + (int64_t)r, TDM_EARG,
                        "text %d: position %lld does not follow %d", i, (long long)place,
                        step->positions[start + r - 1]);
        }
        if (n > 0)
            TDM_TRY(check_pages(kv, step, i, step->positions[start + n - 1], err));
    }
done:
    return st;
}

static tdm_status check_decoding(const tdm_kv *kv, const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const int32_t slot = step->slots[i];
        if (slot >= 0 && step->positions[slot] >= 0)
            TDM_TRY(check_pages(kv, step, i, step->positions[slot], err));
    }
done:
    return st;
}

tdm_status cpu_attend_cached(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                             const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t longest = 0;
    if (step->starts) {
        TDM_TRY(check_texts(step, &longest, err));
        TDM_TRY(check_ragged(kv, step, err));
    } else {
        TDM_TRY(check_decoding(kv, step, err));
    }
    const attend_job job = {y.p, qkv.p, step, (const cpu_kv *)kv, (size_t)layer,
                            (size_t)y.cols / TDM_HEAD, true};
    cpu_run(self, (size_t)step->n_seqs * job.heads, attend_item, &job);
done:
    return st;
}

/* Every lane can hold the key blocks of one head of the longest text. */
static tdm_status grow_lanes(cpu_backend *be, size_t n_blocks, tdm_err *err)
{
    for (size_t i = 0; i < be->n_lanes; i++) {
        cpu_lane *lane = &be->lanes[i];
        if (lane->n_blocks >= n_blocks)
            continue;
        free(lane->blocks);
        lane->n_blocks = 0;
        lane->blocks = cpu_memory(n_blocks * CPU_KEY_BLOCK * sizeof(float));
        if (!lane->blocks)
            return tdm_fail(err, TDM_ENOMEM, "keys of a text of %zu tokens", n_blocks * CPU_KEYS);
        lane->n_blocks = n_blocks;
    }
    return TDM_OK;
}

tdm_status cpu_attend_packed(void *self, tdm_mat y, tdm_mat qkv, const tdm_step *step, bool causal,
                             tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t longest = 0;
    tdm_step packed = *step;
    packed.slots = NULL; /* every text from its position 0 */
    TDM_TRY(check_texts(step, &longest, err));
    TDM_TRY(grow_lanes(self, (longest + CPU_KEYS - 1) / CPU_KEYS, err));
    const attend_job job = {y.p, qkv.p, &packed, NULL, 0, (size_t)y.cols / TDM_HEAD, causal};
    cpu_run(self, (size_t)step->n_seqs * job.heads, attend_item, &job);
done:
    return st;
}
