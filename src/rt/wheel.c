/* wheel: a hierarchical timing wheel.
 *
 * A timer's level is that of the highest group of 6 bits in which its tick differs from now, its
 * slot the value of that group:
 *
 *     tick   ...|  level 2  |  level 1  |  level 0  |
 *               | slot 0-63 | slot 0-63 | slot 0-63 |     64 ms, 4 s, 4 min, 5 h, 12 d, ...
 *
 * W1  A timer on level l agrees with now in all groups above l, and its group l is larger than
 *     now's. So all timers of a lower level are due before all of a higher one, and the next event
 *     is the lowest set bit of the lowest level that has any: no search, no wrap-around.
 * W2  now only advances to the next event or to a tick before it, so W1 is kept: when it reaches
 *     the start of a slot on level l > 0, the slot's timers move to lower levels (at most once per
 *     level in a timer's life).
 * W3  The tick of a deadline is rounded up and that of the clock down: nothing fires early.
 * W4  A timer armed for a time already past goes to the next tick, so a callback that arms itself
 *     again cannot keep wheel_advance from ending.
 *
 * W5 The deadline of a timer in a slot may be moved to later: when the slot's time comes, the timer
 *    goes where it now belongs instead of firing.
 *
 * 8 levels of 6 bits are 8,900 years of ms: more than an int64_t of ns can say. */
#include "rt/wheel.h"

#include <string.h>

#include "base/check.h"

static unsigned lowest_bit(uint64_t bits) {
    return (unsigned)__builtin_ctzll(bits);
}

void wheel_init(struct wheel *wheel, int64_t now_ns) {
    memset(wheel, 0, sizeof *wheel);
    wheel->now = (uint64_t)(now_ns / WHEEL_TICK_NS);
    for (unsigned level = 0; level < WHEEL_LEVELS; level++)
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
}

static uint64_t tick_of(int64_t deadline_ns) {
    if (deadline_ns <= 0)
        return 0;
    return ((uint64_t)deadline_ns + WHEEL_TICK_NS - 1) / WHEEL_TICK_NS;
}

/* tick > now. */
static void insert(struct wheel *wheel, struct timer *timer, uint64_t tick) {
    uint64_t differs = tick ^ wheel->now;
    unsigned level = differs ? (63 - (unsigned)__builtin_clzll(differs)) / WHEEL_BITS : 0;
    unsigned slot = (unsigned)(tick >> (level * WHEEL_BITS)) % WHEEL_SLOTS;
    list_push_back(&wheel->slots[level][slot], &timer->node);
    wheel->occupied[level] |= 1ULL << slot;
    wheel->levels |= 1U << level;
}

void wheel_add(struct wheel *wheel, struct timer *timer) {
    uint64_t tick = tick_of(timer->deadline_ns);
    if (tick <= wheel->now)
        tick = wheel->now + 1; /* W4 */
    insert(wheel, timer, tick);
}

static void mark_empty(struct wheel *wheel, unsigned level, unsigned slot) {
    wheel->occupied[level] &= ~(1ULL << slot);
    if (!wheel->occupied[level])
        wheel->levels &= ~(1U << level);
}

void wheel_remove(struct wheel *wheel, struct timer *timer) {
    const struct list *head = timer->node.next;
    bool last = head == timer->node.prev;
    list_remove(&timer->node);
    /* The last one's neighbour is the head of its slot, or of the list that is being fired. */
    uintptr_t offset = (uintptr_t)head - (uintptr_t)&wheel->slots[0][0];
    if (last && offset < sizeof wheel->slots) {
        unsigned index = (unsigned)(offset / sizeof(struct list));
        mark_empty(wheel, index / WHEEL_SLOTS, index % WHEEL_SLOTS);
    }
}

uint64_t wheel_next(const struct wheel *wheel) {
    if (!wheel->levels)
        return WHEEL_NEVER;
    unsigned level = lowest_bit(wheel->levels);
    unsigned slot = lowest_bit(wheel->occupied[level]); /* W1: all are ahead of now */
    unsigned shift = level * WHEEL_BITS;
    uint64_t above = wheel->now >> shift >> WHEEL_BITS << WHEEL_BITS << shift;
    return above | ((uint64_t)slot << shift);
}

/* Empties one slot: fires it on level 0, else moves its timers down. */
static unsigned run_slot(struct wheel *wheel, unsigned level, unsigned slot) {
    struct list due, *from = &wheel->slots[level][slot];
    list_init(&due);
    due.next = from->next;
    due.prev = from->prev;
    due.next->prev = due.prev->next = &due;
    list_init(from);
    mark_empty(wheel, level, slot);

    unsigned fired = 0;
    for (struct list *node; (node = list_pop_front(&due));) {
        struct timer *timer = container_of(node, struct timer, node);
        uint64_t tick = tick_of(timer->deadline_ns);
        if (tick > wheel->now) {
            insert(wheel, timer, tick);
        } else {
            fired++;
            timer->fn(timer); /* may free timer, and touch any other, due ones included */
        }
    }
    return fired;
}

unsigned wheel_advance(struct wheel *wheel, int64_t now_ns) {
    uint64_t target = (uint64_t)(now_ns / WHEEL_TICK_NS);
    unsigned fired = 0;
    for (;;) {
        uint64_t next = wheel_next(wheel);
        if (next > target)
            break;
        ASSERT(next >= wheel->now);
        unsigned level = lowest_bit(wheel->levels);
        unsigned slot = lowest_bit(wheel->occupied[level]);
        wheel->now = next;
        fired += run_slot(wheel, level, slot);
    }
    /* W2: nothing is due up to target, so no timer's highest differing group changes sides. */
    if (target > wheel->now)
        wheel->now = target;
    return fired;
}

int wheel_timeout_ms(const struct wheel *wheel, int64_t now_ns) {
    uint64_t next = wheel_next(wheel);
    if (next == WHEEL_NEVER)
        return -1;
    int64_t wait_ns = (int64_t)next * WHEEL_TICK_NS - now_ns;
    if (wait_ns <= 0)
        return 0;
    int64_t wait_ms = (wait_ns + WHEEL_TICK_NS - 1) / WHEEL_TICK_NS;
    return wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms;
}
