/* downstream_wait: who may be served when memory is short.
 *
 * Two things make a connection wait: its listener's quota is used up, or the memory limit of the process is
 * near (OVERLOAD_HOLD_REQUESTS). Both queues are first in, first out, and per P. Time limits both: a request
 * that was not admitted within DOWNSTREAM_WAIT_MS, or what its listener says of its own limit, is answered with
 * 503, from what of its head has arrived.
 * That takes two blocks for a moment, which nobody is charged for: it is done without waiting for anything,
 * so it is one connection at a time on each P.
 *
 * No deadlock  Memory is waited for only by connections that hold none. An exchange that was admitted has
 *              been charged all the blocks that it can come to hold, so it never waits for another:
 *
 *                  arena, first block        1     body of the request    + 1
 *                  head of the request       1     body of the response   + 1
 *                  head of the response      1                            ─────
 *                                                                         5 = DOWNSTREAM_CHARGE
 *
 *              A body of any length goes through its one block: the next bytes are read once those before
 *              were written, which is what holds back the sender. What an arena takes beyond its first
 *              block (large heads, many changes to fields) cannot wait either. It is taken from what is
 *              left, and where nothing is, the allocation fails, and with it that exchange.
 *              A filter that gathers a whole body (exchange_charge) is the one that holds something and
 *              waits for more; two of them may wait for each other. So it waits for as long as a request
 *              does, and then its exchange fails. It has shown nothing of the body to anybody yet.
 * Bound        So what a listener holds is bounded by its quota, plus on each P the two blocks of a
 *              connection that is being refused, and one block of each exchange that must say why it failed.
 * Slow heads   10,000 clients that send a byte now and then would each hold a charge for as long as the
 *              head's timeout lasts, minutes by default. A head that has been coming for longer than
 *              DOWNSTREAM_HEAD_MS gives way, oldest first, as soon as somebody waits: one for each that
 *              waits. It is answered with 503. Without anybody who waits it is left alone.
 *
 * Rejected     Counting blocks as they are taken, and letting exchanges wait for their next one: each holds
 *              what another waits for. A time limit on that wait saves it from a deadlock, but then either
 *              the limit is exceeded or responses are cut off in the middle.
 *              Coroutines that park here: a stack each, at the very time when memory is short. */
#include "proxy/downstream_wait.h"

#include <errno.h>

#include "base/clock.h"
#include "proxy/downstream_head.h"
#include "proxy/listener.h"
#include "rt/sync.h"

enum { DOWNSTREAM_POLL_MS = 10 };
#define HEAD_NS (DOWNSTREAM_HEAD_MS * NS_PER_MS)

/* ---- waiting ---- */

static struct quota_purse *purse_of(const struct downstream *d) {
    struct quota *quota = d->info->listener->quota;
    return quota ? &quota->purses[d->p_index] : NULL;
}

/* Of one that has a purse. */
static int64_t quota_wait_ns(const struct downstream *d) {
    return d->info->listener->config->memory_wait_ns;
}

/* With what listener filters have kept of it, if anything. */
static void wait_in(struct serving *s, struct list *queue, int64_t wait_ns) {
    struct downstream *d = s->downstream;
    d->state = DOWNSTREAM_WAITING;
    d->head = s->head;
    s->head = NULL;
    list_remove(&d->node);
    list_push_back(queue, &d->node);
    timer_arm(&d->idle_timer, rt_now_ns() + wait_ns);
}

void downstream_wait_leave(struct downstream *d) {
    if (d->state != DOWNSTREAM_WAITING)
        return;
    d->state = d->head ? DOWNSTREAM_HEAD : DOWNSTREAM_IDLE;
    list_remove(&d->node);
    list_push_back(&worker_at(d->p_index)->downstreams, &d->node);
    struct quota_purse *purse = purse_of(d);
    if (d->waits_for_quota && --purse->waiting_count == 0)
        quota_starve(purse, false);
}

static void serve_now(struct downstream *d) {
    downstream_wait_leave(d);
    downstream_start_serving(d);
}

void downstream_wait_over(struct downstream *d) {
    d->refuse = d->waits_for_quota ? REFUSE_QUOTA : REFUSE_OVERLOAD;
    serve_now(d);
}

static struct downstream *first_of(struct list *queue) {
    return container_of(queue->next, struct downstream, node);
}

void downstream_release_held(struct worker *worker) {
    while (!list_is_empty(&worker->held))
        serve_now(first_of(&worker->held));
}

/* ---- the quota ---- */

static bool charge(struct downstream *d, int64_t bytes) {
    if (!quota_take(purse_of(d), bytes))
        return false;
    stat_add(d->info->listener->stats.memory_bytes, d->p_index, bytes);
    return true;
}

static void give_back(struct downstream *d, int64_t bytes) {
    stat_add(d->info->listener->stats.memory_bytes, d->p_index, -bytes);
    quota_give(purse_of(d), bytes);
}

bool downstream_charge_stream(struct downstream *d) {
    if (!purse_of(d))
        return true;
    d->charged = charge(d, DOWNSTREAM_STREAM_CHARGE);
    return d->charged;
}

void downstream_release_stream(struct downstream *d) {
    if (d->charged)
        give_back(d, DOWNSTREAM_STREAM_CHARGE);
    d->charged = false;
}

bool downstream_charge_bytes(struct downstream *d, uint32_t bytes) {
    return charge(d, bytes);
}

void downstream_release_bytes(struct downstream *d, uint32_t bytes) {
    give_back(d, bytes);
}

void downstream_quota_room(struct quota_purse *purse) {
    while (!list_is_empty(&purse->waiting)) {
        struct downstream *d = first_of(&purse->waiting);
        if (!charge(d, DOWNSTREAM_CHARGE))
            return;
        d->charged = true;
        serve_now(d);
    }
}

static void relieve(struct quota_purse *purse);

static void relieve_later(struct timer *timer) {
    relieve(container_of(timer, struct quota_purse, timer));
}

/* Somebody waits: heads that have been coming for long enough give way. */
static void relieve(struct quota_purse *purse) {
    struct list *next;
    uint32_t spared = purse->evicting;
    for (struct list *at = purse->heads.next; at != &purse->heads; at = next) {
        next = at->next;
        struct partial_head *head = container_of(at, struct partial_head, node);
        if (head->verdict == HEAD_GIVES_WAY)
            continue;
        if (spared >= purse->waiting_count)
            return;
        if (rt_now_ns() - head->since_ns < HEAD_NS) {
            timer_init(&purse->timer, relieve_later);
            timer_arm(&purse->timer, head->since_ns + HEAD_NS);
            return;
        }
        head->verdict = HEAD_GIVES_WAY;
        purse->evicting++;
        spared++;
        if (head->downstream->state == DOWNSTREAM_HEAD) /* else a coroutine is on the way to look */
            downstream_start_serving(head->downstream);
    }
}

void downstream_head_waits(struct partial_head *head) {
    struct quota_purse *purse = purse_of(head->downstream);
    if (!purse || list_is_linked(&head->node))
        return;
    list_push_back(&purse->heads, &head->node);
    if (purse->waiting_count && !timer_is_armed(&purse->timer))
        relieve(purse);
}

void downstream_head_leaves(struct partial_head *head) {
    if (!list_is_linked(&head->node))
        return;
    list_remove(&head->node);
    if (head->verdict == HEAD_GIVES_WAY)
        purse_of(head->downstream)->evicting--;
}

static bool admit_to_quota(struct serving *s) {
    struct quota_purse *purse = s->purse;
    if (s->head)
        downstream_head_uncharge(
            s->head); /* who waits holds nothing, and who does not is charged for all */
    if (list_is_empty(&purse->waiting) && charge(s->downstream, DOWNSTREAM_CHARGE)) {
        s->downstream->charged = true;
        return true;
    }
    stat_inc(s->downstream->info->listener->stats.rq_memory_wait, s->worker->index);
    s->downstream->waits_for_quota = true;
    wait_in(s, &purse->waiting, quota_wait_ns(s->downstream));
    purse->waiting_count++;
    quota_starve(purse, true);
    if (!timer_is_armed(&purse->timer))
        relieve(purse);
    downstream_quota_room(purse); /* what came before others could see that we starve */
    return false;
}

/* Polls: who waits here is a filter in the middle of a body, rare, and behind all that wait for a charge. */
int downstream_charge_more(struct serving *s, size_t bytes) {
    int64_t until_ns = rt_now_ns() + quota_wait_ns(s->downstream);
    while (!charge(s->downstream, (int64_t)bytes)) {
        if (rt_now_ns() >= until_ns) {
            stat_inc(s->downstream->info->listener->stats.rq_memory_limit, s->worker->index);
            return -ENOMEM;
        }
        int rc = rt_sleep_until(rt_now_ns() + DOWNSTREAM_POLL_MS * NS_PER_MS);
        if (rc == -ECANCELED)
            return rc;
    }
    return 0;
}

void downstream_give_more(struct serving *s, size_t bytes) {
    give_back(s->downstream, (int64_t)bytes);
}

/* ---- admitting ---- */

static bool must_be_held(const struct serving *s) {
    const struct overload_state *state = &s->worker->overload;
    return !s->hcm->bypass_overload && overload_is_full(state, OVERLOAD_HOLD_REQUESTS) &&
           !overload_is_full(state, OVERLOAD_STOP_REQUESTS); /* that is answered at once */
}

bool downstream_admit_slowly(struct serving *s) {
    /* What was read already is charged, and to be used up; but for what listener filters read. */
    bool is_first = s->head && !s->downstream->charged && s->downstream->requests == 0;
    if (s->downstream->refuse || inbuf_len(&s->in) || (s->head && !is_first))
        return true;
    if (must_be_held(s)) {
        s->downstream->waits_for_quota = false;
        if (s->downstream->charged) /* it waited for that before */
            downstream_release_slowly(s);
        wait_in(s, &s->worker->held, DOWNSTREAM_WAIT_MS * NS_PER_MS);
        return false;
    }
    return !s->purse || s->downstream->charged || admit_to_quota(s);
}

void downstream_release_slowly(struct serving *s) {
    bool charged = s->downstream->charged;
    s->downstream->refuse = REFUSE_NOT;
    s->downstream->charged = false;
    if (charged)
        give_back(s->downstream, DOWNSTREAM_CHARGE);
}

/* ---- arenas ---- */

static bool payer_take(struct arena_payer *payer, size_t size) {
    struct serving *s = container_of(payer, struct serving, payer);
    if (charge(s->downstream, (int64_t)size))
        return true;
    stat_inc(s->downstream->info->listener->stats.rq_memory_limit, s->worker->index);
    return false;
}

static void payer_give(struct arena_payer *payer, size_t size) {
    give_back(container_of(payer, struct serving, payer)->downstream, (int64_t)size);
}

void downstream_payer_init(struct serving *s) {
    s->payer = (struct arena_payer){.take = payer_take, .give = payer_give};
}
