/* chan, select: an operation happens once or not at all, and both sides agree on which; what was written
 * before a send is seen after its receive; nobody waits for what has happened, and nobody is woken who
 * may have ended. chan.c and select.c as they are, with their deadlines and closes at every moment.
 *
 * Each thread makes one operation, so that no memory of one wait serves another in the same run: the
 * explorer follows atomic operations and not the initialisation of a struct on a stack. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rt/chan.h"
#include "rt/select.h"
#include "stage.h"

static struct chan *a, *b;
static uint32_t capacity;
static enum stage_role role;
static bool with_deadline;
static int result[MODEL_THREADS_MAX];
static bool was_closed[MODEL_THREADS_MAX];
static uintptr_t got[MODEL_THREADS_MAX];
static struct model_cell parcel[MODEL_THREADS_MAX]; /* what the element of each sender points to */

static void setup(void) {
    enum stage_role roles[MODEL_THREADS_MAX] = {role, role, role, role};
    stage_setup(roles);
    memset(parcel, 0, sizeof parcel);
    memset(got, 0, sizeof got);
    memset(was_closed, 0, sizeof was_closed);
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++)
        result[i] = 1;
    a = chan_new(sizeof(uintptr_t), capacity);
    b = chan_new(sizeof(uintptr_t), capacity);
    MODEL_CHECK(a && b);
    if (a > b) { /* the same in each run: selects lock in the order of the addresses */
        struct chan *swap = a;
        a = b;
        b = swap;
    }
}

static int64_t deadline(void) {
    return with_deadline ? stage_deadline() : RT_FOREVER;
}

/* The channels go at the end of each run, without locks or counts: other runs have the same memory. */
static void check_conservation(void) {
    stage_check_all_ended();
    bool taken[MODEL_THREADS_MAX] = {false};
    unsigned sent = 0, received = 0;
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++) {
        if (got[i]) {
            MODEL_CHECK(!taken[got[i] - 1]); /* once */
            taken[got[i] - 1] = true;
            MODEL_CHECK(result[got[i] - 1] >= 0); /* its send says so */
            received++;
        }
    }
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++)
        sent += parcel[i].value != 0 && result[i] >= 0 && !was_closed[i];
    sent -= chan_len(a) + chan_len(b);
    MODEL_CHECK(sent == received);
    free(a);
    free(b);
}

/* ---- What a thread does ---- */

static void sends_to(struct chan *ch) {
    unsigned i = model_thread();
    uintptr_t elem = i + 1;
    model_cell_write(&parcel[i], 70 + i);
    result[i] = chan_send(ch, &elem, deadline());
    MODEL_CHECK(result[i] == 0 || result[i] == -EPIPE ||
                (with_deadline && result[i] == -ETIMEDOUT));
    stage_end();
}

static void opens_parcel(uintptr_t elem) {
    unsigned i = model_thread();
    got[i] = elem;
    MODEL_CHECK(elem >= 1 && elem <= MODEL_THREADS_MAX);
    MODEL_CHECK(model_cell_read(&parcel[elem - 1]) == 70 + elem - 1);
}

static void sends_a(void) {
    sends_to(a);
}

static void sends_b(void) {
    sends_to(b);
}

static void receives_a(void) {
    unsigned i = model_thread();
    uintptr_t elem = 0;
    result[i] = chan_recv(a, &elem, deadline());
    if (result[i] == 0)
        opens_parcel(elem);
    else
        MODEL_CHECK(result[i] == -EPIPE || (with_deadline && result[i] == -ETIMEDOUT));
    stage_end();
}

static void closes_a(void) {
    chan_close(a);
}

static void selects_receive_a_or_b(void) {
    unsigned i = model_thread();
    uintptr_t from_a = 0, from_b = 0;
    struct select_case cases[] = {{SELECT_RECV, a, &from_a, false},
                                  {SELECT_RECV, b, &from_b, false}};
    result[i] = select_wait(cases, 2, deadline());
    stage_end();
    if (result[i] < 0) {
        MODEL_CHECK(with_deadline && result[i] == -ETIMEDOUT);
        MODEL_CHECK(!from_a && !from_b);
        return;
    }
    was_closed[i] = cases[result[i]].closed;
    if (was_closed[i])
        return;
    MODEL_CHECK(!from_a != !from_b); /* one of the two */
    MODEL_CHECK(result[i] == (from_a ? 0 : 1));
    opens_parcel(from_a | from_b);
}

static void selects_send_b_or_a(void) {
    unsigned i = model_thread();
    uintptr_t elem = i + 1;
    model_cell_write(&parcel[i], 70 + i);
    struct select_case cases[] = {{SELECT_SEND, b, &elem, false}, {SELECT_SEND, a, &elem, false}};
    result[i] = select_wait(cases, 2, deadline());
    stage_end();
    if (result[i] >= 0)
        was_closed[i] = cases[result[i]].closed;
    else
        MODEL_CHECK(with_deadline && result[i] == -ETIMEDOUT);
}

/* ---- The stories ---- */

int main(void) {
    static const struct {
        const char *name;
        uint32_t capacity;
        bool with_deadline;
        void (*threads[3])(void);
    } rows[] = {
        {"a sender meets a receiver", 0, false, {sends_a, receives_a}},
        {"the same with deadlines", 0, true, {sends_a, receives_a}},
        {"two senders, one receiver, deadlines", 0, true, {sends_a, receives_a, sends_a}},
        {"two receivers, one sender, deadlines", 0, true, {receives_a, sends_a, receives_a}},
        {"one slot, two senders, one receiver", 1, true, {sends_a, sends_a, receives_a}},
        {"a close while both wait", 0, false, {sends_a, receives_a, closes_a}},
        {"a close of a buffered one", 1, false, {sends_a, receives_a, closes_a}},
        {"a select and a sender on each, deadlines",
         0,
         true,
         {selects_receive_a_or_b, sends_a, sends_b}},
        {"two selects in opposite orders", 0, false, {selects_receive_a_or_b, selects_send_b_or_a}},
        {"two selects in opposite orders, deadlines",
         0,
         true,
         {selects_receive_a_or_b, selects_send_b_or_a}},
        {"two selects and a close",
         0,
         true,
         {selects_receive_a_or_b, selects_send_b_or_a, closes_a}},
        {"a select, a sender and a close", 0, true, {selects_receive_a_or_b, sends_a, closes_a}},
    };
    static const enum stage_role roles[] = {STAGE_PINNED, STAGE_STEALABLE};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0] * 2; i++) {
        capacity = rows[i / 2].capacity;
        with_deadline = rows[i / 2].with_deadline;
        role = roles[i % 2];
        struct model_story story = {.name = rows[i / 2].name,
                                    .setup = setup,
                                    .check = check_conservation,
                                    .preemptions = 2,
                                    .stale_reads = 1};
        while (story.thread_count < 3 && rows[i / 2].threads[story.thread_count]) {
            story.threads[story.thread_count] = rows[i / 2].threads[story.thread_count];
            story.thread_count++;
        }
        model_explore(&story);
    }
    return 0;
}
