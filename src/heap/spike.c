/* spike: a rule as a pure function of the totals that it was told and the times at which.
 *
 * I1  rings hold the last min(cycles, SPIKE_CYCLES) values, and sum is theirs.
 * I2  Every cycle goes into the rings, judged or not: a rise that comes while nothing is judged is in the
 *     average afterwards.
 *
 * Rejected  The process's resident memory as what is judged: allocators return pages late, so it falls
 *           long after the spike, and its pair of profiles would not show what it counts. A bound from
 *           the variance of the sample in place of a minimum: it would need the sizes of all that changed,
 *           and no longer be a rule that people can compute in their heads. */
#include "heap/spike.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/unit.h"

/* ---- The rule as text ---- */

struct spike_rule spike_rule_default(void) {
    return (struct spike_rule){
        .min_bytes = 64 << 20,
        .abs_bytes = SPIKE_NEVER,
        .garbage_bytes = SPIKE_NEVER,
        .cooldown_ns = 60 * NS_PER_S,
        .diff_percent = 25,
        .pairs_max = 32,
        .disk_bytes_max = 256 << 20,
    };
}

static const struct unit percents[] = {{SPAN_INIT("%"), 1}, {{NULL, 0}, 0}};
static const struct unit counts[] = {{SPAN_INIT(""), 1}, {{NULL, 0}, 0}};

/* What may follow a key, and where it goes: one of the two. */
struct key {
    struct span name;
    const struct unit *units;
    int64_t min, max;
    bool may_be_off;
    size_t at;
    bool is_unsigned;
    const char *right;
};
#define KEY_BYTES(text, member, lowest, off, form)                                                 \
    {                                                                                              \
        SPAN_INIT(text), unit_bytes, lowest, 1LL << 50, off, offsetof(struct spike_rule, member),  \
            false, form                                                                            \
    }
static const struct key keys[] = {
    KEY_BYTES("min", min_bytes, 0, false, "min must be a size, as in min=64MiB"),
    KEY_BYTES("abs", abs_bytes, 1, true, "abs must be a size, as in abs=2GiB, or off"),
    KEY_BYTES("garbage", garbage_bytes, 1, true,
              "garbage must be a size, as in garbage=1GiB, or off"),
    KEY_BYTES("disk", disk_bytes_max, 1, false, "disk must be a size, as in disk=256MiB"),
    {SPAN_INIT("diff"), percents, 1, SPIKE_DIFF_MAX, false,
     offsetof(struct spike_rule, diff_percent), true,
     "diff must be from 1% to 899%: nothing is ten times the average of ten cycles that it is in"},
    {SPAN_INIT("cooldown"), unit_times, 0, 366LL * 24 * 3600 * NS_PER_S, false,
     offsetof(struct spike_rule, cooldown_ns), false,
     "cooldown must be a time, as in cooldown=500ms, 30s, 1m or 1h"},
    {SPAN_INIT("pairs"), counts, 1, 10000, false, offsetof(struct spike_rule, pairs_max), true,
     "pairs must be a number from 1 to 10000"},
};

static bool parse_value(const struct key *key, struct span text, int64_t *out) {
    if (key->may_be_off && span_eq(text, SPAN_LIT("off"))) {
        *out = SPIKE_NEVER;
        return true;
    }
    return unit_parse(text, key->units, key->max, out) && *out >= key->min;
}

static const char *set(struct spike_rule *rule, struct span item) {
    ptrdiff_t equals = span_find(item, '=');
    for (size_t i = 0; equals > 0 && i < sizeof keys / sizeof *keys; i++) {
        const struct key *key = &keys[i];
        if (!span_eq(span_make(item.ptr, (size_t)equals), key->name))
            continue;
        int64_t value;
        if (!parse_value(key, span_from(item, (size_t)equals + 1), &value))
            return key->right;
        void *where = (char *)rule + key->at;
        if (key->is_unsigned)
            *(unsigned *)where = (unsigned)value;
        else
            *(int64_t *)where = value;
        return NULL;
    }
    return "must be a list of min=SIZE, diff=N%, abs=SIZE, cooldown=TIME, garbage=SIZE, pairs=N "
           "and "
           "disk=SIZE, as in " SPIKE_RULE_DEFAULT;
}

const char *spike_rule_parse(const char *text, struct spike_rule *rule) {
    struct spike_rule made = *rule;
    struct span rest = span_of(text), item;
    const char *wrong = rest.len == 0 ? set(&made, rest) : NULL;
    while (!wrong && span_next_token(&rest, ',', &item))
        wrong = set(&made, item);
    if (!wrong)
        *rule = made;
    return wrong;
}

/* ---- Judging ---- */

void spike_watch_init(struct spike_watch *watch, const struct spike_rule *rule) {
    *watch = (struct spike_watch){.rule = *rule};
}

const char *spike_verdict_text(enum spike_verdict verdict) {
    static const char *const texts[] = {
        [SPIKE_WARMING_UP] = "warming up",
        [SPIKE_COOLING_DOWN] = "cooling down",
        [SPIKE_AFTER_ONE] = "the cycle after a spike",
        [SPIKE_BELOW_MIN] = "below min",
        [SPIKE_STEADY] = "steady",
        [SPIKE_NO_RISE] = "no rise in this cycle",
        [SPIKE_BY_DIFF] = "above the average",
        [SPIKE_BY_ABS] = "above abs",
    };
    return texts[verdict];
}

/* The watch has counted this cycle already. */
static void push(struct spike_watch *watch, enum spike_measure measure, int64_t bytes) {
    struct spike_ring *ring = &watch->rings[measure];
    int64_t *oldest = &ring->values[watch->cycles % SPIKE_CYCLES];
    ring->sum += bytes - *oldest;
    *oldest = bytes;
}

static struct spike match(const struct spike_watch *watch, enum spike_measure measure) {
    const struct spike_rule *rule = &watch->rule;
    const struct spike_ring *ring = &watch->rings[measure];
    uint64_t full = watch->cycles < SPIKE_CYCLES ? watch->cycles : SPIKE_CYCLES;
    struct spike spike = {
        .measure = measure,
        .bytes = ring->values[watch->cycles % SPIKE_CYCLES],
        .before_bytes = ring->values[(watch->cycles - 1) % SPIKE_CYCLES],
        .average_bytes = ring->sum / (int64_t)full,
    };
    int64_t min_bytes = measure == SPIKE_LIVE ? rule->min_bytes : rule->garbage_bytes;
    int64_t diff_bytes = spike.average_bytes * (100 + rule->diff_percent) / 100;
    if (spike.bytes < min_bytes)
        spike.verdict = SPIKE_BELOW_MIN;
    else if (measure == SPIKE_LIVE && spike.bytes > rule->abs_bytes)
        spike.verdict = SPIKE_BY_ABS;
    else if (spike.bytes >= diff_bytes)
        spike.verdict = SPIKE_BY_DIFF;
    else
        spike.verdict = SPIKE_STEADY;
    int64_t rise = spike.bytes - spike.before_bytes, above = spike.bytes - spike.average_bytes;
    if (spike_is_one(&spike) && (rise <= 0 || rise < above / SPIKE_RISE))
        spike.verdict = SPIKE_NO_RISE;
    return spike;
}

struct spike spike_judge(struct spike_watch *watch, const struct heap_totals *totals,
                         int64_t now_ns) {
    watch->cycles++;
    push(watch, SPIKE_LIVE, totals->live.bytes);
    push(watch, SPIKE_GARBAGE, totals->allocated_in_cycle.bytes);
    struct spike spike = match(watch, SPIKE_LIVE);
    if (watch->cycles < SPIKE_CYCLES) {
        spike.verdict = SPIKE_WARMING_UP;
    } else if (watch->spike_cycle > 0 && watch->cycles == watch->spike_cycle + 1) {
        spike.verdict = SPIKE_AFTER_ONE;
    } else if (watch->spike_cycle > 0 && now_ns < watch->quiet_until_ns) {
        spike.verdict = SPIKE_COOLING_DOWN;
    } else if (!spike_is_one(&spike)) {
        struct spike garbage = match(watch, SPIKE_GARBAGE);
        spike = spike_is_one(&garbage) ? garbage : spike;
    }
    if (spike_is_one(&spike)) {
        watch->spike_cycle = watch->cycles;
        watch->quiet_until_ns = now_ns + watch->rule.cooldown_ns;
    }
    return spike;
}
