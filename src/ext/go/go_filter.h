/* go_filter: the HTTP filter envoy.filters.http.golang, one instance per exchange and configured
 * plugin. go_side.h does one direction of it.
 *
 * Ownership  The instance lives in the exchange's arena, its block (what Go sees) by itself.
 * Threads    The exchange's coroutines. */
#pragma once
#include "ext/go/go_block.h"
#include "ext/go/go_config.h"
#include "ext/go/go_side.h"

extern const struct filter_kind filter_kind_golang;

struct go_filter {
    struct exchange *x;
    const struct filter_factory *factory;
    struct go_config *config;
    struct go_block *block;    /* NULL after destroy */
    struct go_sitting sitting; /* for as long as Go knows it */
    struct ext_past *past;     /* the log phase is to come, go_end.h */
    bool cut;                  /* it took too long: the exchange goes on, and is shown no more */
    bool no_seat;              /* it waited for one in vain, and does not again */
    struct remote_exchange *remote; /* of an isolated library (go_remote.h); else NULL */
    struct go_side sides[2];
};

/* Every call into Go for a stream goes through these: they hold the seat, so that one thread at a
 * time is inside, and refuse once the stream was destroyed.
 *
 * go_filter_begin makes the first entry if need be (seat, merged config, Go's reference), and holds the
 * seat. 0; -ECANCELED when the exchange is over; -ETIMEDOUT when the seat was not to be had in the
 * configured time; -ENOMEM. Parks. */
MUST_CHECK int go_filter_begin(struct go_filter *filter);
/* For a log phase, of an exchange that may be over. At its end nobody waits for a first seat: -ETIMEDOUT. */
MUST_CHECK int go_filter_begin_log(struct go_filter *filter, bool at_end);
/* Gives the seat up without a call (with one: go_sitting_call). */
void go_filter_end(struct go_filter *filter);

/* After an error of go_filter_begin: does the exchange go on without the filter? */
bool go_filter_is_bypassed(const struct go_filter *filter, int err);

/* A reply made by the host, in the filter's name. */
void go_filter_fail(struct go_filter *filter, unsigned status, struct span details);
/* The same for an error of go_filter_begin; nothing when the exchange is over. */
void go_filter_fail_begin(struct go_filter *filter, int err);
/* It has had a side for longer than a phase may take: the exchange is answered or reset, and never seen again but in its
 * log. */
void go_filter_cut(struct go_filter *filter);
/* The plugin's reply, or the one to its panic. */
void go_filter_reply(struct go_filter *filter, const struct ext_reply *reply);
