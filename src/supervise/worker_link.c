/* worker_link: see the header.
 *
 * A beat means that each P has run a message that was posted to it after the last beat: a P that a callback keeps, or that
 * waits for ever, has no beat, and then nobody has. */
#include "supervise/worker_link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "rt/sync.h"
#include "rt/waitgroup.h"
#include "supervise/kept_sockets.h"
#include "supervise/notify.h"

LOG_COMPONENT(worker_link, "supervise");

enum { BEATS = 4 /* within the supervisor's patience: one may be late */ };

static int supervisor = -1; /* -1: there is none */
static uint32_t generation = 1;
static bool takes_over;
static struct kept_sockets kept; /* those of a former process that nobody took yet */

bool worker_link_is_asked(void) {
    return getenv(LINK_ENVIRON) != NULL;
}

static int take_all(void) {
    for (;;) {
        struct link_message message;
        int fd;
        int got = link_receive(supervisor, &message, &fd, 0);
        if (got <= 0)
            return got ? got : -EPIPE;
        if (message.kind == LINK_GO) {
            generation = message.number;
            takes_over = strcmp(message.key, LINK_TAKES_OVER) == 0;
            return 0;
        }
        if (message.kind != LINK_SOCKET || fd < 0)
            return -EPROTO;
        int err = kept_sockets_use(&kept, message.key, message.number, fd, 0);
        if (err < 0)
            return err;
    }
}

int worker_link_open(void) {
    supervisor = atoi(getenv(LINK_ENVIRON));
    (void)unsetenv(LINK_ENVIRON); /* not for those that we start */
    (void)fcntl(supervisor, F_SETFD, FD_CLOEXEC);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        return -errno;
    return take_all();
}

bool worker_link_is_there(void) {
    return supervisor >= 0;
}

bool worker_link_takes_over(void) {
    return takes_over;
}

uint32_t worker_link_generation(void) {
    return generation;
}

/* A supervisor that is gone is about to end us by its death. One that does not read for a while misses a beat. */
static void tell(struct link_message *message, int fd, int flags) {
    int err = worker_link_is_there() ? link_send(supervisor, message, fd, flags) : 0;
    if (err < 0 && err != -EAGAIN)
        LOG(log_worker_link, LOG_DEBUG, "the supervisor cannot be told: %s", strerror(-err));
}

/* ---- sockets ---- */

/* Listeners of port 0 are as many addresses as there are names. */
static void key_of(struct span name, const struct address *address, char key[LINK_KEY_MAX]) {
    int named = address_port(address) == 0 ? (int)name.len : 0;
    char text[ADDRESS_TEXT_MAX];
    address_text(address, text);
    if (named >= LINK_NAME_MAX)
        named = LINK_NAME_MAX - 1;
    (void)snprintf(key, LINK_KEY_MAX, "%.*s%s%s", named, name.ptr, named ? " " : "", text);
}

static unsigned count(struct span name, const struct address *address) {
    char key[LINK_KEY_MAX];
    unsigned highest = 0;
    key_of(name, address, key);
    for (size_t i = 0; i < kept.count; i++)
        if (strcmp(kept.all[i].key, key) == 0 && kept.all[i].number >= highest)
            highest = kept.all[i].number + 1;
    return highest;
}

static int take(struct span name, const struct address *address, unsigned number) {
    struct link_message message = {.kind = LINK_SOCKET, .number = number};
    key_of(name, address, message.key);
    int fd = kept_sockets_take(&kept, message.key, number);
    if (fd >= 0)
        tell(&message, -1, 0);
    return fd;
}

static void opened(struct span name, const struct address *address, unsigned number, int fd) {
    struct link_message message = {.kind = LINK_SOCKET, .number = number};
    key_of(name, address, message.key);
    tell(&message, fd, 0);
}

static void closed(struct span name, const struct address *address, unsigned number) {
    struct link_message message = {.kind = LINK_CLOSED, .number = number};
    key_of(name, address, message.key);
    tell(&message, -1, 0);
}

const struct listener_sockets worker_link_sockets = {count, take, opened, closed};

/* ---- how it goes ---- */

void worker_link_ready(void) {
    struct link_message message = {.kind = LINK_READY};
    kept_sockets_clear(&kept);
    tell(&message, -1, 0);
    notify_send("READY=1\nSTATUS=serves\n");
}

void worker_link_stopping(void) {
    notify_send("STOPPING=1\n");
}

static struct beat_post {
    struct rt_post post;
    struct waitgroup *all;
} posts[RT_P_MAX];

static void answer(struct rt_post *post) {
    waitgroup_done(container_of(post, struct beat_post, post)->all);
}

static int64_t pause_ns;

static void beat_for_ever(void *arg) {
    for (;;) {
        struct waitgroup all = {0};
        waitgroup_add(&all, rt_p_count());
        for (unsigned p = 0; p < rt_p_count(); p++) {
            posts[p] = (struct beat_post){.post.fn = answer, .all = &all};
            rt_post(p, &posts[p].post);
        }
        if (waitgroup_wait(&all, RT_FOREVER) != 0)
            return;
        struct link_message message = {.kind = LINK_BEAT};
        tell(&message, -1, MSG_DONTWAIT);
        notify_send("WATCHDOG=1\n");
        rt_sleep_until(clock_mono_ns() + pause_ns);
    }
}

void worker_link_start_beating(int64_t patience_ns) {
    int64_t watchdog_ns = notify_watchdog_ns();
    pause_ns = patience_ns / BEATS < NS_PER_S ? patience_ns / BEATS : NS_PER_S;
    if (watchdog_ns && watchdog_ns < pause_ns)
        pause_ns = watchdog_ns;
    const struct go_options options = {.name = "beat", .place = RT_ON_P, .priority = RT_HIGH};
    if (!worker_link_is_there() && !notify_watchdog_ns())
        return;
    if (go_with(&options, beat_for_ever, NULL) != 0)
        LOG(log_worker_link, LOG_ERROR, "out of memory: the watchdog will end this process");
}
