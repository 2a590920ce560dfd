/* kernels/stub.c - what a build without CUDA links in place of the CUDA backend. */
#include "host/backend.h"

tdm_status tdm_open_cuda(int device, tdm_backend *out, tdm_err *err)
{
    *out = (tdm_backend){0};
    return tdm_fail(err, TDM_ENODEV, "cuda:%d: this build has no CUDA backend", device);
}
