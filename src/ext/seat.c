/* seat: see the header.
 *
 * Seats migrate whole. A seat belongs to one P at a time, for good or as long as a stream has it, and
 * only that P's coroutines look at its mutex and count: so a call takes no lock and no locked
 * instruction. Only when all that a P has are held it takes one from the pool, under the set's lock, and
 * gives it back when its last stream leaves. The lock also orders what the two Ps' threads did in it.
 *
 * I1  `held`, seen by another coroutine of the P, means blocked: while the P's own thread is inside,
 *     nobody else of the P runs. (Or its P was handed on and it is on its way back.)
 * I2  A seat in the pool has no streams; one that is given to a waiter of another P has the waiter's
 *     stream and no table until the waiter adopts it, on its own P.
 * I3  A waiter is in the list, or was given a seat and is not; both are changed under the lock, and the
 *     waiter looks under the lock before it leaves. So a seat given in the moment of its deadline or
 *     cancellation is the waiter's, who has then got one.
 * I4  A P's waiters wait only while all its seats are held and the pool is empty. Who gives a seat up
 *     passes it on, held, to those that have it already, else to one of these, whose own unlock passes it
 *     to the next; each return to the pool gives to one. So all go on as soon as one seat is free.
 *
 * Choice  A seat that nobody is in, with as few streams as can be: of the half that is for streams like
 *     this one, then of those that the pool lent before, then one from the pool, then of the other half.
 *     A seat without streams ends the search: the first one, as long as a P has few requests at a time.
 *
 * Rejected  One shared table: every call would take a seat's lock across Ps, 20 ns and a cache line's
 *     trip for each of a request's six calls, to spare the few that meet a blocked P. A seat per stream:
 *     what plug-ins keep per worker would be kept per request in flight. */
#include "ext/seat.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "rt/foreign.h"

struct seat_table {
    struct seat *own;
    struct seat *lent;  /* by the pool */
    uint32_t waiting;   /* coroutines of this P in seat_take */
    uint32_t own_count; /* the first own_calm of them are for streams that do not block */
    uint32_t own_calm;
};

struct seat_set {
    unsigned count, p_count;
    pthread_mutex_t lock; /* of the pool and of who waits */
    struct seat *pool;
    struct list waiters;
    struct seat_table tables[RT_P_MAX];
    struct seat seats[];
};

struct seat_waiter {
    struct list node;
    struct g *g;
    struct seat_table *table;
    struct seat *got;
};

struct seat_set *seat_set_new(unsigned p_count, unsigned count) {
    ASSERT(p_count > 0 && p_count <= RT_P_MAX);
    ASSERT(count >= p_count);
    struct seat_set *set = NULL;
    if (posix_memalign((void **)&set, _Alignof(struct seat),
                       sizeof(*set) + count * sizeof(struct seat)) != 0)
        return NULL;
    memset(set, 0, sizeof(*set) + count * sizeof(struct seat));
    set->count = count;
    set->p_count = p_count;
    (void)pthread_mutex_init(&set->lock, NULL); /* cannot fail with default attributes */
    list_init(&set->waiters);
    unsigned own = count / p_count / 2 ? count / p_count / 2 : 1;
    for (unsigned i = 0; i < count; i++) {
        struct seat *seat = &set->seats[i];
        comutex_init(&seat->mutex);
        seat->number = i;
        if (i < own * p_count)
            seat->table = &set->tables[i / own];
    }
    for (unsigned i = 0; i < p_count; i++)
        set->tables[i] = (struct seat_table){
            .own = &set->seats[i * own], .own_count = own, .own_calm = own - own / 2};
    for (unsigned i = count; i-- > own * p_count;) {
        set->seats[i].next = set->pool;
        set->pool = &set->seats[i];
    }
    return set;
}

void seat_set_free(struct seat_set *set) {
    if (!set)
        return;
    (void)pthread_mutex_destroy(&set->lock); /* nobody holds it */
    free(set);
}

unsigned seat_set_size(const struct seat_set *set) {
    return set->count;
}

struct seat_counts seat_set_count(const struct seat_set *set, const void *by) {
    struct seat_counts counts = {0};
    uint64_t now = ticks_now();
    for (unsigned i = 0; i < set->count; i++) {
        uint64_t since = atomic_load_explicit(&set->seats[i].since, memory_order_relaxed);
        if (by && by != atomic_load_explicit(&set->seats[i].by, memory_order_relaxed))
            continue;
        counts.busy += since != 0;
        counts.blocked += since != 0 && ticks_ns_between(since, now) >= seat_blocked_ns;
    }
    return counts;
}

/* ---- choice ---- */

static struct seat *least_of(struct seat *seats, uint32_t count) {
    struct seat *best = NULL;
    for (struct seat *seat = seats; seat < seats + count; seat++) {
        if (seat->mutex.held || (best && seat->streams >= best->streams))
            continue;
        best = seat;
        if (seat->streams == 0)
            break;
    }
    return best;
}

static struct seat *least_lent(const struct seat_table *table) {
    struct seat *best = NULL;
    for (struct seat *seat = table->lent; seat; seat = seat->next)
        if (!seat->mutex.held && (!best || seat->streams < best->streams))
            best = seat;
    return best;
}

static struct seat *choose(const struct seat_table *table, bool wary) {
    struct seat *seat =
        wary ? least_of(table->own + table->own_calm, table->own_count - table->own_calm)
             : least_of(table->own, table->own_calm);
    return seat ? seat : least_lent(table);
}

/* From the pool, or from another P's hands: it has a stream already. */
static void adopt(struct seat_table *table, struct seat *seat) {
    seat->table = table;
    seat->next = table->lent;
    table->lent = seat;
}

static struct seat *borrow(struct seat_set *set) {
    pthread_mutex_lock(&set->lock);
    struct seat *seat = set->pool;
    if (seat)
        set->pool = seat->next;
    pthread_mutex_unlock(&set->lock);
    return seat;
}

/* The same, and without one the waiter is in the list. */
static struct seat *borrow_or_queue(struct seat_set *set, struct seat_waiter *waiter) {
    pthread_mutex_lock(&set->lock);
    struct seat *seat = set->pool;
    if (seat)
        set->pool = seat->next;
    else
        list_push_back(&set->waiters, &waiter->node);
    pthread_mutex_unlock(&set->lock);
    return seat;
}

/* I3. 0 with *got, or the error; no longer in the list. */
static int wait(struct seat_set *set, struct seat_waiter *waiter, int64_t deadline_ns,
                struct seat **got) {
    for (;;) {
        int err = rt_park("extension's seat", deadline_ns);
        pthread_mutex_lock(&set->lock);
        *got = waiter->got;
        if (!*got && err < 0)
            list_remove(&waiter->node);
        pthread_mutex_unlock(&set->lock);
        if (*got)
            return 0;
        if (err < 0)
            return err;
    }
}

/* The seat becomes the longest waiter's, of this table or with NULL of any. With the lock. */
static bool give_locked(struct seat_set *set, const struct seat_table *table, struct seat *seat) {
    for (struct list *node = set->waiters.next; node != &set->waiters; node = node->next) {
        struct seat_waiter *waiter = container_of(node, struct seat_waiter, node);
        if (table && waiter->table != table)
            continue;
        list_remove(node);
        seat->streams++;
        seat->mutex.held = true; /* a newcomer cannot overtake */
        waiter->got = seat;
        rt_ready(waiter->g); /* under the lock: it exists as long as it has not looked (I3) */
        return true;
    }
    return false;
}

static int64_t deadline_in(int64_t patience_ns) {
    int64_t now_ns = rt_now_ns();
    return patience_ns < RT_FOREVER - now_ns ? now_ns + patience_ns : RT_FOREVER;
}

static void sit_down(struct seat *seat) {
    ASSERT(!seat->mutex.held);
    seat->mutex.held = true;
    seat->streams++;
}

static struct seat *take_now(struct seat_set *set, struct seat_table *table, bool wary) {
    struct seat *seat = choose(table, wary);
    if (__builtin_expect(!seat, 0) && (seat = borrow(set)))
        adopt(table, seat);
    if (!seat)
        seat = least_of(table->own, table->own_count); /* of the other half */
    if (seat)
        sit_down(seat);
    return seat;
}

int seat_take(struct seat_set *set, bool wary, int64_t patience_ns, struct seat **out) {
    struct seat_table *table = &set->tables[rt_p_index()];
    struct seat *seat = take_now(set, table, wary);
    if (!seat) {
        if (patience_ns == 0)
            return -ETIMEDOUT;
        struct seat_waiter waiter = {.g = rt_self(), .table = table};
        seat = borrow_or_queue(set, &waiter); /* one may have come back since */
        if (seat) {
            sit_down(seat);
        } else {
            table->waiting++;
            int err = wait(set, &waiter, deadline_in(patience_ns), &seat);
            table->waiting--;
            if (err)
                return err;
        }
        if (seat->table != table)
            adopt(table, seat);
    }
    *out = seat;
    return 0;
}

static void give_back(struct seat_set *set, struct seat_table *table, struct seat *seat) {
    struct seat **at = &table->lent;
    while (*at != seat)
        at = &(*at)->next;
    *at = seat->next;
    seat->table = NULL;
    ASSERT(!seat->mutex.held);
    pthread_mutex_lock(&set->lock);
    if (!give_locked(set, NULL, seat)) {
        seat->next = set->pool;
        set->pool = seat;
    }
    pthread_mutex_unlock(&set->lock);
}

void seat_leave(struct seat_set *set, struct seat *seat) {
    struct seat_table *table = seat->table;
    ASSERT_SLOW(table == &set->tables[rt_p_index()]);
    ASSERT(seat->streams > 0);
    seat->streams--;
    bool is_own = seat >= table->own && seat < table->own + table->own_count;
    if (!is_own && seat->streams == 0)
        give_back(set, table, seat);
}

/* ---- calls ---- */

int seat_lock(struct seat *seat, int64_t patience_ns) {
    if (__builtin_expect(!seat->mutex.held, 1)) {
        seat->mutex.held = true;
        return 0;
    }
    return patience_ns ? comutex_lock(&seat->mutex, deadline_in(patience_ns)) : -ETIMEDOUT;
}

void seat_unlock(struct seat_set *set, struct seat *seat) {
    struct seat_table *table = seat->table;
    if (__builtin_expect(table->waiting > 0, 0) && list_is_empty(&seat->mutex.waiters.waiters)) {
        pthread_mutex_lock(&set->lock);
        bool given = give_locked(set, table, seat); /* who counts as waiting may have got his */
        pthread_mutex_unlock(&set->lock);
        if (given)
            return;
    }
    comutex_unlock(&seat->mutex);
}

struct timed_call {
    rt_fn fn;
    void *arg;
    uint64_t begin, end;
};

/* Looked at here: a thread takes its time to begin, and when the P was handed on, to get it back. */
static void run_timed(void *arg) {
    struct timed_call *call = arg;
    call->begin = ticks_now();
    call->fn(call->arg);
    call->end = ticks_now();
}

uint64_t seat_call(struct seat *seat, const void *by, bool blocks, rt_fn fn, void *arg) {
    ASSERT(seat->mutex.held);
    struct timed_call call = {.fn = fn, .arg = arg};
    atomic_store_explicit(&seat->by, by, memory_order_relaxed);
    atomic_store_explicit(&seat->since, ticks_now(), memory_order_relaxed);
    if (!blocks || blocking_call(run_timed, &call) != 0)
        foreign_call(run_timed, &call);
    atomic_store_explicit(&seat->since, 0, memory_order_relaxed);
    return ticks_ns_between(call.begin, call.end);
}
