/* remote_link_internal: what remote_link.c, the life of lanes and their numbers, seats and calls, shares with remote_hear.c,
 * which does with one record of a P's ring what it says. Who may touch what is said in remote_link.c.
 *
 * Hearing is apart from the ring, so that a hostile host process can be played without one. */
#pragma once
#include "ext/remote/port.h"
#include "ext/remote/remote_link.h"
#include "ext/remote/remote_metrics.h"
#include "rt/sync.h"
#include "rt/timer.h"

/* One thread of the host, as all Ps count it. */
struct remote_seat {
    _Alignas(64) _Atomic uint32_t open; /* calls that have not returned */
    _Atomic int64_t since_ns;           /* the oldest of them can have begun then */
};

/* A number of a P's. Free again when the party has left and all of its calls have returned: until then its seat is not. */
struct remote_entry {
    struct remote_party *party; /* NULL: free, or it has left */
    struct go_plugin *plugin;   /* its; also of calls that return when it has left */
    uint32_t uses;
    uint32_t seat;
    uint32_t open; /* calls that have not returned */
    uint32_t next_free;
};

/* One P's end. */
struct remote_lane {
    struct remote_link *link;
    unsigned p;
    bool is_open, broken;
    struct remote_port port;
    struct remote_entry *entries;
    uint32_t entry_count, first_free;
    _Atomic uint64_t streams;
    struct wait_queue returns; /* who waits for a seat */
    struct timer watch;        /* armed while calls are open */
    uint32_t open;             /* calls of this P that have not returned */
    bool pinged;               /* its seat, at ping_at of the ring, since ping_ns */
    uint64_t ping_at;
    int64_t ping_ns;
    uint32_t senders; /* that wait for room */
    struct remote_out scratch;
    char *record; /* a copy of what the host says now */
    size_t record_room;
    struct rt_post open_post, close_post;
};

struct remote_link {
    struct remote_link_options options;
    uint64_t abilities;
    struct remote_shm *shm;
    struct remote_metrics metrics;
    struct remote_seat *seats;
    unsigned p_count;
    _Atomic unsigned users; /* Ps, and the maker */
    _Atomic bool drains;
    struct remote_lane lanes[];
};

/* remote_link.c. The entry of a number that the host says, as long as the lane hears nothing else; NULL: it is over, or
 * there never was one. */
struct remote_entry *remote_lane_entry(const struct remote_lane *lane, uint64_t number);
/* One of its open calls is over. calls: ahead of the loan, which took as long as the first, as far as is known. The entry is
 * free then, if its party has left and this was the last one. */
void remote_lane_call_returned(struct remote_lane *lane, struct remote_entry *entry, unsigned calls,
                               uint64_t took_ns);

/* remote_hear.c. On the lane's P, of a lane that is open and not broken. The record is ours: the host cannot write to it
 * while it is looked at. 0, or -errno: it makes no sense, and its host is to be ended. */
MUST_CHECK int remote_lane_hear(struct remote_lane *lane, uint32_t kind, struct span record);
