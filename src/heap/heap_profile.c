/* heap_profile: the parts, and how a profile is read.
 *
 *     malloc.c ----> sampler: this one? --> record --> unwind: stack --> sites: counters by stack
 *     mem, its hook /                          \-----> labels ---------/      ^
 *                                               \----> samples: the object, live
 *     free, gone -----------------------------------> samples ---> sites      |
 *                                                           cycles: close, tell, read
 *
 * A fork happens while no other thread holds a lock of ours, so the child may go on. */
#include "heap/heap_profile.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "heap/cycles.h"
#include "heap/own.h"
#include "heap/record.h"
#include "heap/sampler.h"
#include "mem/sampling.h"

static bool is_ready; /* constant once there are threads */

/* ---- What mem/ hands out ---- */

static void *sample_memory(size_t size, struct mem_countdown *countdown) {
    double weight = sampler_pick_for(countdown, size);
    if (weight == 0)
        return NULL;
    return record_sample(NULL, size, weight, __builtin_return_address(0));
}

static void memory_gone(void *sample) {
    samples_gone(sample);
}

static const struct mem_sampler memory_sampler = {.sample = sample_memory, .gone = memory_gone};

/* ---- Starting ---- */

/* Other libraries' handlers may run between these, and allocate. */

static void before_fork(void) {
    cycles_lock();
    sampler_lock();
    sites_lock();
    samples_lock();
    own_lock();
    sampler_self.is_forking = true;
}

static void after_fork(void) {
    sampler_self.is_forking = false;
    own_unlock();
    samples_unlock();
    sites_unlock();
    sampler_unlock();
    cycles_unlock();
}

static void in_child(void) {
    sampler_self.is_forking = false;
    own_unlock();
    samples_unlock();
    sites_forked();
    sampler_forked();
    cycles_forked();
}

int heap_profile_init(uint64_t rate) {
    ASSERT(!is_ready);
    int rc = pthread_atfork(before_fork, after_fork, in_child);
    if (rc != 0)
        return -rc;
    cycles_begin();
    if (rate > 0)
        rc = cycles_run();
    if (rc != 0)
        return rc;
    is_ready = true;
    mem_sampler_set(&memory_sampler);
    sampler_set_rate(rate);
    return 0;
}

void heap_profile_set_rate(uint64_t rate) {
    if (!is_ready)
        return;
    sampler_set_rate(rate);
    if (rate > 0)
        (void)cycles_run(); /* without a thread readers close cycles that are overdue */
}

uint64_t heap_profile_rate(void) {
    return sampler_rate();
}

/* ---- Reading ---- */

static void tell_site(const struct site *site, const struct site_state *state,
                      const struct site_count *live, heap_site_fn fn, void *arg) {
    if (state->allocated.objects == 0 && live->objects == 0)
        return;
    const struct heap_site told_site = {
        .pcs = site->pcs,
        .depth = site->depth,
        .labels = site->labels,
        .live = site_told(*live),
        .allocated = site_told(state->allocated),
        .cycle = site_told(state->cycle),
    };
    fn(arg, &told_site);
}

static void fill(struct heap_reading *reading, const struct cycle *cycle) {
    *reading = (struct heap_reading){
        .rate = sampler_rate(),
        .cycle = cycle->sites.cycle,
        .cycle_began_ns = cycle->began_ns,
        .closed_ns = cycle->closed_ns,
        .samples = cycle->sites.samples,
        .lost = cycle->sites.lost,
    };
}

static void read_locked(const struct cycle *cycle, heap_site_fn fn, void *arg,
                        struct heap_reading *reading) {
    fill(reading, cycle);
    for (const struct site *site = sites_first(); site; site = site->next) {
        const struct site_state *state = &site->states[cycle->sites.cycle & 1];
        tell_site(site, state, &state->live, fn, arg);
    }
}

static void read_aged_locked(const struct cycle *cycle, int64_t min_age_ns, heap_site_fn fn,
                             void *arg, struct heap_reading *reading) {
    fill(reading, cycle);
    for (struct site *site = sites_first(); site; site = site->next)
        site->aged = (struct site_count){0};
    samples_sum_aged(clock_mono_ns() - min_age_ns);
    for (const struct site *site = sites_first(); site; site = site->next)
        tell_site(site, &site->states[cycle->sites.cycle & 1], &site->aged, fn, arg);
}

int heap_profile_read(int64_t min_age_ns, heap_site_fn fn, void *arg,
                      struct heap_reading *reading) {
    if (!is_ready)
        return -ENOTSUP;
    cycles_close_overdue();
    cycles_lock();
    if (min_age_ns == HEAP_ANY_AGE)
        read_locked(cycles_last_locked(), fn, arg, reading);
    else
        read_aged_locked(cycles_last_locked(), min_age_ns, fn, arg, reading);
    cycles_unlock();
    return 0;
}

int heap_profile_read_cycle(uint64_t cycle, heap_site_fn fn, void *arg,
                            struct heap_reading *reading) {
    if (!is_ready)
        return -ENOTSUP;
    cycles_lock();
    const struct cycle *found = cycles_get_locked(cycle);
    if (found)
        read_locked(found, fn, arg, reading);
    cycles_unlock();
    return found ? 0 : -ESTALE;
}
