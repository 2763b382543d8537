/* ext/remote/port.c, shm.c, shm_slot.c: a proxy's Ps and a host process, which is a child here, talk through one
 * shm. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "../rt/rt_story.h"
#include "base/ticks.h"
#include "ext/remote/port.h"

/* What a seat is told to do. */
enum kind {
    ECHO = 1, /* send it back to the P that it names */
    HOLD,     /* take nothing more until a byte comes through the gate */
    SCRIBBLE, /* the host turns hostile: over all rings of Ps */
    ASK,      /* ask the P that it names, and say how that went */
    ENDS,
    /* To a P. */
    QUESTION,
    ASKED_WELL,
};

enum { SEATS = 2, PS = 2, SLOTS = 2, ASKERS = 4, LATE = 20 };

static const struct remote_shm_layout layout = {.seat_count = SEATS,
                                                .p_count = PS,
                                                .slot_count = SLOTS,
                                                .seat_ring_size = REMOTE_RING_SIZE_MIN,
                                                .p_ring_size = REMOTE_RING_SIZE_MIN};

struct told {
    uint32_t p, number, slot;
};

/* Made before the fork, so both processes have them. */
static int gate[2];
static pid_t host_pid;

/* ---- the host ---- */

struct seat_thread {
    struct remote_shm *shm;
    uint32_t seat;
};

static void send_to_p(struct remote_shm *shm, uint32_t p, enum kind kind, struct span payload) {
    struct remote_ring_out *out = remote_shm_p_out(shm, p);
    int err;
    while ((err = remote_ring_out_put(out, kind, payload)) == -EAGAIN)
        CHECK(remote_ring_out_wait(out, payload.len, story_soon()) == 0);
    CHECK(err == 0);
    (void)remote_ring_out_wake(out);
}

static void scribble(struct remote_shm *shm) {
    for (uint32_t p = 0; p < PS; p++) {
        const struct remote_ring_memory *ring = remote_shm_p_ring(shm, p);
        memset(ring->data, 0xff, ring->size);
        atomic_store(&ring->words->tail, 64);
        remote_ring_out_nudge(remote_shm_p_out(shm, p));
    }
}

struct asker {
    struct remote_shm *shm;
    uint32_t p, number;
};

static void *asks_once(void *arg) {
    const struct asker *self = arg;
    struct remote_shm *shm = self->shm;
    uint32_t slot;
    CHECK(remote_shm_slot_claim(shm, story_soon(), &slot) == 0);
    struct told told = {.p = self->p, .number = self->number, .slot = slot};
    send_to_p(shm, told.p, QUESTION, span_make(&told, sizeof told));
    struct span answer;
    CHECK(remote_shm_slot_wait(shm, slot, story_soon(), &answer) == 0);
    CHECK(answer.len == 1000 + told.number);
    for (size_t i = 0; i < answer.len; i++)
        CHECK(answer.ptr[i] == 'a' + (char)told.number);
    remote_shm_slot_release(shm, slot, true);
    return NULL;
}

/* More threads than slots: they take turns. One that gives up is answered late, and nobody hears that. */
static void ask(struct remote_shm *shm, const struct told *told) {
    pthread_t threads[ASKERS];
    struct asker askers[ASKERS];
    uint32_t slot, slots[SLOTS];
    struct span answer;
    CHECK(remote_shm_slot_claim(shm, story_soon(), &slot) == 0);
    struct told late = {.p = told->p, .number = LATE, .slot = slot};
    send_to_p(shm, told->p, QUESTION, span_make(&late, sizeof late));
    CHECK(remote_shm_slot_wait(shm, slot, clock_mono_ns() + NS_PER_MS, &answer) == -ETIMEDOUT);
    remote_shm_slot_release(shm, slot, true);
    for (uint32_t i = 0; i < ASKERS; i++) {
        askers[i] = (struct asker){shm, told->p, i};
        CHECK(pthread_create(&threads[i], NULL, asks_once, &askers[i]) == 0);
    }
    for (int i = 0; i < ASKERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < SLOTS; i++)
        CHECK(remote_shm_slot_claim(shm, story_soon(), &slots[i]) == 0);
    CHECK(remote_shm_slot_claim(shm, clock_mono_ns() + NS_PER_MS, &slot) == -ETIMEDOUT);
    for (int i = 0; i < SLOTS; i++)
        remote_shm_slot_release(shm, slots[i], false);
    send_to_p(shm, told->p, ASKED_WELL, span_make(told, sizeof *told));
}

static void *serves_seat(void *arg) {
    const struct seat_thread *self = arg;
    struct remote_ring_in *in = remote_shm_seat_in(self->shm, self->seat);
    for (;;) {
        struct remote_record record;
        int err = remote_ring_in_next(in, &record);
        if (err == -EAGAIN) {
            CHECK(remote_ring_in_wait(in, story_soon()) == 0);
            continue;
        }
        CHECK(err == 0);
        struct told told = {0};
        if (record.payload.len >= sizeof told)
            remote_record_copy(&record, 0, &told, sizeof told);
        char byte;
        switch ((enum kind)record.kind) {
        case ECHO:
            send_to_p(self->shm, told.p, ECHO, record.payload);
            break;
        case HOLD:
            CHECK(read(gate[0], &byte, 1) == 1);
            break;
        case SCRIBBLE:
            scribble(self->shm);
            break;
        case ASK:
            ask(self->shm, &told);
            break;
        case ENDS:
            return NULL;
        default:
            CHECK(!"a kind that seats know");
        }
        remote_ring_in_done(in);
    }
}

/* Copies, as a process of its own gets them. */
static int open_as_host(const struct remote_shm *shm, struct remote_shm **out) {
    int fds[REMOTE_SHM_FDS_MAX];
    unsigned count = remote_shm_fds(shm, fds);
    for (unsigned i = 0; i < count; i++) {
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        CHECK(fds[i] >= 0);
    }
    return remote_shm_open(fds, count, out);
}

static _Noreturn void host_main(const struct remote_shm *proxys) {
    struct remote_shm *shm;
    CHECK(open_as_host(proxys, &shm) == 0);
    pthread_t threads[SEATS];
    struct seat_thread args[SEATS];
    for (uint32_t i = 0; i < SEATS; i++) {
        args[i] = (struct seat_thread){shm, i};
        CHECK(pthread_create(&threads[i], NULL, serves_seat, &args[i]) == 0);
    }
    for (int i = 0; i < SEATS; i++)
        pthread_join(threads[i], NULL);
    remote_shm_free(shm);
    _exit(0);
}

/* ---- the proxy ---- */

static struct remote_shm *shared;
static struct remote_port ports[PS];
static uint32_t heard[PS], questions[PS], broken[PS];
static bool asked_well;
static _Atomic uint32_t done;

static void write_answer(const struct told *told) {
    char *room = remote_shm_answer_room(shared, told->slot);
    CHECK(room);
    memset(room, 'a' + (int)told->number, 1000 + told->number);
    remote_shm_answer(shared, told->slot, 1000 + told->number);
}

/* The late one's last, and nobody else is to have its slot before. */
static void answer(const struct told *told) {
    static struct told late;
    if (told->number == LATE) {
        late = *told;
        return;
    }
    CHECK(told->slot != late.slot);
    write_answer(told);
    if (questions[0] == 1 + ASKERS)
        write_answer(&late);
}

static void hears(struct remote_port *port, const struct remote_record *record) {
    struct told told;
    CHECK(!rt_self());
    CHECK(record->payload.len >= sizeof told);
    remote_record_copy(record, 0, &told, sizeof told);
    CHECK(told.p == rt_p_index());
    switch ((enum kind)record->kind) {
    case ECHO:
        heard[told.p]++;
        remote_port_expect_less(port, 1);
        break;
    case QUESTION:
        questions[told.p]++;
        answer(&told);
        break;
    case ASKED_WELL:
        asked_well = true;
        break;
    default:
        CHECK(!"a kind that Ps know");
    }
}

static void breaks(struct remote_port *port) {
    broken[port - ports]++;
}

static struct remote_port *open_port(void) {
    struct remote_port *port = &ports[rt_p_index()];
    CHECK(remote_port_open(port, shared, hears, breaks) == 0);
    return port;
}

static void put(struct remote_port *port, uint32_t seat, enum kind kind) {
    struct told told = {.p = rt_p_index()};
    CHECK(remote_port_put(port, seat, kind, span_make(&told, sizeof told)) == 0);
    if (kind == ECHO)
        remote_port_expect(port, 1);
}

static bool seat_sleeps(uint32_t seat) {
    return atomic_load(&remote_shm_seat_out(shared, seat)->memory.words->asleep);
}

static bool port_listens(const struct remote_port *port) {
    return atomic_load(&port->in.memory.words->asleep);
}

/* Each story is main_fn of a runtime with a host process beside it. */
static void (*story_body)(void);

static void with_shm(void *arg) {
    story_body();
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        struct remote_ring_out *out = remote_shm_seat_out(shared, seat);
        CHECK(remote_ring_out_put(out, ENDS, span_none()) == 0);
        (void)remote_ring_out_wake(out);
    }
    remote_shm_free(shared);
    rt_stop(0);
}

static void story_with_host(unsigned p_count, void (*body)(void)) {
    int status;
    assert_int_equal(remote_shm_new(&layout, &shared), 0);
    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    fflush(NULL);
    host_pid = fork();
    if (host_pid == 0)
        host_main(shared);
    assert_true(host_pid > 0);
    story_body = body;
    story(p_count, with_shm); /* in a process of its own, too */
    remote_shm_free(shared);
    (void)close(gate[0]);
    (void)close(gate[1]);
    assert_int_equal(waitpid(host_pid, &status, 0), host_pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- questions and answers, of all sizes ---- */

enum { ECHOES = 300 };

static void sends_echoes(void *arg) {
    struct remote_port *port = open_port();
    uint32_t p = rt_p_index();
    for (uint32_t i = 0; i < ECHOES; i++) {
        static char text[ECHOES * 16];
        struct told told = {.p = p, .number = i};
        uint32_t seat = i % SEATS;
        size_t len = sizeof told + i * 16UL;
        char *room;
        int err;
        while ((err = remote_port_begin(port, seat, len, &room)) == -EAGAIN)
            CHECK(remote_port_wait(port, seat, len, story_soon()) == 0);
        CHECK(err == 0);
        memcpy(room, &told, sizeof told);
        memcpy(room + sizeof told, text, len - sizeof told);
        remote_port_commit(port, seat, ECHO, len);
        remote_port_expect(port, 1);
        if (i % 50 == 0)
            STORY_AWAIT(heard[p] == i + 1);
    }
    STORY_AWAIT(heard[p] == ECHOES);
    remote_port_close(port);
    done++;
}

static void two_ps_body(void) {
    for (unsigned p = 0; p < PS; p++)
        CHECK(go_on(p, "echoes", sends_echoes, NULL) == 0);
    STORY_AWAIT(done == PS);
}

static void two_ps_write_to_two_seats_and_are_answered(void **state) {
    story_with_host(2, two_ps_body);
}

/* ---- wakes ---- */

static void one_wake_body(void) {
    ticks_rate.ns_per_tick_32 = 0; /* no round takes so long that it would be cut in two */
    struct remote_port *port = open_port();
    STORY_AWAIT(seat_sleeps(0) && seat_sleeps(1));
    for (int i = 0; i < 20; i++)
        put(port, 0, ECHO);
    CHECK(seat_sleeps(0)); /* still */
    STORY_AWAIT(heard[0] == 20);
    CHECK(port->woken == 1);
    remote_port_close(port);
}

static void what_a_round_wrote_to_a_seat_wakes_it_once(void **state) {
    story_with_host(1, one_wake_body);
}

/* It sleeps in its poller otherwise, and nothing but the bell would end that. */
static void idle_body(void) {
    struct remote_port *port = open_port();
    for (uint32_t i = 1; i <= 20; i++) {
        put(port, i % SEATS, ECHO);
        STORY_AWAIT(heard[0] == i);
        STORY_AWAIT(port_listens(port)); /* nothing is expected: it costs nothing any more */
    }
    CHECK(port->rung_at <= 20);
    remote_port_close(port);
}

static void an_idle_p_is_rung_at(void **state) {
    story_with_host(1, idle_body);
}

static struct g *sleeper;
static void hears_and_wakes(struct remote_port *port, const struct remote_record *record) {
    hears(port, record);
    rt_ready(sleeper);
}

/* No timer, no event: what the host writes is all that can wake it. */
static void asleep_body(void) {
    struct remote_port *port = open_port();
    port->on_record = hears_and_wakes;
    sleeper = rt_self();
    for (uint32_t i = 1; i <= 50; i++) {
        put(port, i % SEATS, ECHO);
        while (heard[0] < i)
            CHECK(rt_park("an echo", RT_FOREVER) == 0);
    }
    remote_port_close(port);
}

static void a_p_that_sleeps_for_good_is_woken_by_records(void **state) {
    story_with_host(1, asleep_body);
    story_with_host(2, asleep_body);
}

/* Also while something is expected: then the host is to ring, and the P does not look for it without end. */
static void held_body(void) {
    struct remote_port *port = open_port();
    put(port, 0, HOLD);
    put(port, 0, ECHO);
    STORY_AWAIT(port_listens(port));
    CHECK(port->expected == 1);
    CHECK(write(gate[1], "!", 1) == 1);
    STORY_AWAIT(heard[0] == 1);
    remote_port_close(port);
}

static void a_p_that_expects_something_sleeps(void **state) {
    story_with_host(1, held_body);
}

static void busy_body(void) {
    struct remote_port *port = open_port();
    STORY_AWAIT(seat_sleeps(0) && port_listens(port));
    for (uint32_t i = 1; i <= 20; i++) {
        put(port, 0, ECHO);
        for (int64_t until = story_soon(); heard[0] < i; rt_yield()) /* never idle */
            CHECK(clock_mono_ns() < until);
    }
    CHECK(port->rung_at == 0);
    remote_port_close(port);
}

static void a_busy_p_hears_without_being_rung_at(void **state) {
    story_with_host(1, busy_body);
}

/* ---- full rings ---- */

static struct remote_shm *gone;

static void fills(struct remote_port *port, uint32_t seat) {
    static char bytes[4096];
    struct told told = {.p = rt_p_index()};
    memcpy(bytes, &told, sizeof told);
    int err;
    while ((err = remote_port_put(port, seat, ECHO, span_make(bytes, sizeof bytes))) == 0)
        remote_port_expect(port, 1);
    CHECK(err == -EAGAIN);
}

static _Atomic uint32_t waiting, through;

static void waits_for_room(void *arg) {
    struct remote_port *port = arg;
    int err = 0;
    char *room;
    struct told told = {.p = rt_p_index()};
    waiting++;
    while ((err = remote_port_begin(port, 0, 4096, &room)) == -EAGAIN &&
           (err = remote_port_wait(port, 0, 4096, story_soon())) == 0)
        ;
    CHECK(err == (gone ? -EPIPE : 0));
    if (err == 0) {
        memcpy(room, &told, sizeof told);
        remote_port_commit(port, 0, ECHO, 4096);
        remote_port_expect(port, 1);
    }
    through++;
}

enum { WAITERS = 10 };

static void waiters_of_p(void *arg) {
    struct remote_port *port = open_port();
    if (rt_p_index() == 0) {
        put(port, 0, HOLD);
        fills(port, 0);
    }
    done++;
    STORY_AWAIT(done == PS);
    for (int i = 0; i < WAITERS; i++)
        CHECK(go_here("waits", waits_for_room, port) == 0);
    STORY_AWAIT(waiting == PS * WAITERS);
    if (rt_p_index() == 0 && gone)
        remote_shm_hang_up(gone);
    if (rt_p_index() == 0)
        CHECK(write(gate[1], "!", 1) == 1);
    STORY_AWAIT(through == PS * WAITERS);
    STORY_AWAIT(port->expected == 0);
    remote_port_close(port);
    done++;
}

static void full_body(void) {
    for (unsigned p = 0; p < PS; p++)
        CHECK(go_on(p, "waiters", waiters_of_p, NULL) == 0);
    STORY_AWAIT(done == 2 * PS);
}

static void who_finds_a_ring_full_goes_on_when_there_is_room(void **state) {
    story_with_host(2, full_body);
}

static void gone_body(void) {
    gone = shared;
    full_body();
}

static void nobody_waits_for_room_of_a_host_that_is_gone(void **state) {
    story_with_host(2, gone_body);
}

static void impatient_body(void) {
    struct remote_port *port = open_port();
    put(port, 0, HOLD);
    fills(port, 0);
    CHECK(remote_port_wait(port, 0, 4096, clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    CHECK(write(gate[1], "!", 1) == 1);
    STORY_AWAIT(port->expected == 0);
    remote_port_close(port);
}

static void a_wait_for_room_has_a_deadline(void **state) {
    story_with_host(1, impatient_body);
}

/* ---- questions of the host ---- */

static void questions_body(void) {
    struct remote_port *port = open_port();
    put(port, 1, ASK);
    STORY_AWAIT(asked_well); /* by the bell: nothing is expected */
    CHECK(questions[0] == 1 + ASKERS);
    CHECK(!remote_shm_answer_room(shared, SLOTS));
    remote_port_close(port);
}

static void a_host_asks_and_is_answered(void **state) {
    story_with_host(1, questions_body);
}

/* ---- a host that turns hostile ---- */

static void hostile_body(void) {
    struct remote_port *port = open_port();
    put(port, 0, SCRIBBLE);
    STORY_AWAIT(broken[0] == 1);
    put(port, 0, HOLD); /* writing goes on: who ends the host is told once, and that was it */
    CHECK(write(gate[1], "!", 1) == 1);
    STORY_AWAIT(seat_sleeps(0));
    CHECK(broken[0] == 1 && heard[0] == 0);
    remote_port_close(port);
}

static void what_cannot_be_is_told_once(void **state) {
    story_with_host(1, hostile_body);
}

/* ---- the file ---- */

static void a_file_takes_only_what_was_touched(void **state) {
    const struct remote_shm_layout large = {.seat_count = 256, .p_count = 32, .slot_count = 256};
    struct remote_shm *shm;
    assert_int_equal(remote_shm_new(&large, &shm), 0);
    assert_int_equal(remote_shm_layout(shm)->seat_ring_size, REMOTE_RING_SIZE);
    assert_in_range(remote_shm_resident_bytes(shm), 1, REMOTE_PAGE); /* its head */
    assert_int_equal(remote_ring_out_put(remote_shm_seat_out(shm, 255), 1, SPAN_LIT("one")), 0);
    assert_in_range(remote_shm_resident_bytes(shm), 1, 3 * REMOTE_PAGE);
    remote_shm_free(shm);
}

/* By mistake: something else, or of another build. */
static void a_host_takes_no_other_memory(void **state) {
    struct remote_shm *shm;
    for (off_t size = 0; size <= 3 * REMOTE_PAGE; size += 100) {
        int fds[2] = {memfd_create("something else", MFD_CLOEXEC), dup(0)};
        assert_int_equal(ftruncate(fds[0], size), 0);
        assert_int_equal(remote_shm_open(fds, 2, &shm), -EPROTO);
        assert_int_equal(fds[0], -1);
        assert_int_equal(fds[1], -1);
    }
}

/* The proxy has it mapped: cut off, it would fault there. */
static void a_host_cannot_change_the_file_s_size(void **state) {
    struct remote_shm *proxys, *hosts;
    assert_int_equal(remote_shm_new(&layout, &proxys), 0);
    int next_fd = dup(0); /* the next that is opened has this number */
    assert_int_equal(close(next_fd), 0);
    assert_int_equal(open_as_host(proxys, &hosts), 0);
    assert_int_equal(ftruncate(next_fd, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_true(fcntl(next_fd, F_GETFD) & FD_CLOEXEC);
    remote_shm_free(hosts);
    assert_int_equal(fcntl(next_fd, F_GETFD), -1); /* closed */
    remote_shm_free(proxys);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ps_write_to_two_seats_and_are_answered),
        cmocka_unit_test(what_a_round_wrote_to_a_seat_wakes_it_once),
        cmocka_unit_test(an_idle_p_is_rung_at),
        cmocka_unit_test(a_p_that_sleeps_for_good_is_woken_by_records),
        cmocka_unit_test(a_p_that_expects_something_sleeps),
        cmocka_unit_test(a_busy_p_hears_without_being_rung_at),
        cmocka_unit_test(who_finds_a_ring_full_goes_on_when_there_is_room),
        cmocka_unit_test(nobody_waits_for_room_of_a_host_that_is_gone),
        cmocka_unit_test(a_wait_for_room_has_a_deadline),
        cmocka_unit_test(a_host_asks_and_is_answered),
        cmocka_unit_test(what_cannot_be_is_told_once),
        cmocka_unit_test(a_file_takes_only_what_was_touched),
        cmocka_unit_test(a_host_takes_no_other_memory),
        cmocka_unit_test(a_host_cannot_change_the_file_s_size),
    };
    return cmocka_run_group_tests_name("port", tests, NULL, NULL);
}
