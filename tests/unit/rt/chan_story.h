/* chan_story: what the stories about channels and about select share. */
#pragma once
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>

#include "rt/chan.h"
#include "rt_story.h"

static inline struct chan *new_chan(uint32_t capacity) {
    struct chan *ch = chan_new(sizeof(int), capacity);
    CHECK(ch);
    return ch;
}

static inline int send_int(struct chan *ch, int value) {
    return chan_send(ch, &value, story_soon());
}

static inline int try_send_int(struct chan *ch, int value) {
    return chan_try_send(ch, &value);
}

/* The next element. */
static inline int recv_int(struct chan *ch) {
    int value;
    CHECK(chan_recv(ch, &value, story_soon()) == 0);
    return value;
}

/* Lets every other coroutine of this P run until it waits. Only for stories on one P. */
static inline void let_others_park(void) {
    for (int i = 0; i < 3; i++)
        rt_yield();
}

/* A ledger of numbered things, each of which must be sent once and received once. */
enum { LEDGER_MAX = 1 << 16 };
struct ledger {
    _Atomic uint8_t sent[LEDGER_MAX], received[LEDGER_MAX];
    _Atomic int next;
};

static inline int ledger_issue(struct ledger *ledger) {
    int number = atomic_fetch_add(&ledger->next, 1);
    CHECK(number < LEDGER_MAX);
    return number;
}

static inline void ledger_sent(struct ledger *ledger, int number) {
    CHECK(atomic_fetch_add(&ledger->sent[number], 1) == 0);
}

static inline void ledger_received(struct ledger *ledger, int number) {
    CHECK(number >= 0 && number < LEDGER_MAX);
    CHECK(atomic_fetch_add(&ledger->received[number], 1) == 0);
}

/* How many were exchanged, after all have stopped. */
static inline int ledger_balance(struct ledger *ledger) {
    int exchanged = 0;
    for (int i = 0; i < atomic_load(&ledger->next); i++) {
        CHECK(ledger->sent[i] == ledger->received[i]);
        exchanged += ledger->sent[i];
    }
    return exchanged;
}
