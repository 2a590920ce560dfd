/* Files of the detector: their forms, the list of their tensors, and what is refused by name. */
#include "tests/roberta_subject.h"

static tiny_tensor *tensor(tiny_roberta *m, const char *name)
{
    return &m->tensors[tiny_find(m, name) - m->tensors];
}

/* Give names that end in `from` the end `to`. */
static void rename_all(tiny_roberta *m, const char *from, const char *to)
{
    for (int i = 0; i < m->n_tensors; i++) {
        char *at = strstr(m->tensors[i].name, from);
        if (at)
            strcpy(at, to);
    }
}

/* Files that differ in form alone give the same logits. */
static void test_forms_of_files(void **state)
{
    (void)state;
    int32_t ids[20];
    float want[2], got[2];
    tdm_err err = {0};
    subject plain, other = {0};
    make_text(1, ids, 20);
    subject_open(&plain, 2, 1, "roberta.", TDM_F32, 1);
    classify_one(&plain, ids, 20, want);

    uint64_t random = 9;
    tiny_roberta_make(&other.tiny, 2, 1, 7);
    tiny_add(&other.tiny, &random, 64, 64, 1.f, 0.f, "pooler.dense.weight");
    tiny_add(&other.tiny, &random, 64, 0, 1.f, 0.f, "pooler.dense.bias");
    tiny_add(&other.tiny, &random, 1, 50, 1.f, 0.f, "embeddings.position_ids");
    rename_all(&other.tiny, "LayerNorm.weight", "LayerNorm.gamma");
    rename_all(&other.tiny, "LayerNorm.bias", "LayerNorm.beta");
    if (try_open(&other, "roberta.", TDM_F32, 1, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    classify_one(&other, ids, 20, got);
    assert_memory_equal(got, want, sizeof got);
    subject_close(&plain);
    subject_close(&other);
}

static void name_as_language_model(tiny_roberta *m)
{
    rename_all(m, "classifier.dense.weight", "lm_head.dense.weight");
    rename_all(m, "classifier.dense.bias", "lm_head.dense.bias");
    rename_all(m, "classifier.out_proj.weight", "lm_head.decoder.weight");
    rename_all(m, "classifier.out_proj.bias", "lm_head.decoder.bias");
}
static void remove_head(tiny_roberta *m)
{
    rename_all(m, "classifier.dense.weight", "pooler.dense.weight");
}
static void remove_key(tiny_roberta *m)
{
    strcpy(tensor(m, "encoder.layer.1.attention.self.key.weight")->name, "pooler.dense.weight");
}
static void reshape(tiny_roberta *m)
{
    tensor(m, "encoder.layer.0.output.dense.weight")->rows = 32;
    tensor(m, "encoder.layer.0.output.dense.weight")->cols = 192;
}
static void three_labels(tiny_roberta *m)
{
    tiny_tensor *t = tensor(m, "classifier.out_proj.weight");
    t->rows = 1;
    t->cols = 128;
}
static void add_infinity(tiny_roberta *m)
{
    tensor(m, "encoder.layer.1.intermediate.dense.weight")->p[70] = INFINITY;
}
static void add_nan_to_type(tiny_roberta *m)
{
    tensor(m, "embeddings.token_type_embeddings.weight")->p[3] = NAN;
}
static void add_stranger(tiny_roberta *m)
{
    uint64_t random = 1;
    tiny_add(m, &random, 2, 2, 1.f, 0.f, "encoder.layer.2.extra.weight");
}

static void test_refused_files(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        void (*spoil)(tiny_roberta *m);
        const char *message;
    } CASES[] = {
        {"a language model", name_as_language_model, "language model"},
        {"no head at all", remove_head, "classifier.dense.weight"},
        {"a missing matrix", remove_key, "roberta.encoder.layer.1.attention.self.key.weight"},
        {"a wrong shape", reshape, "roberta.encoder.layer.0.output.dense.weight"},
        {"not two labels", three_labels, "classifier.out_proj.weight"},
        {"infinity", add_infinity, "roberta.encoder.layer.1.intermediate.dense.weight"},
        {"not a number", add_nan_to_type, "roberta.embeddings.token_type_embeddings.weight"},
        {"a tensor of another model", add_stranger, "roberta.encoder.layer.2.extra.weight"},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        tdm_err err = {0};
        subject s = {0};
        tiny_roberta_make(&s.tiny, 2, 1, 7);
        CASES[c].spoil(&s.tiny);
        const tdm_status st = try_open(&s, "roberta.", TDM_F32, 1, &err);
        print_message("%s: %s\n", CASES[c].why, err.msg);
        assert_int_equal(st, TDM_EFORMAT);
        assert_non_null(strstr(err.msg, CASES[c].message));
        assert_null(s.model);
        subject_close(&s);
    }
}

/* ---- the list of tensors ---- */

typedef struct {
    const tdm_checkpoint *ck;
    bool *seen;
    int n;
} listed;

static tdm_status see(void *ctx, const char *name, tdm_slice rows, tdm_slice cols, tdm_tensor_role role)
{
    listed *l = ctx;
    const tdm_tensor *t = NULL;
    tdm_err err = {0};
    assert_true(cols.size || role == TDM_AS_F32 || role == TDM_AS_BIAS);
    if (tdm_checkpoint_expect(l->ck, name, rows.size, cols.size, &t, &err) != TDM_OK)
        fail_msg("%s", err.msg);
    const size_t i = (size_t)(t - tdm_checkpoint_at(l->ck, 0));
    assert_false(l->seen[i]);
    l->seen[i] = true;
    l->n++;
    return l->n == 1000 ? TDM_EARG : TDM_OK;
}

/* Every tensor of a folder is listed once, with its name and shape, or ignored by name. */
static void test_list(void **state)
{
    (void)state;
    for (int form = 0; form < 4; form++) {
        const char *prefix = form % 2 ? "roberta." : "";
        tiny_roberta tiny;
        tdm_config config;
        tdm_checkpoint *ck = NULL;
        char dir[TINY_PATH];
        uint64_t random = 9;
        tiny_roberta_make(&tiny, 2, 1, 7);
        const int needed = tiny.n_tensors;
        tiny_add(&tiny, &random, 64, 64, 1.f, 0.f, "pooler.dense.weight");
        tiny_add(&tiny, &random, 64, 0, 1.f, 0.f, "pooler.dense.bias");
        tiny_add(&tiny, &random, 1, 50, 1.f, 0.f, "embeddings.position_ids");
        if (form / 2) {
            rename_all(&tiny, "LayerNorm.weight", "LayerNorm.gamma");
            rename_all(&tiny, "LayerNorm.bias", "LayerNorm.beta");
        }
        tiny_roberta_write(&tiny, dir, prefix, TDM_F32);
        assert_int_equal(tdm_config_load(dir, &config, NULL), TDM_OK);
        assert_int_equal(tdm_checkpoint_open(dir, &ck, NULL), TDM_OK);
        bool seen[TINY_TENSORS] = {false};
        listed l = {ck, seen, 0};
        assert_int_equal(roberta_each_tensor(ck, &config, 0, 0, see, &l), TDM_OK);
        assert_int_equal(l.n, needed);
        for (size_t i = 0; i < tdm_checkpoint_count(ck); i++)
            assert_int_equal(roberta_ignores(tdm_checkpoint_at(ck, i)->name), !seen[i]);
        memset(seen, 0, sizeof seen);
        l.n = 1000 - 5; /* the fifth call fails, and is the last */
        assert_int_equal(roberta_each_tensor(ck, &config, 0, 0, see, &l), TDM_EARG);
        assert_int_equal(l.n, 1000);
        tdm_checkpoint_close(ck);
        tiny_roberta_remove(dir);
        tiny_roberta_free(&tiny);
    }
}

static void test_ignored_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool ignored;
    } NAMES[] = {
        {"pooler.dense.weight", true},
        {"roberta.pooler.dense.bias", true},
        {"roberta.embeddings.position_ids", true},
        {"embeddings.position_ids", true},
        {"lm_head.layer_norm.weight", true},
        {"roberta.encoder.layer.3.pooler.dense.weight", false},
        {"my_pooler.dense.weight", false},
        {"pooler.dense.weights", false},
        {"pooler.dense.", false},
        {"roberta.roberta.pooler.dense.bias", false},
        {"roberta.embeddings.position_ids.more", false},
        {"roberta.lm_head.bias", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (roberta_ignores(NAMES[i].name) != NAMES[i].ignored)
            fail_msg("%s", NAMES[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_of_files),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_ignored_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
