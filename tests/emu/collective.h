/* tests/emu/collective.h - operations of NCCL that ranks do together: collective.cpp. The calls
 * that make them are in nccl.cpp. */
#ifndef TESTS_EMU_COLLECTIVE_H
#define TESTS_EMU_COLLECTIVE_H

#include <nccl.h>

#include "tests/emu/stream.h"

namespace tdm_emu
{

enum CallKind { GATHER, EXCHANGE, N_KINDS };

struct Transfer {
    bool send;
    int peer;
    char *buffer;
    size_t count;
    ncclDataType_t type;
};

/* What one rank asks for. */
struct Call {
    CallKind kind;
    const char *from; /* GATHER, and what is below */
    char *to;
    size_t count;
    ncclDataType_t type;
    std::vector<Transfer> transfers; /* EXCHANGE */
};

struct Operation;

/* A communicator. */
struct World {
    int number;
    std::vector<ncclComm *> ranks; /* NULL: has not come yet */
    std::map<uint64_t, std::shared_ptr<Operation>> under_way;
    bool failed = false; /* by TDM_EMU_NCCL_FAIL */
};

enum class Closed { no, destroyed, aborted };

} // namespace tdm_emu

/* One rank. */
struct ncclComm {
    std::shared_ptr<tdm_emu::World> world;
    int rank, device;
    uint64_t n_called = 0, n_done = 0;
    bool called[tdm_emu::N_KINDS] = {};                      /* outside of a capture */
    std::shared_ptr<int> recorded = std::make_shared<int>(); /* each node of a graph has one too */
    tdm_emu::Closed closed = tdm_emu::Closed::no;
};

namespace tdm_emu
{

/* All with streams_lock held. */

/* Fail unless a call's buffers are memory of the rank's device and do not overlap. */
void require_buffers(const ncclComm *c, const Call &call);
/* Rank c's part of its next operation. group: of calls that a thread makes at once; 0: from a
 * graph. */
std::shared_ptr<Meeting> join(ncclComm *c, const Call &call, uint64_t group, cudaStream_t s);
/* What an aborted rank finds where results should be. */
void scribble(const ncclComm *c, const Call &call);
/* Take the rank out of what it has under way; its operations then go on alone. */
void leave(ncclComm *c);

} // namespace tdm_emu

#endif
