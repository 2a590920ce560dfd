/* kernels/comm_stub.c - what a build without NCCL links in place of comm.c and nccl.c. No communicator is ever open. */
#include "kernels/comm.h"

static tdm_status fail(tdm_err *err)
{
    return tdm_fail(err, TDM_ENODEV, "this tandem was built without NCCL");
}

tdm_status tdm_comm_open_all(const int *devices, int32_t n, tdm_comm **comms, tdm_err *err)
{
    (void)devices;
    for (int32_t i = 0; i < n; i++)
        comms[i] = NULL;
    return fail(err);
}

void tdm_comm_close(tdm_comm *c)
{
    (void)c;
}

tdm_status tdm_comm_gather(tdm_comm *c, void *to, const void *from, size_t bytes, cudaStream_t stream, tdm_err *err)
{
    (void)c, (void)to, (void)from, (void)bytes, (void)stream;
    return fail(err);
}

tdm_status tdm_comm_exchange(tdm_comm *c, void *to, const void *from, size_t bytes, cudaStream_t stream, tdm_err *err)
{
    (void)c, (void)to, (void)from, (void)bytes, (void)stream;
    return fail(err);
}

tdm_status tdm_comm_check(tdm_comm *c, tdm_err *err)
{
    (void)c;
    return fail(err);
}

void tdm_comm_abort(tdm_comm *c)
{
    (void)c;
}
