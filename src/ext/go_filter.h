/* go_filter: the HTTP filter envoy.filters.http.golang, one instance per exchange and configured
 * plugin. go_side.h does one direction of it.
 *
 * Ownership  The instance lives in the exchange's arena, its block (what Go sees) by itself.
 * Threads    The exchange's coroutines. */
#pragma once
#include "ext/go_block.h"
#include "ext/go_config.h"
#include "ext/go_side.h"

extern const struct filter_kind filter_kind_golang;

struct go_filter {
    struct exchange *x;
    const struct filter_factory *factory;
    struct go_config *config;
    struct go_block *block; /* NULL after destroy */
    struct seat_table *seats;
    unsigned seat;
    struct go_side sides[2];
};

/* Every call into Go for a stream goes through these two: they hold the seat, so that one thread at a
 * time is inside, and refuse once the stream was destroyed.
 *
 * go_filter_begin makes the first entry if need be (seat, merged config, Go's reference), then
 * takes the seat. 0; -ECANCELED when the exchange is over and must_have is false; -ENOMEM. Parks. */
MUST_CHECK int go_filter_begin(struct go_filter *filter, bool must_have);
/* Runs fn on a thread stack, then gives the seat up. Parks. */
void go_filter_call(struct go_filter *filter, rt_fn fn, void *arg);
/* Gives the seat up without a call. */
void go_filter_end(struct go_filter *filter);

/* A reply made by the host, in the filter's name. */
void go_filter_fail(struct go_filter *filter, unsigned status, struct span details);
/* The plugin's reply, or the one to its panic. */
void go_filter_reply(struct go_filter *filter, const struct ext_reply *reply);
