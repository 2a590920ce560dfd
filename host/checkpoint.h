/* host/checkpoint.h - a folder of Hugging Face form: config.json and safetensors weights.
 *
 *   TDM_TRY(tdm_checkpoint_open("gpt2-xl", &ck, err));
 *   const tdm_tensor *t = tdm_checkpoint_find(ck, "wte.weight");
 *   TDM_TRY(tdm_checkpoint_read(ck, t, true, dst, err));
 *   tdm_checkpoint_close(ck);
 *
 * Reads model.safetensors, or model.safetensors.index.json and its shards. Every check of the
 * container's specification is made at open, before anything is allocated from a number in the file;
 * data is read with pread, so a file that shrinks later is an error and not a signal.
 * Thread safety: after open, reads may run on any number of threads. */
#ifndef HOST_CHECKPOINT_H
#define HOST_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/dtype.h"
#include "host/err.h"

enum {
    TDM_MAX_RANK = 8,
    TDM_SHAPE_TEXT = 160, /* room for the text of any shape */
};

typedef struct {
    const char *name;      /* as in the file; valid until close */
    const char *type_name; /* "F32", "F16", "BF16", "I64", ... */
    bool is_float;         /* dtype is meaningful: F32, F16 or BF16 */
    tdm_dtype dtype;
    int rank;
    int64_t shape[TDM_MAX_RANK];
    size_t bytes;
    int file;        /* index of the shard */
    uint64_t offset; /* of the first byte, from the start of that file */
} tdm_tensor;

typedef struct tdm_checkpoint tdm_checkpoint;

/* Open a folder, or one .safetensors file. Of a folder with both forms the single file is taken, as
 * transformers does. All files stay open until close.
 * Errors: TDM_ENOINPUT for a missing folder or file (and one that has weights in another format,
 *         which the message names); TDM_EFORMAT names file and tensor; TDM_EIO, TDM_ENOMEM. */
tdm_status tdm_checkpoint_open(const char *dir, tdm_checkpoint **out, tdm_err *err);
void tdm_checkpoint_close(tdm_checkpoint *ck); /* NULL is fine */

size_t tdm_checkpoint_count(const tdm_checkpoint *ck);
const tdm_tensor *tdm_checkpoint_at(const tdm_checkpoint *ck, size_t i); /* an array, by name */
const tdm_tensor *tdm_checkpoint_find(const tdm_checkpoint *ck, const char *name); /* or NULL */

/* The files that hold the tensors: tdm_tensor.file counts them. bytes receives the file's size.
 * Returns: the name in the folder, or the path for a checkpoint opened as one file; lives as long as
 * ck. */
int tdm_checkpoint_files(const tdm_checkpoint *ck);
const char *tdm_checkpoint_file(const tdm_checkpoint *ck, int i, uint64_t *bytes);

/* "[50257, 768]"; text has room for TDM_SHAPE_TEXT. */
void tdm_tensor_shape(const tdm_tensor *t, char *text, size_t cap);

/* Find a weight and check what it is: a float tensor of exactly this shape (cols 0: rank 1).
 * Errors: TDM_EFORMAT with the name and both shapes or types. */
tdm_status tdm_checkpoint_expect(const tdm_checkpoint *ck, const char *name, int64_t rows,
                                 int64_t cols, const tdm_tensor **out, tdm_err *err);

/* Read all bytes of a tensor, as they are in the file, into dst [t->bytes].
 *   check_finite  refuse NaN and infinity: TDM_EFORMAT names tensor and index
 * Errors: TDM_EIO, TDM_EFORMAT when the file has become shorter. */
tdm_status tdm_checkpoint_read(const tdm_checkpoint *ck, const tdm_tensor *t, bool check_finite,
                               void *dst, tdm_err *err);

/* The same for the bytes first .. first + n - 1 of the tensor, both multiples of its element's size. */
tdm_status tdm_checkpoint_read_part(const tdm_checkpoint *ck, const tdm_tensor *t, size_t first,
                                    size_t n, bool check_finite, void *dst, tdm_err *err);

#endif
