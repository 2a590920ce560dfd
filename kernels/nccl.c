/* kernels/nccl.c - the functions of NCCL that comm.c calls, passed on to libnccl.so.2, which is loaded when the first of
 * them is called: NCCL is no part of CUDA's toolkit, and a machine without it can do all but tensor parallel.
 * Where the library is not there, every function fails, and ncclGetLastError says why. */
#include <dlfcn.h>
#include <nccl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* X(name, parameters, arguments) */
#define FUNCTIONS(X)                                                                               \
    X(ncclCommInitAll, (ncclComm_t * comms, int n, const int *devices), (comms, n, devices))       \
    X(ncclCommDestroy, (ncclComm_t comm), (comm))                                                  \
    X(ncclCommAbort, (ncclComm_t comm), (comm))                                                    \
    X(ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t * error), (comm, error))               \
    X(ncclGroupStart, (void), ())                                                                  \
    X(ncclGroupEnd, (void), ())                                                                    \
    X(ncclAllGather,                                                                               \
      (const void *from, void *to, size_t n, ncclDataType_t type, ncclComm_t comm, cudaStream_t s), \
      (from, to, n, type, comm, s))                                                                \
    X(ncclSend, (const void *from, size_t n, ncclDataType_t type, int to, ncclComm_t comm, cudaStream_t s), \
      (from, n, type, to, comm, s))                                                                \
    X(ncclRecv, (void *to, size_t n, ncclDataType_t type, int from, ncclComm_t comm, cudaStream_t s), \
      (to, n, type, from, comm, s))

static struct {
#define X(name, parameters, arguments) ncclResult_t(*name) parameters;
    FUNCTIONS(X)
#undef X
    const char *(*ncclGetErrorString)(ncclResult_t result);
    const char *(*ncclGetLastError)(ncclComm_t comm);
} nccl;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char trouble[256]; /* empty: all functions are there */

static void find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    if (!symbol)
        snprintf(trouble, sizeof trouble, "libnccl.so.2 has no %s", name);
    memcpy(function, &symbol, sizeof symbol); /* ISO C has no cast of one to the other */
}

static void load(void)
{
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(trouble, sizeof trouble, "%s", dlerror());
        library = dlopen(TDM_NCCL_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    }
    if (!library)
        return;
    trouble[0] = 0;
#define X(name, parameters, arguments) find(library, #name, &nccl.name);
    FUNCTIONS(X)
#undef X
    find(library, "ncclGetErrorString", &nccl.ncclGetErrorString);
    find(library, "ncclGetLastError", &nccl.ncclGetLastError);
}

static int is_loaded(void)
{
    pthread_once(&once, load);
    return !trouble[0];
}

#define X(name, parameters, arguments)                                                             \
    ncclResult_t name parameters                                                                   \
    {                                                                                              \
        return is_loaded() ? nccl.name arguments : ncclSystemError;                                \
    }
FUNCTIONS(X)
#undef X

const char *ncclGetErrorString(ncclResult_t result)
{
    return is_loaded() ? nccl.ncclGetErrorString(result) : "not to be had";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    return is_loaded() ? nccl.ncclGetLastError(comm) : trouble;
}
