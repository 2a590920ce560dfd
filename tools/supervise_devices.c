/* tools/supervise_devices.c - --devices to a list of devices that are there and of one kind. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/supervise_state.h"

static tdm_status check_options(const common_args *c, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const char *device = c->device;
    TDM_REQUIRE(tdm_job_is_for(c->out), TDM_EARG, "--devices wants --out FILE: %s is a stream, which one process writes",
                strcmp(c->out, "-") ? c->out : "stdout");
    TDM_REQUIRE(strcmp(device, "cpu") != 0, TDM_EARG, "--devices %s with --device cpu: the CPU is one device", c->devices);
    TDM_REQUIRE(strncmp(device, "cuda:", 5) != 0, TDM_EARG,
                "--devices %s with --device %s: give the numbers to --devices alone", c->devices, device);
    TDM_REQUIRE(!strcmp(device, "auto") || !strcmp(device, "cuda") || !strcmp(device, "null"), TDM_EARG,
                "--device %s: want auto, cuda or null beside --devices", device);
    TDM_REQUIRE(!c->dry_run, TDM_EARG, "--dry-run with --devices: it tries one device out; give that to --device");
    TDM_REQUIRE(c->tp != 0, TDM_EARG,
                "--tp auto with --devices: how many devices make one worker must be known before any is looked at; give a "
                "number, as \"tandem inspect\" tells it");
done:
    return st;
}

/* ---- the list ---- */

static tdm_status add_number(const char *text, size_t len, device_list *list, tdm_err *err)
{
    enum { MOST_DIGITS = 4 };
    tdm_status st = TDM_OK;
    char digits[MOST_DIGITS + 1] = "";
    TDM_REQUIRE(len > 0 && len <= MOST_DIGITS && strspn(text, "0123456789") >= len, TDM_EARG,
                "--devices: \"%.*s\" is no device; want all, or numbers with commas: 0,2,5", (int)(len < 40 ? len : 40),
                text);
    memcpy(digits, text, len);
    const int number = atoi(digits);
    for (int32_t i = 0; i < list->n; i++)
        TDM_REQUIRE(list->numbers[i] != number, TDM_EARG, "--devices: device %d is listed twice", number);
    TDM_REQUIRE(list->n < SUPERVISE_MOST_DEVICES, TDM_EARG, "--devices: more than %d devices", SUPERVISE_MOST_DEVICES);
    list->numbers[list->n++] = number;
done:
    return st;
}

static tdm_status read_list(const char *text, device_list *list, tdm_err *err)
{
    tdm_status st = TDM_OK;
    for (;;) {
        const size_t len = strcspn(text, ",");
        TDM_TRY(add_number(text, len, list, err));
        if (!text[len])
            break;
        text += len + 1;
    }
done:
    return st;
}

/* ---- what there is ---- */

static bool is_same_kind(const tdm_cuda_device *a, const tdm_cuda_device *b)
{
    return !strcmp(a->name, b->name) && a->major == b->major && a->minor == b->minor &&
           a->multiprocessors == b->multiprocessors;
}

static const tdm_cuda_device *find_device(const tdm_cuda_device *all, int32_t n, int number)
{
    for (int32_t i = 0; i < n; i++)
        if (all[i].number == number)
            return &all[i];
    return NULL;
}

/* An empty list becomes all. */
static tdm_status check_list(const tdm_cuda_device *all, int32_t n, device_list *list, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const tdm_cuda_device *first = NULL;
    for (int32_t i = 0; list->n == 0 && i < n && i < SUPERVISE_MOST_DEVICES; i++)
        list->numbers[i] = all[i].number;
    list->n = list->n ? list->n : n < SUPERVISE_MOST_DEVICES ? n : SUPERVISE_MOST_DEVICES;
    for (int32_t i = 0; i < list->n; i++) {
        const tdm_cuda_device *d = find_device(all, n, list->numbers[i]);
        TDM_REQUIRE(d, TDM_ENODEV, "--devices: there is no device %d, only %d of them (from 0)", list->numbers[i], n);
        first = first ? first : d;
        TDM_REQUIRE(is_same_kind(first, d), TDM_EARG,
                    "--devices: device %d is %s, sm_%d%d, and device %d is %s, sm_%d%d: results would depend on who "
                    "wrote them; give devices of one kind",
                    first->number, first->name, first->major, first->minor, d->number, d->name, d->major, d->minor);
    }
done:
    return st;
}

/* What the process that may call CUDA found out. */
typedef struct {
    tdm_err err; /* status TDM_OK: the list is good */
    device_list list;
} findings;

static void look(findings *f)
{
    tdm_cuda_device *all = NULL;
    int32_t n = 0;
    f->err.status = tdm_list_cuda(&all, &n, &f->err);
    if (f->err.status == TDM_OK)
        f->err.status = check_list(all, n, &f->list, &f->err);
    free(all);
}

static bool read_all(int fd, void *out, size_t len)
{
    size_t done = 0;
    while (done < len) {
        const ssize_t n = read(fd, (char *)out + done, len - done);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool write_all(int fd, const void *p, size_t len)
{
    size_t done = 0;
    while (done < len) {
        const ssize_t n = write(fd, (const char *)p + done, len - done);
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* In a process of its own. It leaves by _exit: what is in buffers is the first process's. */
static tdm_status look_apart(findings *f, tdm_err *err)
{
    tdm_status st = TDM_OK;
    int fd[2] = {-1, -1}, how = 0;
    TDM_REQUIRE(pipe(fd) == 0, TDM_ENOMEM, "a pipe: %s", strerror(errno));
    const pid_t pid = fork();
    TDM_REQUIRE(pid >= 0, TDM_ENOMEM, "a process that looks at the devices: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        look(f);
        _exit(write_all(fd[1], f, sizeof *f) ? TDM_OK : TDM_EIO);
    }
    close(fd[1]);
    fd[1] = -1;
    const bool said = read_all(fd[0], f, sizeof *f);
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
        ;
    TDM_REQUIRE(said, TDM_ENODEV, "--devices: the process that looked at them ended by %s %d",
                WIFSIGNALED(how) ? "signal" : "exit code", WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how));
    TDM_REQUIRE(f->err.status == TDM_OK, f->err.status, "%s", f->err.msg);
done:
    for (int i = 0; i < 2; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    return st;
}

tdm_status devices_find(const common_args *common, device_list *out, tdm_err *err)
{
    tdm_status st = TDM_OK;
    const bool all = !strcmp(common->devices, "all");
    findings found = {.list.null = !strcmp(common->device, "null")};
    TDM_TRY(check_options(common, err));
    TDM_REQUIRE(!all || !found.list.null, TDM_EARG, "--devices all: there is no number of null devices; list some: 0,1,2");
    if (!all)
        TDM_TRY(read_list(common->devices, &found.list, err));
    if (!found.list.null)
        TDM_TRY(look_apart(&found, err));
    const int32_t n = found.list.n;
    TDM_REQUIRE(n % common->tp == 0, TDM_EARG, "--devices: %d devices, --tp %" PRId64 " wants a multiple of %" PRId64, (int)n,
                common->tp, common->tp);
    *out = found.list;
done:
    return st;
}
