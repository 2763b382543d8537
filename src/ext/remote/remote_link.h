/* remote_link: one host process as the proxy's Ps see it: its rings, its seats, and the parties that it has heard of,
 * which are exchanges mostly.
 *
 *      P 0: lane ── exchanges ─┐   ring per seat   ┌─ seat 0: a thread
 *      P 1: lane ── exchanges ─┼──────────────────►├─ seat 1
 *        ▲                     ┘                   └─ ...
 *        └─────────────────── ring per P ◄──────────── any thread of the host
 *
 * Seats      An exchange has one from its first call to its end, as in this process (seat.h). Exchanges share the first one
 *            of their P's, since a thread that is awake anyway costs no wake-up; one whose callback has been going on
 *            for 10 ms gets nothing new, and exchanges of plugins that are known to block have seats for
 *            themselves as long as there are any.
 * Ownership  A link is for one generation of a host (supervisor.h). Its maker holds it until remote_link_close; the last
 *            P frees it. A party leaves before it ends.
 * Threads    remote_link_new, _open, _close: the generation's thread. A lane: its P's coroutines.
 * Trust      A number is looked up in the table of the P whose ring it came by, and a host that says what cannot be is
 *            ended (supervisor_stuck).
 * Limits     REMOTE_STREAMS_MAX parties of a P. */
#pragma once
#include "ext/remote/remote_party.h"
#include "ext/remote/shm.h"

struct log_component;
struct remote_lane;
struct remote_link;
struct supervisor;

enum { REMOTE_STREAMS_MAX = 1 << 24 };

struct remote_link_options {
    struct supervisor *const *
        supervisor BORROWED_BY(link); /* set by the time that the link is open */
    uint64_t generation;
    uint32_t seats;
    int64_t callback_timeout_ns;           /* RT_FOREVER: none */
    const char *library BORROWED_BY(link); /* for the log */
    struct log_component *log BORROWED_BY(program);
    /* Its seats are Ps of a host that runs coroutines, and wait for nothing: a party has its own P's seat, and one is stuck
     * that reads nothing for callback_timeout_ns while calls are open. Else a seat is a thread that a call holds. */
    bool of_coroutines;
    /* Answers REMOTE_CONNECT; NULL: nobody asks for that. */
    void (*connect)(void *arg, struct remote_lane *lane, const struct remote_ask *ask,
                    struct remote_answer *answer, void **memory);
    /* On each P, as a scheduler callback: from now on the lane may be used; it is no more. */
    void (*opened)(void *arg, unsigned p, struct remote_lane *lane);
    void (*closed)(void *arg, unsigned p, struct remote_lane *lane);
    /* Is there such a configuration? Any thread; takes no lock of ours. */
    bool (*knows_config)(void *arg, uint64_t id);
    void *arg BORROWED_BY(link);
};

/* 0 or -errno. */
MUST_CHECK int remote_link_new(const struct remote_link_options *options, struct remote_link **out);
struct remote_shm *remote_link_shm(struct remote_link *link);
/* What its library said of itself (remote_library.h). Before it is open. */
void remote_link_set_abilities(struct remote_link *link, uint64_t abilities);
uint64_t remote_lane_abilities(const struct remote_lane *lane);
uint64_t remote_lane_generation(const struct remote_lane *lane);
/* The process is up: all Ps hear of it. */
void remote_link_open(struct remote_link *link);
/* Another one is current: when the last exchange that this one knows is over, it may end (supervisor_retire). */
void remote_link_drain(struct remote_link *link);
/* The process is gone, and has been reaped: what it said before is done still, then all exchanges that it knows are
 * lost (remote_party.h). Also of a link that was not opened. */
void remote_link_close(struct remote_link *link);
/* A configuration is dropped, of which knows_config says no by now: what the process defined for it is given back. Any
 * thread. */
void remote_link_forget_config(struct remote_link *link, uint64_t id);
/* Requests of the plugin of that name that the library in it has not finalized. Any thread. */
int64_t remote_link_unfinalized(const struct remote_link *link, struct span plugin);
/* Parties that it has heard of, on all Ps. Any thread. */
uint64_t remote_link_streams(const struct remote_link *link);

/* ---- a P's coroutines ---- */

/* A number and a seat for one that has none. 0; -EAGAIN: all seats are blocked; -ENOMEM. */
MUST_CHECK int remote_lane_enter(struct remote_lane *lane, struct remote_party *party, bool wary);
/* The same in a seat that has no call now: -EAGAIN: there is none. */
MUST_CHECK int remote_lane_enter_alone(struct remote_lane *lane, struct remote_party *party);
/* A number without a seat, for one that sends nothing itself. 0 or -ENOMEM. */
MUST_CHECK int remote_lane_enter_unseated(struct remote_lane *lane, struct remote_party *party);
/* The host has been told of its end, or is not to be. */
void remote_lane_leave(struct remote_party *party);
/* Does its seat take calls, as far as is known? */
bool remote_lane_seat_is_free(const struct remote_party *party);
/* Does a debugger hold the host? Reads a file of /proc. */
bool remote_lane_is_debugged(const struct remote_lane *lane);
/* Until a callback has returned. 0, -ETIMEDOUT, -ECANCELED. Whatever comes, look again. Parks. */
MUST_CHECK int remote_lane_await_return(struct remote_lane *lane, int64_t deadline_ns);
/* A message, to its seat. 0; -EPIPE: its host was lost; -EMSGSIZE: it is larger than a record may be; -ECANCELED,
 * -ETIMEDOUT while the ring was full. Parks then. */
MUST_CHECK int remote_lane_send(struct remote_party *party, enum remote_kind kind,
                                struct span payload, int64_t deadline_ns);
/* A call of the party has returned, of which no RESULT tells. False: it has none open, which no host of ours says. */
MUST_CHECK bool remote_lane_returned(struct remote_party *party);
/* The message that was just sent makes two calls: it is answered twice. */
void remote_lane_expect_another(struct remote_party *party);
/* The party that the host speaks of; NULL: it is over, or there never was one. */
struct remote_party *remote_lane_find(const struct remote_lane *lane, uint64_t number);
/* Empty: for one message of who does not park in between. */
struct remote_out *remote_lane_scratch(struct remote_lane *lane);
