/* heap_page: /debug/pprof/heap, allocs and rate, as Go programs offer theirs.
 *
 * Reading the profile takes locks, asks Go libraries and looks up symbols: all of it runs on a thread that
 * holds no P, while the coroutine of the request waits. */
#include "admin/heap_page.h"

#include <errno.h>
#include <inttypes.h>

#include "admin/flame.h"
#include "admin/heap_text.h"
#include "admin/heap_view.h"
#include "base/clock.h"
#include "rt/foreign.h"
#include "rt/rt.h"

enum { SECONDS_MAX = 120 };
static const uint64_t rate_max = 1ULL << 40; /* beyond a terabyte nothing is sampled anyway */

struct heap_question {
    struct heap_wanted wanted;
    bool is_text;
    uint64_t seconds; /* of a difference; 0: as things stand */
    const char *default_type;
};

/* ---- Questions ---- */

/* As in Go: "10m", "1h30m", "1.5s", "300ms". False when it is none, or none that is more than nothing. */
static bool duration_of(struct span text, int64_t *out) {
    static const struct {
        struct span name;
        double ns;
    } units[] = {{SPAN_INIT("ns"), 1},    {SPAN_INIT("us"), 1e3}, {SPAN_INIT("\xc2\xb5s"), 1e3},
                 {SPAN_INIT("ms"), 1e6},  {SPAN_INIT("s"), 1e9},  {SPAN_INIT("m"), 60e9},
                 {SPAN_INIT("h"), 3600e9}};
    double sum = 0;
    while (text.len > 0) {
        double number = 0, digit = 1;
        size_t at = 0, digits = 0;
        bool is_fraction = false;
        for (;
             at < text.len && (text.ptr[at] == '.' || (text.ptr[at] >= '0' && text.ptr[at] <= '9'));
             at++) {
            if (text.ptr[at] == '.') {
                if (is_fraction)
                    return false;
                is_fraction = true;
                continue;
            }
            digits++;
            digit = is_fraction ? digit / 10 : 1;
            number = is_fraction ? number + digit * (text.ptr[at] - '0')
                                 : 10 * number + (text.ptr[at] - '0');
        }
        size_t end = at;
        while (end < text.len && text.ptr[end] != '.' &&
               !(text.ptr[end] >= '0' && text.ptr[end] <= '9'))
            end++;
        struct span unit = span_make(text.ptr + at, end - at);
        size_t i = 0;
        while (i < sizeof units / sizeof *units && !span_eq(units[i].name, unit))
            i++;
        if (digits == 0 || i == sizeof units / sizeof *units)
            return false;
        sum += number * units[i].ns;
        text = span_from(text, end);
    }
    if (!(sum >= 1) || sum > 1e18)
        return false;
    *out = (int64_t)sum;
    return true;
}

/* 0 when absent; UINT64_MAX when it is no number up to max. */
static uint64_t number_of(const struct query *query, const char *name, uint64_t max) {
    struct span text = query_find(query, name);
    uint64_t number = 0;
    if (!span_is_none(text) && (!span_to_u64(text, &number) || number > max))
        return UINT64_MAX;
    return number;
}

/* NULL, or what would be right. */
static const char *parse(const struct query *query, bool is_allocs, struct heap_question *out) {
    *out = (struct heap_question){.default_type = is_allocs ? "alloc_space" : "inuse_space"};
    uint64_t debug = number_of(query, "debug", 1), collect = number_of(query, "gc", INT32_MAX);
    uint64_t cycles = number_of(query, "cycles", 1);
    struct span min_age = query_find(query, "min_age");
    if (debug == UINT64_MAX)
        return "debug must be 0 (for go tool pprof) or 1 (as text)";
    if (collect == UINT64_MAX)
        return "gc must be 1 (close a cycle before, so that it is of now) or 0";
    if (!is_allocs && query_has(query, "cycles"))
        return "cycles is a parameter of /debug/pprof/allocs: what is in use was allocated "
               "whenever";
    if (cycles == UINT64_MAX)
        return "cycles must be 1: what the last closed cycle allocated";
    if (is_allocs && !span_is_none(min_age))
        return "min_age is a parameter of /debug/pprof/heap: what was freed has no age";
    if (!span_is_none(min_age) && !duration_of(min_age, &out->wanted.min_age_ns))
        return "min_age must be a duration like 10m, 1h30m or 90s";
    out->seconds = number_of(query, "seconds", SECONDS_MAX);
    if (out->seconds == UINT64_MAX || (out->seconds == 0 && query_has(query, "seconds")))
        return "seconds must be between 1 and 120";
    if (out->seconds > 0 && (debug > 0 || cycles > 0 || !span_is_none(min_age)))
        return "seconds is a difference of two profiles: it goes without debug, cycles and min_age";
    out->is_text = debug > 0;
    out->wanted.close_cycle = collect > 0;
    out->wanted.last_cycle = cycles > 0;
    return NULL;
}

/* ---- Answers ---- */

struct answer {
    const struct heap_question *question;
    struct pprof *pprof; /* owned */
    int sign;            /* of what is added to it */
    struct heap_reading reading;
    struct text notes;
    struct text *out;
    int err;
};

static const char off[] =
    "the heap profile is off, and nothing was sampled yet. Switch it on with\n"
    "  curl -X POST 'http://ADMIN/debug/pprof/rate?bytes=524288'\n"
    "or start with --heap-profile-rate 524288 (SLUICE_HEAP_PROFILE_RATE)\n";

static void fail(struct page *page, int err) {
    if (err == -ENODATA)
        page_fail(page, 409, "%s", off);
    else if (err == -ENOTSUP)
        page_fail(page, 501,
                  "this process cannot sample its heap: memory for the profile could not be had "
                  "when it started (see its log)\n");
    else
        page_fail(page, 503, "no memory or no thread to read the heap profile\n");
}

/* -ENODATA when there is nothing because nothing was ever sampled. */
static int read_heap(struct answer *answer, heap_entry_fn fn, void *arg) {
    struct heap_reading *reading = &answer->reading;
    int err = heap_view_read(&answer->question->wanted, fn, arg, reading, &answer->notes);
    return err == 0 && reading->rate == 0 && reading->samples == 0 ? -ENODATA : err;
}

static void add_to_pprof(void *arg, const struct heap_entry *entry) {
    struct answer *answer = arg;
    heap_pprof_add(answer->pprof, &answer->question->wanted, entry, answer->sign);
}

/* These run on a thread that holds no P. */
static void read_pprof(void *arg) {
    struct answer *answer = arg;
    const struct heap_question *question = answer->question;
    if (!answer->pprof)
        answer->pprof =
            heap_pprof_new(&question->wanted, heap_profile_rate(), question->default_type);
    answer->notes.len = 0;
    answer->err = answer->pprof ? read_heap(answer, add_to_pprof, answer) : -ENOMEM;
}

static void write_pprof(struct answer *answer, int64_t began_ns) {
    const struct heap_reading *reading = &answer->reading;
    int64_t closed_ns = reading->closed_ns ? reading->closed_ns : clock_wall_ns();
    pprof_when(answer->pprof, closed_ns, began_ns ? closed_ns - began_ns : 0);
    heap_pprof_notes(answer->pprof, &answer->notes);
    pprof_write(answer->pprof, answer->out);
    answer->out->failed |= answer->notes.failed;
}

static void put_pprof(void *arg) {
    struct answer *answer = arg;
    read_pprof(answer);
    if (answer->err == 0)
        write_pprof(answer,
                    answer->question->wanted.last_cycle ? answer->reading.cycle_began_ns : 0);
}

static void put_text(void *arg) {
    struct answer *answer = arg;
    struct heap_text text = {0};
    answer->err = read_heap(answer, heap_text_add, &text);
    if (answer->err == 0)
        heap_text_write(&text, &answer->notes, answer->out);
    heap_text_fini(&text);
}

static void put_difference(void *arg) {
    struct answer *answer = arg;
    int64_t began_ns = answer->reading.closed_ns;
    answer->sign = 1;
    read_pprof(answer);
    if (answer->err == 0)
        write_pprof(answer, began_ns);
}

static void run(rt_fn fn, struct answer *answer) {
    int err = blocking_call(fn, answer);
    if (err < 0)
        answer->err = err;
}

/* What happens meanwhile: one reading is taken off the other. Both close a cycle, or the difference would
 * be of another time. */
static void answer_difference(struct heap_question *question, struct answer *answer) {
    question->wanted.close_cycle = true;
    answer->sign = -1;
    /* From the first closing on, which comes before names are looked up. */
    int64_t end_ns = clock_mono_ns() + (int64_t)question->seconds * NS_PER_S;
    run(read_pprof, answer);
    if (answer->err < 0)
        return;
    answer->err = page_wait("while the heap is watched", end_ns);
    if (answer->err == 0)
        run(put_difference, answer);
}

static void put_page(const struct query *query, bool is_allocs, struct page *page) {
    struct heap_question question;
    const char *wrong = parse(query, is_allocs, &question);
    if (wrong) {
        page_fail(page, 400, "%s\n", wrong);
        return;
    }
    struct answer answer = {.question = &question, .sign = 1, .out = &page->body};
    if (question.seconds > 0)
        answer_difference(&question, &answer);
    else
        run(question.is_text ? put_text : put_pprof, &answer);
    if (answer.err < 0)
        fail(page, answer.err);
    else if (!question.is_text)
        page->content_type = content_type_bytes;
    pprof_free(answer.pprof);
    text_fini(&answer.notes);
}

void page_heap(const struct query *query, struct page *page) {
    put_page(query, false, page);
}

void page_allocs(const struct query *query, struct page *page) {
    put_page(query, true, page);
}

/* ---- The flame graph ---- */

struct flame_answer {
    struct answer answer;
    struct flame flame;
    enum heap_value value;
};

static void add_to_flame(void *arg, const struct heap_entry *entry) {
    struct flame_answer *answer = arg;
    int64_t value = entry->values[answer->value];
    if (value <= 0)
        return;
    if (entry->stack) {
        struct stack_count stack = *entry->stack;
        stack.name = ""; /* a coroutine's name is no matter here */
        flame_add(&answer->flame, &stack, value);
    } else {
        flame_add_told(&answer->flame, entry->told, value);
    }
}

static void put_flame(void *arg) {
    struct flame_answer *flame = arg;
    struct answer *answer = &flame->answer;
    const struct heap_wanted *wanted = &answer->question->wanted;
    const struct heap_reading *reading = &answer->reading;
    flame_begin(&flame->flame, answer->out, "bytes");
    answer->err = read_heap(answer, add_to_flame, flame);
    int64_t duration_ns = wanted->last_cycle ? reading->closed_ns - reading->cycle_began_ns : 0;
    flame_end(&flame->flame, duration_ns, reading->lost, text_span(&answer->notes));
}

bool heap_flame(struct span what, const struct query *query, struct page *page) {
    bool is_heap = span_eq(what, SPAN_LIT("heap")), is_cycle = span_eq(what, SPAN_LIT("cycle"));
    if (!is_heap && !is_cycle && !span_eq(what, SPAN_LIT("allocs")))
        return false;
    struct heap_question question;
    const char *wrong = parse(query, !is_heap, &question);
    if (wrong || question.seconds > 0) {
        page_fail(page, 400, "%s\n", wrong ? wrong : "seconds is of the cpu profile only");
        return true;
    }
    question.wanted.last_cycle |= is_cycle;
    struct flame_answer flame = {
        .answer = {.question = &question, .out = &page->body},
        .value = is_heap ? HEAP_INUSE_SPACE : HEAP_ALLOC_SPACE,
    };
    int err = blocking_call(put_flame, &flame);
    if (err < 0 || flame.answer.err < 0)
        fail(page, err < 0 ? err : flame.answer.err);
    else
        page->content_type = content_type_json;
    text_fini(&flame.answer.notes);
    return true;
}

/* ---- The rate ---- */

void page_heap_rate(const struct query *query, struct page *page) {
    if (query_has(query, "bytes")) {
        uint64_t rate = number_of(query, "bytes", rate_max);
        if (rate == UINT64_MAX || query_find(query, "bytes").len == 0) {
            page_fail(page, 400,
                      "bytes must be a number of bytes, one of which is sampled on average: 524288 "
                      "is usual, 1 is every allocation, 0 none\n");
            return;
        }
        heap_profile_set_rate(rate);
    }
    text_printf(&page->body, "%" PRIu64 "\n", heap_profile_rate());
}
