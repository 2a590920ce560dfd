/* Any bytes as a file of records: no crash, and the accounting of lines and offsets stays exact.
 * The first byte chooses the options. */
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int is_true)
{
    if (!is_true)
        __builtin_trap();
}

static const char *const FIELDS[] = {"fake", "id", NULL};

/* A field's source lies in the record, and a number is what its source says. */
static void check_fields(const tdm_record *r)
{
    for (size_t i = 0; FIELDS[i]; i++) {
        const tdm_field *f = &r->fields[i];
        if (f->kind == TDM_FIELD_ABSENT) {
            check(!f->source && f->source_len == 0);
            continue;
        }
        check(f->source >= r->source && f->source_len > 0 &&
              f->source + f->source_len <= r->source + r->source_len);
        check((f->kind == TDM_FIELD_STRING) == (f->string != NULL));
        if (f->kind == TDM_FIELD_NUMBER)
            check(isfinite(f->number) && f->number == strtod(f->source, NULL));
    }
}

static void check_record(const tdm_record *r, const uint8_t *data, size_t size, int64_t line,
                         const tdm_reader_options *options)
{
    check(r->line > line && r->offset < size && (r->offset == 0 || data[r->offset - 1] == '\n'));
    if (r->kind == TDM_RECORD_BAD) {
        check(r->detail && r->detail[0] && strcmp(tdm_fault_name(r->fault), "unknown") != 0);
        check(!r->text && !r->ids && !r->fields);
        return;
    }
    check(r->id_len > 0 && r->source_len <= options->max_line);
    if (options->want_fields)
        check_fields(r);
    else if (options->want_ids)
        check(r->n_ids > 0 && !r->text);
    else
        check(r->text_len > 0 && strlen(r->text) == r->text_len && !r->ids);
    for (size_t i = 0; i < r->n_ids; i++)
        check(r->ids[i] >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const COLLIDE[] = {"fake", NULL};
    char path[32];
    tdm_inputs inputs;
    tdm_reader *reader = NULL;
    tdm_record record;
    int64_t line = 0;
    if (size == 0)
        return 0;
    const tdm_reader_options options = {.text_key = "text",
                                        .id_key = "id",
                                        .max_line = data[0] & 4 ? 64 : 1 << 16,
                                        .want_ids = data[0] & 1,
                                        .want_fields = data[0] & 8 ? FIELDS : NULL,
                                        .collide = data[0] & 2,
                                        .collide_keys = COLLIDE};
    data++;
    size--;
    const int fd = memfd_create("records", 0);
    check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    const char *paths[] = {path};
    check(tdm_inputs_list(paths, 1, NULL, &inputs, NULL) == TDM_OK);
    const bool is_plain = tdm_input_is_seekable(&inputs.items[0]);
    check(tdm_reader_open(&inputs, &options, &reader, NULL) == TDM_OK);
    for (;;) {
        check(tdm_reader_next(reader, &record, NULL) == TDM_OK);
        if (record.kind == TDM_RECORD_END)
            break;
        if (is_plain)
            check_record(&record, data, size, line, &options);
        check(record.line - line - 1 <= tdm_reader_blank_lines(reader));
        line = record.line;
    }
    uint64_t done = 0, total = 0;
    tdm_reader_progress(reader, &done, &total);
    check(done == size && total == size);
    tdm_reader_close(reader);
    tdm_inputs_free(&inputs);
    close(fd);
    return 0;
}
