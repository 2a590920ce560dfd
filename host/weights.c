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
    LEAST_BYTES = 4 << 20,  /* of a tensor: less is for one reader */
    PIECE_BYTES = 16 << 20, /* what is read between two looks at whether to stop */
};

tdm_status tdm_loader_open(tdm_loader *l, const tdm_backend *be, const tdm_checkpoint *ck,
                           const char *prefix, bool check_finite, tdm_err *err)
{
    *l = (tdm_loader){.be = be, .ck = ck, .prefix = prefix, .check_finite = check_finite, .stop = be->stop};
    tdm_status st = TDM_OK;
    l->used = calloc(tdm_checkpoint_count(ck) + 1, sizeof *l->used);
    TDM_REQUIRE(l->used, TDM_ENOMEM, "list of tensors");
    const int readers = be->n_ranks > 0 ? READERS / be->n_ranks : READERS; /* all ranks load at the same time */
    TDM_TRY(tdm_threads_open(readers > 0 ? readers : 1, &l->readers, err));
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

/* ---- a slice of a tensor, in the file and in host memory ---- */

/* One dimension of it, in elements. */
typedef struct {
    size_t part;         /* a group in the file */
    size_t first, n;     /* of it, what is read */
    size_t width;        /* a group in memory */
    size_t groups;
} extent;

/* The elements of a slice come in runs that lie together in the file and in memory. */
typedef struct {
    extent rows, cols;
    size_t run, n_runs; /* elements of a run */
    size_t values;      /* elements in memory, zeros included */
} region;

static tdm_status check_slice(tdm_slice s, tdm_err *err)
{
    if (s.groups > 0 && s.size % s.groups == 0 && s.share.first >= 0 && s.share.n >= 0 && s.width >= s.share.n &&
        s.share.n <= s.size / s.groups - s.share.first && s.width <= INT32_MAX / s.groups)
        return TDM_OK;
    return tdm_fail(err, TDM_EARG, "%d from %d on, %d wide, of each of %d parts of %d", (int)s.share.n,
                    (int)s.share.first, (int)s.width, (int)s.groups, (int)s.size);
}

static extent extent_of(tdm_slice s)
{
    return (extent){(size_t)(s.size / s.groups), (size_t)s.share.first, (size_t)s.share.n, (size_t)s.width,
                    (size_t)s.groups};
}

static region region_of(tdm_slice rows, tdm_slice cols)
{
    region g = {.rows = extent_of(rows), .cols = extent_of(cols)};
    extent *r = &g.rows, *c = &g.cols;
    g.values = r->groups * r->width * c->groups * c->width;
    if (c->n == c->part && c->width == c->n) { /* whole rows lie together: columns of a single one */
        const size_t E = c->groups * c->n;
        *c = (extent){r->part * E, r->first * E, r->n * E, r->width * E, r->groups};
        *r = (extent){1, 0, 1, 1, 1};
    }
    g.run = c->n;
    g.n_runs = r->groups * r->n * c->groups;
    return g;
}

/* The first element of run k, in the file and in memory. */
static void find_run(const region *g, size_t k, size_t *in_file, size_t *in_memory)
{
    const extent *r = &g->rows, *c = &g->cols;
    const size_t row = k / c->groups, group = k % c->groups;
    const size_t row_group = row / r->n, row_of_group = row % r->n;
    *in_file = ((row_group * r->part + r->first + row_of_group) * c->groups + group) * c->part + c->first;
    *in_memory = ((row_group * r->width + row_of_group) * c->groups + group) * c->width;
}

/* ---- reading ---- */

/* A slice of a tensor that is being read by several readers, each with an error of its own. */
typedef struct {
    const tdm_loader *l;
    const tdm_tensor *t;
    const region *g;
    char *dst;
    size_t each; /* elements of one reader */
    tdm_status status[READERS];
    tdm_err err[READERS];
} reading;

static void read_share(void *ctx, size_t i)
{
    reading *r = ctx;
    const size_t item = tdm_dtype_size(r->t->dtype), run = r->g->run;
    const size_t first = i * r->each, left = run * r->g->n_runs - first;
    const size_t end = first + (left < r->each ? left : r->each);
    size_t n = 0, from = 0, to = 0;
    for (size_t at = first; at < end && r->status[i] == TDM_OK; at += n) {
        find_run(r->g, at / run, &from, &to);
        n = run - at % run < end - at ? run - at % run : end - at;
        n = n < PIECE_BYTES / item ? n : PIECE_BYTES / item;
        r->status[i] = tdm_check_stop(r->l->stop, &r->err[i]);
        if (r->status[i] == TDM_OK)
            r->status[i] = tdm_checkpoint_read_part(r->l->ck, r->t, (from + at % run) * item, n * item,
                                                    r->l->check_finite, r->dst + (to + at % run) * item,
                                                    &r->err[i]);
    }
}

/* g of a tensor into dst, on all readers. The error is that of the first reader that has one. */
static tdm_status read_region(const tdm_loader *l, const tdm_tensor *t, const region *g, void *dst, tdm_err *err)
{
    const size_t n = g->run * g->n_runs, item = tdm_dtype_size(t->dtype);
    const size_t readers = n * item > LEAST_BYTES ? (size_t)tdm_threads_count(l->readers) : 1;
    reading r = {.l = l, .t = t, .g = g, .dst = dst, .each = n / readers + 1};
    if (g->values > n)
        memset(dst, 0, g->values * item);
    tdm_parallel(l->readers, n ? readers : 0, read_share, &r);
    for (size_t i = 0; i < readers; i++)
        if (r.status[i] != TDM_OK)
            return tdm_fail(err, r.status[i], "%s", r.err[i].msg);
    return TDM_OK;
}

/* Read the same slice of n equal tensors one behind the other into staging buffer FROM_FILE: in the type
 * that they share, else widened to f32.
 *   cols  size 0: rank 1
 *   each  receives the number of values of one */
static tdm_status fetch(tdm_loader *l, const char *const *names, int n, tdm_slice rows, tdm_slice cols,
                        tdm_dtype *dtype, size_t *each, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_tensor *t = NULL;
    bool shared = true;
    size_t piece = 0, bytes = 0;
    TDM_TRY(check_slice(rows, err));
    TDM_TRY(check_slice(cols, err));
    const region g = region_of(rows, cols.size ? cols : tdm_whole(1));
    *each = g.values;
    for (int i = 0; i < n; i++) {
        TDM_TRY(find(l, names[i], rows.size, cols.size, &t, err));
        shared = shared && (i == 0 || t->dtype == *dtype);
        *dtype = shared ? t->dtype : TDM_F32;
    }
    TDM_REQUIRE(tdm_mul_size(*each, tdm_dtype_size(*dtype), &piece) && tdm_mul_size(piece, (size_t)n, &bytes),
                TDM_ENOMEM, "%s: %d x %zu values", names[0], n, *each);
    TDM_TRY(stage(l, FROM_FILE, bytes, err));
    for (int i = 0; i < n; i++) {
        char *to = (char *)l->staging[FROM_FILE] + (size_t)i * piece;
        TDM_TRY(find(l, names[i], rows.size, cols.size, &t, err));
        if (!shared)
            TDM_TRY(stage(l, CONVERTED, piece, err));
        TDM_TRY(read_region(l, t, &g, shared ? to : l->staging[CONVERTED], err));
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
    TDM_TRY(fetch(l, &name, 1, tdm_whole(rows), tdm_whole(cols), &dtype, &n, err));
    TDM_TRY(convert(l, dtype, TDM_F32, n, &wide, err));
    *values = wide;
done:
    return st;
}

/* ---- matrices ---- */

static tdm_status load_matrix(tdm_loader *l, const char *const *names, int n, tdm_slice in, tdm_slice out,
                              tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_dtype dtype;
    size_t each = 0;
    const bool in_first = layout == TDM_IN_OUT;
    TDM_TRY(fetch(l, names, n, in_first ? in : out, in_first ? out : in, &dtype, &each, err));
    TDM_TRY(tdm_weight_open(l->be, l->staging[FROM_FILE], dtype, tdm_slice_width(in), n * tdm_slice_width(out),
                            layout, w, err));
    l->bytes += each * (size_t)n * tdm_dtype_size(l->be->dtype);
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, names[0]);
}

tdm_status tdm_load_weight(tdm_loader *l, const char *name, tdm_slice in, tdm_slice out, tdm_layout layout,
                           tdm_weight **w, tdm_err *err)
{
    return load_matrix(l, &name, 1, in, out, layout, w, err);
}

tdm_status tdm_load_weights_joined(tdm_loader *l, const char *const *names, int n, tdm_slice in, tdm_slice out,
                                   tdm_weight **w, tdm_err *err)
{
    return load_matrix(l, names, n, in, out, TDM_OUT_IN, w, err);
}

/* ---- vectors and tables ---- */

/* Copy host values, none perhaps, into fresh memory of the backend. On failure m->p is NULL. */
static tdm_status put(tdm_loader *l, const void *values, tdm_mat *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const size_t bytes = (size_t)m->rows * (size_t)m->cols * tdm_dtype_size(m->dtype);
    m->p = NULL;
    TDM_TRY(tdm_alloc(l->be, bytes ? bytes : 1, &m->p, err));
    if (bytes)
        TDM_TRY(tdm_upload(l->be, m->p, values, bytes, err));
    l->bytes += bytes;
done:
    if (st != TDM_OK) {
        tdm_release(l->be, m->p);
        m->p = NULL;
    }
    return st;
}

/* The same slice of n vectors as one, in m->dtype. */
static tdm_status load_vectors(tdm_loader *l, const char *const *names, int n, tdm_slice cols, tdm_mat *m,
                               tdm_err *err)
{
    tdm_status st = TDM_OK;
    tdm_dtype dtype;
    size_t each = 0;
    void *values = NULL;
    m->rows = 1;
    m->cols = n * tdm_slice_width(cols);
    TDM_TRY(fetch(l, names, n, cols, tdm_whole(0), &dtype, &each, err));
    TDM_TRY(convert(l, dtype, m->dtype, each * (size_t)n, &values, err));
    TDM_TRY(put(l, values, m, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, names[0]);
}

tdm_status tdm_load_vector(tdm_loader *l, const char *name, int32_t cols, tdm_mat *m, tdm_err *err)
{
    *m = (tdm_mat){.dtype = TDM_F32};
    return load_vectors(l, &name, 1, tdm_whole(cols), m, err);
}

tdm_status tdm_load_bias(tdm_loader *l, const char *name, tdm_slice cols, tdm_mat *m, tdm_err *err)
{
    return tdm_load_biases_joined(l, &name, 1, cols, m, err);
}

tdm_status tdm_load_biases_joined(tdm_loader *l, const char *const *names, int n, tdm_slice cols, tdm_mat *m,
                                  tdm_err *err)
{
    *m = (tdm_mat){.dtype = l->be->dtype};
    return load_vectors(l, names, n, cols, m, err);
}

tdm_status tdm_load_table(tdm_loader *l, const char *name, tdm_slice rows, int32_t cols, tdm_mat *m, tdm_err *err)
{
    tdm_status st = TDM_OK;
    size_t n = 0;
    *m = (tdm_mat){.rows = tdm_slice_width(rows), .cols = cols};
    TDM_TRY(fetch(l, &name, 1, rows, tdm_whole(cols), &m->dtype, &n, err));
    TDM_TRY(put(l, l->staging[FROM_FILE], m, err));
done:
    return st == TDM_OK ? TDM_OK : tdm_context(err, st, "loading %s%s", l->prefix, name);
}

tdm_status tdm_plan_tensor(void *plan, const char *name, tdm_slice rows, tdm_slice cols, tdm_tensor_role role)
{
    tdm_status st = TDM_OK;
    tdm_weight_plan *p = plan;
    const tdm_tensor *t = NULL;
    TDM_TRY(tdm_checkpoint_expect(p->ck, name, rows.size, cols.size, &t, p->err));
    const size_t values = (size_t)tdm_slice_width(rows) * (size_t)(cols.size ? tdm_slice_width(cols) : 1);
    p->bytes += values * tdm_dtype_size(role == TDM_AS_TABLE ? t->dtype : role == TDM_AS_F32 ? TDM_F32 : p->act);
done:
    return st;
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
