/* tests/fuzz/small_vocabulary.h - a vocabulary of a few merges, in both numberings. */
#ifndef TESTS_FUZZ_SMALL_VOCABULARY_H
#define TESTS_FUZZ_SMALL_VOCABULARY_H

#include <stdio.h>
#include <string.h>

#include "tokenizer/bpe.h"
#include "tokenizer/symbols.h"

/* U+0120 is a space, U+010A a line feed; C3 B0 C5 81 C4 BB C4 A4 are the bytes of an emoji's start.
 */
static const char SMALL_MERGES[] =
    "#version: 0.2\n\xC4\xA0 t\nh e\n\xC4\xA0t he\ni n\ne r\na a\naa aa\nb c\na bc\nbc bc\nbcbc "
    "bcbc\n"
    "abc bc\nin g\n\xC4\x8A \xC4\x8A\n. .\n.. ..\n\xC3\x83 \xC2\xA9\n\xC3\xB0 \xC5\x81\n"
    "\xC4\xA0 \xC3\xB0\xC5\x81\n1 9\n19 9\n' '\nl l\n< s\n";

static tdm_bpe *open_small_gpt2(void)
{
    tdm_bpe *bpe = NULL;
    tdm_bpe_open_memory(SMALL_MERGES, strlen(SMALL_MERGES), NULL, 0, &bpe, NULL);
    return bpe;
}

/* The character that a byte is written as, as JSON text. */
static void put_symbol(tdm_buf *out, unsigned char byte)
{
    unsigned char order[256];
    unsigned rank = 0, c;
    tdm_symbols_order(order);
    while (order[rank] != byte)
        rank++;
    c = rank < 188 ? byte : 0x100 + rank - 188;
    tdm_buf_printf(out, NULL, "\\u%04x", c);
}

/* The same symbols with RoBERTa's specials in front, ids from 4 on in the order of GPT-2's. */
static tdm_bpe *open_small_roberta(void)
{
    tdm_bpe *gpt2 = open_small_gpt2(), *bpe = NULL;
    tdm_buf json = {0};
    tdm_buf_printf(&json, NULL, "{\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, \"<unk>\": 3");
    for (int32_t id = 0; gpt2 && id < tdm_bpe_size(gpt2); id++) {
        size_t len = 0;
        const char *text = tdm_bpe_token(gpt2, id, &len);
        tdm_buf_printf(&json, NULL, ", \"");
        for (size_t i = 0; i < len; i++)
            put_symbol(&json, (unsigned char)text[i]);
        tdm_buf_printf(&json, NULL, "\": %d", (int)id + 4);
    }
    tdm_buf_printf(&json, NULL, ", \"<mask>\": %d}", gpt2 ? (int)tdm_bpe_size(gpt2) + 4 : 0);
    tdm_bpe_open_memory(SMALL_MERGES, strlen(SMALL_MERGES), json.p, json.len, &bpe, NULL);
    tdm_buf_free(&json);
    tdm_bpe_close(gpt2);
    return bpe;
}

#endif
