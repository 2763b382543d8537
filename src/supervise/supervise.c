/* supervise: see the header. One thread, which waits in poll: for signals (signalfd), for what processes say, and for the
 * next thing that is due.
 *
 * Rejected  Binding the sockets here: which ones there are is in the configuration, and how many of each says the number
 *           of processors; whoever serves knows that. Serving on without a supervisor: whoever started it starts
 *           it again, and then two would serve, perhaps with two configurations. */
#include "supervise/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "ext/remote/restart_policy.h"
#include "supervise/kept_sockets.h"
#include "supervise/notify.h"

LOG_COMPONENT(supervise, "supervise");

enum {
    CHILDREN_MAX = 8,     /* one that serves, one that will, and those that end */
    DUMP_PATIENCE_S = 10, /* of a process that hangs and was told to die of it */
};

struct child { /* a process that serves, will, or did */
    pid_t pid; /* 0: this is none */
    int link;
    uint64_t generation;
    bool ready;   /* it accepts connections */
    bool leaving; /* another one does in its place */
    int64_t beat_ns;
    int64_t kill_ns; /* when it is killed; INT64_MAX: not */
};

static struct supervise {
    const struct supervise_options *options;
    char exe[PATH_MAX];
    struct child children[CHILDREN_MAX];
    struct kept_sockets kept;
    struct restart_policy policy;
    int signals;
    sigset_t former_mask;
    uint64_t generations;
    int64_t restart_ns; /* when the next one is started; INT64_MAX: that is not planned */
    bool was_ready;     /* any of them */
    bool stopping, over;
    int exit_code;
} self = {.restart_ns = INT64_MAX};

/* ---- who is who ---- */

/* The one that accepts connections, or else the one that is to. NULL: there is neither. */
static struct child *current(void) {
    struct child *found = NULL;
    for (unsigned i = 0; i < CHILDREN_MAX; i++) {
        struct child *child = &self.children[i];
        if (child->pid && !child->leaving && (!found || child->ready))
            found = child;
    }
    return found;
}

/* The one that is to take the place of the current one. */
static struct child *successor(void) {
    const struct child *serves = current();
    for (unsigned i = 0; i < CHILDREN_MAX; i++) {
        struct child *child = &self.children[i];
        if (child->pid && !child->leaving && child != serves)
            return child;
    }
    return NULL;
}

/* ---- starting one ---- */

/* In the child, up to exec. */
static _Noreturn void become(int link, pid_t parent) {
    char number[16];
    (void)snprintf(number, sizeof number, "%d", link);
    (void)sigprocmask(SIG_SETMASK, &self.former_mask, NULL); /* cannot fail with these */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || fcntl(link, F_SETFD, 0) != 0 || setenv(LINK_ENVIRON, number, 1) != 0)
        _exit(1);
    (void)execv(self.exe, self.options->argv);
    LOG(log_supervise, LOG_CRITICAL, "%s cannot be executed: %s", self.exe, strerror(errno));
    _exit(1);
}

/* Everything fits into the socket's buffer, or the process reads meanwhile: that is the first thing it does. */
static int give(const struct child *child) {
    struct link_message message = {.kind = LINK_SOCKET};
    int err = 0;
    for (size_t i = 0; i < self.kept.count && err == 0; i++) {
        const struct kept_socket *socket = &self.kept.all[i];
        message.number = socket->number;
        memcpy(message.key, socket->key, sizeof message.key);
        err = link_send(child->link, &message, socket->fd, 0);
    }
    message = (struct link_message){.kind = LINK_GO, .number = (uint32_t)child->generation};
    if (child != current())
        strcpy(message.key, LINK_TAKES_OVER);
    return err ? err : link_send(child->link, &message, -1, 0);
}

static struct child *free_child(void) {
    for (unsigned i = 0; i < CHILDREN_MAX; i++)
        if (self.children[i].pid == 0)
            return &self.children[i];
    return NULL;
}

static int start(void) {
    int pair[2], err;
    pid_t parent = getpid();
    struct child *child = free_child();
    if (!child)
        return -EBUSY;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        become(pair[1], parent);
    err = -errno;
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        return err;
    }
    *child = (struct child){.pid = pid,
                            .link = pair[0],
                            .generation = ++self.generations,
                            .beat_ns = clock_mono_ns(),
                            .kill_ns = INT64_MAX};
    err = give(child); /* one that is gone already is reaped in its time */
    LOG(log_supervise, LOG_INFO, "process %d is started%s%s", (int)pid, err ? ", but: " : "",
        err ? strerror(-err) : "");
    return 0;
}

static void tell_all(int signo) {
    for (unsigned i = 0; i < CHILDREN_MAX; i++)
        if (self.children[i].pid)
            (void)kill(self.children[i].pid, signo); /* ours until it is reaped */
}

/* ---- what they say ---- */

static void is_ready(struct child *child) {
    struct child *former = current();
    child->ready = true;
    self.was_ready = true;
    kept_sockets_retain(&self.kept, child->generation);
    LOG(log_supervise, LOG_INFO, "process %d serves", (int)child->pid);
    notify_send("READY=1\nSTATUS=serves\n");
    if (!former || former == child || !former->ready)
        return;
    former->leaving = true;
    LOG(log_supervise, LOG_INFO, "process %d takes no more connections, and ends with its last",
        (int)former->pid);
    (void)kill(former->pid, SIGUSR2);
}

static void hear(struct child *child, const struct link_message *message, int fd) {
    int err = 0;
    child->beat_ns = clock_mono_ns();
    switch ((enum link_kind)message->kind) {
    case LINK_SOCKET:
        if (!child->leaving && !self.stopping)
            err =
                kept_sockets_use(&self.kept, message->key, message->number, fd, child->generation);
        else if (fd >= 0)
            (void)close(fd);
        if (err)
            LOG(log_supervise, LOG_ERROR, "a listening socket at %s cannot be kept: %s",
                message->key, strerror(-err));
        return;
    case LINK_CLOSED:
        if (child->ready && !child->leaving) /* else others use it, or may */
            kept_sockets_close(&self.kept, message->key, message->number);
        break;
    case LINK_READY:
        if (!self.stopping)
            is_ready(child);
        break;
    case LINK_BEAT:
    case LINK_GO:
        break;
    }
    if (fd >= 0)
        (void)close(fd);
}

/* All there is. Its end is seen by SIGCHLD. */
static void listen_to(struct child *child) {
    struct link_message message;
    int fd, got;
    while ((got = link_receive(child->link, &message, &fd, MSG_DONTWAIT)) > 0)
        hear(child, &message, fd);
    if (got == -EAGAIN)
        return;
    if (got < 0)
        LOG(log_supervise, LOG_ERROR,
            "process %d says what this release does not understand: %s; restart the supervisor",
            (int)child->pid, strerror(-got));
    (void)close(child->link);
    child->link = -1;
}

/* ---- their ends ---- */

static void put_ending(int status, char *out, size_t size) {
    if (WIFSIGNALED(status))
        (void)snprintf(out, size, "was killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        (void)snprintf(out, size, "ended with exit status %d", WEXITSTATUS(status));
}

static void stop_with(int code) {
    self.over = true;
    self.exit_code = code;
}

static bool is_alone(void) {
    for (unsigned i = 0; i < CHILDREN_MAX; i++)
        if (self.children[i].pid)
            return false;
    return true;
}

/* The one that served is gone. */
static void serves_no_more(const struct child *child, int status, const char *ending) {
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (!self.was_ready || (child->ready && WIFEXITED(status) && code == 0)) {
        stop_with(
            code); /* it said why it cannot serve; or somebody told it to end: /quitquitquit */
        return;
    }
    if (current())
        return; /* its successor is on the way */
    int64_t now_ns = clock_mono_ns();
    self.restart_ns = restart_policy_failed(&self.policy, now_ns);
    char when[32] = "at once";
    if (self.restart_ns > now_ns)
        (void)snprintf(when, sizeof when, "in %.3g s",
                       (double)(self.restart_ns - now_ns) / NS_PER_S);
    LOG(log_supervise, LOG_ERROR,
        "process %d %s: it is started again %s; who connects meanwhile waits", (int)child->pid,
        ending, when);
}

static void has_ended(struct child *child, int status) {
    char ending[64];
    if (child->link >= 0)
        listen_to(child); /* what it said last: that it serves, perhaps */
    const struct child former = *child;
    bool was_current = child == current();
    put_ending(status, ending, sizeof ending);
    if (child->link >= 0)
        (void)close(child->link);
    child->pid = 0;
    if (self.stopping || former.leaving) {
        LOG(log_supervise, LOG_INFO, "process %d %s", (int)former.pid, ending);
        if (self.stopping && is_alone())
            stop_with(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
        return;
    }
    if (!former.ready)
        kept_sockets_undo(&self.kept, former.generation);
    if (was_current)
        serves_no_more(&former, status, ending);
    else
        LOG(log_supervise, LOG_ERROR,
            "process %d %s before it could serve: the one that serves goes on", (int)former.pid,
            ending);
}

static void reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (unsigned i = 0; i < CHILDREN_MAX; i++)
            if (self.children[i].pid == pid)
                has_ended(&self.children[i], status);
}

/* ---- signals ---- */

static void stop(int signo) {
    self.stopping = true;
    self.restart_ns = INT64_MAX;
    kept_sockets_clear(&self.kept); /* what nobody accepts from is to be refused */
    notify_send("STOPPING=1\n");
    tell_all(signo);
    if (is_alone())
        stop_with(0);
}

static void replace(void) {
    const struct child *serves = current();
    if (self.stopping || !serves || !serves->ready || successor()) {
        LOG(log_supervise, LOG_WARN,
            "SIGUSR2 does nothing now: a process is being started or all are ending");
        return;
    }
    int err = start();
    if (err)
        LOG(log_supervise, LOG_ERROR, "no process can be started to take over: %s",
            err == -EBUSY ? "too many former ones have connections still" : strerror(-err));
}

/* Also one that is to serve: it may have read the configuration already. */
static void tell_to_reload(void) {
    for (unsigned i = 0; i < CHILDREN_MAX; i++)
        if (self.children[i].pid && !self.children[i].leaving)
            (void)kill(self.children[i].pid, SIGHUP);
}

static void take_signals(void) {
    struct signalfd_siginfo info;
    while (read(self.signals, &info, sizeof info) == sizeof info) {
        const struct child *serves = current();
        switch (info.ssi_signo) {
        case SIGHUP:
            tell_to_reload();
            break;
        case SIGCHLD:
            reap();
            break;
        case SIGTERM:
        case SIGINT:
            stop(SIGTERM);
            break;
        case SIGUSR2:
            replace();
            break;
        case SIGUSR1:
            log_reopen();
            tell_all(SIGUSR1);
            break;
        default:
            if (serves)
                (void)kill(serves->pid, (int)info.ssi_signo);
        }
    }
}

/* ---- what is due ---- */

/* Does it hang? Then it dies of SIGABRT, of which its handler tells where it was. When it is next to be looked at. */
static int64_t watch(struct child *child, int64_t now_ns) {
    int64_t due_ns = child->beat_ns + self.options->patience_ns;
    if (now_ns >= child->kill_ns) {
        (void)kill(child->pid, SIGKILL);
        child->kill_ns = INT64_MAX;
    }
    if (child->kill_ns != INT64_MAX || !child->ready)
        return child->kill_ns;
    if (now_ns < due_ns)
        return due_ns;
    child->beat_ns = now_ns;
    if (!process_is_traced(child->pid)) {
        LOG(log_supervise, LOG_ERROR, "process %d hangs: nothing was heard of it for %.3g s",
            (int)child->pid, (double)self.options->patience_ns / NS_PER_S);
        child->kill_ns = now_ns + DUMP_PATIENCE_S * NS_PER_S;
        (void)kill(child->pid, SIGABRT);
        (void)kill(child->pid, SIGCONT); /* if somebody has stopped it */
        return child->kill_ns;
    }
    return now_ns + self.options->patience_ns;
}

/* Does what is due, and says when something will be. */
static int64_t see_to(int64_t now_ns) {
    if (now_ns >= self.restart_ns) {
        restart_policy_start(&self.policy, now_ns);
        int err = start();
        self.restart_ns = err ? now_ns + NS_PER_S : INT64_MAX;
        if (err)
            LOG(log_supervise, LOG_ERROR, "no process can be started: %s", strerror(-err));
    }
    int64_t next_ns = self.restart_ns;
    for (unsigned i = 0; i < CHILDREN_MAX; i++) {
        int64_t at_ns = self.children[i].pid ? watch(&self.children[i], now_ns) : INT64_MAX;
        next_ns = at_ns < next_ns ? at_ns : next_ns;
    }
    /* As long as a process serves and is heard of, that is said for us both. */
    const struct child *serves = current();
    int64_t beat_ns = notify_watchdog_ns();
    if (beat_ns && serves && serves->ready && serves->kill_ns == INT64_MAX) {
        notify_send("WATCHDOG=1\n");
        next_ns = now_ns + beat_ns < next_ns ? now_ns + beat_ns : next_ns;
    }
    return next_ns;
}

static int poll_timeout_ms(int64_t until_ns) {
    int64_t now_ns = clock_mono_ns();
    if (until_ns == INT64_MAX)
        return -1;
    if (until_ns <= now_ns)
        return 0;
    int64_t ms = (until_ns - now_ns) / NS_PER_MS + 1;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

static void turn(void) {
    int64_t next_ns = see_to(clock_mono_ns()); /* which may start one */
    struct pollfd fds[1 + CHILDREN_MAX] = {{.fd = self.signals, .events = POLLIN}};
    for (unsigned i = 0; i < CHILDREN_MAX; i++)
        fds[1 + i] = (struct pollfd){.fd = self.children[i].pid ? self.children[i].link : -1,
                                     .events = POLLIN};
    if (poll(fds, 1 + CHILDREN_MAX, poll_timeout_ms(next_ns)) < 0)
        return;
    for (unsigned i = 0; i < CHILDREN_MAX; i++)
        if (fds[1 + i].revents && self.children[i].link >= 0)
            listen_to(&self.children[i]);
    if (fds[0].revents)
        take_signals();
}

static int open_signals(void) {
    static const int all[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT};
    sigset_t mask;
    sigemptyset(&mask);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sigaddset(&mask, all[i]);
    if (sigprocmask(SIG_BLOCK, &mask, &self.former_mask) != 0)
        return -errno;
    self.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return self.signals < 0 ? -errno : 0;
}

int supervise_run(const struct supervise_options *options) {
    static const struct restart_settings restarts = {
        .base_ns = 100 * NS_PER_MS, .max_ns = 10 * NS_PER_S, .window_ns = 60 * NS_PER_S};
    self.options = options;
    process_raise_file_limit(); /* a listener has as many sockets as there are processors */
    restart_policy_init(&self.policy, &restarts, (uint64_t)clock_mono_ns());
    ssize_t len = readlink("/proc/self/exe", self.exe, sizeof self.exe - 1);
    int err = len < 0 ? -errno : open_signals();
    if (!err)
        err = start();
    if (err) {
        fprintf(stderr, "sluice: --supervise: no process can be started: %s\n", strerror(-err));
        return 1;
    }
    while (!self.over)
        turn();
    kept_sockets_clear(&self.kept);
    return self.exit_code;
}
