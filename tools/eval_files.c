#include "tools/eval_files.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/writefile.h"

tdm_status eval_files_check(const eval_files *files, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    if (files->csv)
        TDM_TRY(tdm_writefile_check(files->csv, err));
    if (files->html)
        TDM_TRY(tdm_writefile_check(files->html, err));
    TDM_REQUIRE(!files->csv || !files->html || !tdm_writefile_same(files->csv, files->html), TDM_EARG,
                "--csv and --html: both to %s", files->html);
    if (!files->svg)
        goto done;
    if (stat(files->svg, &info) == 0) {
        TDM_REQUIRE(S_ISDIR(info.st_mode), TDM_ECANTCREATE, "%s: is no folder", files->svg);
        TDM_REQUIRE(access(files->svg, W_OK | X_OK) == 0, TDM_ECANTCREATE, "%s: %s", files->svg, strerror(errno));
    } else {
        TDM_TRY(tdm_writefile_check(files->svg, err));
    }
done:
    return st;
}

/* What a file's name cannot hold, or a shell would not like, is an underscore. */
static char plain(char c)
{
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                          c == '.';
    return is_plain || !c ? c : '_';
}

bool eval_files_collide(const char *field, const char *other)
{
    while (*field && plain(*field) == plain(*other)) {
        field++;
        other++;
    }
    return plain(*field) == plain(*other);
}

/* One picture, KIND-NAME.svg or KIND.svg. Empties it. */
static tdm_status put_picture(const eval_files *files, const char *kind, const char *name, tdm_buf *picture,
                              tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf path = {0};
    TDM_TRY(tdm_buf_printf(&path, err, "%s/%s%s", files->svg, kind, name ? "-" : ""));
    for (const char *p = name ? name : ""; *p; p++) {
        const char c = plain(*p);
        TDM_TRY(tdm_buf_put(&path, &c, 1, err));
    }
    TDM_TRY(tdm_buf_put(&path, ".svg", sizeof ".svg", err));
    TDM_TRY(tdm_writefile(path.p, picture->p, picture->len, err));
    picture->len = 0;
done:
    tdm_buf_free(&path);
    return st;
}

static tdm_status put_pictures_of(const eval_files *files, const eval_result *r, tdm_buf *picture, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(eval_svg_histogram(picture, r, err));
    TDM_TRY(put_picture(files, "histogram", r->field, picture, err));
    if (r->is_probability) {
        TDM_TRY(eval_svg_calibration(picture, r, err));
        TDM_TRY(put_picture(files, "calibration", r->field, picture, err));
    }
done:
    return st;
}

static tdm_status write_pictures(const eval_files *files, const eval_found *found, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf picture = {0};
    TDM_REQUIRE(mkdir(files->svg, 0777) == 0 || errno == EEXIST, TDM_ECANTCREATE, "%s: %s", files->svg,
                strerror(errno));
    for (size_t i = 0; i < found->n_matrices; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i + 1);
        TDM_TRY(eval_svg_matrix(&picture, &found->matrices[i], err));
        TDM_TRY(put_picture(files, "matrix", i ? number : NULL, &picture, err));
    }
    if (found->n) {
        TDM_TRY(eval_svg_roc(&picture, found->results, found->n, err));
        TDM_TRY(put_picture(files, "roc", NULL, &picture, err));
    }
    if (found->n && found->results[0].n_buckets) {
        TDM_TRY(eval_svg_buckets(&picture, found->results, found->n, err));
        TDM_TRY(put_picture(files, "lengths", NULL, &picture, err));
    }
    for (size_t i = 0; i < found->n; i++)
        TDM_TRY(put_pictures_of(files, &found->results[i], &picture, err));
done:
    tdm_buf_free(&picture);
    return st;
}

tdm_status eval_files_write(const eval_files *files, const eval_found *found, const eval_options *options, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_buf text = {0};
    if (files->csv) {
        TDM_TRY(found->n_matrices ? eval_matrix_csv(&text, found->matrices, found->n_matrices, err)
                                  : eval_print_csv(&text, found->results, found->n, options, err));
        TDM_TRY(tdm_writefile(files->csv, text.p, text.len, err));
        text.len = 0;
    }
    if (files->html) {
        TDM_TRY(eval_html(&text, "tandem eval", files->about, found->results, found->n, options, found->matrices,
                          found->n_matrices, err));
        TDM_TRY(tdm_writefile(files->html, text.p, text.len, err));
    }
    if (files->svg)
        TDM_TRY(write_pictures(files, found, err));
done:
    tdm_buf_free(&text);
    return st;
}
