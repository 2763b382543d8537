/* select: waits for the first of several channel operations, with Go's semantics.
 *
 * When several can go on, one is chosen at random, each with the same chance: a busy channel does not
 * starve a quiet one. Exactly one operation happens, or none when the call fails.
 *
 * Ownership  Borrows the cases, their channels and elements until the return. The caller holds a
 *            reference on each channel.
 * Threads    Coroutines on any P. Selects over the same channels in any order do not block each other.
 * Limits     SELECT_CASES_MAX cases. A channel may stand in several cases; NULL is never ready. */
#pragma once
#include "rt/chan.h"

enum select_op { SELECT_SEND, SELECT_RECV };
enum { SELECT_CASES_MAX = 64 };

struct select_case {
    enum select_op op;
    struct chan *ch;
    void *elem;  /* read by SELECT_SEND, written by SELECT_RECV (NULL: dropped) */
    bool closed; /* out, of the chosen case: the channel is closed; nothing was sent or received */
};

/* Parks until a case can go on; its index, -ETIMEDOUT or -ECANCELED. Deadlines as in chan.h; with no
 * case that could ever be ready it waits for the deadline. */
MUST_CHECK int select_wait(struct select_case *cases, unsigned count, int64_t deadline_ns);
/* With Go's default clause: never parks, -EAGAIN when no case can go on (at one moment, all of them). */
MUST_CHECK int select_try(struct select_case *cases, unsigned count);
