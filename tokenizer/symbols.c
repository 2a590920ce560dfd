#include "tokenizer/symbols.h"

#include <stdio.h>

#include "host/utf8.h"

static bool is_printable(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

void tdm_symbols_order(unsigned char bytes[256])
{
    size_t n = 0;
    for (unsigned byte = 0; byte < 256; byte++)
        if (is_printable(byte))
            bytes[n++] = (unsigned char)byte;
    for (unsigned byte = 0; byte < 256; byte++)
        if (!is_printable(byte))
            bytes[n++] = (unsigned char)byte;
}

int32_t tdm_symbol_of(unsigned char byte)
{
    if (is_printable(byte))
        return byte;
    /* U+0100 onwards: 0x00-0x20, 0x7F-0xA0, 0xAD. */
    return 0x100 + (byte <= 0x20 ? byte : byte == 0xAD ? 67 : byte - 0x7F + 0x21);
}

/* The byte that is written as c, or -1. */
static int byte_of(int32_t c)
{
    if (c >= 0 && c < 0x100)
        return is_printable((unsigned)c) ? (int)c : -1;
    /* U+0100 onwards: 0x00-0x20, 0x7F-0xA0, 0xAD. */
    const int32_t rank = c - 0x100;
    if (rank < 0 || rank > 67)
        return -1;
    return rank <= 0x20 ? rank : rank == 67 ? 0xAD : rank - 0x21 + 0x7F;
}

bool tdm_symbols_read(const char *text, size_t len, char *out, size_t *out_len)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        int32_t c;
        i += tdm_utf8_next((const unsigned char *)text + i, len - i, &c);
        const int byte = byte_of(c);
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
    }
    *out_len = n;
    return n > 0;
}

const char *tdm_symbols_show(const char *text, size_t len, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n + 5 < cap; i++) {
        const unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte < 0x7F)
            out[n++] = (char)byte;
        else
            n += (size_t)snprintf(out + n, cap - n, "\\x%02x", byte);
    }
    out[n] = '\0';
    return out;
}
