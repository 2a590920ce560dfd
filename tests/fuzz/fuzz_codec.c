/* Any bytes as a compressed file, and compressed bytes that are damaged: no crash, bounded memory, chunks that agree with
 * their lines, and no damage in silence. The first byte chooses: bytes as they are, or what to damage. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/codec.h"
#include "host/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHUNK = 64 << 10, MAX_LINE = 1 << 12 };

static void check(int is_true)
{
    if (!is_true)
        __builtin_trap();
}

/* What a file gave: its lines one behind the other, and whether it was damaged. */
typedef struct {
    tdm_buf text;
    bool damaged;
    uint64_t chunks;
} reading;

static void take(reading *r, const tdm_line *line, int64_t *last_line, uint64_t *last_offset)
{
    if (line->kind == TDM_LINES_CHUNK) {
        check(line->chunk.number == r->chunks++ && *last_offset < r->chunks * CHUNK + 1);
        return;
    }
    check(!r->damaged && (line->line == 0 || line->line > *last_line));
    check(line->offset / CHUNK == r->chunks && line->offset >= *last_offset);
    *last_line = line->line;
    *last_offset = line->offset;
    r->damaged = line->kind == TDM_LINES_DAMAGED;
    check(!r->damaged || line->detail[0]);
    check(line->kind == TDM_LINES_LINE ? line->len <= MAX_LINE : !line->text);
    if (line->text && r->text.len < 1 << 20)
        check(tdm_buf_put(&r->text, line->text, line->len, NULL) == TDM_OK);
}

static void read_file(const void *bytes, size_t len, reading *r)
{
    char path[32];
    tdm_inputs inputs;
    tdm_lines *lines = NULL;
    tdm_line line = {0};
    int64_t last_line = 0;
    uint64_t last_offset = 0, done = 0, total = 0;
    const tdm_lines_options options = {.max_line = MAX_LINE, .max_ratio = 50, .chunk_bytes = CHUNK};
    const int fd = memfd_create("packed", 0);
    check(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    const char *paths[] = {path};
    check(tdm_inputs_list(paths, 1, NULL, &inputs, NULL) == TDM_OK);
    check(tdm_lines_open(&inputs, &options, &lines, NULL) == TDM_OK);
    for (;;) {
        check(tdm_lines_next(lines, &line, NULL) == TDM_OK);
        if (line.kind == TDM_LINES_END)
            break;
        take(r, &line, &last_line, &last_offset);
    }
    tdm_lines_progress(lines, &done, &total);
    check(done == len && total == len);
    check(r->chunks > 0 || tdm_input_is_seekable(&inputs.items[0]));
    tdm_lines_close(lines);
    tdm_inputs_free(&inputs);
    close(fd);
}

/* Compress the text as two members or frames, change one byte, and read that: the same text, or damage. */
static void damage(tdm_codec codec, const uint8_t *data, size_t size)
{
    reading want = {0}, got = {0};
    tdm_buf packed = {0};
    const uint8_t *text = data + 4;
    const size_t len = size - 4, cut = data[3] % (len + 1);
    check(tdm_compress(codec, text, cut, &packed, NULL) == TDM_OK);
    check(tdm_compress(codec, text + cut, len - cut, &packed, NULL) == TDM_OK);
    read_file(packed.p, packed.len, &want);
    check(!want.damaged);
    packed.p[(data[0] << 8 | data[1]) % packed.len] ^= (char)data[2];
    read_file(packed.p, packed.len, &got);
    if (tdm_codec_of_bytes(packed.p, packed.len) == codec && !got.damaged)
        check(got.text.len == want.text.len && !memcmp(got.text.p ? got.text.p : "", want.text.p ? want.text.p : "", want.text.len));
    tdm_buf_free(&want.text);
    tdm_buf_free(&got.text);
    tdm_buf_free(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 3 != 0 && size > 5) {
        damage(data[0] % 3 == 1 ? TDM_GZ : TDM_ZST, data + 1, size - 1);
        return 0;
    }
    reading r = {0};
    read_file(data + 1, size - 1, &r);
    tdm_buf_free(&r.text);
    return 0;
}
