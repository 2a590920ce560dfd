/* host/cpu_attend.c - the cache of keys and values, and attention over it or over a packed batch. */
#include <stdlib.h>
#include <sys/mman.h>

#include "host/buf.h"
#include "host/cpu.h"

/* Key blocks [layer][block][slot][head]; see CPU_KEY_BLOCK. */
typedef struct {
    tdm_kv shape; /* first: what the front door sees */
    float *blocks;
    size_t bytes, n_blocks; /* n_blocks: of one text */
} cpu_kv;

/* Memory that the kernel hands out when it is first written: a cache costs what its texts fill. The first
 * blocks of all texts lie together, so that huge pages fill up too. */
tdm_status cpu_kv_open(void *self, int32_t layers, int32_t heads, int32_t slots, int32_t context,
                       tdm_kv **kv, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cpu_kv *cache = calloc(1, sizeof *cache);
    TDM_REQUIRE(cache, TDM_ENOMEM, "cache handle");
    cache->shape = (tdm_kv){layers, heads, slots, context};
    cache->n_blocks = ((size_t)context + CPU_KEYS - 1) / CPU_KEYS;
    size_t bytes = cache->n_blocks * CPU_KEY_BLOCK * sizeof(float);
    const bool fits = tdm_mul_size(bytes, (size_t)heads, &bytes) &&
                      tdm_mul_size(bytes, (size_t)slots, &bytes) &&
                      tdm_mul_size(bytes, (size_t)layers, &bytes);
    TDM_REQUIRE(fits, TDM_ENOMEM, "a cache of %d layers x %d heads x %d slots x %d tokens", layers,
                heads, slots, context);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    TDM_REQUIRE(p != MAP_FAILED, TDM_ENOMEM,
                "%zu bytes for a cache of %d layers x %d heads x %d slots x %d tokens", bytes,
                layers, heads, slots, context);
    madvise(p, bytes, MADV_HUGEPAGE); /* advice: where it fails, small pages do */
    cache->blocks = p;
    cache->bytes = bytes;
    *kv = &cache->shape;
    cache = NULL;
done:
    cpu_kv_close(self, cache ? &cache->shape : NULL);
    return st;
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

/* One text and head: store its new keys and values, then let its rows see. */
static void attend_item(cpu_backend *be, cpu_lane *lane, const void *arg, size_t i)
{
    const attend_job *job = arg;
    const size_t text = i / job->heads, head = i % job->heads, width = job->heads * TDM_HEAD;
    const size_t start = (size_t)job->step->starts[text];
    const size_t n = (size_t)job->step->starts[text + 1] - start;
    const float *q = job->qkv + start * 3 * width + head * TDM_HEAD;
    float *blocks = lane->blocks;
    size_t first = 0, stride = CPU_KEY_BLOCK;
    if (!n)
        return;
    if (job->kv) {
        const size_t slot = (size_t)job->step->slots[text];
        stride *= (size_t)job->kv->shape.slots * job->heads;
        blocks = job->kv->blocks + job->layer * job->kv->n_blocks * stride +
                 (slot * job->heads + head) * CPU_KEY_BLOCK;
        first = (size_t)job->step->positions[start];
    }
    for (size_t r = 0; r < n; r++)
        put_key(blocks + (first + r) / CPU_KEYS * stride, (first + r) % CPU_KEYS,
                q + r * 3 * width + width, q + r * 3 * width + 2 * width);
    const cpu_attention a = {
        .y = job->y + start * width + head * TDM_HEAD,
        .q = q,
        .y_stride = width,
        .q_stride = 3 * width,
        .blocks = blocks,
        .block_stride = stride,
        .n_rows = n,
        .n_keys = job->kv ? first + 1 : n,
        .step = job->kv ? 1 : 0,
    };
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

static tdm_status check_cached(const tdm_kv *kv, const tdm_step *step, tdm_err *err)
{
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const int32_t start = step->starts[i], n = step->starts[i + 1] - start;
        if (step->slots[i] < 0 || step->slots[i] >= kv->slots)
            return tdm_fail(err, TDM_EARG, "text %d: slot %d, want 0 to %d", i, step->slots[i],
                            kv->slots - 1);
        for (int32_t r = 0; r < n; r++) {
            const int64_t place = step->positions[start + r];
            if (place < 0 || place >= kv->context)
                return tdm_fail(err, TDM_EARG, "text %d: position %lld, want 0 to %d", i,
                                (long long)place, kv->context - 1);
            if (place != step->positions[start] + (int64_t)r)
                return tdm_fail(err, TDM_EARG, "text %d: position %lld does not follow %d", i,
                                (long long)place, step->positions[start + r - 1]);
        }
    }
    return TDM_OK;
}

tdm_status cpu_attend_cached(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                             const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t longest = 0;
    TDM_TRY(check_texts(step, &longest, err));
    TDM_TRY(check_cached(kv, step, err));
    const attend_job job = {y.p, qkv.p, step, (const cpu_kv *)kv, (size_t)layer,
                            (size_t)y.cols / TDM_HEAD};
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

tdm_status cpu_attend_packed(void *self, tdm_mat y, tdm_mat qkv, const tdm_step *step, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t longest = 0;
    TDM_TRY(check_texts(step, &longest, err));
    TDM_TRY(grow_lanes(self, (longest + CPU_KEYS - 1) / CPU_KEYS, err));
    const attend_job job = {y.p, qkv.p, step, NULL, 0, (size_t)y.cols / TDM_HEAD};
    cpu_run(self, (size_t)step->n_seqs * job.heads, attend_item, &job);
done:
    return st;
}
