/* go_exports_state.c and ext_query.c: what plugins ask about a request and note of it, when, from where. */
#include <errno.h>
#include <semaphore.h>

#include "fake_exchange.h"
#include "fake_go.h"

static struct fake_exchange *fake;
static void *self;

static void begin_with(const char *const *pieces) {
    fake = fake_new(&fake_go.filter, pieces, false);
    self = fake->factory.itab->create(&fake->x, &fake->factory);
    CHECK(self);
}

static void end_exchange(void) {
    fake->factory.itab->log(&fake->x, self, FILTER_LOG_END);
    fake->factory.itab->destroy(&fake->x, self);
    fake_free(fake);
}

/* What Go would make of the answer: the text, or the code. */
static const char *answer(int code, uint64_t ptr, int len) {
    static _Thread_local char text[256];
    if (code)
        (void)snprintf(text, sizeof text, "(%d)", code);
    else
        (void)snprintf(text, sizeof text, "%.*s", len, (const char *)(uintptr_t)ptr);
    return text;
}

static const char *property(void *r, const char *path) {
    uint64_t ptr = 0;
    int len = 0, late = 0;
    int code = envoyGoFilterHttpGetStringProperty(r, (void *)(uintptr_t)path, (int)strlen(path),
                                                  &ptr, &len, &late);
    CHECK(code != -6 && late == 0);
    return answer(code, ptr, len);
}

static const char *state_of(void *r, const char *key) {
    uint64_t ptr = 0;
    int len = 0;
    int code = envoyGoFilterHttpGetStringFilterState(r, (void *)(uintptr_t)key, (int)strlen(key),
                                                     &ptr, &len);
    return answer(code, ptr, len);
}

static int note(void *r, const char *key, const char *wire, int len) {
    return envoyGoFilterHttpSetDynamicMetadata(r, (void *)(uintptr_t) "ns", 2,
                                               (void *)(uintptr_t)key, (int)strlen(key),
                                               (void *)(uintptr_t)wire, len);
}

static int keep(void *r, const char *key, const char *text, int type, int span) {
    return envoyGoFilterHttpSetStringFilterState(r, (void *)(uintptr_t)key, (int)strlen(key),
                                                 (void *)(uintptr_t)text, (int)strlen(text), type,
                                                 span, 0);
}

static int set(void *s, const char *name, const char *value) {
    return envoyGoFilterHttpSetHeaderHelper(s, (void *)(uintptr_t)name, (int)strlen(name),
                                            (void *)(uintptr_t)value, (int)strlen(value),
                                            GO_HEADER_ADD);
}

#define IS(what, text)                                                                             \
    do {                                                                                           \
        const char *is_ = (what);                                                                  \
        if (strcmp(is_, text) != 0) {                                                              \
            fprintf(stderr, "%s:%d: %s is '%s'\n", __FILE__, __LINE__, #what, is_);                \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

/* ---- in order ---- */

static uint64_t asks_and_notes(struct go_process_state *state, uint64_t end, uint64_t count,
                               uint64_t bytes) {
    void *r = state->req;
    if (state->is_encoding) {
        IS(property(r, "response.code"), "201");
        IS(property(r, "response.headers.x-up"), "one");
        IS(property(r, "request.path"), "/path"); /* the other side's map stands still too */
        IS(property(r, "metadata.filter_metadata.ns.k"), "later");
        return GO_CONTINUE;
    }
    IS(property(r, "request.path"), "/path");
    IS(property(r, "request.headers.x-a"), "one");
    CHECK(set(state, "x-a", "two") == GO_OK);
    IS(property(r, "request.headers.x-a"), "one,two"); /* as it will be */
    IS(property(r, "source.address"), "1.2.3.4:5");
    IS(property(r, "request.nothing"), "(-5)");
    IS(property(r, "nothing"), "(-5)");
    IS(property(r, "request"), "(-8)");
    IS(property(r, ""), "(-8)");
    IS(property(r, "response.code"), "(-5)");
    IS(property(r, "connection.tls_version"), "(-5)");

    uint64_t ptr = 0;
    int len = 0;
    CHECK(envoyGoFilterHttpGetDynamicMetadata(r, (void *)(uintptr_t) "ns", 2, &ptr, &len) == GO_OK);
    CHECK(ptr == 0 && len == 0);
    CHECK(note(r, "k", "\032\003abc", 5) == GO_OK);
    IS(property(r, "metadata.filter_metadata.ns.k"), "abc");
    CHECK(envoyGoFilterHttpGetDynamicMetadata(r, (void *)(uintptr_t) "ns", 2, &ptr, &len) == GO_OK);
    static const char wire[] = "\n\n\n\1k\22\5\32\3abc";
    CHECK(len == sizeof wire - 1 && memcmp((void *)(uintptr_t)ptr, wire, sizeof wire - 1) == 0);
    CHECK(note(r, "k", "\032\005abc", 5) ==
          GO_INTERNAL_FAILURE);             /* no Value: it stays what it was */
    CHECK(note(r, "k", NULL, -5) == GO_OK); /* an empty one is null */
    IS(property(r, "metadata.filter_metadata.ns.k"), "(-8)");
    CHECK(note(r, "k", "\032\005later", 7) == GO_OK);

    IS(state_of(r, "s"), "");
    CHECK(keep(r, "s", "first", 0, 1) == GO_OK);
    CHECK(keep(r, "s", "second", 0, 1) == GO_OK); /* read-only: not done, and not said */
    IS(state_of(r, "s"), "first");
    IS(property(r, "filter_state.s"), "first");
    CHECK(keep(r, "t", "top", 1, 3) == GO_OK); /* a span that Envoy has not */
    CHECK(keep(r, "t", "again", 1, 2) == GO_OK);
    IS(state_of(r, "t"), "again");
    CHECK(keep(r, "odd", "", -7, -7) == GO_OK);
    IS(state_of(r, "odd"), "");
    return GO_CONTINUE;
}

static void asks_at_the_end(struct go_request *r, uint64_t type, struct go_process_state *decode,
                            struct go_process_state *encode, uint64_t counts[4],
                            uint64_t bytes[4]) {
    IS(property(r, "request.duration"), "1.5s");
    IS(property(r, "response.trailers.x-end"), "yes");
    CHECK(note(r, "log", "\032\003end", 5) == GO_OK); /* the access log comes after this */
}

static void order_story(void *arg) {
    fake_go_init();
    fake_go.header = asks_and_notes;
    fake_go.log = asks_at_the_end;
    begin_with(NULL);
    struct exchange *x = &fake->x;
    fake->factory.itab->request(x, self);
    CHECK(header_add_id(&x->response.headers, HDR_STATUS, SPAN_LIT("201")) == 0);
    CHECK(header_add(&x->response.headers, HDR_OTHER, SPAN_LIT("x-up"), SPAN_LIT("one")) == 0);
    fake->factory.itab->response(x, self);
    CHECK(header_add(&x->response.trailers, HDR_OTHER, SPAN_LIT("x-end"), SPAN_LIT("yes")) == 0);
    x->info.start_ns = NS_PER_S;
    x->info.end_ns = x->info.start_ns + 1500 * NS_PER_MS;
    fake->factory.itab->log(x, self, FILTER_LOG_END);
    const struct span key = SPAN_LIT("log");
    metadata_lock(exchange_metadata_if(x));
    CHECK(metadata_find(exchange_metadata_if(x), SPAN_LIT("ns"), &key, 1) != NULL);
    metadata_unlock(exchange_metadata_if(x));
    fake->factory.itab->destroy(x, self);
    fake_free(fake);
    rt_stop(0);
}

static void answers_in_every_phase(void **state) {
    story(1, order_story);
}

/* ---- what a side may see while the other coroutine is at work ---- */

static sem_t asked;
static _Atomic bool pump_waits, pump_done;

static void *asks_beside(void *arg) {
    struct go_process_state *state = arg;
    void *r = state->req;
    IS(property(r, "request.path"), "/path");
    IS(property(r, "response.headers.x-up"),
       fake->x.state == EXCHANGE_HEADERS_SENT ? "one" : "(-5)");
    IS(property(r, "response.trailers.x-end"), "(-5)");
    CHECK(note(r, "k", "\032\003abc", 5) == GO_OK);
    pump_waits = true;
    while (sem_wait(&asked) < 0) {
    }
    IS(property(r, "request.path"), "/path");
    IS(property(r, "metadata.filter_metadata.ns.k"), "ours"); /* the last one to set it */
    CHECK(envoyGoFilterHttpContinue(state, GO_CONTINUE) == GO_OK);
    return NULL;
}

static uint64_t asks_in_data(struct go_process_state *state, uint64_t end, uint64_t handle,
                             uint64_t len) {
    if (end)
        return GO_CONTINUE;
    fake_goroutine(asks_beside, state);
    return GO_RUNNING;
}

static void pumps(void *arg) {
    struct exchange *x = &fake->x;
    struct span chunk;
    x->pump = rt_self();
    x->pump_doing = x->doing;
    while (reader_next(x->request.body, 1 << 16, &chunk) > 0)
        ;
    x->pump = NULL;
    pump_done = true;
}

static void pump_asks(bool sent) {
    pump_waits = pump_done = false;
    begin_with((const char *const[]){"body", NULL});
    struct exchange *x = &fake->x;
    fake->factory.itab->request(x, self);
    CHECK(header_add(&x->response.headers, HDR_OTHER, SPAN_LIT("x-up"), SPAN_LIT("one")) == 0);
    if (sent)
        x->state = EXCHANGE_HEADERS_SENT;
    CHECK(go_here("pumps", pumps, NULL) == 0);
    STORY_AWAIT(pump_waits);
    /* Main goes on: with the response, as long as it is its own, with facts and notes. */
    for (int i = 0; i < 50 && !sent; i++)
        CHECK(header_add(&x->response.headers, HDR_OTHER, SPAN_LIT("x-up"), SPAN_LIT("n")) == 0);
    CHECK(header_add(&x->response.trailers, HDR_OTHER, SPAN_LIT("x-end"), SPAN_LIT("yes")) == 0);
    x->info.bytes_sent += 100;
    CHECK(metadata_set_text(exchange_metadata(x), SPAN_LIT("ns"), SPAN_LIT("k"),
                            SPAN_LIT("ours")) == 0);
    CHECK(sem_post(&asked) == 0);
    STORY_AWAIT(pump_done);
    end_exchange();
}

static void pump_story(void *arg) {
    fake_go_init();
    fake_go.data = asks_in_data;
    CHECK(sem_init(&asked, 0, 0) == 0);
    pump_asks(false);
    pump_asks(true);
    rt_stop(0);
}

static void a_pump_s_side_sees_what_main_leaves_alone(void **state) {
    story(1, pump_story);
}

/* ---- out of turn ---- */

static void *kept_request;
static sem_t over;
static _Atomic bool checked;

static void codes_are(void *r, const char *code) {
    IS(property(r, "request.path"), code);
    IS(state_of(r, "s"), code);
    char text[8];
    (void)snprintf(text, sizeof text, "(%d)", note(r, "k", "\032\003abc", 5));
    IS(text, code);
    (void)snprintf(text, sizeof text, "(%d)", keep(r, "k", "v", 0, 0));
    IS(text, code);
}

static void *asks_too_late(void *arg) {
    while (sem_wait(&over) < 0) {
    }
    codes_are(kept_request, "(-2)"); /* its side was in Go when the client left */
    envoyGoFilterHttpFinalize(kept_request, 0);
    codes_are(kept_request, "(-1)");
    checked = true;
    return NULL;
}

static uint64_t hangs(struct go_process_state *state, uint64_t end, uint64_t count,
                      uint64_t bytes) {
    kept_request = state->req;
    fake_goroutine(asks_too_late, NULL);
    return GO_RUNNING;
}

static void leaves_it(struct go_request *request, uint64_t reason) {}

static void hangs_up(void *arg) {
    fake->x.client_gone = true;
    rt_cancel(arg);
}

static void late_story(void *arg) {
    fake_go_init();
    fake_go.header = hangs;
    fake_go.destroy = leaves_it;
    CHECK(sem_init(&over, 0, 0) == 0);
    codes_are(NULL, "(-1)");
    codes_are(&fake_go, "(-1)");
    begin_with(NULL);
    CHECK(go_here("hangs up", hangs_up, rt_self()) == 0);
    fake->factory.itab->request(&fake->x, self);
    rt_cancel_clear();
    codes_are(kept_request, "(-2)"); /* not destroyed yet, but nobody holds it for Go any more */
    end_exchange();
    CHECK(sem_post(&over) == 0);
    STORY_AWAIT(checked);
    rt_stop(0);
}

static void questions_out_of_turn_get_their_code(void **state) {
    story(1, late_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_every_phase),
        cmocka_unit_test(a_pump_s_side_sees_what_main_leaves_alone),
        cmocka_unit_test(questions_out_of_turn_get_their_code),
    };
    return cmocka_run_group_tests(tests, fake_stats_init, NULL);
}
