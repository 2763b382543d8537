/* test_exchange: one request through the proxy, with both of its ends played: the client that sends it and
 * the origin that answers.
 *
 * Ownership  What came is the arena's.
 * Threads    The caller's, which blocks until it is over or too late. */
#pragma once
#include "tool/receiver.h"
#include "tool/test_case.h"
#include "tool/test_proxy.h"

struct test_plan {
    const struct test_case *test;
    const struct test_messages *messages;
    enum test_listener listener;
    bool plainly; /* bodies whole, at once, and nobody leaves */
    int origin;   /* a listening socket that does not block */
    int64_t timeout_ns;
};

enum test_verdict {
    EXCHANGE_OVER,
    EXCHANGE_STUCK, /* no answer in time */
    EXCHANGE_HELD,  /* answered, or the client has left, and still not over in time */
    EXCHANGE_LOST,  /* the proxy has ended */
};

struct test_result {
    struct message request, response;
    bool request_came, request_complete;   /* at the origin; came: its head did */
    bool response_came, response_complete; /* at the client */
    bool client_left;
    const char *bad; /* what came at the client is no HTTP, or NULL */
    uint64_t panics; /* of the filter since it was loaded */
    uint64_t faults; /* likewise, of one in C */
    uint16_t client_port;
};

enum test_verdict test_exchange_run(struct test_proxy *proxy, struct cfg_arena *arena,
                                    const struct test_plan *plan, struct test_result *out);
