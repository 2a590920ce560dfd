/* A signal while a model loads or computes: the weight or the layer that is under way is the last. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "detector/detect.h"
#include "host/backend_null.h"
#include "host/checkpoint.h"
#include "host/gpt2.h"
#include "host/stop.h"
#include "tests/tiny_gpt2.h"

enum { LAYERS = 4, POSITIONS = 64, SLOTS = 2 };

/* The null device; the stop flag is set in the call of this number, of weight_open or of attention. */
static struct {
    const tdm_ops *inner;
    tdm_ops ops;
    tdm_stop stop;
    int stop_weight, stop_attention; /* 0: never */
    int weights, attentions;
} watch;

static tdm_status watch_weight(void *self, const void *src, tdm_dtype dtype, int32_t in, int32_t out,
                               tdm_layout layout, tdm_weight **w, tdm_err *err)
{
    if (++watch.weights == watch.stop_weight)
        tdm_stop_set(&watch.stop, SIGTERM);
    return watch.inner->weight_open(self, src, dtype, in, out, layout, w, err);
}

static void attend(void)
{
    if (++watch.attentions == watch.stop_attention)
        tdm_stop_set(&watch.stop, SIGTERM);
}

static tdm_status watch_cached(void *self, tdm_mat y, tdm_mat qkv, tdm_kv *kv, int32_t layer,
                               const tdm_step *step, tdm_err *err)
{
    attend();
    return watch.inner->attend_cached(self, y, qkv, kv, layer, step, err);
}

static tdm_status watch_packed(void *self, tdm_mat y, tdm_mat qkv, const tdm_step *step, bool causal,
                               tdm_err *err)
{
    attend();
    return watch.inner->attend_packed(self, y, qkv, step, causal, err);
}

static void open_watched(tdm_backend *be)
{
    tdm_err err = {0};
    assert_int_equal(tdm_open_null(be, &err), TDM_OK);
    memset(&watch, 0, sizeof watch);
    watch.inner = be->ops;
    watch.ops = *be->ops;
    watch.ops.weight_open = watch_weight;
    watch.ops.attend_cached = watch_cached;
    watch.ops.attend_packed = watch_packed;
    be->ops = &watch.ops;
    be->stop = &watch.stop;
}

/* Begin again: nothing was counted, and the flag is set in this call. */
static void rearm(int weight, int attention)
{
    tdm_stop_set(&watch.stop, 0);
    watch.stop_weight = weight;
    watch.stop_attention = attention;
    watch.weights = watch.attentions = 0;
}

static void assert_stopped(tdm_status st, const tdm_err *err)
{
    assert_int_equal(st, TDM_ESTOPPED);
    if (!strstr(err->msg, "stopped by signal 15"))
        fail_msg("%s", err->msg);
}

/* ---- the detector ---- */

static void the_detector_stops(void **state)
{
    (void)state;
    tiny_roberta tiny = {0};
    char dir[TINY_PATH];
    tdm_backend be;
    tdm_detector *d = NULL;
    tdm_err err = {0};
    const tdm_detect_options options = TDM_DETECT_DEFAULTS;
    const tdm_text text = {"and it came to pass", 19};
    tdm_detection result;
    open_watched(&be);
    tiny_roberta_make(&tiny, LAYERS, 1, 3);
    tiny_roberta_write(&tiny, dir, "roberta.", TDM_F32);
    assert_int_equal(tdm_detector_open(dir, &be, &options, &d, &err), TDM_OK);
    rearm(3, 0);
    assert_stopped(tdm_detector_load(d, &err), &err);
    assert_int_equal(watch.weights, 3);
    rearm(0, 2);
    assert_int_equal(tdm_detector_load(d, &err), TDM_OK);
    assert_stopped(tdm_detector_run(d, &text, 1, &result, NULL, NULL, &err), &err);
    assert_int_equal(watch.attentions, 2);
    rearm(0, 0);
    assert_int_equal(tdm_detector_run(d, &text, 1, &result, NULL, NULL, &err), TDM_OK);
    assert_int_equal(watch.attentions, LAYERS);
    assert_int_equal(result.outcome, TDM_DETECTED);
    tdm_stop_set(&watch.stop, SIGTERM); /* before a text is looked at */
    assert_stopped(tdm_detector_run(d, &text, 1, &result, NULL, NULL, &err), &err);
    assert_int_equal(watch.attentions, LAYERS);
    tdm_detector_close(d);
    tdm_backend_close(&be);
    tiny_roberta_remove(dir);
    tiny_roberta_free(&tiny);
}

/* ---- GPT-2 ---- */

static tdm_status feed(gpt2_run *run, tdm_err *err)
{
    const int32_t zeros[2] = {0}, positions[2] = {0, 1}, starts[2] = {0, 2};
    const gpt2_step step = {2, 1, 1, zeros, positions, starts, zeros, zeros};
    tdm_mat logits;
    return gpt2_forward(run, &step, &logits, err);
}

static tdm_status score(gpt2_run *run, tdm_err *err)
{
    const int32_t tokens[2] = {0}, starts[2] = {0, 2};
    const gpt2_texts texts = {2, 1, tokens, starts, tokens};
    return gpt2_score(run, NULL, &texts, 0, err);
}

static gpt2_run *observer; /* of the model itself */

static tdm_status score_observed(gpt2_run *run, tdm_err *err)
{
    const int32_t tokens[2] = {0}, starts[2] = {0, 2};
    const gpt2_texts texts = {2, 1, tokens, starts, tokens};
    return gpt2_score(run, observer, &texts, 1, err);
}

static tdm_status decode(gpt2_run *run, tdm_err *err)
{
    const int32_t slot = 0;
    return gpt2_decode(run, &slot, 1, 0, err);
}

static void gpt2_stops(void **state)
{
    (void)state;
    tdm_status (*const ways[])(gpt2_run *, tdm_err *) = {feed, score, decode};
    tiny_gpt2 tiny = {.layers = LAYERS, .heads = 1, .positions = POSITIONS};
    char dir[TINY_PATH];
    tdm_backend be;
    tdm_config config;
    tdm_checkpoint *ck = NULL;
    gpt2_model *model = NULL;
    gpt2_run *run = NULL;
    tdm_err err = {0};
    const gpt2_limits limits = {.slots = SLOTS, .pages = SLOTS, .context = POSITIONS, .rows = 8, .logits = 8,
                                .cross = true};
    open_watched(&be);
    tiny_gpt2_make(&tiny, 5);
    tiny_gpt2_write(&tiny, dir, TDM_F32);
    assert_int_equal(tdm_config_load(dir, &config, &err), TDM_OK);
    assert_int_equal(tdm_checkpoint_open(dir, &ck, &err), TDM_OK);
    rearm(3, 0);
    assert_stopped(gpt2_open(&be, ck, &config, true, &model, &err), &err);
    assert_int_equal(watch.weights, 3);
    rearm(0, 0);
    assert_int_equal(gpt2_open(&be, ck, &config, true, &model, &err), TDM_OK);
    assert_int_equal(gpt2_run_open(model, &limits, &run, &err), TDM_OK);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        rearm(0, 2);
        assert_stopped(ways[i](run, &err), &err);
        assert_int_equal(watch.attentions, 2);
        rearm(0, 0);
        assert_int_equal(ways[i](run, &err), TDM_OK);
        assert_int_equal(watch.attentions, LAYERS);
    }
    assert_int_equal(gpt2_run_open(model, &limits, &observer, &err), TDM_OK);
    rearm(0, LAYERS + 1);
    assert_stopped(score_observed(run, &err), &err);
    assert_int_equal(watch.attentions, LAYERS + 1);
    rearm(0, 0);
    assert_int_equal(score_observed(run, &err), TDM_OK);
    assert_int_equal(watch.attentions, 2 * LAYERS);
    gpt2_run_close(observer);
    gpt2_run_close(run);
    gpt2_close(model);
    tdm_checkpoint_close(ck);
    tdm_backend_close(&be);
    tiny_roberta_remove(dir);
    tiny_gpt2_free(&tiny);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_detector_stops),
        cmocka_unit_test(gpt2_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
