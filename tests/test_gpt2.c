/* GPT-2 against its forward pass in double (tests/tiny_gpt2.h); cached against recomputed, alone
 * against in company, bit by bit; the variants of files, and what must be refused. */
#include <math.h>

#include "tests/gpt2_subject.h"

/* The largest difference over the largest value wanted; infinity when anything is not finite. */
static double worst(const float *got, const double *want, size_t n)
{
    double difference = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]) || !isfinite(want[i]))
            return INFINITY;
        difference = fmax(difference, fabs((double)got[i] - want[i]));
        largest = fmax(largest, fabs(want[i]));
    }
    return difference / largest;
}

/* ---- against the forward pass in double ---- */

static const struct {
    const char *why;
    tiny_gpt2 model;
    tdm_dtype dtype;
} MODELS[] = {
    {"one head", {.layers = 1, .heads = 1, .positions = POSITIONS}, TDM_F32},
    {"three heads, two layers, prefix", {.layers = 2, .heads = 3, .positions = POSITIONS, .prefix = "transformer."}, TDM_F32},
    {"five heads, untied", {.layers = 2, .heads = 5, .positions = POSITIONS, .untied = true}, TDM_F32},
    {"untied, prefix, masks", {.layers = 1, .heads = 1, .positions = POSITIONS, .untied = true, .masks = true, .prefix = "transformer."}, TDM_F32},
    {"f16 file", {.layers = 2, .heads = 1, .positions = POSITIONS, .masks = true}, TDM_F16},
    {"bf16 file", {.layers = 2, .heads = 1, .positions = POSITIONS}, TDM_BF16},
};

/* Arithmetic in f32: 2^-24 an operation, some hundred of them in a row of sums that grow. */
static const double TOLERANCE = 0x1p-18;

static void test_against_double(void **state)
{
    (void)state;
    static double want[POSITIONS * V];
    static float got[POSITIONS * V];
    for (size_t i = 0; i < sizeof MODELS / sizeof *MODELS; i++) {
        tiny_gpt2 m = MODELS[i].model;
        loaded l;
        int32_t tokens[POSITIONS];
        tiny_gpt2_make(&m, 100 + i);
        load(&l, &m, MODELS[i].dtype);
        random_tokens(tokens, POSITIONS, i);
        tiny_gpt2_logits(&m, tokens, POSITIONS, want);
        gpt2_run *run = open_run(&l, 1, POSITIONS);
        feed(run, tokens, 0, POSITIONS, 0, got);
        const double off = worst(got, want, POSITIONS * V);
        if (!(off <= TOLERANCE))
            fail_msg("%s: off by %.2e of the largest logit", MODELS[i].why, off);
        gpt2_run_close(run);
        unload(&l);
        tiny_gpt2_free(&m);
    }
}

/* ---- bit by bit ---- */

/* The whole text at once, token by token, in other cuts, slots and numbers of threads. */
static void test_any_cut_gives_the_same_bits(void **state)
{
    (void)state;
    static float whole[POSITIONS * V], parts[POSITIONS * V];
    static const int32_t CUTS[][6] = {{63, 64, 65, 128, 129, POSITIONS},
                                      {20, 21, 140, 141, 199, POSITIONS},
                                      {1, 2, 62, 126, 190, POSITIONS}};
    tiny_gpt2 m = {.layers = 2, .heads = 3, .positions = POSITIONS};
    int32_t tokens[POSITIONS];
    tiny_gpt2_make(&m, 7);
    random_tokens(tokens, POSITIONS, 8);
    for (int threads = 1; threads <= 3; threads++) {
        loaded l;
        load_with(&l, &m, TDM_F32, threads);
        gpt2_run *run = open_run(&l, 3, POSITIONS);
        feed(run, tokens, 0, POSITIONS, 2, threads == 1 ? whole : parts);
        if (threads > 1)
            assert_memory_equal(parts, whole, sizeof whole);
        for (int32_t i = 0; i < POSITIONS; i++)
            feed(run, tokens, i, i + 1, 1, parts + i * V);
        assert_memory_equal(parts, whole, sizeof whole);
        for (size_t c = 0; c < sizeof CUTS / sizeof *CUTS; c++) {
            int32_t from = 0;
            memset(parts, 0, sizeof parts);
            for (int k = 0; k < 6; from = CUTS[c][k++])
                feed(run, tokens, from, CUTS[c][k], 0, parts + from * V);
            assert_memory_equal(parts, whole, sizeof whole);
        }
        gpt2_run_close(run);
        unload(&l);
    }
    tiny_gpt2_free(&m);
}

enum { COMPANY = 9 };

/* Texts of different lengths in one step, each in some slot: a prompt, single tokens, chunks. */
static void feed_company(gpt2_run *run, int32_t tokens[COMPANY][POSITIONS], const int32_t *fed,
                         const int32_t *more, float out[COMPANY][V])
{
    int32_t flat[COMPANY * POSITIONS], positions[COMPANY * POSITIONS], starts[COMPANY + 1] = {0};
    int32_t slots[COMPANY], last[COMPANY], n = 0;
    tdm_mat logits;
    tdm_err err = {0};
    for (int t = 0; t < COMPANY; t++) {
        for (int32_t i = 0; i < more[t]; i++, n++) {
            flat[n] = tokens[t][fed[t] + i];
            positions[n] = fed[t] + i;
        }
        slots[t] = COMPANY - 1 - t;
        last[t] = n - 1;
        starts[t + 1] = n;
    }
    const gpt2_step step = {n, COMPANY, COMPANY, flat, positions, starts, slots, last};
    if (gpt2_forward(run, &step, &logits, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    copy_logits(out[0], logits);
}

static void test_company_does_not_matter(void **state)
{
    (void)state;
    static int32_t tokens[COMPANY][POSITIONS];
    static float together[2][COMPANY][V], alone[POSITIONS * V];
    const int32_t none[COMPANY] = {0}, first[COMPANY] = {1, 140, 3, 63, 64, 65, 2, 127, 1};
    const int32_t second[COMPANY] = {1, 1, 130, 1, 1, 135, 1, 2, 199};
    tiny_gpt2 m = {.layers = 2, .heads = 3, .positions = POSITIONS};
    loaded l;
    tiny_gpt2_make(&m, 9);
    load(&l, &m, TDM_F32);
    for (int t = 0; t < COMPANY; t++)
        random_tokens(tokens[t], POSITIONS, 50 + (uint64_t)t);
    gpt2_run *run = open_run(&l, COMPANY, COMPANY * POSITIONS);
    feed_company(run, tokens, none, first, together[0]);
    feed_company(run, tokens, first, second, together[1]);
    for (int t = 0; t < COMPANY; t++) {
        feed(run, tokens[t], 0, first[t] + second[t], 0, alone);
        assert_memory_equal(alone + (first[t] - 1) * V, together[0][t], V * sizeof(float));
        assert_memory_equal(alone + (first[t] + second[t] - 1) * V, together[1][t], V * sizeof(float));
    }
    gpt2_run_close(run);
    unload(&l);
    tiny_gpt2_free(&m);
}

/* ---- files ---- */

/* Change a model's list of tensors. */
static void rename_tensor(tiny_gpt2 *m, const char *from, const char *to)
{
    for (int i = 0; i < m->list.n_tensors; i++)
        if (!strcmp(m->list.tensors[i].name, from))
            snprintf(m->list.tensors[i].name, sizeof m->list.tensors[i].name, "%s", to);
}

static void add_junk(tiny_gpt2 *m, const char *name)
{
    uint64_t state = 1;
    tiny_add(&m->list, &state, 4, 0, 1.f, 0.f, "%s", name);
}

static void spoil(tiny_gpt2 *m, const char *name)
{
    tiny_find(&m->list, name)->p[3] = NAN;
}

static void cut_row(tiny_gpt2 *m, const char *name)
{
    for (int i = 0; i < m->list.n_tensors; i++)
        if (!strcmp(m->list.tensors[i].name, name))
            m->list.tensors[i].rows--;
}

static const struct {
    const char *why;
    void (*change)(tiny_gpt2 *m, const char *name);
    const char *name;
    const char *message; /* what the error must hold; NULL: it loads */
} FILES[] = {
    {"a missing tensor", NULL, "h.1.mlp.c_fc.bias", "h.1.mlp.c_fc.bias"},
    {"no word table", NULL, "wte.weight", "wte.weight"},
    {"no last norm", NULL, "ln_f.bias", "ln_f.bias"},
    {"a row less", cut_row, "h.0.attn.c_attn.weight", "h.0.attn.c_attn.weight"},
    {"a word less", cut_row, "wte.weight", "wte.weight"},
    {"NaN in a matrix", spoil, "h.1.attn.c_proj.weight", "h.1.attn.c_proj.weight"},
    {"NaN in a norm", spoil, "h.0.ln_2.weight", "h.0.ln_2.weight"},
    {"cross attention", add_junk, "h.0.crossattention.c_attn.bias", "h.0.crossattention.c_attn.bias"},
    {"a classifier", add_junk, "score.weight", "score.weight"},
    {"a third layer", add_junk, "h.2.ln_1.weight", "h.2.ln_1.weight"},
    {"not quite the mask", add_junk, "h.0.attn.bias2", "h.0.attn.bias2"},
    {"not a layer's number", add_junk, "h.x.attn.bias", "h.x.attn.bias"},
    {"no number", add_junk, "h..attn.bias", "h..attn.bias"},
    {"the mask", add_junk, "h.0.attn.bias", NULL},
    {"the other mask", add_junk, "h.1.attn.masked_bias", NULL},
};

static void test_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        tiny_gpt2 m = {.layers = 2, .heads = 1, .positions = 8};
        loaded l = {0};
        tdm_err err = {0};
        tiny_gpt2_make(&m, i);
        if (FILES[i].change)
            FILES[i].change(&m, FILES[i].name);
        else /* the last one takes its place */
            for (int k = 0; k < m.list.n_tensors; k++)
                if (!strcmp(m.list.tensors[k].name, FILES[i].name)) {
                    free(m.list.tensors[k].p);
                    m.list.tensors[k] = m.list.tensors[--m.list.n_tensors];
                    break;
                }
        tiny_gpt2_write(&m, l.dir, TDM_F32);
        assert_int_equal(tdm_open_cpu(1, &l.be, &err), TDM_OK);
        const tdm_status st = try_load(&l, &err);
        if (FILES[i].message ? st != TDM_EFORMAT || !strstr(err.msg, FILES[i].message) : st != TDM_OK)
            fail_msg("%s: status %d, %s", FILES[i].why, (int)st, err.msg);
        assert_true((l.model != NULL) == (st == TDM_OK));
        unload(&l);
        tiny_gpt2_free(&m);
    }
}

/* A tied file that holds lm_head.weight alone, or both: the config decides. */
static void test_word_names(void **state)
{
    (void)state;
    static double want[8 * V];
    static float got[8 * V];
    for (int i = 0; i < 4; i++) {
        const bool alone = i % 2;
        tiny_gpt2 m = {.layers = 1, .heads = 1, .positions = POSITIONS};
        m.prefix = i / 2 ? "transformer." : ""; /* which lm_head.weight never has */
        loaded l;
        int32_t tokens[8];
        tiny_gpt2_make(&m, 3);
        random_tokens(tokens, 8, 4);
        tiny_gpt2_logits(&m, tokens, 8, want);
        if (alone)
            rename_tensor(&m, "wte.weight", "lm_head.weight");
        else
            add_junk(&m, "lm_head.weight"); /* of another shape: not looked at */
        load(&l, &m, TDM_F32);
        gpt2_run *run = open_run(&l, 1, 8);
        feed(run, tokens, 0, 8, 0, got);
        assert_true(worst(got, want, 8 * V) <= TOLERANCE);
        gpt2_run_close(run);
        unload(&l);
        tiny_gpt2_free(&m);
    }
}

/* ---- the list of tensors ---- */

typedef struct {
    const tdm_checkpoint *ck;
    int *seen, n;
} listed;

static tdm_status see(void *ctx, const char *name, tdm_slice rows, tdm_slice cols, tdm_tensor_role role)
{
    listed *l = ctx;
    const tdm_tensor *t = NULL;
    tdm_err err = {0};
    if (tdm_checkpoint_expect(l->ck, name, rows.size, cols.size, &t, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    assert_true(cols.size || role == TDM_AS_F32 || role == TDM_AS_BIAS);
    l->seen[t - tdm_checkpoint_at(l->ck, 0)]++;
    l->n++;
    return l->n == 1000 ? TDM_EARG : TDM_OK;
}

/* Every tensor of a folder is listed with its name and shape, the tied words twice, or ignored. */
static void test_list(void **state)
{
    (void)state;
    for (int form = 0; form < 8; form++) {
        tiny_gpt2 m = {.layers = 2, .heads = 1, .positions = 8, .untied = form & 1, .masks = form & 2,
                       .prefix = form & 4 ? "transformer." : ""};
        tdm_config config;
        tdm_checkpoint *ck = NULL;
        char dir[TINY_PATH];
        int seen[TINY_TENSORS] = {0};
        tiny_gpt2_make(&m, 1);
        tiny_gpt2_write(&m, dir, TDM_F32);
        assert_int_equal(tdm_config_load(dir, &config, NULL), TDM_OK);
        assert_int_equal(tdm_checkpoint_open(dir, &ck, NULL), TDM_OK);
        listed l = {ck, seen, 0};
        assert_int_equal(gpt2_each_tensor(ck, &config, 0, 0, see, &l), TDM_OK);
        assert_int_equal(l.n, 2 + 3 + 2 * 12);
        for (size_t i = 0; i < tdm_checkpoint_count(ck); i++) {
            const char *name = tdm_checkpoint_at(ck, i)->name;
            const bool tied_words = !m.untied && strstr(name, "wte.weight");
            const bool mask = strstr(name, ".attn.bias") || strstr(name, "masked_bias");
            assert_int_equal(seen[i], mask ? 0 : tied_words ? 2 : 1);
            assert_int_equal(gpt2_ignores(name), mask || !strcmp(name, "lm_head.weight"));
        }
        l.n = 1000 - 5; /* the fifth call fails, and is the last */
        assert_int_equal(gpt2_each_tensor(ck, &config, 0, 0, see, &l), TDM_EARG);
        assert_int_equal(l.n, 1000);
        tdm_checkpoint_close(ck);
        tiny_roberta_remove(dir);
        tiny_gpt2_free(&m);
    }
}

/* ---- limits and bad steps ---- */

static void test_bad_limits(void **state)
{
    (void)state;
    static const gpt2_limits LIMITS[] = {
        {.slots = 0, .pages = 1, .context = 8, .rows = 8, .logits = 1},
        {.slots = -1, .pages = 1, .context = 8, .rows = 8, .logits = 1},
        {.slots = 1, .pages = 0, .context = 8, .rows = 8, .logits = 1},
        {.slots = 4, .pages = 4, .context = 8, .rows = 3, .logits = 1},
        {.slots = 1, .pages = 1, .context = 8, .rows = 8, .logits = 0},
        {.slots = 1, .pages = 1, .context = 8, .rows = 8, .logits = 9},
        {.slots = 1, .pages = 1, .context = 0, .rows = 8, .logits = 1},
        {.slots = 1, .pages = 9, .context = POSITIONS + 1, .rows = 8, .logits = 1},
        {.slots = 300000, .pages = 9, .context = 8, .rows = 300000, .logits = 1},
    };
    tiny_gpt2 m = {.layers = 1, .heads = 1, .positions = POSITIONS};
    loaded l;
    tiny_gpt2_make(&m, 1);
    load(&l, &m, TDM_F32);
    for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++) {
        gpt2_run *run = NULL;
        tdm_err err = {0};
        assert_int_equal(gpt2_run_open(l.model, &LIMITS[i], &run, &err), TDM_EARG);
        assert_null(run);
    }
    unload(&l);
    tiny_gpt2_free(&m);
}

static void test_bad_steps(void **state)
{
    (void)state;
    /* one text of two rows; each case has one thing wrong */
    static const struct {
        const char *why;
        int32_t n_rows, n_seqs, n_logits, tokens[2], positions[2], starts[2], slot, logit_row;
    } STEPS[] = {
        {"no rows", 0, 1, 1, {0, 0}, {0, 1}, {0, 0}, 0, 0},
        {"more rows than planned", 3, 1, 1, {0, 0}, {0, 1}, {0, 3}, 0, 0},
        {"more texts than slots", 2, 2, 1, {0, 0}, {0, 1}, {0, 2}, 0, 0},
        {"token below", 2, 1, 1, {0, -1}, {0, 1}, {0, 2}, 0, 0},
        {"token beyond", 2, 1, 1, {V, 0}, {0, 1}, {0, 2}, 0, 0},
        {"position below", 2, 1, 1, {0, 0}, {-1, 0}, {0, 2}, 0, 0},
        {"position beyond", 2, 1, 1, {0, 0}, {7, 8}, {0, 2}, 0, 0},
        {"slot beyond", 2, 1, 1, {0, 0}, {0, 1}, {0, 2}, 1, 0},
        {"rows that belong to no text", 2, 1, 1, {0, 0}, {0, 1}, {0, 1}, 0, 0},
        {"logits of no row", 2, 1, 1, {0, 0}, {0, 1}, {0, 2}, 0, 2},
        {"more logits than planned", 2, 1, 2, {0, 0}, {0, 1}, {0, 2}, 0, 0},
    };
    tiny_gpt2 m = {.layers = 1, .heads = 1, .positions = POSITIONS};
    loaded l;
    gpt2_run *run = NULL;
    tdm_mat logits;
    tiny_gpt2_make(&m, 1);
    load(&l, &m, TDM_F32);
    const gpt2_limits limits = {.slots = 1, .pages = 1, .context = 8, .rows = 2, .logits = 1};
    assert_int_equal(gpt2_run_open(l.model, &limits, &run, NULL), TDM_OK);
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        tdm_err err = {0};
        const gpt2_step step = {STEPS[i].n_rows, STEPS[i].n_seqs, STEPS[i].n_logits,
                                STEPS[i].tokens, STEPS[i].positions, STEPS[i].starts,
                                &STEPS[i].slot, &STEPS[i].logit_row};
        if (gpt2_forward(run, &step, &logits, &err) != TDM_EARG)
            fail_msg("%s was accepted", STEPS[i].why);
    }
    gpt2_run_close(run);
    unload(&l);
    tiny_gpt2_free(&m);
}

static void test_bytes(void **state)
{
    (void)state;
    const tdm_config xl = {.n_layer = 48, .n_head = 25, .n_embd = 1600, .n_inner = 6400,
                           .n_vocab = 50257, .n_position = 1024, .n_context = 1024};
    size_t cache = 0, scratch = 0;
    tdm_backend be;
    const gpt2_limits one = {.slots = 1, .pages = 16, .context = 1024, .rows = 1, .logits = 1};
    assert_int_equal(tdm_open_cpu(1, &be, NULL), TDM_OK);
    assert_true(gpt2_run_bytes(&be, &xl, &one, &cache, &scratch));
    assert_int_equal(cache, (size_t)2 * 307200 * 1024); /* 307,200 bytes a token in f16 */
    assert_true(scratch > 50257 * 4 && scratch < 2 * 50257 * 4);
    assert_int_equal(scratch % 256, 0);
    tdm_backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_any_cut_gives_the_same_bits),
        cmocka_unit_test(test_company_does_not_matter),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_word_names),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_bad_limits),
        cmocka_unit_test(test_bad_steps),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
