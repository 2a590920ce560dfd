/* tests/test_memory.c - available memory of made-up systems: a folder with the files of /proc and
 * /sys, one case each. */
#include "host/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILES = 10 };
typedef struct {
    const char *path, *text;
} a_file;

#define INFO(kib) {"proc/meminfo", "MemTotal:  9999 kB\nMemFree: 1 kB\nMemAvailable:   " #kib " kB\n"}
#define GROUP "proc/self/cgroup"
#define V2 "sys/fs/cgroup"
#define V1 "sys/fs/cgroup/memory"

static const struct {
    const char *why;
    size_t want;
    a_file files[FILES];
} SYSTEMS[] = {
    {"nothing known", 0, {{NULL, NULL}}},
    {"the system alone", 1000 << 10, {INFO(1000)}},
    {"no limit", 1000 << 10, {INFO(1000), {GROUP, "0::/a\n"}, {V2 "/a/memory.max", "max\n"},
                              {V2 "/a/memory.current", "5\n"}}},
    {"a limit", 300, {INFO(1000), {GROUP, "0::/a\n"}, {V2 "/a/memory.max", "500\n"},
                      {V2 "/a/memory.current", "200\n"}}},
    {"a limit above", 100, {INFO(1000), {GROUP, "0::/a/b\n"}, {V2 "/a/memory.max", "500\n"},
                            {V2 "/a/memory.current", "400\n"}, {V2 "/a/b/memory.max", "900\n"},
                            {V2 "/a/b/memory.current", "10\n"}}},
    {"a limit below", 100, {INFO(1000), {GROUP, "0::/a/b\n"}, {V2 "/a/memory.max", "5000\n"},
                            {V2 "/a/memory.current", "400\n"}, {V2 "/a/b/memory.max", "110\n"},
                            {V2 "/a/b/memory.current", "10\n"}}},
    {"another's limit", 1000 << 10, {INFO(1000), {GROUP, "0::/a\n"}, {V2 "/b/memory.max", "5\n"},
                                     {V2 "/b/memory.current", "2\n"}}},
    {"a container's root", 70, {INFO(1000), {GROUP, "0::/\n"}, {V2 "/memory.max", "100\n"},
                                {V2 "/memory.current", "30\n"}}},
    {"the host's path", 70, {INFO(1000), {GROUP, "0::/host/x\n"}, {V2 "/memory.max", "100\n"},
                             {V2 "/memory.current", "30\n"}}},
    {"cached files are free", 90, {INFO(1000), {GROUP, "0::/\n"}, {V2 "/memory.max", "100\n"},
                                   {V2 "/memory.current", "30\n"},
                                   {V2 "/memory.stat", "anon 10\ninactive_anon 5\n"
                                                       "inactive_file 20\n"}}},
    {"nothing left", 1, {INFO(1000), {GROUP, "0::/\n"}, {V2 "/memory.max", "100\n"},
                         {V2 "/memory.current", "130\n"}}},
    {"the system has less", 1 << 10, {INFO(1), {GROUP, "0::/\n"}, {V2 "/memory.max", "9999\n"},
                                      {V2 "/memory.current", "30\n"}}},
    {"version 1", 300, {INFO(1000), {GROUP, "5:cpu:/c\n4:hugetlb,memory:/a\n0::/a\n"},
                        {V1 "/a/memory.limit_in_bytes", "500\n"},
                        {V1 "/a/memory.usage_in_bytes", "250\n"},
                        {V1 "/a/memory.stat", "inactive_file 7\ntotal_inactive_file 50\n"}}},
    {"version 1, no limit", 1000 << 10, {INFO(1000), {GROUP, "4:memory:/a\n"},
                        {V1 "/a/memory.limit_in_bytes", "9223372036854771712\n"},
                        {V1 "/a/memory.usage_in_bytes", "250\n"}}},
    {"groups alone", 70, {{GROUP, "0::/\n"}, {V2 "/memory.max", "100\n"},
                          {V2 "/memory.current", "30\n"}}},
    {"rubbish", 1000 << 10, {INFO(1000), {GROUP, "x\n::\n0::/\n\n"}, {V2 "/memory.max", "\n"},
                             {V2 "/memory.current", "-3\n"}}},
};

/* Make the folders of a path and write the file, or remove both. */
static void put(const char *root, const a_file *file, bool there)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, file->path);
    for (char *p = path + strlen(root) + 1; there && *p; p++)
        if (*p == '/') {
            *p = 0;
            mkdir(path, 0700);
            *p = '/';
        }
    if (there) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(file->text, f);
        fclose(f);
        return;
    }
    unlink(path);
    for (char *slash; (slash = strrchr(path, '/')) > path + strlen(root);) {
        *slash = 0;
        rmdir(path); /* once it is empty */
    }
}

static void systems(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof SYSTEMS / sizeof *SYSTEMS; i++) {
        char root[] = "/tmp/tandem-memory-XXXXXX";
        assert_non_null(mkdtemp(root));
        for (int k = 0; k < FILES && SYSTEMS[i].files[k].path; k++)
            put(root, &SYSTEMS[i].files[k], true);
        const size_t got = tdm_available_memory_under(root);
        for (int k = 0; k < FILES && SYSTEMS[i].files[k].path; k++)
            put(root, &SYSTEMS[i].files[k], false);
        assert_int_equal(rmdir(root), 0);
        if (got != SYSTEMS[i].want)
            fail_msg("%s: %zu, want %zu", SYSTEMS[i].why, got, SYSTEMS[i].want);
    }
}

static void this_system(void **state)
{
    (void)state;
    const size_t here = tdm_available_memory();
    if (access("/proc/meminfo", R_OK) != 0)
        skip();
    assert_true(here > 0);
    print_message("available here: %.1f MiB\n", (double)here / 0x1p20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(systems), cmocka_unit_test(this_system)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
