/* config.json: what is read, the defaults, and everything that is refused by name and value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/config.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Keys of the two published files; `more` overrides nothing, so it must not repeat them. */
#define GPT2(more) "{\"model_type\":\"gpt2\"" more "}"
#define ROBERTA_LEAST                                                                              \
    "{\"model_type\":\"roberta\",\"max_position_embeddings\":514,\"layer_norm_eps\":1e-05,"        \
    "\"type_vocab_size\":1"
#define ROBERTA(more) ROBERTA_LEAST more "}"

static tdm_config parse(const char *text)
{
    tdm_config c;
    tdm_err err = {0};
    if (tdm_config_parse(text, strlen(text), &c, &err) != TDM_OK)
        fail_msg("%s: %s", text, err.msg);
    return c;
}

static void published_gpt2_xl(void **state)
{
    (void)state;
    const tdm_config c = parse(
        "{\"activation_function\": \"gelu_new\", \"architectures\": [\"GPT2LMHeadModel\"],\n"
        "\"attn_pdrop\": 0.1, \"bos_token_id\": 50256, \"embd_pdrop\": 0.1,\n"
        "\"eos_token_id\": 50256, \"initializer_range\": 0.02, \"layer_norm_epsilon\": 1e-05,\n"
        "\"model_type\": \"gpt2\", \"n_ctx\": 1024, \"n_embd\": 1600, \"n_head\": 25,\n"
        "\"n_layer\": 48, \"n_positions\": 1024, \"output_past\": true, \"resid_pdrop\": 0.1,\n"
        "\"summary_activation\": null, \"summary_type\": \"cls_index\",\n"
        "\"task_specific_params\": {\"text-generation\": {\"do_sample\": true}},\n"
        "\"vocab_size\": 50257}");
    assert_int_equal(c.arch, TDM_GPT2);
    assert_int_equal(c.n_layer, 48);
    assert_int_equal(c.n_head, 25);
    assert_int_equal(c.n_embd, 1600);
    assert_int_equal(c.n_inner, 6400);
    assert_int_equal(c.n_vocab, 50257);
    assert_int_equal(c.n_position, 1024);
    assert_int_equal(c.n_context, 1024);
    assert_true(c.norm_eps == 1e-5f);
    assert_true(c.tied);
    assert_int_equal(c.eos, 50256);
    assert_int_equal(c.bos, 50256);
    assert_int_equal(c.pad, -1);
}

static void published_detector(void **state)
{
    (void)state;
    const tdm_config c = parse(
        "{\"architectures\": [\"RobertaForSequenceClassification\"], \"bos_token_id\": 0,\n"
        "\"attention_probs_dropout_prob\": 0.1, \"eos_token_id\": 2, \"hidden_act\": \"gelu\",\n"
        "\"hidden_dropout_prob\": 0.1, \"hidden_size\": 1024, \"initializer_range\": 0.02,\n"
        "\"id2label\": {\"0\": \"Fake\", \"1\": \"Real\"}, \"intermediate_size\": 4096,\n"
        "\"label2id\": {\"Fake\": 0, \"Real\": 1}, \"layer_norm_eps\": 1e-05,\n"
        "\"max_position_embeddings\": 514, \"model_type\": \"roberta\",\n"
        "\"num_attention_heads\": 16, \"num_hidden_layers\": 24, \"output_past\": true,\n"
        "\"pad_token_id\": 1, \"type_vocab_size\": 1, \"vocab_size\": 50265}");
    assert_int_equal(c.arch, TDM_ROBERTA);
    assert_int_equal(c.n_layer, 24);
    assert_int_equal(c.n_head, 16);
    assert_int_equal(c.n_embd, 1024);
    assert_int_equal(c.n_inner, 4096);
    assert_int_equal(c.n_vocab, 50265);
    assert_int_equal(c.n_position, 514);
    assert_int_equal(c.n_context, 512);
    assert_true(c.norm_eps == 1e-5f);
    assert_int_equal(c.bos, 0);
    assert_int_equal(c.pad, 1);
    assert_int_equal(c.eos, 2);
    assert_int_equal(c.unk, 3);
}

static void defaults_and_aliases(void **state)
{
    (void)state;
    tdm_config c = parse(GPT2(""));
    assert_int_equal(c.n_layer, 12);
    assert_int_equal(c.n_embd, 768);
    assert_int_equal(c.n_inner, 3072);
    assert_int_equal(c.n_context, 1024);

    c = parse(GPT2(",\"num_hidden_layers\":2,\"num_attention_heads\":3,\"hidden_size\":192,"
                   "\"max_position_embeddings\":64,\"vocab_size\":9,\"bos_token_id\":8,"
                   "\"eos_token_id\":8,\"n_inner\":100,\"tie_word_embeddings\":false,"
                   "\"activation_function\":\"gelu_pytorch_tanh\",\"layer_norm_epsilon\":1e-6"));
    assert_int_equal(c.n_layer, 2);
    assert_int_equal(c.n_head, 3);
    assert_int_equal(c.n_embd, 192);
    assert_int_equal(c.n_inner, 100);
    assert_int_equal(c.n_position, 64);
    assert_int_equal(c.n_vocab, 9);
    assert_int_equal(c.eos, 8);
    assert_false(c.tied);
    assert_true(c.norm_eps == 1e-6f);

    assert_int_equal(parse(GPT2(",\"n_ctx\":100")).n_position, 100);
    assert_int_equal(parse(GPT2(",\"n_ctx\":100,\"n_positions\":100")).n_position, 100);
    assert_int_equal(parse(GPT2(",\"n_inner\":null")).n_inner, 3072);
    assert_int_equal(parse("{\"architectures\":[\"GPT2LMHeadModel\"]}").arch, TDM_GPT2);
    assert_int_equal(parse(ROBERTA("")).n_embd, 768);
    assert_int_equal(parse(ROBERTA(",\"problem_type\":null,\"pruned_heads\":{}")).n_layer, 12);
}

static void largest_sizes(void **state)
{
    (void)state;
    const tdm_config c =
        parse(GPT2(",\"n_layer\":1024,\"n_embd\":65536,\"n_head\":1024,\"vocab_size\":16777216,"
                   "\"n_positions\":1048576,\"n_inner\":262144"));
    assert_int_equal(c.n_vocab, 16777216);
    assert_int_equal(c.n_inner, 262144);
}

static const struct {
    const char *text, *message;
} REFUSED[] = {
    {"", "at byte 0"},
    {"[]", "not a JSON object"},
    {"\"gpt2\"", "not a JSON object"},
    {"{\"model_type\":\"gpt2\",\"model_type\":\"gpt2\"}", "stands twice"},
    {"{}", "model_type is missing, want gpt2 or roberta"},
    {"{\"model_type\":\"llama\"}", "model_type is \"llama\", want gpt2 or roberta"},
    {"{\"model_type\":7}", "model_type is 7"},
    {"{\"architectures\":[\"RobertaPreLayerNormForSequenceClassification\"]}", "architectures is"},
    {"{\"architectures\":[]}", "architectures is"},

    {GPT2(",\"n_layer\":0"), "n_layer is 0, want a whole number from 1 to 1024"},
    {GPT2(",\"n_layer\":1025"), "n_layer is 1025"},
    {GPT2(",\"n_layer\":-1"), "n_layer is -1"},
    {GPT2(",\"n_layer\":12.0"), "n_layer is 12.0"},
    {GPT2(",\"n_layer\":1e1"), "n_layer is 1e1"},
    {GPT2(",\"n_layer\":\"12\""), "n_layer is \"12\""},
    {GPT2(",\"n_layer\":null"), "n_layer is null"},
    {GPT2(",\"n_layer\":true"), "n_layer is true"},
    {GPT2(",\"n_layer\":[12]"), "n_layer is an array"},
    {GPT2(",\"n_layer\":99999999999999999999"), "n_layer is 99999999999999999999"},
    {GPT2(",\"num_hidden_layers\":0"), "num_hidden_layers is 0"},
    {GPT2(",\"n_layer\":12,\"num_hidden_layers\":13"), "n_layer is 12 but num_hidden_layers is 13"},
    {GPT2(",\"n_ctx\":512,\"n_positions\":1024"), "n_positions is 1024 but n_ctx is 512"},
    {GPT2(",\"n_embd\":65600,\"n_head\":1025"),
     "n_head is 1025, want a whole number from 1 to 1024"},
    {GPT2(",\"n_embd\":1600"), "width 1600 with 12 heads, want 64 for each head"},
    {GPT2(",\"n_embd\":32,\"n_head\":1"), "n_embd is 32"},
    {GPT2(",\"vocab_size\":16777217"), "vocab_size is 16777217"},
    {GPT2(",\"n_positions\":1048577"), "n_positions is 1048577"},
    {GPT2(",\"n_inner\":0"), "n_inner is 0"},
    {GPT2(",\"n_inner\":262145"), "n_inner is 262145"},
    {GPT2(",\"vocab_size\":1000"), "eos_token_id is 50256, want less than vocab_size 1000"},
    {GPT2(",\"vocab_size\":1000,\"eos_token_id\":1"), "bos_token_id is 50256, want less than"},
    {GPT2(",\"eos_token_id\":[50256]"), "eos_token_id is an array"},
    {GPT2(",\"bos_token_id\":1"), "bos_token_id is 1, want that of eos_token_id, 50256"},
    {GPT2(",\"layer_norm_epsilon\":0"), "layer_norm_epsilon is 0"},
    {GPT2(",\"layer_norm_epsilon\":1e999"), "layer_norm_epsilon is 1e999"},
    {GPT2(",\"layer_norm_epsilon\":\"1e-5\""), "layer_norm_epsilon is \"1e-5\""},
    {GPT2(",\"activation_function\":\"relu\""),
     "activation_function is \"relu\", implemented is \"gelu_new\""},
    {GPT2(",\"activation_function\":\"gelu\""), "activation_function is \"gelu\""},
    {GPT2(",\"activation_function\":\"a\\nb\""), "activation_function is \"a\\nb\""},
    {GPT2(",\"scale_attn_weights\":false"), "scale_attn_weights is false, implemented is true"},
    {GPT2(",\"scale_attn_by_inverse_layer_idx\":true"), "scale_attn_by_inverse_layer_idx is true"},
    {GPT2(",\"reorder_and_upcast_attn\":true"), "reorder_and_upcast_attn is true"},
    {GPT2(",\"add_cross_attention\":true"), "add_cross_attention is true"},
    {GPT2(",\"is_encoder_decoder\":true"), "is_encoder_decoder is true"},
    {GPT2(",\"tie_word_embeddings\":1"), "tie_word_embeddings is 1"},
    {GPT2(",\"pruned_heads\":{\"0\":[1]}"), "pruned_heads is an object of 1 members"},
    {GPT2(",\"quantization_config\":{}"), "quantization_config is an object"},

    {"{\"model_type\":\"roberta\"}", "max_position_embeddings is missing"},
    {"{\"model_type\":\"roberta\",\"max_position_embeddings\":514}", "layer_norm_eps is missing"},
    {"{\"model_type\":\"roberta\",\"max_position_embeddings\":514,\"layer_norm_eps\":1e-05}",
     "type_vocab_size is missing"},
    {"{\"model_type\":\"roberta\",\"max_position_embeddings\":4}", "max_position_embeddings is 4"},
    {ROBERTA(",\"hidden_size\":1000"), "width 1000 with 12 heads"},
    {ROBERTA(",\"hidden_act\":\"gelu_new\""),
     "hidden_act is \"gelu_new\", implemented is \"gelu\""},
    {ROBERTA(",\"position_embedding_type\":\"relative_key\""), "position_embedding_type is"},
    {"{\"model_type\":\"roberta\",\"max_position_embeddings\":514,\"layer_norm_eps\":1e-05,"
     "\"type_vocab_size\":2}",
     "type_vocab_size is 2"},
    {ROBERTA(",\"pad_token_id\":0"), "pad_token_id is 0, implemented is 1"},
    {ROBERTA(",\"is_decoder\":true"), "is_decoder is true"},
    {ROBERTA(",\"num_labels\":3"), "num_labels is 3"},
    {ROBERTA(",\"id2label\":{\"0\":\"a\",\"1\":\"b\",\"2\":\"c\"}"),
     "id2label is an object of 3 members, want two labels"},
    {ROBERTA(",\"id2label\":[\"a\",\"b\"]"), "id2label is an array"},
    {ROBERTA(",\"problem_type\":\"regression\""), "problem_type is \"regression\""},
    {ROBERTA(",\"vocab_size\":3"), "vocab_size is 3"},
    {ROBERTA(",\"eos_token_id\":60000"), "eos_token_id is 60000, want less than vocab_size 50265"},
};

static void refuses_by_name_and_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(REFUSED); i++) {
        const size_t len = strlen(REFUSED[i].text);
        char *copy = malloc(len ? len : 1); /* no NUL behind it */
        memcpy(copy, REFUSED[i].text, len);
        tdm_config c;
        tdm_err err = {0};
        const tdm_status st = tdm_config_parse(copy, len, &c, &err);
        if (st != TDM_EFORMAT || !strstr(err.msg, REFUSED[i].message))
            fail_msg("%s: status %d, %s", REFUSED[i].text, (int)st, err.msg);
        free(copy);
    }
}

static void loads_from_a_folder(void **state)
{
    (void)state;
    char dir[] = "test_config.XXXXXX", path[64];
    tdm_config c;
    tdm_err err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(tdm_config_load(dir, &c, &err), TDM_ENOINPUT);
    assert_non_null(strstr(err.msg, path));

    FILE *f = fopen(path, "wb");
    fputs(GPT2(",\"n_layer\":0"), f);
    fclose(f);
    assert_int_equal(tdm_config_load(dir, &c, &err), TDM_EFORMAT);
    assert_int_equal(strncmp(err.msg, path, strlen(path)), 0);

    f = fopen(path, "wb");
    fputs(GPT2(""), f);
    fclose(f);
    assert_int_equal(tdm_config_load(dir, &c, &err), TDM_OK);
    assert_int_equal(c.n_layer, 12);

    assert_int_equal(truncate(path, (1 << 20) + 1), 0);
    assert_int_equal(tdm_config_load(dir, &c, &err), TDM_EFORMAT);
    assert_non_null(strstr(err.msg, "more than the 1048576 allowed"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_gpt2_xl),         cmocka_unit_test(published_detector),
        cmocka_unit_test(defaults_and_aliases),      cmocka_unit_test(largest_sizes),
        cmocka_unit_test(refuses_by_name_and_value), cmocka_unit_test(loads_from_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
