#include "host/json.h"

#include <stdio.h>
#include <string.h>

#include "host/utf8.h"

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

/* The escape of the character at p, which is not plain; *n receives its bytes in the text.
 *   out  receives at most 12 characters and a NUL
 * Returns: characters in out. */
static size_t escape(char out[13], const char *p, const char *end, size_t *n)
{
    static const char SHORT[] = "\"\"\\\\\bb\tt\nn\ff\rr"; /* pairs: character, letter */
    uint32_t code = 0xFFFD;
    *n = tdm_utf8_decode(p, end, &code);
    if (*n == 0)
        *n = 1;
    for (const char *pair = SHORT; *pair && code < 0x80; pair += 2)
        if ((uint32_t)*pair == code)
            return (size_t)snprintf(out, 13, "\\%c", pair[1]);
    if (code < 0x10000)
        return (size_t)snprintf(out, 13, "\\u%04x", code);
    code -= 0x10000;
    return (size_t)snprintf(out, 13, "\\u%04x\\u%04x", 0xD800 + (code >> 10),
                            0xDC00 + (code & 0x3FF));
}

tdm_status tdm_json_put_string(tdm_buf *out, const char *text, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *p = text, *end = text + len;
    TDM_TRY(tdm_buf_put(out, "\"", 1, err));
    while (p < end) {
        const char *run = p;
        while (p < end && is_plain((unsigned char)*p))
            p++;
        TDM_TRY(tdm_buf_put(out, run, (size_t)(p - run), err));
        if (p < end) {
            char code[13];
            size_t used = 0;
            const size_t n = escape(code, p, end, &used);
            TDM_TRY(tdm_buf_put(out, code, n, err));
            p += used;
        }
    }
    TDM_TRY(tdm_buf_put(out, "\"", 1, err));
done:
    return st;
}

void tdm_json_quote(char *dst, size_t cap, const char *text, size_t len)
{
    const char *p = text, *end = text + len;
    size_t n = 0;
    dst[n++] = '"';
    while (p < end) {
        char code[13] = {*p};
        size_t used = 1, add = 1;
        if (!is_plain((unsigned char)*p))
            add = escape(code, p, end, &used);
        if (n + add + sizeof "...\"" > cap)
            break;
        memcpy(dst + n, code, add);
        n += add;
        p += used;
    }
    snprintf(dst + n, cap - n, "%s", p < end ? "...\"" : "\"");
}
