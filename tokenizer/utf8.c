#include "tokenizer/bpe.h"

#include <string.h>

#include "host/utf8.h"

static const char REPLACEMENT[3] = {'\xEF', '\xBF', '\xBD'};

/* Append text [len] up to a character that the end cuts, with one U+FFFD for each ill-formed part.
 *   used   receives how many bytes were dealt with; the at most 3 behind them are the cut character
 */
static tdm_status put_valid(const unsigned char *text, size_t len, size_t *used, tdm_buf *out,
                            tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t at = 0, valid_from = 0;
    int32_t c = 0;
    while (at < len) {
        const size_t n = tdm_utf8_next(text + at, len - at, &c);
        if (c == TDM_UTF8_CUT)
            break;
        if (c == TDM_UTF8_BAD) {
            TDM_TRY(tdm_buf_put(out, text + valid_from, at - valid_from, err));
            TDM_TRY(tdm_buf_put(out, REPLACEMENT, sizeof REPLACEMENT, err));
            valid_from = at + n;
        }
        at += n;
    }
    TDM_TRY(tdm_buf_put(out, text + valid_from, at - valid_from, err));
    *used = at;
done:
    return st;
}

tdm_status tdm_utf8_replace(const char *text, size_t len, tdm_buf *out, tdm_err *err)
{
    tdm_utf8_stream stream = {0};
    return tdm_utf8_stream_put(&stream, text, len, 1, out, err);
}

/* Give bytes to the character that is held back until it is complete or turns out wrong.
 * Returns how many bytes were taken. */
static tdm_status finish_held(tdm_utf8_stream *s, const unsigned char *bytes, size_t len,
                              size_t *taken, tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    *taken = 0;
    while (s->n_held > 0 && *taken < len) {
        int32_t c;
        s->held[s->n_held] = bytes[*taken];
        const size_t n = tdm_utf8_next(s->held, s->n_held + 1, &c);
        if (c == TDM_UTF8_CUT) {
            s->n_held++;
            ++*taken;
        } else if (c == TDM_UTF8_BAD) {
            /* What was held is a maximal part; the new byte is no part of it. */
            TDM_TRY(tdm_buf_put(out, REPLACEMENT, sizeof REPLACEMENT, err));
            s->n_held = 0;
        } else {
            TDM_TRY(tdm_buf_put(out, s->held, n, err));
            s->n_held = 0;
            ++*taken;
        }
    }
done:
    return st;
}

tdm_status tdm_utf8_stream_put(tdm_utf8_stream *s, const char *bytes, size_t len, int finish,
                               tdm_buf *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const unsigned char *p = (const unsigned char *)bytes;
    size_t taken = 0, used = 0;
    TDM_TRY(finish_held(s, p, len, &taken, out, err));
    if (taken < len) {
        TDM_TRY(put_valid(p + taken, len - taken, &used, out, err));
        s->n_held = (unsigned)(len - taken - used);
        memcpy(s->held, p + taken + used, s->n_held);
    }
    if (finish && s->n_held > 0) {
        TDM_TRY(tdm_buf_put(out, REPLACEMENT, sizeof REPLACEMENT, err));
        s->n_held = 0;
    }
done:
    return st;
}
