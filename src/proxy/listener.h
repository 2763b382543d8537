/* listener: listening sockets, for each address one per P by SO_REUSEPORT where the kernel and the config allow it,
 * else one that all Ps poll.
 *
 * Ownership  A listener owns its descriptors; each carries the index of its P, so that a set of them
 *            can be handed to another process in order.
 * Threads    listener_open off the Ps or on one; accepting happens on each P; listener_stop posts
 *            to them. */
#pragma once
#include "base/stats.h"
#include "io/socket.h"
#include "proxy/connection_info.h"
#include "proxy/connection_limit.h"
#include "proxy/quota.h"
#include "proxy/snapshot.h"
#include "rt/timer.h"

struct listener_stats { /* listener.<address>.* */
    struct statistic *cx_total, *cx_active, *cx_destroy, *cx_overflow, *cx_length_ms,
        *cx_overload_reject, *global_cx_overflow;
    /* Of connections whose filter chain is not chosen yet, or for which there is none. */
    struct statistic *pre_cx_active, *pre_cx_timeout, *no_filter_chain_match;
    struct statistic *cx_transport_connect_timeout;
    struct statistic *cx_memory_limit;  /* not opened because of the quota */
    struct statistic *cx_no_descriptor; /* turned away for want of a descriptor */
    struct statistic *cx_descriptor_wait, *cx_descriptor_close;
    struct statistic *rq_memory_limit; /* requests answered with 503 because of the quota */
    struct statistic *rq_memory_wait;  /* that waited for it */
    struct statistic *rq_memory_evicted, *memory_bytes;
};

struct listener;
struct worker;

/* Listening sockets that outlive this process, because another one keeps them, too: who connects while nobody accepts
 * waits. They are told apart by their listener's name, its address as configured, and numbers from 0 among those of one
 * address. */
struct listener_sockets {
    /* One more than the highest number there is; 0: there is none. */
    unsigned (*count)(struct span name, const struct address *address);
    /* Transferred; -ENOENT: there is none of that number. */
    int (*take)(struct span name, const struct address *address, unsigned number);
    /* One was made, fd borrowed; one is not listened on any more. Any thread. */
    void (*opened)(struct span name, const struct address *address, unsigned number, int fd);
    void (*closed)(struct span name, const struct address *address, unsigned number);
};

struct listener_fd {
    struct socket socket; /* while open */
    struct list node;     /* of its worker's listeners, while open */
    struct listener *listener;
    unsigned p_index;
    unsigned which, number; /* of the listener's addresses; among those of that */
    int fd;                 /* -1: this P has none */
    bool open;              /* registered with its P's poller */
    /* Of accept.c: */
    bool storming;          /* a coroutine takes what is in the queue, by turns */
    bool turning_away;      /* and closes it */
    int64_t short_since_ns; /* who is in the queue waits for a descriptor; 0: nobody does */
    int64_t pause_ns;
    int last; /* descriptor that was accepted */
    struct timer retry;
};

struct listener {
    char name[128];            /* the configured name, else the address */
    struct address *addresses; /* as bound: a port of 0 is resolved; owned */
    unsigned address_count;
    bool has_one_port;                   /* all of them have the same */
    char address_text[ADDRESS_TEXT_MAX]; /* of the first one */
    const struct listener_config *config;
    struct connection_info undecided; /* shared by connections whose filter chain is not chosen */
    const struct connection_info *first; /* what is known of a new one: that, or its chain */
    bool is_plain; /* all are served with one chain, an HTTP connection manager and nothing else */
    bool bypass_overload;
    struct snapshot *snapshot; /* leased; NULL for the admin's */
    struct listener_stats stats;
    struct quota *quota;             /* NULL: no limit; lives as long as the process */
    struct connection_limit *limit;  /* likewise */
    struct connection_limit *global; /* of the process, borrowed; NULL: it is not counted there */
    bool ignores_global;             /* it counts there, without being held to it */
    uint32_t accepts_per_turn;
    bool is_admin;
    const struct listener_sockets *sockets; /* NULL: nobody keeps them */
    unsigned
        count; /* of descriptors: for each address one for each P, or more that another process had */
    struct listener_fd fds[];
};

#define LISTENER_UNLIMITED UINT64_MAX

struct listener_options {
    const struct listener_config *config; /* borrowed of the snapshot, or for ever */
    struct snapshot *snapshot;            /* is leased; NULL: the admin's */
    struct connection_limit *global;
    bool ignores_global;
    const struct listener_sockets *sockets; /* borrowed for ever; NULL: nobody keeps them */
};

/* Binds and listens; accepting starts with listener_start. NULL and *rc = -errno on error; where: the address that it
 * was about. */
struct listener *listener_open(const struct listener_options *options, int *rc,
                               char where[ADDRESS_TEXT_MAX]);
/* Inside rt_run: each P begins to accept. */
void listener_start(struct listener *listener);
/* On a P whose overload is over: takes the connections that waited meanwhile. */
void listener_accept_all(struct worker *worker);
/* Each P stops accepting and closes its descriptor; the listener itself stays for the process's
 * life, because connections refer to its stats. */
void listener_stop(struct listener *listener);
/* A connection of it ended, on whichever P. */
void listener_leave(const struct listener *listener);
