/* dump: prints what dump_collect.c found, and the thread that does so when a signal asks.
 *
 * The header line carries Go's fields first (state, minutes) and then ours, which tools for goroutines
 * skip: name, P, priority. Labels come last, as in Go. A stack that could not be seen is told in the
 * words that those tools know.
 *
 * Groups  are runs of equal records after a sort by stack, state, name and labels. Stacks of different
 *         walkers are different objects, so they are compared by contents, hash first.
 *
 * By signal  The handler sets dump_asked and posts the semaphore of rt_run's thread, the one thread that
 *         never runs a coroutine and has nothing else to do. That starts the dump's own thread, because
 *         writing a log may block, and rt_run's must be there for rt_stop. One such thread at a time:
 *         it looks at dump_asked again before it goes (both seq_cst: either it sees the request, or who
 *         asks sees that it has gone). */
#include "rt/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/dump_internal.h"
#include "rt/foreign.h"
#include "rt/labels.h"
#include "rt/rt_internal.h"
#include "rt/signals.h"
#include "rt/symbol.h"
#include "rt/thread.h"

/* ---- Text ---- */

struct printer {
    dump_write_fn write;
    void *arg;
    size_t len, total;
    char text[16 * 1024];
};

static void flush(struct printer *out) {
    if (out->len > 0)
        out->write(out->arg, out->text, out->len);
    out->len = 0;
}

PRINTF_LIKE(2, 3) static void put(struct printer *out, const char *format, ...) {
    enum { ROOM = 4096 }; /* more than any name has; a longer piece is cut */
    if (sizeof out->text - out->len < ROOM)
        flush(out);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(out->text + out->len, ROOM, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : n < ROOM ? (size_t)n : ROOM - 1;
    out->len += len;
    out->total += len;
}

static const char *state_text(const struct dump_record *record) {
    switch ((enum dump_status)record->status) {
    case DUMP_PARKED:
        return record->reason ? record->reason : "parked";
    case DUMP_READY:
        return "runnable";
    case DUMP_RUNNING:
        return "running";
    case DUMP_FOREIGN:
        return reason_foreign_call;
    case DUMP_BLOCKING:
        return reason_blocking_call;
    }
    return "unknown";
}

/* A return address is that of the next instruction, perhaps of another line or function. */
static uintptr_t call_of(const struct dump_record *record, unsigned i) {
    uintptr_t pc = record->stack->pcs[i];
    return i == 0 && record->status == DUMP_RUNNING ? pc : pc - 1;
}

static void put_labels(struct printer *out, const char *before, const struct labels *labels,
                       const char *after) {
    char text[LABELS_TEXT_MAX];
    if (labels_text(labels, text, sizeof text) > 0)
        put(out, "%s%s%s", before, text, after);
}

/* ---- One by one ---- */

static void put_wait(struct printer *out, int64_t wait_ns) {
    int64_t seconds = wait_ns / NS_PER_S;
    if (seconds >= 60)
        put(out, ", %" PRId64 " minutes", seconds / 60);
    else if (seconds > 0)
        put(out, ", %" PRId64 " seconds", seconds);
}

static void put_location(struct printer *out, const struct symbol *symbol) {
    put(out, "\t%s:%u +0x%" PRIx64 "\n", symbol->file ? symbol->file : "??", symbol->line,
        symbol->offset);
}

static void put_each(struct printer *out, const struct dump_record *record) {
    static const char *const priorities[] = {
        [RT_NORMAL] = "", [RT_HIGH] = ", high priority", [RT_LOW] = ", low priority"};
    put(out, "goroutine %" PRIu64 " [%s", record->id, state_text(record));
    put_wait(out, record->wait_ns);
    put(out, ", \"%s\"", record->name ? record->name : "?");
    if (record->p != DUMP_ANY_P)
        put(out, ", P %u", record->p);
    put(out, "%s", record->priority < RT_PRIORITIES ? priorities[record->priority] : "");
    put_labels(out, " labels:", record->labels, "");
    put(out, "]:\n");

    struct symbol symbols[SYMBOL_INLINED_MAX];
    if (!record->stack)
        put(out, "\tgoroutine running on other thread; stack unavailable%s\n",
            record->is_p_frozen ? ": its P does not answer" : "");
    for (unsigned i = 0; record->stack && i < record->stack->count; i++) {
        unsigned count = symbol_of(call_of(record, i), symbols, SYMBOL_INLINED_MAX);
        for (unsigned s = 0; s < count; s++) {
            put(out, "%s(...)\n", symbols[s].function);
            put_location(out, &symbols[s]);
        }
    }
    if (record->stack && record->stack->count == BACKTRACE_MAX)
        put(out, "...additional frames elided...\n");
    if (record->created_by) {
        unsigned count = symbol_of(record->created_by - 1, symbols, SYMBOL_INLINED_MAX);
        put(out, "created by %s\n", symbols[count - 1].function);
        put_location(out, &symbols[count - 1]);
    }
    put(out, "\n");
}

static void print_each(struct printer *out, const struct dump *dump) {
    for (size_t i = 0; i < dump->count; i++) {
        if (out->total >= DUMP_TEXT_MAX) {
            put(out, "...additional goroutines elided: %zu...\n", dump->count - i);
            return;
        }
        put_each(out, &dump->records[i]);
    }
}

/* ---- Groups ---- */

static int compare_u64(uint64_t one, uint64_t other) {
    return one < other ? -1 : one > other;
}

static int compare_stacks(const struct dump_stack *one, const struct dump_stack *other) {
    if (one == other || !one || !other)
        return !!one - !!other;
    int order = compare_u64(one->hash, other->hash);
    if (order == 0)
        order = compare_u64(one->count, other->count);
    return order ? order : memcmp(one->pcs, other->pcs, one->count * sizeof *one->pcs);
}

static int by_group(const void *a, const void *b) {
    const struct dump_record *one = *(const struct dump_record *const *)a;
    const struct dump_record *other = *(const struct dump_record *const *)b;
    int order = compare_stacks(one->stack, other->stack);
    if (order == 0)
        order = strcmp(state_text(one), state_text(other));
    if (order == 0)
        order = strcmp(one->name ? one->name : "", other->name ? other->name : "");
    return order ? order : labels_compare(one->labels, other->labels);
}

struct group {
    const struct dump_record *first;
    size_t count;
};

static int by_size(const void *a, const void *b) {
    const struct group *one = a, *other = b;
    int order = compare_u64(other->count, one->count);
    return order ? order : compare_u64(one->first->id, other->first->id);
}

static void put_group(struct printer *out, const struct group *group) {
    const struct dump_record *record = group->first;
    unsigned depth = record->stack ? record->stack->count : 0;
    put(out, "%zu @", group->count);
    for (unsigned i = 0; i < depth; i++)
        put(out, " 0x%" PRIxPTR, record->stack->pcs[i]);
    put(out, "\n");
    put_labels(out, "# labels: ", record->labels, "\n");
    put(out, "# [%s, \"%s\"]%s\n", state_text(record), record->name ? record->name : "?",
        record->stack ? "" : " stack unavailable");
    for (unsigned i = 0; i < depth; i++) {
        struct symbol symbols[SYMBOL_INLINED_MAX];
        unsigned count = symbol_of(call_of(record, i), symbols, SYMBOL_INLINED_MAX);
        for (unsigned s = 0; s < count; s++)
            put(out, "#\t0x%" PRIxPTR "\t%s+0x%" PRIx64 "\t%s:%u\n", record->stack->pcs[i],
                symbols[s].function, symbols[s].offset, symbols[s].file ? symbols[s].file : "??",
                symbols[s].line);
    }
    put(out, "\n");
}

/* By size, to be freed; NULL when memory is short. */
static struct group *groups_of(const struct dump *dump, size_t *group_count) {
    const struct dump_record **sorted = malloc((dump->count + 1) * sizeof *sorted);
    struct group *groups = malloc((dump->count + 1) * sizeof *groups);
    if (!sorted || !groups) {
        free(sorted);
        free(groups);
        return NULL;
    }
    size_t count = 0;
    for (size_t i = 0; i < dump->count; i++)
        sorted[i] = &dump->records[i];
    qsort(sorted, dump->count, sizeof *sorted, by_group);
    for (size_t i = 0; i < dump->count; i++) {
        if (i == 0 || by_group(&sorted[i - 1], &sorted[i]) != 0)
            groups[count++] = (struct group){.first = sorted[i]};
        groups[count - 1].count++;
    }
    free(sorted);
    qsort(groups, count, sizeof *groups, by_size);
    *group_count = count;
    return groups;
}

static int print_grouped(struct printer *out, const struct dump *dump) {
    size_t group_count;
    struct group *groups = groups_of(dump, &group_count);
    if (!groups)
        return -ENOMEM;
    put(out, "goroutine profile: total %zu\n", dump->count);
    for (size_t i = 0; i < group_count; i++)
        put_group(out, &groups[i]);
    free(groups);
    return 0;
}

static int count_groups(const struct dump *dump, stack_count_fn fn, void *arg) {
    size_t group_count;
    struct group *groups = groups_of(dump, &group_count);
    if (!groups)
        return -ENOMEM;
    for (size_t i = 0; i < group_count; i++) {
        const struct dump_record *record = groups[i].first;
        struct stack_count count = {
            .count = groups[i].count,
            .pcs = record->stack ? record->stack->pcs : NULL,
            .depth = record->stack ? record->stack->count : 0,
            .is_first_exact = record->status == DUMP_RUNNING,
            .name = record->name,
            .state = state_text(record),
            .labels = record->labels,
        };
        fn(arg, &count);
    }
    free(groups);
    return 0;
}

/* ---- Asking ---- */

static int print(const struct dump *dump, enum rt_dump_format format, dump_write_fn write,
                 void *arg) {
    struct printer *out = malloc(sizeof *out);
    if (!out)
        return -ENOMEM;
    out->write = write;
    out->arg = arg;
    out->len = out->total = 0;
    int err = 0;
    if (format == RT_DUMP_GROUPED)
        err = print_grouped(out, dump);
    else
        print_each(out, dump);
    flush(out);
    free(out);
    return err;
}

struct dump_call {
    enum rt_dump_format format;
    dump_write_fn write;
    stack_count_fn count; /* instead of write */
    void *arg;
    int err;
};

static void dump_on_thread(void *arg) {
    struct dump_call *call = arg;
    struct dump dump;
    call->err = dump_collect(&dump);
    if (call->err < 0)
        return;
    call->err = call->count ? count_groups(&dump, call->count, call->arg)
                            : print(&dump, call->format, call->write, call->arg);
    dump_free(&dump);
}

static int ask(struct dump_call *call) {
    if (!rt_self()) {
        ASSERT(!p_self()); /* a scheduler callback would wait for itself */
        dump_on_thread(call);
        return call->err;
    }
    int err = blocking_call(dump_on_thread, call);
    return err < 0 ? err : call->err;
}

int rt_dump(enum rt_dump_format format, dump_write_fn write, void *arg) {
    return ask(&(struct dump_call){.format = format, .write = write, .arg = arg});
}

int rt_dump_counts(stack_count_fn fn, void *arg) {
    return ask(&(struct dump_call){.count = fn, .arg = arg});
}

/* ---- By signal ---- */

static _Atomic bool dump_asked, dump_runs;

static void put_in_log(void *arg, const char *text, size_t len) {
    (void)arg;
    log_text(text, len);
}

static void dump_to_log(void) {
    struct dump dump;
    int err = dump_collect(&dump);
    if (err < 0) {
        LOG(log_rt, LOG_ERROR, "no dump of the coroutines: error %d", -err);
        return;
    }
    LOG(log_rt, LOG_CRITICAL, "all %zu coroutines, as a signal asks:", dump.count);
    if (print(&dump, RT_DUMP_EACH, put_in_log, NULL) < 0)
        LOG(log_rt, LOG_ERROR, "no memory to print them");
    dump_free(&dump);
}

static void *dump_main(void *unused) {
    (void)unused;
    pthread_setname_np(pthread_self(), "sluice:dump");
    do {
        while (atomic_exchange(&dump_asked, false))
            dump_to_log();
        atomic_store(&dump_runs, false);
    } while (atomic_load(&dump_asked) && !atomic_exchange(&dump_runs, true));
    return NULL;
}

void dump_start_if_asked(void) {
    if (!atomic_load(&dump_asked) || atomic_exchange(&dump_runs, true))
        return;
    int err = thread_start(dump_main, NULL);
    if (err < 0) {
        atomic_store(&dump_runs, false);
        LOG(log_rt, LOG_ERROR, "no thread to dump the coroutines: error %d", -err);
    }
}

void rt_dump_to_log(void) {
    atomic_store(&dump_asked, true);
    rt_nudge();
}
