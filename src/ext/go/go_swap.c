/* go_swap: how. The work is done on a thread without a P, as it opens files, waits for processes and runs the library's code.
 *
 *     go_renew: a whole file, of another build ──► take: probe, load, adopt ──► conclude: log and statistics
 *
 * One at a time  of all libraries: the probe has one configuration, and one memory of what passed.
 * Probe          What it tried is the file at that path, after it was copied: if its stamp is still that of the copy, what
 *                was tried is what is loaded.
 *
 * Rejected  To load the new one and try it in place, without a process: its init may end the proxy. To drop the old one's
 *           configurations at once, two seconds later, as Envoy does with routes': exchanges may take longer. */
#include "ext/go/go_swap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ext/go/go_heap.h"
#include "ext/go/go_log.h"
#include "ext/go/go_stats.h"
#include "rt/foreign.h"

/* What is known of an origin besides. */
struct swap {
    struct swap *next;
    struct go_origin *origin;
    struct go_renewal renewal;
    struct go_swap_stats stats;
    char *last_error; /* error_lock; NULL: none */
    struct go_file
        tried; /* the latest that was loaded, whose copy is the library's; the renewal's lock */
    bool has_tried;
};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct swap *) swaps; /* the list only grows, at its head, on P 0 */
static pthread_mutex_t config_lock = PTHREAD_MUTEX_INITIALIZER;
static struct resources *resources; /* leased; config_lock */
static struct probe_options probe;  /* likewise */

static struct swap *swap_first(void) {
    return atomic_load_explicit(&swaps, memory_order_acquire); /* watch */
}

static struct swap *swap_of(const struct go_origin *origin) {
    struct swap *swap = swap_first();
    while (swap && swap->origin != origin)
        swap = swap->next;
    return swap;
}

/* ---- by degrees ---- */

static void set_stats(const struct swap *swap) {
    const struct go_origin *origin = swap->origin;
    go_swap_stats_set(&swap->stats, go_origin_current(origin)->version,
                      atomic_load_explicit(&origin->copies, memory_order_relaxed) - 1);
}

static struct go_library *candidate_of(struct go_origin *origin) {
    pthread_mutex_lock(&origin->lock);
    struct go_library *candidate = origin->candidate;
    pthread_mutex_unlock(&origin->lock);
    return candidate;
}

static bool settle(void *arg, bool promoted) {
    struct go_origin *origin = arg;
    struct go_library *left = go_origin_settle(origin, promoted);
    if (promoted)
        atomic_store_explicit(&go_origin_current(origin)->state, GO_LIBRARY_CURRENT,
                              memory_order_relaxed);
    go_library_retire(left);
    set_stats(swap_of(origin));
    return promoted;
}

static const struct rollout_itab rollout_itab = {.settle = settle};

struct rollout *go_swap_rollout(struct go_origin *origin, const struct cfg_rollout *cfg) {
    const struct rollout_options options = {.name = origin->id,
                                            .stat_prefix = "golang.library",
                                            .stat_tag = "library",
                                            .stat_value = span_of(origin->id),
                                            .itab = &rollout_itab,
                                            .arg = origin};
    return rollout_new(&options, cfg);
}

struct trial {
    struct go_library *library;
    struct cfg_problems *problems;
};

static int try(void *arg) {
    const struct trial *trial = arg;
    atomic_store_explicit(&trial->library->state, GO_LIBRARY_CANDIDATE, memory_order_relaxed);
    return go_origin_try(trial->library->origin, trial->library, trial->problems);
}

/* It serves, or some of it; else a problem that says why not. */
static int adopt(struct go_library *library, struct cfg_problems *problems) {
    struct go_origin *origin = library->origin;
    struct go_library *before = go_origin_current(origin);
    struct trial trial = {library, problems};
    char version[16];
    if (origin->rollout) {
        (void)snprintf(version, sizeof version, "%u", library->version);
        return rollout_begin(origin->rollout, version, build_id_hash(&library->file.build), try,
                             &trial);
    }
    if (go_origin_adopt(origin, library, problems) != 0)
        return -EINVAL;
    atomic_store_explicit(&library->state, GO_LIBRARY_CURRENT, memory_order_relaxed);
    go_library_retire(before);
    return 0;
}

/* ---- one attempt ---- */

/* The first one that refuses. */
static enum go_renewed say_problem(struct go_attempt *attempt,
                                   const struct cfg_problems *problems) {
    for (size_t i = 0; i < problems->count; i++) {
        const struct cfg_problem *at = &problems->items[i];
        if (at->kind != CFG_PROBLEM_WARNING)
            return go_attempt_say(attempt, GO_RENEW_FAILED, "%.*s:%u: %s", (int)at->mark.file.len,
                                  at->mark.file.ptr, at->mark.line, at->text);
    }
    return go_attempt_say(attempt, GO_RENEW_FAILED, "out of memory");
}

static bool is_of(void *arg, struct span library_id) {
    return go_library_origin(library_id) == arg;
}

/* Else *result is what is to be returned. */
static bool passes_probe(struct go_origin *origin, struct go_attempt *attempt,
                         enum go_renewed *result) {
    struct cfg_problems problems = {0};
    pthread_mutex_lock(&config_lock);
    struct probe_options options = probe;
    struct resources *latest = resources_ref(resources);
    pthread_mutex_unlock(&config_lock);
    options.wants = is_of;
    options.arg = origin;
    probe_config(latest, &options, &problems);
    resources_unref(latest);
    bool passes = !cfg_problems_refuse(&problems);
    if (!passes)
        *result = say_problem(attempt, &problems);
    cfg_problems_fini(&problems);
    return passes;
}

/* The copy is transferred. */
static enum go_renewed load(struct go_origin *origin, struct go_attempt *attempt,
                            const struct go_file *file) {
    char why[GO_LIBRARY_WHY_MAX];
    struct go_library *library = go_library_load_again(origin, file, why);
    if (!library)
        return go_attempt_say(attempt, GO_RENEW_FAILED, "%s", why);
    struct cfg_problems problems = {0};
    enum go_renewed result = GO_RENEW_DONE;
    int err = adopt(library, &problems);
    if (err == -EINVAL)
        atomic_store_explicit(&library->state, GO_LIBRARY_REFUSED, memory_order_relaxed);
    if (err)
        result = say_problem(attempt, &problems);
    else
        (void)go_attempt_say(attempt, result,
                             origin->rollout ? "version %u serves some" : "version %u serves",
                             library->version);
    cfg_problems_fini(&problems);
    return result;
}

static enum go_renewed take_locked(struct go_origin *origin, struct go_attempt *attempt,
                                   struct go_file *file) {
    unsigned copies = atomic_load_explicit(&origin->copies, memory_order_relaxed);
    enum go_renewed result;
    struct go_stamp now;
    if (copies > origin->kept_max)
        result = go_attempt_say(
            attempt, GO_RENEW_FAILED,
            "%u old copies of it are in the process, and hot_swap.kept_copies allows %u: "
            "restart the proxy, or run the library with isolation: PROCESS",
            copies - 1, origin->kept_max);
    else if (!passes_probe(origin, attempt, &result))
        ;
    else if (go_stamp_of(origin->path, &now) != 0 || !go_stamp_eq(&now, &file->stamp))
        result = go_attempt_early(attempt);
    else
        return load(origin, attempt, file);
    go_file_close(file);
    return result;
}

/* A file that is no news to the rollout; else false. */
static bool is_settled(struct swap *swap, struct go_attempt *attempt, const struct go_file *file,
                       enum go_renewed *result) {
    struct go_origin *origin = swap->origin;
    const struct go_library *current = go_origin_current(origin);
    struct rollout_view view;
    rollout_look(origin->rollout, &view);
    if (go_file_same_build(file, &current->file)) {
        (void)rollout_conclude(origin->rollout, false, "the file is the old version's again");
        *result = go_attempt_say(attempt, GO_RENEW_UNCHANGED, "what serves is this build");
        return true;
    }
    if (attempt->by_hand || view.state != ROLLOUT_WITHDRAWN || !swap->has_tried ||
        !go_file_same_build(file, &swap->tried))
        return false;
    *result = go_attempt_say(attempt, GO_RENEW_UNCHANGED, "this build was withdrawn: %s", view.why);
    return true;
}

static enum go_renewed take(void *arg, struct go_attempt *attempt, struct go_file *file) {
    struct swap *swap = arg;
    enum go_renewed result;
    if (swap->origin->rollout && is_settled(swap, attempt, file, &result)) {
        go_file_close(file);
        return result;
    }
    const struct go_file tried = *file;
    pthread_mutex_lock(&one_at_a_time);
    result = take_locked(swap->origin, attempt, file);
    pthread_mutex_unlock(&one_at_a_time);
    if (result == GO_RENEW_DONE) {
        swap->tried = tried;
        swap->has_tried = true;
    }
    return result;
}

/* While a rollout is on, what was loaded last. */
static bool serving(void *arg, struct go_file *out) {
    const struct swap *swap = arg;
    const struct go_library *candidate = candidate_of(swap->origin);
    *out = candidate ? candidate->file : go_origin_current(swap->origin)->file;
    return true;
}

static void keep_error(struct swap *swap, const char *error) {
    char *copy = error ? strdup(error) : NULL;
    pthread_mutex_lock(&error_lock);
    free(swap->last_error);
    swap->last_error = copy;
    pthread_mutex_unlock(&error_lock);
}

static void conclude(void *arg, const struct go_attempt *attempt, const char *why) {
    struct swap *swap = arg;
    const struct go_origin *origin = swap->origin;
    const struct go_library *current = go_origin_current(origin);
    if (attempt->result == GO_RENEW_FAILED) {
        keep_error(swap, why);
        stat_inc(swap->stats.failed_reloads, STATS_SHARD_FOREIGN);
        LOG(log_golang, LOG_ERROR, "%s: the new file %s is not taken, version %u goes on: %s",
            origin->id, origin->path, current->version, why);
    } else if (attempt->result == GO_RENEW_DONE) {
        keep_error(swap, NULL);
        stat_inc(swap->stats.reloads, STATS_SHARD_FOREIGN);
        LOG(log_golang, LOG_INFO, "%s: %s of %s", origin->id, why, origin->path);
    } else {
        LOG(log_golang, LOG_DEBUG, "%s: nothing to swap: %s", origin->id, why);
    }
    set_stats(swap);
}

static const struct go_renewal_itab itab = {.serving = serving, .take = take, .conclude = conclude};

enum go_renewed go_swap_now(struct go_origin *origin, char **why) {
    struct swap *swap = swap_of(origin);
    if (swap)
        return go_renewal_now(&swap->renewal, why);
    *why = NULL; /* go_swap_watch had no memory for it */
    return GO_RENEW_FAILED;
}

void go_swap_pause(void) {
    pthread_mutex_lock(&one_at_a_time);
}

void go_swap_resume(void) {
    pthread_mutex_unlock(&one_at_a_time);
}

static void watch(struct go_origin *origin) {
    struct swap *swap = calloc(1, sizeof *swap);
    if (!swap) {
        LOG(log_golang, LOG_ERROR, "%s: out of memory, it is not swapped", origin->id);
        return;
    }
    swap->origin = origin;
    swap->next = swap_first();
    go_swap_stats_init(&swap->stats, span_of(origin->id));
    go_swap_stats_set(&swap->stats, 1, 0);
    go_renewal_init(&swap->renewal, origin->id, origin->path, &itab, swap);
    atomic_store_explicit(&swaps, swap, memory_order_release);
    if (origin->swaps)
        go_renewal_watch(&swap->renewal);
}

void go_swap_watch(struct resources *of_snapshot, const struct probe_options *options) {
    pthread_mutex_lock(&config_lock);
    struct resources *before = resources;
    resources = resources_ref(of_snapshot);
    probe = *options;
    pthread_mutex_unlock(&config_lock);
    resources_unref(before);
    for (struct go_origin *origin = go_origin_first(); origin; origin = origin->next)
        if (!go_origin_current(origin)->isolated &&
            !swap_of(origin)) /* a host process is replaced */
            watch(origin);
}

/* ---- what can be seen ---- */

struct sizes {
    struct ext_copy_row *rows;
    const struct go_library **of;
    size_t count;
};

static void note_size(void *arg, const struct go_library *library, uint64_t bytes) {
    const struct sizes *sizes = arg;
    for (size_t i = 0; i < sizes->count; i++)
        if (sizes->of[i] == library)
            sizes->rows[i].memory_bytes = bytes;
}

static void describe(const struct go_library *library, char *build_id, struct ext_copy_row *row) {
    build_id_text(&library->file.build, build_id);
    *row = (struct ext_copy_row){
        .version = library->version,
        .state =
            go_library_state_names[atomic_load_explicit(&library->state, memory_order_relaxed)],
        .build_id = build_id,
        .sdk = library->elf.sdk_version,
        .go = library->elf.go_version,
        .in_flight = go_library_in_flight(library),
    };
}

static void show(const struct swap *swap, const struct ext_copy_row *copies, size_t count,
                 ext_row_fn fn, void *arg) {
    const struct go_origin *origin = swap->origin;
    pthread_mutex_lock(&error_lock);
    char *error = swap->last_error ? strdup(swap->last_error) : NULL;
    pthread_mutex_unlock(&error_lock);
    const struct ext_row row = {
        .library_id = origin->id,
        .path = origin->path,
        .state = go_renewal_is_busy(&swap->renewal) ? "SWAPPING" : "SERVING",
        .last_error = error ? error : "",
        .kept_max = origin->kept_max,
        .rollout = origin->rollout,
        .reloads = (uint64_t)stat_value(swap->stats.reloads),
        .failed_reloads = (uint64_t)stat_value(swap->stats.failed_reloads),
        .copies = copies,
        .copy_count = count,
    };
    fn(arg, &row);
    free(error);
}

int go_swap_each_row(ext_row_fn fn, void *arg) {
    size_t room = 0;
    struct go_library *first = go_library_first();
    for (const struct go_library *library = first; library; library = library->next)
        room++;
    const struct swap *all = swap_first(); /* more may come */
    for (const struct swap *swap = all; swap; swap = swap->next)
        room++; /* its current copy may have come since */
    struct sizes sizes = {.rows = calloc(room + 1, sizeof sizes.rows[0]),
                          .of = calloc(room + 1, sizeof(sizes.of[0]))};
    char(*ids)[BUILD_ID_TEXT_MAX] = calloc(room + 1, sizeof *ids);
    int err = sizes.rows && sizes.of && ids ? 0 : -ENOMEM;
    for (const struct swap *swap = err ? NULL : all; swap; swap = swap->next) {
        size_t begin = sizes.count;
        const struct go_library *current = go_origin_current(swap->origin);
        sizes.of[sizes.count++] = current;
        for (const struct go_library *at = first; at; at = at->next)
            if (at->origin == swap->origin && at != current && sizes.count < room)
                sizes.of[sizes.count++] = at;
        for (size_t i = begin; i < sizes.count; i++)
            describe(sizes.of[i], ids[i], &sizes.rows[i]);
    }
    if (!err)
        err = go_heaps_measure(note_size, &sizes);
    size_t at = 0;
    for (const struct swap *swap = err ? NULL : all; swap; swap = swap->next) {
        size_t count = 1;
        while (at + count < sizes.count && sizes.of[at + count]->origin == swap->origin)
            count++;
        show(swap, &sizes.rows[at], count, fn, arg);
        at += count;
    }
    free(ids);
    free(sizes.of);
    free(sizes.rows);
    return err;
}
