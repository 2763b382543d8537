/* go_side.c: each state and status, returned and by Continue from another thread. */
#include <errno.h>

#include "fake_exchange.h"
#include "fake_go.h"

/* A case is the statuses that successive callbacks give, and what must come of them:
 *   seen   H<end>, D<end>:<bytes>, T per callback
 *   out    the body that the next filter gets, then "+t" when trailers follow */
struct flow {
    const char *name;
    const char *pieces[4];
    bool trailers;
    int statuses[8];
    const char *seen, *out;
    unsigned reply;
};

#define NO_BODY                                                                                    \
    { NULL }
#define AB_CD                                                                                      \
    { "ab", "cd" }

static const struct flow flows[] = {
    {"headers only", NO_BODY, false, {2}, "H1", "", 0},
    {"pass", AB_CD, false, {2, 2, 2, 2}, "H0 D0:ab D0:cd D1:", "abcd", 0},
    {"pass with trailers", AB_CD, true, {2, 2, 2, 2}, "H0 D0:ab D0:cd T", "abcd+t", 0},
    {"trailers without body", NO_BODY, true, {2, 2}, "H0 T", "+t", 0},
    {"buffer from headers", AB_CD, false, {3, 2}, "H0 D1:abcd", "abcd", 0},
    {"buffer, trailers", AB_CD, true, {3, 2, 2}, "H0 D0:abcd T", "abcd+t", 0},
    {"buffer, trailers, no body", NO_BODY, true, {3, 2}, "H0 T", "+t", 0},
    {"buffer an empty body", {""}, false, {3, 2}, "H0 D1:", "", 0},
    {"buffer from data", AB_CD, false, {2, 3, 2}, "H0 D0:ab D1:cd", "abcd", 0},
    {"buffer from data, then trailers", AB_CD, true, {2, 3, 2, 2}, "H0 D0:ab D0:cd T", "abcd+t", 0},
    {"buffer the last chunk, then trailers", {"ab"}, true, {2, 3, 2}, "H0 D0:ab T", "ab+t", 0},
    {"watermark from headers", AB_CD, false, {4, 4, 4, 2}, "H0 D0:ab D0:cd D1:", "abcd", 0},
    {"watermark, then pass", AB_CD, false, {4, 4, 2, 2}, "H0 D0:ab D0:cd D1:", "abcd", 0},
    {"watermark kept, then trailers", AB_CD, true, {4, 4, 4, 2}, "H0 D0:ab D0:cd T", "abcd+t", 0},
    {"drop a chunk", AB_CD, false, {2, 5, 2, 2}, "H0 D0:ab D0:cd D1:", "cd", 0},
    {"keep, then drop", AB_CD, false, {2, 4, 5, 2}, "H0 D0:ab D0:cd D1:", "ab", 0},
    {"buffered chunk kept again, trailers", AB_CD, true, {3, 4, 2}, "H0 D0:abcd T", "abcd+t", 0},
    {"the end is kept: nothing could let it go",
     AB_CD,
     false,
     {2, 2, 2, 3},
     "H0 D0:ab D0:cd D1:",
     "abcd",
     500},
    {"the end is dropped", {"ab"}, false, {2, 2, 5}, "H0 D0:ab D1:", "ab", 500},
    {"waits for a body that is not there", NO_BODY, false, {3}, "H1", "", 500},
    {"waits for a body that is not there, watermark", NO_BODY, false, {4}, "H1", "", 500},
};

static const struct flow *flow;
static bool async_mode;
static unsigned step_at;
static char seen[512];

static void note(const char *format, ...) PRINTF_LIKE(1, 2);
static void note(const char *format, ...) {
    size_t at = strlen(seen);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(seen + at, sizeof(seen) - at, format, args);
    va_end(args);
}

static void *continue_later(void *arg) {
    struct go_process_state *state = arg;
    CHECK(envoyGoFilterHttpContinue(state, flow->statuses[step_at++]) == GO_OK);
    return NULL;
}

static uint64_t status_now(struct go_process_state *state) {
    if (!async_mode)
        return (uint64_t)flow->statuses[step_at++];
    fake_goroutine(continue_later, state);
    return GO_RUNNING;
}

static uint64_t on_header(struct go_process_state *state, uint64_t end, uint64_t count,
                          uint64_t bytes) {
    bool trailers = state->state == GO_PROCESSING_TRAILER;
    CHECK(trailers || state->state == GO_PROCESSING_HEADER);
    CHECK(!trailers || end == 1);
    CHECK(count == (trailers ? 1 : 6));
    if (trailers)
        note("%sT", seen[0] ? " " : "");
    else
        note("%sH%d", seen[0] ? " " : "", (int)end);
    return status_now(state);
}

static uint64_t on_data(struct go_process_state *state, uint64_t end, uint64_t handle,
                        uint64_t len) {
    char bytes[64];
    CHECK(state->state == GO_PROCESSING_DATA);
    CHECK(len < sizeof(bytes));
    CHECK(envoyGoFilterHttpGetBuffer(state, handle, bytes) == GO_OK);
    CHECK(envoyGoFilterHttpGetBuffer(state, handle + 1, bytes) == GO_INVALID_PHASE);
    note(" D%d:%.*s", (int)end, (int)len, bytes);
    return status_now(state);
}

static void run_flow(void) {
    struct fake_exchange *fake =
        fake_new(&fake_go.filter, flow->pieces[0] ? flow->pieces : NULL, flow->trailers);
    struct exchange *x = &fake->x;
    unsigned destroys = fake_go.destroys;
    step_at = 0;
    seen[0] = 0;
    char out[256] = "";
    size_t out_len = 0;
    void *self = fake->factory.itab->create(x, &fake->factory);
    CHECK(self);
    fake->factory.itab->request(x, self);
    ssize_t n = exchange_alive(x) ? 1 : -ECANCELED;
    while (n > 0) {
        struct span chunk;
        n = reader_next(x->request.body, 3, &chunk); /* smaller than what Go lets go at once */
        if (n > 0) {
            CHECK(n <= 3 && (size_t)n == chunk.len);
            memcpy(out + out_len, chunk.ptr, chunk.len);
            out_len += chunk.len;
        }
    }
    if (n == 0 && x->request.trailers.count)
        out_len += (size_t)snprintf(out + out_len, sizeof(out) - out_len, "+t");
    out[out_len] = 0;
    if (strcmp(seen, flow->seen) != 0 || strcmp(out, flow->out) != 0 ||
        fake->reply_status != flow->reply) {
        fprintf(stderr, "%s (%s): saw '%s' instead of '%s', out '%s' (%s), reply %u\n", flow->name,
                async_mode ? "async" : "sync", seen, flow->seen, out, flow->out,
                fake->reply_status);
        _exit(99);
    }
    CHECK((n < 0) == (flow->reply != 0));
    fake->factory.itab->log(x, self, FILTER_LOG_END);
    fake->factory.itab->destroy(x, self);
    CHECK(fake_go.destroys == destroys + 1);
    CHECK(fake_go.last_reason == GO_DESTROY_NORMAL);
    fake_free(fake);
}

static void flows_story(void *arg) {
    fake_go_init();
    fake_go.header = on_header;
    fake_go.data = on_data;
    for (int mode = 0; mode < 2; mode++) {
        async_mode = mode == 1;
        for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
            flow = &flows[i];
            run_flow();
        }
    }
    CHECK(fake_go.completes == fake_go.destroys);
    CHECK(fake_go.logs == fake_go.destroys);
    /* A goroutine may be on its way out of its last call yet. */
    STORY_AWAIT(stat_value(go_stats.unfinalized) == 0);
    rt_stop(0);
}

static void every_status_does_what_the_table_says(void **state) {
    story(1, flows_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_does_what_the_table_says),
    };
    return cmocka_run_group_tests(tests, fake_stats_init, NULL);
}
