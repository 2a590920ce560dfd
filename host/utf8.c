#include "host/utf8.h"

size_t tdm_utf8_decode(const char *p, const char *end, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)p;
    const uint32_t first = s[0];
    /* What a character of n bytes must at least be, so that it has no shorter form. */
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t n = first < 0x80   ? 1
                     : first < 0xC2 ? 0
                     : first < 0xE0 ? 2
                     : first < 0xF0 ? 3
                     : first < 0xF5 ? 4
                                    : 0;
    if (n == 0 || (size_t)(end - p) < n)
        return 0;
    uint32_t value = n == 1 ? first : first & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (s[i] & 0x3Fu);
    }
    if (value < LEAST[n] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    if (code)
        *code = value;
    return n;
}
