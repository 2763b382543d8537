/* ext_host: supervision of one host process. Everything it may do to us comes over three descriptors, and
 * every wait looks at all of them: whoever only waited for an answer would wait for ever on a process that
 * waits for room in its standard error.
 *
 *     wait ── poll ─┬─ output readable:  kept, first and last part
 *                   ├─ socket readable:  an answer, or its end (the process is gone, or hides it)
 *                   ├─ pidfd readable:   it ended; what is left in the other two is read once more
 *                   └─ interrupt:        somebody knows that there will be no answer
 *
 * The pidfd names the process, not a number that may be another's by now. Where a sandbox has no
 * pidfd_open, the socket's end tells; the number stays ours until we reap it.
 *
 * Rejected: fork, which is undefined after a Go runtime started threads here; one process for all
 * libraries, as then the first that crashes hides what the others do. */
#include "ext/host/ext_host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"
#include "ext/host/ext_host_dump.h"

enum {
    /* Between descriptors that standard streams or EXT_HOST_FD could collide with and the rest. */
    FIRST_FD = 16,
    ASK_MS = 2000,        /* what a process may take to end by itself once nobody talks to it */
    ASK_PROXY_MS = 30000, /* what a proxy may, which has to drain, on a machine that is busy */
    DUMP_MS = 3000,       /* what a Go runtime may take to list its goroutines */
    READ_SIZE = 16 * 1024,
};

struct ext_host {
    pid_t pid;
    int socket, output_fd, pidfd; /* each -1 once it is closed, or never was */
    bool ended;                   /* reaped */
    int status;
    bool is_proxy;
    void (*on_output)(void *arg, struct span bytes);
    void *arg;
    int interrupt_fd; /* with gives_up, or nothing */
    bool (*gives_up)(void *arg);
    void *interrupt_arg;
    char *inbox;
    size_t inbox_len, inbox_room, taken; /* taken: of the last answer, borrowed by the caller */
    char first[EXT_HOST_OUTPUT_FIRST];
    char last[EXT_HOST_OUTPUT_LAST]; /* a ring */
    size_t printed;                  /* in all */
    char *output;                    /* made when it is asked for */
    size_t output_len;
};

static void close_fd(int *fd) {
    if (*fd >= 0)
        (void)close(*fd); /* nothing was written that could be lost */
    *fd = -1;
}

/* ---- its start ---- */

static int set_fd_flags(int fd) {
    return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* Moves it up; the old one is closed. */
static int move_up(int *fd) {
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_FD);
    int err = moved < 0 ? -errno : 0;
    if (!err) {
        (void)close(*fd);
        *fd = moved;
    }
    return err;
}

/* {ours, the process's} of the socket, {read, write} of the pipe. */
static int make_fds(int sockets[2], int pipes[2]) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return -errno;
    int err = set_fd_flags(sockets[0]);
    if (!err)
        err = set_fd_flags(pipes[0]);
    if (!err)
        err = move_up(&sockets[1]);
    if (!err)
        err = move_up(&pipes[1]);
    return err;
}

/* The given entries, then ours without those of the same names. NULL without memory. */
static char **make_environment(const char *const *given) {
    size_t count = 0, given_count = 0, kept = 0;
    while (environ[count])
        count++;
    while (given && given[given_count])
        given_count++;
    char **out = calloc(count + given_count + 1, sizeof(*out));
    if (!out)
        return NULL;
    for (size_t i = 0; i < given_count; i++)
        out[kept++] = (char *)(uintptr_t)given[i]; /* posix_spawn's type; nobody writes there */
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(environ[i], '=');
        size_t len = equals ? (size_t)(equals - environ[i]) + 1 : strlen(environ[i]);
        bool is_given = false;
        for (size_t k = 0; k < given_count; k++)
            is_given |= strncmp(given[k], environ[i], len) == 0;
        if (!is_given)
            out[kept++] = environ[i];
    }
    return out;
}

/* {"sluice", "--ext-host", flags ...}. NULL without memory. */
static char **make_arguments(const char *const *flags) {
    static const char *const own[] = {"sluice", "--ext-host"};
    size_t count = 0;
    while (flags && flags[count])
        count++;
    const char **out = calloc(count + 3, sizeof(*out));
    if (!out)
        return NULL;
    memcpy(out, own, sizeof(own));
    if (count)
        memcpy(out + 2, flags, count * sizeof(*out));
    return (char **)(uintptr_t)out; /* posix_spawn's type; nobody writes there */
}

static int spawn(pid_t *pid, int socket, int output, char **arguments, char **environment) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int err = posix_spawn_file_actions_init(&files);
    if (err)
        return -err;
    err = posix_spawnattr_init(&attributes);
    if (err)
        goto no_attributes;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    if (!(err = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)) &&
        !(err = posix_spawn_file_actions_adddup2(&files, output, 1)) &&
        !(err = posix_spawn_file_actions_adddup2(&files, output, 2)) &&
        !(err = posix_spawn_file_actions_adddup2(&files, socket, EXT_HOST_FD)) &&
        !(err = posix_spawn_file_actions_addclosefrom_np(&files, EXT_HOST_FD + 1)) &&
        !(err = posix_spawnattr_setsigdefault(&attributes, &all)) &&
        !(err = posix_spawnattr_setsigmask(&attributes, &none)) &&
        !(err = posix_spawnattr_setflags(&attributes,
                                         POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK)))
        err = posix_spawn(pid, "/proc/self/exe", &files, &attributes, arguments, environment);
    (void)posix_spawnattr_destroy(&attributes);
no_attributes:
    (void)posix_spawn_file_actions_destroy(&files);
    return -err;
}

int ext_host_start(const struct ext_host_options *options, struct ext_host **out) {
    int sockets[2] = {-1, -1}, pipes[2] = {-1, -1};
    struct ext_host *host = calloc(1, sizeof(*host));
    char **environment = make_environment(options->environment);
    char **arguments = make_arguments(options->flags);
    int err = host && environment && arguments ? make_fds(sockets, pipes) : -ENOMEM;
    if (!err)
        err = spawn(&host->pid, sockets[1], pipes[1], arguments, environment);
    free(arguments);
    free(environment);
    close_fd(&sockets[1]);
    close_fd(&pipes[1]);
    if (err) {
        close_fd(&sockets[0]);
        close_fd(&pipes[0]);
        free(host);
        return err;
    }
    host->is_proxy = options->flags != NULL;
    host->on_output = options->on_output;
    host->arg = options->arg;
    host->socket = sockets[0];
    host->output_fd = pipes[0];
    host->pidfd = (int)syscall(SYS_pidfd_open, host->pid, 0); /* -1: see above */
    *out = host;
    return 0;
}

void ext_host_thread_begin(const char *name) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
    sigset_t others;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        sigdelset(&others, own[i]);
    (void)pthread_sigmask(SIG_SETMASK, &others, NULL); /* of a valid set it cannot fail */
    (void)pthread_setname_np(pthread_self(), name);    /* for those who look */
}

/* ---- what it says ---- */

/* Apart from each other, as what mentions errno is to call nothing through a pointer (tools/check_parks.py). */

static NOINLINE void keep_output(struct ext_host *host, const char *bytes, size_t len) {
    if (host->on_output)
        host->on_output(host->arg, span_make(bytes, len));
    for (size_t i = 0; i < len; i++, host->printed++) {
        if (host->printed < EXT_HOST_OUTPUT_FIRST)
            host->first[host->printed] = bytes[i];
        else
            host->last[(host->printed - EXT_HOST_OUTPUT_FIRST) % EXT_HOST_OUTPUT_LAST] = bytes[i];
    }
}

void ext_host_set_output(struct ext_host *host, void (*on_output)(void *arg, struct span bytes),
                         void *arg BORROWED_BY(host)) {
    host->on_output = on_output;
    host->arg = arg;
}

void ext_host_set_interrupt(struct ext_host *host, int fd, bool (*gives_up)(void *arg),
                            void *arg BORROWED_BY(host)) {
    host->interrupt_fd = fd;
    host->gives_up = gives_up;
    host->interrupt_arg = arg;
}

/* Not for ever, from one that prints as fast as we read. Twice what a pipe holds, so all of one that has ended. */
static NOINLINE void read_output(struct ext_host *host) {
    enum { READS_MAX = 2 * (64 * 1024) / READ_SIZE };
    char bytes[READ_SIZE];
    ssize_t n = 1;
    for (int i = 0; i < READS_MAX && n > 0; i++) {
        n = read(host->output_fd, bytes, sizeof(bytes));
        if (n > 0)
            keep_output(host, bytes, (size_t)n);
    }
    if (n > 0)
        return;
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        close_fd(&host->output_fd);
}

static NOINLINE int read_answer(struct ext_host *host) {
    if (host->inbox_room - host->inbox_len < READ_SIZE) {
        size_t room = 2 * host->inbox_room + READ_SIZE;
        char *larger = realloc(host->inbox, room);
        if (!larger)
            return -ENOMEM;
        host->inbox = larger;
        host->inbox_room = room;
    }
    ssize_t n =
        read(host->socket, host->inbox + host->inbox_len, host->inbox_room - host->inbox_len);
    if (n > 0)
        host->inbox_len += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        close_fd(&host->socket);
    return 0;
}

static int timeout_ms(int64_t deadline_ns) {
    int64_t left_ns = deadline_ns - clock_mono_ns();
    int64_t ms = left_ns <= 0 ? 0 : left_ns / NS_PER_MS + 1;
    return ms > 60 * 1000 ? 60 * 1000 : (int)ms;
}

static NOINLINE int poll_once(struct pollfd *fds, nfds_t count, int ms) {
    int n = poll(fds, count, ms);
    return n < 0 ? -errno : n;
}

/* One look at everything, up to the deadline. wanted: POLLIN or POLLOUT of the socket, or 0. 0, or the reason
 * to look no more. */
static int look(struct ext_host *host, short wanted, int64_t deadline_ns) {
    struct pollfd fds[] = {
        {.fd = host->output_fd, .events = POLLIN},
        {.fd = wanted ? host->socket : -1, .events = wanted},
        {.fd = host->pidfd, .events = POLLIN},
        {.fd = host->gives_up ? host->interrupt_fd : -1, .events = POLLIN},
    };
    int n = poll_once(fds, 4, timeout_ms(deadline_ns));
    if (n < 0)
        return n == -EINTR ? 0 : n;
    if (n == 0)
        return clock_mono_ns() >= deadline_ns ? -ETIMEDOUT : 0;
    if (fds[0].revents)
        read_output(host);
    int err = 0;
    if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) && (wanted & POLLIN))
        err = read_answer(host);
    else if (fds[1].revents & (POLLHUP | POLLERR))
        close_fd(&host->socket);
    /* Its end is looked at last: what it said before counts. */
    if (!err && fds[2].revents && !fds[0].revents && !fds[1].revents)
        err = -EPIPE;
    if (!err && !fds[1].revents && clock_mono_ns() >= deadline_ns)
        err = -ETIMEDOUT; /* it prints and prints */
    if (!err && !fds[1].revents && fds[3].revents && host->gives_up(host->interrupt_arg))
        err = -ETIMEDOUT;
    return err;
}

int ext_host_poll(struct ext_host *host, struct pollfd *fds, unsigned count, int64_t deadline_ns) {
    struct pollfd all[EXT_HOST_POLL_MAX + 2];
    ASSERT(count <= EXT_HOST_POLL_MAX);
    for (;;) {
        if (count)
            memcpy(all + 2, fds, count * sizeof(*fds));
        all[0] = (struct pollfd){.fd = host->output_fd, .events = POLLIN};
        all[1] = (struct pollfd){.fd = host->pidfd, .events = POLLIN};
        int n = poll_once(all, count + 2, timeout_ms(deadline_ns));
        if (n < 0 && n != -EINTR)
            return n;
        if (n <= 0 && clock_mono_ns() >= deadline_ns)
            return 0;
        if (n <= 0)
            continue;
        if (all[0].revents)
            read_output(host);
        int ready = n - (all[0].revents != 0) - (all[1].revents != 0);
        if (count)
            memcpy(fds, all + 2, count * sizeof(*fds));
        if (ready > 0)
            return ready; /* what it sent before its end counts */
        if (all[1].revents || (host->pidfd < 0 && host->output_fd < 0))
            return -EPIPE;
        if (clock_mono_ns() >= deadline_ns)
            return 0; /* it prints and prints */
    }
}

/* send(), with descriptors: the kernel hands them over with the first of these bytes. */
static ssize_t send_some(int socket, struct span bytes, const int *fds, unsigned fd_count) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(EXT_HOST_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes.ptr, .iov_len = bytes.len};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        *head = (struct cmsghdr){.cmsg_len = CMSG_LEN(fd_count * sizeof(int)),
                                 .cmsg_level = SOL_SOCKET,
                                 .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

static int send_request(struct ext_host *host, struct span bytes, const int *fds, unsigned fd_count,
                        int64_t deadline_ns) {
    ASSERT(fd_count <= EXT_HOST_FDS_MAX);
    for (size_t sent = 0; sent < bytes.len;) {
        if (host->socket < 0)
            return -EPIPE;
        ssize_t n = send_some(host->socket, span_from(bytes, sent), fds, sent ? 0 : fd_count);
        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno == EAGAIN) {
            int err = look(host, POLLOUT, deadline_ns);
            if (err)
                return err;
        } else if (n == 0 || errno != EINTR) {
            return -EPIPE;
        }
    }
    return 0;
}

int ext_host_call(struct ext_host *host, const struct ext_host_message *request,
                  struct ext_host_message *answer, int64_t deadline_ns) {
    if (host->taken) {
        memmove(host->inbox, host->inbox + host->taken, host->inbox_len - host->taken);
        host->inbox_len -= host->taken;
        host->taken = 0;
    }
    size_t size;
    char *bytes = ext_host_encode(request, &size);
    if (!bytes)
        return -ENOMEM;
    int err =
        send_request(host, span_make(bytes, size), request->fds, request->fd_count, deadline_ns);
    free(bytes);
    while (!err) {
        err = ext_host_decode(span_make(host->inbox, host->inbox_len), answer, &size);
        if (err == 0) {
            host->taken = size;
            return answer->kind == EXT_HOST_ANSWER ? 0 : -EPROTO;
        }
        if (err == -EAGAIN)
            err = host->socket < 0 ? -EPIPE : look(host, POLLIN, deadline_ns);
    }
    return err;
}

/* ---- its end ---- */

static bool has_ended(struct ext_host *host) {
    if (!host->ended && waitpid(host->pid, &host->status, WNOHANG) == host->pid)
        host->ended = true;
    return host->ended;
}

/* Reads what it prints meanwhile. A process of its own that it left behind may hold the pipe open, so not
 * the pipe's end is waited for. */
static void await_end(struct ext_host *host, int64_t deadline_ns) {
    enum { WITHOUT_PIDFD_MS = 10 };
    while (!has_ended(host) && clock_mono_ns() < deadline_ns) {
        int64_t until_ns = clock_mono_ns() + WITHOUT_PIDFD_MS * NS_PER_MS;
        (void)look(host, 0, host->pidfd >= 0 ? deadline_ns : until_ns); /* its end is looked for */
    }
}

pid_t ext_host_pid(const struct ext_host *host) {
    return host->pid;
}

void ext_host_kill(const struct ext_host *host) {
    (void)kill(host->pid, SIGKILL); /* ours until it is reaped */
}

bool ext_host_is_traced(const struct ext_host *host) {
    return process_is_traced(host->pid);
}

void ext_host_end(struct ext_host *host, enum ext_host_ending how) {
    if (host->ended)
        return;
    if ((how == EXT_HOST_DUMP && ext_host_dump_go(host->pid, host->is_proxy)) ||
        (how == EXT_HOST_DUMP_FIRST &&
         syscall(SYS_tgkill, host->pid, host->pid, SIGABRT) == 0)) /* rt/crash.c tells */
        await_end(host, clock_mono_ns() + DUMP_MS * NS_PER_MS);
    close_fd(&host->socket);
    if (how == EXT_HOST_ASK && host->is_proxy)
        (void)kill(host->pid, SIGTERM); /* ours until it is reaped */
    if (how == EXT_HOST_ASK)
        await_end(host, clock_mono_ns() + (host->is_proxy ? ASK_PROXY_MS : ASK_MS) * NS_PER_MS);
    if (!has_ended(host)) {
        (void)kill(host->pid, SIGKILL); /* ours until it is reaped */
        while (!host->ended) {
            pid_t reaped = waitpid(host->pid, &host->status, 0);
            host->ended = reaped == host->pid || (reaped < 0 && errno != EINTR);
        }
    }
    if (host->output_fd >= 0)
        read_output(host);
    close_fd(&host->output_fd);
    close_fd(&host->pidfd);
}

int ext_host_status(const struct ext_host *host) {
    ASSERT(host->ended);
    return host->status;
}

/* first, and of the ring what was printed last, oldest first. */
static void join_output(struct ext_host *host) {
    enum { NOTE_MAX = 64 };
    size_t first = host->printed < EXT_HOST_OUTPUT_FIRST ? host->printed : EXT_HOST_OUTPUT_FIRST;
    size_t rest = host->printed - first;
    size_t kept = rest < EXT_HOST_OUTPUT_LAST ? rest : EXT_HOST_OUTPUT_LAST;
    host->output = malloc(first + kept + NOTE_MAX);
    if (!host->output)
        return;
    memcpy(host->output, host->first, first);
    size_t at = first;
    if (rest > kept)
        at +=
            (size_t)snprintf(host->output + at, NOTE_MAX, "\n[%zu bytes left out]\n", rest - kept);
    size_t oldest = rest > kept ? rest % EXT_HOST_OUTPUT_LAST : 0;
    memcpy(host->output + at, host->last + oldest, kept - oldest);
    memcpy(host->output + at + kept - oldest, host->last, oldest);
    host->output_len = at + kept;
}

struct span ext_host_output(struct ext_host *host) {
    ASSERT(host->ended);
    if (!host->output)
        join_output(host);
    return span_make(host->output ? host->output : "", host->output_len);
}

void ext_host_free(struct ext_host *host) {
    if (!host)
        return;
    ext_host_end(host, EXT_HOST_ASK);
    free(host->inbox);
    free(host->output);
    free(host);
}
