/* kernels/cuda_graph.c - operations recorded once and enqueued as one. */
#include <stdlib.h>

#include "kernels/cuda.h"

struct tdm_graph {
    cudaGraphExec_t exec;
};

/* Thread-local: another thread's cudaMalloc, of another backend, does not end the capture. */
tdm_status cuda_graph_begin(void *self, tdm_err *err)
{
    cuda_backend *c = self;
    const tdm_status st =
        cuda_check(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal),
                   "beginning of a graph", err);
    c->capturing = st == TDM_OK;
    return st;
}

tdm_status cuda_graph_end(void *self, tdm_graph **graph, tdm_err *err)
{
    tdm_status st = TDM_OK;
    cuda_backend *c = self;
    cudaGraph_t recorded = NULL;
    *graph = NULL;
    tdm_graph *g = calloc(1, sizeof *g);
    c->capturing = false; /* the capture ends, well or not */
    TDM_TRY(cuda_check(cudaStreamEndCapture(c->stream, &recorded), "end of a graph", err));
    TDM_REQUIRE(g, TDM_ENOMEM, "graph");
    TDM_TRY(cuda_check(cudaGraphInstantiate(&g->exec, recorded, 0), "graph", err));
    TDM_TRY(cuda_check(cudaGraphUpload(g->exec, c->stream), "graph", err));
    *graph = g;
    g = NULL;
done:
    if (recorded)
        (void)cudaGraphDestroy(recorded);
    cuda_graph_close(c, g);
    return st;
}

tdm_status cuda_graph_run(void *self, const tdm_graph *graph, tdm_err *err)
{
    const cuda_backend *c = self;
    return cuda_check(cudaGraphLaunch(graph->exec, c->stream), "graph", err);
}

void cuda_graph_close(void *self, tdm_graph *graph)
{
    (void)self;
    if (graph && graph->exec)
        (void)cudaGraphExecDestroy(graph->exec);
    free(graph);
}
