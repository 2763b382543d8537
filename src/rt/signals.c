/* signals: who handles what in a process that Go runtimes share.
 *
 * SIGURG   Each Go library installs its own handler at dlopen and forwards to nobody. We take the
 *          signal back after each dlopen, keep the handler we found, and run all of them for each
 *          signal: a Go runtime that gets a preemption signal meant for another ignores it.
 *          Handlers are only ever added: entry, then count with release; the handler acquires.
 *          What was lost between dlopen and taking back is made up for (repeat_sigurg).
 * SIGTERM and the like  The handler may run on any thread, one of a Go runtime included, so it only
 *          sets a flag and writes to an eventfd, which P 0 polls. Go, loaded as a library, leaves
 *          these signals alone unless its code calls os/signal.Notify; we take them again anyway.
 *          The flag is set (release) before the write, and the P takes it (acquire) after the edge,
 *          so no delivery is lost; two may merge.
 * Our own (signals_own)  Real-time signals that one thread of the runtime sends another: nobody else
 *          has a handler for them, and Go leaves them alone.
 * SIGPIPE  is ignored. Go forwards one that hit a thread outside Go to what it found: nobody.
 *
 * The thread mask is left open everywhere: a library may start threads that inherit it.
 *
 * Threads  The setters under signals_lock. */
#include "rt/signals.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rt/crash.h"
#include "rt/dump.h"
#include "rt/rt_internal.h"

enum {
    FANOUT_MAX = 256, /* Go libraries ever loaded by one process */
    WATCHED_MAX = 8,
    OWNED_MAX = 4,
    ALT_STACK_SIZE = 64 * 1024, /* Go asks for 32 KiB; backtraces of ours need some too */
};

struct watched {
    int signo;
    const char *name;
    rt_fn fn;
    void *arg;
    _Atomic bool pending;
};

static pthread_mutex_t signals_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction fanout[FANOUT_MAX];
static _Atomic unsigned fanout_count;
static struct watched watched[WATCHED_MAX];
static _Atomic unsigned watched_count;
static struct owned {
    int signo;
    void (*handler)(int, siginfo_t *, void *);
} owned[OWNED_MAX];
static _Atomic unsigned owned_count; /* changes under signals_lock */
static struct poll_fd watched_poll = {.fd = -1};
static int watched_fd = -1;

/* ---- SIGURG ---- */

/* Set while this thread runs the handlers. A Go runtime that is still starting forwards the signal to
 * what it found at its own dlopen: to us. Without this the two would call each other until the signal
 * stack is full (seen: "fatal: morestack on gsignal"). The kernel does not nest: all is masked. */
static _Thread_local volatile sig_atomic_t in_fanout;

static void on_sigurg(int signo, siginfo_t *info, void *context) {
    if (in_fanout)
        return;
    in_fanout = 1;
    int saved_errno = errno;
    unsigned count = atomic_load_explicit(&fanout_count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        if (fanout[i].sa_flags & SA_SIGINFO)
            fanout[i].sa_sigaction(signo, info, context);
        else
            fanout[i].sa_handler(signo);
    }
    errno = saved_errno;
    in_fanout = 0;
}

static bool is_known(const struct sigaction *action) {
    for (unsigned i = 0; i < atomic_load(&fanout_count); i++)
        if (fanout[i].sa_sigaction == action->sa_sigaction)
            return true;
    return false;
}

static NOINLINE int install(int signo, void (*fn)(int, siginfo_t *, void *),
                            struct sigaction *old) {
    /* All signals are blocked meanwhile, as Go's own handlers have it. */
    struct sigaction action = {.sa_sigaction = fn,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigfillset(&action.sa_mask);
    return sigaction(signo, &action, old) < 0 ? -errno : 0;
}

/* Between the dlopen of a library and our taking back, its handler swallowed the signals of the others.
 * A Go runtime that sent one waits for it to arrive before it sends that thread another, so the thread
 * could not be preempted ever again. One more signal for every thread makes up for what was lost; a Go
 * runtime takes one that it did not ask for as the one that it did. */
static void repeat_sigurg(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) {
        LOG(log_rt, LOG_WARN, "cannot list the threads to repeat a preemption signal");
        return;
    }
    for (struct dirent *task; (task = readdir(tasks));) {
        int tid = atoi(task->d_name); /* 0 for . and .. */
        if (tid > 0)
            (void)syscall(SYS_tgkill, getpid(), tid, SIGURG); /* it may have ended */
    }
    closedir(tasks);
}

static int take_sigurg_locked(void) {
    struct sigaction found;
    if (sigaction(SIGURG, NULL, &found) < 0)
        return -errno;
    if (found.sa_sigaction == on_sigurg)
        return 0;
    bool is_function = (found.sa_flags & SA_SIGINFO) ||
                       (found.sa_handler != SIG_DFL && found.sa_handler != SIG_IGN);
    unsigned count = atomic_load_explicit(&fanout_count, memory_order_relaxed);
    if (is_function && !is_known(&found)) {
        if (count == FANOUT_MAX)
            return -ENOSPC;
        fanout[count] = found;
        atomic_store_explicit(&fanout_count, count + 1, memory_order_release);
    }
    int err = install(SIGURG, on_sigurg, NULL);
    if (err == 0 && count > 0)
        repeat_sigurg();
    return err;
}

/* ---- Signals that become coroutines ---- */

static void on_watched_signal(int signo, siginfo_t *info, void *context) {
    (void)info;
    (void)context;
    int saved_errno = errno;
    unsigned count = atomic_load_explicit(&watched_count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++)
        if (watched[i].signo == signo)
            atomic_store_explicit(&watched[i].pending, true, memory_order_release);
    uint64_t one = 1;
    ssize_t written = write(watched_fd, &one, sizeof one);
    (void)written; /* a full counter means that the edge is there already */
    errno = saved_errno;
}

static void on_watched_event(struct poll_fd *pd, unsigned events) {
    (void)pd;
    (void)events;
    unsigned count = atomic_load_explicit(&watched_count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        struct watched *w = &watched[i];
        if (!atomic_exchange_explicit(&w->pending, false, memory_order_acquire))
            continue;
        if (go_here(w->name, w->fn, w->arg) < 0)
            LOG(log_rt, LOG_ERROR, "no memory to handle signal %d", w->signo);
    }
}

static NOINLINE int open_watch(void) {
    if (watched_fd >= 0)
        return 0;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    int err = poll_open(&watched_poll, fd, on_watched_event); /* edges: never read */
    if (err < 0) {
        (void)close(fd);
        return err;
    }
    watched_fd = fd;
    return 0;
}

int signals_on(int signo, const char *name, rt_fn fn, void *arg) {
    ASSERT(rt_p_index() == 0);
    pthread_mutex_lock(&signals_lock);
    int err = open_watch();
    unsigned count = atomic_load_explicit(&watched_count, memory_order_relaxed);
    if (err == 0 && count == WATCHED_MAX)
        err = -ENOSPC;
    if (err == 0) {
        watched[count].signo = signo;
        watched[count].name = name;
        watched[count].fn = fn;
        watched[count].arg = arg;
        atomic_store_explicit(&watched_count, count + 1, memory_order_release);
        err = install(signo, on_watched_signal, NULL);
    }
    pthread_mutex_unlock(&signals_lock);
    return err;
}

/* ---- Signals between threads of the runtime ---- */

/* Entries are only added: entry, then count with release. */
static bool is_owned(int signo) {
    unsigned count = atomic_load_explicit(&owned_count, memory_order_acquire);
    for (unsigned i = 0; i < count; i++)
        if (owned[i].signo == signo)
            return true;
    return false;
}

int signals_own(int signo, void (*handler)(int, siginfo_t *, void *)) {
    if (is_owned(signo))
        return 0;
    pthread_mutex_lock(&signals_lock);
    int err = 0;
    if (!is_owned(signo)) {
        unsigned count = atomic_load_explicit(&owned_count, memory_order_relaxed);
        ASSERT(count < OWNED_MAX);
        err = install(signo, handler, NULL);
        if (err == 0) {
            owned[count] = (struct owned){.signo = signo, .handler = handler};
            atomic_store_explicit(&owned_count, count + 1, memory_order_release);
        }
    }
    pthread_mutex_unlock(&signals_lock);
    return err;
}

/* ---- A dump by signal ---- */

static void on_dump_signal(int signo, siginfo_t *info, void *context) {
    int saved_errno = errno;
    rt_dump_to_log();
    errno = saved_errno;
}

int signals_dump_on(int signo) {
    return signals_own(signo, on_dump_signal);
}

/* ---- Start and dlopen ---- */

int signals_init(void) {
    int err = signals_thread_init();
    if (err < 0)
        return err;
    err = crash_init();
    if (err < 0)
        return err;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -errno;
    pthread_mutex_lock(&signals_lock);
    err = take_sigurg_locked();
    pthread_mutex_unlock(&signals_lock);
    return err;
}

int signals_after_dlopen(void) {
    pthread_mutex_lock(&signals_lock);
    int err = take_sigurg_locked();
    unsigned count = atomic_load_explicit(&watched_count, memory_order_relaxed);
    for (unsigned i = 0; err == 0 && i < count; i++)
        err = install(watched[i].signo, on_watched_signal, NULL);
    count = atomic_load_explicit(&owned_count, memory_order_relaxed);
    for (unsigned i = 0; err == 0 && i < count; i++)
        err = install(owned[i].signo, owned[i].handler, NULL);
    pthread_mutex_unlock(&signals_lock);
    return err;
}

/* ---- Alternate stacks ---- */

struct alt_stack {
    stack_t before; /* a sanitizer's, put back so that it can release it */
    char *memory;
    size_t size;
};
static pthread_key_t alt_stack_key;
static int alt_stack_key_err;
static pthread_once_t alt_stack_once = PTHREAD_ONCE_INIT;

static void alt_stack_free(void *arg) {
    struct alt_stack *alt = arg;
    (void)sigaltstack(&alt->before, NULL);
    (void)munmap(alt->memory, alt->size);
    free(alt);
}

static void alt_stack_make_key(void) {
    alt_stack_key_err = -pthread_key_create(&alt_stack_key, alt_stack_free);
}

int signals_thread_init(void) {
    pthread_once(&alt_stack_once, alt_stack_make_key);
    if (alt_stack_key_err < 0) /* a library may have taken all of the 1,024 */
        return alt_stack_key_err;
    if (pthread_getspecific(alt_stack_key))
        return 0;
    struct alt_stack *alt = malloc(sizeof *alt);
    if (!alt)
        return -ENOMEM;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    alt->size = page + ALT_STACK_SIZE;
    alt->memory = mmap(NULL, alt->size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    int err;
    if (alt->memory == MAP_FAILED) {
        err = -errno;
        goto free_alt;
    }
    if (mprotect(alt->memory, page, PROT_NONE) < 0) {
        err = -errno;
        goto unmap;
    }
    stack_t stack = {.ss_sp = alt->memory + page, .ss_size = ALT_STACK_SIZE};
    if (sigaltstack(&stack, &alt->before) < 0) {
        err = -errno;
        goto unmap;
    }
    err = -pthread_setspecific(alt_stack_key, alt);
    if (err == 0)
        return 0;
    (void)sigaltstack(&alt->before, NULL);
unmap:
    (void)munmap(alt->memory, alt->size);
free_alt:
    free(alt);
    return err;
}
