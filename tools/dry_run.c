#include "tools/dry_run.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "host/job.h"
#include "host/ranks.h"
#include "tools/ranks.h"

double dry_run_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

tdm_status dry_run_is_idle(const common_args *common, bool *idle, tdm_err *err)
{
    tdm_rank rank = {0};
    const char *source = NULL;
    const tdm_status st = ranks_find(common->shard, &rank, &source, err);
    *idle = st == TDM_OK && rank.index > 0;
    return st;
}

int dry_run_finish(const char *command, tdm_status st, const tdm_err *err)
{
    return st == TDM_OK ? TDM_OK : args_fail(command, err);
}

/* ---- room ---- */

typedef struct {
    tdm_rank rank;
    bool is_job;        /* --out is a file; the rest is of its folder */
    tdm_buf folder;     /* ends in NUL */
    double free, needed; /* bytes */
} room;

/* Parts of several ranks are there twice for as long as they are joined. */
static tdm_status find_room(room *r, const dry_run_estimate *e, const common_args *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct statvfs disk;
    struct stat info;
    const char *source = NULL, *slash = strrchr(c->out, '/');
    TDM_TRY(ranks_find(c->shard, &r->rank, &source, err));
    r->is_job = tdm_job_is_for(c->out);
    r->needed = r->rank.count > 1 ? 2 * e->out_bytes : e->out_bytes;
    if (!r->is_job)
        goto done;
    TDM_TRY(tdm_buf_printf(&r->folder, err, "%.*s", slash ? (int)(slash - c->out) + (slash == c->out) : 1,
                           slash ? c->out : "."));
    TDM_TRY(tdm_buf_put(&r->folder, "", 1, err));
    TDM_REQUIRE(stat(c->out, &info) != 0 || S_ISREG(info.st_mode), TDM_ECANTCREATE, "%s: is a folder", c->out);
    TDM_REQUIRE(statvfs(r->folder.p, &disk) == 0 && access(r->folder.p, W_OK) == 0, TDM_ECANTCREATE, "%s: %s",
                r->folder.p, strerror(errno));
    r->free = (double)disk.f_bavail * (double)disk.f_frsize;
done:
    return st;
}

static bool has_room(const room *r)
{
    return !r->is_job || r->needed <= r->free;
}

/* ---- text ---- */

static const char *about(bool exact)
{
    return exact ? "" : "about ";
}

static void print_bytes(double bytes)
{
    static const char *const UNITS[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    for (; bytes >= 1023.5 && unit + 1 < COUNT(UNITS); unit++)
        bytes /= 1024;
    printf("%.*f %s", unit > 0 && bytes < 99.95 ? 1 : 0, bytes, UNITS[unit]);
}

static void print_duration(double seconds)
{
    const double minutes = floor((seconds + 0.5) / 60);
    if (minutes >= 60)
        printf("%.0f:%02.0f:%02.0f", floor(minutes / 60), fmod(minutes, 60), fmod(floor(seconds + 0.5), 60));
    else
        printf("%.0f:%02.0f", minutes, fmod(floor(seconds + 0.5), 60));
}

static void print_input(const dry_run_estimate *e)
{
    if (!e->inputs)
        return;
    printf("input     %zu file%s, ", e->inputs->n, e->inputs->n == 1 ? "" : "s");
    print_bytes((double)e->inputs->bytes);
    if (e->text_bytes > 1.01 * (double)e->inputs->bytes) {
        printf("; %s", about(e->records_are_exact));
        print_bytes(e->text_bytes);
        printf(" of text");
    }
    printf("\nrecords   %s%.0f, %.0f of them bad\n", about(e->records_are_exact), e->records, e->bad);
}

static void print_output(const dry_run_estimate *e, const room *r)
{
    printf("output    about ");
    print_bytes(e->out_bytes);
    printf(" in %.0f chunk%s", e->chunks, fabs(e->chunks - 1) < 0.5 ? "" : "s");
    if (r->is_job) {
        printf("; ");
        print_bytes(r->free);
        printf(" are free in %s", r->folder.p);
    }
    printf("\n");
    if (!has_room(r)) {
        printf("warning   that does not fit%s: free ", r->rank.count > 1 ? ", twice while parts are joined" : "");
        print_bytes(r->needed - r->free);
        printf(", or take another --out\n");
    }
}

static void print_text(const dry_run_estimate *e, const tdm_backend *backend, const room *r)
{
    const double rate = e->seconds > 0 ? e->results / e->seconds : 0;
    printf("tandem %s, dry run: nothing is written\n", e->command);
    print_input(e);
    printf("%-10s%s%.0f\n", e->unit, about(!e->inputs || e->records_are_exact), e->results);
    printf("tokens    %s%.0f", e->tokens_are_most ? "at most " : "about ", e->tokens);
    if (e->results > 0)
        printf(", %.1f for each", e->tokens / e->results);
    printf("\n");
    print_output(e, r);
    printf("time      %s", e->tokens_are_most ? "at most " : "about ");
    print_duration(e->seconds);
    printf(" at %.*f %s/s, from a trial with %.0f on ", rate < 99.95 ? 1 : 0, rate, e->unit, e->tried);
    if (tdm_rank_count(backend) > 1)
        printf("%d ranks of ", (int)tdm_rank_count(backend));
    printf("%s\n", backend->ops->name);
    if (r->rank.count > 1) {
        printf("ranks     %" PRId64 ", each ", r->rank.count);
        print_duration(e->seconds / (double)r->rank.count);
        printf(" if all are as fast\n");
    }
}

static void print_json(const dry_run_estimate *e, const tdm_backend *backend, const room *r)
{
    printf("{\"command\": \"%s\", \"dry_run\": true", e->command);
    if (e->inputs)
        printf(", \"files\": %zu, \"input_bytes\": %" PRIu64
               ", \"text_bytes\": %.0f, \"records\": %.0f, \"bad\": %.0f",
               e->inputs->n, e->inputs->bytes, e->text_bytes, e->records, e->bad);
    printf(", \"exact\": %s, \"results\": %.0f, \"tokens\": %.0f, \"tokens_are_most\": %s, \"chunks\": "
           "%.0f, \"out_bytes\": %.0f",
           !e->inputs || e->records_are_exact ? "true" : "false", e->results, e->tokens,
           e->tokens_are_most ? "true" : "false", e->chunks, e->out_bytes);
    if (r->is_job)
        printf(", \"needed_bytes\": %.0f, \"free_bytes\": %.0f, \"fits\": %s", r->needed, r->free,
               has_room(r) ? "true" : "false");
    printf(", \"device\": \"%s\", \"tp\": %d, \"tried\": %.0f, \"seconds\": %.3f, \"ranks\": %" PRId64
           ", \"seconds_per_rank\": %.3f}\n",
           backend->ops->name, (int)tdm_rank_count(backend), e->tried, e->seconds, r->rank.count, e->seconds / (double)r->rank.count);
}

tdm_status dry_run_print(const dry_run_estimate *e, const common_args *common, const tdm_backend *backend,
                         tdm_err *err)
{
    tdm_status st = TDM_OK;
    room r = {0};
    TDM_TRY(find_room(&r, e, common, err));
    if (common->json)
        print_json(e, backend, &r);
    else
        print_text(e, backend, &r);
done:
    tdm_buf_free(&r.folder);
    return st;
}
