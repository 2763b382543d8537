/* explorer: see explorer.h for what it does.
 *
 *     run 1: choices 0 0 0 0 0        run 2: choices 0 0 0 0 1        run 3: 0 0 0 1 ...
 *
 * A run is decided by the list of its choices. The next run takes the same ones up to the last choice
 * that has an alternative left, and that alternative there: depth first, without keeping any state but
 * the list. So setup and the threads must be deterministic, which choose() checks.
 *
 * Threads of a story are contexts of ctx.h; each step (an atomic operation, a cell, a yield) first goes
 * through step(), where the explorer may switch to another one. */
#include "explorer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/ctx.h"

enum {
    LOCATIONS_MAX = 512,
    STORES_MAX = 64, /* of one location, in one run */
    CHOICES_MAX = 4096,
    STEPS_MAX = 20000, /* of one run: more is a loop that nobody ends */
    STACK_BYTES = 64 * 1024,
    TRACE_MAX = 512,
};

/* Which store of each location is the oldest that may be read: an index into its stores. */
struct view {
    uint8_t oldest[LOCATIONS_MAX];
};

struct store {
    uint64_t value;
    struct view *view; /* what who reads it by acquire takes over; NULL: nothing but this store */
};

struct location {
    const volatile void *at;
    unsigned count;
    unsigned last_seq_cst;
    struct store stores[STORES_MAX];
};

enum thread_state { RUNNABLE, YIELDED, WAITING, LOCKED_OUT, ENDED };

struct thread {
    enum thread_state state;
    bool *flag;                    /* WAITING */
    const volatile uint32_t *word; /* LOCKED_OUT: until it is 0 */
    bool or_quiet;                 /* WAITING: also until nobody else can go on */
    void *sp;
    char *stack;
    struct view view;
    uint64_t yielded_at; /* of switches */
};

struct choice {
    unsigned taken, options;
};

struct trace_step {
    unsigned thread;
    const char *what;
    unsigned location;
    uint64_t value;
};

static const struct model_story *story;
static struct location locations[LOCATIONS_MAX];
static unsigned location_count;
static struct thread threads[MODEL_THREADS_MAX + 1]; /* the last one: setup and check */
static unsigned current = MODEL_THREADS_MAX;         /* outside of any run */
static void *explorer_sp;
static struct choice choices[CHOICES_MAX];
static unsigned choice_count, choice_at;
static unsigned preemptions_left, stale_left;
static uint64_t steps, switches;
static struct trace_step trace[TRACE_MAX];
static unsigned trace_count;
/* Views of stores, from one pool that is emptied before each run. */
static struct view *view_pool;
static unsigned views_used;
enum { VIEWS_MAX = 4096 };
/* What a flag of model_wake passes on. */
static struct {
    const bool *flag;
    struct view view;
} flags[MODEL_THREADS_MAX * 4];
static unsigned flag_count;

/* ---- Choices ---- */

static unsigned choose(unsigned options) {
    if (options < 2)
        return 0;
    if (choice_at == choice_count) {
        if (choice_count == CHOICES_MAX)
            model_fail(__FILE__, __LINE__, "choices of one run");
        choices[choice_count++] = (struct choice){.taken = 0, .options = options};
    }
    struct choice *choice = &choices[choice_at++];
    if (choice->options != options)
        model_fail(__FILE__, __LINE__, "the story is deterministic");
    return choice->taken;
}

/* Goes on to the next list of choices; false when there is none. */
static bool next_choices(void) {
    while (choice_count > 0) {
        struct choice *last = &choices[choice_count - 1];
        if (++last->taken < last->options)
            return true;
        choice_count--;
    }
    return false;
}

/* ---- Saying what went wrong ---- */

static void note(const char *what, unsigned location, uint64_t value) {
    trace[trace_count++ % TRACE_MAX] =
        (struct trace_step){.thread = current, .what = what, .location = location, .value = value};
}

_Noreturn void model_fail(const char *file, int line, const char *condition) {
    fprintf(stderr, "%s:%d: not so: %s\nin the story \"%s\", after these steps:\n", file, line,
            condition, story->name);
    unsigned from = trace_count > TRACE_MAX ? trace_count - TRACE_MAX : 0;
    for (unsigned i = from; i < trace_count; i++) {
        const struct trace_step *step = &trace[i % TRACE_MAX];
        fprintf(stderr, "  thread %u: %-14s #%-3u %#llx\n", step->thread, step->what,
                step->location, (unsigned long long)step->value);
    }
    exit(1);
}

unsigned model_thread(void) {
    return current;
}

/* ---- Who runs ---- */

static bool can_run(const struct thread *t) {
    return t->state == RUNNABLE || (t->state == YIELDED && switches > t->yielded_at) ||
           (t->state == WAITING && *t->flag) || (t->state == LOCKED_OUT && *t->word == 0);
}

/* Options for who goes on: the current thread first, so that choice 0 is no preemption. */
static unsigned runnable(unsigned *list) {
    unsigned count = 0;
    if (current < story->thread_count && can_run(&threads[current]))
        list[count++] = current;
    for (unsigned i = 0; i < story->thread_count; i++)
        if (i != current && can_run(&threads[i]))
            list[count++] = i;
    for (unsigned i = 0; count == 0 && i < story->thread_count; i++)
        if (threads[i].state == WAITING && threads[i].or_quiet)
            list[count++] = i;
    return count;
}

static void switch_to(unsigned next) {
    struct thread *from = &threads[current];
    if (next == current)
        return;
    current = next;
    switches++;
    rt_ctx_switch(&from->sp, threads[next].sp);
}

/* The current thread is about to make a step; perhaps another one makes one first. */
static void step(void) {
    if (current == MODEL_THREADS_MAX)
        return; /* setup and check are alone */
    if (++steps > STEPS_MAX)
        model_fail(__FILE__, __LINE__, "the run ends");
    unsigned list[MODEL_THREADS_MAX];
    unsigned count = runnable(list);
    if (preemptions_left == 0)
        return;
    unsigned chosen = choose(count);
    if (chosen > 0) {
        preemptions_left--;
        switch_to(list[chosen]);
    }
}

/* The current thread cannot go on by itself. */
static void give_up(void) {
    unsigned list[MODEL_THREADS_MAX];
    unsigned count = runnable(list);
    if (count == 0) {
        rt_ctx_switch(&threads[current].sp, explorer_sp);
        return;
    }
    switch_to(list[choose(count)]);
}

static void thread_main(void *arg) {
    unsigned index = (unsigned)(uintptr_t)arg;
    story->threads[index]();
    threads[index].state = ENDED;
    note("ends", 0, 0);
    give_up();
    __builtin_unreachable();
}

/* ---- Memory ---- */

static unsigned location_of(const volatile void *at, size_t size) {
    for (unsigned i = 0; i < location_count; i++)
        if (locations[i].at == at)
            return i;
    if (location_count == LOCATIONS_MAX)
        model_fail(__FILE__, __LINE__, "locations");
    struct location *loc = &locations[location_count];
    *loc = (struct location){.at = at, .count = 1};
    memcpy(&loc->stores[0].value, (const void *)(uintptr_t)at, size);
    return location_count++;
}

static bool is_acquire(int order) {
    return order == memory_order_acquire || order == memory_order_acq_rel ||
           order == memory_order_seq_cst;
}

static bool is_release(int order) {
    return order == memory_order_release || order == memory_order_acq_rel ||
           order == memory_order_seq_cst;
}

static void view_join(struct view *into, const struct view *from) {
    for (unsigned i = 0; i < location_count; i++)
        if (from->oldest[i] > into->oldest[i])
            into->oldest[i] = from->oldest[i];
}

static struct view *view_new(const struct view *from) {
    if (views_used == VIEWS_MAX)
        model_fail(__FILE__, __LINE__, "stores of one run");
    struct view *view = &view_pool[views_used++];
    *view = *from;
    return view;
}

static void append(unsigned l, uint64_t value, size_t size, int order, const struct view *carried) {
    struct location *loc = &locations[l];
    if (loc->count == STORES_MAX)
        model_fail(__FILE__, __LINE__, "stores of one location");
    struct thread *self = &threads[current];
    unsigned index = loc->count++;
    self->view.oldest[l] = (uint8_t)index;
    struct store *store = &loc->stores[index];
    *store = (struct store){.value = value};
    if (is_release(order))
        store->view = view_new(&self->view);
    if (carried) { /* a read-modify-write goes on with the release sequence */
        if (store->view)
            view_join(store->view, carried);
        else
            store->view = view_new(carried);
    }
    if (order == memory_order_seq_cst)
        loc->last_seq_cst = index;
    memcpy((void *)(uintptr_t)loc->at, &value, size);
}

static uint64_t read_store(unsigned l, unsigned index, int order) {
    struct thread *self = &threads[current];
    const struct store *store = &locations[l].stores[index];
    self->view.oldest[l] = (uint8_t)index;
    if (is_acquire(order) && store->view)
        view_join(&self->view, store->view);
    return store->value;
}

void model_load(const volatile void *at, void *value, size_t size, int order) {
    step();
    unsigned l = location_of(at, size);
    struct location *loc = &locations[l];
    unsigned oldest = threads[current].view.oldest[l];
    if (order == memory_order_seq_cst && loc->last_seq_cst > oldest)
        oldest = loc->last_seq_cst;
    unsigned options = loc->count - oldest;
    unsigned back = stale_left > 0 && current != MODEL_THREADS_MAX ? choose(options) : 0;
    if (back > 0)
        stale_left--;
    uint64_t read = read_store(l, loc->count - 1 - back, order);
    note(back ? "load (old)" : "load", l, read);
    memcpy(value, &read, size);
}

void model_store(volatile void *at, const void *value, size_t size, int order) {
    step();
    unsigned l = location_of(at, size);
    uint64_t stored = 0;
    memcpy(&stored, value, size);
    append(l, stored, size, order, NULL);
    note("store", l, stored);
}

static uint64_t applied(enum model_rmw op, uint64_t before, uint64_t operand) {
    switch (op) {
    case MODEL_EXCHANGE:
        return operand;
    case MODEL_ADD:
        return before + operand;
    case MODEL_SUB:
        return before - operand;
    case MODEL_OR:
        return before | operand;
    case MODEL_AND:
        return before & operand;
    }
    abort();
}

void model_rmw(volatile void *at, enum model_rmw op, const void *operand, void *before, size_t size,
               int order) {
    step();
    unsigned l = location_of(at, size);
    uint64_t with = 0;
    memcpy(&with, operand, size);
    unsigned latest = locations[l].count - 1;
    const struct view *carried = locations[l].stores[latest].view;
    uint64_t read = read_store(l, latest, order);
    uint64_t result = applied(op, read, with);
    if (size < sizeof result)
        result &= ((uint64_t)1 << (size * 8)) - 1;
    append(l, result, size, order, carried);
    note("modify", l, result);
    memcpy(before, &read, size);
}

bool model_cas(volatile void *at, void *expected, const void *desired, size_t size, int success,
               int failure) {
    step();
    unsigned l = location_of(at, size);
    uint64_t wanted = 0, value = 0;
    memcpy(&wanted, expected, size);
    memcpy(&value, desired, size);
    unsigned latest = locations[l].count - 1;
    const struct store *store = &locations[l].stores[latest];
    if (store->value != wanted) { /* it may read an older store too, but not one that would match */
        uint64_t read = read_store(l, latest, failure);
        note("swap (fails)", l, read);
        memcpy(expected, &read, size);
        return false;
    }
    const struct view *carried = store->view;
    (void)read_store(l, latest, success);
    append(l, value, size, success, carried);
    note("swap", l, value);
    return true;
}

void model_step(const char *what) {
    step();
    note(what, 0, 0);
}

/* What each thread had stored is seen by all of them, and so by whoever goes on. */
void model_barrier(void) {
    step();
    struct view all = threads[current].view;
    for (unsigned i = 0; i < story->thread_count; i++)
        view_join(&all, &threads[i].view);
    for (unsigned i = 0; i < story->thread_count; i++)
        threads[i].view = all;
    note("barrier of all", 0, 0);
}

/* ---- Waiting, plain data ---- */

static struct view *flag_view(const bool *flag) {
    for (unsigned i = 0; i < flag_count; i++)
        if (flags[i].flag == flag)
            return &flags[i].view;
    if (flag_count == sizeof flags / sizeof flags[0])
        model_fail(__FILE__, __LINE__, "flags");
    flags[flag_count].flag = flag;
    memset(&flags[flag_count].view, 0, sizeof flags[0].view);
    return &flags[flag_count++].view;
}

static void wait_for(bool *flag, bool or_quiet) {
    struct thread *self = &threads[current];
    if (!*flag) {
        self->state = WAITING;
        self->flag = flag;
        self->or_quiet = or_quiet;
        note("waits", 0, 0);
        give_up();
        self->state = RUNNABLE;
        note("goes on", 0, 0);
    }
    view_join(&self->view, flag_view(flag));
}

void model_wait(bool *flag) {
    do {
        wait_for(flag, false);
    } while (!*flag);
}

void model_wait_or_quiet(bool *flag) {
    wait_for(flag, true);
}

void model_wait_for_zero(const volatile void *word) {
    struct thread *self = &threads[current];
    self->state = LOCKED_OUT;
    self->word = word;
    give_up();
    self->state = RUNNABLE;
}

void model_wake(bool *flag) {
    step();
    *flag = true;
    view_join(flag_view(flag), &threads[current].view);
    note("wakes", 0, 0);
}

bool model_is_waiting(unsigned thread) {
    return threads[thread].state == WAITING;
}

/* Whoever spins does see the latest in the end, which is all that C11 promises about time. */
static bool see_the_latest(struct thread *self) {
    bool was_behind = false;
    for (unsigned i = 0; i < location_count; i++) {
        uint8_t latest = (uint8_t)(locations[i].count - 1);
        was_behind |= self->view.oldest[i] != latest;
        self->view.oldest[i] = latest;
    }
    return was_behind;
}

/* Those that spin, too, come last: two of them could go on for ever while a third has work to do. */
static unsigned drop_yielded(unsigned *list, unsigned count) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++)
        if (threads[list[i]].state != YIELDED)
            list[kept++] = list[i];
    return kept > 0 ? kept : count;
}

void model_yield(void) {
    struct thread *self = &threads[current];
    unsigned list[MODEL_THREADS_MAX];
    self->state = YIELDED;
    self->yielded_at = switches;
    steps++; /* two that wait for each other end too, by STEPS_MAX */
    unsigned count = drop_yielded(list, runnable(list));
    if (count > 0)
        switch_to(list[choose(count)]);
    self->state = RUNNABLE;
    if (!see_the_latest(self) && count == 0)
        model_fail(__FILE__, __LINE__, "a thread that spins has somebody to wait for");
}

unsigned model_choose(unsigned options) {
    unsigned taken = choose(options);
    note("chooses", 0, taken);
    return taken;
}

void model_cell_write(struct model_cell *cell, uint64_t value) {
    step();
    unsigned l = location_of(&cell->value, sizeof cell->value);
    if (threads[current].view.oldest[l] != locations[l].count - 1)
        model_fail(__FILE__, __LINE__, "the writer knows of the write before");
    append(l, value, sizeof value, memory_order_relaxed, NULL);
    note("cell write", l, value);
}

uint64_t model_cell_read(struct model_cell *cell) {
    step();
    unsigned l = location_of(&cell->value, sizeof cell->value);
    unsigned latest = locations[l].count - 1;
    note("cell read", l, locations[l].stores[latest].value);
    if (current != MODEL_THREADS_MAX && threads[current].view.oldest[l] != latest)
        model_fail(__FILE__, __LINE__, "the reader knows of the last write");
    return locations[l].stores[latest].value;
}

/* ---- Runs ---- */

static void run_once(void) {
    location_count = flag_count = views_used = trace_count = 0;
    choice_at = 0;
    steps = switches = 0;
    preemptions_left = story->preemptions;
    stale_left = story->stale_reads;
    current = MODEL_THREADS_MAX;
    memset(&threads[MODEL_THREADS_MAX].view, 0, sizeof(struct view));
    story->setup();
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++) {
        struct thread *t = &threads[i];
        t->state = i < story->thread_count ? RUNNABLE : ENDED;
        t->view = threads[MODEL_THREADS_MAX].view; /* all know what setup did */
        memset(t->view.oldest + location_count, 0, LOCATIONS_MAX - location_count);
        t->sp = rt_ctx_init(t->stack + STACK_BYTES, thread_main, (void *)(uintptr_t)i);
    }
    current = choose(story->thread_count);
    rt_ctx_switch(&explorer_sp, threads[current].sp);
    current = MODEL_THREADS_MAX;
    for (unsigned i = 0; i < location_count; i++)
        threads[current].view.oldest[i] = (uint8_t)(locations[i].count - 1);
    story->check();
}

unsigned long model_explore(const struct model_story *s) {
    story = s;
    choice_count = 0;
    if (!view_pool)
        view_pool = calloc(VIEWS_MAX, sizeof *view_pool);
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++)
        if (!threads[i].stack)
            threads[i].stack = aligned_alloc(64, STACK_BYTES);
    unsigned long runs = 0;
    do {
        run_once();
        runs++;
    } while (next_choices());
    printf("%s: %lu runs\n", s->name, runs);
    return runs;
}
