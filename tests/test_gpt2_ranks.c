/* GPT-2 on several ranks of the CPU against one backend alone: logits, draws and scores; the same bits every time for
 * each number of ranks; what each rank has and reads; failures and differences. */
#include "host/gpt2_model.h"
#include "tests/count_reads.h"
#include "tests/gpt2_ranks_subject.h"

/* ---- models ---- */

typedef struct {
    const char *why;
    tiny_gpt2 model; /* heads 0: the demo's */
    tdm_dtype dtype;
} subject;

static const subject SUBJECTS[] = {
    /* 7 units of 64 columns, and 24 columns more; 263 words: of 7 ranks the last two have none */
    {"25 heads, f16", {.layers = 2, .heads = 25, .positions = 24, .inner = 472, .words = 0.0625f, .weights = 0.25f}, TDM_F16},
    {"7 heads, untied, bf16, prefix", {.layers = 1, .heads = 7, .positions = 24, .untied = true, .prefix = "transformer."}, TDM_BF16},
    {"the demo's writer", {0}, TDM_F16},
};
static const int32_t RANKS[] = {1, 2, 3, 4, 5, 7};
enum { N_SUBJECTS = sizeof SUBJECTS / sizeof *SUBJECTS, N_RANKS = sizeof RANKS / sizeof *RANKS };

/* Where the model is. made  its path if it had to be made */
static const char *make_subject(const subject *s, char made[TINY_PATH])
{
    tiny_gpt2 m = s->model;
    if (!m.heads)
        return TDM_SOURCE_DIR "/tools/demo/writer";
    tiny_gpt2_make(&m, 40);
    tiny_gpt2_write(&m, made, s->dtype);
    tiny_gpt2_free(&m);
    return made;
}

static void drop_subject(const subject *s, const char *made)
{
    if (s->model.heads)
        tiny_roberta_remove(made);
}

/* ---- what each rank has ---- */

/* Bytes in the file of what every rank reads: the vectors of norms. */
static size_t replicated_bytes(const model_files *f)
{
    size_t bytes = 0;
    for (size_t i = 0; i < tdm_checkpoint_count(f->ck); i++) {
        const tdm_tensor *t = tdm_checkpoint_at(f->ck, i);
        bytes += strstr(t->name, "ln_") ? t->bytes : 0;
    }
    return bytes;
}

/* Every rank's share is as planned, and together they read what one alone does, and each the norms. */
static void check_shares(const gpt2_model *m, const model_files *f, size_t got, size_t alone)
{
    const tdm_backend *be = gpt2_backend(m);
    const int32_t n = tdm_rank_count(be);
    size_t most = 0;
    for (int32_t r = 0; r < n; r++) {
        const int32_t of = tdm_rank_backend(be, r)->n_ranks;
        tdm_weight_plan plan = {.ck = f->ck, .act = be->dtype};
        assert_int_equal(gpt2_each_tensor(f->ck, &f->config, r, of, tdm_plan_tensor, &plan), TDM_OK);
        assert_int_equal(m->shards[r].bytes, plan.bytes);
        most = plan.bytes > most ? plan.bytes : most;
    }
    assert_int_equal(gpt2_weight_bytes(m), most);
    assert_int_equal(got, alone + (size_t)(n - 1) * replicated_bytes(f));
}

/* ---- against one alone ---- */

/* 2^-24 an operation in f32; those of sums of 1600 products, in blocks and in another order, add up like the root of their
 * number. Measured: 2^-20.5. */
static const double TOLERANCE = 0x1p-18;

static void ask_ranks(const model_files *f, int32_t n, size_t read_alone, const answers *alone)
{
    char what[32];
    tdm_backend be;
    gpt2_model *m = NULL;
    answers first, again;
    snprintf(what, sizeof what, "%d ranks", (int)n);
    RANKS_OK(tdm_open_cpu_ranks(n, 1, &be, err));
    const size_t before = atomic_load(&bytes_read);
    RANKS_OK(gpt2_open(&be, f->ck, &f->config, true, &m, err));
    check_shares(m, f, atomic_load(&bytes_read) - before, read_alone);
    ask_model(m, false, &first);
    ask_model(m, true, &again);
    assert_same(&again, &first, what);
    free_answers(&again);
    gpt2_close(m);
    tdm_backend_close(&be);
    const double off = assert_close(&first, alone, TOLERANCE, what);
    if (n == 1)
        assert_same(&first, alone, what);
    print_message("%s: logits off by %.1e of the largest\n", what, off);
    free_answers(&first);
}

static void against_one_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SUBJECTS; i++) {
        char made[TINY_PATH];
        model_files f;
        answers alone;
        tdm_backend be;
        gpt2_model *m = NULL;
        print_message("%s\n", SUBJECTS[i].why);
        open_files(&f, make_subject(&SUBJECTS[i], made));
        RANKS_OK(tdm_open_cpu(2, &be, err));
        const size_t before = atomic_load(&bytes_read);
        RANKS_OK(gpt2_open(&be, f.ck, &f.config, true, &m, err));
        const size_t read = atomic_load(&bytes_read) - before;
        check_shares(m, &f, read, read);
        ask_model(m, false, &alone);
        gpt2_close(m);
        tdm_backend_close(&be);
        for (size_t k = 0; k < N_RANKS && RANKS[k] <= f.config.n_head; k++)
            ask_ranks(&f, RANKS[k], read, &alone);
        free_answers(&alone);
        close_files(&f);
        drop_subject(&SUBJECTS[i], made);
    }
}

/* Opened anew: the same bits. */
static void every_time(void **state)
{
    (void)state;
    char made[TINY_PATH];
    model_files f;
    answers first[2];
    open_files(&f, make_subject(&SUBJECTS[2], made));
    for (int32_t n = 2; n <= 3; n++) {
        for (int time = 0; time < 2; time++) {
            tdm_backend be;
            RANKS_OK(tdm_open_cpu_ranks(n, time + 1, &be, err));
            ask(&be, &f, time > 0, &first[time]);
            tdm_backend_close(&be);
        }
        assert_same(&first[1], &first[0], "opened anew");
        free_answers(&first[0]);
        free_answers(&first[1]);
    }
    close_files(&f);
    drop_subject(&SUBJECTS[2], made);
}

/* What a run takes is planned for the rank that has most: for the last, which has the columns that are left over. */
static void scratch_is_planned(void **state)
{
    (void)state;
    enum { ROWS = 64, OVER = 24 };
    const gpt2_limits limits = {.context = 64, .rows = ROWS, .logits = 1};
    tdm_config config = {.n_layer = 1, .n_head = 14, .n_embd = 896, .n_inner = 7 * 64, .n_vocab = 263, .n_context = 64};
    size_t cache = 0, even = 0, uneven = 0;
    tdm_backend be;
    RANKS_OK(tdm_open_cpu(1, &be, err));
    tdm_backend one = be;
    one.n_ranks = 7;
    assert_true(gpt2_run_bytes(&one, &config, &limits, &cache, &even));
    config.n_inner += OVER;
    assert_true(gpt2_run_bytes(&one, &config, &limits, &cache, &uneven));
    assert_int_equal(uneven - even, ROWS * OVER * sizeof(float));
    tdm_backend_close(&be);
}

/* ---- what is refused ---- */

static void refused(void **state)
{
    (void)state;
    static const struct {
        tiny_gpt2 model;
        int32_t n;
        const char *says;
    } CASES[] = {
        {{.layers = 1, .heads = 4, .positions = 8}, 5, "5 ranks, the model has 4 heads"},
        {{.layers = 1, .heads = 4, .positions = 8, .inner = 255}, 4, "4 ranks, the model's feed-forward layer has 3 times 64 columns"},
        {{.layers = 1, .heads = 4, .positions = 8, .inner = 256}, 4, NULL},
        {{.layers = 1, .heads = 1, .positions = 8, .inner = 20}, 1, NULL},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        tiny_gpt2 tiny = CASES[i].model;
        char dir[TINY_PATH];
        model_files f;
        tdm_backend be;
        gpt2_model *m = NULL;
        tdm_err err = {0};
        tiny_gpt2_make(&tiny, i);
        tiny_gpt2_write(&tiny, dir, TDM_F32);
        open_files(&f, dir);
        assert_int_equal(tdm_open_cpu_ranks(CASES[i].n, 1, &be, &err), TDM_OK);
        const tdm_status st = gpt2_open(&be, f.ck, &f.config, true, &m, &err);
        assert_int_equal(st, CASES[i].says ? TDM_EARG : TDM_OK);
        if (CASES[i].says)
            assert_string_equal(err.msg, CASES[i].says);
        gpt2_close(m);
        tdm_backend_close(&be);
        close_files(&f);
        tiny_roberta_remove(dir);
        tiny_gpt2_free(&tiny);
    }
}

/* ---- failures ---- */

enum { HEADS = 4, FAILING = 1 };

/* A small model on HEADS ranks of which one can be tampered with. */
typedef struct {
    char dir[TINY_PATH];
    model_files f;
    tdm_backend be;
    gpt2_model *m;
    tdm_ops ops; /* of the one */
} small;

static const tdm_ops *cpu_ops;

static void make_small(small *s, float bad_weight)
{
    tiny_gpt2 tiny = {.layers = 2, .heads = HEADS, .positions = CONTEXT};
    *s = (small){0};
    tiny_gpt2_make(&tiny, 4);
    if (bad_weight != 0)
        tiny_find(&tiny.list, "h.1.attn.c_attn.weight")->p[64 * FAILING] = bad_weight; /* the query of head 1 */
    tiny_gpt2_write(&tiny, s->dir, TDM_F32);
    tiny_gpt2_free(&tiny);
    open_files(&s->f, s->dir);
    RANKS_OK(tdm_open_cpu_ranks(HEADS, 1, &s->be, err));
    tdm_backend *one = (tdm_backend *)(uintptr_t)tdm_rank_backend(&s->be, FAILING);
    cpu_ops = one->ops;
    s->ops = *one->ops;
    one->ops = &s->ops;
}

static void drop_small(small *s)
{
    gpt2_close(s->m);
    tdm_backend_close(&s->be);
    close_files(&s->f);
    tiny_roberta_remove(s->dir);
}

static tdm_status no_cache(void *self, int32_t layers, int32_t heads, int32_t pages, int32_t text_pages, tdm_kv **kv,
                           tdm_err *err)
{
    (void)self, (void)layers, (void)heads, (void)pages, (void)text_pages, (void)kv;
    return tdm_fail(err, TDM_ENOMEM, "the device is full");
}

/* One rank has no memory for a run, or reads a weight that is no number: one error, and all ranks come back. */
static void one_rank_fails(void **state)
{
    (void)state;
    const gpt2_limits limits = {.slots = 2, .pages = 2, .context = CONTEXT, .rows = 8, .logits = 8};
    small s;
    gpt2_run *run = NULL;
    tdm_err why = {0};
    make_small(&s, 0);
    s.ops.kv_open = no_cache;
    RANKS_OK(gpt2_open(&s.be, s.f.ck, &s.f.config, true, &s.m, err));
    assert_int_equal(gpt2_run_open(s.m, &limits, &run, &why), TDM_ENOMEM);
    assert_null(run);
    assert_non_null(strstr(why.msg, "MiB of scratch: rank 1: the device is full"));
    assert_int_equal(gpt2_run_open(s.m, &limits, &run, &why), TDM_ESTOPPED);
    drop_small(&s);

    make_small(&s, NAN);
    assert_int_equal(gpt2_open(&s.be, s.f.ck, &s.f.config, true, &s.m, &why), TDM_EFORMAT);
    assert_non_null(strstr(why.msg, "rank 1: loading h.1.attn.c_attn.weight: "));
    assert_non_null(strstr(why.msg, ": element 64 is"));
    assert_null(s.m);
    drop_small(&s);
}

/* Memory in which something was before, as on a device. */
static tdm_status used_memory(void *self, size_t bytes, void **out, tdm_err *err)
{
    const tdm_status st = cpu_ops->alloc(self, bytes, out, err);
    if (st == TDM_OK)
        memset(*out, 0x5A, bytes);
    return st;
}

static tdm_status sample_otherwise(void *self, const tdm_slots *state, const int32_t *slots, tdm_mat logits, int32_t eos,
                                   tdm_err *err)
{
    const tdm_status st = cpu_ops->sample(self, state, slots, logits, eos, err);
    state->drawn[1] ^= 1;
    return st;
}

static tdm_status judge_otherwise(void *self, tdm_stat *stats, tdm_mat logits, const int32_t *targets, tdm_err *err)
{
    const tdm_status st = cpu_ops->token_stats(self, stats, logits, targets, err);
    stats[2].rank++;
    return st;
}

static tdm_status top_otherwise(void *self, tdm_top *top, int32_t k, tdm_mat logits, const int32_t *targets,
                                tdm_err *err)
{
    const tdm_status st = cpu_ops->top_tokens(self, top, k, logits, targets, err);
    top[k].id++;
    return st;
}

static tdm_status cross_otherwise(void *self, tdm_cross *stats, tdm_mat p, tdm_mat q, const int32_t *targets,
                                  tdm_err *err)
{
    const tdm_status st = cpu_ops->cross_stats(self, stats, p, q, targets, err);
    stats[0].back += 1;
    return st;
}

/* A rank that draws or scores otherwise than the first is noticed. */
static void ranks_differ(void **state)
{
    (void)state;
    const gpt2_limits limits = {.slots = 2, .pages = 2, .context = CONTEXT, .rows = 8, .logits = 8, .top = 2, .cross = true};
    static const int32_t TOKENS[] = {3, 1, 4, 1, 5}, STARTS[] = {0, 3, 5}, TARGETS[] = {1, 4, 9, 5, 9};
    static const char *const ROWS[] = {"row 2", "row 1", "row 0"};
    const gpt2_texts texts = {5, 2, TOKENS, STARTS, TARGETS};
    small s;
    gpt2_run *run = NULL, *observer = NULL;
    gpt2_scores got;
    const int32_t *drawn;
    char says[96];
    tdm_err why = {0};
    make_small(&s, 0);
    RANKS_OK(gpt2_open(&s.be, s.f.ck, &s.f.config, true, &s.m, err));
    s.ops.alloc = used_memory;
    RANKS_OK(gpt2_run_open(s.m, &limits, &run, err));
    RANKS_OK(gpt2_run_open(s.m, &limits, &observer, err));
    for (int32_t slot = 0; slot < 2; slot++)
        RANKS_OK(gpt2_start(run, slot, &(gpt2_next){1, 0, 9, {.top_p = 1}}, err));
    RANKS_OK(gpt2_decode(run, (int32_t[]){1}, 1, 1, err)); /* slot 0 has not been drawn for */
    RANKS_OK(gpt2_drawn(run, 1, &drawn, err));
    s.ops.sample = sample_otherwise;
    RANKS_OK(gpt2_decode(run, (int32_t[]){0, 1}, 2, 0, err));
    assert_int_equal(gpt2_drawn(run, 0, &drawn, &why), TDM_EINTERNAL);
    snprintf(says, sizeof says, "rank 1 drew %d in slot 1, rank 0 drew %d", (int)(drawn[1] ^ 1), (int)drawn[1]);
    assert_string_equal(why.msg, says);
    for (int i = 0; i < 3; i++) {
        s.ops.token_stats = i == 0 ? judge_otherwise : cpu_ops->token_stats;
        s.ops.top_tokens = i == 1 ? top_otherwise : cpu_ops->top_tokens;
        s.ops.cross_stats = i == 2 ? cross_otherwise : cpu_ops->cross_stats;
        RANKS_OK(gpt2_score(run, observer, &texts, 1, err));
        assert_int_equal(gpt2_scored(run, 1, &got, &why), TDM_EINTERNAL);
        snprintf(says, sizeof says, "rank 1 scored %s otherwise than rank 0", ROWS[i]);
        assert_string_equal(why.msg, says);
    }
    gpt2_run_close(observer);
    gpt2_run_close(run);
    drop_small(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_one_alone),
        cmocka_unit_test(every_time),
        cmocka_unit_test(scratch_is_planned),
        cmocka_unit_test(refused),
        cmocka_unit_test(one_rank_fails),
        cmocka_unit_test(ranks_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
