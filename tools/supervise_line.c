#include "tools/supervise_line.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

tdm_status line_open(int fd[2], tdm_err *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) == 0)
        return TDM_OK;
    return tdm_fail(err, TDM_ENOMEM, "a line to a worker: %s", strerror(errno));
}

bool line_send(int fd, const line_message *m)
{
    ssize_t n;
    do
        n = send(fd, m, sizeof *m, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *m;
}

bool line_receive(int fd, line_message *m)
{
    ssize_t n;
    do
        n = recv(fd, m, sizeof *m, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *m;
}
