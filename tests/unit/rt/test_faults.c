/* What fails when the kernel or malloc says no. Each call that the runtime makes for memory, a thread or
 * a descriptor fails once: the first, the second, the third, until a story gets through without (--wrap
 * counts them). The caller is told, or nobody need know; nothing aborts, hangs or leaks; and once
 * there is plenty again everything works. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "rt/chan.h"
#include "rt/foreign.h"
#include "rt/rt_internal.h"
#include "rt/signals.h"
#include "rt_story.h"

/* ---- Faults ---- */

enum kind { MEMORY, MAPPING, ADVICE, THREAD, DESCRIPTOR, WATCH, KINDS };

static _Atomic int64_t calls_until_fault; /* counts down; <= 0: none to come */
static _Atomic unsigned faults;
static _Atomic unsigned refused_kinds; /* bit k: all calls of this kind fail */

static bool is_refused(enum kind kind) {
    if (atomic_load(&refused_kinds) & (1U << kind)) {
        atomic_fetch_add(&faults, 1);
        return true;
    }
    if (atomic_load(&calls_until_fault) <= 0 || atomic_fetch_sub(&calls_until_fault, 1) != 1)
        return false;
    atomic_fetch_add(&faults, 1);
    return true;
}

static void no_more_faults(void) {
    atomic_store(&calls_until_fault, 0);
    atomic_store(&refused_kinds, 0);
}

/* WRAP(result, error result, errno, kind, name, parameters, arguments) */
#define WRAP(type, on_error, error, kind, name, params, args)                                      \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params {                                                                    \
        if (!is_refused(kind))                                                                     \
            return __real_##name args;                                                             \
        errno = (error);                                                                           \
        return on_error;                                                                           \
    }

WRAP(void *, NULL, ENOMEM, MEMORY, malloc, (size_t size), (size))
WRAP(void *, NULL, ENOMEM, MEMORY, calloc, (size_t count, size_t size), (count, size))
WRAP(void *, NULL, ENOMEM, MEMORY, aligned_alloc, (size_t align, size_t size), (align, size))
/* What mmap is called where files may be large, which is how meson builds. */
WRAP(void *, MAP_FAILED, ENOMEM, MAPPING, mmap64,
     (void *addr, size_t length, int prot, int flags, int fd, off_t offset),
     (addr, length, prot, flags, fd, offset))
WRAP(int, -1, ENOMEM, ADVICE, madvise, (void *addr, size_t length, int advice),
     (addr, length, advice))
WRAP(int, -1, ENOMEM, ADVICE, mprotect, (void *addr, size_t length, int prot), (addr, length, prot))
WRAP(int, EAGAIN, EAGAIN, THREAD, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg),
     (thread, attr, fn, arg))
WRAP(int, ENOMEM, ENOMEM, THREAD, pthread_setspecific, (pthread_key_t key, const void *value),
     (key, value))
WRAP(int, -1, EMFILE, DESCRIPTOR, epoll_create1, (int flags), (flags))
WRAP(int, -1, EMFILE, DESCRIPTOR, eventfd, (unsigned initial, int flags), (initial, flags))
WRAP(int, -1, ENOSPC, WATCH, epoll_ctl, (int epoll, int op, int fd, struct epoll_event *event),
     (epoll, op, fd, event))

static unsigned entries_of(const char *path) {
    unsigned count = 0;
    DIR *dir = opendir(path);
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static unsigned descriptors(void) {
    return entries_of("/proc/self/fd");
}

static unsigned threads(void) {
    return entries_of("/proc/self/task");
}

enum { REACHED = 0, NOT_REACHED = 42 };

/* Most calls are for guards: slow builds and emulators take some of them. */
static unsigned stride(unsigned n) {
    enum { FEW = 20 };
#if defined(RT_HAS_TSAN)
    unsigned leap = 29;
#elif defined(RT_HAS_ASAN)
    unsigned leap = 7;
#else
    unsigned leap = getenv("SLUICE_EMULATED") ? 7 : 1;
#endif
    return n > FEW ? leap : 1;
}

/* Runs body in children, with the first call failing, the second, ... until there are not so many. */
static unsigned with_each_fault(void (*body)(void)) {
    for (unsigned n = 1;; n += stride(n)) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            atomic_store(&calls_until_fault, n);
            body();
            exit(atomic_load(&faults) ? REACHED : NOT_REACHED);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_REACHED)
            return n - 1;
        if (status != 0)
            fprintf(stderr, "with fault %u\n", n);
        assert_int_equal(status, 0);
    }
}

/* The same with all calls of one kind failing for as long as the story wants. */
static void with_each_kind(void (*body)(void)) {
    for (unsigned kind = 0; kind < KINDS; kind++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            atomic_store(&refused_kinds, 1U << kind);
            body();
            exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0)
            fprintf(stderr, "without kind %u\n", kind);
        assert_int_equal(status, 0);
    }
}

/* ---- Start ---- */

static void stops(void *arg) {
    *(bool *)arg = true;
    rt_stop(7);
}

static void *no_thread(void *arg) {
    return NULL;
}

static void start_body(void) {
    pthread_t thread; /* ThreadSanitizer adds one of its own to the first */
    CHECK(__real_pthread_create(&thread, NULL, no_thread, NULL) == 0);
    pthread_join(thread, NULL);
    unsigned descriptors_before = descriptors(), threads_before = threads();
    bool ran = false;
    struct rt_options options = {.p_count = 2};
    int err = rt_run(&options, stops, &ran);
    no_more_faults();
    if (err == 7) {
        CHECK(ran);
        return;
    }
    CHECK(err == -ENOMEM || err == -EMFILE || err == -ENOSPC || err == -EAGAIN);
    CHECK(!ran);
    CHECK(descriptors() == descriptors_before);
    for (int64_t until = story_soon(); threads() > threads_before; sched_yield())
        CHECK(clock_mono_ns() < until);
    CHECK(rt_run(&options, stops, &ran) == 7);
    CHECK(ran);
}

static void a_runtime_that_cannot_start_leaves_nothing(void **state) {
    unsigned count = with_each_fault(start_body);
    assert_true(count >= 2 * 4 + 1 + 2 * 2); /* Ps, sysmon and Ms at the least */
    with_each_kind(start_body);
}

/* ---- Inside ---- */

enum { SPAWNED = 25, BIG = 1024 * 1024 };
static _Atomic unsigned spawned, ended;

static void ends_soon(void *arg) {
    rt_yield();
    atomic_fetch_add(&ended, 1);
}

static bool started(int err) {
    CHECK(err == 0 || err == -ENOMEM);
    if (err == 0)
        atomic_fetch_add(&spawned, 1);
    return err == 0;
}

static void *alternate_stack(void *arg) {
    int err = signals_thread_init();
    CHECK(err == 0 || err == -ENOMEM);
    *(bool *)arg = err == 0;
    return NULL;
}

static void nothing(void *arg) {}

static void meets(void *arg) {
    _Atomic bool *other_ran = arg;
    for (int64_t until = story_soon(); !atomic_load(other_ran); sched_yield())
        CHECK(clock_mono_ns() < until);
}

static void sets(void *arg) {
    atomic_store((_Atomic bool *)arg, true);
    ends_soon(NULL);
}

/* Everything that may be refused, once. Returns how much was. */
static unsigned do_everything(void) {
    unsigned refused = 0;
    struct go_options big = {.name = "big", .place = RT_HERE, .stack_size = BIG};
    for (unsigned i = 0; i < SPAWNED; i++) {
        refused += !started(go("spawned", ends_soon, NULL));
        refused += !started(go_here("spawned", ends_soon, NULL));
        refused += !started(go_on(1, "spawned", ends_soon, NULL));
        if (i % 20 == 0)
            refused += !started(go_with(&big, ends_soon, NULL));
    }
    STORY_AWAIT(atomic_load(&ended) == atomic_load(&spawned));

    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    for (int i = 0; i < 2; i++) {
        struct poll_fd pd;
        int err = poll_open(&pd, fds[i], NULL);
        CHECK(err == 0 || err == -ENOSPC);
        refused += err < 0;
        if (err == 0)
            poll_close(&pd);
        else
            CHECK(close(fds[i]) == 0); /* still ours */
    }

    int err = blocking_call(nothing, NULL);
    CHECK(err == 0 || err == -EAGAIN);
    refused += err < 0;

    bool has_stack = false;
    pthread_t thread;
    if (pthread_create(&thread, NULL, alternate_stack, &has_stack) == 0)
        pthread_join(thread, NULL);
    refused += !has_stack;

    struct chan *ch = chan_new(8, 100);
    if (ch)
        chan_unref(ch);
    refused += !ch;

    for (int64_t now_ns = clock_mono_ns() + STACK_IDLE_NS, next_ns;
         (next_ns = stack_trim(p_self(), now_ns)) != RT_FOREVER && next_ns - now_ns < NS_PER_S;)
        now_ns = next_ns;
    return refused;
}

static void inside_main(void *arg) {
    unsigned descriptors_before = descriptors();
    (void)do_everything();
    no_more_faults();

    /* A call that blocks, and somebody on the same P that it waits for: it takes another M. */
    _Atomic bool other_ran = false;
    CHECK(started(go_here("sets", sets, &other_ran)));
    foreign_call(meets, &other_ran);

    CHECK(do_everything() == 0);
    STORY_AWAIT(descriptors() <= descriptors_before); /* others open some for a moment */
    struct stack_stats stats;
    STORY_AWAIT((stack_stats(&stats), stats.stacks - stats.free == 1)); /* ours */
    rt_stop(0);
}

/* The runtime starts without faults: those are counted from main on. */
static int64_t armed_calls;
static unsigned armed_kinds;

static void armed_main(void *arg) {
    atomic_store(&calls_until_fault, armed_calls);
    atomic_store(&refused_kinds, armed_kinds);
    inside_main(arg);
}

static void inside_body(void) {
    armed_calls = atomic_load(&calls_until_fault);
    armed_kinds = atomic_load(&refused_kinds);
    no_more_faults();
    struct rt_options options = {.p_count = 2};
    CHECK(rt_run(&options, armed_main, NULL) == 0);
}

static void whoever_asks_for_too_much_is_told(void **state) {
    assert_true(with_each_fault(inside_body) >= 64 + 10);
    with_each_kind(inside_body);
}

/* ---- No thread for a P ---- */

static _Atomic bool p_served;

static void waits_for_p(void *arg) {
    for (int64_t until = story_soon(); !atomic_load(&p_served); sched_yield())
        CHECK(clock_mono_ns() < until);
}

static void serves(void *arg) {
    atomic_store(&p_served, true);
}

/* Sysmon has asked in vain several times when there are threads again. */
static void *relents(void *arg) {
    struct rt_stats stats;
    do {
        sched_yield();
        rt_stats(&stats);
    } while (stats.m_refused < 5);
    CHECK(!atomic_load(&p_served)); /* the P stayed where it was */
    no_more_faults();
    return NULL;
}

static void stuck_story(void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, relents, NULL) == 0);
    CHECK(go_here("serves", serves, NULL) == 0);
    atomic_store(&refused_kinds, 1U << (unsigned)(uintptr_t)arg);
    foreign_call(waits_for_p, NULL);
    pthread_join(thread, NULL);
    struct rt_p_stats stats;
    rt_p_stats(0, &stats);
    CHECK(stats.retakes == 1);
    rt_stop(0);
}

static void no_thread_story(void *arg) {
    stuck_story((void *)(uintptr_t)THREAD);
}

static void no_memory_story(void *arg) {
    stuck_story((void *)(uintptr_t)MEMORY);
}

static void a_p_waits_until_a_thread_can_be_had(void **state) {
    story(1, no_thread_story);
    story(1, no_memory_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_runtime_that_cannot_start_leaves_nothing),
        cmocka_unit_test(whoever_asks_for_too_much_is_told),
        cmocka_unit_test(a_p_waits_until_a_thread_can_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
