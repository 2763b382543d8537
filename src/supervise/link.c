#include "supervise/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union fd_message {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int link_send(int socket, struct link_message *message, int fd, int flags) {
    union fd_message control;
    memset(&control, 0, sizeof control);
    message->version = LINK_VERSION;
    struct iovec iov = {.iov_base = message, .iov_len = sizeof *message};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        struct cmsghdr *part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(part), &fd, sizeof fd);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &header, flags | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

int link_receive(int socket, struct link_message *out, int *fd, int flags) {
    union fd_message control;
    struct iovec iov = {.iov_base = out, .iov_len = sizeof *out};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    *fd = -1;
    ssize_t got;
    do
        got = recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    const struct cmsghdr *part = CMSG_FIRSTHDR(&header);
    if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS &&
        part->cmsg_len == CMSG_LEN(sizeof *fd))
        memcpy(fd, CMSG_DATA(part), sizeof *fd);
    if (got == 0)
        return 0;
    if (got == sizeof *out && out->version == LINK_VERSION && out->key[LINK_KEY_MAX - 1] == '\0')
        return 1;
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
    return -EPROTO;
}
