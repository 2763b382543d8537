/* profile_page: stacks as Go programs offer theirs, for people and for `go tool pprof`. */
#include "admin/page.h"
#include "admin/pprof.h"
#include "base/clock.h"
#include "rt/dump.h"
#include "rt/foreign.h"

static const char content_type_profile[] = "application/octet-stream";

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
        .time_ns = clock_wall_ns(),
    };
    struct writing writing = {pprof_new(&head), &page->body};
    if (!writing.pprof || rt_dump_counts(add_coroutines, writing.pprof) < 0 ||
        blocking_call(write_pprof, &writing) < 0)
        page_fail(page, 503, "no memory or no thread to look at the coroutines\n");
    else
        page->content_type = content_type_profile;
    pprof_free(writing.pprof);
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
}
