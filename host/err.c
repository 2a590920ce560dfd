#include "host/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *tdm_status_text(tdm_status status)
{
    switch (status) {
#define X(name, exit_code, text)                                                                   \
    case TDM_##name:                                                                               \
        return text;
        TDM_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

tdm_status tdm_fail(tdm_err *err, tdm_status status, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->msg, sizeof err->msg, fmt, args);
        va_end(args);
        err->status = status;
    }
    return status;
}

tdm_status tdm_context(tdm_err *err, tdm_status status, const char *fmt, ...)
{
    if (err) {
        char inner[sizeof err->msg - 2]; /* ": " takes two at least */
        memcpy(inner, err->msg, sizeof inner);
        inner[sizeof inner - 1] = 0;
        va_list args;
        va_start(args, fmt);
        const int n = vsnprintf(err->msg, sizeof err->msg, fmt, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof err->msg)
            snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", inner);
        err->status = status;
    }
    return status;
}
