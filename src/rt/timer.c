/* timer: the current P's wheel. Threads: the P's M; see wheel.c for how it works. */
#include "rt/timer.h"

#include "rt/rt_internal.h"

void timer_init(struct timer *timer, timer_fn fn) {
    list_init(&timer->node);
    timer->deadline_ns = RT_FOREVER;
    timer->fn = fn;
}

void timer_disarm(struct timer *timer) {
    if (!timer_is_armed(timer))
        return;
    struct p *p = p_self();
    ASSERT(p);
    wheel_remove(&p->wheel, timer);
}

void timer_arm(struct timer *timer, int64_t deadline_ns) {
    struct p *p = p_self();
    ASSERT(p);
    if (timer_is_armed(timer)) {
        if (deadline_ns >= timer->deadline_ns && deadline_ns != RT_FOREVER) {
            timer->deadline_ns = deadline_ns; /* W5 */
            return;
        }
        wheel_remove(&p->wheel, timer);
    }
    timer->deadline_ns = deadline_ns;
    if (deadline_ns != RT_FOREVER)
        wheel_add(&p->wheel, timer);
}
