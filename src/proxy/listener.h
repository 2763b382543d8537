/* listener: listening sockets, one per P by SO_REUSEPORT where the kernel and the config allow it,
 * else one that all Ps poll.
 *
 * Ownership  A listener owns its descriptors; each carries the index of its P, so that a set of them
 *            can be handed to another process in order.
 * Threads    listener_open off the Ps or on one; accepting happens on each P; listener_stop posts
 *            to them. */
#pragma once
#include "base/stats.h"
#include "io/address.h"
#include "proxy/snapshot.h"
#include "rt/poll.h"

struct listener_stats { /* listener.<address>.* */
    struct statistic *cx_total, *cx_active, *cx_destroy, *cx_overflow, *cx_length_ms;
};

struct listener;

struct listener_fd {
    struct poll_fd pd;
    struct listener *listener;
    unsigned p_index;
    int fd;    /* -1: this P has none */
    bool open; /* registered with its P's poller */
};

struct listener {
    char name[128];         /* the configured name, else the address */
    struct address address; /* as bound: a port of 0 is resolved */
    char address_text[ADDRESS_TEXT_MAX];
    const struct hcm *hcm;
    struct snapshot *snapshot; /* leased; NULL for the admin's */
    struct listener_stats stats;
    bool is_admin;
    unsigned count;
    struct listener_fd fds[];
};

/* Binds and listens; accepting starts with listener_start. NULL and *rc = -errno on error.
 * cfg may be NULL (the admin). */
struct listener *listener_open(const struct address *address, const struct cfg_listener *cfg,
                               const struct hcm *hcm, struct snapshot *snapshot, int *rc);
/* Inside rt_run: each P begins to accept. */
void listener_start(struct listener *listener);
/* Each P stops accepting and closes its descriptor; the listener itself stays for the process's
 * life, because connections refer to its stats. */
void listener_stop(struct listener *listener);
