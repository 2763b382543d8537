/* heap_view.c, heap_text.c and flame.c: what people read of sites that are fixed here. What `go tool pprof`
 * makes of a living proxy's is tests/e2e/test_heap_profile.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/flame.h"
#include "admin/heap_text.h"
#include "admin/pprof_read.h"

enum { MAKE = 0x1000, SERVE = 0x2000 };

static unsigned find(uintptr_t pc, struct symbol *out, unsigned max) {
    switch (pc) {
    case MAKE - 1:
        out[0] = (struct symbol){"inlined", 0x1f, "make.h", 7};
        out[1] = (struct symbol){"make", 0x1f, "make.c", 9};
        return 2;
    case SERVE - 1:
        out[0] = (struct symbol){"serve", 0x2f, "serve.c", 20};
        return 1;
    }
    return 0;
}
static const struct symbolizer symbolizer = {.find = find};

static const uintptr_t pcs[] = {MAKE, SERVE};
static struct labels *edge;

/* A site that holds, and one that only makes garbage. */
static struct heap_site holder(void) {
    return (struct heap_site){.pcs = pcs,
                              .depth = 2,
                              .labels = edge,
                              .live = {3, 3000},
                              .allocated = {5, 5000},
                              .cycle = {1, 1000}};
}
static struct heap_site waster(void) {
    return (struct heap_site){
        .pcs = pcs + 1, .depth = 1, .allocated = {900, 90000}, .cycle = {700, 70000}};
}

static int set_up(void **state) {
    symbol_set_finder(&symbolizer);
    edge = labels_with(NULL, (struct label[]){{"listener", "edge"}, {"filter", "golang"}}, 2);
    return edge ? 0 : -1;
}

static int tear_down(void **state) {
    labels_unref(edge);
    return 0;
}

/* ---- The values ---- */

static void note_values(void *arg, const struct heap_entry *entry) {
    assert_non_null(entry->stack);
    const int64_t *v = entry->values;
    text_printf(arg, "%lld %lld %lld %lld\n", (long long)v[0], (long long)v[1], (long long)v[2],
                (long long)v[3]);
}

static void assert_values(const struct heap_wanted *wanted, const char *expected) {
    struct heap_site sites[] = {holder(), waster()};
    struct text seen = {0};
    for (unsigned i = 0; i < 2; i++)
        heap_view_site(wanted, &sites[i], note_values, &seen);
    text_putc(&seen, '\0');
    assert_string_equal(seen.data, expected);
    text_fini(&seen);
}

static void each_question_has_its_values(void **state) {
    assert_values(&(struct heap_wanted){0}, "5 5000 3 3000\n900 90000 0 0\n");
    assert_values(&(struct heap_wanted){.last_cycle = true}, "1 1000 3 3000\n700 70000 0 0\n");
    /* What is old is in use; who holds nothing of that age is not there. */
    assert_values(&(struct heap_wanted){.min_age_ns = 1}, "0 0 3 3000\n");
}

/* ---- For go tool pprof ---- */

struct writing {
    struct pprof *pprof;
    const struct heap_wanted *wanted;
    int sign;
};

static void add_to_pprof(void *arg, const struct heap_entry *entry) {
    struct writing *writing = arg;
    heap_pprof_add(writing->pprof, writing->wanted, entry, writing->sign);
}

static void note_told(void *arg, const struct told_stack *stack, const int64_t *values) {
    for (unsigned i = 0; i < stack->depth; i++)
        for (unsigned k = 0; k < stack->frames[i].count; k++)
            text_printf(arg, "%s ", stack->frames[i].symbols[k].function);
    for (unsigned i = 0; i < stack->label_count; i++)
        text_printf(arg, "%s=%s ", stack->labels[i].key, stack->labels[i].value);
    text_printf(arg, "%lld %lld\n", (long long)values[0], (long long)values[1]);
}

static void assert_profile(struct pprof *pprof, const char *expected) {
    static const struct pprof_type types[] = {{"alloc_space", "bytes"}, {"inuse_space", "bytes"}};
    struct text file = {0}, seen = {0};
    pprof_write(pprof, &file);
    assert_false(file.failed);
    assert_int_equal(pprof_read(text_span(&file), types, 2, note_told, &seen), 0);
    text_putc(&seen, '\0');
    assert_string_equal(seen.data, expected);
    text_fini(&file);
    text_fini(&seen);
    pprof_free(pprof);
}

static void a_profile_has_both_kinds_of_site(void **state) {
    const struct heap_wanted now = {0}, old = {.min_age_ns = 1};
    struct heap_site sites[] = {holder(), waster()};
    struct writing writing = {heap_pprof_new(&now, 512, "inuse_space"), &now, 1};
    for (unsigned i = 0; i < 2; i++)
        heap_view_site(&now, &sites[i], add_to_pprof, &writing);
    assert_profile(writing.pprof, "inlined make serve listener=edge filter=golang 5000 3000\n"
                                  "serve 90000 0\n");
    /* Of what is old nobody knows how much was allocated: there is no such column. */
    writing = (struct writing){heap_pprof_new(&old, 512, "inuse_space"), &old, 1};
    heap_view_site(&old, &sites[0], add_to_pprof, &writing);
    assert_profile(writing.pprof, "inlined make serve listener=edge filter=golang 0 3000\n");
}

static void a_difference_shows_what_changed_and_nothing_else(void **state) {
    const struct heap_wanted now = {0};
    struct heap_site before[] = {holder(), waster()}, after[] = {holder(), waster()};
    after[0].live = (struct heap_count){1, 1000};
    struct writing writing = {heap_pprof_new(&now, 512, "inuse_space"), &now, -1};
    for (unsigned i = 0; i < 2; i++)
        heap_view_site(&now, &before[i], add_to_pprof, &writing);
    writing.sign = 1;
    for (unsigned i = 0; i < 2; i++)
        heap_view_site(&now, &after[i], add_to_pprof, &writing);
    assert_profile(writing.pprof, "inlined make serve listener=edge filter=golang 0 -2000\n");
}

/* ---- For people ---- */

static const struct told_frame frame = {0x3000, (struct symbol[]){{"main.hold", 0, "hold.go", 4}},
                                        1};
static const struct told_stack of_go = {
    .frames = &frame, .depth = 1, .labels = {{"library", "demo"}}, .label_count = 1};
static const struct heap_entry go_entry = {.told = &of_go, .values = (int64_t[]){1, 4096, 1, 4096}};

static void the_text_is_what_go_programs_print(void **state) {
    const struct heap_wanted now = {0};
    struct heap_text text = {0};
    struct text notes = {0}, out = {0};
    struct heap_site sites[] = {waster(), holder()};
    for (unsigned i = 0; i < 2; i++)
        heap_view_site(&now, &sites[i], heap_text_add, &text);
    heap_text_add(&text, &go_entry);
    text_puts(&notes, "sampled: one byte in 512 on average\ncycle 3\n");
    heap_text_write(&text, &notes, &out);
    assert_false(out.failed);
    text_putc(&out, '\0');
    /* The largest in use first, and what only makes garbage last. */
    static const char expected[] = "heap profile: 4: 7096 [906: 99096] @ heapprofile\n"
                                   "# sampled: one byte in 512 on average\n"
                                   "# cycle 3\n"
                                   "\n"
                                   "1: 4096 [1: 4096] @ 0x3001\n"
                                   "#\t0x3000\tmain.hold+0\thold.go:4\n"
                                   "#\tlabels: {\"library\": \"demo\"}\n"
                                   "\n"
                                   "3: 3000 [5: 5000] @ 0x1000 0x2000\n"
                                   "#\t0xfff\tinlined+0x1f\tmake.h:7\n"
                                   "#\t0xfff\tmake+0x1f\tmake.c:9\n"
                                   "#\t0x1fff\tserve+0x2f\tserve.c:20\n"
                                   "#\tlabels: {\"listener\": \"edge\", \"filter\": \"golang\"}\n"
                                   "\n"
                                   "0: 0 [900: 90000] @ 0x2000\n"
                                   "#\t0x1fff\tserve+0x2f\tserve.c:20\n"
                                   "\n"
                                   "# runtime.MemStats, as the samples have it\n"
                                   "# Alloc = 7096\n"
                                   "# TotalAlloc = 99096\n"
                                   "# Mallocs = 906\n"
                                   "# HeapObjects = 4\n";
    assert_memory_equal(out.data, expected, sizeof expected - 1);
    assert_non_null(strstr(out.data, "\nMAPPED_LIBRARIES:\n"));
    heap_text_fini(&text);
    text_fini(&notes);
    text_fini(&out);
}

/* Readers take a profile of which both pairs are equal for one of two columns. */
static void equal_sums_do_not_make_two_columns_of_four(void **state) {
    struct heap_text text = {0};
    struct text no_notes = {0}, out = {0};
    heap_text_add(&text, &go_entry);
    heap_text_write(&text, &no_notes, &out);
    assert_true(span_starts_with(text_span(&out), SPAN_LIT("heap profile: 1: 4096 [1: 4097] @")));
    heap_text_fini(&text);
    text_fini(&out);
}

static void a_flame_graph_has_labels_and_what_others_tell(void **state) {
    struct text out = {0};
    struct flame flame;
    flame_begin(&flame, &out, "bytes");
    const struct stack_count ours = {.pcs = pcs, .depth = 2, .name = "", .labels = edge};
    flame_add(&flame, &ours, 3000);
    flame_add_told(&flame, &of_go, 4096);
    flame_end(&flame, 0, 1, SPAN_LIT("a note\n"));
    text_putc(&out, '\0');
    assert_string_equal(out.data,
                        "{\"unit\":\"bytes\",\"stacks\":["
                        "[3000,\"\",{\"listener\":\"edge\",\"filter\":\"golang\"},4095,8191],"
                        "[4096,\"\",{\"library\":\"demo\"},[[\"main.hold\",\"hold.go\"]]]],"
                        "\"frames\":{\"4095\":[[\"inlined\",\"make.h\"],[\"make\",\"make.c\"]],"
                        "\"8191\":[[\"serve\",\"serve.c\"]]},"
                        "\"duration_ns\":0,\"lost\":1,\"notes\":\"a note\\n\"}");
    text_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_question_has_its_values),
        cmocka_unit_test(a_profile_has_both_kinds_of_site),
        cmocka_unit_test(a_difference_shows_what_changed_and_nothing_else),
        cmocka_unit_test(the_text_is_what_go_programs_print),
        cmocka_unit_test(equal_sums_do_not_make_two_columns_of_four),
        cmocka_unit_test(a_flame_graph_has_labels_and_what_others_tell),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
