#include "host/job_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/readfile.h"

/* ---- names ---- */

static char *joined(const char *a, const char *b)
{
    char *text = NULL;
    return asprintf(&text, "%s%s", a, b) < 0 ? NULL : text;
}

char *job_path(const char *folder, const char *name)
{
    char *text = NULL;
    return asprintf(&text, "%s/%s", folder, name) < 0 ? NULL : text;
}

char *job_part(const char *folder, uint32_t rank, const char *of)
{
    char *text = NULL;
    return asprintf(&text, "%s/%" PRIu32 ".%s", folder, rank, of) < 0 ? NULL : text;
}

/* Whether a name is RANK.of. */
static bool is_part(const char *name, const char *of, uint32_t *rank)
{
    uint64_t value = 0;
    size_t n = 0;
    for (; name[n] >= '0' && name[n] <= '9' && n < 10; n++)
        value = value * 10 + (uint64_t)(name[n] - '0');
    *rank = (uint32_t)value;
    return n > 0 && (n == 1 || name[0] != '0') && value <= UINT32_MAX && name[n] == '.' &&
           !strcmp(name + n + 1, of);
}

bool job_part_rank(const char *name, uint32_t *rank)
{
    return is_part(name, "journal", rank);
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* A name that is short enough for OUT alone would fail at the very end. */
static tdm_status check_length(const job_names *n, tdm_err *err)
{
    struct stat info;
    if (lstat(n->final, &info) != 0 && errno == ENAMETOOLONG)
        return tdm_fail(err, TDM_ECANTCREATE, "%s: the name is too long for the files beside it",
                        n->out);
    return TDM_OK;
}

/* The folder must be open to be made durable. One that may be written but not read fails here,
 * before any work. */
static tdm_status check_parent(const job_names *n, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int fd = open(n->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TDM_REQUIRE(fd >= 0, TDM_ECANTCREATE, "%s: its folder cannot be opened: %s", n->out,
                strerror(errno));
    close(fd);
done:
    return st;
}

tdm_status job_names_find(job_names *n, const char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    struct stat info;
    const bool exists = stat(path, &info) == 0;
    *n = (job_names){0};
    TDM_REQUIRE(!exists || !S_ISDIR(info.st_mode), TDM_ECANTCREATE, "%s: is a folder", path);
    TDM_REQUIRE(!exists || access(path, W_OK) == 0, TDM_ECANTCREATE, "%s: %s", path,
                strerror(errno));
    /* it would be replaced by OUT, which was meant to lie elsewhere, on a larger disk say */
    TDM_REQUIRE(exists || lstat(path, &info) != 0 || !S_ISLNK(info.st_mode), TDM_ECANTCREATE,
                "%s: is a link to what is not there; make that, or name it", path);
    n->out = exists ? realpath(path, NULL) : strdup(path);
    TDM_REQUIRE(n->out, TDM_ENOMEM, "%s: its name", path);
    n->parent = folder_of(n->out);
    n->errors = joined(n->out, ".errors.jsonl");
    n->final = joined(n->out, ".manifest.json");
    n->manifest = joined(n->out, ".job/manifest.json");
    n->folder = joined(n->out, ".job");
    n->lock = joined(n->out, ".job/lock");
    TDM_REQUIRE(n->parent && n->errors && n->final && n->manifest && n->folder && n->lock,
                TDM_ENOMEM, "%s: the names beside it", path);
    TDM_TRY(check_length(n, err));
    TDM_TRY(check_parent(n, err));
done:
    return st;
}

void job_names_free(job_names *n)
{
    free(n->out);
    free(n->parent);
    free(n->errors);
    free(n->final);
    free(n->manifest);
    free(n->folder);
    free(n->lock);
    *n = (job_names){0};
}

job_stamp job_stamp_of(const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0)
        return (job_stamp){0};
    return (job_stamp){.device = (uint64_t)s.st_dev,
                       .inode = (uint64_t)s.st_ino,
                       .size = (uint64_t)s.st_size,
                       .mtime = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec};
}

bool job_stamp_equal(const job_stamp *a, const job_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->mtime == b->mtime;
}

/* ---- writing ---- */

tdm_status job_write_failed(const char *path, int why, tdm_err *err)
{
    if (why == ENOSPC || why == EDQUOT)
        return tdm_fail(
            err, TDM_EIO,
            "%s: disk full (%s); free some space and run the same command again to go on", path,
            strerror(why));
    return tdm_fail(err, TDM_EIO, "%s: writing: %s", path, strerror(why));
}

tdm_status job_write(int fd, const char *path, const void *p, size_t len, uint64_t at, tdm_err *err)
{
    size_t done = 0;
    while (done < len) {
        const ssize_t n = pwrite(fd, (const char *)p + done, len - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR)
            return job_write_failed(path, errno, err);
        done += n > 0 ? (size_t)n : 0;
    }
    return TDM_OK;
}

tdm_status job_close_file(int *fd, const char *path, tdm_err *err)
{
    const int number = *fd;
    *fd = -1;
    return close(number) == 0 || errno == EINTR ? TDM_OK : job_write_failed(path, errno, err);
}

tdm_status job_write_file(const char *path, const void *p, size_t len, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int fd = -1;
    TDM_TRY(job_remove(path, err)); /* what is there may be a link, or a second name of another file */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        st = job_write_failed(path, errno, err);
        goto done;
    }
    TDM_TRY(job_write(fd, path, p, len, 0, err));
    if (fsync(fd) != 0) {
        st = job_write_failed(path, errno, err);
        goto done;
    }
    TDM_TRY(job_close_file(&fd, path, err));
done:
    if (fd >= 0)
        close(fd);
    return st;
}

tdm_status job_sync_folder(const char *path, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TDM_REQUIRE(fd >= 0, TDM_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    /* EINVAL: a file system that has no such thing */
    TDM_REQUIRE(fsync(fd) == 0 || errno == EINVAL, TDM_EIO, "%s: making names durable: %s", path,
                strerror(errno));
done:
    if (fd >= 0)
        close(fd);
    return st;
}

/* ---- removing ---- */

tdm_status job_remove(const char *path, tdm_err *err)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return TDM_OK;
    return tdm_fail(err, TDM_EIO, "%s: cannot be removed: %s", path, strerror(errno));
}

static bool is_ours(const char *name)
{
    static const char *const OF[] = {"data", "errors", "journal"};
    uint32_t rank;
    for (size_t i = 0; i < sizeof OF / sizeof *OF; i++)
        if (is_part(name, OF[i], &rank))
            return true;
    return !strncmp(name, "joined", 6) || !strncmp(name, "manifest.json", 13);
}

static tdm_status remove_ours(const char *folder, DIR *dir, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (struct dirent *e; (e = readdir(dir));) {
        if (!is_ours(e->d_name))
            continue;
        char *path = job_path(folder, e->d_name);
        TDM_REQUIRE(path, TDM_ENOMEM, "the name of %s", e->d_name);
        st = job_remove(path, err);
        free(path);
        TDM_TRY(st);
    }
done:
    return st;
}

/* One with somebody else's files stays, and on NFS one whose files a process has open. */
tdm_status job_remove_folder(const job_names *n, tdm_err *err)
{
    if (rmdir(n->folder) == 0 || errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST)
        return TDM_OK;
    return tdm_fail(err, TDM_EIO, "%s: cannot be removed: %s", n->folder, strerror(errno));
}

tdm_status job_clear_folder(const job_names *n, bool with_lock, tdm_err *err)
{
    tdm_status st = TDM_OK;
    DIR *dir = opendir(n->folder);
    if (!dir && errno == ENOENT)
        goto done;
    TDM_REQUIRE(dir, TDM_EIO, "%s: cannot be listed: %s", n->folder, strerror(errno));
    TDM_TRY(job_remove(n->manifest, err)); /* first: without it the rest is no job */
    TDM_TRY(remove_ours(n->folder, dir, err));
    if (!with_lock)
        goto done;
    TDM_TRY(job_remove(n->lock, err));
    TDM_TRY(job_remove_folder(n, err));
done:
    if (dir)
        closedir(dir);
    return st;
}

/* ---- SHA-256 ---- */

static tdm_status digest(int fd, const tdm_stop *stop, EVP_MD_CTX *sha, void *buf, size_t cap,
                         tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (ssize_t n = 1; n != 0;) {
        TDM_TRY(tdm_check_stop(stop, err));
        n = read(fd, buf, cap);
        if (n < 0 && errno == EINTR)
            continue;
        TDM_REQUIRE(n >= 0, TDM_EIO, "reading: %s", strerror(errno));
        TDM_REQUIRE(EVP_DigestUpdate(sha, buf, (size_t)n), TDM_EINTERNAL, "SHA-256");
    }
done:
    return st;
}

void job_sha_text(EVP_MD_CTX *sha, char text[JOB_SHA_TEXT])
{
    unsigned char hash[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;
    EVP_DigestFinal_ex(sha, hash, &n);
    for (int i = 0; i < (JOB_SHA_TEXT - 1) / 2; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
}

tdm_status job_sha256(const char *path, const tdm_stop *stop, char text[JOB_SHA_TEXT], tdm_err *err)
{
    enum { READ = 4 << 20 };
    tdm_status st = TDM_OK;
    int fd = -1;
    uint64_t size = 0;
    void *buf = NULL;
    EVP_MD_CTX *sha = NULL;
    TDM_TRY(tdm_file_open(path, &fd, &size, err));
    buf = malloc(READ);
    sha = EVP_MD_CTX_new();
    TDM_REQUIRE(buf && sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL), TDM_ENOMEM,
                "SHA-256 of %s", path);
    st = digest(fd, stop, sha, buf, READ, err);
    if (st != TDM_OK) {
        tdm_context(err, st, "%s", path);
        goto done;
    }
    job_sha_text(sha, text);
done:
    EVP_MD_CTX_free(sha);
    free(buf);
    if (fd >= 0)
        close(fd);
    return st;
}
