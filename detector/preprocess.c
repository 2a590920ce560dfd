/* detector/preprocess.c - release, hf and demo preprocessing; the rules are in preprocess.h. */
#include "detector/preprocess.h"

#include <string.h>

#include "host/utf8.h"
#include "tokenizer/pretoken.h"

/* Bytes of the white-space character that text [len] starts with; 0 when it starts with another.
 * Python counts four separators of ASCII besides White_Space. */
static size_t space_at(const char *text, size_t len)
{
    int32_t c;
    if (len == 0)
        return 0;
    const size_t n = tdm_utf8_next((const unsigned char *)text, len, &c);
    return tdm_class_of(c) == TDM_CLASS_SPACE || (c >= 0x1C && c <= 0x1F) ? n : 0;
}

size_t tdm_space_before(const char *text, size_t len)
{
    size_t at = 0, n;
    tdm_pretoken_init();
    while ((n = space_at(text + at, len - at)))
        at += n;
    return at;
}

size_t tdm_space_after(const char *text, size_t len)
{
    size_t end = len;
    tdm_pretoken_init();
    for (size_t n = 1; n <= 3 && n <= end;) {
        if (space_at(text + end - n, n) == n) {
            end -= n;
            n = 1;
        } else {
            n++;
        }
    }
    return len - end;
}

tdm_status tdm_preprocess_init(tdm_preprocess *p, const tdm_bpe *bpe, tdm_preprocess_mode mode,
                               int context, int32_t bos, int32_t eos, tdm_err *err)
{
    *p = (tdm_preprocess){.bpe = bpe, .mode = mode, .bos = bos, .eos = eos};
    if (context < 3)
        return tdm_fail(err, TDM_EARG, "context %d leaves no room for a token between <s> and </s>",
                        context);
    p->context = (size_t)context;
    for (int i = 0; i < TDM_N_SPECIALS; i++)
        p->specials[i] = tdm_bpe_special(bpe, tdm_special_text((tdm_special)i));
    p->specials[TDM_SPECIAL_END_OF_TEXT] = -1; /* plain text to every RoBERTa */
    const int32_t start = p->specials[TDM_SPECIAL_BEGIN], end = p->specials[TDM_SPECIAL_END];
    if (start < 0 || end < 0)
        return tdm_fail(err, TDM_EFORMAT,
                        "the vocabulary has no %s: a detector needs RoBERTa's vocab.json",
                        start < 0 ? "<s>" : "</s>");
    if (start != bos || end != eos)
        return tdm_fail(err, TDM_EFORMAT,
                        "the vocabulary has <s> = %d and </s> = %d, config.json says %d and %d",
                        (int)start, (int)end, (int)bos, (int)eos);
    return TDM_OK;
}

static tdm_status put_id(tdm_ids *ids, int32_t id, tdm_err *err)
{
    const tdm_status st = tdm_ids_reserve(ids, 1, err);
    if (st == TDM_OK)
        ids->p[ids->len++] = id;
    return st;
}

/* Which of the special tokens text [len] starts with; TDM_N_SPECIALS for none. */
static int special_at(const tdm_preprocess *p, const char *text, size_t len)
{
    for (int i = 0; i < TDM_N_SPECIALS; i++) {
        const char *special = tdm_special_text((tdm_special)i);
        const size_t n = strlen(special);
        if (p->specials[i] >= 0 && len >= n && !memcmp(text, special, n))
            return i;
    }
    return TDM_N_SPECIALS;
}

/* Step 2 of demo: pieces without the white space behind them, and the special tokens between. */
static tdm_status encode_pieces(const tdm_preprocess *p, const char *text, size_t len, tdm_ids *ids,
                                tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t from = 0;
    for (size_t at = 0; at <= len;) {
        const char *cut = at < len ? memchr(text + at, '<', len - at) : NULL;
        at = cut ? (size_t)(cut - text) : len;
        const int special = special_at(p, text + at, len - at);
        if (special == TDM_N_SPECIALS && at < len) {
            at++;
            continue;
        }
        const size_t n = at - from - tdm_space_after(text + from, at - from);
        TDM_TRY(tdm_bpe_encode(p->bpe, text + from, n, 0, ids, err));
        if (special == TDM_N_SPECIALS)
            break;
        TDM_TRY(put_id(ids, p->specials[special], err));
        at += strlen(tdm_special_text((tdm_special)special));
        from = at;
    }
done:
    return st;
}

/* <s> BPE(text with its space) </s>, or nothing for a text of white space. */
static tdm_status encode_demo(const tdm_preprocess *p, const char *text, size_t len, tdm_ids *ids,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf spaced = {0};
    if (tdm_space_before(text, len) == len)
        return TDM_OK;
    TDM_TRY(put_id(ids, p->bos, err));
    if (tdm_space_before(text, len)) {
        TDM_TRY(encode_pieces(p, text, len, ids, err));
    } else {
        TDM_TRY(tdm_buf_put(&spaced, " ", 1, err));
        TDM_TRY(tdm_buf_put(&spaced, text, len, err));
        TDM_TRY(encode_pieces(p, spaced.p, spaced.len, ids, err));
    }
    TDM_TRY(put_id(ids, p->eos, err));
done:
    tdm_buf_free(&spaced);
    return st;
}

tdm_status tdm_preprocess_text(const tdm_preprocess *p, const char *text, size_t len, tdm_ids *ids,
                               tdm_token_counts *counts, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *counts = (tdm_token_counts){0};
    ids->len = 0;
    TDM_TRY(put_id(ids, p->bos, err));
    if (p->mode == TDM_PREPROCESS_RELEASE) {
        const size_t before = tdm_space_before(text, len);
        const size_t after = tdm_space_after(text + before, len - before);
        TDM_TRY(tdm_bpe_encode(p->bpe, text + before, len - before - after, 0, ids, err));
    } else if (p->mode == TDM_PREPROCESS_HF) {
        TDM_TRY(tdm_bpe_encode(p->bpe, text, len, TDM_BPE_PARSE_SPECIAL, ids, err));
    } else {
        TDM_TRY(encode_demo(p, text, len, ids, err));
    }
    const size_t all = ids->len - 1;
    const size_t used = all < p->context - 2 ? all : p->context - 2;
    ids->len = all ? used + 1 : 0;
    if (all)
        TDM_TRY(put_id(ids, p->eos, err));
    *counts = (tdm_token_counts){.all_tokens = (int64_t)all, .used_tokens = (int64_t)used};
done:
    return st;
}
