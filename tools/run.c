#include "tools/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/json.h"
#include "tools/ranks.h"
#include "tools/supervise.h"

/* ---- chunks ---- */

/* Chunks of documents count over all prompts: they are the first file's. */
static uint64_t chunks_of(const run_options *o, size_t file)
{
    if (o->inputs && o->by_documents)
        return file == 0 ? TDM_CHUNKS_UNKNOWN : 0;
    if (o->inputs)
        return tdm_input_chunks(&o->inputs->items[file], o->common->chunk);
    return o->documents / o->common->chunk + (o->documents % o->common->chunk > 0);
}

static tdm_status count_chunks(command_run *run, const run_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    uint64_t unknown = 0;
    run->n_files = o->inputs ? o->inputs->n : 1;
    run->all_read = o->inputs && o->by_documents;
    run->n_chunks = calloc(run->n_files, sizeof *run->n_chunks);
    run->first = calloc(run->n_files, sizeof *run->first);
    TDM_REQUIRE(run->n_chunks && run->first, TDM_ENOMEM, "chunks of %zu files", run->n_files);
    for (size_t i = 0; i < run->n_files; i++) {
        const uint64_t n = run->n_chunks[i] = chunks_of(o, i);
        run->first[i] = n == TDM_CHUNKS_UNKNOWN ? unknown++ : run->total;
        run->total += n == TDM_CHUNKS_UNKNOWN ? 0 : n;
    }
done:
    return st;
}

/* Where several processes write to streams of their own: the chunks of this one. */
static bool is_own(void *ctx, size_t file, uint64_t number)
{
    const command_run *run = ctx;
    if (run->all_read)
        return tdm_rank_owns(run->rank, 0, number, TDM_CHUNKS_UNKNOWN);
    if (run->n_chunks[file] == TDM_CHUNKS_UNKNOWN)
        return (int64_t)(run->first[file] % (uint64_t)run->rank.count) == run->rank.index;
    return tdm_rank_owns(run->rank, run->first[file], number, run->total);
}

/* ---- what results depend on ---- */

/* The command's own settings with those of reading and of chunks, as one JSON object that ends in NUL. */
static tdm_status put_settings(tdm_buf *out, const run_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const common_args *c = o->common;
    const size_t len = strlen(o->settings);
    TDM_REQUIRE(len >= 2 && o->settings[len - 1] == '}', TDM_EINTERNAL, "settings %s", o->settings);
    TDM_TRY(tdm_buf_put(out, o->settings, len - 1, err));
    TDM_TRY(tdm_buf_printf(out, err, "%s\"chunk\": %zu", len > 2 ? ", " : "", c->chunk));
    if (o->inputs) {
        TDM_TRY(tdm_buf_printf(out, err, ", \"max-line\": %zu, \"max-ratio\": %.17g, \"text-key\": ",
                               c->max_line, c->max_ratio));
        TDM_TRY(tdm_json_put_string(out, c->text_key, strlen(c->text_key), err));
        TDM_TRY(tdm_buf_printf(out, err, ", \"id-key\": "));
        TDM_TRY(tdm_json_put_string(out, c->id_key, strlen(c->id_key), err));
    }
    TDM_TRY(tdm_buf_put(out, "}", 2, err));
done:
    return st;
}

static tdm_status put_engine(tdm_buf *out, const tdm_backend *be, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *identity = be && be->identity ? be->identity : "";
    if (be) {
        TDM_TRY(tdm_buf_printf(out, err, "{\"backend\": \"%s\", \"dtype\": \"%s\", \"identity\": ",
                               be->ops->name, tdm_dtype_name(be->dtype)));
        TDM_TRY(tdm_json_put_string(out, identity, strlen(identity), err));
    }
    TDM_TRY(tdm_buf_put(out, be ? "}" : "{}", be ? 2 : 3, err));
done:
    return st;
}

/* ---- opening ---- */

static tdm_status check_ranks(const command_run *run, const run_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(!o->common->restart || run->rank.count == 1, TDM_EARG,
                "--restart with %" PRId64 " processes: one would discard what the others do; run "
                "it as one, or remove %s.job",
                run->rank.count, o->common->out);
    for (size_t i = 0; o->inputs && i < o->inputs->n && run->rank.count > 1; i++) {
        const tdm_input *in = &o->inputs->items[i];
        TDM_REQUIRE(strcmp(in->path, "-") != 0 && (in->is_regular || !run->all_read), TDM_EARG,
                    "%s: %" PRId64 " processes cannot read the same stream; give them files",
                    strcmp(in->path, "-") ? in->path : "stdin", run->rank.count);
    }
    for (size_t i = 0; o->inputs && i < o->inputs->n && run->worker; i++)
        TDM_REQUIRE(o->inputs->items[i].is_regular, TDM_EARG,
                    "%s: the workers of --devices cannot read a stream; give them files",
                    strcmp(o->inputs->items[i].path, "-") ? o->inputs->items[i].path : "stdin");
done:
    return st;
}

/* Of a file its time and size show that it is the same; what a pipe holds nobody has seen yet. */
static bool reads_stream(const run_options *o)
{
    for (size_t i = 0; o->inputs && i < o->inputs->n; i++)
        if (!o->inputs->items[i].is_regular)
            return true;
    return false;
}

void run_say_rank(const char *command, tdm_rank rank, const char *source)
{
    fprintf(stderr, "tandem %s: rank %" PRId64 " of %" PRId64 " (%s)\n", command, rank.index, rank.count, source);
}

void run_say_job(const char *command, const char *out, bool is_complete, bool has_stream, const tdm_job_totals *t)
{
    const tdm_counts *c = &t->counts;
    if (is_complete) {
        fprintf(stderr, "tandem %s: %s: complete already, %" PRId64 " records", command, out, c->ok + c->bad);
        if (c->bad)
            fprintf(stderr, ", %" PRId64 " of them bad", c->bad);
        fputs(has_stream ? "; what comes now was not read (--restart reads it)\n" : "\n", stderr);
    } else if (t->chunks_done > 0) {
        fprintf(stderr, "tandem %s: %s.job: going on, %" PRIu64, command, out, t->chunks_done);
        if (t->chunks_total != TDM_CHUNKS_UNKNOWN)
            fprintf(stderr, " of %" PRIu64, t->chunks_total);
        fputs(" chunks are done\n", stderr);
    }
}

static tdm_status open_job(command_run *run, const run_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf settings = {0}, engine = {0};
    TDM_TRY(put_settings(&settings, o, err));
    TDM_TRY(put_engine(&engine, o->backend, err));
    tdm_job_totals totals;
    const tdm_job_options options = {.out = o->common->out,
                                     .command = o->command,
                                     .settings = settings.p,
                                     .engine = engine.p,
                                     .model = o->common->model,
                                     .observer = o->observer,
                                     .inputs = o->inputs,
                                     .n_chunks = run->n_chunks,
                                     .chunk_bytes = o->by_documents ? 0 : o->common->chunk,
                                     .all_read = run->all_read,
                                     .rank = run->worker ? worker_rank(run->worker, run->rank) : run->rank,
                                     .process = run->rank,
                                     .turns = run->worker ? worker_turns(run->worker) : NULL,
                                     .restart = o->common->restart,
                                     .stop = o->stop};
    TDM_TRY(tdm_job_open(&options, &run->job, err));
    run->is_complete = tdm_job_is_complete(run->job);
    run->filter = tdm_job_filter(run->job);
    tdm_job_totals_get(run->job, &totals);
    if (!o->common->quiet)
        run_say_job(o->command, o->common->out, run->is_complete, reads_stream(o), &totals);
    if (run->worker)
        worker_opened(run->worker, o->backend, run->job);
done:
    tdm_buf_free(&settings);
    tdm_buf_free(&engine);
    return st;
}

tdm_status run_open(command_run *run, const run_options *o, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *source = NULL;
    const char *out = o->common->out;
    const bool is_job = tdm_job_is_for(out);
    *run = (command_run){.worker = o->common->worker};
    TDM_TRY(ranks_find(o->common->shard, &run->rank, &source, err));
    TDM_REQUIRE(is_job || !o->common->restart, TDM_EARG, "--restart: %s is a stream: nothing of it is kept",
                strcmp(out, "-") ? out : "stdout");
    TDM_TRY(count_chunks(run, o, err));
    TDM_TRY(check_ranks(run, o, err));
    if (run->rank.count > 1 && !o->common->quiet)
        run_say_rank(o->command, run->rank, source);
    if (is_job)
        TDM_TRY(open_job(run, o, err));
    else if (run->rank.count > 1)
        run->filter = (tdm_chunk_filter){.ctx = run, .is_wanted = is_own};
    const tdm_sink_options sink = {.path = out,
                                   .job = run->job,
                                   .codec = strcmp(out, "-") ? tdm_codec_of_name(out) : TDM_PLAIN,
                                   .max_errors = o->common->max_errors,
                                   .threads = (int)o->common->threads,
                                   .stop = o->stop};
    if (!run->is_complete)
        TDM_TRY(tdm_sink_open(&sink, &run->sink, err));
done:
    return st;
}

void run_close(command_run *run)
{
    tdm_sink_close(run->sink);
    tdm_job_close(run->job);
    free(run->n_chunks);
    free(run->first);
    *run = (command_run){0};
}

tdm_progress_options run_progress(const command_run *run, const common_args *common, const char *command,
                                  const char *unit)
{
    tdm_job_totals t = {0};
    const int64_t share = run->rank.count;
    if (run->job)
        tdm_job_totals_get(run->job, &t);
    return (tdm_progress_options){.mode = (tdm_progress_mode)common->progress,
                                  .quiet = common->quiet,
                                  .to = stderr,
                                  .command = command,
                                  .unit = unit,
                                  .metrics_file = common->metrics_file,
                                  .rank = run->rank,
                                  .watch = run->worker ? worker_watch : NULL,
                                  .watch_ctx = run->worker,
                                  .records_before = (uint64_t)((t.counts.ok + t.counts.bad) / share),
                                  .bad_before = (uint64_t)(t.counts.bad / share)};
}

tdm_status run_finish(command_run *run, tdm_progress *progress, double *seconds, tdm_status st, tdm_err *err)
{
    if (run->worker)
        worker_worked(run->worker);
    if (st == TDM_OK)
        st = tdm_sink_finish(run->sink, err);
    *seconds = tdm_progress_seconds(progress);
    if (st == TDM_OK)
        tdm_progress_finish(progress);
    else
        tdm_progress_abandon(progress);
    return st;
}
