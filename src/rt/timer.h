/* timer: deadlines on a P, O(1) to arm and to disarm, because idle timeouts are armed and disarmed
 * for every request. Millisecond grain: a timer never fires early and at most about 2 ms late.
 *
 * Ownership  The timer lives inside its owner, which disarms it before it dies.
 * Threads    The P that armed it. fn runs there as a scheduler callback: it must not park; it may
 *            arm, disarm and ready. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"

struct timer;
typedef void (*timer_fn)(struct timer *timer);

struct timer {
    struct list node; /* unlinked when not armed */
    int64_t deadline_ns;
    timer_fn fn;
};

void timer_init(struct timer *timer, timer_fn fn);
/* Arming an armed timer moves it; to a later time that costs nothing, so an idle timeout is best left
 * armed while its owner is busy, and armed anew afterwards. RT_FOREVER only disarms. */
void timer_arm(struct timer *timer BORROWED_BY(wheel), int64_t deadline_ns);
void timer_disarm(struct timer *timer);
static inline bool timer_is_armed(const struct timer *timer) {
    return list_is_linked(&timer->node);
}
