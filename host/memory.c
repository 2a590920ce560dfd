/* host/memory.c - see memory.h. Source: Linux, Documentation/admin-guide/cgroup-v2.rst and
 * cgroup-v1/memory.rst. */
#include "host/memory.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 8192 };

/* Where one version of control groups keeps its numbers. */
typedef struct {
    const char *mount, *limit, *usage, *unused_files;
} version;

static const version VERSIONS[] = {
    {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"},
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_inactive_file"},
};

/* The number behind `name` and blanks in the first line that has both; NULL: in the first line that is
 * one. Returns false where there is none: no such file or line, or a word such as "max". */
static bool read_number(const char *path, const char *name, uint64_t *value)
{
    char line[512];
    bool found = false;
    const size_t n = name ? strlen(name) : 0;
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (n > 0 && (strncmp(line, name, n) != 0 || !strchr(": \t", line[n])))
            continue;
        const char *number = line + n + strspn(line + n, ": \t");
        if (*number < '0' || *number > '9')
            continue;
        errno = 0;
        *value = strtoull(number, NULL, 10);
        found = errno == 0;
    }
    if (f)
        fclose(f);
    return found;
}

/* Lower *least to what one group leaves, if it limits anything. */
static void limit_by_group(const char *folder, const version *v, uint64_t *least)
{
    char path[PATH_BYTES + 64];
    uint64_t limit = 0, usage = 0, unused = 0;
    snprintf(path, sizeof path, "%s/%s", folder, v->limit);
    if (!read_number(path, NULL, &limit))
        return;
    snprintf(path, sizeof path, "%s/%s", folder, v->usage);
    if (!read_number(path, NULL, &usage))
        return;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (!read_number(path, v->unused_files, &unused) || unused > usage)
        unused = 0;
    const uint64_t taken = usage - unused, left = limit > taken ? limit - taken : 0;
    if (left < *least)
        *least = left;
}

/* The group's folder and all above it, up to the mount. In a container the path may be that of the
 * host, which is not there, but the mount itself is. */
static void limit_by_path(const char *root, const char *group, const version *v, uint64_t *least)
{
    char folder[PATH_BYTES];
    const int n = snprintf(folder, sizeof folder, "%s%s%s", root, v->mount, group);
    const size_t mount = strlen(root) + strlen(v->mount);
    if (n < 0 || (size_t)n >= sizeof folder)
        return;
    for (;;) {
        limit_by_group(folder, v, least);
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < mount)
            return;
        *slash = 0;
    }
}

/* Lines of /proc/self/cgroup: "0::/path" of version 2, "4:cpu,memory:/path" of version 1. */
static void limit_by_groups(const char *root, uint64_t *least)
{
    char line[PATH_BYTES / 2], path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group || strstr(group, "/.."))
            continue;
        *group++ = 0;
        bool memory = false;
        for (char *at = controllers + 1, *next; (next = strsep(&at, ",")) != NULL;)
            memory = memory || strcmp(next, "memory") == 0;
        if (memory)
            limit_by_path(root, group, &VERSIONS[1], least);
        else if (strcmp(line, "0:") == 0)
            limit_by_path(root, group, &VERSIONS[0], least);
    }
    if (f)
        fclose(f);
}

size_t tdm_available_memory_under(const char *root)
{
    char path[PATH_BYTES];
    uint64_t kib = 0, least = UINT64_MAX;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (read_number(path, "MemAvailable", &kib) && kib <= UINT64_MAX >> 10)
        least = kib << 10;
    limit_by_groups(root, &least);
    if (least == UINT64_MAX)
        return 0;
    return least > SIZE_MAX ? SIZE_MAX : least > 0 ? (size_t)least : 1;
}

size_t tdm_available_memory(void)
{
    return tdm_available_memory_under("");
}
