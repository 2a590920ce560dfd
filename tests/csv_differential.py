#!/usr/bin/env python3
"""host/csv beside Python's csv module on random files.

    python3 tests/csv_differential.py [--files 20000] [--seed 0]

Builds a small program over host/csv.c, gives it random files made of what matters to a CSV reader (quotes, commas, line
endings, empty lines, multi-byte characters), and compares row by row:
- a file of csv.writer must give the same fields and no bad row;
- in a file of anything, each row must end where Python ends it, and be good with the same fields or bad for a reason.
A bare carriage return is in none of them: it ends a row for Python, and is refused here. Needs: gcc and the libraries of the build.
"""
import argparse
import csv
import io
import json
import os
import random
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

PROGRAM = r"""
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "host/csv.h"
#include "host/json.h"

static int dump(const char *path)
{
    const tdm_csv_options options = {.max_row = 1 << 20, .max_ratio = 500};
    tdm_csv *csv = NULL;
    tdm_csv_row row;
    tdm_buf out = {0};
    tdm_err err = {0};
    size_t n = 0;
    if (tdm_csv_open(path, &options, &csv, &err) != TDM_OK) {
        tdm_buf_put(&out, "{\"refused\": ", 12, NULL);
        tdm_json_put_string(&out, err.msg, strlen(err.msg), NULL);
        tdm_buf_put(&out, "}", 2, NULL);
        puts(out.p);
        tdm_buf_free(&out);
        return 0;
    }
    const tdm_csv_field *columns = tdm_csv_columns(csv, &n);
    tdm_buf_put(&out, "[", 1, NULL);
    for (int64_t i = 0;; i++) {
        if (i && (tdm_csv_next(csv, &row, &err) != TDM_OK || row.kind == TDM_CSV_END))
            break;
        tdm_buf_put(&out, i ? ", " : "", i ? 2 : 0, NULL);
        if (i && row.kind == TDM_CSV_BAD) {
            tdm_json_put_string(&out, row.detail, strlen(row.detail), NULL);
            continue;
        }
        const tdm_csv_field *f = i ? row.fields : columns;
        for (size_t k = 0; k < n; k++) {
            tdm_buf_put(&out, k ? ", " : "[", k ? 2 : 1, NULL);
            tdm_json_put_string(&out, f[k].text, f[k].len, NULL);
        }
        tdm_buf_put(&out, "]", 1, NULL);
    }
    tdm_buf_put(&out, "]", 2, NULL);
    puts(out.p);
    tdm_csv_close(csv);
    tdm_buf_free(&out);
    return 0;
}

int main(void)
{
    char path[4096];
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = 0;
        dump(path);
        fflush(stdout);
    }
    return 0;
}
"""

PIECES = ['a', 'b', 'xyz', ',', ',', ',', '"', '"', '""', '\n', '\n', '\r\n', '\u00e9', '\U0001f600', ' ', '1']


def build(folder):
    source, program = os.path.join(folder, 'dump.c'), os.path.join(folder, 'dump')
    with open(source, 'w') as f:
        f.write(PROGRAM)
    parts = ['csv', 'csv_file', 'source', 'codec', 'err', 'buf', 'json', 'json_scan', 'json_write']
    subprocess.check_call(['gcc', '-std=c11', '-D_GNU_SOURCE', '-O1', '-I' + ROOT, source] +
                          [f'{ROOT}/host/{p}.c' for p in parts] +
                          ['-lcjson', '-lz', '-lzstd', '-lxxhash', '-lm', '-o', program])
    return program


def written(rng):
    """A file of csv.writer."""
    columns = rng.randint(1, 5)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=rng.choice(['\n', '\r\n']), quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer.writerow([f'c{i}' for i in range(columns)])
    for _ in range(rng.randint(0, 6)):
        writer.writerow([''.join(rng.choice(PIECES) for _ in range(rng.randint(0, 6))) for _ in range(columns)])
    return text.getvalue()


def wild(rng):
    return 'c0,c1\n' + ''.join(rng.choice(PIECES) for _ in range(rng.randint(0, 40)))


def expected(text):
    return [row for row in csv.reader(io.StringIO(text, newline='')) if row]


def compare(text, ours, is_written):
    rows = expected(text)
    if len(ours) != len(rows):
        return f'{len(ours)} rows, want {len(rows)}'
    for i, (got, want) in enumerate(zip(ours, rows)):
        if isinstance(got, list) and got != want:
            return f'row {i}: {got}, want {want}'
        if not isinstance(got, list) and is_written:
            return f'row {i}: refused: {got}'
        if not isinstance(got, list) and 'fields, want' in got and len(want) == len(rows[0]):
            return f'row {i}: {got}, and has {len(want)}'
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--files', type=int, default=20000)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        program = build(folder)
        run = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        good = bad = 0
        for number in range(args.files):
            is_written = number % 2 == 0
            text = written(rng) if is_written else wild(rng)
            path = os.path.join(folder, 'file.csv')
            with open(path, 'w', newline='') as f:
                f.write(text)
            run.stdin.write(path + '\n')
            run.stdin.flush()
            ours = json.loads(run.stdout.readline())
            why = compare(text, ours, is_written) if isinstance(ours, list) else str(ours)
            if why:
                print(f'file {number}: {text!r}: {why}')
                sys.exit(1)
            good += sum(isinstance(row, list) for row in ours)
            bad += sum(not isinstance(row, list) for row in ours)
        run.stdin.close()
    print(f'{args.files} files: {good} rows equal, {bad} refused with a reason, none lost')


if __name__ == '__main__':
    main()
