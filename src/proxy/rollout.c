/* rollout: see the header.
 *
 * Who may touch what  `lock` guards the course and what is shown of it, for moments. `turn` is held over what the user does
 *           (adopt, settle), which takes seconds, so that versions come and go one at a time; it is taken first. The share is
 *           stored under `lock` and read by everybody: a verdict makes it 0 at once, whoever has the turn.
 * Numbers   Each rollout has one, and so has what an exchange was told. What ends when its rollout has is not counted for
 *           the next.
 * The tick  is a coroutine of P 0 that lives while there is something to look at. */
#include "proxy/rollout.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/exchange.h"
#include "rt/foreign.h"
#include "rt/sync.h"

LOG_COMPONENT(rollout, "rollout");

const char *const rollout_state_names[] = {"NONE", "ROLLING", "DONE", "WITHDRAWN"};

/* One P's. */
struct cell {
    _Alignas(64) struct rollout_tally tally; /* words that the P writes and anybody reads */
};

struct rollout {
    struct rollout_share share; /* first: rollout_takes */
    _Atomic uint32_t number;
    _Atomic uint64_t salt;
    struct rollout_options options;
    struct rollout_settings settings;
    int hash_on; /* CFG_HASH_ON_... */
    char *hash_name;
    struct {
        struct statistic *share, *done, *withdrawn;
    } stats;
    pthread_mutex_t turn, lock;
    /* The lock's: */
    enum rollout_state state;
    bool is_ticking;  /* there is a coroutine */
    bool is_settling; /* as the one that serves all: no verdict comes any more */
    struct rollout_course course;
    struct rollout_tally begun, ended;
    char version[ROLLOUT_VERSION_MAX], why[ROLLOUT_WHY_MAX];
    struct cell cells[RT_P_MAX];
};

/* What an exchange was told; in its arena. */
struct rollout_use {
    struct rollout_use *next;
    struct rollout *rollout;
    uint32_t number;
    bool is_new;
};

/* ---- its life ---- */

struct rollout *rollout_new(const struct rollout_options *options, const struct cfg_rollout *cfg) {
    struct rollout *rollout = NULL;
    if (posix_memalign((void **)&rollout, _Alignof(struct cell), sizeof *rollout) != 0)
        return NULL;
    memset(rollout, 0, offsetof(struct rollout, cells));
    memset(rollout->cells, 0, rt_p_count() * sizeof rollout->cells[0]);
    struct span name = cfg->hash_on_case == CFG_HASH_ON_COOKIE ? cfg->cookie : cfg->header;
    rollout->options = *options;
    rollout->settings = rollout_settings_of(cfg);
    rollout->hash_on = cfg->hash_on_case;
    rollout->hash_name = strndup(name.ptr ? name.ptr : "", name.len);
    if (!rollout->hash_name) {
        free(rollout);
        return NULL;
    }
    if (rollout->hash_on == CFG_HASH_ON_HEADER) /* as names are in header maps */
        for (char *c = rollout->hash_name; *c; c++)
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    const struct stat_place places[] = {
        {&rollout->stats.share, STAT_GAUGE, "rollout_share"},
        {&rollout->stats.done, STAT_COUNTER, "rollouts_done"},
        {&rollout->stats.withdrawn, STAT_COUNTER, "rollouts_withdrawn"},
    };
    stats_get_table(places, sizeof places / sizeof places[0], options->stat_prefix,
                    options->stat_tag, options->stat_value);
    (void)pthread_mutex_init(&rollout->turn, NULL); /* cannot fail with default attributes */
    (void)pthread_mutex_init(&rollout->lock, NULL);
    return rollout;
}

void rollout_free(struct rollout *rollout) {
    if (!rollout)
        return;
    (void)pthread_mutex_destroy(&rollout->turn); /* nobody has heard of it */
    (void)pthread_mutex_destroy(&rollout->lock);
    free(rollout->hash_name);
    free(rollout);
}

static void sum(const struct rollout *rollout, struct rollout_tally *out) {
    memset(out, 0, sizeof *out);
    uint64_t *to = (uint64_t *)out;
    for (unsigned p = 0, count = rt_p_count(); p < count; p++) {
        const uint64_t *from = (const uint64_t *)&rollout->cells[p].tally;
        for (size_t i = 0; i < sizeof *out / sizeof *to; i++)
            to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
}

static void set_share_locked(struct rollout *rollout, uint32_t share) {
    atomic_store_explicit(&rollout->share.of_all, share, memory_order_release); /* rollout_takes */
    stat_set(rollout->stats.share, share * 100 / ROLLOUT_SHARE_ALL);
}

static double percent(uint32_t share) {
    return share * 100.0 / ROLLOUT_SHARE_ALL;
}

static double rate(const struct rollout_counts *counts) {
    return counts->requests ? 100.0 * (double)counts->errors / (double)counts->requests : 0;
}

static uint64_t mean_us(const struct rollout_counts *counts) {
    return counts->requests ? counts->time_us / counts->requests : 0;
}

/* What the verdict is about. */
static void say_verdict_locked(struct rollout *rollout) {
    const struct rollout_counts *old = &rollout->course.seen.of[ROLLOUT_OLD],
                                *new = &rollout->course.seen.of[ROLLOUT_NEW];
    if (rollout->course.verdict == ROLLOUT_FAILS)
        (void)snprintf(rollout->why, sizeof rollout->why,
                       "%.2f %% of its %llu requests failed, and %.2f %% of the old version's %llu",
                       rate(new), (unsigned long long)new->requests, rate(old),
                       (unsigned long long)old->requests);
    else
        (void)snprintf(rollout->why, sizeof rollout->why,
                       "too many of its %llu requests are slow: %llu us on average, and %llu us of "
                       "the old version's %llu",
                       (unsigned long long)new->requests, (unsigned long long)mean_us(new),
                       (unsigned long long)mean_us(old), (unsigned long long)old->requests);
}

/* ---- ends ---- */

static void end_locked(struct rollout *rollout, bool promoted) {
    rollout->state = promoted ? ROLLOUT_DONE : ROLLOUT_WITHDRAWN;
    sum(rollout, &rollout->ended);
    set_share_locked(rollout, 0);
    stat_inc(promoted ? rollout->stats.done : rollout->stats.withdrawn, STATS_SHARD_FOREIGN);
    if (promoted)
        LOG(log_rollout, LOG_INFO, "%s: version %s serves all requests: %s", rollout->options.name,
            rollout->version, rollout->why);
    else
        LOG(log_rollout, LOG_ERROR, "%s: version %s is withdrawn: %s", rollout->options.name,
            rollout->version, rollout->why);
}

/* Exchanges are told to take what serves all until it does without being asked for: nobody who was served by it goes back
 * to the old one between the two. Holds the turn. */
static void promote_in_turn(struct rollout *rollout) {
    bool serves = rollout->options.itab->settle(rollout->options.arg, true);
    pthread_mutex_lock(&rollout->lock);
    rollout->is_settling = false;
    if (!serves)
        (void)snprintf(rollout->why, sizeof rollout->why, "it has ended: see the log");
    end_locked(rollout, serves);
    pthread_mutex_unlock(&rollout->lock);
}

/* number 0: any. What it says holds for as long as the caller has the turn. */
static bool may_end_in_turn(struct rollout *rollout, uint32_t number, bool promote) {
    const struct rollout_itab *itab = rollout->options.itab;
    pthread_mutex_lock(&rollout->lock);
    bool is_on =
        rollout->state == ROLLOUT_ROLLING &&
        (!number || number == atomic_load_explicit(&rollout->number, memory_order_relaxed));
    pthread_mutex_unlock(&rollout->lock);
    return is_on && (!promote || !itab->may_promote || itab->may_promote(rollout->options.arg));
}

static bool conclude_in_turn(struct rollout *rollout, uint32_t number, bool promote,
                             const char *why) {
    if (!may_end_in_turn(rollout, number, promote))
        return false;
    pthread_mutex_lock(&rollout->lock);
    if (why)
        (void)snprintf(rollout->why, sizeof rollout->why, "%s", why);
    if (promote) {
        rollout->is_settling = true;
        set_share_locked(rollout, ROLLOUT_SHARE_ALL);
    } else {
        end_locked(rollout, false);
    }
    pthread_mutex_unlock(&rollout->lock);
    if (promote)
        promote_in_turn(rollout);
    else
        (void)rollout->options.itab->settle(rollout->options.arg, false);
    return true;
}

bool rollout_conclude(struct rollout *rollout, bool promote, const char *why) {
    pthread_mutex_lock(&rollout->turn);
    bool is_on = conclude_in_turn(rollout, 0, promote, why);
    pthread_mutex_unlock(&rollout->turn);
    return is_on;
}

/* ---- the tick ---- */

struct conclusion {
    struct rollout *rollout;
    uint32_t number;
    bool promote;
};

static void conclude_there(void *arg) {
    const struct conclusion *conclusion = arg;
    struct rollout *rollout = conclusion->rollout;
    pthread_mutex_lock(&rollout->turn);
    (void)conclude_in_turn(rollout, conclusion->number, conclusion->promote, NULL);
    pthread_mutex_unlock(&rollout->turn);
}

static enum rollout_advice look_locked(struct rollout *rollout) {
    struct rollout_tally now;
    sum(rollout, &now);
    enum rollout_advice advice = rollout_course_tick(&rollout->course, clock_mono_ns(), &now);
    uint32_t share = rollout_course_share(&rollout->course);
    switch (advice) {
    case ROLLOUT_WITHDRAW:
        say_verdict_locked(rollout);
        set_share_locked(rollout, 0);
        break;
    case ROLLOUT_FINISH:
        (void)snprintf(rollout->why, sizeof rollout->why, "it did as well as the old one");
        break;
    case ROLLOUT_STEP:
        set_share_locked(rollout, share);
        LOG(log_rollout, LOG_INFO, "%s: version %s serves %g %% of the clients",
            rollout->options.name, rollout->version, percent(share));
        break;
    case ROLLOUT_STAY:
        break;
    }
    return advice;
}

static void tick(void *arg) {
    struct rollout *rollout = arg;
    int64_t between_ns = rollout->settings.step_duration_ns;
    if (between_ns > NS_PER_S)
        between_ns = NS_PER_S;
    for (;;) {
        pthread_mutex_lock(&rollout->lock);
        struct conclusion conclusion = {
            .rollout = rollout,
            .number = atomic_load_explicit(&rollout->number, memory_order_relaxed)};
        bool is_on = rollout->state == ROLLOUT_ROLLING;
        rollout->is_ticking = is_on;
        enum rollout_advice advice =
            is_on && !rollout->is_settling ? look_locked(rollout) : ROLLOUT_STAY;
        pthread_mutex_unlock(&rollout->lock);
        if (!is_on)
            return;
        conclusion.promote = advice == ROLLOUT_FINISH;
        if ((advice == ROLLOUT_FINISH || advice == ROLLOUT_WITHDRAW) &&
            blocking_call(conclude_there, &conclusion) != 0)
            LOG(log_rollout, LOG_WARN, "%s: no thread can be had to end its rollout: tried again",
                rollout->options.name);
        (void)rt_sleep_until(clock_mono_ns() + between_ns); /* nobody cancels it */
    }
}

/* ---- begins ---- */

static int start_locked(struct rollout *rollout, const char *version, uint64_t salt) {
    if (!rollout->is_ticking && go_on(0, "rollout", tick, rollout) != 0)
        return -ENOMEM;
    rollout->is_ticking = true;
    atomic_fetch_add_explicit(&rollout->number, 1, memory_order_relaxed);
    atomic_store_explicit(&rollout->salt, salt, memory_order_relaxed);
    (void)snprintf(rollout->version, sizeof rollout->version, "%s", version);
    rollout->why[0] = 0;
    sum(rollout, &rollout->begun);
    rollout_course_begin(&rollout->course, &rollout->settings, clock_mono_ns(), &rollout->begun);
    rollout->state = ROLLOUT_ROLLING;
    set_share_locked(rollout, rollout_course_share(&rollout->course));
    LOG(log_rollout, LOG_INFO, "%s: version %s serves %g %% of the clients", rollout->options.name,
        rollout->version, percent(rollout_course_share(&rollout->course)));
    return 0;
}

int rollout_begin(struct rollout *rollout, const char *version, uint64_t salt,
                  int (*adopt)(void *arg), void *arg) {
    pthread_mutex_lock(&rollout->turn);
    (void)conclude_in_turn(rollout, 0, false, "another version takes its place");
    int err = adopt(arg);
    if (!err) {
        pthread_mutex_lock(&rollout->lock);
        err = start_locked(rollout, version, salt);
        pthread_mutex_unlock(&rollout->lock);
        if (err)
            (void)rollout->options.itab->settle(rollout->options.arg, false);
    }
    pthread_mutex_unlock(&rollout->turn);
    return err;
}

bool rollout_is_rolling(struct rollout *rollout) {
    pthread_mutex_lock(&rollout->lock);
    bool it_is = rollout->state == ROLLOUT_ROLLING;
    pthread_mutex_unlock(&rollout->lock);
    return it_is;
}

/* ---- exchanges ---- */

/* Absent: none of that name. */
static struct span find_cookie(const struct header_map *headers, struct span name) {
    for (int at = header_find(headers, HDR_COOKIE, SPAN_LIT("cookie"), 0); at >= 0;
         at = header_find(headers, HDR_COOKIE, SPAN_LIT("cookie"), (uint32_t)at + 1)) {
        struct span rest = header_value(&headers->entries[at]), pair;
        while (span_next_token(&rest, ';', &pair))
            if (pair.len > name.len && pair.ptr[name.len] == '=' &&
                memcmp(pair.ptr, name.ptr, name.len) == 0)
                return span_from(pair, name.len + 1);
    }
    return span_none();
}

static struct span key_of(const struct rollout *rollout, struct exchange *x) {
    const struct header_map *headers = &x->request.headers;
    struct span key = span_none(), name = span_of(rollout->hash_name);
    if (rollout->hash_on == CFG_HASH_ON_HEADER)
        key = header_get_name(headers, name);
    else if (rollout->hash_on == CFG_HASH_ON_COOKIE)
        key = find_cookie(headers, name);
    if (!span_is_none(key))
        return key;
    key = exchange_downstream_remote(x);
    for (size_t i = key.len; i-- > 0;)
        if (key.ptr[i] == ':') { /* the port's */
            key.len = i;
            break;
        }
    return key;
}

/* Keys that differ in their last digit alone differ little in span_hash: splitmix64's end spreads that. */
static uint32_t place_of(const struct rollout *rollout, struct span key) {
    uint64_t hash =
        span_hash(SPAN_HASH ^ atomic_load_explicit(&rollout->salt, memory_order_relaxed), key);
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9U;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebU;
    return (uint32_t)((hash ^ (hash >> 31)) % ROLLOUT_SHARE_ALL);
}

static struct rollout_use *use_of(const struct rollout *rollout, const struct exchange *x) {
    struct rollout_use *use = x->rollouts;
    while (use && use->rollout != rollout)
        use = use->next;
    return use;
}

bool rollout_takes_slowly(struct rollout *rollout, struct exchange *x) {
    struct rollout_use *use = use_of(rollout, x);
    if (use)
        return use->is_new;
    use = arena_alloc(&x->arena, sizeof *use);
    if (!use)
        return false;
    uint32_t share = atomic_load_explicit(&rollout->share.of_all, memory_order_relaxed);
    *use = (struct rollout_use){
        .next = x->rollouts,
        .rollout = rollout,
        .number = atomic_load_explicit(&rollout->number, memory_order_relaxed),
        .is_new = place_of(rollout, key_of(rollout, x)) < share,
    };
    x->rollouts = use;
    return use->is_new;
}

void rollout_is_old(struct rollout *rollout, struct exchange *x) {
    struct rollout_use *use = use_of(rollout, x);
    if (use)
        use->is_new = false;
}

/* A client that left before it got anything has waited for so long, and says nothing about what it would have got. */
void rollout_count(struct exchange *x) {
    const struct stream_info *info = &x->info;
    bool is_error = info->response_code >= 500 || (x->reset_pending && !x->client_gone);
    int64_t end_ns = info->downstream_tx_first_ns ? info->downstream_tx_first_ns : info->end_ns;
    uint64_t took_us =
        end_ns > info->start_ns ? (uint64_t)(end_ns - info->start_ns) / NS_PER_US : 0;
    for (const struct rollout_use *use = x->rollouts; use; use = use->next) {
        struct rollout *rollout = use->rollout;
        if (use->number != atomic_load_explicit(&rollout->number, memory_order_relaxed))
            continue;
        struct rollout_counts *counts = &rollout->cells[x->shard].tally.of[use->is_new];
        uint64_t *cells = (uint64_t *)counts;
        stats_bump(cells, offsetof(struct rollout_counts, errors) / sizeof *cells, is_error);
        stats_bump(cells, offsetof(struct rollout_counts, time_us) / sizeof *cells, took_us);
        stats_bump(counts->latency, stat_step_of(took_us), 1);
        stats_bump(cells, offsetof(struct rollout_counts, requests) / sizeof *cells, 1);
    }
}

/* ---- what can be seen ---- */

static void say_what_is_missing_locked(const struct rollout *rollout,
                                       const struct rollout_tally *now, char *why) {
    const struct rollout_settings *settings = &rollout->settings;
    const struct rollout_course *course = &rollout->course;
    uint64_t seen = now->of[ROLLOUT_NEW].requests - course->at_step.of[ROLLOUT_NEW].requests;
    int64_t passed_ns = clock_mono_ns() - course->step_began_ns;
    (void)snprintf(why, ROLLOUT_WHY_MAX, "in this step %.1f of %.1f s, %llu of %u requests",
                   (double)passed_ns / NS_PER_S, (double)settings->step_duration_ns / NS_PER_S,
                   (unsigned long long)seen, settings->min_requests);
}

void rollout_look(struct rollout *rollout, struct rollout_view *out) {
    struct rollout_tally now;
    *out = (struct rollout_view){.steps = rollout->settings.steps};
    pthread_mutex_lock(&rollout->lock);
    if (rollout->state == ROLLOUT_ROLLING)
        sum(rollout, &now);
    else
        now = rollout->ended;
    out->state = rollout->state;
    out->step = rollout->state == ROLLOUT_NONE ? 0 : rollout->course.step + 1;
    out->share = rollout->state == ROLLOUT_DONE
                     ? ROLLOUT_SHARE_ALL
                     : atomic_load_explicit(&rollout->share.of_all, memory_order_relaxed);
    memcpy(out->version, rollout->version, sizeof out->version);
    memcpy(out->why, rollout->why, sizeof out->why);
    if (rollout->state == ROLLOUT_ROLLING && !out->why[0])
        say_what_is_missing_locked(rollout, &now, out->why);
    for (unsigned v = 0; v < ROLLOUT_VERSIONS; v++) {
        const struct rollout_counts *from = &rollout->begun.of[v], *to = &now.of[v];
        out->of[v].requests = to->requests - from->requests;
        out->of[v].errors = to->errors - from->errors;
        if (out->of[v].requests)
            out->of[v].mean_us = (to->time_us - from->time_us) / out->of[v].requests;
    }
    pthread_mutex_unlock(&rollout->lock);
}
