/* tools/eval_reference.c - the accuracies that were published, to set measured ones beside. All are per cent, without
 * intervals; what is not known stands in each note. */
#include "tools/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 6 };

typedef struct {
    const char *name, *title, *row_title, *column_title, *source, *note;
    const char *rows[MOST + 1], *columns[MOST + 1]; /* NULL behind the last */
    double percent[MOST][MOST];                     /* 0: not published */
} published;

#define BASELINES "openai/gpt-2-output-dataset, detection.md (2019)"
#define HEAT_MAP                                                                                                       \
    "Read off a heat map. One threshold on the total log-probability of a text. Not known: how the threshold was "     \
    "chosen, the number of texts, intervals. "

static const published TABLES[] = {
    {
        "transfer",
        "accuracy of RoBERTa detectors on nucleus samples",
        "trained on",
        "tested on",
        "Solaiman et al., Release Strategies and the Social Impacts of Language Models, and OpenAI's post on the "
        "release of GPT-2 1.5B (November 2019)",
        "Texts of 510 tokens; 5,000 of WebText and 5,000 generated, held out. The released detector of 1.5B "
        "outputs is put at about 95 %. Not known: the flags of the training runs, intervals; the tables of the "
        "other sampling methods are figures of the report and not reproduced here. The authors: not high enough to "
        "stand alone.",
        {"124M", "355M", "774M", "1.5B"},
        {"124M", "355M", "774M", "1.5B"},
        {{99.3, 96.6, 90.9, 79.3}, {99.0, 98.5, 96.9, 91.8}, {98.4, 97.9, 97.9, 95.7}, {96.9, 96.7, 96.6, 96.0}},
    },
    {
        "tfidf",
        "accuracy of logistic regression on TF-IDF features",
        "written by",
        "sampling",
        BASELINES,
        "Uni- and bigrams, one detector for each cell; trained on 500,000 texts, chosen on 10,000, tested on "
        "10,000. Models by their names of then: 117M, 345M and 762M are 124M, 355M and 774M. Not known: intervals.",
        {"117M", "345M", "762M", "1542M"},
        {"temperature 1", "top-k 40"},
        {{88.29, 96.79}, {88.94, 95.22}, {77.16, 94.43}, {74.31, 92.69}},
    },
    {
        "zero-shot-t1",
        "accuracy of a threshold on log-probability, temperature 1",
        "written by",
        "scored by",
        BASELINES,
        HEAT_MAP "Samples are less likely than human text.",
        {"124M", "355M", "774M", "1558M"},
        {"124M", "355M", "774M", "1558M"},
        {{84.8, 93.4, 94.7, 95.7}, {90.6, 89.8, 94.0, 95.1}, {78.3, 81.4, 78.4, 86.2}, {76.0, 78.3, 79.8, 76.2}},
    },
    {
        "zero-shot-k40",
        "accuracy of a threshold on log-probability, top-k 40",
        "written by",
        "scored by",
        BASELINES,
        HEAT_MAP "Samples are more likely than human text: the threshold points the other way than at temperature 1.",
        {"124M", "355M", "774M", "1558M"},
        {"124M", "355M", "774M", "1558M"},
        {{89.3, 67.6, 61.2, 63.9}, {81.1, 81.1, 68.0, 62.2}, {85.3, 80.8, 84.6, 72.8}, {82.8, 79.9, 78.5, 81.8}},
    },
    {
        "fine-tuned",
        "detection of 1542M, as released and fine-tuned on Amazon reviews",
        "detector",
        "texts",
        BASELINES,
        "The detectors are those of the model as released. About half of the fall of TF-IDF is put down to shorter "
        "texts. Not known: whether rates of detection are accuracies, the number of texts, TF-IDF on fine-tuned "
        "samples at temperature 1.",
        {"TF-IDF", "log-probability"},
        {"temperature 1", "top-k 40", "fine-tuned, temperature 1", "fine-tuned, top-k 40"},
        {{74.31, 92.69, 0, 70.2}, {76.2, 81.8, 63.2, 76.2}},
    },
    {
        "length",
        "accuracy of TF-IDF on 1542M by length of text",
        "characters",
        "sampling",
        BASELINES,
        "Read off a plot, to about 1 %; 59 stands for 58 to 60 anywhere below 1,000 characters. Not known: the "
        "number of texts of each length, how the points were smoothed.",
        {"400", "1000", "2000", "3000", "4000", "5000 and more"},
        {"temperature 1", "top-k 40"},
        {{59, 82}, {0, 86}, {64, 0}, {0, 90}, {69, 0}, {74, 92.7}},
    },
    {
        "transfer-sampling",
        "accuracy of RoBERTa across sampling methods (third party)",
        "trained on",
        "tested on",
        "kabbi159/fake-text-detection, a third party's run, not OpenAI's",
        "Samples of the 1.5B model of openai/gpt-2-output-dataset. The report has its own table of this kind, as a "
        "figure that is not reproduced here. Not known: intervals, lengths of the texts.",
        {"top-k 40", "nucleus", "temperature 1"},
        {"top-k 40", "nucleus", "temperature 1"},
        {{98.35, 69.47, 49.22}, {90.84, 88.36, 75.43}, {51.17, 58.75, 91.34}},
    },
};
enum { N_TABLES = sizeof TABLES / sizeof *TABLES };

const char *eval_reference_name(size_t i)
{
    return i < N_TABLES ? TABLES[i].name : "";
}

static const published *find(const char *name)
{
    for (size_t i = 0; i < N_TABLES; i++)
        if (!strcmp(TABLES[i].name, name))
            return &TABLES[i];
    return NULL;
}

static tdm_status unknown_name(const char *name, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf list = {0};
    for (size_t i = 0; i < N_TABLES; i++)
        TDM_TRY(tdm_buf_printf(&list, err, "%s%s", i ? ", " : "", TABLES[i].name));
    st = tdm_fail(err, TDM_EARG, "there is no published table %s; there are %s", name, list.p);
done:
    tdm_buf_free(&list);
    return st;
}

static size_t count(const char *const *names)
{
    size_t n = 0;
    while (names[n])
        n++;
    return n;
}

/* Owned copies of n names. */
static tdm_status copy_names(const char *const *names, size_t n, char ***out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *out = calloc(n, sizeof **out);
    TDM_REQUIRE(*out, TDM_ENOMEM, "%zu names", n);
    for (size_t i = 0; i < n; i++) {
        (*out)[i] = strdup(names[i]);
        TDM_REQUIRE((*out)[i], TDM_ENOMEM, "a name of a table");
    }
done:
    return st;
}

tdm_status eval_reference(const char *name, eval_matrix *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const published *p = find(name);
    if (!p)
        return unknown_name(name, err);
    *out = (eval_matrix){.title = strdup(p->title),
                         .row_title = p->row_title,
                         .column_title = p->column_title,
                         .n_rows = count(p->rows),
                         .n_columns = count(p->columns),
                         .confidence = NAN,
                         .source = p->source,
                         .note = p->note};
    TDM_REQUIRE(out->title, TDM_ENOMEM, "the title of a table");
    TDM_TRY(copy_names(p->rows, out->n_rows, &out->rows, err));
    TDM_TRY(copy_names(p->columns, out->n_columns, &out->columns, err));
    out->cells = calloc(out->n_rows * out->n_columns, sizeof *out->cells);
    TDM_REQUIRE(out->cells, TDM_ENOMEM, "the cells of a table");
    for (size_t i = 0; i < out->n_rows; i++)
        for (size_t j = 0; j < out->n_columns; j++)
            out->cells[i * out->n_columns + j] = (eval_cell){.is_there = p->percent[i][j] > 0,
                                                             .value = p->percent[i][j] / 100,
                                                             .interval = {NAN, NAN}};
done:
    if (st != TDM_OK)
        eval_matrix_free(out);
    return st;
}
