/* kernels/cuda_graph.c - operations recorded once and enqueued as one. */
#include <stdlib.h>

#include "kernels/cuda.h"

struct tdm_graph {
    cudaGraphExec_t exec;
    tdm_graph **of, *next; /* among the open ones of the backend: what points here, and the next */
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
    g->of = &c->graphs;
    g->next = c->graphs;
    if (g->next)
        g->next->of = &g->next;
    c->graphs = g;
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
    tdm_status st = TDM_OK;
    const cuda_backend *c = self;
    TDM_TRY(cuda_meet(c, err));
    TDM_TRY(cuda_check(cudaGraphLaunch(graph->exec, c->stream), "graph", err));
    TDM_TRY(cuda_meet(c, err));
done:
    return st;
}

void cuda_graph_close(void *self, tdm_graph *graph)
{
    (void)self;
    if (!graph)
        return;
    if (graph->exec)
        (void)cudaGraphExecDestroy(graph->exec);
    if (graph->of)
        *graph->of = graph->next;
    if (graph->next)
        graph->next->of = graph->of;
    free(graph);
}

void cuda_graphs_end(cuda_backend *c)
{
    for (tdm_graph *g = c->graphs; g; g = g->next) {
        if (g->exec)
            (void)cudaGraphExecDestroy(g->exec); /* one that runs ends first */
        g->exec = NULL;
    }
}
