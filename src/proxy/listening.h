/* listening: the sockets that listen at one address, one per P by SO_REUSEPORT where the kernel and the config allow it,
 * else one that all Ps poll. Listeners come and go with configurations; who listens at an address that stays goes on.
 *
 * Ownership  Counted (atomic): of the manager that has it, and of the coroutines that accept there. It owns its
 *            descriptors; each carries its number, so that a set of them can be handed to another process in order.
 * Threads    listening_open, and what is not marked otherwise: P 0. A listener_fd belongs to its P. */
#pragma once
#include "io/socket.h"
#include "proxy/listener_config.h"
#include "rt/timer.h"

struct listener;
struct listening;
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
    struct listening *listening;
    struct listener *listener; /* leased while open: whose connections they are */
    unsigned p_index;
    int fd;    /* -1: this P has none */
    bool open; /* registered with its P's poller */
    /* Of accept.c: */
    bool storming;          /* a coroutine takes what is in the queue, by turns */
    bool turning_away;      /* and closes it */
    int64_t short_since_ns; /* who is in the queue waits for a descriptor; 0: nobody does */
    int64_t pause_ns;
    int last; /* descriptor that was accepted */
    struct timer retry;
};

struct listening {
    struct listening *next; /* the manager's list */
    _Atomic uint32_t refs;
    struct listener_config
        *config; /* leased: the latest that listens here, and which of its addresses it is */
    unsigned which;
    struct span name;                       /* owned: of the listener that opened it */
    struct address configured;              /* what it was opened for */
    struct address bound;                   /* a port of 0 is resolved */
    const struct listener_sockets *sockets; /* NULL: nobody keeps them */
    unsigned count; /* of descriptors: one for each P, or more that another process had */
    struct listener_fd fds[];
};

/* Binds and listens at an address of config; accepting starts with listening_take. sockets: borrowed for ever, or NULL.
 * NULL and *rc = -errno on error. */
struct listening *listening_open(struct listener_config *config, unsigned which,
                                 const struct listener_sockets *sockets, int *rc);
/* None of its Ps has been told of it: closes the sockets. */
void listening_cancel(struct listening *listening);
struct listening *listening_ref(struct listening *listening);
/* Any thread. */
void listening_unref(struct listening *listening);

/* Whether it is the one for that address of config. */
bool listening_is_for(const struct listening *listening, const struct listener_config *config,
                      unsigned which);
/* NULL: config may listen there with the sockets that there are. Else the name of what it wants otherwise. */
const char *listening_differs(const struct listening *listening,
                              const struct listener_config *config, unsigned which);
/* It is config's from now on. */
void listening_describe(struct listening *listening, struct listener_config *config,
                        unsigned which);

/* On P p_index, as a scheduler callback: what connects to this P's sockets is listener's (leased) from now on. NULL:
 * they close. */
void listening_take(struct listening *listening, unsigned p_index, struct listener *listener);
/* On a P whose overload is over: takes the connections that waited meanwhile. */
void listener_accept_all(struct worker *worker);
