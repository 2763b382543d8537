/* dump_collect: who there is, in which state, with which calls.
 *
 *     caller (not on a P)                        each P
 *       candidates: every live struct g,
 *         by the P it is pinned to
 *       post a walk to each P  ------------->    a slice of its candidates per round, again posted
 *       those that any P may run: claimed,         to itself until all are done
 *         walked, put back
 *       wait for the Ps        <-------------    DONE
 *       ask the threads of those that gave no answer, and of those that run stealable ones, by signal
 *       all records, sorted by id
 *
 * D1  A P in a scheduler callback runs no coroutine, so everything pinned to it stands still, whatever
 *     its state, and its stack may be read.
 * D2  A stealable coroutine is read only by whoever moved it from PARKED to SCANNING (park.c, K7), or
 *     marked its blocking_call as scanned. Those that cannot be claimed are in a queue, or run: then
 *     their thread says where.
 * D3  Each struct g is a candidate of one list, and in the record of at most one walker, so no coroutine
 *     appears twice. It may have ended, or be another one by now: id and p are looked at again, and only
 *     the P that a coroutine is pinned to starts and ends it.
 * D4  A walk belongs to the P in state WALKING, and with its part to the caller in all others; ASKED may
 *     be taken back. The P's node stays in its inbox then and is used again by the next dump:
 *
 *       IDLE --caller--> ASKED --P--> WALKING --P--> DONE --caller--> IDLE
 *                        |   ^___________|
 *                        | ^          next slice
 *                 gives  | | asks again
 *                   up   v |
 *                       DROPPED --P--> IDLE
 *
 * Order    Every change of a walk's state releases, every look acquires: its part goes along. g->p is
 *          stored with release at birth, after the id of the former life went to 0, so who sees the new
 *          p sees no old id.
 * Slices   SLICE_NS by the clock, not a number of coroutines: a cold stack costs ten cache misses, a
 *          warm one none. */
#include "rt/dump_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rt/dump.h"
#include "rt/futex.h"
#include "rt/labels.h"
#include "rt/rt_internal.h"

enum {
    BUCKETS = 1024, /* of different stacks; a program has some hundreds */
    CHUNK_RECORDS = 512,
    SETS = 64,        /* of labels that are found again and again */
    CLOCK_EVERY = 16, /* records between two looks at the clock */
    SLICE_NS = 300 * 1000,
    /* A thread answers once it has a processor, which takes a while on a busy machine. Some that never
     * do must not add up to minutes. */
    SAMPLE_PATIENCE_MS = 500,
    SAMPLE_IMPATIENCE_MS = 20,
    SAMPLES_PATIENCE_MS = 2000,
};

struct record_chunk {
    struct record_chunk *next;
    unsigned count;
    struct dump_record records[CHUNK_RECORDS];
};

/* A coroutine's own set and what its describer said, in one: most have the same as some other, and need
 * no set of their own then. Both sets are leased. */
struct described_set {
    struct labels *own, *all;
    unsigned count;
    struct label described[LABELS_DESCRIBED_MAX];
};

/* What one walker, a P or the caller, has to look at and has found. */
struct dump_part {
    struct g **candidates;
    size_t candidate_count, candidate_max;
    struct record_chunk *chunks; /* newest first */
    size_t record_count;
    bool is_memory_short;
    struct dump_stack *buckets[BUCKETS];
    struct described_set sets[SETS]; /* the latest one of each hash */
};

enum walk_state { WALK_IDLE, WALK_ASKED, WALK_WALKING, WALK_DONE, WALK_DROPPED };

static struct walk {
    struct rt_post post;
    _Atomic uint32_t state, slices;
    struct p *p;
    struct dump_part *part;
    size_t next; /* candidate */
    bool is_over, is_frozen;
    uint32_t last_slices;
    int64_t last_progress_ns;
} walks[RT_P_MAX];
static _Atomic uint32_t answers; /* futex */

static pthread_mutex_t dump_lock = PTHREAD_MUTEX_INITIALIZER; /* the walks, but for D4 */

/* ---- Records ---- */

static struct dump_record *record_new(struct dump_part *part) {
    struct record_chunk *chunk = part->chunks;
    if (!chunk || chunk->count == CHUNK_RECORDS) {
        chunk = malloc(sizeof *chunk);
        if (!chunk) {
            part->is_memory_short = true;
            return NULL;
        }
        chunk->count = 0;
        chunk->next = part->chunks;
        part->chunks = chunk;
    }
    part->record_count++;
    return &chunk->records[chunk->count++];
}

static const struct dump_stack *intern(struct dump_part *part, const uintptr_t *pcs,
                                       unsigned count) {
    uint64_t hash = count;
    for (unsigned i = 0; i < count; i++)
        hash = (hash ^ pcs[i]) * 0x9e3779b97f4a7c15ULL;
    struct dump_stack **bucket = &part->buckets[hash >> 54];
    static_assert(BUCKETS == 1 << (64 - 54), "the top bits choose the bucket");
    size_t size = count * sizeof *pcs;
    for (struct dump_stack *s = *bucket; s; s = s->next)
        if (s->hash == hash && s->count == count && memcmp(s->pcs, pcs, size) == 0)
            return s;
    struct dump_stack *stack = malloc(sizeof *stack + size);
    if (!stack) {
        part->is_memory_short = true;
        return NULL;
    }
    *stack = (struct dump_stack){.hash = hash, .next = *bucket, .count = count};
    memcpy(stack->pcs, pcs, size);
    *bucket = stack;
    return stack;
}

/* Not yet used: all is NULL. */
static struct described_set *set_for(struct dump_part *part, const struct labels *own,
                                     const struct label *described, unsigned count) {
    uint64_t hash = (uintptr_t)own;
    for (unsigned i = 0; i < count; i++)
        hash = (hash ^ (uintptr_t)described[i].value) * 0x9e3779b97f4a7c15ULL;
    struct described_set *set = &part->sets[hash >> 58];
    static_assert(SETS == 1 << (64 - 58), "the top bits choose the set");
    if (set->all && set->own == own && set->count == count &&
        memcmp(set->described, described, count * sizeof *described) == 0)
        return set;
    labels_unref(set->own);
    labels_unref(set->all);
    set->own = set->all = NULL;
    return set;
}

/* Adds what the coroutine's describer said to its labels. */
static void add_described(struct dump_part *part, struct dump_record *record,
                          const struct label *described, unsigned count) {
    if (count == 0)
        return;
    struct described_set *set = set_for(part, record->labels, described, count);
    if (!set->all) {
        set->all = labels_merge(record->labels, described, count);
        if (!set->all) {
            part->is_memory_short = true;
            return;
        }
        set->own = record->labels ? labels_ref(record->labels) : NULL;
        set->count = count;
        memcpy(set->described, described, count * sizeof *described);
    }
    labels_unref(record->labels);
    record->labels = labels_ref(set->all);
}

static enum dump_status status_of(uint32_t state, const char *reason) {
    if (state == G_PARKED || state == G_PARKED_ANY || state == G_SCANNING)
        return DUMP_PARKED;
    if (reason == reason_foreign_call)
        return DUMP_FOREIGN;
    if (reason == reason_blocking_call)
        return DUMP_BLOCKING;
    return DUMP_READY;
}

/* What any thread may read. */
static struct dump_record *record_outside(struct dump_part *part, struct g *g, uint64_t id,
                                          int64_t now_ns) {
    struct dump_record *record = record_new(part);
    if (!record)
        return NULL;
    struct p *p = __atomic_load_n(&g->p, __ATOMIC_RELAXED);
    const char *reason = atomic_load_explicit(&g->reason, memory_order_relaxed);
    uint32_t state = atomic_load_explicit(&g->state, memory_order_relaxed);
    *record = (struct dump_record){
        .id = id,
        .name = atomic_load_explicit(&g->name, memory_order_relaxed),
        .reason = reason,
        .created_by = atomic_load_explicit(&g->created_by, memory_order_relaxed),
        .p = p ? (uint16_t)p->index : DUMP_ANY_P,
        .priority = __atomic_load_n(&g->priority, __ATOMIC_RELAXED),
        .status = (uint8_t)status_of(state, reason),
        .labels = labels_lease(g),
    };
    if (record->status != DUMP_READY) {
        int64_t wait_ns = now_ns - atomic_load_explicit(&g->waits_since_ns, memory_order_relaxed);
        record->wait_ns = wait_ns > 0 ? wait_ns : 0;
    }
    return record;
}

/* D1, D2: g stands still. */
static void record_suspended(struct dump_part *part, struct g *g, uint64_t id, int64_t now_ns) {
    struct dump_record *record = record_outside(part, g, id, now_ns);
    if (!record)
        return;
    uintptr_t pcs[BACKTRACE_MAX];
    record->stack = intern(part, pcs, backtrace_suspended(g, pcs, BACKTRACE_MAX));
    struct label described[LABELS_DESCRIBED_MAX];
    add_described(part, record, described, labels_described(g, described));
}

static void add_sample(struct dump_part *part, struct dump_record *record,
                       const struct backtrace *sample) {
    record->stack = intern(part, sample->pcs, sample->count);
    add_described(part, record, sample->described, sample->described_count);
    record->status = sample->where == BACKTRACE_FOREIGN ? DUMP_FOREIGN : DUMP_RUNNING;
    if (record->status == DUMP_RUNNING)
        record->wait_ns = 0;
}

/* ---- On a P ---- */

static bool is_pinned_to(struct g *g, struct p *p, uint64_t *id) {
    if (__atomic_load_n(&g->p, __ATOMIC_ACQUIRE) != p)
        return false;
    *id = atomic_load_explicit(&g->id, memory_order_acquire);
    return *id != 0;
}

/* True when it is not done. */
static bool walk_slice(struct walk *w) {
    struct dump_part *part = w->part;
    int64_t now_ns = clock_mono_ns(), until_ns = now_ns + SLICE_NS;
    while (w->next < part->candidate_count) {
        struct g *g = part->candidates[w->next++];
        uint64_t id;
        if (is_pinned_to(g, w->p, &id))
            record_suspended(part, g, id, now_ns);
        if (w->next % CLOCK_EVERY == 0 && clock_mono_ns() >= until_ns)
            return w->next < part->candidate_count;
    }
    return false;
}

static bool move(struct walk *w, enum walk_state from, enum walk_state to) {
    uint32_t expected = from;
    return atomic_compare_exchange_strong_explicit(&w->state, &expected, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static void walk_arrived(struct rt_post *post) {
    struct walk *w = container_of(post, struct walk, post);
    while (!move(w, WALK_ASKED, WALK_WALKING))
        if (move(w, WALK_DROPPED, WALK_IDLE))
            return;
    bool is_more = walk_slice(w);
    atomic_fetch_add_explicit(&w->slices, 1, memory_order_relaxed);
    if (is_more) {
        atomic_store_explicit(&w->state, WALK_ASKED, memory_order_release);
        inbox_post(w->p, post);
        return;
    }
    atomic_store_explicit(&w->state, WALK_DONE, memory_order_release);
    atomic_fetch_add_explicit(&answers, 1, memory_order_release);
    futex_wake(&answers, 1);
}

/* ---- The caller: Ps ---- */

static void ask(struct walk *w, struct p *p, struct dump_part *part) {
    w->p = p;
    w->part = part;
    w->next = 0;
    w->is_over = w->is_frozen = false;
    w->last_slices = atomic_load_explicit(&w->slices, memory_order_relaxed);
    w->last_progress_ns = clock_mono_ns();
    if (move(w, WALK_DROPPED, WALK_ASKED))
        return; /* it is still in the inbox */
    w->post.fn = walk_arrived;
    atomic_store_explicit(&w->state, WALK_ASKED, memory_order_release);
    inbox_post(p, &w->post);
}

static void look_at(struct walk *w, int64_t now_ns) {
    uint32_t slices = atomic_load_explicit(&w->slices, memory_order_relaxed);
    if (slices != w->last_slices) {
        w->last_slices = slices;
        w->last_progress_ns = now_ns;
    }
    if (move(w, WALK_DONE, WALK_IDLE))
        w->is_over = true;
    else if (now_ns - w->last_progress_ns > DUMP_PATIENCE_MS * NS_PER_MS)
        w->is_over = w->is_frozen = move(w, WALK_ASKED, WALK_DROPPED);
}

static void await_walks(void) {
    for (;;) {
        uint32_t seen = atomic_load_explicit(&answers, memory_order_acquire);
        int64_t now_ns = clock_mono_ns();
        bool is_over = true;
        for (unsigned i = 0; i < rt_sched.p_count; i++) {
            if (!walks[i].is_over)
                look_at(&walks[i], now_ns);
            is_over &= walks[i].is_over;
        }
        if (is_over)
            return;
        struct timespec tick = {.tv_nsec = 10 * NS_PER_MS};
        futex_wait(&answers, seen, &tick);
    }
}

/* ---- The caller: threads ---- */

struct samples {
    struct m **ms;
    struct backtrace *items;
    unsigned count, max;
};

static void note_m(struct m *m, void *arg) {
    struct samples *samples = arg;
    if (samples->count < samples->max)
        samples->ms[samples->count++] = m;
}

static void count_m(struct m *m, void *arg) {
    (void)m;
    ++*(unsigned *)arg;
}

/* Sysmon asks too, when it has found a stall: then in turns. */
static bool take_sample(struct m *m, struct backtrace *out, int64_t patience_ns) {
    int64_t until_ns = clock_mono_ns() + patience_ns;
    for (;;) {
        int64_t left_ns = until_ns - clock_mono_ns();
        int err = left_ns > 0 ? backtrace_running(m, out, left_ns) : -ETIMEDOUT;
        if (err != -EBUSY)
            return err == 0;
        struct timespec ms = {.tv_nsec = NS_PER_MS};
        (void)nanosleep(&ms, NULL);
    }
}

/* Most Ms answer in microseconds; one that does not is left out. */
static bool take_samples(struct samples *samples) {
    unsigned max = 0;
    m_each(count_m, &max);
    samples->ms = calloc(max + 1, sizeof *samples->ms);
    samples->items = calloc(max + 1, sizeof *samples->items);
    if (!samples->ms || !samples->items)
        return false;
    samples->max = max;
    m_each(note_m, samples);
    unsigned answered = 0;
    int64_t until_ns = clock_mono_ns() + SAMPLES_PATIENCE_MS * NS_PER_MS;
    for (unsigned i = 0; i < samples->count; i++) {
        int64_t patience_ms =
            clock_mono_ns() < until_ns ? SAMPLE_PATIENCE_MS : SAMPLE_IMPATIENCE_MS;
        if (take_sample(samples->ms[i], &samples->items[answered], patience_ms * NS_PER_MS))
            samples->ms[answered++] = samples->ms[i];
    }
    samples->count = answered;
    return true;
}

static const struct backtrace *sample_of_g(const struct samples *samples, uint64_t id) {
    for (unsigned i = 0; i < samples->count; i++)
        if (samples->items[i].g_id == id)
            return &samples->items[i];
    return NULL;
}

/* What has no coroutine runs in the scheduler; it gets Go's number for that. */
static void record_scheduler(struct dump_part *part, const struct samples *samples, struct p *p) {
    struct m *m = (struct m *)(atomic_load(&p->owner) & ~P_OWNER_FOREIGN);
    for (unsigned i = 0; i < samples->count; i++) {
        if (samples->ms[i] != m || samples->items[i].g_id != 0)
            continue;
        struct dump_record *record = record_new(part);
        if (!record)
            return;
        *record =
            (struct dump_record){.name = "scheduler", .p = (uint16_t)p->index, .is_p_frozen = true};
        add_sample(part, record, &samples->items[i]);
    }
}

/* The rest of what a frozen P was asked for. */
static void record_frozen(struct walk *w, const struct samples *samples, int64_t now_ns) {
    struct dump_part *part = w->part;
    record_scheduler(part, samples, w->p);
    for (; w->next < part->candidate_count; w->next++) {
        struct g *g = part->candidates[w->next];
        uint64_t id;
        if (!is_pinned_to(g, w->p, &id))
            continue;
        struct dump_record *record = record_outside(part, g, id, now_ns);
        if (!record)
            return;
        const struct backtrace *sample = sample_of_g(samples, id);
        if (sample)
            add_sample(part, record, sample);
        record->is_p_frozen = true;
    }
}

/* ---- The caller: stealable coroutines ---- */

/* The id when it is alive and not pinned. */
static uint64_t stealable_id(struct g *g) {
    uint64_t id;
    return is_pinned_to(g, NULL, &id) ? id : 0;
}

static bool record_claimed(struct dump_part *part, struct g *g) {
    enum g_scan scan = park_scan_begin(g);
    if (scan == G_SCAN_NOT)
        return false;
    uint64_t id = stealable_id(g); /* as of now, and until it is put back */
    if (id != 0)
        record_suspended(part, g, id, clock_mono_ns());
    park_scan_end(g, scan);
    return true;
}

/* Those that cannot be claimed become the only candidates that are left. */
static void walk_stealable(struct dump_part *part) {
    size_t left = 0;
    for (size_t i = 0; i < part->candidate_count; i++) {
        struct g *g = part->candidates[i];
        if (stealable_id(g) != 0 && !record_claimed(part, g))
            part->candidates[left++] = g;
    }
    part->candidate_count = left;
}

static void record_active(struct dump_part *part, const struct samples *samples) {
    for (size_t i = 0; i < part->candidate_count; i++) {
        struct g *g = part->candidates[i];
        uint64_t id = stealable_id(g);
        if (id == 0)
            continue;
        const struct backtrace *sample = sample_of_g(samples, id);
        if (!sample && record_claimed(part, g))
            continue; /* it has parked meanwhile */
        struct dump_record *record = record_outside(part, g, id, clock_mono_ns());
        if (record && sample)
            add_sample(part, record, sample);
    }
}

/* ---- All together ---- */

static void note_candidate(struct g *g, void *arg) {
    struct dump *dump = arg;
    struct p *p = __atomic_load_n(&g->p, __ATOMIC_ACQUIRE);
    if (atomic_load_explicit(&g->id, memory_order_acquire) == 0)
        return;
    struct dump_part *part = &dump->parts[p ? p->index : rt_sched.p_count];
    if (part->candidate_count == part->candidate_max) {
        size_t max = part->candidate_max ? 2 * part->candidate_max : 64;
        struct g **more = realloc(part->candidates, max * sizeof(struct g *));
        if (!more) {
            part->is_memory_short = true;
            return;
        }
        part->candidates = more;
        part->candidate_max = max;
    }
    part->candidates[part->candidate_count++] = g;
}

static void collect_locked(struct dump *dump) {
    unsigned p_count = rt_sched.p_count;
    struct dump_part *stealable = &dump->parts[p_count];
    for (unsigned i = 0; i < p_count; i++)
        ask(&walks[i], rt_sched.ps[i], &dump->parts[i]);
    walk_stealable(stealable);
    await_walks();

    bool is_any_frozen = false;
    for (unsigned i = 0; i < p_count; i++)
        is_any_frozen |= walks[i].is_frozen;
    if (!is_any_frozen && stealable->candidate_count == 0)
        return;
    struct samples samples = {0};
    if (!take_samples(&samples))
        stealable->is_memory_short = true;
    int64_t now_ns = clock_mono_ns();
    for (unsigned i = 0; i < p_count; i++)
        if (walks[i].is_frozen)
            record_frozen(&walks[i], &samples, now_ns);
    record_active(stealable, &samples);
    free(samples.ms);
    free(samples.items);
}

static int by_id(const void *a, const void *b) {
    const struct dump_record *one = a, *other = b;
    return one->id < other->id ? -1 : one->id > other->id;
}

/* The records of all parts in one array; the parts keep their stacks. */
static bool merge(struct dump *dump) {
    bool is_memory_short = false;
    for (unsigned i = 0; i < dump->part_count; i++) {
        dump->count += dump->parts[i].record_count;
        is_memory_short |= dump->parts[i].is_memory_short;
    }
    dump->records = malloc((dump->count + 1) * sizeof *dump->records);
    if (is_memory_short || !dump->records)
        return false;
    struct dump_record *at = dump->records;
    for (unsigned i = 0; i < dump->part_count; i++) {
        for (struct record_chunk *chunk = dump->parts[i].chunks; chunk; chunk = chunk->next) {
            memcpy(at, chunk->records, chunk->count * sizeof *at);
            at += chunk->count;
        }
    }
    qsort(dump->records, dump->count, sizeof *dump->records, by_id);
    return true;
}

int dump_collect(struct dump *out) {
    unsigned part_count = rt_sched.p_count + 1;
    struct dump dump = {.part_count = part_count, .parts = calloc(part_count, sizeof *dump.parts)};
    if (!dump.parts)
        return -ENOMEM;
    pthread_mutex_lock(&dump_lock);
    stack_each(note_candidate, &dump);
    collect_locked(&dump);
    pthread_mutex_unlock(&dump_lock);
    if (!merge(&dump)) {
        dump_free(&dump);
        return -ENOMEM;
    }
    *out = dump;
    return 0;
}

void dump_free(struct dump *dump) {
    for (unsigned i = 0; i < dump->part_count; i++) {
        struct dump_part *part = &dump->parts[i];
        free(part->candidates);
        for (struct record_chunk *next, *chunk = part->chunks; chunk; chunk = next) {
            next = chunk->next;
            for (unsigned r = 0; r < chunk->count; r++)
                labels_unref(chunk->records[r].labels);
            free(chunk);
        }
        for (unsigned s = 0; s < SETS; s++) {
            labels_unref(part->sets[s].own);
            labels_unref(part->sets[s].all);
        }
        for (unsigned b = 0; b < BUCKETS; b++) {
            for (struct dump_stack *next, *stack = part->buckets[b]; stack; stack = next) {
                next = stack->next;
                free(stack);
            }
        }
    }
    free(dump->parts);
    free(dump->records);
}
