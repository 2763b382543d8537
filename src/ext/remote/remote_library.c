/* remote_library: see the header.
 *
 * What a process is told, in this order: its sandbox, the library, every configuration that there is, then to serve. Which
 * configurations those are, and who tells of those that are made meanwhile, is in remote_library_tell.c.
 *
 * A version is a copy of the file, which each of its processes is given: so all of them run one build, and one that is
 * started again while somebody writes the file does not load half of it. A new file is a version of its own
 * (go_renew.h), and its process a generation beside the current one. When that is up, each P's next exchange finds its lane; the
 * older links drain.
 *
 * Who may touch what  `lock` guards the list of generations. here: each P's own; changed by the callbacks of a link, which come
 * on that P. */
#include "ext/remote/remote_library.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "ext/remote/remote_library_internal.h"
#include "ext/remote/remote_link.h"
#include "ext/remote/sandbox_options.h"
#include "proxy/rollout.h"

static _Atomic(struct remote_library *) libraries;

/* ---- what a process is told ---- */

int64_t remote_library_deadline(const struct remote_library *library) {
    return clock_mono_ns() + library->options.start_timeout_ns;
}

static int sandbox(const struct remote_library *library, struct ext_host *host, char *why) {
    char said[SANDBOX_SAID_MAX];
    int err = sandbox_options_send(library->options.sandbox, host, remote_library_deadline(library),
                                   said);
    if (err)
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "%s", said);
    else if (said[0])
        LOG(*library->options.kind->log, LOG_WARN, "library %s: %s", library->options.id, said);
    return err;
}

static int tell_to_serve(const struct remote_library *library, struct ext_host *host,
                         struct remote_link *link) {
    int fds[REMOTE_SHM_FDS_MAX];
    struct ext_host_message answer,
        request = {.kind = library->options.kind->serve,
                   .numbers = {(uint64_t)library->options.kind->log->level},
                   .fds = fds};
    request.fd_count = remote_shm_fds(remote_link_shm(link), fds);
    int err = ext_host_call(host, &request, &answer, remote_library_deadline(library));
    return err ? err : answer.numbers[0] ? 0 : -ENOMEM;
}

/* ---- generations: their threads ---- */

static bool is_out(struct remote_library *library, uint64_t number) {
    pthread_mutex_lock(&library->lock);
    const struct generation *generation = remote_library_find_locked(library, number);
    bool it_is = generation && generation->version->is_out;
    pthread_mutex_unlock(&library->lock);
    return it_is;
}

static void lane_opened(void *arg, unsigned p, struct remote_lane *lane) {
    struct remote_library *library = arg;
    if (remote_lane_generation(lane) == atomic_load(&library->candidate)) {
        library->here[p].candidate = lane;
        return;
    }
    if (is_out(library, remote_lane_generation(lane)))
        return; /* before this P has heard of it */
    library->here[p].lane = lane;
    wait_queue_wake_all(&library->here[p].up);
}

/* Another one may be current already. */
static void lane_closed(void *arg, unsigned p, struct remote_lane *lane) {
    struct remote_library *library = arg;
    struct here *here = &library->here[p];
    if (here->lane == lane)
        here->lane = NULL;
    if (here->candidate == lane)
        here->candidate = NULL;
}

/* On its P, which may have exchanges before it has the message. Without a candidate: it is lost, or not yet open, and then
 * lane_opened finds that it is current. */
static void take_promoted(struct here *here) {
    if (!here->candidate ||
        remote_lane_generation(here->candidate) != atomic_load(&here->library->promoted))
        return;
    here->lane = here->candidate;
    here->candidate = NULL;
    wait_queue_wake_all(&here->up);
}

static void lane_promoted(struct rt_post *post) {
    struct here *here = container_of(post, struct here, promoted);
    atomic_store(&here->is_posted, false);
    take_promoted(here);
}

static bool knows_config(void *arg, uint64_t id) {
    struct remote_library *library = arg;
    return remote_notes_has(&library->notes, id);
}

/* Takes it out of the list; NULL: it is not there. */
static struct remote_link *take_link(struct remote_library *library, uint64_t number) {
    pthread_mutex_lock(&library->lock);
    struct generation **at = &library->generations;
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    struct generation *generation = *at;
    if (generation)
        *at = generation->next;
    pthread_mutex_unlock(&library->lock);
    struct remote_link *link = generation ? generation->link : NULL;
    free(generation);
    return link;
}

static int put_link(struct remote_library *library, const struct generation *what) {
    struct generation *generation = malloc(sizeof *generation);
    if (!generation)
        return -ENOMEM;
    *generation = *what;
    pthread_mutex_lock(&library->lock);
    generation->next = library->generations;
    library->generations = generation;
    pthread_mutex_unlock(&library->lock);
    return 0;
}

/* Without one the answer stays a failure. */
static void connect_for(void *arg, struct remote_lane *lane, const struct remote_ask *ask,
                        struct remote_answer *answer, void **memory) {
    const struct remote_library *library = arg;
    remote_connect_fn connect = atomic_load_explicit(&library->connect, memory_order_acquire);
    if (connect)
        connect(library->connect_arg, lane, ask, answer, memory);
}

void remote_library_connects(struct remote_library *library, remote_connect_fn connect, void *arg) {
    if (atomic_load_explicit(&library->connect, memory_order_relaxed))
        return; /* by an earlier configuration; they come one at a time */
    library->connect_arg = arg;
    atomic_store_explicit(&library->connect, connect, memory_order_release); /* connect_for */
}

static int prepare(void *arg, void *version, struct ext_host *host, uint64_t generation,
                   char *why) {
    struct remote_library *library = arg;
    struct generation it = {.number = generation, .version = version, .host = host};
    const struct remote_link_options options = {
        .supervisor = &library->supervisor,
        .generation = generation,
        .seats = library->options.seats,
        .callback_timeout_ns = library->options.callback_timeout_ns,
        .library = library->options.id,
        .log = library->options.kind->log,
        .of_coroutines = library->options.kind->of_coroutines,
        .connect = connect_for,
        .opened = lane_opened,
        .closed = lane_closed,
        .knows_config = knows_config,
        .arg = library,
    };
    int err = remote_link_new(&options, &it.link);
    if (err)
        return err;
    uint64_t abilities = 0;
    err = sandbox(library, host, why);
    if (!err)
        err = library->options.kind->load(library->options.arg, it.version->file.fd, host,
                                          remote_library_deadline(library), &abilities, why);
    remote_link_set_abilities(it.link, abilities);
    if (!err)
        err = remote_library_tell_all(library, host, &it.told, why);
    if (!err)
        err = tell_to_serve(library, host, it.link);
    if (!err)
        err = put_link(library, &it);
    if (err)
        remote_link_close(it.link);
    return err;
}

struct generation *remote_library_find_locked(struct remote_library *library, uint64_t number) {
    struct generation *of = library->generations;
    while (of && of->number != number)
        of = of->next;
    return of;
}

/* One that cannot be told is of no use: its next one is told all of them. It stays in the list until it is lost, on this
 * thread. */
bool remote_library_tell_the_rest(struct remote_library *library, uint64_t number) {
    char why[SUPERVISOR_WHY_MAX] = "it does not answer";
    pthread_mutex_lock(&library->lock);
    struct generation *generation = remote_library_find_locked(library, number);
    pthread_mutex_unlock(&library->lock);
    if (remote_library_tell_all(library, generation->host, &generation->told, why) == 0)
        return true;
    LOG(*library->options.kind->log, LOG_ERROR,
        "library %s: a process that was to take over is of no use: %s", library->options.id, why);
    supervisor_stuck(library->supervisor, number, "a configuration that was made meanwhile");
    return false;
}

static void promote_lanes(struct remote_library *library) {
    for (unsigned p = 0, count = rt_p_count(); p < count; p++) {
        struct here *here = &library->here[p];
        here->promoted.fn = lane_promoted;
        if (!atomic_exchange(&here->is_posted, true))
            rt_post(p, &here->promoted);
    }
}

static void up(void *arg, void *version, uint64_t generation) {
    struct remote_library *library = arg;
    bool is_good = remote_library_tell_the_rest(library, generation);
    pthread_mutex_lock(&library->lock);
    bool was_tried = atomic_load(&library->candidate) == generation;
    if (was_tried) {
        atomic_store(&library->promoted, generation);
        atomic_store(&library->candidate, 0);
    }
    /* With the lock: a link that is in the list is not closed. */
    for (struct generation *of = library->generations; of; of = of->next) {
        if (of->number == generation) {
            of->was_up = true;
            if (was_tried)
                promote_lanes(library);
            else if (is_good)
                remote_link_open(of->link);
        } else if (of->was_up && of->number != atomic_load(&library->candidate)) {
            remote_link_drain(of->link);
        }
    }
    pthread_mutex_unlock(&library->lock);
}

static void lost(void *arg, void *version, uint64_t generation, enum supervisor_loss loss,
                 struct span cause) {
    struct remote_library *library = arg;
    struct remote_link *link = take_link(library, generation);
    if (link)
        remote_link_close(link);
    if (generation == atomic_load(&library->candidate))
        remote_library_lost_on_trial(library);
}

void remote_version_free(struct version *version) {
    go_file_close(&version->file); /* its processes have their own descriptors */
    free(version);
}

static void release(void *arg, void *version) {
    remote_version_free(version);
}

/* Half of its time is for what its seats have still to do. */
static int farewell(void *arg, void *version, struct ext_host *host, int64_t deadline_ns) {
    const struct remote_library *library = arg;
    struct ext_host_message answer;
    const struct ext_host_message request = {
        .kind = library->options.kind->stop,
        .numbers = {(uint64_t)((deadline_ns - clock_mono_ns()) / 2 / NS_PER_MS)}};
    int err = ext_host_call(host, &request, &answer, deadline_ns);
    if (err)
        LOG(*library->options.kind->log, LOG_WARN,
            "library %s: process %d has not told all before its end: it %s", library->options.id,
            (int)ext_host_pid(host),
            err == -ETIMEDOUT ? "took too long to give back its configurations"
                              : "ended the process while it gave back its configurations");
    return err;
}

static const struct supervisor_user user = {
    .prepare = prepare, .up = up, .lost = lost, .farewell = farewell, .release = release};

static void library_free(struct remote_library *library) {
    (void)pthread_mutex_destroy(&library->lock); /* nobody has heard of it */
    free((void *)(uintptr_t)library->options.sandbox);
    rollout_free(library->rollout);
    free(library);
}

static void leave_here(struct rt_post *post) {
    struct remote_library *library = container_of(post, struct here, leave)->library;
    if (atomic_fetch_sub(&library->ps_left, 1) == 1)
        library_free(library);
}

/* Of one that did not come up, as far as its maker waited. It may have since, so Ps may have messages of its links, which they handle
 * before this one. */
static void give_up(struct remote_library *library) {
    unsigned count = rt_p_count();
    supervisor_stop(library->supervisor);
    atomic_store(&library->ps_left, count);
    for (unsigned p = 0; p < count; p++) {
        library->here[p].leave.fn = leave_here;
        rt_post(p, &library->here[p].leave);
    }
}

/* Its first version. 0; -errno and why. */
static int start(struct remote_library *library, const struct supervisor_options *supervising,
                 char *why) {
    const char *path = library->options.path;
    struct version *version = calloc(1, sizeof *version);
    int err = version ? go_file_copy(path, &version->file) : -ENOMEM;
    if (err) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "cannot load %s: %s", path, strerror(-err));
        free(version);
        return err;
    }
    err = supervisor_start(supervising, version, &library->supervisor);
    if (err) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "no host process can be started: %s",
                       strerror(-err));
        remote_version_free(version);
    }
    return err;
}

struct remote_library *remote_library_new(const struct remote_library_options *options, char *why) {
    struct remote_library *library = calloc(1, sizeof *library);
    (void)snprintf(why, SUPERVISOR_WHY_MAX, "out of memory");
    if (!library)
        return NULL;
    library->options = *options;
    struct sandbox_options *sandbox = sandbox_options_copy(options->sandbox);
    if (!sandbox) {
        free(library);
        return NULL;
    }
    library->options.sandbox = sandbox;
    if (options->rollout && !remote_library_make_rollout(library)) {
        library_free(library);
        return NULL;
    }
    (void)pthread_mutex_init(&library->lock, NULL); /* cannot fail with default attributes */
    remote_notes_init(&library->notes);
    for (unsigned p = 0; p < RT_P_MAX; p++) {
        library->here[p].library = library;
        wait_queue_init(&library->here[p].up);
    }
    const struct supervisor_options supervising = {
        .library = span_of(options->id),
        .stat_prefix = options->kind->stat_prefix,
        .user = &user,
        .arg = library,
        .restarts = options->restarts,
        .when_stuck = options->kind->when_stuck,
        .drain_ns = REMOTE_DRAIN_NS,
    };
    go_renewal_init(&library->renewal, options->id, options->path, &remote_library_renewal,
                    library);
    if (start(library, &supervising, why) != 0) {
        library_free(library);
        return NULL;
    }
    why[0] = 0;
    int err = supervisor_await_up(library->supervisor, remote_library_deadline(library), why);
    if (err) {
        if (!why[0])
            (void)snprintf(why, SUPERVISOR_WHY_MAX, "%s", strerror(-err));
        give_up(library);
        return NULL;
    }
    go_renewal_watch(&library->renewal);
    library->next = atomic_load_explicit(&libraries, memory_order_relaxed); /* one adds at a time */
    atomic_store_explicit(&libraries, library, memory_order_release);
    return library;
}

struct remote_library *remote_library_first(void) {
    return atomic_load_explicit(&libraries, memory_order_acquire); /* remote_library_new */
}

struct remote_library *remote_library_next(const struct remote_library *library) {
    return library->next;
}

struct remote_library *remote_library_find(struct span id) {
    struct remote_library *library = remote_library_first();
    while (library && !span_eq(span_of(library->options.id), id))
        library = library->next;
    return library;
}

enum go_renewed remote_library_reload(struct remote_library *library, char **why) {
    return go_renewal_now(&library->renewal, why);
}

void remote_library_look(struct remote_library *library, struct remote_library_view *out) {
    *out = (struct remote_library_view){.id = library->options.id,
                                        .path = library->options.path,
                                        .reloads = atomic_load(&library->reloads),
                                        .failed_reloads = atomic_load(&library->failed_reloads)};
    supervisor_status(library->supervisor, &out->status);
    pthread_mutex_lock(&library->lock);
    memcpy(out->last_error, library->last_error, sizeof out->last_error);
    for (const struct generation *of = library->generations; of; of = of->next) {
        bool is_current = of->number == out->status.generation;
        if (of->number != atomic_load(&library->candidate))
            *(is_current ? &out->streams : &out->draining_streams) += remote_link_streams(of->link);
        if (is_current)
            build_id_text(&of->version->file.build, out->build_id);
    }
    pthread_mutex_unlock(&library->lock);
}

int64_t remote_library_unfinalized(struct remote_library *library, struct span plugin) {
    int64_t count = 0;
    pthread_mutex_lock(&library->lock); /* a link that is in the list is not closed */
    for (const struct generation *of = library->generations; of; of = of->next)
        count += remote_link_unfinalized(of->link, plugin);
    pthread_mutex_unlock(&library->lock);
    return count;
}

/* ---- for Ps ---- */

struct remote_lane *remote_library_lane(struct remote_library *library) {
    struct here *here = &library->here[rt_p_index()];
    take_promoted(here);
    return here->lane;
}

struct remote_lane *remote_library_candidate(const struct remote_library *library) {
    return library->here[rt_p_index()].candidate;
}

struct rollout *remote_library_rollout(const struct remote_library *library) {
    return library->rollout;
}

int remote_library_await(struct remote_library *library, int64_t deadline_ns) {
    struct supervisor_status status;
    struct here *here = &library->here[rt_p_index()];
    supervisor_status(library->supervisor, &status);
    if (status.state == SUPERVISOR_DOWN || status.state == SUPERVISOR_STOPPING)
        return -EPIPE;
    return here->lane ? 0 : wait_queue_wait(&here->up, "host process of a library", deadline_ns);
}
