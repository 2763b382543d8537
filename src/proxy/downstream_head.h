/* downstream_head: a head that comes in pieces.
 *
 *     serving ──a part of a head, and nothing more──► kept ──a line, an end, too much──► serving
 *                                                     │  ▲
 *                                                     └──┘ bytes
 *
 * Meanwhile the connection has no coroutine, no stack and no block: it holds its bytes, an eighth more at
 * most, and some 60 bytes of bookkeeping. So a client that sends a head byte by byte, or half of one and
 * nothing for minutes, pins what it has sent.
 *
 * Ownership  Of the connection while it is kept (downstream.head), of what serves it then (serving.head).
 * Threads    The connection's P. Nothing parks. */
#pragma once
#include "proxy/downstream.h"

/* What becomes of a kept head without its end being there. */
enum head_verdict {
    HEAD_MAY_COME,
    HEAD_IS_LATE,   /* its time is over */
    HEAD_GIVES_WAY, /* to those who wait for memory */
    HEAD_IS_LOST,   /* there was no memory to keep it */
};

struct partial_head {
    struct downstream *downstream;
    struct list node; /* downstream_wait.c's: of its purse's heads */
    int64_t since_ns, deadline_ns;
    uint32_t len, cap;
    uint32_t charged; /* to the listener's quota, while listener filters look at it */
    uint8_t verdict;  /* enum head_verdict */
    uint8_t looks;    /* how often a coroutine looked at it */
    bool begun;       /* not only empty lines so far */
    char bytes[];
};

/* Appends bytes of a connection that listener filters look at to what is kept; *at NULL: begins to keep. The listener's
 * quota is charged for them. -ENOMEM: nothing has changed. -ENOBUFS: the quota is used up; it is to be closed. */
MUST_CHECK int downstream_head_append(struct downstream *d, struct partial_head **at,
                                      struct span bytes);
/* What is kept of it is charged otherwise from now on. */
void downstream_head_uncharge(struct partial_head *head);
/* Moves the unused bytes of s->in to s->head, for as long as nothing comes: deadline_ns, which is not moved
 * by later pieces. -ENOMEM. */
MUST_CHECK int downstream_head_keep(struct serving *s, int64_t deadline_ns);
/* And back; the head stays, for a deadline and a verdict. -ENOMEM. */
MUST_CHECK int downstream_head_resume(struct serving *s, struct arena *arena);
/* Takes what has come for d, whose head is kept. True: a coroutine is to look at it. */
MUST_CHECK bool downstream_head_receive(struct downstream *d);
void downstream_head_free(struct partial_head *head);
