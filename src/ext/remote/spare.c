/* spare: see the header.
 *
 * Everything is done by the thread, in turn; others leave an order under the lock, wake it and, for two of the
 * three orders, wait:
 *
 *     orders: takers (a list, each with its answer) │ wanted: 0 or 1 spare │ end: until there is none
 *
 * The thread waits in ext_host_poll of the spare, so what that prints is read, and its end, by whatever hand, is
 * noticed: it is reaped, and gone. It is replaced when somebody wants one again, not at once: what killed it, a lack of memory,
 * would kill the next.
 *
 * The thread is made with the first order and never ends. */
#include "ext/remote/spare.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "ext/remote/supervisor_output.h"
#include "rt/thread.h"

struct taker {
    struct taker *next;
    struct ext_host *host;
    bool was_spare, is_done;
    int err;
};

static struct {
    pthread_mutex_t lock; /* guards all but what the thread alone uses */
    pthread_cond_t done;  /* an order was carried out */
    struct taker *first, **last;
    bool runs, wanted, ending;
    pid_t pid;
    int wake;
    struct ext_host *spare; /* the thread's */
} spares = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER, .wake = -1};

/* A dump of one that is stuck shows all goroutines, unless the user wants it otherwise. */
static int start(struct ext_host **out) {
    static const char *const environment[] = {"GOTRACEBACK=all", NULL};
    const struct ext_host_options options = {.environment =
                                                 getenv("GOTRACEBACK") ? NULL : environment};
    return ext_host_start(&options, out);
}

static void set_spare(struct ext_host *host) {
    spares.spare = host;
    pthread_mutex_lock(&spares.lock);
    spares.pid = host ? ext_host_pid(host) : 0;
    pthread_mutex_unlock(&spares.lock);
}

static void end_spare(enum ext_host_ending how) {
    struct ext_host *host = spares.spare;
    if (!host)
        return;
    set_spare(NULL);
    ext_host_end(host, how);
    ext_host_free(host);
}

/* Whether the spare is alive now. */
static bool look_at_spare(int64_t deadline_ns) {
    struct pollfd wake = {.fd = spares.wake, .events = POLLIN};
    if (spares.spare) {
        if (ext_host_poll(spares.spare, &wake, deadline_ns ? 1 : 0, deadline_ns) >= 0)
            return true;
        LOG(log_isolation, LOG_WARN, "the spare host process ended");
        end_spare(EXT_HOST_KILL);
    } else if (deadline_ns) {
        (void)poll(&wake, 1, -1); /* whatever woke us, orders are looked at */
    }
    return false;
}

static void serve(struct taker *taker) {
    taker->was_spare = look_at_spare(0);
    if (taker->was_spare) {
        taker->host = spares.spare;
        set_spare(NULL);
    } else {
        taker->err = start(&taker->host);
    }
}

static void carry_out_orders(void) {
    pthread_mutex_lock(&spares.lock);
    for (struct taker *taker; (taker = spares.first);) {
        spares.first = taker->next;
        if (!spares.first)
            spares.last = &spares.first;
        pthread_mutex_unlock(&spares.lock);
        serve(taker);
        pthread_mutex_lock(&spares.lock);
        taker->is_done = true;
        pthread_cond_broadcast(&spares.done);
    }
    bool wanted = spares.wanted && !spares.ending;
    bool ending = spares.ending;
    spares.wanted = false;
    pthread_mutex_unlock(&spares.lock);
    struct ext_host *host;
    if (wanted && !spares.spare && start(&host) == 0)
        set_spare(host);
    if (!ending)
        return;
    end_spare(EXT_HOST_ASK);
    pthread_mutex_lock(&spares.lock);
    spares.ending = false;
    pthread_cond_broadcast(&spares.done);
    pthread_mutex_unlock(&spares.lock);
}

static void *run(void *arg) {
    ext_host_thread_begin("sluice:hosts");
    for (;;) {
        (void)look_at_spare(INT64_MAX);
        uint64_t count;
        (void)!read(spares.wake, &count, sizeof(count)); /* nothing in it: the spare woke us */
        carry_out_orders();
    }
    return arg;
}

/* Under the lock. 0 or -errno. */
static int start_thread_locked(void) {
    if (spares.runs)
        return 0;
    if (spares.wake < 0)
        spares.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (spares.wake < 0)
        return -errno;
    spares.last = &spares.first;
    int err = thread_start(run, NULL);
    spares.runs = !err;
    return err;
}

static void wake(void) {
    const uint64_t one = 1;
    (void)!write(spares.wake, &one, sizeof(one)); /* full: it is awake */
}

int spare_take(struct ext_host **out, bool *was_spare) {
    struct taker taker = {0};
    pthread_mutex_lock(&spares.lock);
    taker.err = start_thread_locked();
    if (!taker.err) {
        *spares.last = &taker;
        spares.last = &taker.next;
        wake();
        while (!taker.is_done)
            pthread_cond_wait(&spares.done, &spares.lock);
    }
    pthread_mutex_unlock(&spares.lock);
    if (taker.err)
        return taker.err;
    *out = taker.host;
    *was_spare = taker.was_spare;
    return 0;
}

void spare_want(void) {
    pthread_mutex_lock(&spares.lock);
    spares.wanted = true;
    if (start_thread_locked() == 0)
        wake();
    pthread_mutex_unlock(&spares.lock);
}

void spare_end(void) {
    pthread_mutex_lock(&spares.lock);
    spares.ending = spares.runs;
    if (spares.runs)
        wake();
    while (spares.ending)
        pthread_cond_wait(&spares.done, &spares.lock);
    pthread_mutex_unlock(&spares.lock);
}

pid_t spare_pid(void) {
    pthread_mutex_lock(&spares.lock);
    pid_t pid = spares.pid;
    pthread_mutex_unlock(&spares.lock);
    return pid;
}
