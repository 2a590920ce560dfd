#include "host/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tdm_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool tdm_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

tdm_status tdm_buf_reserve(tdm_buf *b, size_t more, tdm_err *err)
{
    size_t need = 0;
    if (!tdm_add_size(b->len, more, &need))
        return tdm_fail(err, TDM_ENOMEM, "a buffer of %zu + %zu bytes", b->len, more);
    if (need <= b->cap)
        return TDM_OK;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        if (!tdm_mul_size(cap, 2, &cap))
            cap = need;
    char *p = realloc(b->p, cap);
    if (!p)
        return tdm_fail(err, TDM_ENOMEM, "a buffer of %zu bytes", cap);
    b->p = p;
    b->cap = cap;
    return TDM_OK;
}

tdm_status tdm_buf_put(tdm_buf *b, const void *data, size_t n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(tdm_buf_reserve(b, n, err));
    if (n)
        memcpy(b->p + b->len, data, n);
    b->len += n;
done:
    return st;
}

tdm_status tdm_buf_printf(tdm_buf *b, tdm_err *err, const char *fmt, ...)
{
    tdm_status st = TDM_OK;
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    TDM_REQUIRE(n >= 0, TDM_EINTERNAL, "bad format %s", fmt);
    TDM_TRY(tdm_buf_reserve(b, (size_t)n + 1, err));
    vsnprintf(b->p + b->len, (size_t)n + 1, fmt, again);
    b->len += (size_t)n;
done:
    va_end(again);
    va_end(args);
    return st;
}

void tdm_buf_free(tdm_buf *b)
{
    free(b->p);
    *b = (tdm_buf){0};
}
