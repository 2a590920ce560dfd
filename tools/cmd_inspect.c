/* tools/cmd_inspect.c - what is in a checkpoint, and what it takes to run it; of jobs, tools/inspect_job.c. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "host/checkpoint.h"
#include "host/config.h"
#include "host/json.h"
#include "tools/args.h"
#include "tools/commands.h"
#include "tools/inspect_job.h"
#include "tools/model_needs.h"

static const arg_command COMMAND = {
    .name = "inspect",
    .usage = "[--json] DIR|FILE.safetensors|OUT|OUT.job|OUT.manifest.json",
    .summary =
        "Lists the tensors of a model folder, checks them and config.json against what the model "
        "needs, and says how much memory it takes on the CPU and on each of 1, 2, 4 and 8 GPUs (--tp). No weights are read. Of a single "
        "file only the table is printed. Of a job it says what is done and what is left, who is at "
        "work, and what to type to go on; of an OUT with its manifest beside it, whether it is what "
        "was written: size and SHA-256.",
    .notes =
        "Memory on GPUs is that of weights, keys and values, and scratch; CUDA, NCCL and what the\n"
        "GPUs send each other take some hundred MiB besides.\n"
        "A folder that cannot be run ends with exit code 65 after the list: every tensor that\n"
        "is missing, has another shape or does not belong is named. So does an OUT, or its\n"
        "OUT.errors.jsonl, that is not what OUT.manifest.json says. To look at a job takes no\n"
        "lock and changes nothing; processes may be at work.",
    .example = "tandem inspect gpt2-xl\n"
               "tandem inspect --json gpt2 | jq .memory\n"
               "tandem inspect judged.jsonl.job",
};

static const char *const USES[] = {"unknown", "weight", "ignored"}; /* in the order of tensor_use */

typedef struct {
    const char *path;
    bool is_model; /* a folder: config and needs are set */
    tdm_checkpoint *ck;
    tdm_config config;
    model_needs needs;
    uint64_t file_bytes;
} subject;

/* ---- reading ---- */

static tdm_status open_subject(subject *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    TDM_REQUIRE(stat(s->path, &info) == 0, TDM_ENOINPUT, "%s: %s", s->path, strerror(errno));
    s->is_model = S_ISDIR(info.st_mode);
    if (s->is_model)
        TDM_TRY(tdm_config_load(s->path, &s->config, err));
    TDM_TRY(tdm_checkpoint_open(s->path, &s->ck, err));
    for (int i = 0; i < tdm_checkpoint_files(s->ck); i++) {
        uint64_t bytes = 0;
        tdm_checkpoint_file(s->ck, i, &bytes);
        s->file_bytes += bytes;
    }
    if (s->is_model)
        TDM_TRY(model_needs_check(&s->needs, s->ck, &s->config, err));
done:
    return st;
}

static const char *use_of(const subject *s, size_t i)
{
    return s->is_model ? USES[s->needs.use[i]] : "";
}

static size_t count_ignored(const subject *s)
{
    size_t n = 0;
    for (size_t i = 0; s->is_model && i < tdm_checkpoint_count(s->ck); i++)
        n += s->needs.use[i] == TENSOR_IGNORED;
    return n;
}

static const char *arch_name(const tdm_config *c)
{
    return c->arch == TDM_GPT2 ? "gpt2" : "roberta";
}

/* ---- as text ---- */

static double mib(uint64_t bytes)
{
    return (double)bytes / 0x1p20;
}

static void print_table(const subject *s)
{
    size_t widest = 0;
    for (size_t i = 0; i < tdm_checkpoint_count(s->ck); i++) {
        const size_t n = strlen(tdm_checkpoint_at(s->ck, i)->name);
        widest = n > widest ? n : widest;
    }
    for (size_t i = 0; i < tdm_checkpoint_count(s->ck); i++) {
        const tdm_tensor *t = tdm_checkpoint_at(s->ck, i);
        char shape[TDM_SHAPE_TEXT];
        tdm_tensor_shape(t, shape, sizeof shape);
        const bool used = s->is_model && s->needs.use[i] == TENSOR_USED;
        printf("%-*s  %-5s %-16s %12zu%s%s\n", (int)widest, t->name, t->type_name, shape, t->bytes,
               s->is_model && !used ? "  " : "", used ? "" : use_of(s, i));
    }
}

/* Of each of several GPUs. */
static void print_gpus(const subject *s)
{
    const model_needs *n = &s->needs;
    const bool writes = s->config.arch == TDM_GPT2;
    if (n->n_on_gpus == 0)
        return;
    printf("on GPUs      f16, %" PRId64 " %s at once: MiB of each\n             GPUs    weights%s    scratch     in all\n",
           n->on_gpus[0].share.batch, writes ? "texts of full length" : "tokens", writes ? "   keys and values" : "");
    for (int i = 0; i < n->n_on_gpus; i++) {
        const tp_share *share = &n->on_gpus[i].share;
        printf("             %4d %10.1f", (int)n->on_gpus[i].ranks, mib(share->weights));
        if (writes)
            printf(" %17.1f", mib(share->cache));
        printf(" %10.1f %10.1f\n", mib(share->scratch), mib(share->weights + share->cache + share->scratch));
    }
}

static void print_model(const subject *s)
{
    const tdm_config *c = &s->config;
    printf("\nmodel        %s: %d layers, %d heads, width %d, feed-forward %d, vocabulary %d, "
           "context %d%s\n",
           arch_name(c), c->n_layer, c->n_head, c->n_embd, c->n_inner, c->n_vocab, c->n_context,
           c->arch == TDM_GPT2 && !c->tied ? ", output matrix of its own" : "");
    printf("parameters   %" PRIu64 "\n", s->needs.parameters);
    printf("memory       %.1f MiB of weights on the CPU (matrices as f32)\n",
           mib(s->needs.weight_bytes));
    if (s->needs.token_bytes)
        printf("             %" PRIu64 " bytes of keys and values for each token, %.1f MiB for a "
               "text of %d tokens\n",
               s->needs.token_bytes, mib(s->needs.token_bytes * (uint64_t)c->n_context),
               c->n_context);
    if (s->needs.run_texts)
        printf("             generate, %d texts of full length at once: %.1f MiB of keys and "
               "values, %.1f MiB of scratch\n",
               (int)s->needs.run_texts, mib(s->needs.run_cache_bytes),
               mib(s->needs.run_scratch_bytes));
    print_gpus(s);
    const char *line = s->needs.problems.p;
    for (size_t i = 0; i < s->needs.n_problems; i++, line += strlen(line) + 1)
        printf("problem      %s\n", line);
}

static void print_text(const subject *s)
{
    print_table(s);
    printf("\n");
    for (int i = 0; i < tdm_checkpoint_files(s->ck); i++) {
        uint64_t bytes = 0;
        const char *name = tdm_checkpoint_file(s->ck, i, &bytes);
        printf("file         %s, %" PRIu64 " bytes\n", name, bytes);
    }
    printf("tensors      %zu", tdm_checkpoint_count(s->ck));
    if (count_ignored(s))
        printf(", %zu of them ignored", count_ignored(s));
    printf("\n");
    if (s->is_model)
        print_model(s);
}

/* ---- as JSON ---- */

static tdm_status put_tensors(const subject *s, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "\"tensors\": ["));
    for (size_t i = 0; i < tdm_checkpoint_count(s->ck); i++) {
        const tdm_tensor *t = tdm_checkpoint_at(s->ck, i);
        char shape[TDM_SHAPE_TEXT];
        tdm_tensor_shape(t, shape, sizeof shape);
        TDM_TRY(tdm_buf_printf(out, err, "%s{\"name\": ", i ? ", " : ""));
        TDM_TRY(tdm_json_put_string(out, t->name, strlen(t->name), err));
        TDM_TRY(tdm_buf_printf(out, err,
                               ", \"dtype\": \"%s\", \"shape\": %s, \"bytes\": %zu, \"file\": %d",
                               t->type_name, shape, t->bytes, t->file));
        if (s->is_model)
            TDM_TRY(tdm_buf_printf(out, err, ", \"use\": \"%s\"", use_of(s, i)));
        TDM_TRY(tdm_buf_put(out, "}", 1, err));
    }
    TDM_TRY(tdm_buf_put(out, "]", 1, err));
done:
    return st;
}

static tdm_status put_model(const subject *s, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_config *c = &s->config;
    TDM_TRY(tdm_buf_printf(out, err,
                           ", \"ignored\": %zu, \"parameters\": %" PRIu64
                           ", \"config\": {\"arch\": \"%s\", \"n_layer\": %d, \"n_head\": %d, "
                           "\"n_embd\": %d, \"n_inner\": %d, \"n_vocab\": %d, \"n_context\": %d, "
                           "\"tied\": %s}",
                           count_ignored(s), s->needs.parameters, arch_name(c), c->n_layer,
                           c->n_head, c->n_embd, c->n_inner, c->n_vocab, c->n_context,
                           c->tied ? "true" : "false"));
    TDM_TRY(tdm_buf_printf(out, err,
                           ", \"memory\": {\"weights\": %" PRIu64 ", \"kv_per_token\": %" PRIu64
                           ", \"kv_per_text\": %" PRIu64 ", \"run_texts\": %d, \"run_kv\": %zu, "
                           "\"run_scratch\": %zu, \"on_gpus\": [",
                           s->needs.weight_bytes, s->needs.token_bytes,
                           s->needs.token_bytes * (uint64_t)c->n_context, (int)s->needs.run_texts,
                           s->needs.run_cache_bytes, s->needs.run_scratch_bytes));
    for (int i = 0; i < s->needs.n_on_gpus; i++) {
        const tp_share *share = &s->needs.on_gpus[i].share;
        TDM_TRY(tdm_buf_printf(out, err,
                               "%s{\"gpus\": %d, \"dtype\": \"f16\", \"batch\": %" PRId64
                               ", \"weights\": %zu, \"kv\": %zu, \"scratch\": %zu}",
                               i ? ", " : "", (int)s->needs.on_gpus[i].ranks, share->batch, share->weights,
                               share->cache, share->scratch));
    }
    TDM_TRY(tdm_buf_printf(out, err, "]}, \"problems\": ["));
    const char *line = s->needs.problems.p;
    for (size_t i = 0; i < s->needs.n_problems; i++, line += strlen(line) + 1) {
        TDM_TRY(tdm_buf_put(out, ", ", i ? 2 : 0, err));
        TDM_TRY(tdm_json_put_string(out, line, strlen(line), err));
    }
    TDM_TRY(tdm_buf_put(out, "]", 1, err));
done:
    return st;
}

static tdm_status print_json(const subject *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf out = {0};
    TDM_TRY(tdm_buf_printf(&out, err, "{\"path\": "));
    TDM_TRY(tdm_json_put_string(&out, s->path, strlen(s->path), err));
    TDM_TRY(tdm_buf_printf(&out, err, ", \"files\": ["));
    for (int i = 0; i < tdm_checkpoint_files(s->ck); i++) {
        uint64_t bytes = 0;
        const char *name = tdm_checkpoint_file(s->ck, i, &bytes);
        TDM_TRY(tdm_buf_printf(&out, err, "%s{\"name\": ", i ? ", " : ""));
        TDM_TRY(tdm_json_put_string(&out, name, strlen(name), err));
        TDM_TRY(tdm_buf_printf(&out, err, ", \"bytes\": %" PRIu64 "}", bytes));
    }
    TDM_TRY(tdm_buf_printf(&out, err, "], \"n_tensors\": %zu, ", tdm_checkpoint_count(s->ck)));
    TDM_TRY(put_tensors(s, &out, err));
    if (s->is_model)
        TDM_TRY(put_model(s, &out, err));
    TDM_TRY(tdm_buf_put(&out, "}\n", 2, err));
    fwrite(out.p, 1, out.len, stdout); /* a failure shows at the end, in main */
done:
    tdm_buf_free(&out);
    return st;
}

static tdm_status inspect(subject *s, bool json, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(open_subject(s, err));
    if (json)
        TDM_TRY(print_json(s, err));
    else
        print_text(s);
    if (s->needs.n_problems)
        st = tdm_fail(err, TDM_EFORMAT, "%zu problem%s, the first: %s", s->needs.n_problems,
                      s->needs.n_problems > 1 ? "s" : "", s->needs.problems.p);
done:
    return st;
}

int cmd_inspect(int argc, char **argv)
{
    bool json = false;
    arg_list operands = {0};
    int code = 0;
    tdm_err err = {0};
    const arg_spec specs[] = {
        {.name = "json",
         .kind = ARG_FLAG,
         .out = &json,
         .help = "print one JSON object instead of a table"},
    };
    if (!args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code))
        return code;
    if (operands.n != 1) {
        tdm_fail(&err, TDM_EARG, "want one folder or file, got %zu", operands.n);
        return args_fail(COMMAND.name, &err);
    }
    subject s = {.path = operands.items[0]};
    const tdm_status st =
        inspect_job_is_for(s.path) ? inspect_job(s.path, json, &err) : inspect(&s, json, &err);
    if (st != TDM_OK)
        code = args_fail(COMMAND.name, &err);
    model_needs_free(&s.needs);
    tdm_checkpoint_close(s.ck);
    return code;
}
