/* pipeline: generate, square with several workers, sum; with a deadline for the whole and a way to say
 * "enough" half-way.
 *
 *     numbers ──► numbers channel ──► worker ─┬─► squares channel ──► main
 *                                ├─► worker ─┤
 *                                └─► worker ─┘      enough ◄── main closes it
 *
 * A closed channel is ready for everybody, so closing one is how to tell any number of coroutines to
 * stop. Each waits with select for its own work or for that. */
#include <stdio.h>

#include "base/clock.h"
#include "rt/chan.h"
#include "rt/rt.h"
#include "rt/select.h"
#include "rt/waitgroup.h"

enum { WORKERS = 3, ENOUGH = 1000, DEPTH = 16, PATIENCE_S = 10 };

struct pipeline {
    struct chan *numbers, *squares, *enough;
    struct waitgroup running;
};

/* False when it is enough. */
static bool pass_on(struct pipeline *pl, struct chan *to, int64_t *value) {
    struct select_case cases[] = {
        {.op = SELECT_RECV, .ch = pl->enough},
        {.op = SELECT_SEND, .ch = to, .elem = value},
    };
    return select_wait(cases, 2, RT_FOREVER) == 1 && !cases[1].closed;
}

static void generate(void *arg) {
    struct pipeline *pl = arg;
    for (int64_t i = 1; pass_on(pl, pl->numbers, &i); i++) {
    }
    chan_close(pl->numbers); /* by the only sender: nobody can send on it any more */
    waitgroup_done(&pl->running);
}

static void square(void *arg) {
    struct pipeline *pl = arg;
    int64_t n;
    while (chan_recv(pl->numbers, &n, RT_FOREVER) == 0) {
        n *= n;
        if (!pass_on(pl, pl->squares, &n))
            break;
    }
    waitgroup_done(&pl->running);
}

static void sum(void *arg) {
    (void)arg;
    static struct pipeline pl;
    pl.numbers = chan_new(sizeof(int64_t), DEPTH);
    pl.squares = chan_new(sizeof(int64_t), DEPTH);
    pl.enough = chan_new(1, 0);
    waitgroup_init(&pl.running);
    if (!pl.numbers || !pl.squares || !pl.enough) {
        rt_stop(1);
        return;
    }
    waitgroup_add(&pl.running, 1 + WORKERS); /* before any of them can be done */
    int err = go("generate", generate, &pl);
    for (int i = 0; i < WORKERS && err == 0; i++)
        err = go("square", square, &pl);

    /* Deadlines are absolute: one for everything that follows, however many steps it takes. */
    int64_t deadline_ns = clock_mono_ns() + PATIENCE_S * NS_PER_S;
    int count = 0;
    int64_t total = 0, n;
    while (err == 0 && count < ENOUGH) {
        err = chan_recv(pl.squares, &n, deadline_ns);
        if (err == 0) {
            total += n;
            count++;
        }
    }
    chan_close(pl.enough);
    if (err == 0)
        err = waitgroup_wait(&pl.running, deadline_ns);
    if (err == 0) {
        printf("%d squares\n", count);
        chan_unref(pl.numbers);
        chan_unref(pl.squares);
        chan_unref(pl.enough);
    }
    rt_stop(err == 0 && total > 0 ? 0 : 1);
}

int main(void) {
    return rt_run(&(struct rt_options){0}, sum, NULL) == 0 ? 0 : 1;
}
