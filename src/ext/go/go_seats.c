/* go_seats: see the header. */
#include "ext/go/go_seats.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Before the runtime runs (a configuration is only looked at) the number of Ps is not settled. */
static unsigned p_count(void) {
    unsigned count = rt_p_count();
    return count ? count : RT_P_MAX;
}

uint32_t go_seats_announced(uint32_t wanted) {
    unsigned least = p_count();
    return wanted == 0 ? least * SEATS_PER_P : wanted < least ? least : wanted;
}

static int settle_locked(struct go_library *library, enum go_seats_kind kind, uint32_t count) {
    struct seat_set *seats = seat_set_new(p_count(), count);
    if (!seats)
        return -ENOMEM;
    if (!library->stats.merges)
        go_library_stats_init(&library->stats, span_of(library->id));
    if (kind == GO_SEATS_OF_WORKERS)
        library->concurrency = count;
    /* Pairs with go_seats_of: the rest is there with the seats. */
    atomic_store_explicit(kind == GO_SEATS_OF_CALLS ? &library->call_seats : &library->seats, seats,
                          memory_order_release);
    return 0;
}

int go_seats_settle(struct go_library *library, enum go_seats_kind kind, uint32_t wanted,
                    char why[GO_LIBRARY_WHY_MAX]) {
    static const char *const whose[] = {"", " for network filters and cluster specifiers"};
    int err = 0;
    unsigned least = p_count();
    uint32_t count = go_seats_announced(wanted);
    why[0] = 0;
    pthread_mutex_lock(&lock);
    if (!go_seats_of(library, kind))
        err = settle_locked(library, kind, count);
    uint32_t settled = err ? count : seat_set_size(go_seats_of(library, kind));
    if (!err && wanted && count != settled)
        (void)snprintf(
            why, GO_LIBRARY_WHY_MAX,
            "library %s has %u seats%s since its first configuration; go_seats: %u takes "
            "effect when the process is started anew",
            library->id, settled, whose[kind], wanted);
    else if (!err && wanted && wanted < least)
        (void)snprintf(
            why, GO_LIBRARY_WHY_MAX,
            "library %s has %u seats%s, one for each processor that calls it; go_seats: %u "
            "would leave some without",
            library->id, count, whose[kind], wanted);
    pthread_mutex_unlock(&lock);
    return err;
}

struct seat_set *go_seats_settled(struct go_library *library, enum go_seats_kind kind,
                                  const struct cfg_go_library *cfg, const struct cfg_mark *mark,
                                  struct cfg_problems *problems) {
    char why[GO_LIBRARY_WHY_MAX];
    int err = go_seats_settle(library, kind, cfg->go_seats.set ? cfg->go_seats.value : 0, why);
    if (why[0])
        cfg_problem_add(problems, CFG_PROBLEM_WARNING, mark, "%s", why);
    return err ? NULL : go_seats_of(library, kind);
}
