/* remote_link: see the header. What hosts say is read in remote_hear.c.
 *
 * Life of a lane, each step on its P, in this order, by messages (rt_post keeps it):
 *
 *     made ──open──► open: exchanges enter ──close──► drained, its exchanges lost, closed ─── last P ──► freed
 *
 * A lane whose host says what cannot be is `broken`: it hears nothing any more, and the host is ended, so that close
 * follows. Exchanges do not enter then; those that are in wait for close.
 *
 * Who may touch what  A lane and its table are the P's. A seat's `open` and `since_ns` are counted by all Ps without
 * order: they say which seat to take and when to complain, and one look that is wrong by a call costs a
 * wait, or a moment. Everything that must be right goes by messages.
 *
 * Numbers  index of the table, P, and how often the entry was used: so a message for an exchange that is over finds
 * nobody, until 2^32 others had its entry. */
#include "ext/remote/remote_link.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_plugin.h"
#include "ext/remote/remote_link_internal.h"
#include "ext/remote/supervisor.h"

enum {
    SLOTS = 64,    /* threads of the host that may ask at a time */
    LOOK_MS = 250, /* for callbacks that are stuck */
    NONE = UINT32_MAX,
};
static_assert(REMOTE_STREAMS_MAX == 1 << REMOTE_INDEX_BITS, "an index is that wide in a number");
static_assert(RT_P_MAX <= 1 << 8, "so is a P's");

/* When a seat counts as blocked. Longer than in this process (seat_blocked_ns): a host that waits for a processor looks the
 * same, and to spread over more seats costs a wake-up for each. */
static const int64_t REMOTE_BLOCKED_NS = 10 * NS_PER_MS;

/* ---- life ---- */

static void lane_opened(struct rt_post *post);
static void lane_closed(struct rt_post *post);
static void look_for_stuck(struct timer *timer);

static void free_link(struct remote_link *link) {
    for (unsigned p = 0; p < link->p_count; p++) {
        free(link->lanes[p].entries);
        free(link->lanes[p].record);
        remote_out_fini(&link->lanes[p].scratch);
    }
    remote_metrics_fini(&link->metrics);
    remote_shm_free(link->shm);
    free(link->seats);
    free(link);
}

static void give_up(struct remote_link *link) {
    /* acq_rel: the last one frees what the others wrote */
    if (atomic_fetch_sub_explicit(&link->users, 1, memory_order_acq_rel) == 1)
        free_link(link);
}

static struct remote_seat *seats_new(uint32_t count) {
    struct remote_seat *seats = NULL;
    if (posix_memalign((void **)&seats, _Alignof(struct remote_seat), count * sizeof *seats) != 0)
        return NULL;
    memset(seats, 0, count * sizeof *seats);
    return seats;
}

int remote_link_new(const struct remote_link_options *options, struct remote_link **out) {
    unsigned p_count = rt_p_count();
    struct remote_link *link = calloc(1, sizeof *link + p_count * sizeof *link->lanes);
    if (!link)
        return -ENOMEM;
    link->options = *options;
    link->p_count = p_count;
    atomic_store_explicit(&link->users, p_count + 1, memory_order_relaxed);
    remote_metrics_init(&link->metrics, options->knows_config, options->arg);
    for (unsigned p = 0; p < p_count; p++) {
        struct remote_lane *lane = &link->lanes[p];
        lane->link = link;
        lane->p = p;
        lane->first_free = NONE;
        wait_queue_init(&lane->returns);
        timer_init(&lane->watch, look_for_stuck);
        lane->open_post.fn = lane_opened;
        lane->close_post.fn = lane_closed;
    }
    const struct remote_shm_layout layout = {.seat_count = options->seats,
                                             .p_count = p_count,
                                             .slot_count = SLOTS,
                                             .seats_have_bells = options->of_coroutines};
    link->seats = seats_new(options->seats);
    int err = link->seats ? remote_shm_new(&layout, &link->shm) : -ENOMEM;
    if (err) {
        free_link(link);
        return err;
    }
    *out = link;
    return 0;
}

struct remote_shm *remote_link_shm(struct remote_link *link) {
    return link->shm;
}

void remote_link_set_abilities(struct remote_link *link, uint64_t abilities) {
    link->abilities = abilities;
}

uint64_t remote_lane_abilities(const struct remote_lane *lane) {
    return lane->link->abilities;
}

uint64_t remote_lane_generation(const struct remote_lane *lane) {
    return lane->link->options.generation;
}

void remote_link_open(struct remote_link *link) {
    for (unsigned p = 0; p < link->p_count; p++)
        rt_post(p, &link->lanes[p].open_post);
}

void remote_link_close(struct remote_link *link) {
    remote_shm_hang_up(link->shm);
    for (unsigned p = 0; p < link->p_count; p++)
        rt_post(p, &link->lanes[p].close_post);
    give_up(link);
}

void remote_link_forget_config(struct remote_link *link, uint64_t id) {
    remote_metrics_forget(&link->metrics, id);
}

/* An exchange that enters yet, on a P that has not heard of the new one, finds the next process when this one is gone: it is
 * not lost (remote_party.unheard). */
static void retire_if_idle(const struct remote_link *link) {
    if (atomic_load(&link->drains) && remote_link_streams(link) == 0)
        supervisor_retire(*link->options.supervisor, link->options.generation);
}

void remote_link_drain(struct remote_link *link) {
    atomic_store(&link->drains,
                 true); /* seq_cst: who leaves last sees it, or we see that he left */
    retire_if_idle(link);
}

/* At least 0, whatever the host says, and no more than it can have. */
int64_t remote_link_unfinalized(const struct remote_link *link, struct span plugin) {
    int64_t count = remote_shm_gauge_read(link->shm, plugin);
    return count < 0 ? 0 : count > GO_REQUESTS_MAX ? GO_REQUESTS_MAX : count;
}

uint64_t remote_link_streams(const struct remote_link *link) {
    uint64_t count = 0;
    for (unsigned p = 0; p < link->p_count; p++)
        count += atomic_load(&link->lanes[p].streams); /* seq_cst: remote_link_drain */
    return count;
}

static void end_host(struct remote_lane *lane, const char *why) {
    supervisor_stuck(*lane->link->options.supervisor, lane->link->options.generation, why);
}

static void break_lane(struct remote_lane *lane) {
    const struct remote_link_options *options = &lane->link->options;
    if (!lane->broken)
        LOG(*options->log, LOG_ERROR,
            "library %s: its host process says what no host of ours does, and is ended",
            options->library);
    lane->broken = true;
    options->closed(options->arg, lane->p, lane); /* to those who would enter */
    end_host(lane, "messages that make no sense");
}

static void on_broken(struct remote_port *port) {
    break_lane(container_of(port, struct remote_lane, port));
}

/* ---- seats ---- */

static bool is_blocked(const struct remote_seat *seat, int64_t now_ns) {
    return atomic_load_explicit(&seat->open, memory_order_relaxed) != 0 &&
           now_ns - atomic_load_explicit(&seat->since_ns, memory_order_relaxed) >=
               REMOTE_BLOCKED_NS;
}

/* The first that is not blocked; of wary ones the one with the fewest calls. From the P's own share on, then all: wary ones
 * from its end, so that they are not in front of the others when they block. What blocks for
 * the first time holds up those that are behind it in its seat. To spread all exchanges over some seats, as in this
 * process, makes a batch of each into several, and on a core that they share the threads wait for each other's locks:
 * 185 us of CPU per request instead of 71, with a p99 of 170 ms instead of 9. */
static uint32_t choose_seat(const struct remote_lane *lane, bool wary) {
    const struct remote_link *link = lane->link;
    uint32_t count = link->options.seats, share = count / link->p_count, best = NONE, fewest = NONE;
    if (link->options.of_coroutines)
        return lane->p % count;
    int64_t now_ns = rt_now_ns();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = wary ? share + count - 1 - i : i;
        uint32_t number = (lane->p * share + at) % count;
        const struct remote_seat *seat = &link->seats[number];
        uint32_t open = atomic_load_explicit(&seat->open, memory_order_relaxed);
        if (is_blocked(seat, now_ns) || open >= fewest)
            continue;
        best = number;
        fewest = open;
        if (!wary || open == 0)
            break;
    }
    return best;
}

/* From the other end, where the exchanges of no P are before all others are taken. */
static uint32_t choose_empty_seat(const struct remote_lane *lane) {
    const struct remote_link *link = lane->link;
    uint32_t count = link->options.seats, share = count / link->p_count;
    for (uint32_t i = 1; i <= count; i++) {
        uint32_t number = ((lane->p + 1) * share + count - i) % count;
        if (atomic_load_explicit(&link->seats[number].open, memory_order_relaxed) == 0)
            return number;
    }
    return NONE;
}

/* ---- parties ---- */

static uint64_t number_of(const struct remote_lane *lane, uint32_t index) {
    return remote_number(lane->p, index, lane->entries[index].uses);
}

struct remote_entry *remote_lane_entry(const struct remote_lane *lane, uint64_t number) {
    uint32_t index = remote_number_index(number);
    return index < lane->entry_count && number_of(lane, index) == number ? &lane->entries[index]
                                                                         : NULL;
}

static int more_entries(struct remote_lane *lane) {
    uint32_t count = lane->entry_count ? 2 * lane->entry_count : 64;
    if (count > REMOTE_STREAMS_MAX)
        return -ENOMEM;
    struct remote_entry *entries = realloc(lane->entries, count * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    lane->entries = entries;
    for (uint32_t i = count; i-- > lane->entry_count;) {
        entries[i] = (struct remote_entry){.uses = 1, .next_free = lane->first_free};
        lane->first_free = i;
    }
    lane->entry_count = count;
    return 0;
}

static void count_streams(struct remote_lane *lane, int64_t n) {
    uint64_t count = atomic_load_explicit(&lane->streams, memory_order_relaxed);
    atomic_store(&lane->streams, count + (uint64_t)n); /* seq_cst: remote_link_drain */
}

static struct remote_entry *entry_of(const struct remote_party *party) {
    return &party->lane->entries[remote_number_index(party->number)];
}

static void free_entry(struct remote_lane *lane, struct remote_entry *entry) {
    entry->uses++;
    entry->next_free = lane->first_free;
    lane->first_free = (uint32_t)(entry - lane->entries);
}

static int enter(struct remote_lane *lane, struct remote_party *party, uint32_t seat) {
    if (lane->first_free == NONE && more_entries(lane) != 0)
        return -ENOMEM;
    uint32_t index = lane->first_free;
    struct remote_entry *entry = &lane->entries[index];
    lane->first_free = entry->next_free;
    entry->party = party;
    entry->plugin = party->plugin;
    entry->seat = seat;
    party->lane = lane;
    party->sent = party->unheard = false;
    party->seat = seat;
    party->number = number_of(lane, index);
    count_streams(lane, 1);
    return 0;
}

int remote_lane_enter(struct remote_lane *lane, struct remote_party *party, bool wary) {
    uint32_t seat = choose_seat(lane, wary);
    return seat == NONE ? -EAGAIN : enter(lane, party, seat);
}

int remote_lane_enter_alone(struct remote_lane *lane, struct remote_party *party) {
    uint32_t seat = choose_empty_seat(lane);
    return seat == NONE ? -EAGAIN : enter(lane, party, seat);
}

int remote_lane_enter_unseated(struct remote_lane *lane, struct remote_party *party) {
    return enter(lane, party, NONE);
}

void remote_lane_leave(struct remote_party *party) {
    struct remote_lane *lane = party->lane;
    if (!lane)
        return;
    struct remote_entry *entry = entry_of(party);
    ASSERT(entry->party == party);
    entry->party = NULL;
    if (!entry->open)
        free_entry(lane, entry);
    party->lane = NULL;
    count_streams(lane, -1);
    if (party->itab->left)
        party->itab->left(party);
    retire_if_idle(lane->link);
}

bool remote_lane_seat_is_free(const struct remote_party *party) {
    return !is_blocked(&party->lane->link->seats[party->seat], rt_now_ns());
}

/* ---- calls ---- */

static void call_begins(struct remote_party *party) {
    struct remote_lane *lane = party->lane;
    struct remote_seat *seat = &lane->link->seats[party->seat];
    if (atomic_fetch_add_explicit(&seat->open, 1, memory_order_relaxed) == 0)
        atomic_store_explicit(&seat->since_ns, rt_now_ns(), memory_order_relaxed);
    entry_of(party)->open++;
    if (lane->open++ == 0 && lane->link->options.callback_timeout_ns != RT_FOREVER &&
        !timer_is_armed(&lane->watch))
        timer_arm(&lane->watch, rt_now_ns() + LOOK_MS * NS_PER_MS);
    remote_port_expect(&lane->port, 1);
}

void remote_lane_expect_another(struct remote_party *party) {
    call_begins(party);
}

void remote_lane_call_returned(struct remote_lane *lane, struct remote_entry *entry, unsigned calls,
                               uint64_t took_ns) {
    struct remote_seat *seat = &lane->link->seats[entry->seat];
    atomic_store_explicit(&seat->since_ns, rt_now_ns(), memory_order_relaxed);
    (void)atomic_fetch_sub_explicit(&seat->open, 1, memory_order_relaxed);
    entry->open--;
    lane->open--;
    remote_port_expect_less(&lane->port, 1);
    wait_queue_wake_all(&lane->returns);
    for (unsigned i = 0; entry->plugin && i <= calls; i++)
        go_plugin_called(entry->plugin, lane->p, took_ns / (calls + 1), REMOTE_BLOCKED_NS);
    if (!entry->party && !entry->open)
        free_entry(lane, entry);
}

/* Ps of a host read their rings in each round, unless what they run does not come back. In a full ring there is something
 * else to be read. */
static void look_for_reader(struct remote_lane *lane, int64_t now_ns) {
    const struct remote_link *link = lane->link;
    uint32_t seat = lane->p % link->options.seats;
    struct remote_ring_out *ring = remote_shm_seat_out(link->shm, seat);
    if (lane->pinged && !remote_ring_out_was_taken(ring, lane->ping_at)) {
        if (now_ns - lane->ping_ns >= link->options.callback_timeout_ns)
            end_host(lane, "a function that does not return");
        return;
    }
    lane->pinged = true;
    lane->ping_ns = now_ns;
    lane->ping_at = remote_ring_out_position(ring);
    int err = remote_port_put(&lane->port, seat, REMOTE_PING, span_make("", 0));
    if (err && err != -EAGAIN)
        break_lane(lane);
}

static void look_for_stuck(struct timer *timer) {
    struct remote_lane *lane = container_of(timer, struct remote_lane, watch);
    const struct remote_link *link = lane->link;
    int64_t now_ns = rt_now_ns();
    if (lane->open == 0 || lane->broken)
        return;
    if (link->options.of_coroutines)
        look_for_reader(lane, now_ns);
    for (uint32_t i = 0; i < link->options.seats && !link->options.of_coroutines; i++) {
        const struct remote_seat *seat = &link->seats[i];
        if (is_blocked(seat, now_ns) &&
            now_ns - atomic_load_explicit(&seat->since_ns, memory_order_relaxed) >=
                link->options.callback_timeout_ns) {
            end_host(lane, "a callback that does not return");
            break;
        }
    }
    timer_arm(timer, now_ns + LOOK_MS * NS_PER_MS);
}

bool remote_lane_is_debugged(const struct remote_lane *lane) {
    const struct remote_link_options *options = &lane->link->options;
    return supervisor_is_traced(*options->supervisor, options->generation);
}

int remote_lane_await_return(struct remote_lane *lane, int64_t deadline_ns) {
    /* A seat of another P's exchanges may be free earlier, of which this one does not hear. */
    int64_t soon_ns = rt_now_ns() + 5 * NS_PER_MS;
    int err = wait_queue_wait(&lane->returns, "seat of a host process",
                              soon_ns < deadline_ns ? soon_ns : deadline_ns);
    return err == -ETIMEDOUT && rt_now_ns() < deadline_ns ? 0 : err;
}

/* ---- messages ---- */

struct remote_out *remote_lane_scratch(struct remote_lane *lane) {
    remote_out_clear(&lane->scratch);
    return &lane->scratch;
}

/* The scratch is somebody else's as soon as we park: then with a copy. */
static int send_when_there_is_room(struct remote_party *party, enum remote_kind kind,
                                   struct span payload, int64_t deadline_ns) {
    struct remote_lane *lane = party->lane;
    char *copy = malloc(payload.len ? payload.len : 1);
    int err = copy ? -EAGAIN : -ENOMEM;
    if (copy && payload.len)
        memcpy(copy, payload.ptr, payload.len);
    lane->senders++;
    while (err == -EAGAIN) {
        err = remote_port_wait(&lane->port, party->seat, payload.len, deadline_ns);
        if (!err && !party->lane)
            err = -EPIPE;
        if (!err)
            err = remote_port_put(&lane->port, party->seat, kind, span_make(copy, payload.len));
    }
    lane->senders--;
    free(copy);
    if (!lane->is_open && !lane->senders)
        give_up(lane->link);
    return err;
}

int remote_lane_send(struct remote_party *party, enum remote_kind kind, struct span payload,
                     int64_t deadline_ns) {
    struct remote_lane *lane = party->lane;
    struct remote_ring_out *ring = remote_shm_seat_out(lane->link->shm, party->seat);
    uint64_t position = party->sent ? 0 : remote_ring_out_position(ring);
    int err = lane->broken ? -EPIPE : remote_port_put(&lane->port, party->seat, kind, payload);
    if (err == -EAGAIN)
        err = send_when_there_is_room(party, kind, payload, deadline_ns);
    if (err == -EPROTO) {
        break_lane(lane);
        err = -EPIPE;
    }
    if (err == -EPIPE && !party->sent) {
        remote_lane_leave(party);
        party->unheard = true;
    }
    if (!err && !party->sent) {
        party->sent = true;
        party->sent_at = position;
    }
    if (!err && remote_kind_is_call(kind))
        call_begins(party);
    return err;
}

/* ---- what the host says ---- */

struct remote_party *remote_lane_find(const struct remote_lane *lane, uint64_t number) {
    const struct remote_entry *entry = remote_lane_entry(lane, number);
    return entry ? entry->party : NULL;
}

bool remote_lane_returned(struct remote_party *party) {
    if (entry_of(party)->open == 0)
        return false;
    remote_lane_call_returned(party->lane, entry_of(party), 0, 0);
    return true;
}

/* With a copy: the host may write to the ring while we look. */
static void on_record(struct remote_port *port, const struct remote_record *record) {
    struct remote_lane *lane = container_of(port, struct remote_lane, port);
    size_t len = record->payload.len;
    if (lane->broken)
        return;
    if (lane->record_room < len) {
        char *larger = realloc(lane->record, len);
        if (!larger) {
            break_lane(lane); /* what it says is lost, so all it holds would wait for ever */
            return;
        }
        lane->record = larger;
        lane->record_room = len;
    }
    remote_record_copy(record, 0, lane->record, len);
    if (remote_lane_hear(lane, record->kind, span_make(lane->record, len)) != 0)
        break_lane(lane);
}

/* ---- open and close, on the P ---- */

static void lane_opened(struct rt_post *post) {
    struct remote_lane *lane = container_of(post, struct remote_lane, open_post);
    const struct remote_link_options *options = &lane->link->options;
    int err = remote_port_open(&lane->port, lane->link->shm, on_record, on_broken);
    if (err) {
        LOG(*options->log, LOG_ERROR, "library %s: no way to its host process: %s",
            options->library, strerror(-err));
        end_host(lane, "no descriptor for its bell");
        return;
    }
    lane->is_open = true;
    options->opened(options->arg, lane->p, lane);
}

static void lose_all(struct remote_lane *lane) {
    for (uint32_t i = 0; i < lane->entry_count; i++) {
        struct remote_party *party = lane->entries[i].party;
        if (!party)
            continue;
        party->unheard =
            !party->sent || !remote_ring_out_was_taken(
                                remote_shm_seat_out(lane->link->shm, party->seat), party->sent_at);
        party->lost = !party->unheard;
        remote_lane_leave(party);
        party->itab->lose(party);
    }
    wait_queue_wake_all(&lane->returns);
}

static void lane_closed(struct rt_post *post) {
    struct remote_lane *lane = container_of(post, struct remote_lane, close_post);
    struct remote_link *link = lane->link;
    if (lane->is_open) {
        link->options.closed(link->options.arg, lane->p, lane);
        remote_port_drain(&lane->port);
        lose_all(lane);
        timer_disarm(&lane->watch);
        remote_port_close(&lane->port);
        lane->is_open = false;
    }
    if (!lane->senders) /* else the last of them does, when it has run */
        give_up(link);
}
