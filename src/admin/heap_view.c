/* heap_view: from sites and Go's profiles to entries with the same four values. */
#include "admin/heap_view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "admin/pprof_read.h"
#include "ext/go/go_heap.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEAP_OF_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HEAP_OF_SANITIZER 1
#endif
#endif

static const struct pprof_type types[HEAP_VALUES] = {
    [HEAP_ALLOC_OBJECTS] = {"alloc_objects", "count"},
    [HEAP_ALLOC_SPACE] = {"alloc_space", "bytes"},
    [HEAP_INUSE_OBJECTS] = {"inuse_objects", "count"},
    [HEAP_INUSE_SPACE] = {"inuse_space", "bytes"}};

struct viewing {
    const struct heap_wanted *wanted;
    heap_entry_fn fn;
    void *arg;
    struct text *notes;
    const char *library; /* whose profile is read */
    int64_t inuse;       /* of it */
};

static void pass(heap_entry_fn fn, void *arg, const struct heap_entry *entry) {
    for (unsigned i = 0; i < HEAP_VALUES; i++)
        if (entry->values[i] != 0) {
            fn(arg, entry);
            return;
        }
}

/* ---- Ours ---- */

void heap_view_site(const struct heap_wanted *wanted, const struct heap_site *site,
                    heap_entry_fn fn, void *arg) {
    const struct heap_count *allocated = wanted->last_cycle ? &site->cycle : &site->allocated;
    int64_t values[HEAP_VALUES] = {[HEAP_ALLOC_OBJECTS] = allocated->objects,
                                   [HEAP_ALLOC_SPACE] = allocated->bytes,
                                   [HEAP_INUSE_OBJECTS] = site->live.objects,
                                   [HEAP_INUSE_SPACE] = site->live.bytes};
    if (wanted->min_age_ns > 0) /* allocated is of any age */
        values[HEAP_ALLOC_OBJECTS] = values[HEAP_ALLOC_SPACE] = 0;
    const struct stack_count stack = {
        .pcs = site->pcs, .depth = site->depth, .labels = site->labels};
    pass(fn, arg, &(struct heap_entry){.stack = &stack, .values = values});
}

static void on_site(void *arg, const struct heap_site *site) {
    const struct viewing *viewing = arg;
    heap_view_site(viewing->wanted, site, viewing->fn, viewing->arg);
}

/* ---- Go's ---- */

static void on_told(void *arg, const struct told_stack *told, const int64_t *values) {
    struct viewing *viewing = arg;
    struct told_stack stack = *told;
    stack.labels[stack.label_count++] = (struct label){"library", viewing->library};
    viewing->inuse += values[HEAP_INUSE_SPACE];
    pass(viewing->fn, viewing->arg, &(struct heap_entry){.told = &stack, .values = values});
}

static void pass_whole(struct viewing *viewing, const struct go_heap *heap) {
    char name[256];
    snprintf(name, sizeof name, "heap of %s (Go)", heap->library);
    const struct symbol symbol = {.function = name};
    const struct told_frame frame = {.symbols = &symbol, .count = 1};
    const struct told_stack stack = {
        .frames = &frame, .depth = 1, .labels = {{"library", heap->library}}, .label_count = 1};
    const int64_t size = (int64_t)heap->resident;
    /* One object, or readers of the text would refuse it. */
    const int64_t values[HEAP_VALUES] = {[HEAP_INUSE_OBJECTS] = 1, [HEAP_INUSE_SPACE] = size};
    pass(viewing->fn, viewing->arg, &(struct heap_entry){.told = &stack, .values = values});
}

static void on_go_heap(void *arg, const struct go_heap *heap) {
    struct viewing *viewing = arg;
    viewing->library = heap->library;
    viewing->inuse = 0;
    struct span profile = span_make(heap->profile, heap->profile_len);
    text_printf(viewing->notes, "heap of %s (Go): ", heap->library);
    if (heap->resident > 0)
        text_printf(viewing->notes, "%" PRIu64 " bytes in memory; ", heap->resident);
    else
        text_puts(viewing->notes, "not found among the mappings; ");
    if (!heap->profile) {
        text_puts(viewing->notes, "it does not tell of what, see SluiceHeapProfile\n");
        if (heap->resident > 0)
            pass_whole(viewing, heap);
    } else if (pprof_read(profile, types, HEAP_VALUES, on_told, viewing) < 0) {
        text_puts(viewing->notes, "what it tells cannot be read\n");
    } else {
        text_printf(viewing->notes, "by its own profile %" PRId64 " are in use\n", viewing->inuse);
    }
}

/* ---- Both ---- */

static void note_reading(const struct heap_wanted *wanted, const struct heap_reading *reading,
                         struct text *notes) {
    if (reading->rate > 0)
        text_printf(notes, "sampled: one byte in %" PRIu64 " on average\n", reading->rate);
    else
        text_puts(notes, "sampling is off: only what was sampled before\n");
    if (wanted->min_age_ns > 0) {
        text_printf(notes, "in use for %" PRId64 " s or longer, as of now\n",
                    (int64_t)(wanted->min_age_ns / NS_PER_S));
    } else {
        text_printf(notes, "cycle %" PRIu64, reading->cycle);
        if (reading->cycle > 0) {
            text_puts(notes, ", from ");
            text_put_time(notes, reading->cycle_began_ns);
            text_puts(notes, " to ");
            text_put_time(notes, reading->closed_ns);
        }
        text_putc(notes, '\n');
    }
    if (reading->lost > 0)
        text_printf(notes,
                    "%" PRIu64 " of %" PRIu64
                    " samples were lost: memory for the profile was short\n",
                    reading->lost, reading->samples);
#ifdef HEAP_OF_SANITIZER
    text_puts(notes,
              "a build with a sanitizer: malloc is not seen, only blocks and the recycler\n");
#endif
}

int heap_view_read(const struct heap_wanted *wanted, heap_entry_fn fn, void *arg,
                   struct heap_reading *reading, struct text *notes) {
    struct viewing viewing = {.wanted = wanted, .fn = fn, .arg = arg, .notes = notes};
    if (wanted->close_cycle)
        (void)heap_profile_close_cycle();
    int err = heap_profile_read(wanted->min_age_ns, on_site, &viewing, reading);
    if (err < 0)
        return err;
    note_reading(wanted, reading, notes);
    if (wanted->min_age_ns > 0 || wanted->last_cycle)
        text_puts(notes, "without the heaps of Go libraries: they tell of no ages and no cycles\n");
    else if (go_heaps_read(wanted->close_cycle, on_go_heap, &viewing) < 0)
        text_puts(notes, "without the heaps of Go libraries: memory or /proc is missing\n");
    return 0;
}

/* ---- As a file ---- */

/* Where the values begin of which there is something to say. */
static unsigned first_value(const struct heap_wanted *wanted) {
    return wanted->min_age_ns > 0 ? HEAP_INUSE_OBJECTS : HEAP_ALLOC_OBJECTS;
}

struct pprof *heap_pprof_new(const struct heap_wanted *wanted, uint64_t rate,
                             const char *default_type) {
    struct pprof_head head = {
        .period_type = {"space", "bytes"},
        .period = (int64_t)rate,
        .default_type = default_type,
        .drop_frames = "mem_sample", /* inlined where memory is handed out */
    };
    for (unsigned i = first_value(wanted); i < HEAP_VALUES; i++)
        head.values[head.value_count++] = types[i];
    return pprof_new(&head);
}

void heap_pprof_add(struct pprof *pprof, const struct heap_wanted *wanted,
                    const struct heap_entry *entry, int sign) {
    int64_t values[HEAP_VALUES];
    unsigned count = 0;
    for (unsigned i = first_value(wanted); i < HEAP_VALUES; i++)
        values[count++] = sign * entry->values[i];
    if (entry->stack)
        pprof_add(pprof, entry->stack, values);
    else
        pprof_add_told(pprof, entry->told, values);
}

void heap_pprof_notes(struct pprof *pprof, const struct text *notes) {
    struct span rest = text_span(notes);
    for (ptrdiff_t len; (len = span_find(rest, '\n')) >= 0;
         rest = span_from(rest, (size_t)len + 1)) {
        char line[512];
        snprintf(line, sizeof line, "%.*s", (int)len, rest.ptr);
        pprof_comment(pprof, line);
    }
}
