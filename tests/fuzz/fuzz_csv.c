/* Any bytes as a CSV file: no crash, every byte belongs to one row, and places are those of the rows. The first byte
 * chooses the limit. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/csv.h"
#include "host/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int is_true)
{
    if (!is_true)
        __builtin_trap();
}

static int64_t newlines(const uint8_t *data, size_t n)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += data[i] == '\n';
    return count;
}

static void check_row(const tdm_csv_row *row, size_t columns, const uint8_t *data, size_t size)
{
    check(row->offset < size && row->line == 1 + newlines(data, row->offset));
    check(row->offset == 0 || data[row->offset - 1] == '\n');
    if (row->kind == TDM_CSV_BAD) {
        check(row->detail && row->detail[0] && !row->fields);
        return;
    }
    check(row->fields && !row->detail);
    for (size_t i = 0; i < columns; i++) {
        const tdm_csv_field *f = &row->fields[i];
        check(!f->len || !memchr(f->text, 0, f->len));
        int32_t code = 0;
        for (size_t at = 0; at < f->len; check(code >= 0))
            at += tdm_utf8_next((const unsigned char *)f->text + at, f->len - at, &code);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    tdm_csv *csv = NULL;
    tdm_csv_row row = {.kind = TDM_CSV_END};
    tdm_err err = {0};
    int64_t number = 0;
    size_t columns = 0;
    if (size == 0)
        return 0;
    const tdm_csv_options options = {.max_row = data[0] & 1 ? 48 : 1 << 20, .max_ratio = 500};
    data++;
    size--;
    const int fd = memfd_create("rows", 0);
    check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    const bool is_plain = size < 4 || (memcmp(data, "\x1f\x8b", 2) != 0 && memcmp(data, "\x28\xb5", 2) != 0 &&
                                       memcmp(data + 1, "\x2a\x4d\x18", 3) != 0);
    const bool is_open = tdm_csv_open(path, &options, &csv, &err) == TDM_OK;
    check(is_open || (err.status == TDM_EFORMAT && err.msg[0]));
    if (is_open)
        tdm_csv_columns(csv, &columns);
    while (is_open) {
        check(tdm_csv_next(csv, &row, &err) == TDM_OK);
        if (row.kind == TDM_CSV_END)
            break;
        check(row.number == ++number);
        if (is_plain)
            check_row(&row, columns, data, size);
    }
    check(!is_open || !is_plain || row.offset == size);
    tdm_csv_close(csv);
    close(fd);
    return 0;
}
