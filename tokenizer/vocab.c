#include "tokenizer/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/symbols.h"
#include "tokenizer/vocab_load.h"

static const char *const SPECIAL_TEXT[] = {
#define X(name, text, gpt2, roberta) text,
    TDM_SPECIAL_MAP(X)
#undef X
};

const char *tdm_special_text(tdm_special special)
{
    return SPECIAL_TEXT[special];
}

bool tdm_special_is_parsed(const tdm_vocab *v, tdm_special special)
{
    static const bool IN_GPT2[] = {
#define X(name, text, gpt2, roberta) gpt2,
        TDM_SPECIAL_MAP(X)
#undef X
    };
    static const bool IN_ROBERTA[] = {
#define X(name, text, gpt2, roberta) roberta,
        TDM_SPECIAL_MAP(X)
#undef X
    };
    return (v->roberta ? IN_ROBERTA : IN_GPT2)[special] && v->special_id[special] >= 0;
}

void tdm_vocab_free(tdm_vocab *v)
{
    free(v->pairs);
    free(v->text);
    free(v->text_at);
    free(v->id_of);
    free(v->entry_of);
    *v = (tdm_vocab){0};
}

/* ---- entries by text ---- */

/* Where the text is in the index, or the empty place where it belongs. */
static uint32_t *find_slot(const tdm_vocab_loader *l, const char *text, size_t len)
{
    const size_t mask = ((size_t)1 << l->index_bits) - 1;
    uint64_t hash = len;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    size_t i = (size_t)(hash * 0x9E3779B97F4A7C15u >> (64 - l->index_bits));
    for (; l->index[i]; i = (i + 1) & mask) {
        const uint32_t entry = l->index[i] - 1;
        const uint32_t at = l->v->text_at[entry];
        if (l->v->text_at[entry + 1] - at == len && memcmp(l->v->text + at, text, len) == 0)
            break;
    }
    return &l->index[i];
}

uint32_t tdm_loader_find(const tdm_vocab_loader *l, const char *text, size_t len)
{
    return *find_slot(l, text, len) - 1u; /* 0, the empty place, wraps to TDM_NO_SYMBOL */
}

void tdm_loader_add(tdm_vocab_loader *l, const char *text, size_t len)
{
    tdm_vocab *v = l->v;
    *find_slot(l, text, len) = v->n_entries + 1;
    const uint32_t at = v->text_at[v->n_entries];
    memcpy(v->text + at, text, len);
    v->id_of[v->n_entries] = -1;
    v->text_at[++v->n_entries] = at + (uint32_t)len;
}

/* Allocate every table for what the files can hold at most. */
static tdm_status open_tables(tdm_vocab_loader *l, size_t n_merges, size_t n_entries,
                              size_t text_bytes, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_vocab *v = l->v;
    TDM_REQUIRE(256 + n_merges <= TDM_MAX_SYMBOLS && n_entries <= INT32_MAX / 2, TDM_EFORMAT,
                "%zu merges, at most %d", n_merges, TDM_MAX_SYMBOLS - 256);
    TDM_REQUIRE(text_bytes <= INT32_MAX, TDM_EFORMAT, "%zu bytes of vocabulary, at most %d",
                text_bytes, INT32_MAX);
    for (l->index_bits = 10; ((size_t)1 << l->index_bits) < 2 * n_entries;)
        l->index_bits++;
    for (v->pair_bits = 10; ((size_t)1 << v->pair_bits) < 2 * n_merges;)
        v->pair_bits++;
    l->index = calloc((size_t)1 << l->index_bits, sizeof *l->index);
    l->scratch = malloc(text_bytes);
    v->pairs = calloc((size_t)1 << v->pair_bits, sizeof *v->pairs);
    v->text = malloc(text_bytes);
    v->text_at = calloc(n_entries + 1, sizeof *v->text_at);
    v->id_of = calloc(n_entries, sizeof *v->id_of);
    TDM_REQUIRE(l->index && l->scratch && v->pairs && v->text && v->text_at && v->id_of, TDM_ENOMEM,
                "vocabulary of %zu entries", n_entries);
done:
    return st;
}

/* ---- merges ---- */

static void add_pair(tdm_vocab *v, uint32_t left, uint32_t right, uint32_t result)
{
    const uint64_t key = (uint64_t)left << TDM_SYMBOL_BITS | right;
    const size_t mask = ((size_t)1 << v->pair_bits) - 1;
    size_t i = (size_t)(key * 0x9E3779B97F4A7C15u >> (64 - v->pair_bits));
    while (v->pairs[i])
        i = (i + 1) & mask;
    v->pairs[i] = key << TDM_SYMBOL_BITS | result;
}

/* The symbol that is written as text; an error names it. */
static tdm_status find_symbol(tdm_vocab_loader *l, const char *text, size_t len, uint32_t *symbol,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    char shown[80];
    size_t n = 0;
    TDM_REQUIRE(tdm_symbols_read(text, len, l->scratch, &n), TDM_EFORMAT,
                "\"%s\" is not a symbol of byte-level BPE",
                tdm_symbols_show(text, len, shown, sizeof shown));
    *symbol = tdm_loader_find(l, l->scratch, n);
    TDM_REQUIRE(*symbol != TDM_NO_SYMBOL, TDM_EFORMAT,
                "\"%s\" is neither a byte nor the result of an earlier merge",
                tdm_symbols_show(text, len, shown, sizeof shown));
done:
    return st;
}

/* One line, "LEFT RIGHT". */
static tdm_status add_merge(tdm_vocab_loader *l, const char *line, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_vocab *v = l->v;
    char shown[80];
    uint32_t left = 0, right = 0;
    const char *space = memchr(line, ' ', len);
    TDM_REQUIRE(space && space > line && space + 1 < line + len &&
                    !memchr(space + 1, ' ', len - (size_t)(space + 1 - line)),
                TDM_EFORMAT, "\"%s\", want two symbols with one space between them",
                tdm_symbols_show(line, len, shown, sizeof shown));
    TDM_TRY(find_symbol(l, line, (size_t)(space - line), &left, err));
    TDM_TRY(find_symbol(l, space + 1, len - (size_t)(space + 1 - line), &right, err));

    const uint32_t left_len = v->text_at[left + 1] - v->text_at[left];
    const uint32_t right_len = v->text_at[right + 1] - v->text_at[right];
    memcpy(l->scratch, v->text + v->text_at[left], left_len);
    memcpy(l->scratch + left_len, v->text + v->text_at[right], right_len);
    const uint32_t twin = tdm_loader_find(l, l->scratch, left_len + right_len);
    TDM_REQUIRE(twin == TDM_NO_SYMBOL, TDM_EFORMAT, "\"%s\" gives what merge %u gives already",
                tdm_symbols_show(line, len, shown, sizeof shown), twin - 255);
    add_pair(v, left, right, v->n_entries);
    tdm_loader_add(l, l->scratch, left_len + right_len);
done:
    return st;
}

static size_t count_lines(const char *text, size_t len)
{
    size_t n = 0;
    for (const char *p = text, *end = text + len; p < end; n++) {
        const char *feed = memchr(p, '\n', (size_t)(end - p));
        p = feed ? feed + 1 : end;
    }
    return n;
}

static tdm_status read_merges(tdm_vocab_loader *l, const tdm_vocab_source *merges, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t number = 1;
    for (unsigned byte = 0; byte < 256; byte++)
        tdm_loader_add(l, &(const char){(char)byte}, 1);
    for (const char *p = merges->text, *end = p + merges->len; p < end; number++) {
        const char *feed = memchr(p, '\n', (size_t)(end - p));
        const char *line_end = feed ? feed : end;
        if (line_end > p && line_end[-1] == '\r')
            line_end--;
        const size_t len = (size_t)(line_end - p);
        /* Only the first line can be a comment: "# #" further down is a merge. */
        const bool comment = number == 1 && len >= 8 && memcmp(p, "#version", 8) == 0;
        if (!comment)
            TDM_TRY(add_merge(l, p, len, err));
        p = feed ? feed + 1 : end;
    }
    l->v->n_symbols = l->v->n_entries;
    TDM_REQUIRE(l->v->n_symbols > 256, TDM_EFORMAT, "no merges");
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s:%zu", merges->name, number);
}

/* ---- loading ---- */

tdm_status tdm_vocab_load(tdm_vocab *v, const tdm_vocab_source *merges,
                          const tdm_vocab_source *json, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_vocab_loader l = {.v = v, .json = json};
    tdm_json *doc = NULL;
    *v = (tdm_vocab){0};
    if (json)
        TDM_TRY(tdm_loader_parse_json(&l, &doc, err));
    /* A merge's result is no longer than its line, a token no longer than its place in the file. */
    const size_t n_merges = count_lines(merges->text, merges->len);
    const size_t n_others = json ? l.n_members : 1;
    const size_t others_bytes = json ? json->len : strlen(SPECIAL_TEXT[TDM_SPECIAL_END_OF_TEXT]);
    TDM_TRY(open_tables(&l, n_merges, 256 + n_merges + n_others, 256 + merges->len + others_bytes,
                        err));
    TDM_TRY(read_merges(&l, merges, err));
    TDM_TRY(json ? tdm_loader_take_ids(&l, err) : tdm_loader_number(&l, err));
    TDM_TRY(tdm_loader_finish(&l, err));
done:
    tdm_json_close(doc);
    free(l.index);
    free(l.scratch);
    if (st != TDM_OK)
        tdm_vocab_free(v);
    return st;
}
