/* go_swap: how. The work is done on a thread without a P, as it opens files, waits for processes and runs the library's code;
 * what is asked from a P parks until it is over.
 *
 *     changed ──► look, a coroutine per library ──blocking_call──► attempt, under one_at_a_time
 *                    └─ again, while the file is being written
 *
 * Half a file  Events come when a writer closes the file, or renames it to its place; but also when it creates it, and
 *              who looks then sees half of it. A file that announces more than there is, or that changes while it is
 *              copied, is looked at again until a second has passed without a change; then it is broken.
 * Same build   Nothing is done for a file that was only touched, or copied over itself.
 * Probe        What it tried is the file at that path, after it was copied: if its stamp is still that of the copy, what
 *              was tried is what is loaded.
 * Failures     are remembered by the file's stamp: another event does not try the same file again. Who asks by hand is
 *              served each time, as the cause may lie outside.
 *
 * Rejected  To load the new one and try it in place, without a process: its init may end the proxy. To drop the old one's
 *           configurations at once, two seconds later, as Envoy does with routes': exchanges may take longer. */
#include "ext/go/go_swap.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ext/go/go_heap.h"
#include "ext/go/go_log.h"
#include "ext/go/go_stats.h"
#include "io/file_watch.h"
#include "rt/foreign.h"

enum { LOOK_AGAIN_MS = 100, SETTLED_MS = 1000 };

/* What is known of an origin besides. */
struct swap {
    struct swap *next;
    struct go_origin *origin;
    struct go_swap_stats stats;
    bool dirty, looking;    /* P 0's */
    _Atomic bool swapping;  /* somebody is at it */
    struct go_stamp failed; /* one_at_a_time */
    bool has_failed;        /* of that file */
    char *last_error;       /* error_lock; NULL: none */
};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;
static struct swap *swaps; /* all are there when the Ps serve */
static struct config *config;
static struct probe_options probe;

static struct swap *swap_of(const struct go_origin *origin) {
    struct swap *swap = swaps;
    while (swap && swap->origin != origin)
        swap = swap->next;
    return swap;
}

/* ---- one attempt ---- */

struct attempt {
    struct swap *swap;
    bool by_hand;  /* a file that failed is tried again */
    bool is_last;  /* half a file is a broken one */
    bool is_early; /* out: it is being written; `result` says nothing */
    struct go_stamp seen;
    enum go_swap_result result;
    char *why; /* owned; NULL when memory is short */
};

static enum go_swap_result say(struct attempt *attempt, enum go_swap_result result,
                               const char *format, ...) PRINTF_LIKE(3, 4);
static enum go_swap_result say(struct attempt *attempt, enum go_swap_result result,
                               const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (vasprintf(&attempt->why, format, args) < 0)
        attempt->why = NULL;
    va_end(args);
    return result;
}

static enum go_swap_result early(struct attempt *attempt) {
    attempt->is_early = true;
    return GO_SWAP_UNCHANGED;
}

/* The first one that refuses. */
static enum go_swap_result say_problem(struct attempt *attempt,
                                       const struct cfg_problems *problems) {
    for (size_t i = 0; i < problems->count; i++) {
        const struct cfg_problem *at = &problems->items[i];
        if (at->kind != CFG_PROBLEM_WARNING)
            return say(attempt, GO_SWAP_FAILED, "%.*s:%u: %s", (int)at->mark.file.len,
                       at->mark.file.ptr, at->mark.line, at->text);
    }
    return say(attempt, GO_SWAP_FAILED, "out of memory");
}

static bool is_of(void *arg, struct span library_id) {
    return go_library_origin(library_id) == arg;
}

/* 0, or what is to be returned in *result. */
static bool passes_probe(struct attempt *attempt, enum go_swap_result *result) {
    struct probe_options options = probe;
    struct cfg_problems problems = {0};
    options.wants = is_of;
    options.arg = attempt->swap->origin;
    probe_config(config_bootstrap(config), &options, &problems);
    bool passes = !cfg_problems_refuse(&problems);
    if (!passes)
        *result = say_problem(attempt, &problems);
    cfg_problems_fini(&problems);
    return passes;
}

/* The copy is transferred. */
static enum go_swap_result take_over(struct attempt *attempt, const struct go_file *file) {
    struct go_origin *origin = attempt->swap->origin;
    struct go_library *before = go_origin_current(origin);
    char why[GO_LIBRARY_WHY_MAX];
    struct go_library *library = go_library_load_again(origin, file, why);
    if (!library)
        return say(attempt, GO_SWAP_FAILED, "%s", why);
    struct cfg_problems problems = {0};
    enum go_swap_result result = GO_SWAP_DONE;
    if (go_origin_adopt(origin, library, &problems) != 0) {
        atomic_store_explicit(&library->state, GO_LIBRARY_REFUSED, memory_order_relaxed);
        result = say_problem(attempt, &problems);
    } else {
        atomic_store_explicit(&library->state, GO_LIBRARY_CURRENT, memory_order_relaxed);
        go_library_retire(before);
        (void)say(attempt, result, "version %u serves", library->version);
    }
    cfg_problems_fini(&problems);
    return result;
}

/* The copy is transferred. */
static enum go_swap_result judge(struct attempt *attempt, struct go_file *file) {
    struct go_origin *origin = attempt->swap->origin;
    const struct go_library *before = go_origin_current(origin);
    unsigned copies = atomic_load_explicit(&origin->copies, memory_order_relaxed);
    enum go_swap_result result;
    struct go_stamp now;
    if (go_file_same_build(file, &before->file))
        result = say(attempt, GO_SWAP_UNCHANGED, "version %u, which serves, is this build",
                     before->version);
    else if (!go_file_is_whole(file) && !attempt->is_last)
        result = early(attempt);
    else if (copies > origin->kept_max)
        result = say(attempt, GO_SWAP_FAILED,
                     "%u old copies of it are in the process, and hot_swap.kept_copies allows %u: "
                     "restart the proxy, or run the library with isolation: PROCESS",
                     copies - 1, origin->kept_max);
    else if (!passes_probe(attempt, &result))
        ;
    else if (go_stamp_of(origin->path, &now) != 0 || !go_stamp_eq(&now, &file->stamp))
        result = early(attempt);
    else
        return take_over(attempt, file);
    go_file_close(file);
    return result;
}

static enum go_swap_result try(struct attempt *attempt) {
    struct swap *swap = attempt->swap;
    const char *path = swap->origin->path;
    struct go_file file;
    int err = go_stamp_of(path, &attempt->seen);
    if (!err && go_stamp_eq(&attempt->seen, &go_origin_current(swap->origin)->file.stamp))
        return say(attempt, GO_SWAP_UNCHANGED, "version %u, which serves, is this file",
                   go_origin_current(swap->origin)->version);
    if (err == -ENOENT && !attempt->by_hand)
        return say(attempt, GO_SWAP_UNCHANGED, "there is no file now");
    if (!err && !attempt->by_hand && swap->has_failed && go_stamp_eq(&attempt->seen, &swap->failed))
        return say(attempt, GO_SWAP_UNCHANGED, "this file failed before");
    err = err ? err : go_file_copy(path, &file);
    if (err == -EAGAIN && !attempt->is_last)
        return early(attempt);
    if (err)
        return say(attempt, GO_SWAP_FAILED, "cannot load %s: %s", path,
                   err == -EAGAIN ? "it is being written" : strerror(-err));
    return judge(attempt, &file);
}

static void keep_error(struct swap *swap, const char *error) {
    char *copy = error ? strdup(error) : NULL;
    pthread_mutex_lock(&error_lock);
    free(swap->last_error);
    swap->last_error = copy;
    pthread_mutex_unlock(&error_lock);
}

static void conclude(struct attempt *attempt) {
    struct swap *swap = attempt->swap;
    const struct go_origin *origin = swap->origin;
    const struct go_library *current = go_origin_current(origin);
    const char *why = attempt->why ? attempt->why : "out of memory";
    if (attempt->result == GO_SWAP_FAILED) {
        swap->failed = attempt->seen;
        swap->has_failed = true;
        keep_error(swap, why);
        stat_inc(swap->stats.failed_reloads, STATS_SHARD_FOREIGN);
        LOG(log_golang, LOG_ERROR, "%s: the new file %s is not taken, version %u goes on: %s",
            origin->id, origin->path, current->version, why);
    } else if (attempt->result == GO_SWAP_DONE) {
        swap->has_failed = false;
        keep_error(swap, NULL);
        stat_inc(swap->stats.reloads, STATS_SHARD_FOREIGN);
        LOG(log_golang, LOG_INFO, "%s: version %u of %s serves", origin->id, current->version,
            origin->path);
    } else {
        LOG(log_golang, LOG_DEBUG, "%s: nothing to swap: %s", origin->id, why);
    }
    go_swap_stats_set(&swap->stats, current->version,
                      atomic_load_explicit(&origin->copies, memory_order_relaxed) - 1);
}

static void run_attempt(void *arg) {
    struct attempt *attempt = arg;
    pthread_mutex_lock(&one_at_a_time);
    atomic_store_explicit(&attempt->swap->swapping, true, memory_order_relaxed);
    attempt->is_early = false;
    attempt->result = try(attempt);
    if (!attempt->is_early)
        conclude(attempt);
    atomic_store_explicit(&attempt->swap->swapping, false, memory_order_relaxed);
    pthread_mutex_unlock(&one_at_a_time);
}

static void no_thread(struct attempt *attempt) {
    attempt->result = say(attempt, GO_SWAP_FAILED, "no thread can be had");
    LOG(log_golang, LOG_ERROR, "%s: %s was not looked at: no thread can be had",
        attempt->swap->origin->id, attempt->swap->origin->path);
}

/* Until the file is whole, or does not change any more. */
static void make_attempt(struct attempt *attempt) {
    struct go_stamp seen = {0};
    int64_t settled_ns = 0;
    do {
        if (blocking_call(run_attempt, attempt) != 0) {
            no_thread(attempt);
            return;
        }
        int64_t now_ns = clock_mono_ns();
        if (!go_stamp_eq(&seen, &attempt->seen)) {
            seen = attempt->seen;
            settled_ns = now_ns + SETTLED_MS * NS_PER_MS;
        }
        attempt->is_last = now_ns >= settled_ns;
        if (attempt->is_early && rt_sleep_until(now_ns + LOOK_AGAIN_MS * NS_PER_MS) != 0)
            attempt->is_last = true; /* it must stop */
    } while (attempt->is_early);
}

enum go_swap_result go_swap_now(struct go_origin *origin, char **why) {
    struct attempt attempt = {.swap = swap_of(origin), .by_hand = true, .result = GO_SWAP_FAILED};
    if (attempt.swap)
        make_attempt(&attempt);
    *why = attempt.why;
    return attempt.result;
}

/* ---- files that change ---- */

static void look(void *arg) {
    struct swap *swap = arg;
    while (swap->dirty) {
        struct attempt attempt = {.swap = swap};
        swap->dirty = false;
        make_attempt(&attempt);
        free(attempt.why);
    }
    swap->looking = false;
}

/* On file_watch's coroutine, which others wait for. */
static void changed(void *arg) {
    struct swap *swap = arg;
    swap->dirty = true;
    if (swap->looking)
        return;
    swap->looking = go_here("library file changed", look, swap) == 0;
    if (!swap->looking)
        LOG(log_golang, LOG_ERROR, "%s: %s was not looked at: out of memory", swap->origin->id,
            swap->origin->path);
}

/* Watches are for ever. */
static void release(void *arg) {}

static void watch(struct swap *swap) {
    const struct span file = span_of(swap->origin->path);
    const struct file_watch_options options = {
        .files = &file, .file_count = 1, .changed = changed, .release = release, .arg = swap};
    int rc;
    if (!file_watch_add(&options, &rc))
        LOG(log_golang, LOG_WARN,
            "%s: changes of %s will not be noticed (%s; see fs.inotify in sysctl): POST "
            "/extensions/reload?library_id=%s has it loaded",
            swap->origin->id, swap->origin->path, strerror(-rc), swap->origin->id);
}

void go_swap_start(struct config *of_snapshot, const struct probe_options *options) {
    config = config_ref(of_snapshot);
    probe = *options;
    for (struct go_origin *origin = go_origin_first(); origin; origin = origin->next) {
        if (go_origin_current(origin)->isolated)
            continue; /* its host process is replaced */
        struct swap *swap = calloc(1, sizeof *swap);
        if (!swap) {
            LOG(log_golang, LOG_ERROR, "out of memory: libraries are not swapped");
            return;
        }
        swap->origin = origin;
        swap->next = swaps;
        swaps = swap;
        go_swap_stats_init(&swap->stats, span_of(origin->id));
        go_swap_stats_set(&swap->stats, 1, 0);
        if (origin->swaps)
            watch(swap);
    }
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

static void print_build_id(const struct build_id *build, char *out) {
    for (size_t i = 0; i < build->gnu_len; i++)
        out += sprintf(out, "%02x", build->bytes[build->gnu_at + i]);
    *out = '\0';
}

static void describe(const struct go_library *library, char *build_id, struct ext_copy_row *row) {
    print_build_id(&library->file.build, build_id);
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
    bool swapping = atomic_load_explicit(&swap->swapping, memory_order_relaxed);
    const struct ext_row row = {
        .library_id = origin->id,
        .path = origin->path,
        .state = swapping ? "SWAPPING" : "SERVING",
        .last_error = error ? error : "",
        .kept_max = origin->kept_max,
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
    struct sizes sizes = {.rows = calloc(room + 1, sizeof sizes.rows[0]),
                          .of = calloc(room + 1, sizeof(sizes.of[0]))};
    char(*ids)[2 * BUILD_ID_MAX + 1] = calloc(room + 1, sizeof *ids);
    int err = sizes.rows && sizes.of && ids ? 0 : -ENOMEM;
    for (const struct swap *swap = err ? NULL : swaps; swap; swap = swap->next) {
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
    for (const struct swap *swap = err ? NULL : swaps; swap; swap = swap->next) {
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
