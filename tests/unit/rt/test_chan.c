/* chan.c: Go's channels, with deadlines and cancellation. */
#include "chan_story.h"

/* ---- Buffers ---- */

static void fifo_story(void *arg) {
    struct chan *ch = new_chan(3);
    int sent = 0, received = 0;
    for (int lap = 0; lap < 10; lap++) { /* the ring wraps around at every place */
        CHECK(chan_len(ch) == (uint32_t)(sent - received));
        while (try_send_int(ch, sent) == 0)
            sent++;
        CHECK(chan_len(ch) == 3);
        CHECK(recv_int(ch) == received++);
        CHECK(recv_int(ch) == received++);
    }
    CHECK(chan_capacity(ch) == 3);
    chan_unref(ch);
    rt_stop(0);
}

static void a_buffer_keeps_the_order(void **state) {
    story(1, fifo_story);
}

static void sizes_story(void *arg) {
    static const size_t sizes[] = {0, 1, 4, 8, 24, CHAN_ELEM_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char in[CHAN_ELEM_MAX], out[CHAN_ELEM_MAX + 1] = {0};
        struct chan *ch = chan_new(sizes[i], 2);
        CHECK(ch);
        for (int lap = 0; lap < 3; lap++) {
            memset(in, 'a' + lap, sizeof in);
            CHECK(chan_try_send(ch, in) == 0);
            CHECK(chan_try_recv(ch, out) == 0);
            CHECK(memcmp(in, out, sizes[i]) == 0);
            CHECK(out[sizes[i]] == 0); /* and not a byte more */
        }
        chan_unref(ch);
    }
    /* Elements without bytes need no memory to come from: such a channel counts. */
    struct chan *signals = chan_new(0, 2);
    CHECK(signals);
    CHECK(chan_try_send(signals, NULL) == 0);
    CHECK(chan_try_send(signals, NULL) == 0);
    CHECK(chan_try_send(signals, NULL) == -EAGAIN);
    CHECK(chan_try_recv(signals, NULL) == 0);
    CHECK(chan_len(signals) == 1);
    chan_unref(signals);
    rt_stop(0);
}

static void elements_of_any_size_are_copied(void **state) {
    story(1, sizes_story);
}

static void try_story(void *arg) {
    int value = 7;
    struct chan *meeting = new_chan(0), *buffered = new_chan(1);
    CHECK(chan_try_send(meeting, &value) == -EAGAIN);
    CHECK(chan_try_recv(meeting, &value) == -EAGAIN);
    CHECK(chan_try_recv(buffered, &value) == -EAGAIN);
    CHECK(value == 7); /* untouched */
    CHECK(chan_try_send(buffered, &value) == 0);
    CHECK(chan_try_send(buffered, &value) == -EAGAIN);
    CHECK(chan_try_recv(buffered, NULL) == 0); /* dropped */
    CHECK(chan_len(buffered) == 0);
    chan_unref(meeting);
    chan_unref(buffered);
    rt_stop(0);
}

static void try_never_waits(void **state) {
    story(1, try_story);
}

/* ---- Waiters ---- */

static struct chan *line; /* where they wait */
static char order[16];

static void receives_and_notes_order(void *arg) {
    int value = recv_int(line);
    order[value] = *(const char *)arg;
}

static void receivers_story(void *arg) {
    line = new_chan(arg ? 2 : 0);
    CHECK(go_here("a", receives_and_notes_order, (char[]){"a"}) == 0);
    CHECK(go_here("b", receives_and_notes_order, (char[]){"b"}) == 0);
    CHECK(go_here("c", receives_and_notes_order, (char[]){"c"}) == 0);
    let_others_park();
    for (int i = 0; i < 3; i++) {
        CHECK(try_send_int(line, i) == 0); /* goes to a receiver, ring or not */
        CHECK(chan_len(line) == 0);
    }
    CHECK(try_send_int(line, 3) == (arg ? 0 : -EAGAIN));
    let_others_park();
    CHECK(strcmp(order, "abc") == 0);
    chan_unref(line);
    rt_stop(0);
}

static void buffered_receivers_story(void *arg) {
    receivers_story((char[]){""});
}

static void who_waits_longest_receives_first(void **state) {
    story(1, receivers_story);
    story(1, buffered_receivers_story);
}

static int senders_returned;

static void sends_one(void *arg) {
    CHECK(send_int(line, (int)(intptr_t)arg) == 0);
    senders_returned++;
}

static void senders_story(void *arg) {
    enum { WAITING = 3 };
    line = new_chan(2);
    for (int i = 0; i < 2 + WAITING; i++)
        CHECK(go_here("sender", sends_one, (void *)(intptr_t)i) == 0);
    let_others_park();
    CHECK(senders_returned == 2);
    for (int i = 0; i < WAITING; i++) {
        CHECK(recv_int(line) == i);
        CHECK(chan_len(line) == 2); /* a waiting sender's element took the slot at once */
        let_others_park();
        CHECK(senders_returned == 3 + i);
    }
    CHECK(recv_int(line) == 3);
    CHECK(recv_int(line) == 4);
    CHECK(chan_len(line) == 0);
    chan_unref(line);
    rt_stop(0);
}

static void a_waiting_senders_element_keeps_its_place(void **state) {
    story(1, senders_story);
}

/* ---- Happens before ---- */

enum { MEETINGS = 5000 };
static struct chan *forth, *back;
static int plain_of_sender, plain_of_receiver; /* no atomics: the channel alone orders them */

/* Of a rendezvous both sides know what the other did before it. */
static void meets_as_receiver(void *arg) {
    for (int i = 1; i <= MEETINGS; i++) {
        plain_of_receiver = i;
        CHECK(recv_int(forth) == i);
        CHECK(plain_of_sender == i);
        CHECK(send_int(back, i) == 0);
    }
}

static void meets_as_sender(void *arg) {
    for (int i = 1; i <= MEETINGS; i++) {
        plain_of_sender = i;
        CHECK(send_int(forth, i) == 0);
        CHECK(plain_of_receiver == i);
        CHECK(recv_int(back) == i);
    }
    rt_stop(0);
}

static void rendezvous_story(void *arg) {
    forth = new_chan(0);
    back = new_chan(0);
    CHECK(go("receiver", meets_as_receiver, NULL) == 0);
    CHECK(go("sender", meets_as_sender, NULL) == 0);
}

static void pinned_rendezvous_story(void *arg) {
    forth = new_chan(0);
    back = new_chan(0);
    CHECK(go_on(0, "receiver", meets_as_receiver, NULL) == 0);
    CHECK(go_on(1, "sender", meets_as_sender, NULL) == 0);
}

static void a_rendezvous_orders_both_sides(void **state) {
    story(1, rendezvous_story);
    story(2, rendezvous_story);
    story(2, pinned_rendezvous_story);
}

/* ---- Closing ---- */

static void drain_story(void *arg) {
    struct chan *ch = new_chan(2);
    CHECK(send_int(ch, 1) == 0);
    CHECK(send_int(ch, 2) == 0);
    chan_close(ch);
    chan_close(ch); /* either end may be the first */
    CHECK(send_int(ch, 3) == -EPIPE);
    CHECK(try_send_int(ch, 3) == -EPIPE);
    CHECK(recv_int(ch) == 1);
    CHECK(recv_int(ch) == 2);
    int untouched = 9;
    CHECK(chan_recv(ch, &untouched, RT_FOREVER) == -EPIPE);
    CHECK(chan_try_recv(ch, &untouched) == -EPIPE);
    CHECK(untouched == 9);
    chan_unref(ch);
    rt_stop(0);
}

static void a_closed_channel_is_drained_first(void **state) {
    story(1, drain_story);
}

static int piped; /* calls that ended with -EPIPE */

static void sends_until_closed(void *arg) {
    CHECK(send_int(line, (int)(intptr_t)arg) == -EPIPE);
    piped++;
}

static void receives_until_closed(void *arg) {
    int untouched = 9;
    CHECK(chan_recv(line, &untouched, story_soon()) == -EPIPE);
    CHECK(untouched == 9);
    piped++;
}

static void close_wakes_senders_story(void *arg) {
    line = new_chan(1);
    CHECK(send_int(line, 1) == 0);
    for (intptr_t i = 2; i < 5; i++)
        CHECK(go_here("sender", sends_until_closed, (void *)i) == 0);
    let_others_park();
    chan_close(line);
    let_others_park();
    CHECK(piped == 3);
    CHECK(recv_int(line) == 1);
    CHECK(chan_recv(line, NULL, RT_FOREVER) == -EPIPE); /* nothing of theirs was sent */
    chan_unref(line);
    rt_stop(0);
}

static void close_wakes_receivers_story(void *arg) {
    line = new_chan(1);
    for (int i = 0; i < 3; i++)
        CHECK(go_here("receiver", receives_until_closed, NULL) == 0);
    let_others_park();
    chan_close(line);
    let_others_park();
    CHECK(piped == 3);
    chan_unref(line);
    rt_stop(0);
}

static void close_wakes_all_who_wait(void **state) {
    story(1, close_wakes_senders_story);
    story(1, close_wakes_receivers_story);
}

/* ---- NULL ---- */

static void nil_story(void *arg) {
    int value = 5;
    CHECK(chan_send(NULL, &value, clock_mono_ns() + 2 * NS_PER_MS) == -ETIMEDOUT);
    CHECK(chan_recv(NULL, &value, clock_mono_ns() + 2 * NS_PER_MS) == -ETIMEDOUT);
    CHECK(chan_try_send(NULL, &value) == -EAGAIN);
    CHECK(chan_try_recv(NULL, &value) == -EAGAIN);
    CHECK(chan_len(NULL) == 0);
    CHECK(chan_capacity(NULL) == 0);
    rt_cancel(rt_self());
    CHECK(chan_send(NULL, &value, RT_FOREVER) == -ECANCELED);
    CHECK(chan_recv(NULL, &value, RT_FOREVER) == -ECANCELED);
    CHECK(value == 5);
    rt_stop(0);
}

static void on_null_nothing_is_ever_ready(void **state) {
    story(1, nil_story);
}

/* ---- Deadlines, cancellation, strange tokens ---- */

static void deadline_story(void *arg) {
    int untouched = 9;
    struct chan *meeting = new_chan(0), *buffered = new_chan(1);
    for (int past = 0; past < 2; past++) {
        int64_t begin_ns = clock_mono_ns(), deadline_ns = past ? 1 : begin_ns + 3 * NS_PER_MS;
        CHECK(chan_recv(meeting, &untouched, deadline_ns) == -ETIMEDOUT);
        CHECK(chan_send(meeting, &untouched, deadline_ns) == -ETIMEDOUT);
        CHECK(clock_mono_ns() >= deadline_ns);
        CHECK(untouched == 9);
        /* Neither left anything behind that could be met later. */
        CHECK(chan_try_recv(meeting, &untouched) == -EAGAIN);
        CHECK(chan_try_send(meeting, &untouched) == -EAGAIN);
    }
    /* What can go on at once does, however late it is. */
    CHECK(chan_send(buffered, &(int){4}, 1) == 0);
    CHECK(chan_send(buffered, &(int){5}, 1) == -ETIMEDOUT);
    CHECK(chan_recv(buffered, &untouched, 1) == 0 && untouched == 4);
    CHECK(chan_recv(buffered, &untouched, 1) == -ETIMEDOUT);
    chan_unref(meeting);
    chan_unref(buffered);
    rt_stop(0);
}

static void after_a_deadline_nothing_was_exchanged(void **state) {
    story(1, deadline_story);
}

static struct g *patient;
static int patient_err, patient_value;

static void receives_patiently(void *arg) {
    patient = rt_self();
    patient_value = 0;
    patient_err = chan_recv(line, &patient_value, RT_FOREVER);
    patient = NULL;
}

static void sends_patiently(void *arg) {
    patient = rt_self();
    patient_err = chan_send(line, &(int){8}, RT_FOREVER);
    patient = NULL;
}

static void cancel_story(void *arg) {
    line = new_chan(0);
    CHECK(go_here("receiver", receives_patiently, NULL) == 0);
    let_others_park();
    rt_cancel(patient);
    let_others_park();
    CHECK(!patient && patient_err == -ECANCELED);
    CHECK(try_send_int(line, 1) == -EAGAIN);

    CHECK(go_here("sender", sends_patiently, NULL) == 0);
    let_others_park();
    rt_cancel(patient);
    let_others_park();
    CHECK(!patient && patient_err == -ECANCELED);
    CHECK(chan_try_recv(line, NULL) == -EAGAIN);
    chan_unref(line);
    rt_stop(0);
}

static void a_cancelled_wait_exchanges_nothing(void **state) {
    story(1, cancel_story);
}

/* Whoever comes first under the lock wins; a completed exchange is never reported as an error. */
static void cancel_race_story(void *arg) {
    line = new_chan(0);
    for (int cancel_first = 0; cancel_first < 2; cancel_first++) {
        CHECK(go_here("receiver", receives_patiently, NULL) == 0);
        let_others_park();
        if (cancel_first)
            rt_cancel(patient);
        CHECK(try_send_int(line, 6) == 0); /* it has not run since, so it still waits */
        if (!cancel_first)
            rt_cancel(patient);
        let_others_park();
        CHECK(!patient && patient_err == 0 && patient_value == 6);

        CHECK(go_here("sender", sends_patiently, NULL) == 0);
        let_others_park();
        if (cancel_first)
            rt_cancel(patient);
        CHECK(recv_int(line) == 8);
        if (!cancel_first)
            rt_cancel(patient);
        let_others_park();
        CHECK(!patient && patient_err == 0);
    }
    chan_unref(line);
    rt_stop(0);
}

static void an_exchange_beats_a_cancellation_of_the_same_moment(void **state) {
    story(1, cancel_race_story);
}

static void stray_token_story(void *arg) {
    line = new_chan(0);
    CHECK(go_here("receiver", receives_patiently, NULL) == 0);
    for (int i = 0; i < 3; i++) {
        let_others_park();
        rt_ready(patient); /* for something else: it looks, and waits on */
    }
    let_others_park();
    CHECK(patient);
    CHECK(try_send_int(line, 2) == 0);
    let_others_park();
    CHECK(!patient && patient_err == 0 && patient_value == 2);
    chan_unref(line);
    rt_stop(0);
}

static void a_token_for_something_else_ends_no_wait(void **state) {
    story(1, stray_token_story);
}

/* ---- Races of deadlines and exchanges, over several Ps ---- */

enum { RACERS = 24, RACES = 150 };
static struct ledger ledger;
static _Atomic int racers_left;
static _Atomic int timed_out;

/* The deadlines of all are on the same few ticks, and so are their operations. */
static int64_t next_tick(uint64_t *seed) {
    return (clock_mono_ns() / NS_PER_MS + 1 + (int64_t)(next_random(seed) % 2)) * NS_PER_MS;
}

static void waits_for_its_turn(uint64_t *seed) {
    int64_t until_ns = next_tick(seed) - (int64_t)(next_random(seed) % (20 * NS_PER_US));
    if (next_random(seed) % 2)
        while (clock_mono_ns() < until_ns)
            rt_yield();
}

static void races_to_send(void *arg) {
    uint64_t seed = 88172645463325252U + (uintptr_t)arg;
    for (int i = 0; i < RACES; i++) {
        waits_for_its_turn(&seed);
        int number = ledger_issue(&ledger);
        int err = chan_send(line, &number, next_tick(&seed));
        if (err == 0)
            ledger_sent(&ledger, number);
        else
            atomic_fetch_add(&timed_out, 1);
        CHECK(err == 0 || err == -ETIMEDOUT);
    }
    atomic_fetch_sub(&racers_left, 1);
}

static void races_to_receive(void *arg) {
    uint64_t seed = 362436069362436069U + (uintptr_t)arg;
    for (int i = 0; i < RACES; i++) {
        waits_for_its_turn(&seed);
        int number = -1;
        int err = chan_recv(line, &number, next_tick(&seed));
        if (err == 0)
            ledger_received(&ledger, number);
        else
            atomic_fetch_add(&timed_out, 1);
        CHECK(err == 0 || (err == -ETIMEDOUT && number == -1));
    }
    atomic_fetch_sub(&racers_left, 1);
}

static void race_story(uint32_t capacity, bool pinned) {
    line = new_chan(capacity);
    atomic_store(&racers_left, RACERS);
    for (int i = 0; i < RACERS; i++) {
        rt_fn fn = i % 2 ? races_to_send : races_to_receive;
        void *salt = (void *)(uintptr_t)(i * 7919);
        if (pinned)
            CHECK(go_on((unsigned)i / 2 % rt_p_count(), "racer", fn, salt) == 0);
        else
            CHECK(go("racer", fn, salt) == 0);
    }
    STORY_AWAIT(atomic_load(&racers_left) == 0);
    int left;
    while (chan_try_recv(line, &left) == 0)
        ledger_received(&ledger, left);
    int exchanged = ledger_balance(&ledger);
    CHECK(exchanged > 0);
    CHECK(atomic_load(&timed_out) > 0);
    chan_unref(line);
    rt_stop(0);
}

static void unbuffered_race_story(void *arg) {
    race_story(0, false);
}

static void buffered_race_story(void *arg) {
    race_story(3, false);
}

static void pinned_race_story(void *arg) {
    race_story(0, true);
}

static void a_deadline_that_races_loses_and_doubles_nothing(void **state) {
    story(4, unbuffered_race_story);
    story(4, buffered_race_story);
    story(4, pinned_race_story);
}

/* All on one P and with one deadline: they give up one after the other, in the order in which another
 * P, from the moment it sees the first one do so, serves those who are left. */
enum { SALVOS = 60, TARGETS = 64 };
static int64_t salvo_deadline_ns;
static _Atomic bool one_gave_up;

static void waits_until_the_salvo(void *arg) {
    int number;
    if (chan_recv(line, &number, salvo_deadline_ns) == 0)
        ledger_received(&ledger, number);
    else
        atomic_store(&one_gave_up, true);
    atomic_fetch_sub(&racers_left, 1);
}

static void salvo_story(void *arg) {
    line = new_chan(0);
    for (int i = 0; i < SALVOS; i++) {
        atomic_store(&one_gave_up, false);
        atomic_store(&racers_left, TARGETS);
        salvo_deadline_ns = (clock_mono_ns() / NS_PER_MS + 2) * NS_PER_MS;
        for (int k = 0; k < TARGETS; k++)
            CHECK(go_on(1, "target", waits_until_the_salvo, NULL) == 0);
        for (int64_t until_ns = story_soon(); !atomic_load(&one_gave_up);)
            CHECK(clock_mono_ns() < until_ns);
        int number;
        while (number = ledger_issue(&ledger), try_send_int(line, number) == 0)
            ledger_sent(&ledger, number);
        STORY_AWAIT(atomic_load(&racers_left) == 0);
    }
    (void)ledger_balance(&ledger);
    chan_unref(line);
    rt_stop(0);
}

static void a_salvo_at_the_deadline_hits_or_misses(void **state) {
    story(2, salvo_story);
}

/* A coroutine that was served may end at once and its struct g start over on another P, while the
 * server is still about to wake it. */
enum { MAYFLIES = 4000, MAYFLIES_AT_ONCE = 32 };
static _Atomic int mayflies_left;

static void lives_for_one_element(void *arg) {
    int number;
    /* With a deadline on the current tick, so that some wake by themselves while they are served. */
    while (chan_recv(line, &number, (clock_mono_ns() / NS_PER_MS + 1) * NS_PER_MS) != 0) {
    }
    ledger_received(&ledger, number);
    atomic_fetch_sub(&mayflies_left, 1);
}

static void feeds_mayflies(void *arg) {
    for (int i = 0; i < MAYFLIES; i++) {
        int number = ledger_issue(&ledger);
        CHECK(send_int(line, number) == 0);
        ledger_sent(&ledger, number);
    }
}

static void mayfly_story(void *arg) {
    line = new_chan(0);
    CHECK(go_on(1, "feeder", feeds_mayflies, NULL) == 0);
    for (int i = 0; i < MAYFLIES; i++) {
        atomic_fetch_add(&mayflies_left, 1);
        unsigned p = (unsigned)i % 3;
        if (p == 0)
            CHECK(go("mayfly", lives_for_one_element, NULL) == 0);
        else
            CHECK(go_on(p * 2 - 2, "mayfly", lives_for_one_element, NULL) == 0);
        if (i % MAYFLIES_AT_ONCE == 0)
            STORY_AWAIT(atomic_load(&mayflies_left) < MAYFLIES_AT_ONCE);
    }
    STORY_AWAIT(atomic_load(&mayflies_left) == 0);
    CHECK(ledger_balance(&ledger) == MAYFLIES);
    chan_unref(line);
    rt_stop(0);
}

static void a_server_never_wakes_a_coroutine_that_has_ended(void **state) {
    story(4, mayfly_story);
}

/* ---- Any thread ---- */

enum { FOREIGN = 3000 };

static void *echoes_from_a_thread(void *arg) {
    int value, err;
    while ((err = chan_try_recv(forth, &value)) != -EPIPE) {
        if (err == -EAGAIN) {
            sched_yield();
            continue;
        }
        while (chan_try_send(back, &value) == -EAGAIN)
            sched_yield();
    }
    chan_close(back);
    return NULL;
}

static void talks_to_the_thread(void *arg) {
    for (int i = 0; i < FOREIGN; i++) {
        CHECK(send_int(forth, i) == 0);
        CHECK(recv_int(back) == i);
    }
    chan_close(forth);
    CHECK(chan_recv(back, NULL, story_soon()) == -EPIPE); /* closed by the thread */
    atomic_fetch_sub(&racers_left, 1);
}

static void foreign_story(void *arg) {
    for (uint32_t capacity = 0; capacity < 3; capacity++) {
        forth = new_chan(capacity);
        back = new_chan(capacity);
        atomic_store(&racers_left, 1);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, echoes_from_a_thread, NULL) == 0);
        CHECK(go("talks", talks_to_the_thread, NULL) == 0);
        STORY_AWAIT(atomic_load(&racers_left) == 0);
        pthread_join(thread, NULL);
        chan_unref(forth);
        chan_unref(back);
    }
    rt_stop(0);
}

static void threads_of_others_may_try_and_close(void **state) {
    story(1, foreign_story);
    story(2, foreign_story);
}

/* A scheduler callback, which cannot park, feeds a coroutine that waits and takes its answer. */
static void callback_serves(struct rt_post *post) {
    CHECK(rt_self() == NULL);
    CHECK(try_send_int(forth, 3) == 0);
    CHECK(try_send_int(forth, 4) == -EAGAIN);
    int value;
    CHECK(chan_try_recv(back, &value) == 0 && value == 2);
    chan_close(back);
}

static void callback_story(void *arg) {
    forth = new_chan(0);
    back = new_chan(1);
    CHECK(send_int(back, 2) == 0);
    struct rt_post post = {.fn = callback_serves};
    rt_post(0, &post);
    CHECK(recv_int(forth) == 3);
    CHECK(chan_recv(back, NULL, story_soon()) == -EPIPE);
    chan_unref(forth);
    chan_unref(back);
    rt_stop(0);
}

static void scheduler_callbacks_may_try_and_close(void **state) {
    story(1, callback_story);
}

/* ---- References and limits ---- */

static void holds_a_reference(void *arg) {
    struct chan *ch = arg;
    CHECK(recv_int(ch) == 1);
    rt_yield(); /* the other holder lets go first */
    CHECK(recv_int(ch) == 2);
    chan_unref(ch);
    senders_returned++;
}

/* LeakSanitizer and AddressSanitizer notice a reference too many or too few. Several, because they find
 * the address of the last one or two somewhere on a stack. */
static void references_story(void *arg) {
    for (int i = 0; i < 10; i++) {
        struct chan *ch = new_chan(2);
        CHECK(go_here("holder", holds_a_reference, chan_ref(ch)) == 0);
        CHECK(send_int(ch, 1) == 0);
        CHECK(send_int(ch, 2) == 0);
        chan_unref(ch);
        STORY_AWAIT(senders_returned == i + 1);
    }
    struct chan *full = new_chan(2);
    CHECK(send_int(full, 1) == 0);
    chan_unref(full); /* what it still holds is dropped */
    rt_stop(0);
}

static void the_last_reference_frees(void **state) {
    story(1, references_story);
}

static void too_large_elements(void *arg) {
    (void)chan_new(CHAN_ELEM_MAX + 1, 0);
}

static void too_many_elements(void *arg) {
    (void)chan_new(1, CHAN_CAPACITY_MAX + 1);
}

static void closes_null(void *arg) {
    chan_close(NULL);
}

static void drops_a_channel_in_use(void *arg) {
    line = new_chan(0);
    CHECK(go_here("receiver", receives_patiently, NULL) == 0);
    let_others_park();
    chan_unref(line);
}

static void broken_contracts_assert(void **state) {
    struct rlimit no_core = {0, 0};
    assert_int_equal(setrlimit(RLIMIT_CORE, &no_core), 0);
    story_asserts(too_large_elements);
    story_asserts(too_many_elements);
    story_asserts(closes_null);
    story_asserts(drops_a_channel_in_use);
}

static void memory_story(void *arg) {
    struct rlimit limit = {16 << 20, 16 << 20};
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    CHECK(chan_new(CHAN_ELEM_MAX, CHAN_CAPACITY_MAX) == NULL);
    struct chan *small = new_chan(0);
    chan_unref(small);
    rt_stop(0);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool memory_may_run_short = false; /* their allocators end the process */
#else
static const bool memory_may_run_short = true;
#endif

static void without_memory_there_is_no_channel(void **state) {
    story_skip_if_emulated("the limit of memory would be the emulator's");
    if (!memory_may_run_short)
        skip();
    story(1, memory_story);
}

/* ---- All of it at random ---- */

enum { CROWD = 40, CROWD_CHANNELS = 3, CROWD_OPERATIONS = 600 };
static struct chan *crowd_channels[CROWD_CHANNELS];

static void random_operation(uint64_t *seed) {
    struct chan *ch = crowd_channels[next_random(seed) % CROWD_CHANNELS];
    bool tries = next_random(seed) % 4 == 0;
    int64_t deadline_ns = clock_mono_ns() + (int64_t)(next_random(seed) % (2 * NS_PER_MS));
    int number = -1, err;
    if (next_random(seed) % 2) {
        number = ledger_issue(&ledger);
        err = tries ? chan_try_send(ch, &number) : chan_send(ch, &number, deadline_ns);
        if (err == 0)
            ledger_sent(&ledger, number);
    } else {
        err = tries ? chan_try_recv(ch, &number) : chan_recv(ch, &number, deadline_ns);
        if (err == 0)
            ledger_received(&ledger, number);
    }
    CHECK(err == 0 || err == (tries ? -EAGAIN : -ETIMEDOUT) || err == -EPIPE);
}

static void one_of_the_crowd(void *arg) {
    uint64_t seed = 521288629521288629U + (uintptr_t)arg;
    for (int i = 0; i < CROWD_OPERATIONS; i++) {
        random_operation(&seed);
        if (next_random(&seed) % 8 == 0)
            rt_yield();
    }
    /* Each leaves by closing one: the last of them meet closed channels only. */
    if ((uintptr_t)arg % (CROWD / CROWD_CHANNELS) == 0)
        chan_close(crowd_channels[(uintptr_t)arg / (CROWD / CROWD_CHANNELS) % CROWD_CHANNELS]);
    atomic_fetch_sub(&racers_left, 1);
}

static void crowd_story(void *arg) {
    static const uint32_t capacities[CROWD_CHANNELS] = {0, 1, 5};
    for (int i = 0; i < CROWD_CHANNELS; i++)
        crowd_channels[i] = new_chan(capacities[i]);
    atomic_store(&racers_left, CROWD);
    for (uintptr_t i = 0; i < CROWD; i++) {
        if (i % 2)
            CHECK(go("one", one_of_the_crowd, (void *)i) == 0);
        else
            CHECK(go_on((unsigned)i / 2 % rt_p_count(), "one", one_of_the_crowd, (void *)i) == 0);
    }
    STORY_AWAIT(atomic_load(&racers_left) == 0);
    for (int i = 0; i < CROWD_CHANNELS; i++) {
        int left;
        while (chan_try_recv(crowd_channels[i], &left) == 0)
            ledger_received(&ledger, left);
        chan_unref(crowd_channels[i]);
    }
    CHECK(ledger_balance(&ledger) > 0);
    rt_stop(0);
}

static void whatever_a_crowd_does_nothing_is_lost_or_doubled(void **state) {
    story(1, crowd_story);
    story(4, crowd_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_keeps_the_order),
        cmocka_unit_test(elements_of_any_size_are_copied),
        cmocka_unit_test(try_never_waits),
        cmocka_unit_test(who_waits_longest_receives_first),
        cmocka_unit_test(a_waiting_senders_element_keeps_its_place),
        cmocka_unit_test(a_rendezvous_orders_both_sides),
        cmocka_unit_test(a_closed_channel_is_drained_first),
        cmocka_unit_test(close_wakes_all_who_wait),
        cmocka_unit_test(on_null_nothing_is_ever_ready),
        cmocka_unit_test(after_a_deadline_nothing_was_exchanged),
        cmocka_unit_test(a_cancelled_wait_exchanges_nothing),
        cmocka_unit_test(an_exchange_beats_a_cancellation_of_the_same_moment),
        cmocka_unit_test(a_token_for_something_else_ends_no_wait),
        cmocka_unit_test(a_deadline_that_races_loses_and_doubles_nothing),
        cmocka_unit_test(a_salvo_at_the_deadline_hits_or_misses),
        cmocka_unit_test(a_server_never_wakes_a_coroutine_that_has_ended),
        cmocka_unit_test(threads_of_others_may_try_and_close),
        cmocka_unit_test(scheduler_callbacks_may_try_and_close),
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(broken_contracts_assert),
        cmocka_unit_test(without_memory_there_is_no_channel),
        cmocka_unit_test(whatever_a_crowd_does_nothing_is_lost_or_doubled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
