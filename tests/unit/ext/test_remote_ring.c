/* ext/remote/ring.c: records go through, whole and in order, between threads and between processes; whatever the
 * other end does. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "ext/remote/ring.h"

enum { SMALL = REMOTE_RING_SIZE_MIN };

static int64_t soon(void) {
    return clock_mono_ns() + 120 * NS_PER_S;
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* In a process of its own a failed check has nobody to jump to. */
#define CHECK(condition)                                                                           \
    ((condition)                                                                                   \
         ? (void)0                                                                                 \
         : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), _exit(99)))

struct both {
    struct remote_ring_memory memory;
    struct remote_ring_out out;
    struct remote_ring_in in;
};

static void setup(struct both *both, uint32_t size) {
    int fd = memfd_create("ring", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)remote_ring_span(size)), 0);
    assert_int_equal(remote_ring_map(fd, 0, size, &both->memory), 0);
    (void)close(fd);
    remote_ring_out_init(&both->out, &both->memory, REMOTE_BELL_NONE);
    remote_ring_in_init(&both->in, &both->memory);
}

static void teardown(struct both *both) {
    remote_ring_out_fini(&both->out);
    remote_ring_unmap(&both->memory);
}

/* ---- one thread ---- */

static void assert_next(struct both *both, uint32_t kind, const char *text) {
    struct remote_record record;
    assert_int_equal(remote_ring_in_next(&both->in, &record), 0);
    assert_int_equal(record.kind, kind);
    assert_int_equal(record.payload.len, strlen(text));
    assert_memory_equal(record.payload.ptr, text, strlen(text));
    remote_ring_in_done(&both->in);
}

static void records_arrive_in_order_and_whole(void **state) {
    struct both both;
    struct remote_record record;
    setup(&both, SMALL);
    assert_int_equal(remote_ring_in_next(&both.in, &record), -EAGAIN);
    assert_int_equal(remote_ring_out_put(&both.out, 7, span_of("one")), 0);
    assert_int_equal(remote_ring_out_put(&both.out, 8, span_none()), 0);
    char *room;
    assert_int_equal(remote_ring_out_begin(&both.out, 100, &room), 0);
    memcpy(room, "never sent", 10);
    remote_ring_out_cancel(&both.out);
    assert_int_equal(remote_ring_out_begin(&both.out, 100, &room), 0);
    memcpy(room, "shorter", 7);
    remote_ring_out_commit(&both.out, 9, 7);
    assert_true(remote_ring_in_has(&both.in));
    assert_false(remote_ring_in_was_nudged(&both.in));
    remote_ring_out_nudge(&both.out);
    remote_ring_out_nudge(&both.out);
    assert_true(remote_ring_in_was_nudged(&both.in));
    assert_false(remote_ring_in_was_nudged(&both.in));
    assert_next(&both, 7, "one");
    assert_next(&both, 8, "");
    assert_next(&both, 9, "shorter");
    assert_int_equal(remote_ring_in_next(&both.in, &record), -EAGAIN);
    assert_false(remote_ring_in_has(&both.in));
    teardown(&both);
}

/* The second mapping makes one piece of what goes over the end. */
static void a_record_over_the_end_is_in_one_piece(void **state) {
    struct both both;
    setup(&both, SMALL);
    char text[5000], seen[5000];
    for (unsigned i = 0; i < 3 * SMALL / sizeof text; i++) {
        memset(text, 'a' + (int)(i % 26), sizeof text);
        assert_int_equal(remote_ring_out_put(&both.out, i, span_make(text, sizeof text)), 0);
        struct remote_record record;
        assert_int_equal(remote_ring_in_next(&both.in, &record), 0);
        assert_int_equal(record.payload.len, sizeof text);
        remote_record_copy(&record, 0, seen, sizeof seen);
        assert_memory_equal(seen, text, sizeof text);
        remote_ring_in_done(&both.in);
    }
    teardown(&both);
}

static void a_full_ring_says_so_and_has_room_again(void **state) {
    struct both both;
    struct remote_record record;
    setup(&both, SMALL);
    static char bytes[SMALL];
    size_t most = remote_record_max(SMALL);
    char *room;
    assert_int_equal(remote_ring_out_begin(&both.out, most + 1, &room), -EMSGSIZE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(remote_ring_out_put(&both.out, 1, span_make(bytes, most)), 0);
    assert_int_equal(remote_ring_out_put(&both.out, 1, span_none()), -EAGAIN);
    assert_int_equal(remote_ring_out_want(&both.out, 0, 1), -EAGAIN);
    assert_int_equal(remote_ring_out_wait(&both.out, 0, clock_mono_ns() + NS_PER_MS), -ETIMEDOUT);
    assert_int_equal(remote_ring_in_next(&both.in, &record), 0);
    assert_int_equal(remote_ring_out_put(&both.out, 1, span_none()), -EAGAIN); /* not before done */
    remote_ring_in_done(&both.in);
    assert_int_equal(remote_ring_out_want(&both.out, most, 1), 0);
    assert_int_equal(remote_ring_out_put(&both.out, 1, span_make(bytes, most)), 0);
    teardown(&both);
}

/* What is taken at once uses the ring's beginning, over and over; what is not, all of it. */
static void a_ring_that_is_read_in_time_stays_small(void **state) {
    struct both both;
    static unsigned char in_memory[REMOTE_RING_SIZE / 4096];
    char text[3000] = "text";
    setup(&both, REMOTE_RING_SIZE);
    size_t pages = REMOTE_RING_SIZE / (size_t)sysconf(_SC_PAGESIZE);
    for (int held = 0; held <= 1; held++) { /* so many are not taken when the next one comes */
        for (uint32_t i = 0; i < 2000; i++) {
            char *room;
            assert_int_equal(remote_ring_out_begin(&both.out, sizeof text, &room), 0);
            remote_ring_out_cancel(&both.out); /* may have gone back: it never was */
            assert_int_equal(remote_ring_out_put(&both.out, i, span_make(text, sizeof text)), 0);
            struct remote_record record;
            if (i == 0 && held)
                continue;
            assert_int_equal(remote_ring_in_next(&both.in, &record), 0);
            assert_int_equal(record.kind, i - (uint32_t)held);
            assert_int_equal(record.payload.len, sizeof text);
            assert_memory_equal(record.payload.ptr, text, sizeof text);
            remote_ring_in_done(&both.in);
        }
        size_t resident = 0;
        assert_int_equal(mincore(both.memory.data, REMOTE_RING_SIZE, in_memory), 0);
        for (size_t i = 0; i < pages; i++)
            resident += in_memory[i] & 1;
        if (held)
            assert_int_equal(resident, pages);
        else
            assert_in_range(resident, 1, pages / 8);
    }
    teardown(&both);
}

/* As a producer that goes back to the beginning would, but nothing comes there; or once more. */
static void a_skip_is_followed_by_a_record(void **state) {
    struct remote_record record;
    static const struct {
        uint64_t head, tail; /* a skip at head; what is behind is all zeros, or another skip */
        bool again;
    } lies[] = {{0, 8, false}, {0, SMALL, false}, {8, SMALL + 8, true}};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct both both;
        setup(&both, SMALL);
        memset(both.memory.data + lies[i].head, 0xff, 8);
        if (lies[i].again)
            memset(both.memory.data, 0xff, 8);
        both.in.head = both.in.tail = both.in.told = lies[i].head;
        atomic_store(&both.memory.words->tail, lies[i].tail);
        assert_int_equal(remote_ring_in_next(&both.in, &record), -EPROTO);
        teardown(&both);
    }
}

/* ---- two processes ---- */

/* Payload: a sum, then bytes that it is of. */
static uint64_t sum_of(const char *bytes, size_t len) {
    uint64_t sum = 0xcbf29ce484222325ULL + len;
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ (unsigned char)bytes[i]) * 0x100000001b3ULL;
    return sum;
}

/* Mostly small, now and then as large as can be. */
static size_t some_len(uint64_t *seed, size_t most) {
    uint64_t random = next_random(seed);
    size_t len = random % 16 == 0 ? (random >> 8) % most : (random >> 8) % 200;
    return len < sizeof(uint64_t) ? sizeof(uint64_t) : len;
}

static void send_summed(struct remote_ring_out *out, uint32_t kind, uint64_t *seed) {
    size_t most = remote_record_max(out->memory.size), len = some_len(seed, most);
    char *room;
    int err;
    while ((err = remote_ring_out_begin(out, len, &room)) == -EAGAIN)
        CHECK(remote_ring_out_wait(out, len, soon()) == 0);
    CHECK(err == 0);
    for (size_t i = sizeof(uint64_t); i < len; i++)
        room[i] = (char)(len + i + kind);
    uint64_t sum = sum_of(room + sizeof sum, len - sizeof sum);
    memcpy(room, &sum, sizeof sum);
    remote_ring_out_commit(out, kind, len);
    if (next_random(seed) % 4 == 0)
        (void)remote_ring_out_wake(out);
}

static uint32_t receive_summed(struct remote_ring_in *in) {
    struct remote_record record;
    int err;
    while ((err = remote_ring_in_next(in, &record)) == -EAGAIN)
        CHECK(remote_ring_in_wait(in, soon()) == 0);
    CHECK(err == 0);
    uint64_t sum;
    CHECK(record.payload.len >= sizeof sum);
    memcpy(&sum, record.payload.ptr, sizeof sum);
    CHECK(sum == sum_of(record.payload.ptr + sizeof sum, record.payload.len - sizeof sum));
    remote_ring_in_done(in);
    return record.kind;
}

enum { RECORDS = 2000, PRODUCERS = 3 };

struct producer {
    struct remote_ring_out *out;
    uint32_t number;
};

static void *produces(void *arg) {
    const struct producer *self = arg;
    uint64_t seed = 88172645463325252ULL + self->number;
    for (uint32_t i = 0; i < RECORDS; i++)
        send_summed(self->out, self->number << 16 | i, &seed);
    (void)remote_ring_out_wake(self->out);
    return NULL;
}

static _Noreturn void produces_by_threads(struct remote_ring_out *out) {
    pthread_t threads[PRODUCERS];
    struct producer producers[PRODUCERS];
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){out, i};
        CHECK(pthread_create(&threads[i], NULL, produces, &producers[i]) == 0);
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

static void ended_well(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void another_process_sends_all_sizes_and_the_ring_runs_full(void **state) {
    struct both both;
    setup(&both, SMALL);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        produces_by_threads(&both.out);
    assert_true(pid > 0);
    uint32_t next[PRODUCERS] = {0};
    for (int i = 0; i < RECORDS * PRODUCERS; i++) {
        uint32_t kind = receive_summed(&both.in), producer = kind >> 16;
        assert_true(producer < PRODUCERS);
        assert_int_equal(kind & 0xffff, next[producer]++); /* each one's in order */
    }
    struct remote_record record;
    assert_int_equal(remote_ring_in_next(&both.in, &record), -EAGAIN);
    ended_well(pid);
    teardown(&both);
}

/* ---- the other end dies ---- */

static _Noreturn void produces_for_ever(struct remote_ring_out *out, uint64_t seed) {
    for (uint32_t i = 0;; i++)
        send_summed(out, i, &seed);
}

/* At whatever instruction: what is there is whole, and nothing is missing in between. */
static void a_producer_that_is_killed_leaves_whole_records(void **state) {
    uint64_t seed = 4101842887655102017ULL;
    for (int i = 0; i < 30; i++) {
        struct both both;
        int status;
        setup(&both, SMALL);
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            produces_for_ever(&both.out, seed);
        assert_true(pid > 0);
        uint32_t expected = 0;
        for (uint64_t count = next_random(&seed) % 500; count > 0; count--)
            assert_int_equal(receive_summed(&both.in), expected++);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        while (remote_ring_in_has(&both.in))
            assert_int_equal(receive_summed(&both.in), expected++);
        assert_int_equal(remote_ring_in_wait(&both.in, clock_mono_ns() + NS_PER_MS), -ETIMEDOUT);
        teardown(&both);
    }
}

static _Noreturn void consumes_for_ever(struct remote_ring_in *in) {
    for (;;)
        (void)receive_summed(in);
}

static void a_consumer_that_is_killed_leaves_a_ring_that_gets_full(void **state) {
    uint64_t seed = 2685821657736338717ULL;
    for (int i = 0; i < 10; i++) {
        struct both both;
        setup(&both, SMALL);
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            consumes_for_ever(&both.in);
        assert_true(pid > 0);
        for (uint64_t count = next_random(&seed) % 300; count > 0; count--)
            send_summed(&both.out, 0, &seed);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        int err, sent = 0;
        while ((err = remote_ring_out_put(&both.out, 0, SPAN_LIT("to nobody"))) == 0)
            sent++;
        assert_int_equal(err, -EAGAIN);
        assert_in_range(sent, 0, SMALL / 24);
        (void)remote_ring_out_wake(&both.out); /* it may have said that it sleeps */
        assert_int_equal(remote_ring_out_wait(&both.out, 100, clock_mono_ns() + NS_PER_MS),
                         -ETIMEDOUT);
        teardown(&both);
    }
}

/* ---- the other end lies ---- */

/* A word that may look right, where it hurts. */
static _Noreturn void scribbles_for_ever(const struct remote_ring_memory *memory,
                                         _Atomic uint64_t *turns) {
    uint64_t seed = 88172645463325252ULL;
    struct remote_ring_words *words = memory->words;
    for (;;) {
        uint64_t random = next_random(&seed), much = next_random(&seed);
        uint64_t near = random % 4 ? (much % (2ULL * memory->size)) & ~7ULL : much;
        switch (random >> 8 & 7) {
        case 0:
            atomic_store(&words->tail, near);
            break;
        case 1:
            atomic_store(&words->head, near);
            break;
        case 2:
            atomic_store(&words->asleep, (uint32_t)random % 3);
            atomic_store(&words->wanted, (uint32_t)much % 3);
            break;
        default:
            memcpy(memory->data + (much >> 32) % memory->size / 8 * 8, &near, sizeof near);
        }
        atomic_fetch_add_explicit(turns, 1, memory_order_relaxed);
    }
}

/* One look at each end, as if the other had just been started anew: nothing to believe is left of before. */
static unsigned look_at_liar(struct both *both, char *copy) {
    unsigned records = 0;
    struct remote_record record;
    int err = 0;
    remote_ring_in_init(&both->in, &both->memory);
    while (records < SMALL && (err = remote_ring_in_next(&both->in, &record)) == 0) {
        const char *data = both->memory.data;
        assert_in_range(record.payload.len, 0, remote_record_max(SMALL));
        assert_in_range((uintptr_t)record.payload.ptr, (uintptr_t)data, (uintptr_t)data + SMALL);
        remote_record_copy(&record, 0, copy, record.payload.len);
        remote_ring_in_done(&both->in);
        records++;
    }
    assert_true(err == 0 || err == -EAGAIN || err == -EPROTO);
    if (err == -EPROTO)
        assert_int_equal(remote_ring_in_next(&both->in, &record), -EPROTO); /* for good */
    err = remote_ring_in_wait(&both->in, 1);
    assert_true(err == 0 || err == -ETIMEDOUT);

    both->out.tail = both->out.head = 0;
    both->out.broken = false;
    for (int i = 0; i < 20 && err != -EPROTO; i++) {
        err = remote_ring_out_put(&both->out, 1, span_make(copy, 5000));
        assert_true(err == 0 || err == -EAGAIN || err == -EPROTO);
    }
    (void)remote_ring_out_wake(&both->out);
    err = remote_ring_out_wait(&both->out, 5000, 1);
    assert_true(err == 0 || err == -ETIMEDOUT || err == -EPROTO);
    return records;
}

static void nothing_that_the_other_end_writes_does_harm(void **state) {
    struct both both;
    setup(&both, SMALL);
    _Atomic uint64_t *turns =
        mmap(NULL, sizeof *turns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(turns != MAP_FAILED);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        scribbles_for_ever(&both.memory, turns);
    assert_true(pid > 0);
    static char copy[SMALL];
    uint64_t looks = 0, records = 0;
    /* With one core it has its turns only when it is let. */
    while (atomic_load(turns) < 200000 || looks < 2000) {
        records += look_at_liar(&both, copy);
        if (++looks % 100 == 0)
            (void)sched_yield();
    }
    assert_true(records > 0); /* some of it looked like records */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)munmap(turns, sizeof *turns);
    teardown(&both);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_arrive_in_order_and_whole),
        cmocka_unit_test(a_record_over_the_end_is_in_one_piece),
        cmocka_unit_test(a_full_ring_says_so_and_has_room_again),
        cmocka_unit_test(a_ring_that_is_read_in_time_stays_small),
        cmocka_unit_test(a_skip_is_followed_by_a_record),
        cmocka_unit_test(another_process_sends_all_sizes_and_the_ring_runs_full),
        cmocka_unit_test(a_producer_that_is_killed_leaves_whole_records),
        cmocka_unit_test(a_consumer_that_is_killed_leaves_a_ring_that_gets_full),
        cmocka_unit_test(nothing_that_the_other_end_writes_does_harm),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
