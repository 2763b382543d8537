/* ext_host_inbox: see the header. The kernel hands descriptors over with the first byte that they were sent with, and ends a
 * read there; and the next request comes after this one's answer. So all that came since the last one belong to
 * this one. */
#include "ext/host/ext_host_inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* read(), with the descriptors that are handed over. */
static NOINLINE ssize_t receive(struct ext_host_inbox *inbox, size_t wanted) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(inbox->fds))];
    } control;
    struct iovec iov = {.iov_base = inbox->bytes + inbox->len, .iov_len = wanted - inbox->len};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(EXT_HOST_FD, &message, MSG_CMSG_CLOEXEC);
    if (n <= 0)
        return n;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t size = head->cmsg_len - CMSG_LEN(0);
        ASSERT(size <= sizeof(inbox->fds) - inbox->fd_count * sizeof(int)); /* our parent's word */
        memcpy(inbox->fds + inbox->fd_count, CMSG_DATA(head), size);
        inbox->fd_count += (unsigned)(size / sizeof(int));
    }
    return n;
}

static void forget_last(struct ext_host_inbox *inbox) {
    for (unsigned i = 0; i < inbox->fd_count; i++)
        if (inbox->fds[i] >= 0)
            (void)close(inbox->fds[i]); /* nobody has taken it */
    inbox->fd_count = 0;
    if (inbox->taken)
        memmove(inbox->bytes, inbox->bytes + inbox->taken, inbox->len - inbox->taken);
    inbox->len -= inbox->taken;
    inbox->taken = 0;
}

bool ext_host_inbox_next(struct ext_host_inbox *inbox,
                         struct ext_host_message *out BORROWED_BY(inbox)) {
    forget_last(inbox);
    for (;;) {
        size_t size;
        int err = ext_host_decode(span_make(inbox->bytes, inbox->len), out, &size);
        if (err == 0) {
            inbox->taken = size;
            out->fds = inbox->fds;
            out->fd_count = inbox->fd_count;
        }
        if (err != -EAGAIN)
            return err == 0;
        size_t wanted = size ? size : 4096;
        if (inbox->room < wanted) {
            char *larger = realloc(inbox->bytes, wanted);
            if (!larger)
                return false;
            inbox->bytes = larger;
            inbox->room = wanted;
        }
        ssize_t n = receive(inbox, wanted);
        if (n > 0)
            inbox->len += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return false;
    }
}

void ext_host_inbox_fini(struct ext_host_inbox *inbox) {
    forget_last(inbox);
    free(inbox->bytes);
    *inbox = (struct ext_host_inbox){0};
}
