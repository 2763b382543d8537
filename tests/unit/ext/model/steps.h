/* steps: put in front of a source of ext, mem or rt (-include), makes each of its operations on what threads
 * share a step of the explorer: taking a lock and giving it up, an atomic read-modify-write, a load that
 * acquires and a store that releases. The sources are compiled as they are.
 *
 * Memory is the machine's here, and everybody sees the latest: what a weaker one may do to handles is shown
 * by rt/model/model_handle.c, to parking by model_park.c, and the rest is under locks. Where a foreign
 * thread allocates it may be interrupted too, so that who forgot a lock gets into the midst of those who hold it.
 *
 * The runtime's functions are the stage's. What is allocated is counted, and scribbled over when it is
 * freed, a loan when it has ended. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../../rt/model/explorer.h"
#include "base/log.h"
#include "base/stats.h" /* counters are no business between threads */
#include "base/ticks.h"
#include "mem/poison.h"
#include "proxy/exchange.h"
#include "proxy/hcm.h"
#include "rt/foreign.h"
#include "rt/labels.h"
#include "rt/rt.h"
#include "rt/sync.h"

/* ---- atomics ---- */

/* The comma drops the qualifiers, _Atomic among them. */
#define STEPS_PLAIN(at) __typeof__((void)0, *(at))
#define STEPS_AT(at) ((STEPS_PLAIN(at) *)(uintptr_t)(at))

#define STEPS_LOAD(at, order)                                                                      \
    ({                                                                                             \
        __auto_type steps_at = STEPS_AT(at);                                                       \
        STEPS_PLAIN(steps_at) steps_value;                                                         \
        if ((order) != memory_order_relaxed)                                                       \
            model_step("load");                                                                    \
        __atomic_load(steps_at, &steps_value, __ATOMIC_SEQ_CST);                                   \
        steps_value;                                                                               \
    })
#define STEPS_STORE(at, value, order)                                                              \
    ({                                                                                             \
        __auto_type steps_at = STEPS_AT(at);                                                       \
        STEPS_PLAIN(steps_at) steps_value = (value);                                               \
        if ((order) != memory_order_relaxed)                                                       \
            model_step("store");                                                                   \
        __atomic_store(steps_at, &steps_value, __ATOMIC_SEQ_CST);                                  \
    })
#define STEPS_CAS(at, expected, desired)                                                           \
    ({                                                                                             \
        __auto_type steps_at = STEPS_AT(at);                                                       \
        STEPS_PLAIN(steps_at) steps_value = (desired);                                             \
        model_step("swap");                                                                        \
        __atomic_compare_exchange(steps_at, expected, &steps_value, 0, __ATOMIC_SEQ_CST,           \
                                  __ATOMIC_SEQ_CST);                                               \
    })

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#define atomic_load_explicit STEPS_LOAD
#define atomic_store_explicit STEPS_STORE
#define atomic_exchange_explicit(at, value, order)                                                 \
    (model_step("exchange"), __atomic_exchange_n(STEPS_AT(at), value, __ATOMIC_SEQ_CST))
#define atomic_fetch_add_explicit(at, value, order)                                                \
    (model_step("add"), __atomic_fetch_add(STEPS_AT(at), value, __ATOMIC_SEQ_CST))
#define atomic_fetch_sub_explicit(at, value, order)                                                \
    (model_step("sub"), __atomic_fetch_sub(STEPS_AT(at), value, __ATOMIC_SEQ_CST))
#define atomic_compare_exchange_strong_explicit(at, expected, desired, success, failure)           \
    STEPS_CAS(at, expected, desired)
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit

/* ---- locks, memory, the runtime: stage.h of this folder ---- */

#define pthread_mutex_init(lock, attributes) stage_mutex_init(lock)
#define pthread_mutex_destroy(lock) stage_mutex_destroy(lock)
#define pthread_mutex_lock(lock) stage_mutex_lock(lock)
#define pthread_mutex_unlock(lock) stage_mutex_unlock(lock)
int stage_mutex_init(pthread_mutex_t *lock);
int stage_mutex_destroy(pthread_mutex_t *lock);
int stage_mutex_lock(pthread_mutex_t *lock);
int stage_mutex_unlock(pthread_mutex_t *lock);

#define malloc(size) stage_alloc(size)
#define calloc(count, size) stage_alloc_zeroed((count) * (size))
#define free(memory) stage_free(memory)
void *stage_alloc(size_t size);
void *stage_alloc_zeroed(size_t size);
void stage_free(void *memory);

#define mem_poison go_stage_scribble
#define mem_unpoison go_stage_unscribble
void go_stage_scribble(void *memory, size_t size);
void go_stage_unscribble(const void *memory, size_t size);

#define rt_self stage_self
#define rt_park stage_park
#define rt_ready stage_ready
#define rt_cancel stage_cancel
#define rt_cancel_clear stage_cancel_clear
#define rt_now_ns() ((int64_t)1000)
#define rt_p_index() 0U
#define rt_blocks stage_blocks
#define labels_describe_by stage_describe_by
#define foreign_call stage_foreign_call
#define go_with stage_go_with
#define ticks_now() ((uint64_t)1)
struct g *stage_self(void);
int stage_park(const char *reason, int64_t deadline_ns);
void stage_ready(struct g *g);
void stage_cancel(struct g *g);
void stage_cancel_clear(void);
struct block_cache *stage_blocks(void);
void stage_describe_by(const struct labels_describer *describer);
void stage_foreign_call(rt_fn fn, void *arg);
int stage_go_with(const struct go_options *options, rt_fn fn, void *arg);
