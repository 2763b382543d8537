/* remote_library_renew: a new file of a library in a process of its own: whether it is one, and what becomes of it: it serves as
 * soon as its process is up, or by degrees.
 *
 *     take ─► supervisor_replace                                                      up: lanes are the current ones
 *        └──► supervisor_try ─► rollout_begin: adopt: the rest is told, lanes open ─► settle: promote ──┘
 *                                                                                       └─ withdraw: the link drains
 *
 * The process that is on trial has lanes of its own, `candidate`, which exchanges take that the rollout wants there, and is told of
 * configurations as the current one is. One that ends is withdrawn by a coroutine, since its keeper waits for nobody.
 *
 * Who may touch what  As in remote_library.c. */
#include "ext/remote/remote_library_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ext/remote/remote_link.h"
#include "proxy/rollout.h"
#include "rt/foreign.h"

/* The one that is tried, or the newest that was not. NULL: there is no such process. */
static const struct generation *newest_locked(const struct remote_library *library,
                                              bool is_candidate) {
    uint64_t candidate = atomic_load(&library->candidate);
    const struct generation *of = library->generations;
    while (of && (of->version->is_out || (of->number == candidate) != is_candidate))
        of = of->next;
    return of;
}

/* The newest that a process was asked to load; none while there is no process. */
static bool serving(void *arg, struct go_file *out) {
    struct remote_library *library = arg;
    pthread_mutex_lock(&library->lock);
    const struct generation *newest = newest_locked(library, true);
    if (!newest)
        newest = newest_locked(library, false);
    if (newest)
        *out = newest->version->file;
    pthread_mutex_unlock(&library->lock);
    return newest != NULL;
}

/* ---- by degrees ---- */

static bool settle(void *arg, bool promoted) {
    struct remote_library *library = arg;
    uint64_t number = atomic_load(&library->candidate);
    if (promoted && supervisor_promote(library->supervisor, number) == 0)
        return true;
    if (promoted)
        LOG(*library->options.kind->log, LOG_ERROR,
            "library %s: the process of the new version has ended: the old one goes on",
            library->options.id);
    supervisor_withdraw(library->supervisor, number);
    pthread_mutex_lock(&library->lock);
    atomic_store(&library->candidate, 0);
    struct generation *generation = remote_library_find_locked(library, number);
    if (generation) {
        generation->version->is_out = true;
        remote_link_drain(generation->link);
    }
    pthread_mutex_unlock(&library->lock);
    return false;
}

static const struct rollout_itab rollout_itab = {.settle = settle};

struct trial {
    struct remote_library *library;
    uint64_t generation;
};

static int tell_the_rest_there(void *arg, struct ext_host *host, uint64_t generation) {
    return remote_library_tell_the_rest(arg, generation) ? 0 : -EPIPE;
}

/* Its lanes are the candidate's. */
static int adopt(void *arg) {
    const struct trial *trial = arg;
    struct remote_library *library = trial->library;
    int err = supervisor_call(library->supervisor, trial->generation, tell_the_rest_there, library);
    pthread_mutex_lock(&library->lock);
    struct generation *generation =
        err ? NULL : remote_library_find_locked(library, trial->generation);
    if (generation) {
        generation->was_up = true;
        atomic_store(&library->candidate, trial->generation);
        remote_link_open(generation->link);
    }
    pthread_mutex_unlock(&library->lock);
    return generation ? 0 : -EPIPE;
}

/* The copy is the version's. */
static enum go_renewed roll_out(struct remote_library *library, struct go_attempt *attempt,
                                struct version *version) {
    struct trial trial = {.library = library};
    const struct go_file tried = version->file;
    char why[SUPERVISOR_WHY_MAX] = "", name[32];
    int err = supervisor_try(library->supervisor, version, &trial.generation, why);
    if (err) {
        remote_version_free(version);
        return go_attempt_say(attempt, GO_RENEW_FAILED, "%s", why[0] ? why : strerror(-err));
    }
    (void)snprintf(name, sizeof name, "%llu", (unsigned long long)trial.generation);
    err = rollout_begin(library->rollout, name, build_id_hash(&tried.build), adopt, &trial);
    if (err) { /* as after a withdrawal */
        supervisor_withdraw(library->supervisor, trial.generation);
        supervisor_retire(library->supervisor, trial.generation);
        return go_attempt_say(attempt, GO_RENEW_FAILED, "its process has ended: see the log");
    }
    library->tried = tried;
    library->has_tried = true;
    return go_attempt_say(attempt, GO_RENEW_DONE, "the new file serves some");
}

/* ---- its process ends ---- */

static void withdraw_lost_there(void *arg) {
    struct remote_library *library = arg;
    pthread_mutex_lock(&library->lock);
    bool is_another = remote_library_find_locked(library, atomic_load(&library->candidate)) != NULL;
    pthread_mutex_unlock(&library->lock);
    if (!is_another)
        (void)rollout_conclude(library->rollout, false, "its process has ended: see the log");
}

/* A coroutine. */
static void withdraw_lost(void *arg) {
    const struct remote_library *library = arg;
    if (blocking_call(withdraw_lost_there, arg) != 0)
        LOG(*library->options.kind->log, LOG_ERROR,
            "library %s: no thread can be had to end the rollout of a version whose process has "
            "ended",
            library->options.id);
}

void remote_library_lost_on_trial(struct remote_library *library) {
    if (go_on(0, "lost on trial", withdraw_lost, library) != 0)
        LOG(*library->options.kind->log, LOG_ERROR,
            "library %s: no memory to end the rollout of a version whose process has ended",
            library->options.id);
}

bool remote_library_make_rollout(struct remote_library *library) {
    const struct rollout_options options = {.name = library->options.id,
                                            .stat_prefix = library->options.kind->stat_prefix,
                                            .stat_tag = "library",
                                            .stat_value = span_of(library->options.id),
                                            .itab = &rollout_itab,
                                            .arg = library};
    library->rollout = rollout_new(&options, library->options.rollout);
    return library->rollout != NULL;
}

/* ---- a file ---- */

/* A file that is no news to the rollout; else false. */
static bool is_settled(struct remote_library *library, struct go_attempt *attempt,
                       const struct go_file *file, bool is_current, enum go_renewed *result) {
    struct rollout_view view;
    rollout_look(library->rollout, &view);
    if (is_current &&
        rollout_conclude(library->rollout, false, "the file is the old version's again")) {
        *result = go_attempt_say(attempt, GO_RENEW_UNCHANGED, "what serves is this build");
        return true;
    }
    if (attempt->by_hand || view.state != ROLLOUT_WITHDRAWN || !library->has_tried ||
        !go_file_same_build(file, &library->tried))
        return false;
    *result = go_attempt_say(attempt, GO_RENEW_UNCHANGED, "this build was withdrawn: %s", view.why);
    return true;
}

static bool is_current(struct remote_library *library, const struct go_file *file) {
    pthread_mutex_lock(&library->lock);
    const struct generation *current = newest_locked(library, false);
    bool it_is = current && go_file_same_build(file, &current->version->file);
    pthread_mutex_unlock(&library->lock);
    return it_is;
}

static enum go_renewed take(void *arg, struct go_attempt *attempt, struct go_file *file) {
    struct remote_library *library = arg;
    char why[SUPERVISOR_WHY_MAX] = "";
    bool is_again = is_current(library, file); /* there is nothing to compare */
    enum go_renewed result;
    if (library->rollout && is_settled(library, attempt, file, is_again, &result)) {
        go_file_close(file);
        return result;
    }
    struct version *version = malloc(sizeof *version);
    if (!version) {
        go_file_close(file);
        return go_attempt_say(attempt, GO_RENEW_FAILED, "out of memory");
    }
    *version = (struct version){.file = *file};
    if (library->rollout && !is_again)
        return roll_out(library, attempt, version);
    int err = supervisor_replace(library->supervisor, version, why);
    if (!err)
        return go_attempt_say(attempt, GO_RENEW_DONE, "the new file serves");
    remote_version_free(version);
    return go_attempt_say(attempt, GO_RENEW_FAILED, "%s", why[0] ? why : strerror(-err));
}

static void keep_error(struct remote_library *library, const char *error) {
    pthread_mutex_lock(&library->lock);
    (void)snprintf(library->last_error, sizeof library->last_error, "%s", error);
    pthread_mutex_unlock(&library->lock);
}

static void conclude(void *arg, const struct go_attempt *attempt, const char *why) {
    struct remote_library *library = arg;
    const char *id = library->options.id;
    if (attempt->result == GO_RENEW_FAILED) {
        LOG(*library->options.kind->log, LOG_ERROR,
            "library %s: the new file is not used, the old one goes on: %s", id, why);
        (void)atomic_fetch_add(&library->failed_reloads, 1);
        keep_error(library, why);
    } else if (attempt->result == GO_RENEW_DONE) {
        LOG(*library->options.kind->log, LOG_INFO, "library %s: %s from now on", id, why);
        (void)atomic_fetch_add(&library->reloads, 1);
        keep_error(library, "");
    } else {
        LOG(*library->options.kind->log, LOG_DEBUG, "library %s: nothing to load: %s", id, why);
    }
}

const struct go_renewal_itab remote_library_renewal = {
    .serving = serving, .take = take, .conclude = conclude, .same_by_hand = true};
