#include "host/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char FIRST[] = "# HELP tandem_"; /* what every such file begins with */

/* ---- the text ---- */

typedef struct {
    const char *name, *type, *help;
    double value;
    bool is_known;
} metric;

/* Every sample carries the labels, so that the files of several ranks can lie in one folder. */
static tdm_status put_metric(tdm_buf *out, const metric *one, const tdm_metrics *m, tdm_err *err)
{
    if (!one->is_known)
        return TDM_OK;
    return tdm_buf_printf(out, err,
                          "# HELP %s %s\n# TYPE %s %s\n"
                          "%s{command=\"%s\",rank=\"%" PRId64 "\"} %.15g\n",
                          one->name, one->help, one->name, one->type, one->name, m->command,
                          m->rank.index, one->value);
}

tdm_status tdm_metrics_format(tdm_buf *out, const tdm_metrics *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const metric ALL[] = {
        {"tandem_up", "gauge", "Whether the process is at work.", m->is_up, true},
        {"tandem_finished", "gauge", "Whether it ended with all of its work done.", m->is_finished, true},
        {"tandem_start_time_seconds", "gauge", "When it began, seconds since 1970.", m->started, true},
        {"tandem_updated_timestamp_seconds", "gauge", "When this was written, seconds since 1970.",
         m->updated, true},
        {"tandem_records_total", "counter", "Records done by this process, bad ones included.",
         (double)m->records, true},
        {"tandem_bad_records_total", "counter", "Bad records met by this process.", (double)m->bad, true},
        {"tandem_tokens_total", "counter", "Tokens through the model in this process.",
         (double)m->tokens, true},
        {"tandem_records_before", "gauge", "Records done by earlier processes of the job.",
         (double)m->records_before, true},
        {"tandem_records_expected", "gauge", "Records in all, those before included.",
         (double)m->records_total, m->records_total > 0},
        {"tandem_input_read_bytes", "gauge", "Input bytes passed, as they are on disk.",
         (double)m->bytes_read, m->bytes_total > 0},
        {"tandem_input_bytes", "gauge", "Input bytes in all, as they are on disk.",
         (double)m->bytes_total, m->bytes_total > 0},
        {"tandem_eta_seconds", "gauge", "Seconds to go at the mean rate so far.", m->eta, m->eta >= 0},
    };
    TDM_TRY(tdm_buf_printf(out, err,
                           "# HELP tandem_info What runs.\n# TYPE tandem_info gauge\n"
                           "tandem_info{command=\"%s\",rank=\"%" PRId64 "\",ranks=\"%" PRId64
                           "\",unit=\"%s\",version=\"" TDM_VERSION "\"} 1\n",
                           m->command, m->rank.index, m->rank.count, m->unit));
    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++)
        TDM_TRY(put_metric(out, &ALL[i], m, err));
done:
    return st;
}

/* ---- the file ---- */

/* Append the name of this rank's file. */
static tdm_status put_name(tdm_buf *out, const char *path, tdm_rank rank, tdm_err *err)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *dot = strrchr(base, '.');
    const size_t stem = dot && dot != base ? (size_t)(dot - path) : strlen(path);
    if (rank.count <= 1)
        return tdm_buf_printf(out, err, "%s", path);
    return tdm_buf_printf(out, err, "%.*s.%" PRId64 "%s", (int)stem, path, rank.index, path + stem);
}

static bool write_all(int fd, const char *p, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, p, len);
        if (n < 0 && errno != EINTR)
            return false;
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Whether what is there may be replaced: nothing, or an earlier one, and not an input or OUT by a slip of the
 * hand. One that is empty may have been through a loss of power. */
static bool is_ours(const char *name)
{
    char first[sizeof FIRST] = "";
    const int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT;
    const ssize_t n = read(fd, first, sizeof FIRST - 1);
    close(fd);
    return n == 0 || (n > 0 && !strcmp(first, FIRST));
}

/* A whole file under a temporary name, then under its own. Nothing is left behind on failure. */
static tdm_status replace(const char *name, const char *temporary, const tdm_buf *text, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    int fd = -1;
    TDM_REQUIRE(stat(name, &info) != 0 || S_ISREG(info.st_mode), TDM_ECANTCREATE,
                "%s is no regular file", name); /* a device, say, would be replaced */
    TDM_REQUIRE(is_ours(name), TDM_ECANTCREATE, "%s is there and holds something else", name);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    TDM_REQUIRE(fd >= 0, TDM_ECANTCREATE, "%s: %s", temporary, strerror(errno));
    bool fine = write_all(fd, text->p, text->len);
    fine = close(fd) == 0 && fine;
    TDM_REQUIRE(fine, TDM_ECANTCREATE, "%s: %s", temporary, strerror(errno));
    TDM_REQUIRE(rename(temporary, name) == 0, TDM_ECANTCREATE, "%s: %s", name, strerror(errno));
done:
    if (st != TDM_OK && fd >= 0)
        unlink(temporary);
    return st;
}

tdm_status tdm_metrics_write(const char *path, const tdm_metrics *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf name = {0}, temporary = {0}, text = {0};
    TDM_TRY(put_name(&name, path, m->rank, err));
    TDM_TRY(tdm_buf_put(&name, "", 1, err));
    TDM_TRY(tdm_buf_printf(&temporary, err, "%s.tmp", name.p));
    TDM_TRY(tdm_buf_put(&temporary, "", 1, err));
    TDM_TRY(tdm_metrics_format(&text, m, err));
    st = replace(name.p, temporary.p, &text, err);
done:
    tdm_buf_free(&text);
    tdm_buf_free(&temporary);
    tdm_buf_free(&name);
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "metrics file");
}
