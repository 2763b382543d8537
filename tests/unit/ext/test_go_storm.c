/* Goroutines that do anything at any time against exchanges that end at any time, on two Ps. The
 * sanitizers are the judges; this file only makes sure that all of it happens and that nothing is lost:
 * every request is finalised once, every exchange ends, and nothing that was made for one is left.
 *
 * Each request has a moment at which its client hangs up, of all there are, in turn: so goroutines of every phase
 * act on streams that end in every phase, however fast the machine is. Besides, some hang up at random.
 * SLUICE_LONG=yes makes a million of them. */
#include <errno.h>
#include <stdatomic.h>

#include "ext/ext_handles.h"
#include "fake_exchange.h"
#include "fake_go.h"
#include "proxy/metadata.h"

enum {
    PS = 2,
    COROUTINES = 12, /* per P */
#ifdef __SANITIZE_THREAD__
    REQUESTS = 1500,
#else
    REQUESTS = 20000,
#endif
    REQUESTS_LONG = 1000000,
    TENDERS = 6, /* threads of the library */
};

/* When the client hangs up: in a callback of this phase, when its goroutine begins, or when that is about to
 * continue. */
enum phase { REQUEST_HEAD, REQUEST_BODY, RESPONSE_HEAD, RESPONSE_BODY, AT_LOG, PHASES };
enum moment { IN_CALLBACK, IN_GOROUTINE, BEFORE_CONTINUE, MOMENTS };
enum { PLANS = PHASES * MOMENTS + 1 /* never */ };

static unsigned rounds; /* of each coroutine */

/* One task: act on a side for a while, then perhaps continue. A task holds Go's memory as a goroutine
 * does: Finalize waits for the last one. */
struct task {
    struct task *next;
    struct go_process_state *state;
    struct go_request *request;
    uint64_t handle; /* of the chunk that it was shown; 0 for none */
    unsigned seed;
    enum phase phase;
    bool collected; /* Finalize may have come: what a call gives may be gone when it returns */
    bool late;      /* begins after the callback's own status let the side go */
};

/* What Go's garbage collector would know of a request. */
struct request_refs {
    struct request_refs *next;
    const struct go_request *request;
    struct runner *runner;
    unsigned number, plan; /* of the runner's requests */
    unsigned tasks;
    bool entered, destroyed;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct task *tasks;
static struct request_refs *requests;
static _Atomic unsigned finalized, entered, codes[16], ended_coroutines;
/* Of tasks: in which phase begun, on a request with which plan. */
static _Atomic unsigned acted[PLANS][PHASES];
static _Atomic unsigned hung_up[PLANS]; /* in time */

static struct request_refs *refs_locked(const struct go_request *request) {
    struct request_refs *refs = requests;
    while (refs && refs->request != request)
        refs = refs->next;
    return refs;
}

/* Gives one reference up; the last one finalises. */
static void refs_drop(struct go_request *request, bool destroyed) {
    pthread_mutex_lock(&lock);
    struct request_refs **link = &requests;
    while ((*link)->request != request)
        link = &(*link)->next;
    struct request_refs *refs = *link;
    if (destroyed)
        refs->destroyed = true;
    else
        refs->tasks--;
    bool last = refs->destroyed && refs->tasks == 0;
    if (last)
        *link = refs->next;
    pthread_mutex_unlock(&lock);
    if (last) {
        free(refs);
        envoyGoFilterHttpFinalize(request, 0);
        atomic_fetch_add(&finalized, 1);
    }
}

static void hang_up_if(const struct go_request *request, enum phase phase, enum moment moment);

static void submit(struct go_process_state *state, uint64_t handle, unsigned seed, enum phase phase,
                   bool late) {
    struct task *task = malloc(sizeof(*task));
    CHECK(task);
    *task = (struct task){.state = state,
                          .request = state->req,
                          .handle = handle,
                          .seed = seed,
                          .phase = phase,
                          .late = late};
    pthread_mutex_lock(&lock);
    struct request_refs *refs = refs_locked(state->req);
    CHECK(refs);
    if (!refs->entered)
        atomic_fetch_add(&entered, 1);
    refs->entered = true;
    refs->tasks++;
    atomic_fetch_add(&acted[refs->plan][phase], 1);
    task->next = tasks;
    tasks = task;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
    hang_up_if(state->req, phase, IN_CALLBACK);
}

static void count(int code) {
    CHECK(code <= 0 && code > -16);
    atomic_fetch_add(&codes[-code], 1);
}

static void act(const struct task *task, unsigned *seed) {
    struct go_process_state *s = task->state;
    char room[4096];
    struct go_string strings[64];
    uint64_t ptr = 0, number = 0;
    int len = 0;
    char *name = (char *)(uintptr_t)(rand_r(seed) % 2 ? "x-a" : "x-b");
    static const char *const paths[] = {"request.headers.x-b", "response.headers.x-b",
                                        "response.total_size", "metadata.filter_metadata.x-a.x-b",
                                        "filter_state.x-a",    "metadata"};
    char *path = (char *)(uintptr_t)paths[(unsigned)rand_r(seed) % 6];
    static char value[] = "\032\003abc"; /* a google.protobuf.Value */
    switch (rand_r(seed) % 17) {
    case 0:
        count(envoyGoFilterHttpGetHeader(s, name, 3, &ptr, &len));
        for (int i = 0; i < len && !task->collected;
             i++) /* else it lives no longer than the call */
            CHECK(((const char *)(uintptr_t)ptr)[i] >= ' ');
        break;
    case 1:
        count(envoyGoFilterHttpCopyHeaders(s, strings, room));
        break;
    case 2:
        count(envoyGoFilterHttpSetHeaderHelper(s, name, 3, name, 3, rand_r(seed) % 2));
        break;
    case 3:
        count(envoyGoFilterHttpRemoveHeader(s, name, 3));
        break;
    case 4:
        /* Its own, or an invented one. Lengths stay below the room. */
        count(envoyGoFilterHttpGetBuffer(s, task->handle + (uint64_t)rand_r(seed) % 2, room));
        break;
    case 5:
        count(envoyGoFilterHttpSetBufferHelper(s, task->handle, name, 3,
                                               GO_BUFFER_SET + rand_r(seed) % 2 * 2));
        break;
    case 6:
        count(envoyGoFilterHttpDrainBuffer(s, task->handle, 2));
        break;
    case 7:
        count(envoyGoFilterHttpGetStringValue(task->request, rand_r(seed) % 14, &ptr, &len));
        break;
    case 8:
        count(envoyGoFilterHttpGetIntegerValue(task->request, rand_r(seed) % 14, &number));
        break;
    case 9:
        count(envoyGoFilterHttpCopyTrailers(s, strings, room));
        break;
    case 10:
        count(envoyGoFilterHttpAddData(s, name, 3, true));
        break;
    case 11:
        count(envoyGoFilterHttpGetStringProperty(task->request, path, (int)strlen(path), &ptr, &len,
                                                 NULL));
        break;
    case 12:
        count(envoyGoFilterHttpSetDynamicMetadata(task->request, name, 3, path, 4, value, 5));
        break;
    case 13:
        count(envoyGoFilterHttpGetDynamicMetadata(task->request, name, 3, &ptr, &len));
        break;
    case 14:
        count(envoyGoFilterHttpSetStringFilterState(task->request, name, 3, path, rand_r(seed) % 8,
                                                    rand_r(seed) % 2, 1, 0));
        break;
    case 15:
        count(envoyGoFilterHttpGetStringFilterState(task->request, name, 3, &ptr, &len));
        break;
    default:
        count(envoyGoFilterHttpClearRouteCache(task->request, rand_r(seed) % 2));
        break;
    }
}

static void *tend(void *arg) {
    for (;;) {
        pthread_mutex_lock(&lock);
        while (!tasks)
            pthread_cond_wait(&wake, &lock);
        struct task *task = tasks;
        tasks = task->next;
        pthread_mutex_unlock(&lock);
        if (!task->state)
            return NULL;
        struct go_process_state *state = task->state;
        hang_up_if(task->request, task->phase, IN_GOROUTINE);
        for (int i = rand_r(&task->seed) % 6; i >= 0; i--)
            act(task, &task->seed);
        hang_up_if(task->request, task->phase, BEFORE_CONTINUE);
        int how = rand_r(&task->seed) % 16;
        if (how == 0)
            count(envoyGoFilterHttpSendLocalReply(state, 403, NULL, 0, NULL, 0, 0, NULL, 0));
        else if (how == 1)
            count(envoyGoFilterHttpSendPanicReply(state, NULL, 0));
        if (!task->late || how > 8)
            count(envoyGoFilterHttpContinue(state, how == 2 ? 3 : how == 3 ? 4 : 2));
        for (int i = rand_r(&task->seed) % 3; i > 0; i--)
            act(task, &task->seed);
        refs_drop(task->request, false);
        /* Its collector took the request for unused, as the address was in a call's argument only: the
         * call comes before, during or after Finalize. */
        task->collected = true;
        act(task, &task->seed);
        free(task);
    }
}

static uint64_t some_status(struct go_process_state *state, uint64_t handle, enum phase phase,
                            bool may_hold) {
    static _Atomic unsigned seeds = 1;
    unsigned seed = atomic_fetch_add(&seeds, 7919);
    bool async = seed % 3 != 0;
    submit(state, handle, seed, phase, !async);
    if (async)
        return GO_RUNNING;
    return may_hold && seed % 4 == 0 ? GO_STOP_AND_BUFFER : GO_CONTINUE;
}

static uint64_t storm_header(struct go_process_state *state, uint64_t end, uint64_t n,
                             uint64_t bytes) {
    CHECK(n < 32 && bytes < 4096);
    return some_status(state, 0, state->is_encoding ? RESPONSE_HEAD : REQUEST_HEAD, !end);
}

static uint64_t storm_data(struct go_process_state *state, uint64_t end, uint64_t handle,
                           uint64_t len) {
    return some_status(state, handle, state->is_encoding ? RESPONSE_BODY : REQUEST_BODY, !end);
}

static void storm_log(struct go_request *request, uint64_t type, struct go_process_state *decode,
                      struct go_process_state *encode, uint64_t counts[4], uint64_t bytes[4]) {
    submit(decode, 0, (unsigned)(uintptr_t)request, AT_LOG, true);
}

static void storm_destroy(struct go_request *request, uint64_t reason) {
    refs_drop(request, true);
}

/* ---- the exchanges ---- */

struct runner {
    unsigned p, seed, number;
    struct fake_exchange *fake;
    struct g *serving, *main, *pump;
    bool stop, pump_runs, pump_cancelled;
};

static void hang_up(struct runner *runner) {
    runner->fake->x.client_gone = true;
    rt_cancel(runner->serving);
}

/* Hangs up on whatever is being served. */
static void hangs_up(void *arg) {
    struct runner *runner = arg;
    unsigned seed = runner->seed ^ 0x5555;
    while (!runner->stop) {
        (void)rt_sleep_until(clock_mono_ns() + (int64_t)(rand_r(&seed) % 30000) * NS_PER_US);
        if (runner->serving)
            hang_up(runner);
    }
    atomic_fetch_add(&ended_coroutines, 1);
}

struct hang_up {
    struct runner *runner;
    unsigned number, plan;
};

static void hangs_up_on_one(void *arg) {
    struct hang_up *this = arg;
    if (this->runner->serving && this->runner->number == this->number) {
        hang_up(this->runner);
        atomic_fetch_add(&hung_up[this->plan], 1);
    }
    free(this);
}

static void hang_up_if(const struct go_request *request, enum phase phase, enum moment moment) {
    pthread_mutex_lock(&lock);
    const struct request_refs *refs = refs_locked(request);
    struct hang_up what = {refs->runner, refs->number, refs->plan};
    pthread_mutex_unlock(&lock);
    if (what.plan != phase * MOMENTS + moment)
        return;
    struct hang_up *copy = malloc(sizeof(*copy));
    CHECK(copy);
    *copy = what;
    CHECK(go_on(what.runner->p, "hangs up", hangs_up_on_one, copy) == 0);
}

/* What Go knows of a request begins here, though it may never hear of it. */
static void register_request(struct runner *runner, const struct go_request *request) {
    static _Atomic unsigned numbers;
    struct request_refs *refs = calloc(1, sizeof(*refs));
    CHECK(refs);
    *refs = (struct request_refs){.request = request,
                                  .runner = runner,
                                  .number = ++runner->number,
                                  .plan = atomic_fetch_add(&numbers, 1) % PLANS};
    pthread_mutex_lock(&lock);
    refs->next = requests;
    requests = refs;
    pthread_mutex_unlock(&lock);
}

static void forget_request(const struct go_request *request) {
    pthread_mutex_lock(&lock);
    struct request_refs **link = &requests;
    while ((*link)->request != request)
        link = &(*link)->next;
    struct request_refs *refs = *link;
    *link = refs->next;
    pthread_mutex_unlock(&lock);
    CHECK(!refs->entered);
    free(refs);
}

static void read_all(struct exchange *x, struct message *message) {
    struct span chunk;
    ssize_t n = exchange_alive(x) ? 1 : 0;
    while (n > 0) {
        n = reader_next(message->body, 1 << 16, &chunk);
        x->info.bytes_received++; /* facts change while the other side is in Go */
    }
}

/* The router's second coroutine. */
static void pumps(void *arg) {
    struct runner *runner = arg;
    struct exchange *x = &runner->fake->x;
    runner->pump = x->pump = rt_self();
    x->pump_doing = x->doing;
    if (runner->pump_cancelled)
        rt_cancel(runner->pump);
    read_all(x, &x->request);
    if (!exchange_alive(x)) /* a reply from here ends the other coroutine's wait */
        rt_cancel(runner->main);
    runner->pump = x->pump = NULL;
    runner->pump_runs = false;
    rt_ready(runner->main);
}

static void stop_pump(struct runner *runner) {
    runner->pump_cancelled = true;
    while (runner->pump_runs) {
        if (runner->pump)
            rt_cancel(runner->pump);
        rt_cancel_clear();
        (void)rt_park("end of the pump", RT_FOREVER);
    }
    rt_cancel_clear();
}

static void serve_one(struct runner *runner) {
    static const char *const pieces[] = {"one", "two", "three", "four", NULL};
    int kind = rand_r(&runner->seed) % 4;
    struct fake_exchange *fake = fake_new(&fake_go.filter, kind ? pieces : NULL, kind == 3);
    struct fake_exchange *back = fake_new(&fake_go.filter, kind < 3 ? pieces : NULL, false);
    struct exchange *x = &fake->x;
    void *self = fake->factory.itab->create(x, &fake->factory);
    CHECK(self);
    const struct go_block *block = ((struct go_filter *)self)->block;
    const struct go_request *request = &block->lent->request;
    register_request(runner, request);
    runner->fake = fake;
    runner->serving = runner->main = rt_self();
    fake->factory.itab->request(x, self);
    if (exchange_alive(x)) { /* as a router would, while goroutines may still look */
        runner->pump_runs = true;
        runner->pump_cancelled = false;
        CHECK(go_here("pumps", pumps, runner) == 0);
        for (int i = 0; i < 20; i++)
            CHECK(header_add(&x->request.headers, HDR_OTHER, SPAN_LIT("x-b"), SPAN_LIT("b")) == 0);
        CHECK(header_add_id(&x->response.headers, HDR_STATUS, SPAN_LIT("200")) == 0);
        x->response.body = back->x.request.body;
        back->x.request.body = (struct reader){0};
        if (kind == 1)
            rt_yield();
        /* Filters of our own note things too, while goroutines do. */
        struct metadata *metadata = exchange_metadata(x);
        CHECK(metadata &&
              metadata_set_text(metadata, SPAN_LIT("x-a"), SPAN_LIT("x-b"), SPAN_LIT("ours")) == 0);
        CHECK(header_add(&x->response.headers, HDR_OTHER, SPAN_LIT("x-b"), SPAN_LIT("b")) == 0);
        fake->factory.itab->response(x, self);
        if (exchange_alive(x))
            x->state = EXCHANGE_HEADERS_SENT;
        read_all(x, &x->response);
    }
    runner->serving = NULL;
    stop_pump(runner);
    fake->factory.itab->log(x, self, FILTER_LOG_END);
    if (!block->entered)
        forget_request(request);
    fake->factory.itab->destroy(x, self);
    fake_free(fake);
    fake_free(back);
}

static void runs(void *arg) {
    struct runner *runner = arg;
    for (unsigned i = 0; i < rounds; i++)
        serve_one(runner);
    runner->stop = true;
    atomic_fetch_add(&ended_coroutines, 1);
}

static struct runner runners[PS][COROUTINES];

static void starts(void *arg) {
    static _Atomic unsigned seeds = 17;
    for (int i = 0; i < COROUTINES; i++) {
        struct runner *runner = &runners[rt_p_index()][i];
        runner->p = rt_p_index();
        runner->seed = atomic_fetch_add(&seeds, 104729);
        CHECK(go_here("runs", runs, runner) == 0);
        CHECK(go_here("hangs up", hangs_up, runner) == 0);
    }
}

static void storm_story(void *arg) {
    fake_go_init();
    fake_go.header = storm_header;
    fake_go.data = storm_data;
    fake_go.log = storm_log;
    fake_go.destroy = storm_destroy;
    pthread_t tenders[TENDERS];
    for (int i = 0; i < TENDERS; i++)
        CHECK(pthread_create(&tenders[i], NULL, tend, NULL) == 0);
    for (unsigned p = 0; p < PS; p++)
        CHECK(go_on(p, "starts", starts, NULL) == 0);
    while (atomic_load(&ended_coroutines) < 2 * PS * COROUTINES)
        CHECK(rt_sleep_until(clock_mono_ns() + 5 * NS_PER_MS) == 0);
    while (atomic_load(&finalized) < atomic_load(&entered))
        CHECK(rt_sleep_until(clock_mono_ns() + 5 * NS_PER_MS) == 0);
    /* Who finds no free seat at its end, and had none before, is the only one that Go never hears of. */
    CHECK(atomic_load(&entered) + stat_value(fake_go.library.stats.ends_untold) ==
          (int64_t)(PS * COROUTINES * rounds));
    CHECK(fake_go.destroys == atomic_load(&entered));
    CHECK(fake_go.logs == atomic_load(&entered));
    CHECK(requests == NULL);
    STORY_AWAIT(stat_value(go_stats.unfinalized) == 0); /* last calls come to their end */
    CHECK(seat_set_count(fake_go.config.seats, NULL).busy == 0);
    STORY_AWAIT(stat_value(fake_go.library.stats.ends_waiting) == 0);
    /* Every answer that can come did come. */
    CHECK(codes[-GO_OK] && codes[-GO_FILTER_IS_DESTROYED] && codes[-GO_NOT_IN_GO] &&
          codes[-GO_INVALID_PHASE] && codes[-GO_VALUE_NOT_FOUND] && codes[-GO_FILTER_IS_GONE]);
    STORY_AWAIT(handle_count(&ext_handles) == 0);
    STORY_AWAIT(loan_count(&go_lent_requests) == 0);
    /* And everything at every moment: those of the log phase find nobody to hang up on. */
    for (unsigned plan = 0; plan < PLANS; plan++) {
        CHECK(plan >= AT_LOG * MOMENTS || hung_up[plan] > 0);
        for (unsigned phase = REQUEST_HEAD; phase < PHASES; phase++)
            CHECK(acted[plan][phase] > 0);
    }
    fprintf(stderr, "ok %u, gone %u, destroyed %u, not in Go %u, phase %u, absent %u\n", codes[0],
            codes[1], codes[2], codes[3], codes[4], codes[5]);
    rt_stop(0);
}

static void nothing_is_lost_in_a_storm(void **state) {
    story(PS, storm_story);
}

static int init(void **state) {
    CHECK(stats_init(PS) == 0);
    CHECK(go_lent_init() == 0);
    log_set_level(LOG_CRITICAL);
    return 0;
}

int main(void) {
    const char *is_long = getenv("SLUICE_LONG");
    rounds =
        (is_long && strcmp(is_long, "yes") == 0 ? REQUESTS_LONG : REQUESTS) / (PS * COROUTINES) + 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_lost_in_a_storm)};
    return cmocka_run_group_tests(tests, init, NULL);
}
