#include "tools/tp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/supervise.h"
#include "tools/tp_plan.h"

typedef struct {
    const common_args *common;
    tdm_config config, observer;
    tdm_checkpoint *ck, *observer_ck; /* owned */
    tp_job job;
    int *devices; /* [n_devices] owned; NULL: the CPU */
    int32_t n_devices;
} choice;

/* ---- what there is ---- */

static tdm_status open_models(choice *c, const tp_work *work, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_config_load(c->common->model, &c->config, err));
    TDM_TRY(tdm_checkpoint_open(c->common->model, &c->ck, err));
    c->job = (tp_job){.model = {c->ck, &c->config},
                      .generate = work->generate,
                      .has_prompts = work->has_prompts,
                      .batch = c->common->batch,
                      .top = work->top};
    if (work->observer) {
        TDM_TRY(tdm_config_load(work->observer, &c->observer, err));
        TDM_TRY(tdm_checkpoint_open(work->observer, &c->observer_ck, err));
        c->job.observer = (tp_model){c->observer_ck, &c->observer};
    }
done:
    return st;
}

static int32_t fewest_heads(const choice *c)
{
    return c->observer_ck && c->observer.n_head < c->config.n_head ? c->observer.n_head : c->config.n_head;
}

/* Every rank has a head, and 64 columns of the feed-forward layer. */
static int32_t most_ranks(const choice *c)
{
    const int32_t heads = fewest_heads(c);
    int32_t inner = c->config.n_inner;
    if (c->observer_ck && c->observer.n_inner < inner)
        inner = c->observer.n_inner;
    const int32_t units = inner < 64 ? 1 : inner / 64;
    return heads < units ? heads : units;
}

/* Those of the machine, or of a worker. */
static tdm_status list_devices(choice *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_cuda_device *found = NULL;
    const int *own = c->common->worker ? worker_devices(c->common->worker, &c->n_devices) : NULL;
    if (!own)
        TDM_TRY(tdm_list_cuda(&found, &c->n_devices, err));
    c->devices = calloc((size_t)c->n_devices, sizeof *c->devices);
    TDM_REQUIRE(c->devices, TDM_ENOMEM, "list of %d devices", (int)c->n_devices);
    for (int32_t i = 0; i < c->n_devices; i++)
        c->devices[i] = own ? own[i] : found[i].number;
done:
    free(found);
    return st;
}

/* ---- --tp auto ---- */

static void put_size(char *text, size_t size, size_t bytes)
{
    const bool large = bytes >= (size_t)1 << 30;
    snprintf(text, size, "%.1f %s", (double)bytes / (large ? 0x1p30 : 0x1p20), large ? "GiB" : "MiB");
}

/* n devices, and what they have room for. */
typedef struct {
    int32_t n;
    size_t memory; /* of the one that has least */
    tp_share share;
} candidate;

/* "on 2 the weights take 1.5 GiB of 11.2 GiB and leave room for 31" */
static void describe(const candidate *c, char *text, size_t size)
{
    char weights[24], memory[24], room[40] = "no room";
    put_size(weights, sizeof weights, c->share.weights);
    put_size(memory, sizeof memory, c->memory);
    if (c->share.batch > 0)
        snprintf(room, sizeof room, "room for %" PRId64, c->share.batch);
    snprintf(text, size, "on %d the weights take %s of %s and leave %s", (int)c->n, weights, memory, room);
}

static tdm_status open_number(const choice *c, int32_t n, bool quiet, tdm_backend *out, tdm_err *err)
{
    char name[24];
    common_args common = *c->common;
    common.quiet = common.quiet || quiet;
    if (n > 1)
        return args_open_ranks(&common, c->devices, n, out, err);
    snprintf(name, sizeof name, "cuda:%d", c->devices[0]);
    common.device = name;
    return args_open_backend(&common, out, err);
}

/* What came of trying. */
typedef struct {
    int64_t useful;
    candidate best;   /* the first with the largest batch, or with a useful one */
    candidate before; /* what was tried before it; n 0: nothing */
    int32_t refused;  /* so many cannot be used together: busy, of two kinds, too small for what they send; 0: all can */
    tdm_err why;
} findings;

/* Try 1, 2, ... devices until the batch is useful; *out is them then. Otherwise it is not open. */
static tdm_status try_numbers(const choice *c, findings *f, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    candidate last = {0}, now = {.n = 1};
    const int32_t ranks = most_ranks(c), most = c->n_devices < ranks ? c->n_devices : ranks;
    for (; now.n <= most; now.n++) {
        st = open_number(c, now.n, true, out, &f->why);
        if (st != TDM_OK && now.n > 1 && st != TDM_ESTOPPED) {
            f->refused = now.n;
            return TDM_OK;
        }
        TDM_REQUIRE(st == TDM_OK, st, "%s", f->why.msg);
        const tdm_backend *be = tdm_rank_backend(out, 0);
        now.memory = tdm_backend_memory(out);
        if (now.n == 1)
            TDM_TRY(tp_useful(&c->job, be, &f->useful, err));
        TDM_TRY(tp_plan(&c->job, be, 0, now.memory ? now.memory : SIZE_MAX, &now.share, err));
        if (now.n == 1 || now.share.batch > f->best.share.batch) {
            f->before = last;
            f->best = now;
        }
        if (now.share.batch >= f->useful)
            break;
        tdm_backend_close(out);
        last = now;
    }
done:
    return st;
}

/* "on 1 ...; on 2 ...", and why no more were tried. */
static void describe_all(const findings *f, char *text, size_t size)
{
    char before[128] = "", best[128], refused[300] = "";
    if (f->before.n > 0)
        describe(&f->before, before, sizeof before);
    describe(&f->best, best, sizeof best);
    if (f->refused)
        snprintf(refused, sizeof refused, "; on %d: %.250s", (int)f->refused, f->why.msg);
    snprintf(text, size, "%s%s%s%s", before, *before ? "; " : "", best, refused);
}

static tdm_status open_best(const choice *c, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    findings f = {0};
    char text[600];
    const char *several = c->n_devices == 1 ? "" : "s";
    TDM_TRY(try_numbers(c, &f, out, err));
    describe_all(&f, text, sizeof text);
    TDM_REQUIRE(f.best.share.batch > 0, TDM_ENOMEM, "--tp auto, of %d device%s: %s", (int)c->n_devices, several, text);
    if (!c->common->quiet)
        fprintf(stderr, "tp: %d of %d device%s, for %" PRId64 " %s%s at once%s: %s\n", (int)f.best.n, (int)c->n_devices,
                several, f.useful, c->job.generate ? "text" : "token", f.useful == 1 ? "" : "s",
                f.best.share.batch < f.useful ? ", which no number of them has room for" : "", text);
    if (out->ops)
        args_say_device(c->common, out, "");
    else
        TDM_TRY(open_number(c, f.best.n, false, out, err));
done:
    return st;
}

/* ---- opening ---- */

/* The devices that have no memory of their own. */
static tdm_status open_f32(const choice *c, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int64_t n = c->common->tp;
    const bool is_null = !strcmp(c->common->device, "null");
    TDM_REQUIRE(!is_null || n == 0, TDM_EARG, "--tp %" PRId64 ": the null device has no weights to share", n);
    if (n == 0 && !c->common->quiet)
        fprintf(stderr, "tp: 1: %s\n", is_null ? "the null device holds no weights" : "ranks on the CPU share its memory");
    TDM_TRY(n == 0 ? args_open_backend(c->common, out, err) : args_open_ranks(c->common, NULL, (int32_t)n, out, err));
done:
    return st;
}

static tdm_status open_cuda(choice *c, tdm_backend *out, tdm_err *err)
{
    const int32_t n = (int32_t)c->common->tp;
    tdm_status st = list_devices(c, err);
    if (st != TDM_OK)
        return n ? tdm_context(err, st, "--tp %d", (int)n) : st;
    TDM_REQUIRE(n <= c->n_devices, TDM_ENODEV, "--tp %d: the machine has %d CUDA device%s", (int)n, (int)c->n_devices,
                c->n_devices == 1 ? "" : "s");
    TDM_TRY(n == 0 ? open_best(c, out, err) : open_number(c, n, false, out, err));
done:
    return st;
}

/* --device auto and --tp auto together take the CPU where no device is usable: args_open_backend says why. */
static tdm_status open_any(choice *c, tdm_backend *out, tdm_err *err)
{
    tdm_err why = {0};
    const tdm_status st = open_cuda(c, out, &why);
    if (st == TDM_ENODEV && c->common->tp == 0 && !strcmp(c->common->device, "auto"))
        return args_open_backend(c->common, out, err);
    return st == TDM_OK ? TDM_OK : tdm_fail(err, st, "%s", why.msg);
}

static tdm_status check(const choice *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const common_args *common = c->common;
    const int32_t heads = fewest_heads(c);
    const bool by_observer = heads < c->config.n_head;
    TDM_REQUIRE(strncmp(common->device, "cuda:", 5) != 0, TDM_EARG,
                "--device %s is one device, and --tp may want several: --devices names them", common->device);
    TDM_REQUIRE(common->tp <= heads, TDM_EARG, "--tp %" PRId64 ": the %s has %d head%s", common->tp,
                by_observer ? "observer" : "model", (int)heads, heads == 1 ? "" : "s");
done:
    return st;
}

tdm_status tp_open(const common_args *common, const tp_work *work, tdm_backend *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    choice c = {.common = common};
    const bool is_f32 = !strcmp(common->device, "cpu") || !strcmp(common->device, "null");
    *out = (tdm_backend){0};
    if (common->tp == 1)
        return args_open_backend(common, out, err);
    TDM_TRY(open_models(&c, work, err));
    TDM_TRY(check(&c, err));
    TDM_TRY(is_f32 ? open_f32(&c, out, err) : open_any(&c, out, err));
done:
    if (st != TDM_OK)
        tdm_backend_close(out);
    tdm_checkpoint_close(c.ck);
    tdm_checkpoint_close(c.observer_ck);
    free(c.devices);
    return st;
}
