/* trace_page: /debug/pprof/trace?seconds=N, as Go programs offer their execution trace.
 *
 * The coroutine of the request sleeps while the runtime records, then a thread that holds no P writes
 * the file into the page: a few hundred thousand events are a second's work. */
#include <errno.h>

#include "admin/page.h"
#include "base/clock.h"
#include "rt/foreign.h"
#include "rt/rt.h"
#include "rt/trace.h"

enum {
    SECONDS = 1,
    SECONDS_MAX = 60,
    /* Of all Ps together: with 150 bytes an event 75 MiB, which the page holds at once. */
    TRACED_EVENTS_MAX = 512 * 1024,
};

/* False when it is not a number of seconds between 1 and SECONDS_MAX. */
static bool seconds_of(const struct query *query, uint64_t *seconds) {
    struct span text = query_find(query, "seconds");
    *seconds = SECONDS;
    return span_is_none(text) ||
           (span_to_u64(text, seconds) && *seconds >= 1 && *seconds <= SECONDS_MAX);
}

static int put_piece(void *arg, const char *piece, size_t len) {
    struct text *body = arg;
    text_put(body, span_make(piece, len));
    return body->failed;
}

static void write_trace(void *arg) {
    struct text *body = arg;
    if (trace_write(put_piece, body) != 0)
        body->failed = true; /* memory is short: nothing else stops it */
}

void page_trace(const struct query *query, struct page *page) {
    uint64_t seconds;
    if (!seconds_of(query, &seconds)) {
        page_fail(page, 400, "seconds must be between 1 and %d\n", SECONDS_MAX);
        return;
    }
    unsigned per_p = TRACED_EVENTS_MAX / rt_p_count();
    if (trace_start(per_p < TRACE_EVENTS ? per_p : TRACE_EVENTS) < 0) {
        page_fail(page, 409, "another trace is being taken, or memory is short\n");
        return;
    }
    int64_t end_ns = clock_mono_ns() + (int64_t)seconds * NS_PER_S;
    int waited = page_wait("while a trace is taken", end_ns);
    if (trace_stop() < 0 || waited < 0 || blocking_call(write_trace, &page->body) < 0) {
        (void)trace_write(NULL, NULL); /* nobody would read it, or no thread could be had */
        page_fail(page, 503, "no trace could be written\n");
        return;
    }
    page->content_type = content_type_json;
}
