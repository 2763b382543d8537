/* test_proxy: a proxy that runs one filter, as a process of its own: what the filter does to it is told and
 * no more. It has two listeners with the same route to one origin: with the filter, and without.
 *
 * Ownership  One owned proxy; test_proxy_end ends the process.
 * Threads    The one that started it, which blocks in here. */
#pragma once
#include <poll.h>

#include "config/cfg_arena.h"
#include "ext/host/ext_host.h"

struct test_proxy;

struct test_proxy_options {
    const char *filter; /* JSON: an entry of http_filters */
    const char *log_level;
    uint16_t origin_port;
    const char *notes_format; /* JSON: what to note of each request with the filter; or NULL */
    bool no_probe;            /* it was tried before */
};

/* Returns when it serves. NULL: *why says what is wrong, owned, free(). */
struct test_proxy *test_proxy_start(const struct test_proxy_options *options, char **why);

enum test_listener { TEST_WITH_FILTER, TEST_WITHOUT };
uint16_t test_proxy_port(const struct test_proxy *proxy, enum test_listener which);

/* As ext_host_poll. */
MUST_CHECK int test_proxy_poll(struct test_proxy *proxy, struct pollfd *fds, unsigned count,
                               int64_t deadline_ns);

/* What it knows of the listener with the filter. 0; -EPIPE: it has ended; -ETIMEDOUT. */
struct test_proxy_state {
    uint64_t active; /* requests that are not over */
    uint64_t panics; /* of the filter so far, caught by the SDK */
    uint64_t faults; /* of one in C so far, which ended a call alone */
};
MUST_CHECK int test_proxy_look(struct test_proxy *proxy, int64_t deadline_ns,
                               struct test_proxy_state *out);

/* What it printed since the last test_proxy_forget_log. Borrowed until the next call. */
struct span test_proxy_log(const struct test_proxy *proxy);
void test_proxy_forget_log(struct test_proxy *proxy);

/* What it noted of requests since the last test_proxy_forget_log: lines, the last of which may not be whole. The
 * arena's. */
struct span test_proxy_notes(struct test_proxy *proxy, struct cfg_arena *arena);

/* It ended, or is stuck for stuck_ms: ends it, and says why as ext_host_cause does. Owned, free(). */
char *test_proxy_cause(struct test_proxy *proxy, int64_t stuck_ms);
/* Ends it in peace. False: it did not; *why as test_proxy_cause. proxy is gone. */
bool test_proxy_end(struct test_proxy *proxy, char **why);
