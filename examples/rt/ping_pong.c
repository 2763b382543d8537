/* ping_pong: two coroutines and two channels without a buffer.
 *
 * With capacity 0 sender and receiver meet: when chan_send returns, the ball is in the other's hands. */
#include <stdio.h>

#include "rt/chan.h"
#include "rt/rt.h"

enum { RALLY = 100000 };

struct table {
    struct chan *ping, *pong;
};

/* Holds references of its own: after the close the other side may drop its own at once. */
static void partner(void *arg) {
    struct table *table = arg;
    struct chan *ping = chan_ref(table->ping), *pong = chan_ref(table->pong);
    int ball;
    while (chan_recv(ping, &ball, RT_FOREVER) == 0) {
        ball++;
        if (chan_send(pong, &ball, RT_FOREVER) < 0)
            break;
    }
    chan_close(pong); /* "I have stopped": the one message that needs no element */
    chan_unref(ping);
    chan_unref(pong);
}

static void play(void *arg) {
    (void)arg;
    static struct table table; /* outlives both, as whatever coroutines share must */
    table.ping = chan_new(sizeof(int), 0);
    table.pong = chan_new(sizeof(int), 0);
    if (!table.ping || !table.pong || go("partner", partner, &table) < 0) {
        rt_stop(1);
        return;
    }
    int ball = 0;
    while (ball < RALLY) {
        if (chan_send(table.ping, &ball, RT_FOREVER) < 0 ||
            chan_recv(table.pong, &ball, RT_FOREVER) < 0)
            break;
    }
    chan_close(table.ping);
    while (chan_recv(table.pong, &ball, RT_FOREVER) == 0) {
    }
    printf("%d returns\n", ball);
    chan_unref(table.ping);
    chan_unref(table.pong);
    rt_stop(ball == RALLY ? 0 : 1);
}

int main(void) {
    return rt_run(&(struct rt_options){0}, play, NULL) == 0 ? 0 : 1;
}
