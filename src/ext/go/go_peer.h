/* go_peer: a connection as a Go library knows it: a client's, which a network filter looks at, or one that the plugin
 * asked for.
 *
 *     Go, any thread                                  the connection's P
 *     Write, Close ── copied, in order ──► queue ──► coroutine "go peer" ──► struct go_peer_itab
 *     Info, filter state: answered in place                 │
 *     ◄── OnData, OnWrite, OnEvent: one at a time ──────────┴── and whoever reads the connection
 *
 * Ownership  Go has the address of a loan (mem/loan.h) until its collector gives that back, which may be minutes after
 *            the connection's end. A go_peer is reached from there by a handle, as long as the connection
 *            lives; it is freed by whoever is at work with it last.
 * Threads    The connection's P, but for go_peer_find .. go_peer_leave and what is called in between: any.
 * Order      announced ─► calls ─► the event of the end, once ─► nothing. What Go asks for after the end is
 *            answered GO_FILTER_IS_DESTROYED, after it gave the address back GO_FILTER_IS_GONE.
 * Limits     GO_PEER_QUEUE_MAX of what Go wrote and was not taken: the connection is broken off then. Before,
 *            from GO_PEER_QUEUE_HIGH on, whoever made the plugin write reads no more until it is
 *            down to GO_PEER_QUEUE_LOW, if that is known: who wrote did it in a callback and not in
 *            a goroutine. */
#pragma once
#include <pthread.h>

#include "ext/go/go_plugin.h"
#include "io/address.h"
#include "mem/loan.h"
#include "rt/rt.h"
#include "rt/sync.h"

struct filter_state;
struct go_peer;

enum {
    GO_PEER_QUEUE_HIGH = 256 << 10,
    GO_PEER_QUEUE_LOW = 64 << 10,
    GO_PEER_QUEUE_MAX = 64 << 20,
    GO_PEERS_MAX = 1 << 20, /* connections that Go has not given back */
};

/* What Go has the address of. Written before Go knows it, then constant. */
struct go_lent_peer {
    uint64_t handle; /* of the go_peer, in ext_handles */
    bool is_upstream;
    uint32_t unfinalized; /* slot of the plugin's gauge */
    struct go_peer_info {
        size_t len;
        char text[ADDRESS_TEXT_MAX];
    } info[2]; /* by enum go_peer_end */
};
enum go_peer_end { GO_PEER_LOCAL = 0, GO_PEER_REMOTE = 1 };

extern struct loan_pool go_lent_peers;

/* Numbers of the SDK. */
enum go_close_type {
    GO_CLOSE_FLUSH = 0,
    GO_CLOSE_NO_FLUSH = 1,
    GO_CLOSE_FLUSH_AND_DELAY = 2,
    GO_CLOSE_ABORT = 3,
    GO_CLOSE_RESET = 4,
};
enum go_peer_event { GO_PEER_REMOTE_CLOSE = 0, GO_PEER_LOCAL_CLOSE = 1, GO_PEER_CONNECTED = 2 };
enum go_network_status { GO_NETWORK_CONTINUE = 0, GO_NETWORK_STOP = 1 };

struct go_peer_itab {
    /* Until bytes and end are with the connection. 0, or not: what Go writes from then on is dropped. Parks. */
    int (*write)(void *owner, struct span bytes, bool end);
    /* Parks. The owner sees to it that go_peer_end follows. */
    void (*close)(void *owner, enum go_close_type type);
    /* Nothing is waited for any more by a write: NO_FLUSH and harder are waiting behind it. */
    void (*hurry)(void *owner);
    /* Nobody is there any more who could be told anything, or could write: remote_peer.h. A scheduler callback. The owner
     * sees to it that go_peer_end follows, or goes on without the plugin. */
    void (*lost)(void *owner);
    /* Behind it: what of that needs a coroutine, the peer's own. May be NULL. Parks. */
    void (*settle)(void *owner);
};

struct go_command;
struct go_far_peer;
struct go_waiter;
struct remote_peer;

struct go_peer {
    pthread_mutex_t lock;
    /* Under the lock. */
    bool closed;      /* nothing is taken any more */
    bool posted;      /* post is on its way */
    bool half_closes; /* EnableHalfClose */
    bool broken;      /* what Go wrote could not be queued */
    bool
        hard; /* broken, or a close is queued that does not wait for room. Then hard_post was posted */
    struct go_command *first, *last;
    size_t queued; /* bytes of commands, the one that is being done included */
    struct go_waiter *waiters;
    struct filter_state *state; /* of the client's connection; NULL: none */
    struct go_counts counts;    /* that the P has not taken yet */
    /* Constant once it is lent. */
    struct go_far_peer *far;  /* in a host process: the connection is in the proxy (host_peer.h) */
    struct go_plugin *plugin; /* of an upstream: whose callback asked for it, if it was one */
    int64_t seat_wait_ns;
    struct loan loan;
    struct go_lent_peer *lent; /* valid until the end; NULL: there was no more to be had */
    uint64_t handle;
    unsigned p_index;
    struct rt_post post, hard_post;
    /* The P's. */
    struct remote_peer *remote; /* the library is in a host process (remote_peer.h) */
    const struct go_peer_itab *itab;
    void *owner;       /* NULL: it has ended */
    struct g *g;       /* "go peer"; NULL before and after */
    bool is_writing;   /* it is in itab->write or itab->close */
    bool write_failed; /* or ended */
    bool known;        /* Go has its address */
    bool announced;    /* and has it in its map */
    bool ended, reset; /* reset: it was told to close since it is broken */
    bool lost, settled;
    int64_t end_event;
    struct comutex calls; /* into Go */
    struct doing doing;   /* of "go peer" */
    struct wait_queue
        write_ends; /* who waits for is_writing to be false, or for the queue to be empty */
};

/* ---- the connection's P ---- */

/* With a handle, but without a coroutine. Nobody knows its address yet: fill in lent->info, then go_peer_start, or
 * go_peer_drop. shard: STATS_SHARD_FOREIGN away from Ps. NULL when memory is short. */
struct go_peer *go_peer_new(struct go_plugin *plugin, bool is_upstream, unsigned p_index,
                            unsigned shard);
/* Commands are done from here on. -ENOMEM: go_peer_drop. */
MUST_CHECK int go_peer_start(struct go_peer *peer, const struct go_peer_itab *itab,
                             void *owner BORROWED_BY(peer));
/* Instead of go_peer_end, of one that was not started, without any more word to Go. */
void go_peer_drop(struct go_peer *peer);
/* The owner is no more, nor what it wrote to (go_peer_stop_writing): commands are dropped and refused, and if it was
 * announced, Go is told by the peer's own coroutine, which then ends it. Never parks. */
void go_peer_end(struct go_peer *peer, int64_t event);

/* Its host process is gone. On the P; the owner may have ended when it returns. Never parks. */
void go_peer_lose(struct go_peer *peer);

/* What Go has queued is written, as far as that goes until deadline_ns. Parks. */
void go_peer_flush(struct go_peer *peer, int64_t deadline_ns);
/* A write that is going on is broken off. Parks until it is, whoever cancels. */
void go_peer_stop_writing(struct go_peer *peer);
/* The same without waiting. */
void go_peer_cut_writing(struct go_peer *peer);

/* For a seat. */
enum go_peer_patience {
    GO_PEER_AS_CONFIGURED, /* seat_wait_ns, then -ETIMEDOUT */
    GO_PEER_UNTIL_CANCELLED,
    GO_PEER_SURELY, /* it is made whoever cancels */
};

enum go_peer_call_kind {
    GO_CALL_CONNECTION,
    GO_CALL_DATA,
    GO_CALL_WRITE,
    GO_CALL_EVENT,
    GO_CALL_READY,
    GO_CALL_FAILURE,
    GO_CALL_UPSTREAM_DATA,
    GO_CALL_UPSTREAM_EVENT,
};

/* A call into Go. */
struct go_peer_call {
    enum go_peer_call_kind kind;
    struct go_peer *peer;
    enum go_peer_patience patience;
    const uint64_t *slices; /* pairs of address and length */
    int64_t slice_count;
    uint64_t size;
    bool end;
    int64_t number;   /* an event, a reason */
    uint64_t conn_id; /* of an upstream */
    uint64_t config_id;
    uint64_t status; /* what it returned */
    uint64_t full;   /* handle of a peer that it wrote too much to; 0: none */
};
/* Of a peer that is announced, or with GO_PEER_SURELY. 0; -ECANCELED, -ETIMEDOUT: it was not made; -EPIPE: there is no
 * host process to make it in, or that ended over it. Parks. */
MUST_CHECK int go_peer_call(struct go_peer *peer, struct go_peer_call *call);
/* Waits until what the call filled has room again. 0 or -ECANCELED. Parks. */
MUST_CHECK int go_peer_wait_for_room(const struct go_peer_call *call);
/* Makes it, here and now: the library's function. On a thread stack, or in a host process. */
void go_peer_call_make(struct go_peer_call *call);

static inline bool go_peer_half_closes(struct go_peer *peer) {
    pthread_mutex_lock(&peer->lock);
    bool yes = peer->half_closes;
    pthread_mutex_unlock(&peer->lock);
    return yes;
}

/* ---- any thread: for the exports ---- */

struct go_peer_visit {
    struct loan loan;
    struct go_lent_peer *lent;
    struct go_peer *peer; /* leased and locked; NULL: the connection has ended */
};
/* The peer that Go knows by this address. GO_OK, with the peer or without; GO_FILTER_IS_GONE: there is none. */
MUST_CHECK int go_peer_find(const void *address, bool is_upstream, struct go_peer_visit *visit);
/* Returns code. */
int go_peer_leave(struct go_peer_visit *visit, int code);

/* Copies it to the queue. GO_OK, GO_FILTER_IS_DESTROYED or GO_INTERNAL_FAILURE. */
MUST_CHECK int go_peer_write_locked(struct go_peer *peer, struct span bytes, bool end);
MUST_CHECK int go_peer_close_locked(struct go_peer *peer, int type);
/* GO_OK or GO_FILTER_IS_DESTROYED. */
MUST_CHECK int go_peer_half_close_locked(struct go_peer *peer, bool enable);
/* Whose call is going on on this thread, borrowed until that returns; NULL: none. Only what
 * is constant of it may be looked at. */
const struct go_peer *go_peer_here(void);

/* Of the call that is going on on this thread: it wrote more to this peer than that takes at once. */
void go_peer_note_full(uint64_t handle);

/* ---- for what a host process writes, in parts ---- */

/* Room for that much, owned by the caller, and counted as queued from now on; NULL: it is too much, or memory is short, and
 * the connection is broken off. */
MUST_CHECK struct go_command *go_peer_begin_write_locked(struct go_peer *peer, size_t len);
char *go_peer_write_room(struct go_command *command);
/* It is queued: transferred. */
void go_peer_end_write_locked(struct go_peer *peer, struct go_command *command, bool end);
/* It is not: freed. NULL is none. */
void go_peer_forget_write(struct go_command *command);
extern const char go_peer_key[]; /* of its handle */

/* Idempotent; before the first configuration. Any thread. 0 or -ENOMEM. */
MUST_CHECK int go_peers_init(void);

struct go_peer_stats {
    struct statistic *unfinalized;                      /* gauge: golang.unfinalized_connections */
    struct statistic *overflows;                        /* golang.network.write_overflow */
    struct statistic *upstream_total, *upstream_active; /* golang.network.upstream_cx_* */
    struct statistic *upstream_failed;
    /* Connections of clients whose host process was lost: closed, and those that went on without the plugin. */
    struct statistic *lost_closed, *lost_open; /* golang.network.host_lost_* */
};
extern struct go_peer_stats go_peer_stats;
