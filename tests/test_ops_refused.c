/* Bad arguments: what every operation refuses, with the place and the value. */
#include "host/ranks.h"
#include "tests/ops_reference.h"

static void refuses_linear(tdm_backend *be)
{
    float x[12] = {0}, y[12] = {0};
    tdm_weight *w = NULL;
    ASSERT_FAILS(tdm_weight_open(be, x, TDM_F32, 0, 4, TDM_IN_OUT, &w, err), TDM_EARG, "0 x 4");
    ASSERT_FAILS(tdm_weight_open(be, NULL, TDM_F32, 3, 4, TDM_IN_OUT, &w, err), TDM_EARG, "NULL");
    ASSERT_OK(tdm_weight_open(be, x, TDM_F32, 3, 4, TDM_IN_OUT, &w, err));
    const tdm_mat bias = mat(y, 1, 3), half = {x, 1, 3, TDM_F16, 0},
                  null = {NULL, 1, 3, TDM_F32, 0};
    ASSERT_FAILS(tdm_linear(be, mat(y, 2, 4), mat(x, 1, 3), w, NULL, TDM_LINEAR, err), TDM_EARG,
                 "y has 2 rows, want 1");
    ASSERT_FAILS(tdm_linear(be, mat(y, 1, 4), mat(x, 1, 4), w, NULL, TDM_LINEAR, err), TDM_EARG,
                 "x has 4 columns, want 3");
    ASSERT_FAILS(tdm_linear(be, mat(y, 1, 4), mat(x, 1, 3), w, &bias, TDM_LINEAR, err), TDM_EARG,
                 "bias has 3 columns, want 4");
    ASSERT_FAILS(tdm_linear(be, mat(y, 1, 4), half, w, NULL, TDM_LINEAR, err), TDM_EARG, "f16");
    ASSERT_FAILS(tdm_linear(be, mat(y, 1, 4), null, w, NULL, TDM_LINEAR, err), TDM_EARG, "NULL");
    ASSERT_FAILS(tdm_linear(be, mat(x, 1, 4), mat(x, 1, 3), w, NULL, TDM_LINEAR, err), TDM_EARG,
                 "y is x");
    ASSERT_FAILS(tdm_linear(be, mat(y, 1, 4), mat(x, 1, 3), w, NULL, (tdm_epilogue)9, err),
                 TDM_EARG, "epilogue 9");
    ASSERT_FAILS(tdm_linear(be, mat(y, 1, 4), mat(x, 1, 3), NULL, NULL, TDM_LINEAR, err), TDM_EARG,
                 "no weight");
    ASSERT_OK(tdm_linear(be, mat(NULL, 0, 4), mat(NULL, 0, 3), w, NULL, TDM_LINEAR, err));
    tdm_weight_close(be, w);
    tdm_weight_close(be, NULL);
}

static void refuses_rows(tdm_backend *be)
{
    float x[192] = {0}, y[192] = {0};
    const int32_t tokens[] = {1, 4}, positions[] = {0, 1};
    const int32_t starts[] = {0, 2};
    tdm_step step = {.n_rows = 2, .n_seqs = 1, .tokens = tokens, .positions = positions,
                     .starts = starts};
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, mat(x, 4, 4), 0, mat(x, 4, 4), 0, err), TDM_EARG,
                 "embed: row 1: token 4, want 0 to 3");
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, mat(x, 5, 4), 0, mat(x, 3, 4), 2, err), TDM_EARG,
                 "row 1: position 3, want 0 to 2");
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, mat(x, 5, 3), 0, mat(x, 3, 4), 2, err), TDM_EARG,
                 "words has 3 columns, want 4");
    ASSERT_FAILS(tdm_add_norm(be, mat(y, 2, 4), mat(x, 2, 4), NULL, mat(x, 1, 4), mat(x, 1, 3),
                              1e-5f, TDM_PRE_NORM, err), TDM_EARG, "beta has 3 columns");
    ASSERT_FAILS(tdm_add_norm(be, mat(y, 2, 4), mat(x, 2, 4), NULL, mat(x, 1, 4), mat(x, 1, 4), 0,
                              TDM_PRE_NORM, err), TDM_EARG, "eps is 0");
    ASSERT_FAILS(tdm_add_norm(be, mat(x, 2, 4), mat(x, 2, 4), NULL, mat(y, 1, 4), mat(y, 1, 4),
                              1e-5f, TDM_PRE_NORM, err), TDM_EARG, "y is x");
    ASSERT_FAILS(tdm_sample(be, &(tdm_slots){0}, NULL, mat(x, 1, 4), 0, err), TDM_EARG, "no slots");
    ASSERT_FAILS(tdm_classify(be, mat(y, 1, 33), mat(x, 1, 4), mat(x, 33, 4), mat(x, 1, 33), err),
                 TDM_EARG, "33 labels, want 1 to 32");
    ASSERT_FAILS(tdm_classify(be, mat(y, 1, 3), mat(x, 1, 4), mat(x, 2, 4), mat(x, 1, 2), err),
                 TDM_EARG, "y has 3 columns, want 2");
    step.starts = NULL;
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, mat(x, 5, 4), 0, mat(x, 3, 4), 0, err), TDM_EARG,
                 "no starts and no slots");
    step.slots = tokens;
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, mat(x, 5, 4), 0, mat(x, 3, 4), 0, err), TDM_EARG,
                 "a decoding step of 2 rows in 1 texts");
    tdm_mat gaps = mat(x, 2, 4);
    gaps.stride = 5;
    ASSERT_FAILS(tdm_gather(be, mat(y, 1, 4), gaps, positions, err), TDM_EARG, "rows of 4 in 5");
}

static void refuses_statistics(tdm_backend *be)
{
    float x[512] = {0};
    const int32_t none[] = {-1, -1};
    tdm_cross cross[2];
    tdm_top top[128];
    tdm_mat gaps = mat(x, 2, 4), half = mat(x, 2, 4);
    gaps.stride = 5;
    half.dtype = TDM_F16;
    ASSERT_FAILS(tdm_token_stats(be, NULL, mat(x, 1, 4), NULL, err), TDM_EARG, "no statistics");
    ASSERT_FAILS(tdm_cross_stats(be, cross, mat(x, 2, 4), mat(x, 2, 5), none, err), TDM_EARG,
                 "cross_stats: q has 5 columns, want 4");
    ASSERT_FAILS(tdm_cross_stats(be, cross, mat(x, 2, 4), mat(x, 1, 4), none, err), TDM_EARG,
                 "q has 1 rows, want 2");
    ASSERT_FAILS(tdm_cross_stats(be, cross, gaps, mat(x, 2, 4), none, err), TDM_EARG,
                 "p has rows of 4 in 5");
    ASSERT_FAILS(tdm_cross_stats(be, cross, mat(x, 2, 4), half, none, err), TDM_EARG, "q is f16");
    ASSERT_FAILS(tdm_cross_stats(be, cross, mat(x, 2, 4), mat(NULL, 2, 4), none, err), TDM_EARG,
                 "q is NULL");
    ASSERT_FAILS(tdm_cross_stats(be, cross, mat(x, 2, 4), mat(x, 2, 4), NULL, err), TDM_EARG,
                 "no statistics or no targets");
    ASSERT_FAILS(tdm_top_tokens(be, top, 0, mat(x, 2, 4), none, err), TDM_EARG,
                 "top_tokens: 0 tokens of a row, want 1 to 64");
    ASSERT_FAILS(tdm_top_tokens(be, top, 65, mat(x, 2, 100), none, err), TDM_EARG, "65 tokens");
    ASSERT_FAILS(tdm_top_tokens(be, top, 5, mat(x, 2, 4), none, err), TDM_EARG,
                 "5 tokens of a row of 4");
    ASSERT_FAILS(tdm_top_tokens(be, top, 1, half, none, err), TDM_EARG, "logits is f16");
    ASSERT_FAILS(tdm_top_tokens(be, top, 1, gaps, none, err), TDM_EARG, "logits has rows of 4 in 5");
    ASSERT_FAILS(tdm_top_tokens(be, NULL, 1, mat(x, 2, 4), none, err), TDM_EARG, "no room");
    ASSERT_OK(tdm_cross_stats(be, NULL, mat(NULL, 0, 4), mat(NULL, 0, 4), NULL, err));
    ASSERT_OK(tdm_top_tokens(be, NULL, 4, mat(NULL, 0, 4), NULL, err));
}

/* What only a rank may do, and what it may not. */
static void refuses_as_rank(const tdm_backend *be)
{
    float x[512] = {0}, y[512] = {0};
    const int32_t tokens[] = {-7, 9}, positions[] = {0, 1}, starts[] = {0, 2};
    const tdm_step step = {.n_rows = 2, .n_seqs = 1, .tokens = tokens, .positions = positions, .starts = starts};
    const tdm_mat none = {.cols = 4}, places = mat(x, 2, 4);
    tdm_mat half = mat(y, 2, 4), gaps = mat(y, 2, 4);
    half.dtype = TDM_F16;
    gaps.stride = 5;
    ASSERT_OK(tdm_embed(be, mat(y, 2, 4), &step, none, 100, places, 0, err));
    ASSERT_OK(tdm_embed(be, mat(y, 2, 4), &step, mat(x, 5, 4), 100, (tdm_mat){0}, 0, err));
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, none, -1, places, 0, err), TDM_EARG, "the first word is -1");
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, mat(NULL, 5, 4), 0, places, 0, err), TDM_EARG, "words is NULL");
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, none, 0, places, 1, err), TDM_EARG, "row 1: position 2, want 0 to 1");
    ASSERT_FAILS(tdm_embed(be, mat(y, 2, 4), &step, none, 0, mat(x, 2, 3), 0, err), TDM_EARG,
                 "positions has 3 columns, want 4");
    ASSERT_FAILS(tdm_sum_ranks(be, half, err), TDM_EARG, "sum_ranks: y is f16, want f32");
    ASSERT_FAILS(tdm_sum_ranks(be, gaps, err), TDM_EARG, "y has rows of 4 in 5");
    ASSERT_FAILS(tdm_sum_ranks(be, mat(NULL, 2, 4), err), TDM_EARG, "y is NULL");
    ASSERT_OK(tdm_sum_ranks(be, mat(NULL, 0, 4), err));
    ASSERT_FAILS(tdm_join_ranks(be, mat(y, 2, 5), mat(x, 2, 4), err), TDM_EARG,
                 "join_ranks: 1 ranks of 4 columns, y has 5");
    ASSERT_FAILS(tdm_join_ranks(be, mat(y, 1, 4), mat(x, 2, 4), err), TDM_EARG, "y has 1 rows, want 2");
    ASSERT_FAILS(tdm_join_ranks(be, gaps, mat(x, 2, 4), err), TDM_EARG, "y has rows of 4 in 5");
    ASSERT_FAILS(tdm_join_ranks(be, mat(x, 2, 4), gaps, err), TDM_EARG, "x has rows of 4 in 5");
    ASSERT_FAILS(tdm_join_ranks(be, mat(x, 2, 4), half, err), TDM_EARG, "x is f16, want f32");
    ASSERT_FAILS(tdm_join_ranks(be, mat(x, 2, 4), mat(x, 2, 4), err), TDM_EARG, "y is x");
}

static void refuses_ranks(tdm_backend *be)
{
    float x[8] = {0}, y[8] = {0};
    const int32_t tokens[] = {0}, starts[] = {0, 1};
    const tdm_step step = {.n_rows = 1, .n_seqs = 1, .tokens = tokens, .positions = tokens, .starts = starts};
    const tdm_mat none = {.cols = 4};
    ASSERT_OK(tdm_sum_ranks(be, none, err)); /* nothing happens */
    ASSERT_FAILS(tdm_join_ranks(be, mat(y, 1, 4), mat(x, 1, 4), err), TDM_EARG, "join_ranks: this backend is no rank");
    ASSERT_FAILS(tdm_embed(be, mat(y, 1, 4), &step, mat(x, 1, 4), 1, mat(x, 1, 4), 0, err), TDM_EARG,
                 "the first word is 1");
    ASSERT_FAILS(tdm_embed(be, mat(y, 1, 4), &step, none, 0, mat(x, 1, 4), 0, err), TDM_EARG,
                 "tables of 0 and 1 rows");
    ASSERT_FAILS(tdm_embed(be, mat(y, 1, 4), &step, mat(x, 1, 4), 0, none, 0, err), TDM_EARG,
                 "tables of 1 and 0 rows");
    ASSERT_FAILS(tdm_embed(be, mat(y, 1, 4), &step, mat(x, 1, 4), 0, mat(NULL, 1, 4), 0, err), TDM_EARG,
                 "positions is NULL");
    tdm_backend ranks;
    ASSERT_OK(tdm_open_cpu_ranks(1, 1, &ranks, err));
    refuses_as_rank(tdm_rank_backend(&ranks, 0)); /* one rank waits for nobody, on whatever thread */
    tdm_backend_close(&ranks);
}

static void refuses_memory(tdm_backend *be)
{
    char y[4];
    assert_true(tdm_backend_memory(be) > 0);
    assert_false(tdm_has_graphs(be));
    void *p = NULL;
    ASSERT_FAILS(tdm_alloc(be, SIZE_MAX - 3, &p, err), TDM_ENOMEM, "18446744073709551612 bytes");
    assert_null(p);
    ASSERT_OK(tdm_alloc(be, 5, &p, err));
    assert_int_equal((uintptr_t)p % 256, 0);
    ASSERT_OK(tdm_upload(be, p, "abc", 4, err));
    ASSERT_OK(tdm_download(be, y, p, 4, err));
    ASSERT_OK(tdm_sync(be, err));
    assert_string_equal(y, "abc");
    tdm_release(be, p);
    tdm_release(be, NULL);
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    tdm_backend be;
    ASSERT_FAILS(tdm_open_cpu(-1, &be, err), TDM_EARG, "-1 threads");
    ASSERT_FAILS(tdm_open_cuda(&(tdm_cuda_options){.device = 9999}, &be, err), TDM_ENODEV,
                 "cuda"); /* with a GPU, without one, without a driver, without CUDA */
    ASSERT_OK(tdm_open_cpu(0, &be, err));
    refuses_linear(&be);
    refuses_rows(&be);
    refuses_statistics(&be);
    refuses_ranks(&be);
    refuses_memory(&be);
    tdm_backend_close(&be);
    tdm_backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
