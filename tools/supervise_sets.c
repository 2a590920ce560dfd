#include "tools/supervise_sets.h"

#include <stdlib.h>
#include <string.h>

void *chunks_grow(void *p, size_t n, size_t *cap, size_t size, tdm_err *err)
{
    if (n < *cap)
        return p;
    const size_t more = n < 16 ? 16 : 2 * n;
    char *grown = realloc(p, more * size);
    if (!grown) {
        tdm_fail(err, TDM_ENOMEM, "the chunks of the workers: %zu entries", more);
        return NULL;
    }
    memset(grown + *cap * size, 0, (more - *cap) * size);
    *cap = more;
    return grown;
}

static uint64_t bit_of(uint64_t number)
{
    return (uint64_t)1 << number % 64;
}

bool chunk_set_has(const chunk_set *s, chunk_id c)
{
    return c.file < s->n && c.number / 64 < s->files[c.file].n &&
           (s->files[c.file].words[c.number / 64] & bit_of(c.number));
}

tdm_status chunk_set_put(chunk_set *s, chunk_id c, tdm_err *err)
{
    struct chunk_bits *files = chunks_grow(s->files, c.file, &s->n, sizeof *files, err);
    if (!files)
        return TDM_ENOMEM;
    s->files = files;
    struct chunk_bits *b = &files[c.file];
    uint64_t *words = chunks_grow(b->words, c.number / 64, &b->n, sizeof *words, err);
    if (!words)
        return TDM_ENOMEM;
    b->words = words;
    words[c.number / 64] |= bit_of(c.number);
    return TDM_OK;
}

void chunk_set_drop(chunk_set *s, chunk_id c)
{
    s->files[c.file].words[c.number / 64] &= ~bit_of(c.number);
}

void chunk_set_remove(chunk_set *s, const chunk_set *what)
{
    for (size_t f = 0; f < s->n && f < what->n; f++)
        for (size_t i = 0; i < s->files[f].n && i < what->files[f].n; i++)
            s->files[f].words[i] &= ~what->files[f].words[i];
}

void chunk_set_free(chunk_set *s)
{
    for (size_t f = 0; f < s->n; f++)
        free(s->files[f].words);
    free(s->files);
    *s = (chunk_set){0};
}

bool chunk_is_same(chunk_id a, chunk_id b)
{
    return a.file == b.file && a.number == b.number;
}

size_t chunk_list_find(const chunk_list *list, chunk_id c)
{
    size_t i = 0;
    while (i < list->n && !chunk_is_same(list->p[i], c))
        i++;
    return i;
}

bool chunk_list_drop(chunk_list *list, chunk_id c)
{
    const size_t at = chunk_list_find(list, c);
    if (at == list->n)
        return false;
    list->n--;
    memmove(list->p + at, list->p + at + 1, (list->n - at) * sizeof *list->p);
    return true;
}

tdm_status chunk_list_put(chunk_list *list, chunk_id c, tdm_err *err)
{
    chunk_id *p = chunks_grow(list->p, list->n, &list->cap, sizeof *p, err);
    if (!p)
        return TDM_ENOMEM;
    list->p = p;
    p[list->n++] = c;
    return TDM_OK;
}
