#include "host/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/buf.h"

enum { FROM_FILE, WIDENED }; /* uses of the two staging buffers */

tdm_status tdm_loader_open(tdm_loader *l, const tdm_backend *be, const tdm_checkpoint *ck,
                           const char *prefix, bool check_finite, tdm_err *err)
{
    *l = (tdm_loader){.be = be, .ck = ck, .prefix = prefix, .check_finite = check_finite};
    l->used = calloc(tdm_checkpoint_count(ck) + 1, sizeof *l->used);
    return l->used ? TDM_OK : tdm_fail(err, TDM_ENOMEM, "list of tensors");
}

void tdm_loader_close(tdm_loader *l)
{
    free(l->used);
    free(l->staging[FROM_FILE]);
    free(l->staging[WIDENED]);
    *l = (tdm_loader){0};
}

/* Make staging buffer `which` at least this large; its contents are lost. */
static tdm_status stage(tdm_loader *l, int which, size_t bytes, tdm_err *err)
{
    if (bytes <= l->staging_bytes[which])
        return TDM_OK;
    free(l->staging[which]);
    l->staging_bytes[which] = 0;
    l->staging[which] = malloc(bytes);
    if (!l->staging[which])
        return tdm_fail(err, TDM_ENOMEM, "%zu bytes to read a tensor into", bytes);
    l->staging_bytes[which] = bytes;
    return TDM_OK;
}

static tdm_status find(tdm_loader *l, const char *name, int64_t rows, int64_t cols,
                       const tdm_tensor **t, tdm_err *err)
{
    char full[256];
    tdm_status st = TDM_OK;
    const int n = snprintf(full, sizeof full, "%s%s", l->prefix, name);
    TDM_REQUIRE(n > 0 && (size_t)n < sizeof full, TDM_EARG, "tensor name %s is too long", name);
    TDM_TRY(tdm_checkpoint_expect(l->ck, full, rows, cols, t, err));
    l->used[*t - tdm_checkpoint_at(l->ck, 0)] = true;
done:
    return st;
}

/* Find a tensor and read it, as it is in the file, into staging buffer FROM_FILE. */
static tdm_status fetch(tdm_loader *l, const char *name, int64_t rows, int64_t cols,
                        const tdm_tensor **t, tdm_err *err)
{
    tdm_status st = TDM_OK;
    TDM_TRY(find(l, name, rows, cols, t, err));
    TDM_TRY(stage(l, FROM_FILE, (*t)->bytes, err));
    TDM_TRY(tdm_checkpoint_read(l->ck, *t, l->check_finite, l->staging[FROM_FILE], err));
done:
    return st;
}

tdm_status tdm_load_host(tdm_loader *l, const char *name, int32_t rows, int32_t cols,
                         const float **values, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_tensor *t = NULL;
    TDM_TRY(fetch(l, name, rows, cols, &t, err));
    const size_t n = t->bytes / tdm_dtype_size(t->dtype); /* bytes of a file: no overflow below */
    TDM_TRY(stage(l, WIDENED, n * sizeof(float), err));
    tdm_to_f32(l->staging[WIDENED], l->staging[FROM_FILE], t->dtype, n);
    *values = l->staging[WIDENED];
done:
    return st;
}

tdm_status tdm_load_weight(tdm_loader *l, const char *name, int32_t in, int32_t out,
                           tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_tensor *t = NULL;
    const bool in_first = layout == TDM_IN_OUT;
    TDM_TRY(fetch(l, name, in_first ? in : out, in_first ? out : in, &t, err));
    TDM_TRY(tdm_weight_open(l->be, l->staging[FROM_FILE], t->dtype, in, out, layout, w, err));
    l->bytes += t->bytes;
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, name);
}

/* Read n equal tensors [rows, cols] one behind the other into staging buffer WIDENED, as f32. */
static tdm_status join(tdm_loader *l, const char *const *names, int n, int32_t rows, int32_t cols,
                       size_t *each, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_tensor *t = NULL;
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        TDM_TRY(fetch(l, names[i], rows, cols, &t, err));
        *each = t->bytes / tdm_dtype_size(t->dtype);
        TDM_REQUIRE(tdm_mul_size(*each * sizeof(float), (size_t)n, &bytes), TDM_ENOMEM,
                    "%s: %d x %zu values", names[i], n, *each);
        if (i == 0)
            TDM_TRY(stage(l, WIDENED, bytes, err));
        tdm_to_f32((float *)l->staging[WIDENED] + (size_t)i * *each, l->staging[FROM_FILE],
                   t->dtype, *each);
    }
done:
    return st;
}

tdm_status tdm_load_weights_joined(tdm_loader *l, const char *const *names, int n, int32_t in,
                                   int32_t out, tdm_weight **w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t each = 0;
    TDM_TRY(join(l, names, n, out, in, &each, err));
    TDM_TRY(tdm_weight_open(l->be, l->staging[WIDENED], TDM_F32, in, n * out, TDM_OUT_IN, w, err));
    l->bytes += each * (size_t)n * sizeof(float);
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, names[0]);
}

/* Copy host values into fresh memory of the backend. On failure m->p is NULL. */
static tdm_status put(tdm_loader *l, const void *values, tdm_mat *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = (size_t)m->rows * (size_t)m->cols * tdm_dtype_size(m->dtype);
    m->p = NULL;
    TDM_TRY(tdm_alloc(l->be, bytes, &m->p, err));
    TDM_TRY(tdm_upload(l->be, m->p, values, bytes, err));
    TDM_TRY(tdm_sync(l->be, err)); /* the staging buffer is about to be used again */
    l->bytes += bytes;
done:
    if (st != TDM_OK) {
        tdm_release(l->be, m->p);
        m->p = NULL;
    }
    return st;
}

tdm_status tdm_load_vectors_joined(tdm_loader *l, const char *const *names, int n, int32_t cols,
                                   tdm_mat *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t each = 0;
    *m = (tdm_mat){.rows = 1, .cols = n * cols, .dtype = TDM_F32};
    TDM_TRY(join(l, names, n, cols, 0, &each, err));
    TDM_TRY(put(l, l->staging[WIDENED], m, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, names[0]);
}

tdm_status tdm_load_vector(tdm_loader *l, const char *name, int32_t cols, tdm_mat *m, tdm_err *err)
{
    return tdm_load_vectors_joined(l, &name, 1, cols, m, err);
}

tdm_status tdm_load_table(tdm_loader *l, const char *name, int32_t rows, int32_t cols, tdm_mat *m,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_tensor *t = NULL;
    *m = (tdm_mat){.rows = rows, .cols = cols};
    TDM_TRY(fetch(l, name, rows, cols, &t, err));
    m->dtype = t->dtype;
    TDM_TRY(put(l, l->staging[FROM_FILE], m, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, name);
}

tdm_status tdm_loader_check_rest(const tdm_loader *l, bool (*ignore)(const char *name),
                                 tdm_err *err)
{
    for (size_t i = 0; i < tdm_checkpoint_count(l->ck); i++) {
        const char *name = tdm_checkpoint_at(l->ck, i)->name;
        if (!l->used[i] && !ignore(name))
            return tdm_fail(err, TDM_EFORMAT, "tensor %s does not belong to this model", name);
    }
    return TDM_OK;
}
