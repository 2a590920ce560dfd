#include "host/json.h"

#include <stdio.h>
#include <string.h>

#include "host/utf8.h"

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

/* A UTF-16 unit as \uXXXX. By hand: printf would take longer than everything else here. */
static size_t put_unit(char *out, uint32_t unit)
{
    static const char HEX[] = "0123456789abcdef";
    out[0] = '\\';
    out[1] = 'u';
    for (int i = 0; i < 4; i++)
        out[2 + i] = HEX[unit >> (12 - 4 * i) & 15];
    return 6;
}

/* The escape of the character at p, which is not plain; *n receives its bytes in the text.
 * Returns: characters in out. */
static size_t escape(char out[12], const char *p, const char *end, size_t *n)
{
    static const char SHORT[] = "\"\"\\\\\bb\tt\nn\ff\rr"; /* pairs: character, letter */
    int32_t read;
    *n = tdm_utf8_next((const unsigned char *)p, (size_t)(end - p), &read);
    if (read < 0)
        *n = 1;
    uint32_t code = read < 0 ? 0xFFFD : (uint32_t)read;
    for (const char *pair = SHORT; *pair && code < 0x80; pair += 2) {
        if ((uint32_t)*pair == code) {
            out[0] = '\\';
            out[1] = pair[1];
            return 2;
        }
    }
    if (code < 0x10000)
        return put_unit(out, code);
    code -= 0x10000;
    put_unit(out, 0xD800 + (code >> 10));
    return 6 + put_unit(out + 6, 0xDC00 + (code & 0x3FF));
}

tdm_status tdm_json_put_string(tdm_buf *out, const char *text, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *p = text, *end = len ? text + len : text;
    TDM_TRY(tdm_buf_put(out, "\"", 1, err));
    while (p < end) {
        const char *run = p;
        while (p < end && is_plain((unsigned char)*p))
            p++;
        TDM_TRY(tdm_buf_put(out, run, (size_t)(p - run), err));
        if (p < end) {
            char code[12];
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
        char code[12] = {*p};
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
