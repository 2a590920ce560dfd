/* kernels/stub.c - what a build without CUDA links in place of the CUDA backend. */
#include "host/backend.h"
#include "kernels/ceilings.h"

tdm_status tdm_open_cuda(int device, tdm_backend *out, tdm_err *err)
{
    *out = (tdm_backend){0};
    return tdm_fail(err, TDM_ENODEV, "cuda:%d: this build has no CUDA backend", device);
}

tdm_status tdm_cuda_ceilings(size_t bytes, tdm_ceilings *out, tdm_err *err)
{
    (void)bytes;
    *out = (tdm_ceilings){0};
    return tdm_fail(err, TDM_ENODEV, "this build has no CUDA backend");
}
