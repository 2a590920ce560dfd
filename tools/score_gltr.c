/* tools/score_gltr.c - see score_job.h: what GLTR's server answers to POST /api/analyze, so that its page shows it.
 *
 *   "request": {"project": MODEL, "text": TEXT}
 *   "result": {"bpe_strings": [<|endoftext|>, token, ...],     one more than are scored: the page leaves out the first
 *              "real_topk": [[rank from 0, probability], ...],  of each scored token
 *              "pred_topk": [[[token, probability], ...], ...]} the K likeliest in its place
 *
 * Probabilities have 5 decimals. A token is written in the vocabulary's symbols, then as GLTR cleans it up for its page
 * (clean_up). Where the two differ: of equal logits GLTR's sort takes any, here a rank counts larger logits alone and
 * the lowest id comes first; GLTR fails beyond the context.
 * Source: HendrikStrobelt/detecting-fake-text, backend/api.py (class LM), server.py. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "host/json.h"
#include "tools/score_job.h"

/* GLTR's postprocess(): a token that begins with a space keeps it as U+0120; one that begins with a line break, or with
 * the first byte of typographic punctuation, becomes a space (behind U+010A where it was a break); behind a space that
 * byte becomes a dash; the last bytes of the quotes become quotes.
 *   token  [*len] bytes; moves to what is written byte by byte
 * Returns: what is written instead of it, or before it. */
static const char *clean_up(const char **token, size_t *len)
{
    const char *before = "";
    if (*len > 0 && **token == ' ') {
        before = "\xC4\xA0";
        (*token)++;
        (*len)--;
    } else if (*len > 0 && **token == '\n') {
        *len = 0;
        return "\xC4\x8A ";
    }
    const bool spaced = *before != '\0';
    switch (*len > 0 ? (unsigned char)**token : 0) {
    case 0xE2:
        *len = 0;
        return spaced ? "\xC4\xA0-" : " ";
    case 0x9C:
        *len = 0;
        return spaced ? "\xC4\xA0\xE2\x80\x9C" : "\xE2\x80\x9C";
    case 0x9D:
        *len = 0;
        return spaced ? "\xC4\xA0\xE2\x80\x9D" : "\xE2\x80\x9D";
    case 0x99:
        *len = 0;
        return spaced ? "\xC4\xA0'" : "'";
    default:
        return before;
    }
}

static tdm_status put_token(const score_job *job, int32_t id, tdm_buf *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf symbols = {0};
    size_t len = 0;
    const char *token = tdm_bpe_token(job->folder.bpe, id, &len), *first = clean_up(&token, &len);
    TDM_TRY(tdm_buf_put(&symbols, first, strlen(first), err));
    for (size_t i = 0; i < len; i++)
        TDM_TRY(tdm_bpe_put_symbol((unsigned char)token[i], &symbols, err));
    TDM_TRY(tdm_json_put_string(line, symbols.p ? symbols.p : "", symbols.len, err));
done:
    tdm_buf_free(&symbols);
    return st;
}

static tdm_status put_probability(float logprob, tdm_buf *line, tdm_err *err)
{
    return fields_put_float(line, nearbyint(exp((double)logprob) * 1e5) / 1e5, err);
}

tdm_status score_put_request(const score_job *job, const tdm_record *r, tdm_buf *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_printf(line, err, "{\"project\": "));
    TDM_TRY(tdm_json_put_string(line, job->project, job->project_len, err));
    TDM_TRY(tdm_buf_printf(line, err, ", \"text\": "));
    TDM_TRY(tdm_json_put_string(line, r->text, r->text_len, err));
    TDM_TRY(tdm_buf_put(line, "}", 1, err));
done:
    return st;
}

static tdm_status put_likeliest(const score_job *job, const tdm_top *top, tdm_buf *line, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (int64_t k = 0; k < job->args.gltr; k++) {
        TDM_TRY(tdm_buf_put(line, k ? ", [" : "[[", k ? 3 : 2, err));
        TDM_TRY(put_token(job, top[k].id, line, err));
        TDM_TRY(tdm_buf_put(line, ", ", 2, err));
        TDM_TRY(put_probability(top[k].logprob, line, err));
        TDM_TRY(tdm_buf_put(line, "]", 1, err));
    }
    TDM_TRY(tdm_buf_put(line, "]", 1, err));
done:
    return st;
}

tdm_status score_put_result(const score_job *job, const score_window *w, const score_text *t, tdm_buf *line,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_stat *stats = w->stats + t->found_at;
    const tdm_top *top = w->top + t->found_at * (size_t)job->args.gltr;
    TDM_TRY(tdm_buf_printf(line, err, "{\"bpe_strings\": ["));
    for (size_t i = 0; i < t->n_ids; i++) {
        TDM_TRY(score_check_signal(job, i, err));
        TDM_TRY(tdm_buf_put(line, ", ", i ? 2 : 0, err));
        TDM_TRY(put_token(job, w->ids.p[t->ids_at + i], line, err));
    }
    TDM_TRY(tdm_buf_printf(line, err, "], \"real_topk\": ["));
    for (size_t i = 0; i + 1 < t->n_ids; i++) {
        TDM_TRY(score_check_signal(job, i, err));
        TDM_TRY(tdm_buf_printf(line, err, "%s[%" PRId32 ", ", i ? ", " : "", stats[i].rank - 1));
        TDM_TRY(put_probability(stats[i].logprob, line, err));
        TDM_TRY(tdm_buf_put(line, "]", 1, err));
    }
    TDM_TRY(tdm_buf_printf(line, err, "], \"pred_topk\": ["));
    for (size_t i = 0; i + 1 < t->n_ids; i++) {
        TDM_TRY(score_check_signal(job, i, err));
        TDM_TRY(tdm_buf_put(line, ", ", i ? 2 : 0, err));
        TDM_TRY(put_likeliest(job, top + i * (size_t)job->args.gltr, line, err));
    }
    TDM_TRY(tdm_buf_put(line, "]}", 2, err));
done:
    return st;
}
