#include "host/config.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "host/json.h"
#include "host/readfile.h"

/* Real files have below 100 values; task_specific_params and label tables may add thousands. */
enum { MAX_BYTES = 1 << 20, MAX_VALUES = 100000 };

/* Together these keep every product of sizes within 63 bits. */
enum {
    MAX_LAYERS = 1024,
    MAX_WIDTH = 65536,
    MAX_INNER = 4 * MAX_WIDTH,
    MAX_VOCAB = 1 << 24,
    MAX_POSITIONS = 1 << 20,
    HEAD_WIDTH = 64,
    NONE = -1,
    SHOWN = 64 /* characters of a value in a message */
};

typedef struct {
    const char *text; /* borrowed: where the members' spans point to */
    const tdm_json_member *members;
    size_t n;
} source;

static const tdm_json_member *find(const source *s, const char *key)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->members[i].key, key) == 0)
            return &s->members[i];
    return NULL;
}

static bool is_written(const source *s, const tdm_json_member *m, const char *text)
{
    return m->value_len == strlen(text) && memcmp(s->text + m->value_at, text, m->value_len) == 0;
}

/* What the file says for a key, as one printable line. */
static const char *shown(const source *s, const tdm_json_member *m, char line[SHOWN])
{
    if (cJSON_IsString(m->value))
        tdm_json_quote(line, SHOWN, m->value->valuestring, strlen(m->value->valuestring));
    else if (cJSON_IsObject(m->value))
        snprintf(line, SHOWN, "an object of %d members", cJSON_GetArraySize(m->value));
    else if (cJSON_IsArray(m->value))
        snprintf(line, SHOWN, "an array");
    else
        snprintf(line, SHOWN, "%.*s", (int)m->value_len, s->text + m->value_at);
    return line;
}

/* ---- numbers ---- */

typedef struct {
    const char *names[4]; /* the first is the usual one; all that are present must agree */
    size_t field;         /* offset of an int in tdm_config */
    int min, max;
    int fallback; /* when the key is missing; NONE: it must be there */
    bool null_is_missing;
} int_rule;

#define FIELD(name) offsetof(tdm_config, name)

/* The fallbacks are those of transformers' GPT2Config; 0 stands for 4 * n_embd. */
static const int_rule GPT2_INTS[] = {
    {{"n_layer", "num_hidden_layers"}, FIELD(n_layer), 1, MAX_LAYERS, 12, false},
    {{"n_head", "num_attention_heads"}, FIELD(n_head), 1, MAX_WIDTH / HEAD_WIDTH, 12, false},
    {{"n_embd", "hidden_size"}, FIELD(n_embd), HEAD_WIDTH, MAX_WIDTH, 768, false},
    {{"n_inner"}, FIELD(n_inner), 1, MAX_INNER, 0, true},
    {{"vocab_size"}, FIELD(n_vocab), 1, MAX_VOCAB, 50257, false},
    {{"n_positions", "n_ctx", "max_position_embeddings"},
     FIELD(n_position),
     1,
     MAX_POSITIONS,
     1024,
     false},
    {{"eos_token_id"}, FIELD(eos), 0, MAX_VOCAB - 1, 50256, false},
    {{"bos_token_id"}, FIELD(bos), 0, MAX_VOCAB - 1, 50256, false},
};

/* The fallbacks are those of transformers' RobertaConfig where the published models agree with
 * them. Five positions are <s>, one token, </s> and the two rows in front that no token uses. */
static const int_rule ROBERTA_INTS[] = {
    {{"num_hidden_layers"}, FIELD(n_layer), 1, MAX_LAYERS, 12, false},
    {{"num_attention_heads"}, FIELD(n_head), 1, MAX_WIDTH / HEAD_WIDTH, 12, false},
    {{"hidden_size"}, FIELD(n_embd), HEAD_WIDTH, MAX_WIDTH, 768, false},
    {{"intermediate_size"}, FIELD(n_inner), 1, MAX_INNER, 3072, false},
    {{"vocab_size"}, FIELD(n_vocab), 4, MAX_VOCAB, 50265, false},
    {{"max_position_embeddings"}, FIELD(n_position), 5, MAX_POSITIONS, NONE, false},
    {{"eos_token_id"}, FIELD(eos), 0, MAX_VOCAB - 1, 2, false},
    {{"bos_token_id"}, FIELD(bos), 0, MAX_VOCAB - 1, 0, false},
};

/* Digits alone make a whole number: 12.0 and 1e3 are refused, as transformers would trip on them.
 */
static bool whole_number(const source *s, const tdm_json_member *m, const int_rule *rule, int *out)
{
    const double value = m->value->valuedouble;
    const char *first = s->text + m->value_at;
    for (size_t i = 0; i < m->value_len; i++)
        if (first[i] < '0' || first[i] > '9')
            return false;
    if (value < rule->min || value > rule->max)
        return false;
    *out = (int)value;
    return true;
}

static tdm_status read_int(const source *s, const int_rule *rule, tdm_config *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *from = NULL;
    char line[SHOWN];
    int value = rule->fallback;
    for (int i = 0; i < 4 && rule->names[i]; i++) {
        const tdm_json_member *m = find(s, rule->names[i]);
        int here = 0;
        if (!m || (rule->null_is_missing && cJSON_IsNull(m->value)))
            continue;
        TDM_REQUIRE(whole_number(s, m, rule, &here), TDM_EFORMAT,
                    "%s is %s, want a whole number from %d to %d", rule->names[i],
                    shown(s, m, line), rule->min, rule->max);
        TDM_REQUIRE(!from || here == value, TDM_EFORMAT, "%s is %d but %s is %d", from, value,
                    rule->names[i], here);
        from = rule->names[i];
        value = here;
    }
    TDM_REQUIRE(value != NONE, TDM_EFORMAT, "%s is missing", rule->names[0]);
    memcpy((char *)out + rule->field, &value, sizeof value);
done:
    return st;
}

static tdm_status read_eps(const source *s, const char *key, double fallback, float *out,
                           tdm_err *err)
{
    tdm_status st = TDM_OK;
    char line[SHOWN];
    const tdm_json_member *m = find(s, key);
    TDM_REQUIRE(m || fallback > 0, TDM_EFORMAT, "%s is missing", key);
    const double value = m ? m->value->valuedouble : fallback;
    TDM_REQUIRE(!m || (cJSON_IsNumber(m->value) && value >= 1e-30 && value <= 0.1), TDM_EFORMAT,
                "%s is %s, want a number from 1e-30 to 0.1", key, shown(s, m, line));
    *out = (float)value;
done:
    return st;
}

/* ---- what must not differ ---- */

/* A key that may be missing, and the values at which it means what is implemented here, as JSON. */
typedef struct {
    const char *key;
    const char *accepted[3];
} fixed_rule;

static const fixed_rule COMMON_FIXED[] = {
    {"add_cross_attention", {"false"}},
    {"is_encoder_decoder", {"false"}},
    {"pruned_heads", {"{}", "null"}},
    {"quantization_config", {"null"}},
};
static const fixed_rule GPT2_FIXED[] = {
    {"activation_function", {"\"gelu_new\"", "\"gelu_pytorch_tanh\"", "\"gelu_fast\""}},
    {"scale_attn_weights", {"true"}},
    {"scale_attn_by_inverse_layer_idx", {"false"}},
    {"reorder_and_upcast_attn", {"false"}},
    {"tie_word_embeddings", {"true", "false"}},
};
static const fixed_rule ROBERTA_FIXED[] = {
    {"hidden_act", {"\"gelu\""}},
    {"position_embedding_type", {"\"absolute\""}},
    {"type_vocab_size", {"1"}},
    {"pad_token_id", {"1"}},
    {"is_decoder", {"false"}},
    {"num_labels", {"2"}},
    {"problem_type", {"null", "\"single_label_classification\""}},
};

static tdm_status check_fixed(const source *s, const fixed_rule *rules, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char line[SHOWN];
    for (size_t i = 0; i < n; i++) {
        const tdm_json_member *m = find(s, rules[i].key);
        bool fine = !m;
        for (int k = 0; !fine && k < 3 && rules[i].accepted[k]; k++)
            fine = is_written(s, m, rules[i].accepted[k]);
        TDM_REQUIRE(fine, TDM_EFORMAT, "%s is %s, implemented is %s", rules[i].key,
                    shown(s, m, line), rules[i].accepted[0]);
    }
done:
    return st;
}

static tdm_status check_labels(const source *s, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char line[SHOWN];
    const tdm_json_member *m = find(s, "id2label");
    TDM_REQUIRE(!m || (cJSON_IsObject(m->value) && cJSON_GetArraySize(m->value) == 2), TDM_EFORMAT,
                "id2label is %s, want two labels", shown(s, m, line));
    /* When it is missing transformers takes 2 rows, unlike the published models. */
    TDM_REQUIRE(find(s, "type_vocab_size"), TDM_EFORMAT, "type_vocab_size is missing");
done:
    return st;
}

/* ---- the two models ---- */

/* Relations between numbers that are each within their limits. */
static tdm_status check_sizes(const tdm_config *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_REQUIRE(c->n_embd == HEAD_WIDTH * c->n_head, TDM_EFORMAT,
                "width %d with %d heads, want %d for each head", c->n_embd, c->n_head, HEAD_WIDTH);
    TDM_REQUIRE(c->eos < c->n_vocab, TDM_EFORMAT,
                "eos_token_id is %d, want less than vocab_size %d", c->eos, c->n_vocab);
    TDM_REQUIRE(c->bos < c->n_vocab, TDM_EFORMAT,
                "bos_token_id is %d, want less than vocab_size %d", c->bos, c->n_vocab);
done:
    return st;
}

static tdm_status read_gpt2(const source *s, tdm_config *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < sizeof GPT2_INTS / sizeof *GPT2_INTS; i++)
        TDM_TRY(read_int(s, &GPT2_INTS[i], c, err));
    TDM_TRY(read_eps(s, "layer_norm_epsilon", 1e-5, &c->norm_eps, err));
    TDM_TRY(check_fixed(s, GPT2_FIXED, sizeof GPT2_FIXED / sizeof *GPT2_FIXED, err));
    TDM_TRY(check_sizes(c, err));
    /* Documents start with the token that ends them; another start would be another model. */
    TDM_REQUIRE(c->bos == c->eos, TDM_EFORMAT, "bos_token_id is %d, want that of eos_token_id, %d",
                c->bos, c->eos);
    if (c->n_inner == 0)
        c->n_inner = 4 * c->n_embd;
    const tdm_json_member *tie = find(s, "tie_word_embeddings");
    c->tied = !tie || cJSON_IsTrue(tie->value);
    c->n_context = c->n_position;
    c->pad = c->unk = NONE;
done:
    return st;
}

static tdm_status read_roberta(const source *s, tdm_config *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (size_t i = 0; i < sizeof ROBERTA_INTS / sizeof *ROBERTA_INTS; i++)
        TDM_TRY(read_int(s, &ROBERTA_INTS[i], c, err));
    TDM_TRY(read_eps(s, "layer_norm_eps", 0, &c->norm_eps, err));
    TDM_TRY(check_fixed(s, ROBERTA_FIXED, sizeof ROBERTA_FIXED / sizeof *ROBERTA_FIXED, err));
    TDM_TRY(check_labels(s, err));
    TDM_TRY(check_sizes(c, err));
    c->tied = false;
    c->pad = 1;
    c->unk = 3; /* not a key of the file: the place of <unk> in RoBERTa's vocabularies */
    c->n_context = c->n_position - (c->pad + 1); /* positions count from pad + 1 */
done:
    return st;
}

/* model_type decides; very old files have only the class name. */
static tdm_status read_arch(const source *s, tdm_config *c, tdm_err *err)
{
    static const struct {
        const char *name;
        tdm_arch arch;
    } NAMES[] = {{"gpt2", TDM_GPT2},
                 {"roberta", TDM_ROBERTA},
                 {"GPT2LMHeadModel", TDM_GPT2},
                 {"GPT2Model", TDM_GPT2},
                 {"RobertaForSequenceClassification", TDM_ROBERTA}};
    tdm_status st = TDM_OK;
    char line[SHOWN];
    const tdm_json_member *m = find(s, "model_type");
    if (!m)
        m = find(s, "architectures");
    TDM_REQUIRE(m, TDM_EFORMAT, "model_type is missing, want gpt2 or roberta");
    const cJSON *name = cJSON_IsArray(m->value) ? m->value->child : m->value;
    for (size_t i = 0; cJSON_IsString(name) && i < sizeof NAMES / sizeof *NAMES; i++)
        if (strcmp(name->valuestring, NAMES[i].name) == 0) {
            c->arch = NAMES[i].arch;
            return TDM_OK;
        }
    st = tdm_fail(err, TDM_EFORMAT, "%s is %s, want gpt2 or roberta", m->key, shown(s, m, line));
done:
    return st;
}

tdm_status tdm_config_parse(const char *text, size_t len, tdm_config *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_json *doc = NULL;
    source s = {.text = text};
    *out = (tdm_config){0};
    TDM_TRY(tdm_json_parse(text, len, MAX_VALUES, &doc, NULL, err));
    TDM_REQUIRE(cJSON_IsObject(tdm_json_root(doc)), TDM_EFORMAT, "not a JSON object");
    s.members = tdm_json_members(doc, &s.n);
    TDM_TRY(read_arch(&s, out, err));
    TDM_TRY(check_fixed(&s, COMMON_FIXED, sizeof COMMON_FIXED / sizeof *COMMON_FIXED, err));
    TDM_TRY(out->arch == TDM_GPT2 ? read_gpt2(&s, out, err) : read_roberta(&s, out, err));
done:
    tdm_json_close(doc);
    return st;
}

tdm_status tdm_config_load(const char *dir, tdm_config *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf path = {0}, text = {0};
    TDM_TRY(tdm_buf_printf(&path, err, "%s/config.json", dir));
    TDM_TRY(tdm_buf_put(&path, "", 1, err));
    TDM_TRY(tdm_file_load(path.p, MAX_BYTES, &text, err));
    st = tdm_config_parse(text.p, text.len, out, err);
    if (st != TDM_OK)
        st = tdm_context(err, st, "%s", path.p);
done:
    tdm_buf_free(&text);
    tdm_buf_free(&path);
    return st;
}
