#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/symbols.h"
#include "tokenizer/vocab_load.h"

/* A vocabulary may leave out this many ids below its largest: some copies of RoBERTa's lack the
 * three madeupwords. */
enum { MAX_ID_HOLES = 1024 };

enum { SHOWN = 80 };

tdm_status tdm_loader_parse_json(tdm_vocab_loader *l, tdm_json **doc, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_json_parse(l->json->text, l->json->len, TDM_MAX_SYMBOLS, doc, NULL, err));
    l->members = tdm_json_members(*doc, &l->n_members);
    TDM_REQUIRE(l->members, TDM_EFORMAT, "not an object of tokens and ids");
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s", l->json->name);
}

/* The id that GPT-2 gives to a symbol: bytes in the order of the file, then merges. */
static int32_t gpt2_id(const unsigned char rank_of_byte[256], uint32_t symbol)
{
    return symbol < 256 ? rank_of_byte[symbol] : (int32_t)symbol;
}

static void rank_bytes(unsigned char rank_of_byte[256])
{
    unsigned char order[256];
    tdm_symbols_order(order);
    for (int i = 0; i < 256; i++)
        rank_of_byte[order[i]] = (unsigned char)i;
}

tdm_status tdm_loader_number(tdm_vocab_loader *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_vocab *v = l->v;
    unsigned char rank_of_byte[256];
    rank_bytes(rank_of_byte);
    for (uint32_t s = 0; s < v->n_symbols; s++)
        v->id_of[s] = gpt2_id(rank_of_byte, s);
    const char *end_of_text = tdm_special_text(TDM_SPECIAL_END_OF_TEXT);
    TDM_REQUIRE(tdm_loader_find(l, end_of_text, strlen(end_of_text)) == TDM_NO_SYMBOL, TDM_EFORMAT,
                "merges give %s", end_of_text);
    tdm_loader_add(l, end_of_text, strlen(end_of_text));
    v->id_of[v->n_symbols] = (int32_t)v->n_symbols;
done:
    return st;
}

/* One member of the vocabulary: a symbol, or a token that text cannot give. */
static tdm_status take_member(tdm_vocab_loader *l, const tdm_json_member *member, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_vocab *v = l->v;
    char token[SHOWN], value[SHOWN];
    tdm_symbols_show(member->key, member->key_len, token, sizeof token);
    const double id = cJSON_IsNumber(member->value) ? member->value->valuedouble : -1;
    const double max_id = (double)(l->n_members + MAX_ID_HOLES - 1);
    TDM_REQUIRE(
        id >= 0 && id <= max_id && id == floor(id), TDM_EFORMAT,
        "token \"%s\" has id %s, want a whole number from 0 to %.0f", token,
        tdm_symbols_show(l->json->text + member->value_at, member->value_len, value, sizeof value),
        max_id);
    TDM_REQUIRE(member->key_len > 0, TDM_EFORMAT, "id %.0f is an empty token", id);

    const char *text = l->scratch;
    size_t len = 0;
    if (!tdm_symbols_read(member->key, member->key_len, l->scratch, &len)) {
        text = member->key; /* an added token in plain text */
        len = member->key_len;
    }
    uint32_t entry = tdm_loader_find(l, text, len);
    if (entry == TDM_NO_SYMBOL) {
        entry = v->n_entries;
        tdm_loader_add(l, text, len);
    }
    TDM_REQUIRE(v->id_of[entry] < 0, TDM_EFORMAT, "token \"%s\" stands twice, with ids %d and %.0f",
                token, (int)v->id_of[entry], id);
    v->id_of[entry] = (int32_t)id;
done:
    return st;
}

/* The ids of a vocabulary without <s> must be those that the merges give. */
static tdm_status check_gpt2_ids(const tdm_vocab *v, tdm_err *err)
{
    tdm_status st = TDM_OK;
    char shown[SHOWN];
    unsigned char rank_of_byte[256];
    rank_bytes(rank_of_byte);
    for (uint32_t s = 0; s < v->n_symbols; s++) {
        const int32_t want = gpt2_id(rank_of_byte, s);
        TDM_REQUIRE(v->id_of[s] == want, TDM_EFORMAT, "token \"%s\" has id %d, the merges give %d",
                    tdm_symbols_show(v->text + v->text_at[s], v->text_at[s + 1] - v->text_at[s],
                                     shown, sizeof shown),
                    (int)v->id_of[s], (int)want);
    }
done:
    return st;
}

tdm_status tdm_loader_take_ids(tdm_vocab_loader *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_vocab *v = l->v;
    char shown[SHOWN];
    for (size_t i = 0; i < l->n_members; i++)
        TDM_TRY(take_member(l, &l->members[i], err));
    for (uint32_t s = 0; s < v->n_symbols; s++)
        TDM_REQUIRE(v->id_of[s] >= 0, TDM_EFORMAT, "token \"%s\" of the merges is missing",
                    tdm_symbols_show(v->text + v->text_at[s], v->text_at[s + 1] - v->text_at[s],
                                     shown, sizeof shown));
    const char *begin = tdm_special_text(TDM_SPECIAL_BEGIN);
    const char *end = tdm_special_text(TDM_SPECIAL_END);
    v->roberta = tdm_loader_find(l, begin, strlen(begin)) != TDM_NO_SYMBOL;
    if (v->roberta)
        TDM_REQUIRE(tdm_loader_find(l, end, strlen(end)) != TDM_NO_SYMBOL, TDM_EFORMAT,
                    "%s without %s", begin, end);
    else
        TDM_TRY(check_gpt2_ids(v, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s", l->json->name);
}

tdm_status tdm_loader_finish(tdm_vocab_loader *l, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_vocab *v = l->v;
    for (uint32_t e = 0; e < v->n_entries; e++)
        if (v->id_of[e] >= v->n_ids)
            v->n_ids = v->id_of[e] + 1;
    v->entry_of = malloc((size_t)v->n_ids * sizeof *v->entry_of);
    TDM_REQUIRE(v->entry_of, TDM_ENOMEM, "%d ids", (int)v->n_ids);
    for (int32_t id = 0; id < v->n_ids; id++)
        v->entry_of[id] = -1;
    for (uint32_t e = 0; e < v->n_entries; e++) {
        int32_t *entry = &v->entry_of[v->id_of[e]];
        TDM_REQUIRE(*entry < 0, TDM_EFORMAT, "id %d stands twice", (int)v->id_of[e]);
        *entry = (int32_t)e;
    }
    for (int i = 0; i < TDM_N_SPECIALS; i++) {
        const char *text = tdm_special_text((tdm_special)i);
        const uint32_t entry = tdm_loader_find(l, text, strlen(text));
        v->special_id[i] = entry == TDM_NO_SYMBOL ? -1 : v->id_of[entry];
    }
done:
    return st == TDM_OK || !l->json ? st : tdm_context(err, st, "%s", l->json->name);
}
