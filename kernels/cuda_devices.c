/* kernels/cuda_devices.c - all devices of the machine, and several of them as the ranks of one backend. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/ranks.h"
#include "kernels/cuda.h"

/* ---- what is there ---- */

static tdm_status describe(int number, tdm_cuda_device *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct cudaDeviceProp p;
    TDM_TRY(cuda_check(cudaGetDeviceProperties(&p, number), "properties of the device", err));
    *out = (tdm_cuda_device){.number = number,
                             .major = p.major,
                             .minor = p.minor,
                             .multiprocessors = p.multiProcessorCount,
                             .memory = p.totalGlobalMem};
    snprintf(out->name, sizeof out->name, "%.63s", p.name);
    snprintf(out->bus, sizeof out->bus, "%04x:%02x:%02x.0", (unsigned)p.pciDomainID & 0xffff,
             (unsigned)p.pciBusID & 0xff, (unsigned)p.pciDeviceID & 0xff);
done:
    return st;
}

tdm_status tdm_list_cuda(tdm_cuda_device **out, int32_t *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_cuda_device *devices = NULL;
    int count = 0;
    *out = NULL;
    *n = 0;
    TDM_TRY(cuda_count(&count, err));
    devices = calloc((size_t)count, sizeof *devices);
    TDM_REQUIRE(devices, TDM_ENOMEM, "a list of %d devices", count);
    for (int i = 0; i < count; i++)
        TDM_TRY(describe(i, &devices[i], err));
    *out = devices;
    *n = count;
    devices = NULL;
done:
    free(devices);
    return st;
}

/* ---- whether they fit each other ---- */

static double gib(size_t bytes)
{
    return (double)bytes / 0x1p30;
}

/* Of the same kind: equal bits and equal speed. Devices that were told apart by what is broken in their memory, or by
 * a screen, are: within 1/32. */
static bool are_alike(const tdm_cuda_device *a, const tdm_cuda_device *b)
{
    const size_t more = a->memory > b->memory ? a->memory : b->memory, less = a->memory + b->memory - more;
    return strcmp(a->name, b->name) == 0 && a->major == b->major && a->minor == b->minor &&
           a->multiprocessors == b->multiprocessors && more - less <= more / 32;
}

static void say_kind(const tdm_cuda_device *d, char *text, size_t size)
{
    snprintf(text, size, "cuda:%d is %s, sm_%d%d, %d multiprocessors, %.1f GiB", d->number, d->name, d->major,
             d->minor, d->multiprocessors, gib(d->memory));
}

static tdm_status check_alike(const tdm_cuda_device *a, const tdm_cuda_device *b, tdm_err *err)
{
    char one[160], other[160];
    if (are_alike(a, b))
        return TDM_OK;
    say_kind(a, one, sizeof one);
    say_kind(b, other, sizeof other);
    return tdm_fail(err, TDM_EARG, "devices of different kinds: %s; %s", one, other);
}

static tdm_status check_devices(const int *devices, int32_t n, const tdm_cuda_device *all, int32_t count,
                                tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(n >= 1 && n <= TDM_MOST_RANKS, TDM_EARG, "%d ranks, want 1 to %d", n, TDM_MOST_RANKS);
    for (int32_t i = 0; i < n; i++) {
        for (int32_t j = 0; j < i; j++)
            TDM_REQUIRE(devices[i] != devices[j], TDM_EARG, "device %d is listed twice", devices[i]);
        TDM_REQUIRE(devices[i] >= 0 && devices[i] < count, TDM_ENODEV, "cuda:%d: there %s %d CUDA device%s",
                    devices[i], count == 1 ? "is" : "are", count, count == 1 ? ", number 0" : "s, from 0");
        TDM_TRY(check_alike(&all[devices[0]], &all[devices[i]], err));
    }
done:
    return st;
}

/* ---- opening ---- */

typedef struct {
    const int *devices;
    int32_t n;
    const tdm_cuda_options *options;
    cuda_meeting *meeting;
    tdm_comm *comms[TDM_MOST_RANKS];
} ranks_job;

static tdm_status open_rank(void *ctx, int32_t rank, const atomic_int *failed, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const ranks_job *job = ctx;
    tdm_cuda_options options = *job->options;
    void *staging = NULL;
    tdm_backend be = {0};
    *out = be;
    options.device = job->devices[rank];
    TDM_TRY(tdm_open_cuda(&options, &be, err));
    TDM_TRY(cuda_take(CUDA_STAGING_BYTES, "room for messages", CUDA_OTHERS, &staging, err));
    cuda_backend *c = be.self;
    c->rank = (cuda_rank){.number = rank,
                          .n = job->n,
                          .failed = failed,
                          .meeting = cuda_meeting_take(job->meeting),
                          .staging = staging,
                          .staging_bytes = CUDA_STAGING_BYTES};
    *out = be;
    be = (tdm_backend){0};
done:
    tdm_backend_close(&be);
    return st;
}

/* Once all are open: from here on none can fail to come to its first message and leave the others waiting inside NCCL. */
static tdm_status connect_rank(void *ctx, const tdm_backend *be, int32_t rank, tdm_err *err)
{
    ranks_job *job = ctx;
    cuda_backend *c = be->self;
    c->rank.comm = job->comms[rank];
    return cuda_rank_connect(c, err);
}

/* "2 x NVIDIA H200 (cuda:0, cuda:1), sm_90, 139.8 GiB each, f16" */
static void name_all(const ranks_job *job, const tdm_cuda_device *kind, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%d x %s (", job->n, kind->name);
    for (int32_t i = 0; i < job->n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%scuda:%d", i ? ", " : "", job->devices[i]);
    if (used < size)
        snprintf(text + used, size - used, "), sm_%d%d, %.1f GiB%s, %s", kind->major, kind->minor,
                 gib(kind->memory), job->n > 1 ? " each" : "", tdm_dtype_name(job->options->dtype));
}

tdm_status tdm_open_cuda_ranks(const int *devices, int32_t n, const tdm_cuda_options *options, tdm_backend *out,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    ranks_job job = {devices, n, options, NULL, {NULL}};
    tdm_cuda_device *all = NULL;
    tdm_backend be = {0};
    int32_t count = 0;
    char name[64 + 16 * TDM_MOST_RANKS];
    *out = be;
    TDM_TRY(tdm_list_cuda(&all, &count, err));
    TDM_TRY(check_devices(devices, n, all, count, err));
    name_all(&job, &all[devices[0]], name, sizeof name);
    TDM_TRY(cuda_meeting_open(n, &job.meeting, err));
    TDM_TRY(tdm_ranks_open(n, open_rank, &job, name, &be, err));
    TDM_TRY(tdm_comm_open_all(devices, n, job.comms, err));
    TDM_TRY(tdm_each_rank(&be, connect_rank, &job, err));
    *out = be;
    be = (tdm_backend){0};
done:
    tdm_backend_close(&be);
    cuda_meeting_leave(job.meeting);
    free(all);
    return st;
}
