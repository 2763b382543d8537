/* io_faults: system calls on sockets that fail, or do only a part, when a test says so.
 *
 * Include it in one file of a program that is linked with the wraps of io_wraps (meson.build). Faults are of the
 * whole process: a story that sets some runs on one P. */
#pragma once
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../rt/rt_story.h"

enum faulty {
    FAULT_NONE,
    FAULT_RECV,
    FAULT_SEND, /* of one piece and of several */
    FAULT_ACCEPT,
    FAULT_CONNECT,
    FAULT_SOCKET,
    FAULT_SO_ERROR, /* the call works, and says that the connection failed so */
    FAULT_SHUTDOWN,
    FAULT_WATCH,
    FAULT_BIND,
    FAULT_CALLS,
};

static struct {
    enum faulty call;
    int error;
    unsigned skip;  /* calls that work before */
    unsigned times; /* calls that fail then */
    unsigned met;
    size_t most; /* bytes that a send takes; 0: no limit */
} fault;
static unsigned io_calls[FAULT_CALLS]; /* made, faulty ones included */

static inline void fault_set(enum faulty call, int error, unsigned times) {
    fault.call = call;
    fault.error = error;
    fault.skip = 0;
    fault.times = times;
    fault.met = 0;
}

static inline bool fault_meets(enum faulty call) {
    io_calls[call]++;
    if (fault.call != call || fault.times == 0)
        return false;
    if (fault.skip) {
        fault.skip--;
        return false;
    }
    fault.times--;
    fault.met++;
    errno = fault.error;
    return true;
}

static inline size_t fault_part(size_t size) {
    return fault.most && size > fault.most ? fault.most : size;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
/* Like libc's it takes six, whatever was passed. */
__attribute__((no_sanitize("address", "thread"))) long __wrap_syscall(long number, ...) {
    long args[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_recvfrom) {
        if (fault_meets(FAULT_RECV))
            return -1;
    } else if (number == SYS_sendto) {
        if (fault_meets(FAULT_SEND))
            return -1;
        args[2] = (long)fault_part((size_t)args[2]);
    } else if (number == SYS_sendmsg) {
        if (fault_meets(FAULT_SEND))
            return -1;
        const struct msghdr *message = (const struct msghdr *)args[1];
        if (fault.most && !message->msg_name) {
            for (size_t i = 0; i < message->msg_iovlen; i++)
                if (message->msg_iov[i].iov_len)
                    return send((int)args[0], message->msg_iov[i].iov_base,
                                fault_part(message->msg_iov[i].iov_len), (int)args[2]);
        }
    }
    return __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

#define FAULT_WRAP(call, name, params, args)                                                       \
    int __real_##name params;                                                                      \
    int __wrap_##name params;                                                                      \
    int __wrap_##name params {                                                                     \
        return fault_meets(call) ? -1 : __real_##name args;                                        \
    }

FAULT_WRAP(FAULT_ACCEPT, accept4, (int fd, struct sockaddr *peer, socklen_t *len, int flags),
           (fd, peer, len, flags))
FAULT_WRAP(FAULT_BIND, bind, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len))
FAULT_WRAP(FAULT_SOCKET, socket, (int family, int type, int protocol), (family, type, protocol))
FAULT_WRAP(FAULT_SHUTDOWN, shutdown, (int fd, int how), (fd, how))
FAULT_WRAP(FAULT_WATCH, epoll_ctl, (int set, int op, int fd, struct epoll_event *event),
           (set, op, fd, event))

int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len) {
    if (option == SO_ERROR && level == SOL_SOCKET && fault_meets(FAULT_SO_ERROR)) {
        *(int *)value = fault.error;
        return 0;
    }
    return __real_getsockopt(fd, level, option, value, len);
}

int __real_connect(int fd, const struct sockaddr *to, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t len) {
    if (!fault_meets(FAULT_CONNECT))
        return __real_connect(fd, to, len);
    if (fault.error == EINTR) { /* the one that does not end the attempt */
        (void)__real_connect(fd, to, len);
        errno = EINTR;
    }
    return -1;
}
