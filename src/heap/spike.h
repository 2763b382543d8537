/* spike: whether the memory that is in use rose suddenly, judged once per cycle of the heap profile.
 *
 *     on each closed cycle:  spike_judge -> one of spike_verdict
 *
 * The rule is that of mosn/holmes' gcHeap dump. The memory that is live when a cycle closes, which is
 * what Go's has after its mark, goes into a ring of the last SPIKE_CYCLES; then, in this order,
 *
 *     warm-up    the first SPIKE_CYCLES - 1 cycles are not judged;
 *     cooldown   nothing is, until so long after the last spike;
 *     min        less than this is no spike, whatever it was before;
 *     abs        more than this is one;
 *     diff       so many percent above the average of the ring, or more, is one. The ring holds the
 *                value that is judged already, so a rise must be a little larger than that: from a
 *                steady amount, 28.6 % where diff is 25.
 *
 * Two things are added, both because what is then written is the cycle with the one before it:
 *     rise       a tenth of what is above the average, or more, came in this very cycle; else the two
 *                would show nothing of it. Memory that has become more and stays is told once, and
 *                not for each ripple on it. What grows steadily has two tenths in each cycle.
 *     after      the cycle after a spike is not judged: the memory that the writing of profiles takes is
 *                in it. (Holmes writes its second profile there.)
 *
 * Garbage       What a cycle allocates, freed or not, is judged by the same rule with a ring and a minimum of
 *                its own, but no abs. Off unless there is a minimum: a cycle that is closed by request
 *                is shorter than others, and lowers the average.
 *
 * Threads  A watch belongs to whoever calls, one at a time. Nothing parks, allocates or reads a clock. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "heap/heap_profile.h"

enum {
    SPIKE_CYCLES = 10, /* holmes' ring and its warm-up */
    SPIKE_RISE = 10,   /* of so many parts of what is above the average, one is of this cycle */
    /* Nothing is 10 times the average of ten that it is one of. */
    SPIKE_DIFF_MAX = 899,
};
#define SPIKE_NEVER INT64_MAX

struct spike_rule {
    int64_t min_bytes, abs_bytes, garbage_bytes; /* the last two may be SPIKE_NEVER */
    int64_t cooldown_ns;
    unsigned diff_percent;
    /* For who writes the profiles: how much is kept. */
    unsigned pairs_max;
    int64_t disk_bytes_max;
};
struct spike_rule spike_rule_default(void);
/* What that is, as text, for --help. Sampling itself makes noise: of L bytes in small objects that are all
 * new in each cycle it sees +- sqrt(L * rate), 9 % of 64 MiB. */
#define SPIKE_RULE_DEFAULT "min=64MiB,diff=25%,abs=off,cooldown=1m,garbage=off,pairs=32,disk=256MiB"

/* Changes of rule what text names: "min=10MiB,diff=25%,cooldown=30s". NULL, or what would be right; rule
 * is untouched then. */
const char *spike_rule_parse(const char *text, struct spike_rule *rule);

enum spike_measure { SPIKE_LIVE, SPIKE_GARBAGE, SPIKE_MEASURES };

enum spike_verdict {
    SPIKE_WARMING_UP,
    SPIKE_COOLING_DOWN,
    SPIKE_AFTER_ONE,
    SPIKE_BELOW_MIN,
    SPIKE_STEADY,
    SPIKE_NO_RISE,
    SPIKE_BY_DIFF, /* this and the next are spikes */
    SPIKE_BY_ABS,
};
const char *spike_verdict_text(enum spike_verdict verdict);

struct spike_ring {
    int64_t values[SPIKE_CYCLES]; /* of cycle c at c % SPIKE_CYCLES */
    int64_t sum;
};
struct spike_watch {
    struct spike_rule rule;
    struct spike_ring rings[SPIKE_MEASURES];
    uint64_t cycles;      /* seen so far */
    uint64_t spike_cycle; /* of those, the number of the last spike; 0: none yet */
    int64_t quiet_until_ns;
};
void spike_watch_init(struct spike_watch *watch, const struct spike_rule *rule);

struct spike {
    enum spike_verdict verdict;
    enum spike_measure measure;                 /* that which spiked, else SPIKE_LIVE */
    int64_t bytes, before_bytes, average_bytes; /* of that */
};
static inline bool spike_is_one(const struct spike *spike) {
    return spike->verdict >= SPIKE_BY_DIFF;
}
/* For each closed cycle, in order; now_ns on the monotonic clock. */
struct spike spike_judge(struct spike_watch *watch, const struct heap_totals *totals,
                         int64_t now_ns);
