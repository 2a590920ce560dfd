#include "kernels/comm.h"

#include <nccl.h>
#include <stdlib.h>
#include <string.h>

struct tdm_comm {
    ncclComm_t nccl; /* NULL after abort */
    int32_t n;
};

/* What NCCL says, in one line. Some results come with an explanation, which may be that of an earlier one. */
static tdm_status check(ncclResult_t result, ncclComm_t nccl, tdm_status otherwise, const char *what, tdm_err *err)
{
    if (result == ncclSuccess || result == ncclInProgress)
        return TDM_OK;
    const char *why = ncclGetLastError(nccl);
    const int n = why ? (int)strcspn(why, "\n") : 0;
    return tdm_fail(err, otherwise, "NCCL: %s: %s%s%.*s%s", what, ncclGetErrorString(result), n ? " (" : "", n, why,
                    n ? ")" : "");
}

/* ---- open and close ---- */

tdm_status tdm_comm_open_all(const int *devices, int32_t n, tdm_comm **comms, tdm_err *err)
{
    tdm_status st = TDM_OK;
    ncclComm_t *nccl = NULL;
    memset(comms, 0, (size_t)n * sizeof *comms);
    nccl = calloc((size_t)n, sizeof *nccl);
    TDM_REQUIRE(nccl, TDM_ENOMEM, "communicators");
    for (int32_t i = 0; i < n; i++) {
        comms[i] = calloc(1, sizeof **comms);
        TDM_REQUIRE(comms[i], TDM_ENOMEM, "communicator");
        comms[i]->n = n;
    }
    /* NCCL leaves the thread on the device that it found, and that takes memory there: on device 0, whoever has it */
    (void)cudaSetDevice(devices[0]);
    TDM_TRY(check(ncclCommInitAll(nccl, n, devices), NULL, TDM_ENODEV, "joining the devices", err));
    for (int32_t i = 0; i < n; i++)
        comms[i]->nccl = nccl[i];
done:
    for (int32_t i = 0; i < n && st != TDM_OK; i++) {
        free(comms[i]);
        comms[i] = NULL;
    }
    free(nccl);
    return st;
}

void tdm_comm_close(tdm_comm *c)
{
    if (c && c->nccl)
        (void)ncclCommDestroy(c->nccl);
    free(c);
}

void tdm_comm_abort(tdm_comm *c)
{
    if (c->nccl)
        (void)ncclCommAbort(c->nccl);
    c->nccl = NULL;
}

/* ---- messages ---- */

tdm_status tdm_comm_gather(tdm_comm *c, void *to, const void *from, size_t bytes, cudaStream_t stream, tdm_err *err)
{
    return check(ncclAllGather(from, to, bytes, ncclInt8, c->nccl, stream), c->nccl, TDM_ESTOPPED, "gathering", err);
}

tdm_status tdm_comm_exchange(tdm_comm *c, void *to, const void *from, size_t bytes, cudaStream_t stream, tdm_err *err)
{
    ncclResult_t result = ncclGroupStart();
    for (int32_t i = 0; i < c->n && result == ncclSuccess; i++) {
        const size_t part = (size_t)i * bytes;
        result = ncclSend((const char *)from + part, bytes, ncclInt8, i, c->nccl, stream);
        if (result == ncclSuccess)
            result = ncclRecv((char *)to + part, bytes, ncclInt8, i, c->nccl, stream);
    }
    const ncclResult_t end = ncclGroupEnd(); /* of what was begun, well or not */
    return check(result == ncclSuccess ? end : result, c->nccl, TDM_ESTOPPED, "exchanging", err);
}

tdm_status tdm_comm_check(tdm_comm *c, tdm_err *err)
{
    ncclResult_t error = ncclSuccess;
    const ncclResult_t result = ncclCommGetAsyncError(c->nccl, &error);
    return check(result == ncclSuccess ? error : result, c->nccl, TDM_ESTOPPED, "between the devices", err);
}
