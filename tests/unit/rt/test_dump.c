/* dump.c, dump_collect.c: everybody is there once, with its calls, whatever the others do. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "rt/dump.h"
#include "rt/foreign.h"
#include "rt/labels.h"
#include "rt/poll.h"
#include "rt/rt_internal.h"
#include "rt/signals.h"
#include "rt/symbol.h"
#include "rt_story.h"

/* ---- Names: the test's functions by their addresses, since nothing here reads debug data ---- */

typedef void (*wait_fn)(void);
static NOINLINE void inner(wait_fn wait);
static NOINLINE void middle(wait_fn wait);
static NOINLINE void outer(void *arg);
static NOINLINE void spins(void);

/* The nearest of these at or below an address; none has that many bytes. */
static unsigned find_mine(uintptr_t pc, struct symbol *out, unsigned max) {
    enum { FN_BYTES = 128 };
    const struct {
        const char *name;
        uintptr_t at;
    } mine[] = {{"inner", (uintptr_t)inner},
                {"middle", (uintptr_t)middle},
                {"outer", (uintptr_t)outer},
                {"spins", (uintptr_t)spins}};
    unsigned found = 0;
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) {
        if (pc - mine[i].at >= FN_BYTES || (found && pc - mine[i].at > out->offset))
            continue;
        *out = (struct symbol){mine[i].name, pc - mine[i].at, "test_dump.c", 7};
        found = 1;
    }
    return found;
}
static const struct symbolizer my_symbols = {.find = find_mine};

/* ---- A text to look at ---- */

static char *text;
static size_t text_len;

static void collect(void *arg, const char *piece, size_t len) {
    text = realloc(text, text_len + len + 1);
    CHECK(text);
    memcpy(text + text_len, piece, len);
    text_len += len;
    text[text_len] = '\0';
}

static void take_dump(enum rt_dump_format format) {
    text_len = 0;
    CHECK(rt_dump(format, collect, NULL) == 0);
    CHECK(text_len > 0);
}

static unsigned count_of(const char *part) {
    unsigned count = 0;
    size_t len = strlen(part);
    /* Not strstr: AddressSanitizer makes that look at all the rest, each time. */
    for (const char *at = text; (at = memmem(at, (size_t)(text + text_len - at), part, len));
         at += len)
        count++;
    return count;
}

/* The entry of the coroutine with this name, which ends at an empty line; NULL when there is none. */
static const char *entry_of(const char *name) {
    static char entry[32 * 1024];
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    const char *at = strstr(text, quoted);
    if (!at)
        return NULL;
    while (at > text && at[-1] != '\n')
        at--;
    const char *end = strstr(at, "\n\n");
    CHECK(end);
    CHECK((size_t)(end - at) < sizeof entry);
    memcpy(entry, at, (size_t)(end - at) + 1);
    entry[end - at + 1] = '\0';
    return entry;
}

static bool has_chain(const char *entry) {
    const char *at_inner = strstr(entry, "\ninner(...)\n\ttest_dump.c:7 +0x");
    const char *at_middle = strstr(entry, "\nmiddle(...)\n\ttest_dump.c:7 +0x");
    const char *at_outer = strstr(entry, "\nouter(...)\n\ttest_dump.c:7 +0x");
    return at_inner && at_middle && at_outer && at_inner < at_middle && at_middle < at_outer;
}

/* What Go's tools accept, line by line. */
static const char *end_of_line(const char *at) {
    const char *end = memchr(at, '\n', (size_t)(text + text_len - at));
    CHECK(end);
    return end;
}

/* "TAB path:LINE +0xOFFSET" */
static bool is_place(const char *at, const char *end) {
    const char *colon = memrchr(at, ':', (size_t)(end - at));
    if (*at != '\t' || !colon)
        return false;
    char *rest;
    (void)strtoul(colon + 1, &rest, 10);
    if (rest == colon + 1 || strncmp(rest, " +0x", 4) != 0)
        return false;
    (void)strtoul(rest + 2, &rest, 16);
    return rest == end;
}

/* What Go's tools accept, line by line. */
static void check_grammar(void) {
    for (const char *at = text; *at; at++) {
        const char *end = end_of_line(at);
        char *rest;
        CHECK(strncmp(at, "goroutine ", 10) == 0);
        (void)strtoul(at + 10, &rest, 10);
        CHECK(rest > at + 10 && strncmp(rest, " [", 2) == 0);
        CHECK(memchr(rest, ']', (size_t)(end - rest)) == end - 2 && end[-1] == ':');
        at = end + 1;
        for (; *at != '\n'; at = end + 1) {
            end = end_of_line(at);
            if (strncmp(at, "\tgoroutine running on other thread; stack unavailable", 52) == 0 ||
                strncmp(at, "...additional", 13) == 0)
                continue;
            CHECK(strncmp(at, "created by ", 11) == 0 || strncmp(end - 5, "(...)", 5) == 0);
            at = end + 1;
            end = end_of_line(at);
            CHECK(is_place(at, end));
        }
    }
}

/* ---- Ways to wait ---- */

struct waiter {
    const char *name;
    wait_fn wait;
    const char *state;
};
static _Atomic bool released;
static _Atomic unsigned arrived;

static void parks(void) {
    while (!atomic_load(&released))
        (void)rt_park("test park", clock_mono_ns() + 3600 * NS_PER_S);
}

static void sleeps(void) {
    CHECK(rt_sleep_until(clock_mono_ns() + 3600 * NS_PER_S) == -ECANCELED);
}

static void polls(void) {
    struct poll_fd pd = {.fd = -1};
    CHECK(poll_open(&pd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), NULL) == 0);
    poll_not_readable(&pd);
    CHECK(poll_wait_readable(&pd, "test poll", RT_FOREVER) == -ECANCELED);
    poll_close(&pd);
}

static sem_t gate;

static void waits_at_gate(void *arg) {
    atomic_fetch_add(&arrived, 1);
    while (sem_wait(&gate) < 0) {
    }
}

static void goes_foreign(void) {
    foreign_call(waits_at_gate, NULL);
}

static void blocks(void) {
    CHECK(blocking_call(waits_at_gate, NULL) == 0);
}

static const struct waiter waiters[] = {
    {"the parked", parks, "test park"},       {"the sleeper", sleeps, "sleep"},
    {"the poller", polls, "test poll"},       {"the foreigner", goes_foreign, "foreign call"},
    {"the blocked", blocks, "blocking call"},
};
enum { WAITERS = sizeof waiters / sizeof *waiters };

static NOINLINE void inner(wait_fn wait) {
    wait();
    __asm__ volatile("" ::: "memory"); /* no tail call */
}

static NOINLINE void middle(wait_fn wait) {
    inner(wait);
    __asm__ volatile("" ::: "memory");
}

static NOINLINE void outer(void *arg) {
    middle(((const struct waiter *)arg)->wait);
    __asm__ volatile("" ::: "memory");
}

static bool shows_all_waiters(void) {
    take_dump(RT_DUMP_EACH);
    for (unsigned i = 0; i < WAITERS; i++) {
        const char *entry = entry_of(waiters[i].name);
        char state[64];
        snprintf(state, sizeof state, " [%s, ", waiters[i].state);
        if (!entry || !strstr(entry, state) || !has_chain(entry))
            return false;
    }
    return true;
}

static void waits_story(void *arg) {
    enum rt_place place = *(const enum rt_place *)arg;
    sem_init(&gate, 0, 0);
    symbol_set_finder(&my_symbols);
    for (unsigned i = 0; i < WAITERS; i++) {
        struct waiter *waiter = (struct waiter *)(uintptr_t)&waiters[i];
        CHECK(go_with(&(struct go_options){.name = waiter->name, .place = place}, outer, waiter) ==
              0);
    }
    STORY_AWAIT(shows_all_waiters());
    check_grammar();
    CHECK(count_of("goroutine ") == WAITERS + 1);
    CHECK(count_of("created by ") == WAITERS + 1);
    CHECK(count_of(", P 0]") == (place == RT_HERE ? WAITERS + 1 : 1));
    /* The one who asks waits like everybody. */
    CHECK(strstr(entry_of("main"), "[blocking call, "));
    rt_stop(0);
}

static void pinned_waits_story(void *arg) {
    enum rt_place place = RT_HERE;
    waits_story(&place);
}

static void stealable_waits_story(void *arg) {
    enum rt_place place = RT_ANYWHERE;
    waits_story(&place);
}

static void each_way_to_wait_shows_its_calls(void **state) {
    story(2, pinned_waits_story);
}

static void so_it_is_with_coroutines_of_no_p(void **state) {
    story(2, stealable_waits_story);
}

/* ---- Details of an entry ---- */

static void yields_for_ever(void) {
    for (;;)
        rt_yield();
}

static void ages(struct g *g, void *arg) {
    atomic_fetch_sub(&g->waits_since_ns, 125 * NS_PER_S);
}

static void details_story(void *arg) {
    /* What it starts has them too; a tool that looks for the first ] must find the header's own. */
    CHECK(labels_add((struct label[]){{"listener", "a \"b\" [c]"}, {"route", "r"}}, 2) == 0);
    static struct waiter parked = {"patient", parks, NULL}, busy = {"busy", yields_for_ever, NULL};
    symbol_set_finder(&my_symbols);
    CHECK(go_with(&(struct go_options){.name = "patient", .place = RT_HERE, .priority = RT_LOW},
                  outer, &parked) == 0);
    CHECK(go_here("busy", outer, &busy) == 0);
    static const char all_labels[] =
        " labels:{\"listener\": \"a \\\"b\\\" [c\\x5d\", \"route\": \"r\"}]:\n";
    labels_set(NULL);
    STORY_AWAIT((take_dump(RT_DUMP_EACH), strstr(entry_of("patient"), "[test park, ")));
    check_grammar();
    const char *rest = strstr(entry_of("patient"), ", \"patient\", P 0, low priority labels:");
    CHECK(rest && strncmp(strstr(rest, " labels:"), all_labels, sizeof all_labels - 1) == 0);
    CHECK(strstr(entry_of("busy"), " [runnable, \"busy\", P 0 labels:"));
    CHECK(strstr(entry_of("main"), ", \"main\", P 0]:\n"));
    CHECK(has_chain(entry_of("busy")));

    /* As if it had parked two minutes and a bit ago. */
    stack_each(ages, NULL);
    take_dump(RT_DUMP_EACH);
    CHECK(strstr(entry_of("patient"), " [test park, 2 minutes, \"patient\", P 0"));
    CHECK(strstr(entry_of("busy"), " [runnable, \"busy\", P 0 labels:"));
    rt_stop(0);
}

static void an_entry_tells_state_p_priority_and_labels(void **state) {
    story(1, details_story);
}

static void without_symbols_story(void *arg) {
    take_dump(RT_DUMP_EACH);
    check_grammar();
    CHECK(strstr(entry_of("main"), "test_rt_dump(...)\n\t??:0 +0x"));
    rt_stop(0);
}

static void without_a_symbolizer_files_and_offsets_are_told(void **state) {
    story(1, without_symbols_story);
}

/* ---- Groups ---- */

enum { CROWD = 100 };

static void groups_story(void *arg) {
    static struct waiter parked = {"crowd", parks, NULL}, other = {"loner", parks, NULL};
    symbol_set_finder(&my_symbols);
    for (int i = 0; i < CROWD; i++)
        CHECK(go_on((unsigned)i % 2, "crowd", outer, &parked) == 0);
    CHECK(go_here("loner", outer, &other) == 0);
    static const char start[] = "goroutine profile: total 102\n100 @ 0x";
    STORY_AWAIT((take_dump(RT_DUMP_GROUPED),
                 strncmp(text, start, sizeof start - 1) == 0 && count_of("test park") == 2));
    CHECK(count_of(" @ 0x") == 3);
    CHECK(strstr(text, "\n# [test park, \"crowd\"]\n#\t0x"));
    CHECK(strstr(text, "\n1 @ 0x"));
    CHECK(strstr(text, "\n# [test park, \"loner\"]\n"));
    CHECK(count_of("\tinner+0x") == 2);
    CHECK(count_of("\ttest_dump.c:7\n") == 6);
    rt_stop(0);
}

static void equal_stacks_are_counted_together(void **state) {
    story(2, groups_story);
}

struct counted {
    unsigned api, other, running;
};

static void count_them(void *arg, const struct stack_count *stack) {
    struct counted *counted = arg;
    if (strcmp(stack->name, "labelled") == 0) {
        CHECK(strcmp(stack->state, "test park") == 0);
        CHECK(stack->depth > 3 && !stack->is_first_exact);
        CHECK(stack->labels->count == 1 && strcmp(stack->labels->items[0].key, "route") == 0);
        unsigned *of =
            strcmp(stack->labels->items[0].value, "api") == 0 ? &counted->api : &counted->other;
        CHECK(*of == 0); /* one group each */
        *of = (unsigned)stack->count;
    } else {
        CHECK(!stack->labels);
        counted->running += strcmp(stack->state, "blocking call") == 0; /* who asks */
    }
}

static void start_labelled(void *arg) {
    static struct waiter parked = {"labelled", parks, NULL};
    for (unsigned i = 0; i < *(const unsigned *)arg; i++)
        CHECK(go_here("labelled", outer, &parked) == 0);
}

static void labels_story(void *arg) {
    unsigned three = 3, two = 2;
    symbol_set_finder(&my_symbols);
    labels_do(&(struct label){"route", "api"}, 1, start_labelled, &three);
    labels_do(&(struct label){"route", "other"}, 1, start_labelled, &two);
    rt_yield();
    struct counted counted = {0};
    CHECK(rt_dump_counts(count_them, &counted) == 0);
    CHECK(counted.api == 3 && counted.other == 2 && counted.running == 1);
    take_dump(RT_DUMP_GROUPED);
    CHECK(count_of("\n# labels: {\"route\": \"api\"}\n# [test park, \"labelled\"]\n#\t0x") == 1);
    CHECK(count_of("# labels: {\"route\": \"other\"}\n") == 1);
    CHECK(count_of("# labels: ") == 2);
    rt_stop(0);
}

static void those_with_other_labels_are_counted_apart(void **state) {
    story(1, labels_story);
}

/* ---- A P that does not answer ---- */

static void skip_if_signals_wait(void) {
#ifdef RT_HAS_TSAN
    skip(); /* it holds back a signal until the thread makes a call that it knows */
#endif
}

static _Atomic unsigned spinning;

static NOINLINE void spins(void) {
    atomic_fetch_add(&spinning, 1);
    while (!atomic_load_explicit(&released, memory_order_relaxed)) {
    }
}

static struct waiter spinner = {"spinner", spins, NULL}, patient = {"patient", parks, NULL};

static void frozen_story(void *arg) {
    symbol_set_finder(&my_symbols);
    CHECK(go_on(1, "patient", outer, &patient) == 0);
    STORY_AWAIT((take_dump(RT_DUMP_EACH), entry_of("patient") && has_chain(entry_of("patient"))));
    CHECK(go_on(1, "spinner", outer, &spinner) == 0);
    STORY_AWAIT(atomic_load(&spinning) == 1);
    for (int i = 0; i < 3; i++) {
        /* On a busy machine its thread may be late, too. */
        STORY_AWAIT((take_dump(RT_DUMP_EACH),
                     strstr(entry_of("spinner"), " [running, \"spinner\", P 1]:\n")));
        check_grammar();
        CHECK(strstr(entry_of("spinner"), "\nspins(...)\n"));
        CHECK(has_chain(entry_of("spinner")));
        CHECK(strstr(entry_of("patient"), " [test park, "));
        CHECK(strstr(entry_of("patient"), "unavailable: its P does not answer\n"));
        CHECK(has_chain(entry_of("main")) || strstr(entry_of("main"), "(...)\n"));
    }
    atomic_store(&released, true);
    STORY_AWAIT((take_dump(RT_DUMP_EACH), !entry_of("spinner")));
    CHECK(count_of("does not answer") == 0);
    CHECK(has_chain(entry_of("patient")));
    rt_stop(0);
}

static void a_stuck_p_is_told_of_from_outside(void **state) {
    skip_if_signals_wait();
    story(2, frozen_story);
}

static void spins_in_callback(struct rt_post *post) {
    middle(spins);
}

static void callback_story(void *arg) {
    static struct rt_post post = {.fn = spins_in_callback};
    symbol_set_finder(&my_symbols);
    rt_post(1, &post);
    STORY_AWAIT(atomic_load(&spinning) == 1);
    STORY_AWAIT((take_dump(RT_DUMP_EACH), entry_of("scheduler")));
    check_grammar();
    const char *entry = entry_of("scheduler");
    CHECK(strncmp(entry, "goroutine 0 [running, \"scheduler\", P 1]:\nspins(...)\n", 50) == 0);
    CHECK(strstr(entry, "\nmiddle(...)\n"));
    atomic_store(&released, true);
    rt_stop(0);
}

static void a_stuck_callback_has_number_0(void **state) {
    skip_if_signals_wait();
    story(2, callback_story);
}

/* ---- Many, and while others come and go ---- */

static int by_value(const void *a, const void *b) {
    const unsigned long *one = a, *other = b;
    return *one < *other ? -1 : *one > *other;
}

/* How many entries there are; each number once. */
static unsigned check_ids(void) {
    unsigned count = count_of("goroutine "), at_id = 0;
    unsigned long *ids = calloc(count, sizeof *ids);
    for (const char *at = text; *at;) {
        CHECK(strncmp(at, "goroutine ", 10) == 0);
        ids[at_id++] = strtoul(at + 10, NULL, 10);
        at = memmem(at, (size_t)(text + text_len - at), "\n\n", 2);
        CHECK(at);
        at += 2;
    }
    qsort(ids, at_id, sizeof *ids, by_value);
    for (unsigned i = 1; i < at_id; i++)
        CHECK(ids[i] != ids[i - 1]);
    free(ids);
    return at_id;
}

#if defined(RT_HAS_TSAN) || defined(RT_HAS_ASAN)
enum { MANY = 2000 }; /* TSan can have 8,000, and ASan's stacks are large */
#else
enum { MANY = 10000 };
#endif

static void many_story(void *arg) {
    symbol_set_finder(&my_symbols);
    for (unsigned i = 0; i < MANY; i++) {
        struct go_options options = {
            .name = "one of many", .place = i % 2 ? RT_ANYWHERE : RT_ON_P, .p_index = i / 2 % 2};
        CHECK(go_with(&options, outer, &patient) == 0);
        if (i % 256 == 0)
            rt_yield();
    }
    STORY_AWAIT((take_dump(RT_DUMP_EACH), count_of(" [test park, ") == MANY));
    CHECK(count_of("\"one of many\"") == MANY);
    CHECK(count_of("\ninner(...)\n") == MANY);
    CHECK(check_ids() == MANY + 1);
    rt_stop(0);
}

static void ten_thousand_are_all_there_once(void **state) {
    story(2, many_story);
}

static _Atomic bool churn_over;
static _Atomic unsigned churners_left;

static void comes_and_goes(void *arg) {
    rt_yield();
    (void)rt_park("short park", clock_mono_ns() + (int64_t)(uintptr_t)arg * 1000);
}

static struct g *_Atomic pen_pal[4];

static void churns(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg, turn = 0;
    while (!atomic_load(&churn_over)) {
        uintptr_t us = ++turn * 7 % 300;
        CHECK(go("short", comes_and_goes, (void *)us) == 0);
        CHECK(go_here("short", comes_and_goes, (void *)us) == 0);
        CHECK(go_on(turn % 2, "short", comes_and_goes, (void *)us) == 0);
        struct g *other = atomic_load(&pen_pal[(me + turn) % 4]);
        if (other)
            rt_ready(other);
        if (turn % 64 == 0)
            (void)rt_sleep_until(clock_mono_ns() + NS_PER_MS);
        else
            rt_yield();
    }
    atomic_fetch_sub(&churners_left, 1);
}

/* Woken and parking again all the time, from every thread, some with deadlines. */
static void pen_pal_main(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    atomic_store(&pen_pal[me], rt_self());
    for (unsigned i = 0;; i++)
        (void)rt_park("pen pal",
                      i % 2 ? RT_FOREVER : clock_mono_ns() + (int64_t)(i % 64) * 10 * 1000);
}

enum { LONG_PARKED = 20 };

/* On a busy machine a P may be late; its coroutines are there then all the same. */
static _Atomic unsigned complete_dumps;

static void check_churn_dump(void) {
    take_dump(RT_DUMP_EACH);
    check_grammar();
    (void)check_ids();
    CHECK(count_of("\"long pinned\"") == LONG_PARKED);
    CHECK(count_of("\"long stealable\"") == LONG_PARKED);
    CHECK(count_of("\"pen pal\"") == 4);
    if (count_of("does not answer") > 0)
        return;
    CHECK(count_of("\ninner(...)\n") == 2 * LONG_PARKED);
    atomic_fetch_add(&complete_dumps, 1);
}

static sem_t dumped;

static void *dumps_on_thread(void *arg) {
    for (int64_t until = clock_mono_ns() + 2 * NS_PER_S; clock_mono_ns() < until;)
        check_churn_dump();
    atomic_store(&churn_over, true);
    sem_post(&dumped);
    return NULL;
}

static bool shows_long_parked(void) {
    take_dump(RT_DUMP_EACH);
    return count_of("\ninner(...)\n") == 2 * LONG_PARKED && count_of("\"pen pal\"") == 4;
}

static void churn_story(void *arg) {
    symbol_set_finder(&my_symbols);
    sem_init(&dumped, 0, 0);
    for (unsigned i = 0; i < LONG_PARKED; i++) {
        CHECK(go_on(i % 2, "long pinned", outer, &patient) == 0);
        CHECK(go("long stealable", outer, &patient) == 0);
    }
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(go("pen pal", pen_pal_main, (void *)i) == 0);
    STORY_AWAIT(shows_long_parked());
    atomic_store(&churners_left, 2);
    CHECK(go_on(0, "churner", churns, (void *)0) == 0);
    CHECK(go_on(1, "churner", churns, (void *)1) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, dumps_on_thread, NULL) == 0);
    STORY_AWAIT(atomic_load(&churners_left) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    check_churn_dump(); /* from a coroutine */
    CHECK(atomic_load(&complete_dumps) > 0);
    rt_stop(0);
}

static void dumps_stand_their_ground_while_others_come_and_go(void **state) {
    story(2, churn_story);
}

/* ---- By signal ---- */

static char log_path[] = "/tmp/sluice-test-dump-XXXXXX";

static bool log_has(const char *part) {
    static char seen[256 * 1024];
    int fd = open(log_path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t n = read(fd, seen, sizeof seen - 1);
    CHECK(n >= 0);
    close(fd);
    seen[n] = '\0';
    return strstr(seen, part) != NULL;
}

/* No P can run anything, so a thread of its own tells this story. A thread that is late on a busy
 * machine is missing in a dump, so it may take more than one. */
static void *asks_by_signal(void *arg) {
    while (atomic_load(&spinning) < rt_p_count()) {
    }
    int64_t until = story_soon();
    for (unsigned turn = 0; !log_has("P 0]:\nspins(...)\n") || !log_has("P 1]:\nspins(...)\n");
         turn++) {
        CHECK(clock_mono_ns() < until);
        if (turn % 1024 == 0)
            CHECK(kill(getpid(), SIGQUIT) == 0);
        struct timespec ms = {.tv_nsec = NS_PER_MS};
        nanosleep(&ms, NULL);
    }
    _exit(0);
}

static void all_stuck_story(void *arg) {
    symbol_set_finder(&my_symbols);
    CHECK(log_open_file(log_path) == 0);
    CHECK(signals_dump_on(SIGQUIT) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, asks_by_signal, NULL) == 0);
    CHECK(go_on(1, "spinner", outer, &spinner) == 0);
    spins();
}

static void sigquit_names_the_culprit_when_every_p_is_stuck(void **state) {
    skip_if_signals_wait();
    int fd = mkstemp(log_path);
    assert_true(fd >= 0);
    close(fd);
    story(2, all_stuck_story);
    unlink(log_path);
    memcpy(log_path + sizeof log_path - 7, "XXXXXX", 6);
}

static void again_story(void *arg) {
    CHECK(log_open_file(log_path) == 0);
    CHECK(signals_dump_on(SIGQUIT) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(kill(getpid(), SIGQUIT) == 0);
        STORY_AWAIT(log_has(", \"main\", P 0]:\n"));
        CHECK(log_open_file(log_path) == 0);
        FILE *file = fopen(log_path, "w"); /* empty again */
        CHECK(file && fclose(file) == 0);
    }
    rt_stop(0);
}

static void after_a_sigquit_the_process_goes_on(void **state) {
    int fd = mkstemp(log_path);
    assert_true(fd >= 0);
    close(fd);
    story(1, again_story);
    unlink(log_path);
    memcpy(log_path + sizeof log_path - 7, "XXXXXX", 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_way_to_wait_shows_its_calls),
        cmocka_unit_test(so_it_is_with_coroutines_of_no_p),
        cmocka_unit_test(an_entry_tells_state_p_priority_and_labels),
        cmocka_unit_test(without_a_symbolizer_files_and_offsets_are_told),
        cmocka_unit_test(equal_stacks_are_counted_together),
        cmocka_unit_test(those_with_other_labels_are_counted_apart),
        cmocka_unit_test(a_stuck_p_is_told_of_from_outside),
        cmocka_unit_test(a_stuck_callback_has_number_0),
        cmocka_unit_test(ten_thousand_are_all_there_once),
        cmocka_unit_test(dumps_stand_their_ground_while_others_come_and_go),
        cmocka_unit_test(sigquit_names_the_culprit_when_every_p_is_stuck),
        cmocka_unit_test(after_a_sigquit_the_process_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
