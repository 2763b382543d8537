/* downstream_pending: from accept to the choice of a filter chain.
 *
 *     accept ─► look ──all are done──► choose ─► HTTP, or opening, or quiet ──bytes──► opening
 *               ▲  │ one wants more         └──none matches──► closed
 *        bytes  │  ▼
 *              kept ──time is over──► closed, or choose (continue_on_listener_filters_timeout)
 *
 * All of this is in the callbacks of the poller and of accept: whoever connects and says nothing, or says it byte by
 * byte, has no coroutine, no stack and no block. It pins a struct downstream, what is known of it (struct
 * connection_info), and the bytes that it has sent, of which so many are received as the filter whose turn it is may
 * ask for, in pieces of RECEIVE_BYTES. All others stay in the kernel. A listener with a quota is charged for them, and who
 * would exceed it is closed: nothing can be told to a client of which nobody knows what it speaks.
 *
 * Bytes are kept as those of a head that comes in pieces (downstream_head.h). So when HTTP is next they are
 * the beginning of such a head, and nothing is copied.
 *
 * Quiet  The client of a transport (TLS) speaks first. Until it does, there is nothing to open: so a chain is chosen, and
 *        the connection counts as one, but it has no coroutine either.
 * End    A peer that sends no more may still be served: it is asked what can be known, with `ended`. Who never sent
 *        anything has ended without a word, and is closed. */
#include <errno.h>

#include "proxy/downstream_internal.h"

enum { RECEIVE_BYTES = 2048 }; /* on a stack of callbacks; a ClientHello has 500 to 1,900 bytes */

enum step { STEP_MORE, STEP_CHOOSE, STEP_CLOSE };

/* ---- choosing ---- */

static void serve_http(struct downstream *d) {
    struct partial_head *head = d->head;
    d->state = head ? DOWNSTREAM_HEAD : DOWNSTREAM_IDLE;
    if (head) {
        head->since_ns = rt_now_ns();
        head->deadline_ns = downstream_head_deadline(d->info->chain->hcm);
    }
    downstream_start_serving(d);
}

static const struct filter_chain *find_chain(struct downstream *d) {
    const struct filter_chain_table *chains = d->info->listener->config->chains;
    struct address local, remote, direct;
    if (chains->only)
        return chains->only;
    address_unpack(&d->peer, &direct);
    downstream_remote_address(d, &remote);
    downstream_address(d, &local);
    return filter_chain_find(chains, d->info, &local, &remote, &direct);
}

/* Appends what has come to what is kept, of at most `max` bytes. > 0: how much; 0: the end; -EAGAIN, or another error. */
static ssize_t receive(struct downstream *d, size_t max) {
    char room[RECEIVE_BYTES];
    struct inbuf in = {.data = room, .cap = (uint32_t)(max < sizeof room ? max : sizeof room)};
    ssize_t n = socket_try_receive(&d->socket, &in);
    if (n <= 0)
        return n;
    int rc = downstream_head_append(d, &d->head, inbuf_bytes(&in));
    return rc == 0 ? n : rc;
}

/* The peer, or memory, or the listener's part of it, has ended. */
static void end(struct downstream *d, ssize_t n) {
    if (n == -ENOMEM) {
        downstream_drop(d);
        return;
    }
    if (n == -ENOBUFS)
        stat_inc(d->info->listener->stats.cx_memory_limit, d->p_index);
    else
        d->closed_by_peer = true;
    downstream_destroy(d);
}

static void open_if_it_spoke(struct downstream *d) {
    ssize_t n = receive(d, RECEIVE_BYTES);
    if (n > 0)
        downstream_open(d, d->head);
    else if (n != -EAGAIN)
        end(d, n);
}

static void choose(struct downstream *d) {
    const struct listener_stats *stats = &d->info->listener->stats;
    const struct filter_chain *chain = find_chain(d);
    if (!chain) {
        stat_inc(stats->no_filter_chain_match, d->p_index);
        downstream_destroy(d);
        return;
    }
    timer_disarm(&d->idle_timer);
    if (d->info->shared)
        d->info = &chain->info;
    else
        connection_info_own(d)->chain = chain;
    stat_dec(stats->pre_cx_active, d->p_index);
    downstream_begin(d);
    if (chain->transport_timeout_ns && chain->transport.kind)
        timer_arm(&d->idle_timer, rt_now_ns() + chain->transport_timeout_ns);
    if (filter_chain_is_plain(chain))
        serve_http(d);
    else if (chain->transport.kind && !d->head)
        open_if_it_spoke(d);
    else
        downstream_open(d, d->head);
}

/* ---- looking ---- */

static bool holds(const struct cfg_listener_predicate *rule, struct downstream *d) {
    const struct cfg_listener_predicate_set *set = rule->or_match;
    struct address local;
    int port;
    switch (rule->rule_case) {
    case CFG_PREDICATE_AND:
        set = rule->and_match;
        __attribute__((fallthrough));
    case CFG_PREDICATE_OR:
        for (size_t i = 0; i < set->rules_count; i++)
            if (holds(&set->rules[i], d) != (rule->rule_case == CFG_PREDICATE_AND))
                return rule->rule_case == CFG_PREDICATE_OR;
        return rule->rule_case == CFG_PREDICATE_AND;
    case CFG_PREDICATE_NOT:
        return !holds(rule->not_match, d);
    case CFG_PREDICATE_PORT:
        downstream_address(d, &local);
        port = local.len ? address_port(&local) : 0;
        return port >= rule->destination_port_range->start &&
               port < rule->destination_port_range->end;
    default: /* any_match */
        return true;
    }
}

static size_t wanted(const struct listener_filter *filter) {
    const struct listener_filter_itab *itab = filter->kind->itab;
    return itab->max_bytes ? itab->max_bytes(filter->config) : 0;
}

static void consume(struct downstream *d, size_t n) {
    struct partial_head *head = d->head;
    ASSERT(n <= head->len);
    head->len -= (uint32_t)n;
    memmove(head->bytes, head->bytes + n, head->len);
    if (head->len > 0)
        return;
    downstream_head_free(head);
    d->head = NULL;
}

/* The filter whose turn it is, with what has come. */
static enum listener_filter_verdict look(struct downstream *d, struct connection_info *info,
                                         const struct listener_filter *filter, bool ended) {
    size_t max = wanted(filter), len = d->head ? d->head->len : 0, used = 0;
    struct span bytes = d->head ? span_make(d->head->bytes, len < max ? len : max) : span_none();
    if (max > 0 && len == 0 && !ended)
        return LISTENER_FILTER_MORE;
    enum listener_filter_verdict verdict =
        filter->kind->itab->look(filter->config, d, info, bytes, ended, &used);
    if (verdict == LISTENER_FILTER_MORE && (ended || len >= max))
        verdict = LISTENER_FILTER_DONE;
    if (verdict == LISTENER_FILTER_DONE && used > 0)
        consume(d, used);
    return verdict;
}

static enum step look_all(struct downstream *d, bool ended) {
    const struct listener_config *config = d->info->listener->config;
    struct connection_info *info = config->filter_count ? connection_info_own(d) : NULL;
    while (info && info->looked < config->filter_count) {
        const struct listener_filter *filter = &config->filters[info->looked];
        if (!filter->disabled || !holds(filter->disabled, d)) {
            enum listener_filter_verdict verdict = look(d, info, filter, ended);
            if (verdict != LISTENER_FILTER_DONE)
                return verdict == LISTENER_FILTER_MORE ? STEP_MORE : STEP_CLOSE;
        }
        info->looked++;
    }
    return STEP_CHOOSE;
}

/* Something may have come. */
static void carry_on(struct downstream *d) {
    for (;;) {
        size_t max = wanted(&d->info->listener->config->filters[d->info->looked]);
        ssize_t n = receive(d, max - (d->head ? d->head->len : 0));
        if (n == -EAGAIN)
            return; /* an event will tell */
        if (n < 0 || (n == 0 && !d->head)) {
            end(d, n);
            return;
        }
        enum step step = look_all(d, n == 0);
        if (step == STEP_CLOSE)
            downstream_destroy(d);
        else if (step == STEP_CHOOSE)
            choose(d);
        if (step != STEP_MORE)
            return;
    }
}

/* ---- coming and going ---- */

void downstream_pending_begin(struct downstream *d) {
    const struct listener_config *config = d->info->listener->config;
    d->state = DOWNSTREAM_PENDING;
    stat_inc(d->info->listener->stats.pre_cx_active, d->p_index);
    if (config->filter_count && !connection_info_own(d)) {
        downstream_drop(d);
        return;
    }
    enum step step = look_all(d, false);
    if (step == STEP_CLOSE) {
        downstream_destroy(d);
    } else if (step == STEP_CHOOSE) {
        choose(d);
    } else {
        if (config->filters_timeout_ns)
            timer_arm(&d->idle_timer, rt_now_ns() + config->filters_timeout_ns);
        carry_on(d);
    }
}

void downstream_pending_event(struct downstream *d, unsigned events) {
    if (!(events & (SOCKET_INPUT | SOCKET_HUNG_UP)))
        return;
    if (d->info->chain)
        open_if_it_spoke(d);
    else
        carry_on(d);
}

void downstream_pending_expired(struct downstream *d) {
    const struct listener *listener = d->info->listener;
    if (d->info->chain) {
        stat_inc(listener->stats.cx_transport_connect_timeout, d->p_index);
        downstream_destroy(d);
        return;
    }
    stat_inc(listener->stats.pre_cx_timeout, d->p_index);
    if (listener->config->config->continue_on_listener_filters_timeout)
        choose(d);
    else
        downstream_destroy(d);
}
