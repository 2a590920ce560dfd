/* Files, folders and random numbers of the driver. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/crash/crash.h"

char scratch[PATH_CAP], last_fault[128] = "no fault";

_Noreturn void give_up(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\nafter %s\nsee %s\n", last_fault, scratch);
    va_end(args);
    exit(1);
}

void scratch_path(char path[PATH_CAP], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = snprintf(path, PATH_CAP, "%s/", scratch);
    n += vsnprintf(path + n, (size_t)(PATH_CAP - n), fmt, args);
    va_end(args);
    EXPECT(n < PATH_CAP, "%s: too long", path);
}

void beside(char path[PATH_CAP], const char *out, const char *ending)
{
    EXPECT(snprintf(path, PATH_CAP, "%s%s", out, ending) < PATH_CAP, "%s: too long", out);
}

void store(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");
    EXPECT(f, "%s: %s", path, strerror(errno));
    EXPECT(fwrite(data, 1, len, f) == len && fclose(f) == 0, "%s: %s", path, strerror(errno));
}

bool load(const char *path, tdm_buf *out)
{
    out->len = 0;
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    for (size_t n = 1; n > 0; out->len += n) {
        EXPECT(tdm_buf_reserve(out, 1 << 16, NULL) == TDM_OK, "%s: no memory", path);
        n = fread(out->p + out->len, 1, 1 << 16, f);
    }
    fclose(f);
    return true;
}

/* Call fn for each entry of a folder. */
static void each_entry(const char *path,
                       void (*fn)(const char *path, const char *name, const char *ctx),
                       const char *ctx)
{
    DIR *folder = opendir(path);
    EXPECT(folder, "%s: %s", path, strerror(errno));
    for (const struct dirent *e; (e = readdir(folder));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            fn(path, e->d_name, ctx);
    closedir(folder);
}

static void join(char out[PATH_CAP], const char *path, const char *name)
{
    EXPECT(snprintf(out, PATH_CAP, "%s/%s", path, name) < PATH_CAP, "%s/%s: too long", path, name);
}

static bool is_folder(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static void remove_entry(const char *path, const char *name, const char *ctx)
{
    char full[PATH_CAP];
    (void)ctx;
    join(full, path, name);
    remove_tree(full);
}

void remove_tree(const char *path)
{
    if (is_folder(path))
        each_entry(path, remove_entry, NULL);
    EXPECT(remove(path) == 0 || errno == ENOENT, "%s: %s", path, strerror(errno));
}

static void copy_entry(const char *path, const char *name, const char *to)
{
    char from[PATH_CAP], full[PATH_CAP];
    join(from, path, name);
    join(full, to, name);
    copy_tree(from, full);
}

void copy_tree(const char *from, const char *to)
{
    if (is_folder(from)) {
        EXPECT(mkdir(to, 0777) == 0, "%s: %s", to, strerror(errno));
        each_entry(from, copy_entry, to);
        return;
    }
    tdm_buf data = {0};
    EXPECT(load(from, &data), "%s: %s", from, strerror(errno));
    store(to, data.p, data.len);
    tdm_buf_free(&data);
}

size_t count_lines(const tdm_buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++)
        n += text->p[i] == '\n';
    return n;
}

/* ---- random numbers: splitmix64 ---- */

uint64_t random_state;

static uint64_t random_bits(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t random_below(uint64_t n)
{
    return random_bits() % n;
}

double random_share(void)
{
    return (double)(random_bits() >> 11) * 0x1p-53;
}
