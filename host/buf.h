/* host/buf.h - a growable byte buffer, and arithmetic on sizes that cannot wrap.
 *
 *   tdm_buf b = {0};
 *   TDM_TRY(tdm_buf_put(&b, "abc", 3, err));
 *   b.len = 0;        // reset, keeps the memory
 *   tdm_buf_free(&b); // {0} again
 *
 * Thread safety: one buffer, one thread. */
#ifndef HOST_BUF_H
#define HOST_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "host/err.h"

typedef struct {
    char *p; /* owned; NULL while cap is 0 */
    size_t len, cap;
} tdm_buf;

/* Make room for `more` bytes behind len. Errors: TDM_ENOMEM; the buffer is unchanged then. */
tdm_status tdm_buf_reserve(tdm_buf *b, size_t more, tdm_err *err);
/* Append n bytes. */
tdm_status tdm_buf_put(tdm_buf *b, const void *data, size_t n, tdm_err *err);
/* Append formatted text, without the NUL. */
tdm_status tdm_buf_printf(tdm_buf *b, tdm_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void tdm_buf_free(tdm_buf *b);

/* *out = a * b, or a + b; false when it does not fit. */
bool tdm_mul_size(size_t a, size_t b, size_t *out);
bool tdm_add_size(size_t a, size_t b, size_t *out);

#endif
