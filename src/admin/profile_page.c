/* profile_page: stacks as Go programs offer theirs, for people and for `go tool pprof`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "admin/flame.h"
#include "admin/heap_page.h"
#include "admin/page.h"
#include "admin/pprof.h"
#include "admin/symbols.h"
#include "base/clock.h"
#include "rt/dump.h"
#include "rt/foreign.h"
#include "rt/profile.h"
#include "rt/rt.h"

enum {
    SECONDS = 30, /* as Go's; go tool pprof asks for its own number */
    SECONDS_MAX = 120,
};
static const int64_t period_ns = NS_PER_S / PROFILE_HZ;

static void put_text(void *arg, const char *text, size_t len) {
    text_put(arg, span_make(text, len));
}

static void add_coroutines(void *arg, const struct stack_count *stack) {
    int64_t value = (int64_t)stack->count;
    pprof_add(arg, stack, &value);
}

struct writing {
    struct pprof *pprof;
    struct text *out;
};

static void write_pprof(void *arg) {
    struct writing *writing = arg;
    pprof_write(writing->pprof, writing->out);
}

/* As debug=0 of Go's: one sample for each different stack, name, state and set of labels. */
static void put_goroutine_profile(struct page *page) {
    const struct pprof_head head = {
        .values = {{"goroutine", "count"}},
        .value_count = 1,
        .period_type = {"goroutine", "count"},
        .period = 1,
    };
    struct writing writing = {.pprof = pprof_new(&head), .out = &page->body};
    if (!writing.pprof || rt_dump_counts(add_coroutines, writing.pprof) < 0 ||
        blocking_call(write_pprof, &writing) < 0)
        page_fail(page, 503, "no memory or no thread to look at the coroutines\n");
    else
        page->content_type = content_type_bytes;
    pprof_free(writing.pprof);
}

static void rest_symbols(void *arg) {
    symbols_rest();
}

void page_goroutine(const struct query *query, struct page *page) {
    struct span debug = query_find(query, "debug");
    enum rt_dump_format format;
    if (span_is_none(debug) || span_eq(debug, SPAN_LIT("0"))) {
        put_goroutine_profile(page);
        return;
    }
    if (span_eq(debug, SPAN_LIT("1"))) {
        format = RT_DUMP_GROUPED;
    } else if (span_eq(debug, SPAN_LIT("2"))) {
        format = RT_DUMP_EACH;
    } else {
        page_fail(page, 400,
                  "debug must be 0 (for go tool pprof), 1 (equal stacks together) or 2 (each "
                  "coroutine)\n");
        return;
    }
    if (rt_dump(format, put_text, &page->body) < 0)
        page_fail(page, 503, "no memory or no thread to look at the coroutines\n");
    int err = blocking_call(rest_symbols, NULL);
    (void)err; /* then the next profile does it */
}

/* ---- CPU ---- */

static void drop_profile(void) {
    struct profile_info info;
    (void)profile_read(NULL, NULL, &info);
}

/* False when it is not a number of seconds between 1 and SECONDS_MAX. */
static bool seconds_of(const struct query *query, uint64_t *seconds) {
    struct span text = query_find(query, "seconds");
    *seconds = SECONDS;
    return span_is_none(text) ||
           (span_to_u64(text, seconds) && *seconds >= 1 && *seconds <= SECONDS_MAX);
}

struct cpu_reading {
    struct writing writing;
    int err;
};

static void add_cpu(void *arg, const struct stack_count *stack) {
    int64_t count = (int64_t)stack->count;
    pprof_add(arg, stack, (int64_t[]){count, count * period_ns});
}

static void comment_if(struct pprof *pprof, uint64_t count, const char *what) {
    char text[128];
    snprintf(text, sizeof text, "%" PRIu64 " %s", count, what);
    if (count > 0)
        pprof_comment(pprof, text);
}

/* On a thread that holds no P. */
static void write_cpu_profile(void *arg) {
    struct cpu_reading *reading = arg;
    struct profile_info info;
    reading->err = profile_read(add_cpu, reading->writing.pprof, &info);
    if (reading->err < 0)
        return;
    struct pprof *pprof = reading->writing.pprof;
    pprof_when(pprof, info.started_ns, info.duration_ns);
    comment_if(pprof, info.lost, "samples did not fit into the log");
    comment_if(pprof, info.unseen_threads, "threads could have no timer");
    write_pprof(&reading->writing);
}

static void put_cpu_profile(struct page *page) {
    const struct pprof_head head = {
        .values = {{"samples", "count"}, {"cpu", "nanoseconds"}},
        .value_count = 2,
        .period_type = {"cpu", "nanoseconds"},
        .period = period_ns,
    };
    struct cpu_reading reading = {.writing = {.pprof = pprof_new(&head), .out = &page->body}};
    int err = reading.writing.pprof ? blocking_call(write_cpu_profile, &reading) : -ENOMEM;
    if (err < 0) /* nobody has read it */
        drop_profile();
    if (err < 0 || reading.err < 0)
        page_fail(page, 503, "no memory or no thread to write the profile\n");
    else
        page->content_type = content_type_bytes;
    pprof_free(reading.writing.pprof);
}

/* Takes a profile while the coroutine sleeps. False when the page says why there is none. */
static bool take_profile(const struct query *query, struct page *page) {
    uint64_t seconds;
    if (!seconds_of(query, &seconds)) {
        page_fail(page, 400, "seconds must be between 1 and %d\n", SECONDS_MAX);
        return false;
    }
    int err = profile_start(0, 0);
    if (err < 0) {
        page_fail(page, err == -EBUSY ? 409 : 503, "%s\n",
                  err == -EBUSY ? "another profile is being taken" : "memory is short");
        return false;
    }
    int64_t end_ns = clock_mono_ns() + (int64_t)seconds * NS_PER_S;
    int waited = page_wait("while a profile is taken", end_ns);
    if (profile_stop() == 0 && waited == 0)
        return true;
    drop_profile();
    page_fail(page, 503, "the profile was given up\n"); /* nobody would read it */
    return false;
}

void page_profile(const struct query *query, struct page *page) {
    if (take_profile(query, page))
        put_cpu_profile(page);
}

/* ---- The flame graph ---- */

/* flame.html, as the build embeds it. */
extern const char admin_flame_html[];
extern const unsigned long admin_flame_html_len;

void page_flame(const struct query *query, struct page *page) {
    page->content_type = content_type_html;
    text_put(&page->body, span_make(admin_flame_html, admin_flame_html_len));
}

struct flame_reading {
    struct flame flame;
    struct text *out;
    int err;
};

static void add_cpu_to_flame(void *arg, const struct stack_count *stack) {
    flame_add(arg, stack, (int64_t)stack->count * period_ns);
}

static void add_coroutines_to_flame(void *arg, const struct stack_count *stack) {
    flame_add(arg, stack, (int64_t)stack->count);
}

/* Both on a thread that holds no P. */
static void write_cpu_flame(void *arg) {
    struct flame_reading *reading = arg;
    struct profile_info info = {0};
    flame_begin(&reading->flame, reading->out, "ns");
    reading->err = profile_read(add_cpu_to_flame, &reading->flame, &info);
    flame_end(&reading->flame, info.duration_ns, info.lost, span_none());
}

static void write_goroutine_flame(void *arg) {
    struct flame_reading *reading = arg;
    flame_begin(&reading->flame, reading->out, "coroutines");
    reading->err = rt_dump_counts(add_coroutines_to_flame, &reading->flame);
    flame_end(&reading->flame, 0, 0, span_none());
}

void page_flame_data(const struct query *query, struct page *page) {
    struct span profile = query_find(query, "profile");
    if (heap_flame(profile, query, page))
        return;
    bool is_cpu = span_eq(profile, SPAN_LIT("cpu"));
    if (!is_cpu && !span_eq(profile, SPAN_LIT("goroutine"))) {
        page_fail(page, 400, "profile must be cpu, goroutine, heap, allocs or cycle\n");
        return;
    }
    if (is_cpu && !take_profile(query, page))
        return;
    struct flame_reading reading = {.out = &page->body};
    int err = blocking_call(is_cpu ? write_cpu_flame : write_goroutine_flame, &reading);
    if (err < 0 && is_cpu)
        drop_profile();
    if (err < 0 || reading.err < 0)
        page_fail(page, 503, "no memory or no thread to write the stacks\n");
    else
        page->content_type = content_type_json;
}
