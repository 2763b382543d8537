/* once: done is set by whoever holds the mutex, after fn, however fn ends; then the look at it in
 * once_do is all that is left of a call. Not a compare-and-swap of done before fn: the losers would
 * return before it has run. */
#include "rt/once.h"

#include "rt/panic.h"

static void finish(void *arg) {
    struct once *once = arg;
    atomic_store_explicit(&once->done, true, memory_order_release);
    mutex_unlock(&once->mutex);
}

void once_do_slowly(struct once *once, rt_fn fn, void *arg) {
    mutex_lock_shielded(&once->mutex);
    if (atomic_load_explicit(&once->done, memory_order_relaxed)) {
        mutex_unlock(&once->mutex);
        return;
    }
    struct deferred finishing;
    defer_begin(&finishing, finish, once);
    fn(arg);
    defer_end(&finishing);
}
