/* host/err.h - one status type and one error message for the whole project.
 *
 *   tdm_status open_it(const char *path, thing **out, tdm_err *err)
 *   {
 *       tdm_status st = TDM_OK;
 *       thing *t = calloc(1, sizeof *t);
 *       TDM_REQUIRE(t, TDM_ENOMEM, "thing handle");
 *       TDM_TRY(read_header(t, path, err));
 *       *out = t;
 *       t = NULL; // the caller owns it now
 *   done:
 *       thing_close(t);
 *       return st == TDM_OK ? TDM_OK : tdm_context(err, st, "%s", path);
 *   }
 *
 * The place that knows writes the sentence; callers add where with tdm_context. Nothing outside
 * tools/ prints or exits. Thread safety: no state; one tdm_err belongs to one caller. */
#ifndef HOST_ERR_H
#define HOST_ERR_H

/* name, exit code of the command line, text. The codes are those of sysexits.h where it has one. */
#define TDM_STATUS_MAP(X)                                                                          \
    X(OK, 0, "ok")                                                                                 \
    X(EARG, 2, "bad argument")                                                                     \
    X(EFORMAT, 65, "bad format")                                                                   \
    X(ENOINPUT, 66, "no input")                                                                    \
    X(ENODEV, 69, "no device")                                                                     \
    X(EINTERNAL, 70, "internal")                                                                   \
    X(ENOMEM, 71, "no memory")                                                                     \
    X(ECANTCREATE, 73, "cannot create")                                                            \
    X(EIO, 74, "i/o")                                                                              \
    X(ESTOPPED, 75, "stopped")                                                                     \
    X(EMISMATCH, 78, "mismatch")

typedef enum {
#define X(name, exit_code, text) TDM_##name = exit_code,
    TDM_STATUS_MAP(X)
#undef X
} tdm_status;

typedef struct {
    tdm_status status;
    char msg[512]; /* one line, no newline, outermost context first */
} tdm_err;

const char *tdm_status_text(tdm_status status);

/* Fill *err (which may be NULL) and return `status`, so that a check is one statement. */
tdm_status tdm_fail(tdm_err *err, tdm_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Put "fmt: " in front of the message in *err. A long message loses its tail, not its head. */
tdm_status tdm_context(tdm_err *err, tdm_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), cold));

/* The only two ways out of a function. Both need `tdm_status st`, `tdm_err *err` and a `done:`
 * label. There is no early-return twin, so no path can step over the cleanup. */
#define TDM_TRY(call)                                                                              \
    do {                                                                                           \
        if ((st = (call)) != TDM_OK)                                                               \
            goto done;                                                                             \
    } while (0)
#define TDM_REQUIRE(cond, status, ...)                                                             \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            st = tdm_fail(err, status, __VA_ARGS__);                                               \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

#endif
