/* The detector on several ranks of the CPU against one backend alone: logits, the same bits every time for each number of
 * ranks, what each rank has and reads, and what is refused. */
#include <math.h>

#include "detector/detect.h"
#include "detector/roberta_model.h"
#include "tests/count_reads.h"
#include "tests/tiny_roberta.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        tdm_err failure = {0}, *err = &failure;                                                    \
        if ((call) != TDM_OK)                                                                      \
            fail_msg("%s", failure.msg);                                                           \
    } while (0)

/* ---- models ---- */

typedef struct {
    const char *why;
    int layers, heads; /* 0: the demo's */
    const char *prefix;
    tdm_dtype dtype;
} subject;

static const subject SUBJECTS[] = {
    /* 10 units of 64 columns, and 32 columns more; 268 words: of 7 ranks the last two have none */
    {"7 heads, f16", 1, 7, "roberta.", TDM_F16},
    {"3 heads, 2 layers, bf16", 2, 3, "", TDM_BF16},
    {"the demo's reader", 0, 0, NULL, TDM_F16},
};
static const int32_t RANKS[] = {1, 2, 3, 4, 5, 7};
enum { N_SUBJECTS = sizeof SUBJECTS / sizeof *SUBJECTS, N_RANKS = sizeof RANKS / sizeof *RANKS };

typedef struct {
    tdm_config config;
    tdm_checkpoint *ck;
} files;

static void open_files(files *f, const subject *s)
{
    tiny_roberta tiny;
    char made[TINY_PATH];
    const char *dir = TDM_SOURCE_DIR "/tools/demo/reader";
    if (s->heads) {
        tiny_roberta_make(&tiny, s->layers, s->heads, 7);
        tiny_roberta_write(&tiny, made, s->prefix, s->dtype);
        tiny_roberta_free(&tiny);
        dir = made;
    }
    OK(tdm_config_load(dir, &f->config, err));
    OK(tdm_checkpoint_open(dir, &f->ck, err));
    if (s->heads)
        tiny_roberta_remove(made); /* the files stay open */
}

/* ---- texts ---- */

enum { N_TEXTS = 6, ROWS = 400 };
static const int32_t LENGTHS[N_TEXTS] = {5, 48, 1, 17, 33, 2};

/* Every text is there, and ids from all of the vocabulary. */
static int32_t make_texts(int32_t vocab, int shift, int32_t *ids, int32_t *starts)
{
    starts[0] = 0;
    for (int i = 0; i < N_TEXTS; i++) {
        const int text = (i + shift) % N_TEXTS;
        uint64_t random = (uint64_t)text * 77 + 1;
        starts[i + 1] = starts[i] + LENGTHS[text];
        for (int32_t r = starts[i]; r < starts[i + 1]; r++)
            ids[r] = r == starts[i] ? 0 : (int32_t)(tiny_random(&random) % (uint32_t)vocab);
    }
    return N_TEXTS;
}

typedef float answers[N_TEXTS][ROBERTA_LABELS];

/* All texts in one batch from number `shift` on; got in the order of their numbers. */
static void ask(roberta *m, int32_t vocab, int shift, answers got)
{
    int32_t ids[ROWS], starts[N_TEXTS + 1];
    answers found;
    const int32_t n = make_texts(vocab, shift, ids, starts);
    OK(roberta_classify(m, ids, starts, n, found[0], err));
    for (int i = 0; i < N_TEXTS; i++)
        memcpy(got[(i + shift) % N_TEXTS], found[i], sizeof *found);
}

/* Each text by itself. */
static void ask_apart(roberta *m, int32_t vocab, answers got)
{
    int32_t ids[ROWS], starts[N_TEXTS + 1];
    make_texts(vocab, 0, ids, starts);
    for (int i = 0; i < N_TEXTS; i++)
        OK(roberta_classify(m, ids + starts[i], (int32_t[]){0, LENGTHS[i]}, 1, got[i], err));
}

/* ---- what each rank has ---- */

/* Bytes in the file of what every rank reads: norms, the head, the token type. */
static size_t replicated_bytes(const files *f)
{
    size_t bytes = 0;
    for (size_t i = 0; i < tdm_checkpoint_count(f->ck); i++) {
        const tdm_tensor *t = tdm_checkpoint_at(f->ck, i);
        const bool all = strstr(t->name, "LayerNorm") || strstr(t->name, "classifier") || strstr(t->name, "token_type");
        bytes += all ? t->bytes : 0;
    }
    return bytes;
}

/* As planned, and together the ranks read what one alone does, and each what all have. */
static void check_shares(const roberta *m, const files *f, size_t got, size_t alone)
{
    const int32_t n = tdm_rank_count(m->be);
    size_t most = 0;
    for (int32_t r = 0; r < n; r++) {
        const tdm_backend *be = tdm_rank_backend(m->be, r);
        tdm_weight_plan plan = {.ck = f->ck, .act = be->dtype};
        assert_int_equal(roberta_each_tensor(f->ck, &f->config, r, be->n_ranks, tdm_plan_tensor, &plan), TDM_OK);
        assert_int_equal(m->shards[r].weight_bytes, plan.bytes);
        most = plan.bytes > most ? plan.bytes : most;
    }
    assert_int_equal(roberta_weight_bytes(m), most);
    assert_int_equal(got, alone + (size_t)(n - 1) * replicated_bytes(f));
}

/* ---- against one alone ---- */

/* As in test_roberta.c: logits of the order of 1 behind some hundred roundings of 2^-24. Measured: 2^-17.2. */
static const double TOLERANCE = 0x1p-16;

static roberta *open_model(const tdm_backend *be, const files *f, int32_t slice)
{
    roberta *m = NULL;
    OK(roberta_open(be, f->ck, &f->config, &(roberta_limits){ROWS, N_TEXTS, slice}, true, &m, err));
    return m;
}

/* In other batches, in other slices, opened anew: the same bits. */
static void check_bits(const files *f, int32_t n, answers first)
{
    answers again;
    for (int time = 0; time < 3; time++) {
        tdm_backend be;
        OK(tdm_open_cpu_ranks(n, time + 1, &be, err));
        roberta *m = open_model(&be, f, time == 1 ? 7 : 0);
        if (time == 2)
            ask_apart(m, f->config.n_vocab, again);
        else
            ask(m, f->config.n_vocab, time * 2, again);
        roberta_close(m);
        tdm_backend_close(&be);
        assert_memory_equal(again, first, sizeof again);
    }
}

static void ask_ranks(const files *f, int32_t n, size_t read_alone, answers alone)
{
    answers got;
    tdm_backend be;
    double worst = 0;
    OK(tdm_open_cpu_ranks(n, 1, &be, err));
    const size_t before = atomic_load(&bytes_read);
    roberta *m = open_model(&be, f, 0);
    check_shares(m, f, atomic_load(&bytes_read) - before, read_alone);
    ask(m, f->config.n_vocab, 0, got);
    roberta_close(m);
    tdm_backend_close(&be);
    for (int i = 0; i < N_TEXTS; i++)
        for (int k = 0; k < ROBERTA_LABELS; k++) {
            assert_true(isfinite(got[i][k]));
            worst = fmax(worst, fabs((double)got[i][k] - (double)alone[i][k]));
        }
    print_message("%d ranks: logits off by %.1e\n", (int)n, worst);
    assert_true(worst <= TOLERANCE);
    if (n == 1)
        assert_memory_equal(got, alone, sizeof got);
    check_bits(f, n, got);
}

static void test_against_one_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SUBJECTS; i++) {
        files f;
        answers alone;
        tdm_backend be;
        print_message("%s\n", SUBJECTS[i].why);
        open_files(&f, &SUBJECTS[i]);
        OK(tdm_open_cpu(2, &be, err));
        const size_t before = atomic_load(&bytes_read);
        roberta *m = open_model(&be, &f, 0);
        const size_t read = atomic_load(&bytes_read) - before;
        check_shares(m, &f, read, read);
        ask(m, f.config.n_vocab, 0, alone);
        roberta_close(m);
        tdm_backend_close(&be);
        for (size_t k = 0; k < N_RANKS && RANKS[k] <= f.config.n_head; k++)
            ask_ranks(&f, RANKS[k], read, alone);
        tdm_checkpoint_close(f.ck);
    }
}

/* ---- what it would be ---- */

/* The scratch of several ranks, and the rows that a memory is enough for, from a backend that stands alone. */
static void test_plan(void **state)
{
    (void)state;
    files f;
    tdm_backend be, like;
    int32_t rows = 0, rows_alone = 0;
    size_t bytes = 0, alone = 0;
    open_files(&f, &SUBJECTS[0]);
    OK(tdm_open_cpu(1, &like, err));
    const roberta_limits limits = {ROWS, N_TEXTS, 0};
    for (like.n_ranks = 1; like.n_ranks <= 7; like.n_ranks += 2) {
        OK(tdm_open_cpu_ranks(like.n_ranks, 1, &be, err));
        roberta *m = open_model(&be, &f, 0);
        assert_true(roberta_run_bytes(&like, &f.config, &limits, &bytes));
        assert_int_equal(roberta_scratch_bytes(m), bytes);
        assert_true(bytes - ROWS * roberta_row_bytes(&f.config, TDM_F32, like.n_ranks) <
                    N_TEXTS * (size_t)(3 * f.config.n_embd + 3) * sizeof(float) + 12 * 256 + 256);
        roberta_close(m);
        tdm_backend_close(&be);
    }
    /* 25 units of columns each, and half a unit more for the last rank, which then has most */
    like.n_ranks = 7;
    f.config.n_inner = 7 * 25 * 64;
    assert_true(roberta_run_bytes(&like, &f.config, &limits, &alone));
    const size_t even = roberta_row_bytes(&f.config, TDM_F32, 7);
    f.config.n_inner += 32;
    assert_true(roberta_run_bytes(&like, &f.config, &limits, &bytes));
    assert_int_equal(bytes - alone, ROWS * 32 * sizeof(float));
    assert_int_equal(roberta_row_bytes(&f.config, TDM_F32, 7) - even, 32 * sizeof(float));
    f.config.n_inner = 672;
    /* on a device, which takes as many rows as a quarter of its memory has room for */
    const tdm_ops device = {.name = "cuda"};
    const size_t memory = 4 * (size_t)1000 * roberta_row_bytes(&f.config, TDM_F16, 0);
    tdm_backend imagined = {.ops = &device, .dtype = TDM_F16};
    tdm_detector_plan(&imagined, &f.config, &(tdm_detect_options){0}, memory, &rows_alone, &alone);
    assert_int_equal(rows_alone, 1000);
    imagined.n_ranks = 4;
    tdm_detector_plan(&imagined, &f.config, &(tdm_detect_options){0}, memory, &rows, &bytes);
    assert_true(rows > 1300 && rows < 4000);
    assert_true(bytes <= memory / 4 + ((size_t)64 << 10) + (size_t)rows / 3 * 3 * (size_t)f.config.n_embd * 4);
    tdm_detector_plan(&imagined, &f.config, &(tdm_detect_options){.batch = 2}, 0, &rows, &bytes);
    assert_int_equal(rows, 2 * f.config.n_context);
    tdm_backend_close(&like);
    tdm_checkpoint_close(f.ck);
}

/* ---- what is refused ---- */

static void test_refused(void **state)
{
    (void)state;
    files f;
    tdm_backend be;
    roberta *m = NULL;
    tdm_err why = {0};
    const roberta_limits limits = {ROWS, N_TEXTS, 0};
    open_files(&f, &SUBJECTS[0]);
    OK(tdm_open_cpu_ranks(8, 1, &be, err));
    assert_int_equal(roberta_open(&be, f.ck, &f.config, &limits, true, &m, &why), TDM_EARG);
    assert_string_equal(why.msg, "8 ranks, the model has 7 heads");
    f.config.n_head = 8;
    f.config.n_inner = 7 * 64 + 63;
    assert_int_equal(roberta_open(&be, f.ck, &f.config, &limits, true, &m, &why), TDM_EARG);
    assert_string_equal(why.msg, "8 ranks, the model's inner layer has 7 times 64 columns");
    assert_null(m);
    tdm_backend_close(&be);
    tdm_checkpoint_close(f.ck);
}

static const tdm_ops *cpu_ops;

static tdm_status judge_otherwise(void *self, tdm_mat y, tdm_mat x, tdm_mat w, tdm_mat bias, tdm_err *err)
{
    const tdm_status st = cpu_ops->classify(self, y, x, w, bias, err);
    ((float *)y.p)[2 * y.rows - 1] += 1; /* of the last text */
    return st;
}

static tdm_status no_memory(void *self, size_t bytes, void **out, tdm_err *err)
{
    (void)self, (void)bytes, (void)out;
    return tdm_fail(err, TDM_ENOMEM, "the device is full");
}

/* A rank that judges otherwise than the first, or has no memory, is noticed; all ranks come back. */
static void test_one_rank_fails(void **state)
{
    (void)state;
    files f;
    tdm_backend be;
    answers got;
    int32_t ids[ROWS], starts[N_TEXTS + 1];
    tdm_err why = {0};
    open_files(&f, &SUBJECTS[1]);
    OK(tdm_open_cpu_ranks(3, 1, &be, err));
    tdm_backend *one = (tdm_backend *)(uintptr_t)tdm_rank_backend(&be, 1);
    tdm_ops ops = *one->ops;
    cpu_ops = one->ops;
    one->ops = &ops;
    roberta *m = open_model(&be, &f, 0);
    ask(m, f.config.n_vocab, 0, got);
    ops.classify = judge_otherwise;
    make_texts(f.config.n_vocab, 0, ids, starts);
    assert_int_equal(roberta_classify(m, ids, starts, N_TEXTS, got[0], &why), TDM_EINTERNAL);
    assert_string_equal(why.msg, "rank 1 judged otherwise than rank 0");
    roberta_close(m);
    ops.alloc = no_memory;
    assert_int_equal(roberta_open(&be, f.ck, &f.config, &(roberta_limits){ROWS, N_TEXTS, 0}, true, &m, &why),
                     TDM_ENOMEM);
    assert_non_null(strstr(why.msg, "rank 1: "));
    assert_non_null(strstr(why.msg, "the device is full"));
    assert_null(m);
    tdm_backend_close(&be);
    tdm_checkpoint_close(f.ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_one_alone),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_one_rank_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
