/* seat: a place in an extension where one thread at a time may be. What runs there is serialised: the
 * Go SDK keeps one unlocked map per worker_id, a lua_State or a Wasm store has one stack.
 *
 *   P 0: seat 0 1 2 3     P 1: seat 4 5 6 7     ...    worker_id = P * SEATS_PER_P + number
 *
 * Every P has its own seats, so their state needs no lock. A stream takes a seat at its first entry
 * and keeps it for life. A callback that blocks keeps its seat; its P is handed on, and streams that
 * come then find another seat free. With all of them blocked, new ones wait behind the least loaded.
 * SEATS_PER_P is what the host multiplies announced concurrency by: 4 lets three filters of a P be
 * stuck before a request waits, and plugins that keep memory per worker still pay for few.
 *
 * Threads  A seat_table belongs to one P.
 * Parks    seat_lock. */
#pragma once
#include "rt/sync.h"

enum { SEATS_PER_P = 4 };

struct seat {
    struct comutex mutex;
    uint32_t streams; /* bound to it */
};

struct seat_table {
    struct seat seats[SEATS_PER_P];
};

void seat_table_init(struct seat_table *table);

/* The first free seat, else the one with the fewest streams. Gives the seat's number back with
 * seat_unbind. */
unsigned seat_bind(struct seat_table *table);
void seat_unbind(struct seat_table *table, unsigned number);

/* 0, or -ECANCELED and the seat is not held. With must_have the coroutine's cancellation does not
 * keep it from getting the seat (the end of a stream has to be told to the extension); it is
 * cancelled again afterwards. *waited tells whether the seat was busy. */
MUST_CHECK int seat_lock(struct seat_table *table, unsigned number, bool must_have, bool *waited);
void seat_unlock(struct seat_table *table, unsigned number);
