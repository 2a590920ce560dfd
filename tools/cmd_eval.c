/* tools/cmd_eval.c - from labelled scores to an answer. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/args.h"
#include "tools/commands.h"
#include "tools/eval_files.h"
#include "tools/signals.h"

enum { EXIT_SOME_BAD = 3 };
#define MANY_DRAWS 2e9 /* half a minute and more of a core, in each of the parts that intervals are of */

static const arg_rule RULES[] = {
    {.option = "machine-label", .other = "label"},
    {.option = "metric", .other = "matrix"},
    {.option = "human", .other = "matrix", .with = true},
    {.option = "machine", .other = "matrix", .with = true},
    {.option = "label", .other = "matrix", .with = true},
    {.option = "buckets", .other = "matrix", .with = true},
    {.option = "length-field", .other = "matrix", .with = true},
    {.option = "human", .other = "reference", .with = true},
    {.option = "machine", .other = "reference", .with = true},
    {.option = "label", .other = "reference", .with = true},
    {.option = "buckets", .other = "reference", .with = true},
    {.option = "length-field", .other = "reference", .with = true},
    /* published tables alone are not computed */
#define OF_MEASURED(name) {.option = name, .other = "reference", .with = true, .unless = "matrix"}
    OF_MEASURED("field"),
    OF_MEASURED("orientation"),
    OF_MEASURED("threshold"),
    OF_MEASURED("validation"),
    OF_MEASURED("fpr"),
    OF_MEASURED("bootstrap"),
    OF_MEASURED("confidence"),
    OF_MEASURED("seed"),
    OF_MEASURED("id-key"),
    OF_MEASURED("max-line"),
    OF_MEASURED("max-ratio"),
    OF_MEASURED("max-errors"),
    OF_MEASURED("threads"),
#undef OF_MEASURED
};

static const arg_command COMMAND = {
    .name = "eval",
    .usage = "--human FILE --machine FILE [options]\n"
             "       tandem eval --label FIELD [options] [FILE...]\n"
             "       tandem eval --matrix FOLDER [options] [--reference [NAME...]]\n"
             "       tandem eval --reference [NAME...]",
    .summary = "Says how well a field of the records parts machine texts from human ones. Inputs are what detect and "
               "score write, or any JSON Lines with a number; files, plain or as .gz or .zst, or folders of them.",
    .notes = "a table, or with --json one object on stdout: \"auroc\", \"accuracy\", \"tpr_at_fpr\", ...; of several\n"
             "fields {\"results\": [...]}. Thresholds are values of the field; null: none.\n"
             "fake, logit_fake, lrr, fast_detect, logprob: a higher value is rather a machine; real, logit_real,\n"
             "ppl, entropy, mean_rank, mean_logrank, binoculars: a lower one. Others: higher, see --orientation.",
    .example = "tandem eval --human human.jsonl --machine nucleus.jsonl\n"
               "tandem eval --field lrr --field ppl --orientation fit --label by scored.jsonl.gz --json",
    .rules = RULES,
    .n_rules = COUNT(RULES),
};

static const char *const ORIENTATIONS[] = {"auto", "machine", "human", "fit", NULL}; /* eval_orientation */
static const char *const METRICS[] = {"accuracy", "balanced", "best", "auroc", "tpr", NULL}; /* eval_metric */

typedef struct {
    common_args common;
    arg_list fields, human, machine;
    const char *label, *machine_label, *length_field;
    const char *fprs, *buckets;
    int orientation;
    double threshold, validation, confidence;
    int64_t bootstrap;
    uint64_t seed;
    const char *matrix;
    int metric;
    bool reference;
    eval_files files;
    const tdm_stop *stop;
    eval_options options;
    eval_result *results; /* owned [found.n] */
    eval_matrix *matrices; /* owned [found.n_matrices] */
    eval_found found;
    int64_t excluded; /* bad records */
} command;

/* ---- options ---- */

static tdm_status read_buckets(const char *text, eval_options *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    double bounds[EVAL_BUCKETS_MOST];
    const arg_spec spec = {.name = "buckets", .kind = ARG_F64, .min = 1, .max = 0x1p53};
    if (!strcmp(text, "none"))
        goto done;
    TDM_TRY(args_read_numbers(&spec, text, bounds, EVAL_BUCKETS_MOST, &out->n_buckets, err));
    for (int i = 0; i < out->n_buckets; i++) {
        TDM_REQUIRE(bounds[i] == floor(bounds[i]) && (!i || bounds[i] > bounds[i - 1]), TDM_EARG,
                    "--buckets %s: want whole numbers, each larger than the one before", text);
        out->buckets[i] = (int64_t)bounds[i];
    }
done:
    return st;
}

/* Operands are labelled records, or names of published tables. */
static tdm_status check_inputs(const command *c, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(!c->label || operands->n || !(c->human.n || c->machine.n), TDM_EARG,
                "--label %s: of which files? Name them behind the options; - is stdin", c->label);
    if (c->label || c->reference)
        return TDM_OK;
    TDM_REQUIRE(!operands->n, TDM_EARG,
                "%s: whose is it? --human FILE and --machine FILE, each as often as there are files, or --label FIELD",
                operands->items[0]);
    TDM_REQUIRE(c->matrix || (c->human.n && c->machine.n), TDM_EARG,
                "want --human FILE and --machine FILE, or --label FIELD; there is no --%s",
                c->human.n ? "machine" : "human");
done:
    return st;
}

static tdm_status check_fields(const command *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < c->fields.n; i++)
        for (size_t k = 0; k < i; k++) {
            const char *a = c->fields.items[k], *b = c->fields.items[i];
            TDM_REQUIRE(strcmp(a, b), TDM_EARG, "--field %s: given twice", b);
            TDM_REQUIRE(!c->files.svg || !eval_files_collide(a, b), TDM_EARG,
                        "--svg: pictures of \"%s\" and \"%s\" would have one name; one field at a time", a, b);
        }
done:
    return st;
}

static tdm_status read_options(command *c, tdm_err *err)
{
    static const char *const FAKE[] = {"fake"};
    static const arg_spec FPR = {.name = "fpr", .kind = ARG_F64, .min = 0, .max = 1};
    tdm_status st = TDM_OK;
    c->options = (eval_options){.fields = c->fields.n ? c->fields.items : FAKE,
                                .n_fields = c->fields.n ? c->fields.n : 1,
                                .orientation = (eval_orientation)c->orientation,
                                .threshold = c->threshold,
                                .validation = c->validation,
                                .bootstrap = {.replicates = c->bootstrap,
                                              .seed = c->seed,
                                              .confidence = c->confidence,
                                              .threads = (int)c->common.threads,
                                              .stop = c->stop}};
    TDM_REQUIRE(isnan(c->threshold) || c->fields.n < 2, TDM_EARG,
                "--threshold %.9g: of which of %zu fields? Evaluate them one by one", c->threshold, c->fields.n);
    TDM_REQUIRE(!c->matrix || c->fields.n < 2, TDM_EARG, "--matrix: of which of %zu fields? A table is of one",
                c->fields.n);
    TDM_TRY(check_fields(c, err));
    TDM_TRY(args_read_numbers(&FPR, c->fprs, c->options.evaluate.fprs, TDM_FPRS_MOST, &c->options.evaluate.n_fprs, err));
    TDM_TRY(read_buckets(c->buckets, &c->options, err));
done:
    return st;
}

static eval_sources sources_of(const command *c, const arg_list *operands)
{
    return (eval_sources){.human = c->human.items,
                          .n_human = c->human.n,
                          .machine = c->machine.items,
                          .n_machine = c->machine.n,
                          .labelled = operands->items,
                          .n_labelled = c->label ? operands->n : 0,
                          .label = c->label,
                          .machine_label = c->machine_label,
                          .id_key = c->common.id_key,
                          .length_key = c->length_field,
                          .max_line = c->common.max_line,
                          .max_ratio = c->common.max_ratio,
                          .max_errors = c->common.max_errors,
                          .written = {c->files.csv, c->files.html},
                          .stop = c->stop};
}

/* ---- results ---- */

/* What is odd about a result, and no error. */
static void print_warnings(const eval_result *r)
{
    if (r->is_suspicious)
        args_note(COMMAND.name, "warning: AUROC of %s is %.4f, below 0.5: as a rule a %s value is a machine's here; "
                                "see --orientation", r->field, r->values.auroc, r->is_turned ? "higher" : "lower");
    if (!r->is_probability && (!strcmp(r->field, "fake") || !strcmp(r->field, "real")))
        args_note(COMMAND.name, "warning: %s is from %.9g to %.9g, no probability: there is no threshold of 0.5 and no "
                                "calibration", r->field, r->low, r->high);
    if (!r->fitted_on)
        args_note(COMMAND.name, "warning: too few texts to fit a threshold of %s on one part and judge it on another",
                  r->field);
}

static tdm_status measure_texts(command *c, const eval_sources *sources, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const eval_options *o = &c->options;
    eval_scores scores = {0};
    c->found.results = c->results = calloc(o->n_fields, sizeof *c->results);
    TDM_REQUIRE(c->results, TDM_ENOMEM, "results of %zu fields", o->n_fields);
    TDM_TRY(eval_read(sources, o, &scores, err));
    c->excluded = scores.excluded;
    if (!c->common.quiet && (double)scores.n * (double)o->bootstrap.replicates >= MANY_DRAWS)
        args_note(COMMAND.name, "%zu texts: %" PRId64 " bootstrap replicates take minutes; --bootstrap sets their "
                                "number, 0: no intervals", scores.n, o->bootstrap.replicates);
    for (; c->found.n < o->n_fields; c->found.n++) {
        TDM_TRY(eval_measure(&scores, c->found.n, o, &c->results[c->found.n], err));
        if (!c->common.quiet)
            print_warnings(&c->results[c->found.n]);
    }
done:
    eval_scores_free(&scores);
    return st;
}

/* The measured table, then the published ones that are asked for, or all of them. */
static tdm_status make_tables(command *c, const eval_sources *sources, const arg_list *names, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n = names->n, *made = &c->found.n_matrices;
    while (!names->n && *eval_reference_name(n))
        n++;
    c->found.matrices = c->matrices = calloc(n + 1, sizeof *c->matrices);
    TDM_REQUIRE(c->matrices, TDM_ENOMEM, "%zu tables", n);
    if (c->matrix) {
        TDM_TRY(eval_matrix_measure(c->matrix, (eval_metric)c->metric, sources, &c->options, c->matrices, err));
        ++*made;
        for (size_t i = 0; i < c->matrices->n_rows * c->matrices->n_columns; i++)
            c->excluded += c->matrices->cells[i].excluded;
    }
    for (size_t i = 0; c->reference && i < n; i++, ++*made)
        TDM_TRY(eval_reference(names->n ? names->items[i] : eval_reference_name(i), &c->matrices[*made], err));
done:
    return st;
}

static tdm_status print_tables(const command *c, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t n = c->found.n_matrices;
    const bool json = c->common.json, is_list = json && n != 1;
    if (is_list)
        TDM_TRY(tdm_buf_printf(out, err, "{\"matrices\": ["));
    for (size_t i = 0; i < n; i++) {
        if (i)
            TDM_TRY(tdm_buf_printf(out, err, "%s", json ? ", " : "\n"));
        TDM_TRY((json ? eval_matrix_json : eval_matrix_text)(out, &c->matrices[i], err));
    }
    if (is_list)
        TDM_TRY(tdm_buf_printf(out, err, "]}\n"));
done:
    return st;
}

static tdm_status print(const command *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf out = {0};
    if (c->found.n_matrices)
        TDM_TRY(print_tables(c, &out, err));
    else
        TDM_TRY((c->common.json ? eval_print_json : eval_print_text)(&out, c->results, c->found.n, &c->options, err));
    fwrite(out.p, 1, out.len, stdout); /* a failure shows at the end, in main */
done:
    tdm_buf_free(&out);
    return st;
}

/* Append an argument as a shell would read it. */
static tdm_status put_argument(tdm_buf *out, const char *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool is_plain = *text && !text[strcspn(text, " \t\n'\"\\$`*?;&|<>()")];
    TDM_TRY(tdm_buf_printf(out, err, is_plain ? " " : " '"));
    for (; *text; text++)
        TDM_TRY(*text == '\'' ? tdm_buf_printf(out, err, "'\\''") : tdm_buf_put(out, text, 1, err));
    TDM_TRY(tdm_buf_put(out, "'", !is_plain, err));
done:
    return st;
}

/* The command line, for who reads a report later. */
static tdm_status describe(int argc, char **argv, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(out, err, "tandem"));
    for (int i = 0; i < argc; i++)
        TDM_TRY(put_argument(out, argv[i], err));
    TDM_TRY(tdm_buf_put(out, "", 1, err));
done:
    return st;
}

static tdm_status run(command *c, const arg_list *operands, tdm_err *err)
{
    tdm_status st = TDM_OK;
    c->stop = signals_catch();
    TDM_TRY(check_inputs(c, operands, err));
    TDM_TRY(read_options(c, err));
    TDM_TRY(eval_files_check(&c->files, err));
    const eval_sources sources = sources_of(c, operands);
    TDM_TRY(c->matrix || c->reference ? make_tables(c, &sources, operands, err) : measure_texts(c, &sources, err));
    TDM_TRY(eval_files_write(&c->files, &c->found, &c->options, err));
    TDM_TRY(print(c, err));
done:
    return st;
}

static void release(command *c)
{
    for (size_t i = 0; i < c->found.n_matrices; i++)
        eval_matrix_free(&c->matrices[i]);
    free(c->matrices);
    free(c->results);
    args_list_free(&c->fields);
    args_list_free(&c->human);
    args_list_free(&c->machine);
}

int cmd_eval(int argc, char **argv)
{
    command c = {.common = COMMON_DEFAULTS, .fprs = "0.05,0.01,0.001", .buckets = "50,100,200,400", .threshold = NAN,
                 .validation = 0.5, .confidence = 0.95, .bootstrap = 1000};
    arg_list operands;
    tdm_buf about = {0};
    tdm_err err = {0};
    int code = TDM_OK;
    const arg_spec specs[] = {
        {.name = "field", .kind = ARG_LIST, .out = &c.fields, .value = "NAME", .default_text = "fake",
         .help = "the field that is judged"},
        {.name = "human", .kind = ARG_LIST, .out = &c.human, .value = "FILE", .help = "records of human texts"},
        {.name = "machine", .kind = ARG_LIST, .out = &c.machine, .value = "FILE", .help = "records of machine texts"},
        {.name = "label", .kind = ARG_STR, .out = &c.label, .value = "FIELD",
         .help = "says of the records of FILE... who wrote them: true, 1, machine or fake against false, 0, human or "
                 "real"},
        {.name = "machine-label", .kind = ARG_STR, .out = &c.machine_label, .value = "VALUE",
         .help = "what --label says of machine texts; all else is human"},
        {.name = "orientation", .kind = ARG_CHOICE, .out = &c.orientation, .value = "auto|machine|human|fit",
         .choices = ORIENTATIONS,
         .help = "whose a higher value is; fit: what is right more often on the validation split"},
        {.name = "threshold", .kind = ARG_F64, .out = &c.threshold, .value = "X",
         .default_text = "0.5 for probabilities, none for others",
         .help = "from here on a text is called a machine's (with a lower orientation: up to here)"},
        {.name = "validation", .kind = ARG_F64, .out = &c.validation, .value = "SHARE", .min = 0, .max = 0.999,
         .open_min = true, .help = "of the texts, on which the best threshold is fitted; it is judged on the others"},
        {.name = "fpr", .kind = ARG_STR, .out = &c.fprs, .value = "P,...", .help = "false positive rates"},
        {.name = "bootstrap", .kind = ARG_I64, .out = &c.bootstrap, .value = "N", .min = 0, .max = 1e6,
         .help = "replicates behind the intervals; 0: no intervals"},
        {.name = "confidence", .kind = ARG_F64, .out = &c.confidence, .value = "P", .min = 0, .max = 0.9999,
         .open_min = true, .help = "of the intervals"},
        {.name = "seed", .kind = ARG_U64, .out = &c.seed, .value = "N", .help = "of the bootstrap"},
        {.name = "length-field", .kind = ARG_STR, .out = &c.length_field, .value = "NAME",
         .default_text = "used_tokens, tokens or length, if there", .help = "the length of a text"},
        {.name = "buckets", .kind = ARG_STR, .out = &c.buckets, .value = "N,...|none",
         .help = "lengths that part the texts"},
        {.name = "id-key", .kind = ARG_STR, .out = &c.common.id_key, .value = "KEY", .help = "field that holds the id"},
        ARGS_LIMITS(&c.common),
        {.name = "max-errors", .kind = ARG_ERRORS, .out = &c.common.max_errors, .value = "N|P%",
         .help = "bad records allowed, which are left out: a number is judged at once, a percentage at the end"},
        {.name = "threads", .kind = ARG_I64, .out = &c.common.threads, .value = "N", .min = 0, .max = 1024,
         .help = "CPU threads; 0 is one per core"},
        {.name = "csv", .kind = ARG_STR, .out = &c.files.csv, .value = "FILE", .help = "write the results as CSV"},
        {.name = "svg", .kind = ARG_STR, .out = &c.files.svg, .value = "FOLDER",
         .help = "write pictures: ROC curves, histograms, calibration, lengths; of each table a heat map"},
        {.name = "html", .kind = ARG_STR, .out = &c.files.html, .value = "FILE",
         .help = "write a report that needs no other file"},
        {.name = "matrix", .kind = ARG_STR, .out = &c.matrix, .value = "FOLDER",
         .help = "a table: FOLDER/ROW/COLUMN.jsonl are records of machine texts, FOLDER/ROW/human.jsonl of human ones, "
                 "of one column COLUMN.human.jsonl"},
        {.name = "metric", .kind = ARG_CHOICE, .out = &c.metric, .value = "accuracy|balanced|best|auroc|tpr",
         .choices = METRICS,
         .help = "in a cell of the table; best: balanced accuracy at the fitted threshold; tpr: at the first of --fpr"},
        {.name = "reference", .kind = ARG_FLAG, .out = &c.reference,
         .help = "print the published tables NAME..., or all"},
        {.name = "json", .kind = ARG_FLAG, .out = &c.common.json, .help = "print one object instead of tables"},
        {.name = "quiet", .kind = ARG_FLAG, .out = &c.common.quiet, .help = "no warnings"},
    };
    tdm_status st = describe(argc, argv, &about, &err);
    if (st == TDM_OK && !args_parse(&COMMAND, specs, COUNT(specs), argc, argv, &operands, &code))
        goto done;
    c.files.about = about.p;
    if (st == TDM_OK)
        st = run(&c, &operands, &err);
    if (st != TDM_OK)
        code = args_fail(COMMAND.name, &err);
    else if (c.excluded)
        code = EXIT_SOME_BAD;
done:
    tdm_buf_free(&about);
    release(&c);
    return code;
}
