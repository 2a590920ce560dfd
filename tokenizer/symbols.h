/* tokenizer/symbols.h - how the files write bytes: one printable character for each byte.
 *
 * A byte that is printable in Latin-1 (0x21-0x7E, 0xA1-0xAC, 0xAE-0xFF) is written as the code
 * point of the same value; the other 68, in increasing order, as U+0100, U+0101, ... So a space is
 * U+0120. GPT-2's ids 0..255 are the bytes in the order of these code points. */
#ifndef TOKENIZER_SYMBOLS_H
#define TOKENIZER_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/buf.h"
#include "host/err.h"

/* The bytes in the order of their code points: GPT-2's ids 0..255. */
void tdm_symbols_order(unsigned char bytes[256]);

/* The code point that a byte is written as. */
int32_t tdm_symbol_of(unsigned char byte);

/* Turn written text [len] into bytes, at most len of them, written to out.
 * Returns false when a character is not one of the 256, or the text is empty. */
bool tdm_symbols_read(const char *text, size_t len, char *out, size_t *out_len);

/* Write text [len] for an error message: printable ASCII as it is, any other byte as \xHH, cut to
 * fit out [cap], always NUL-terminated. Returns out. */
const char *tdm_symbols_show(const char *text, size_t len, char *out, size_t cap);

#endif
