/* p_leases: see the header. */
#include "proxy/p_leases.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int p_leases_init(struct p_leases *leases) {
    size_t size = RT_P_MAX * sizeof *leases->at;
    leases->at = aligned_alloc(_Alignof(struct p_lease), size);
    if (!leases->at)
        return -ENOMEM;
    memset(leases->at, 0, size);
    return 0;
}

void p_leases_fini(struct p_leases *leases) {
    free(leases->at);
}

uint64_t p_leases_count(const struct p_leases *leases) {
    uint64_t sum = 0;
    for (unsigned p = 0; p < RT_P_MAX; p++)
        sum += atomic_load_explicit(&leases->at[p].count, memory_order_relaxed);
    return sum;
}

void p_leases_p_is_done(struct p_leases *leases) {
    /* acq_rel: what other Ps did with the thing comes before its end. */
    if (atomic_fetch_sub_explicit(&leases->ps_going, 1, memory_order_acq_rel) == 1)
        leases->ended(leases);
}

static void retire_here(struct rt_post *post) {
    struct p_lease *at = container_of(post, struct p_lease, retire);
    at->retired = true;
    if (atomic_load_explicit(&at->count, memory_order_relaxed) == 0)
        p_leases_p_is_done(at->of);
}

void p_leases_retire(struct p_leases *leases, void (*ended)(struct p_leases *leases)) {
    unsigned count = rt_p_count();
    leases->ended = ended;
    atomic_store_explicit(&leases->ps_going, count, memory_order_relaxed); /* posting releases */
    for (unsigned p = 0; p < count; p++) {
        struct p_lease *at = &leases->at[p];
        at->of = leases;
        at->retire.fn = retire_here;
        rt_post(p, &at->retire);
    }
}
