/* kernels/stub.c - what a build without CUDA links in place of the CUDA backend. */
#include "host/backend.h"
#include "kernels/ceilings.h"
#include "kernels/gemm_tune.h"

tdm_status tdm_open_cuda(const tdm_cuda_options *options, tdm_backend *out, tdm_err *err)
{
    *out = (tdm_backend){0};
    return tdm_fail(err, TDM_ENODEV, "cuda:%d: this build has no CUDA backend", options->device);
}

tdm_status tdm_open_cuda_ranks(const int *devices, int32_t n, const tdm_cuda_options *options, tdm_backend *out,
                               tdm_err *err)
{
    (void)devices;
    (void)n;
    (void)options;
    *out = (tdm_backend){0};
    return tdm_fail(err, TDM_ENODEV, "cuda: this build has no CUDA backend");
}

tdm_status tdm_list_cuda(tdm_cuda_device **out, int32_t *n, tdm_err *err)
{
    *out = NULL;
    *n = 0;
    return tdm_fail(err, TDM_ENODEV, "cuda: this build has no CUDA backend");
}

tdm_status tdm_cuda_ceilings(size_t bytes, tdm_ceilings *out, tdm_err *err)
{
    (void)bytes;
    *out = (tdm_ceilings){0};
    return tdm_fail(err, TDM_ENODEV, "this build has no CUDA backend");
}

tdm_status tdm_gemm_tune(const tdm_gemm_shape *shape, const int64_t *rows, size_t n_rows,
                         double seconds, tdm_gemm_tuned *out, tdm_err *err)
{
    (void)shape;
    (void)rows;
    (void)n_rows;
    (void)seconds;
    *out = (tdm_gemm_tuned){0};
    return tdm_fail(err, TDM_ENODEV, "this build has no CUDA backend");
}
