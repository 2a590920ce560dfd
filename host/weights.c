#include "host/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/buf.h"
#include "host/stop.h"

enum { FROM_FILE, CONVERTED }; /* uses of the two staging buffers */
/* Reading waits for a disk or for page faults more than for a core, so this is no matter of --threads. */
enum {
    READERS = 4,
    SLICE_BYTES = 4 << 20,  /* of a tensor: less is for one reader */
    PIECE_BYTES = 16 << 20, /* of a slice: what is read between two looks at whether to stop */
};

tdm_status tdm_loader_open(tdm_loader *l, const tdm_backend *be, const tdm_checkpoint *ck,
                           const char *prefix, bool check_finite, tdm_err *err)
{
    *l = (tdm_loader){.be = be, .ck = ck, .prefix = prefix, .check_finite = check_finite};
    tdm_status st = TDM_OK;
    l->used = calloc(tdm_checkpoint_count(ck) + 1, sizeof *l->used);
    TDM_REQUIRE(l->used, TDM_ENOMEM, "list of tensors");
    TDM_TRY(tdm_threads_open(READERS, &l->readers, err));
done:
    if (st != TDM_OK)
        tdm_loader_close(l);
    return st;
}

void tdm_loader_close(tdm_loader *l)
{
    tdm_threads_close(l->readers);
    free(l->used);
    free(l->staging[FROM_FILE]);
    free(l->staging[CONVERTED]);
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

/* A tensor that is being read in `n` slices; each has its own error. */
typedef struct {
    const tdm_loader *l;
    const tdm_tensor *t;
    char *dst;
    size_t slice; /* bytes, a multiple of every element's size */
    tdm_status status[READERS];
    tdm_err err[READERS];
} slices;

static void read_slice(void *ctx, size_t i)
{
    slices *s = ctx;
    const size_t first = i * s->slice, left = s->t->bytes - first;
    const size_t end = first + (left < s->slice ? left : s->slice);
    for (size_t at = first; at < end && s->status[i] == TDM_OK; at += PIECE_BYTES) {
        const size_t n = end - at < PIECE_BYTES ? end - at : PIECE_BYTES;
        s->status[i] = tdm_check_stop(s->l->be->stop, &s->err[i]);
        if (s->status[i] == TDM_OK)
            s->status[i] = tdm_checkpoint_read_part(s->l->ck, s->t, at, n, s->l->check_finite,
                                                    s->dst + at, &s->err[i]);
    }
}

/* As tdm_checkpoint_read, on all readers. The error is that of the first slice that has one. */
static tdm_status read_tensor(const tdm_loader *l, const tdm_tensor *t, void *dst, tdm_err *err)
{
    slices s = {.l = l, .t = t, .dst = dst, .slice = t->bytes};
    if (t->bytes > SLICE_BYTES) /* 8 bytes hold a whole number of any element */
        s.slice = (t->bytes / READERS / 8 + 1) * 8;
    const size_t n = t->bytes ? (t->bytes - 1) / s.slice + 1 : 0;
    tdm_parallel(l->readers, n, read_slice, &s);
    for (size_t i = 0; i < n; i++)
        if (s.status[i] != TDM_OK)
            return tdm_fail(err, s.status[i], "%s", s.err[i].msg);
    return TDM_OK;
}

/* Read n equal tensors one behind the other into staging buffer FROM_FILE: in the type that they
 * share, else widened to f32. each  receives the number of values of one */
static tdm_status fetch(tdm_loader *l, const char *const *names, int n, int64_t rows, int64_t cols,
                        tdm_dtype *dtype, size_t *each, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_tensor *t = NULL;
    bool shared = true;
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        TDM_TRY(find(l, names[i], rows, cols, &t, err));
        shared = shared && (i == 0 || t->dtype == *dtype);
        *dtype = shared ? t->dtype : TDM_F32;
        *each = t->bytes / tdm_dtype_size(t->dtype);
    }
    const size_t piece = *each * tdm_dtype_size(*dtype); /* bytes of a file, doubled: no overflow */
    TDM_REQUIRE(tdm_mul_size(piece, (size_t)n, &bytes), TDM_ENOMEM, "%s: %d x %zu values", names[0],
                n, *each);
    TDM_TRY(stage(l, FROM_FILE, bytes, err));
    for (int i = 0; i < n; i++) {
        char *to = (char *)l->staging[FROM_FILE] + (size_t)i * piece;
        TDM_TRY(find(l, names[i], rows, cols, &t, err));
        if (!shared)
            TDM_TRY(stage(l, CONVERTED, t->bytes, err));
        TDM_TRY(read_tensor(l, t, shared ? to : l->staging[CONVERTED], err));
        if (!shared)
            tdm_to_f32((float *)(void *)to, l->staging[CONVERTED], t->dtype, *each);
    }
done:
    return st;
}

/* The n values in staging buffer FROM_FILE in another type; *values is where they are then. */
static tdm_status convert(tdm_loader *l, tdm_dtype from, tdm_dtype to, size_t n, void **values,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    *values = l->staging[FROM_FILE];
    if (from == to)
        return TDM_OK;
    TDM_TRY(
        stage(l, CONVERTED, n * sizeof(float), err)); /* bytes of a file, doubled: no overflow */
    *values = l->staging[CONVERTED];
    tdm_to_f32(*values, l->staging[FROM_FILE], from, n);
    tdm_from_f32(*values, to, *values, n);
done:
    return st;
}

tdm_status tdm_load_host(tdm_loader *l, const char *name, int32_t rows, int32_t cols,
                         const float **values, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_dtype dtype;
    size_t n = 0;
    void *wide = NULL;
    TDM_TRY(fetch(l, &name, 1, rows, cols, &dtype, &n, err));
    TDM_TRY(convert(l, dtype, TDM_F32, n, &wide, err));
    *values = wide;
done:
    return st;
}

/* ---- matrices ---- */

static tdm_status load_matrix(tdm_loader *l, const char *const *names, int n, int32_t in,
                              int32_t out, tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_dtype dtype;
    size_t each = 0;
    const bool in_first = layout == TDM_IN_OUT;
    TDM_TRY(fetch(l, names, n, in_first ? in : out, in_first ? out : in, &dtype, &each, err));
    TDM_TRY(tdm_weight_open(l->be, l->staging[FROM_FILE], dtype, in, n * out, layout, w, err));
    l->bytes += each * (size_t)n * tdm_dtype_size(l->be->dtype);
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, names[0]);
}

tdm_status tdm_load_weight(tdm_loader *l, const char *name, int32_t in, int32_t out,
                           tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    return load_matrix(l, &name, 1, in, out, layout, w, err);
}

tdm_status tdm_load_weights_joined(tdm_loader *l, const char *const *names, int n, int32_t in,
                                   int32_t out, tdm_weight **w, tdm_err *err)
{
    return load_matrix(l, names, n, in, out, TDM_OUT_IN, w, err);
}

/* ---- vectors and tables ---- */

/* Copy host values into fresh memory of the backend. On failure m->p is NULL. */
static tdm_status put(tdm_loader *l, const void *values, tdm_mat *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = (size_t)m->rows * (size_t)m->cols * tdm_dtype_size(m->dtype);
    m->p = NULL;
    TDM_TRY(tdm_alloc(l->be, bytes, &m->p, err));
    TDM_TRY(tdm_upload(l->be, m->p, values, bytes, err));
    l->bytes += bytes;
done:
    if (st != TDM_OK) {
        tdm_release(l->be, m->p);
        m->p = NULL;
    }
    return st;
}

/* n vectors of m->cols / n values as m->dtype. */
static tdm_status load_vectors(tdm_loader *l, const char *const *names, int n, tdm_mat *m,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_dtype dtype;
    size_t each = 0;
    void *values = NULL;
    TDM_TRY(fetch(l, names, n, m->cols / n, 0, &dtype, &each, err));
    TDM_TRY(convert(l, dtype, m->dtype, each * (size_t)n, &values, err));
    TDM_TRY(put(l, values, m, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, names[0]);
}

tdm_status tdm_load_vector(tdm_loader *l, const char *name, int32_t cols, tdm_mat *m, tdm_err *err)
{
    *m = (tdm_mat){.rows = 1, .cols = cols, .dtype = TDM_F32};
    return load_vectors(l, &name, 1, m, err);
}

tdm_status tdm_load_bias(tdm_loader *l, const char *name, int32_t cols, tdm_mat *m, tdm_err *err)
{
    return tdm_load_biases_joined(l, &name, 1, cols, m, err);
}

tdm_status tdm_load_biases_joined(tdm_loader *l, const char *const *names, int n, int32_t cols,
                                  tdm_mat *m, tdm_err *err)
{
    *m = (tdm_mat){.rows = 1, .cols = n * cols, .dtype = l->be->dtype};
    return load_vectors(l, names, n, m, err);
}

tdm_status tdm_load_table(tdm_loader *l, const char *name, int32_t rows, int32_t cols, tdm_mat *m,
                          tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n = 0;
    *m = (tdm_mat){.rows = rows, .cols = cols};
    TDM_TRY(fetch(l, &name, 1, rows, cols, &m->dtype, &n, err));
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
