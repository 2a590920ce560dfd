/* tests/lane_backend.h - a backend whose downloads are watched, and that fails where a test wants it to.
 *
 *   lane_watch watch = {.fail_embed = 3};    // the third forward pass finds the device gone; 0: never
 *   lane_backend_wrap(&backend, &watch);
 *   ...
 *   assert_int_equal(watch.most, 2);         // downloads under way at once
 *
 * One backend can be wrapped at a time; it is closed as ever. */
#ifndef TESTS_LANE_BACKEND_H
#define TESTS_LANE_BACKEND_H

#include "host/backend.h"

typedef struct {
    int fail_embed, fail_begin, fail_end; /* number of the call, from 1, from which on each fails */
    int embeds, begins, ends;
    int under_way, most;
} lane_watch;

static const tdm_ops *lane_inner;
static lane_watch *lane_seen;

static inline tdm_status lane_fail(tdm_err *err)
{
    return tdm_fail(err, TDM_ESTOPPED, "the device was lost");
}

static inline tdm_status lane_embed(void *self, tdm_mat y, const tdm_step *step, tdm_mat words,
                                    int32_t first_word, tdm_mat positions, int32_t first_position, tdm_err *err)
{
    lane_seen->embeds++;
    if (lane_seen->fail_embed && lane_seen->embeds >= lane_seen->fail_embed)
        return lane_fail(err);
    return lane_inner->embed(self, y, step, words, first_word, positions, first_position, err);
}

static inline tdm_status lane_begin(void *self, int lane, const void *src, size_t bytes, tdm_err *err)
{
    lane_seen->begins++;
    if (lane_seen->fail_begin && lane_seen->begins >= lane_seen->fail_begin)
        return lane_fail(err);
    lane_seen->under_way++;
    if (lane_seen->under_way > lane_seen->most)
        lane_seen->most = lane_seen->under_way;
    return lane_inner->fetch_begin(self, lane, src, bytes, err);
}

static inline tdm_status lane_end(void *self, int lane, const void **host, tdm_err *err)
{
    const tdm_status st = lane_inner->fetch_end(self, lane, host, err);
    lane_seen->ends++;
    lane_seen->under_way--;
    if (lane_seen->fail_end && lane_seen->ends >= lane_seen->fail_end)
        return lane_fail(err);
    return st;
}

static inline void lane_backend_wrap(tdm_backend *be, lane_watch *watch)
{
    static tdm_ops wrapped;
    lane_inner = be->ops;
    lane_seen = watch;
    wrapped = *be->ops;
    wrapped.embed = lane_embed;
    wrapped.fetch_begin = lane_begin;
    wrapped.fetch_end = lane_end;
    be->ops = &wrapped;
}

#endif
