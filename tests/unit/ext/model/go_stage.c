/* go_stage: see the header. A lock is the first word of a pthread_mutex_t: who has it, plus one. */
#include "go_stage.h"

#include <errno.h>

#include "ext/go/go_block.h"

#undef malloc
#undef calloc
#undef free

enum { FREED = 0xdd, SCRIBBLE_MAX = 4096, ALLOCATIONS_MAX = 1024, STARTED_MAX = 4 };

struct coroutine {
    bool token, cancelled, is_running, ended;
    const struct labels_describer *describer;
};
static struct coroutine coroutines[MODEL_THREADS_MAX + 1]; /* the last one: of setup */
static uint32_t p_holder;                                  /* the thread that has the P, plus one */
static struct {
    void *memory;
    size_t size;
    bool is_freed;
} allocations[ALLOCATIONS_MAX];
static unsigned allocation_count;
static struct {
    struct go_options options;
    rt_fn fn;
    void *arg;
} started[STARTED_MAX];
static unsigned started_count, started_done;
static bool has_started;

_Noreturn void assert_failed(const char *file, int line, const char *condition) {
    model_fail(file, line, condition);
}

/* ---- locks ---- */

static uint32_t *word_of(pthread_mutex_t *lock) {
    return (uint32_t *)(void *)lock;
}

int stage_mutex_init(pthread_mutex_t *lock) {
    memset(lock, 0, sizeof(*lock));
    return 0;
}

int stage_mutex_destroy(pthread_mutex_t *lock) {
    MODEL_CHECK(*word_of(lock) == 0);
    return 0;
}

static void take(uint32_t *word) {
    model_step("lock");
    MODEL_CHECK(*word != model_thread() + 1);
    while (*word)
        model_wait_for_zero(word);
    *word = model_thread() + 1;
}

int stage_mutex_lock(pthread_mutex_t *lock) {
    take(word_of(lock));
    return 0;
}

int stage_mutex_unlock(pthread_mutex_t *lock) {
    MODEL_CHECK(*word_of(lock) == model_thread() + 1);
    *word_of(lock) = 0;
    model_step("unlock");
    return 0;
}

/* ---- memory ---- */

/* Of something large the front will do. */
static size_t scribbled(size_t size) {
    return size < SCRIBBLE_MAX ? size : SCRIBBLE_MAX;
}

void *stage_alloc(size_t size) {
    if (!coroutines[model_thread()].is_running)
        model_step("allocate");
    void *memory = malloc(size ? size : 1);
    MODEL_CHECK(memory && allocation_count < ALLOCATIONS_MAX);
    memset(memory, FREED, scribbled(size));
    allocations[allocation_count].memory = memory;
    allocations[allocation_count].size = size;
    allocations[allocation_count++].is_freed = false;
    return memory;
}

void *stage_alloc_zeroed(size_t size) {
    void *memory = stage_alloc(size);
    memset(memory, 0, size);
    return memory;
}

/* A signal may ask for it at any time. */
static void check_describes_nobody(const char *memory, size_t size) {
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++) {
        const char *describer = (const char *)coroutines[i].describer;
        MODEL_CHECK(describer < memory || describer >= memory + size);
    }
}

/* It stays ours, full of nonsense, until the run is over. */
void stage_free(void *memory) {
    if (!memory)
        return;
    for (unsigned i = allocation_count; i-- > 0;) {
        if (allocations[i].memory != memory)
            continue;
        MODEL_CHECK(!allocations[i].is_freed);
        check_describes_nobody(memory, allocations[i].size);
        allocations[i].is_freed = true;
        memset(memory, FREED, scribbled(allocations[i].size));
        return;
    }
    free(memory); /* of a library that is not part of this */
}

void go_stage_scribble(void *memory, size_t size) {
    memset(memory, FREED, size);
}

static bool is_scribble(const void *memory, size_t size) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < scribbled(size); i++)
        if (bytes[i] != FREED)
            return false;
    return true;
}

/* Nobody wrote to it meanwhile; what is used for the first time was not scribbled over. */
void go_stage_unscribble(const void *memory, size_t size) {
    if (size && *(const unsigned char *)memory == FREED)
        MODEL_CHECK(is_scribble(memory, size));
}

/* ---- coroutines ---- */

static struct coroutine *self(void) {
    struct coroutine *self = &coroutines[model_thread()];
    MODEL_CHECK(self->is_running);
    return self;
}

struct g *go_stage_g(unsigned thread) {
    return (struct g *)(void *)&coroutines[thread];
}

struct g *stage_self(void) {
    return go_stage_g((unsigned)(self() - coroutines));
}

static void take_p(void) {
    take(&p_holder);
}

static void give_p(void) {
    MODEL_CHECK(p_holder == model_thread() + 1);
    p_holder = 0;
}

void go_stage_enter(void) {
    take_p();
    coroutines[model_thread()] = (struct coroutine){.is_running = true};
}

void go_stage_leave(void) {
    self()->ended = true;
    self()->is_running = false;
    give_p();
}

static int wait_for_token(struct coroutine *me, int64_t deadline_ns) {
    if (me->cancelled)
        return -ECANCELED;
    if (!me->token && deadline_ns != RT_FOREVER && model_choose(2) == 1) {
        model_step("deadline");
        if (!me->token && !me->cancelled)
            return -ETIMEDOUT;
    }
    model_wait(&me->token);
    me->token = false;
    return me->cancelled ? -ECANCELED : 0;
}

int stage_park(const char *reason, int64_t deadline_ns) {
    struct coroutine *me = self();
    give_p();
    int err = wait_for_token(me, deadline_ns);
    take_p();
    return err;
}

void stage_ready(struct g *g) {
    struct coroutine *of = (struct coroutine *)(void *)g;
    MODEL_CHECK(of >= coroutines && of < coroutines + MODEL_THREADS_MAX);
    MODEL_CHECK(!of->ended);
    model_wake(&of->token);
}

void stage_cancel(struct g *g) {
    struct coroutine *of = (struct coroutine *)(void *)g;
    MODEL_CHECK(p_holder == model_thread() + 1);
    MODEL_CHECK(!of->ended);
    of->cancelled = true;
    model_wake(&of->token);
}

void stage_cancel_clear(void) {
    self()->cancelled = false;
}

void stage_describe_by(const struct labels_describer *describer) {
    self()->describer = describer;
}

void stage_foreign_call(rt_fn fn, void *arg) {
    struct coroutine *me = self();
    me->is_running = false; /* no coroutine's business in there */
    give_p();
    model_step("call");
    fn(arg);
    take_p();
    me->is_running = true;
}

int stage_go_with(const struct go_options *options, rt_fn fn, void *arg) {
    MODEL_CHECK(started_count < STARTED_MAX);
    started[started_count].options = *options;
    started[started_count].fn = fn;
    started[started_count++].arg = arg;
    model_wake(&has_started);
    return 0;
}

void go_stage_run_started(void) {
    model_wait_or_quiet(&has_started);
    if (!has_started)
        return;
    go_stage_enter();
    while (started_done < started_count) {
        unsigned i = started_done++;
        self()->describer = started[i].options.describer;
        started[i].fn(started[i].arg);
        self()->describer = NULL;
    }
    go_stage_leave();
}

/* ---- runs ---- */

struct block_cache *stage_blocks(void) {
    static struct block_cache blocks;
    static bool is_made;
    if (!is_made)
        block_cache_init(&blocks);
    is_made = true;
    return &blocks;
}

void go_stage_setup(void) {
    memset(coroutines, 0, sizeof coroutines);
    p_holder = 0;
    started_count = started_done = 0;
    has_started = false;
}

void go_stage_check(unsigned thread_count) {
    for (unsigned i = 0; i < thread_count; i++)
        MODEL_CHECK(!model_is_waiting(i));
    MODEL_CHECK(p_holder == 0);
    MODEL_CHECK(started_done == started_count);
    go_blocks_drop(0);
    for (unsigned i = 0; i < allocation_count; i++) {
        MODEL_CHECK(allocations[i].is_freed);
        MODEL_CHECK(is_scribble(allocations[i].memory, allocations[i].size));
        free(allocations[i].memory);
    }
    allocation_count = 0;
}
