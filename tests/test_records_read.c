/* Windows of a careful worker: a chunk is handed on when it ends, not when the input does. */
#include "tests/record_files.h"

#include "tools/records_read.c"

enum { CHUNK = 100, FIRST = 3 }; /* bytes; the one that is to be done */

static int announced;

bool worker_begin(worker *w, size_t file, uint64_t chunk, uint64_t place)
{
    (void)w, (void)file, (void)place;
    assert_int_equal(chunk, FIRST);
    announced++;
    return true;
}

const char *worker_reason(const worker *w)
{
    (void)w;
    return "";
}

static bool is_first(void *ctx, size_t file, uint64_t number)
{
    (void)file;
    *(uint64_t *)ctx = number;
    return number == FIRST;
}

static void test_chunk_is_handed_on(void **state)
{
    (void)state;
    static const char LINE[] = "{\"text\": \"0123456789\"}\n"; /* 25 bytes: four are a chunk */
    const common_args common = {.chunk = CHUNK};
    const records_steps steps = {.window_tokens = INT64_MAX, .text_tokens = INT64_MAX};
    records r = {.common = &common, .steps = &steps, .careful = (worker *)&common};
    records_window w = {0};
    uint64_t asked = 0;
    tdm_buf all = {0};
    bool at_end = false;
    for (int i = 0; i < 40; i++)
        assert_int_equal(tdm_buf_put(&all, LINE, sizeof LINE - 1, NULL), TDM_OK);
    char *path = write_file("in.jsonl", all.p, all.len);
    tdm_reader_options options = TDM_READER_DEFAULTS;
    options.chunk_bytes = CHUNK;
    options.filter = (tdm_chunk_filter){.ctx = &asked, .is_wanted = is_first};
    r.reader = open_one((const char *const *)&path, 1, &options);
    r.inputs = opened;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(records_read(&r, NULL, &w, &at_end, NULL), TDM_OK);
        assert_int_equal(w.n_slots, 1);
        assert_int_equal(w.slots[0].record.kind, i < 4 ? TDM_RECORD_OK : TDM_RECORD_CHUNK);
        assert_int_equal(asked, FIRST);
        assert_false(at_end);
    }
    assert_int_equal(announced, 4);
    assert_int_equal(records_read(&r, NULL, &w, &at_end, NULL), TDM_OK);
    assert_int_equal(w.n_slots, 0);
    assert_true(at_end);
    tdm_reader_close(r.reader);
    tdm_buf_free(&w.arena);
    free(w.slots);
    free(w.texts);
    tdm_buf_free(&all);
    remove_file(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chunk_is_handed_on)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
