/* crash_report: text from facts. The first line is for logs and lists: the signal, and the innermost function that is not merely
 * the way to the end, as abort and what is below it, an assertion's, and those of Go's runtime are. */
#include "crash/crash_report.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin/crash_dir.h"
#include "base/clock.h"

enum {
    PATIENCE_S = 60, /* for all of it: who waits for us has gone by then */
    BUSY_TRIES = 500,
    BUSY_PAUSE_MS = 10, /* another process writes its report */
    OTHER_FRAMES_MAX = 32,
    IDLE_FRAMES_MAX = 8, /* of a thread without a coroutine */
};

/* ---- What happened ---- */

static const char *signal_reason(uint64_t signo, int64_t code) {
    static const struct {
        uint64_t signo;
        int64_t code;
        const char *text;
    } reasons[] = {
        {SIGSEGV, SEGV_MAPERR, "nothing is mapped there"},
        {SIGSEGV, SEGV_ACCERR, "what is mapped there may not be used so"},
        {SIGSEGV, SI_KERNEL, "no address, or an instruction that is not allowed"},
        {SIGBUS, BUS_ADRALN, "not aligned"},
        {SIGBUS, BUS_ADRERR, "behind the end of the file that is mapped there"},
        {SIGBUS, BUS_MCEERR_AR, "the memory is broken"},
        {SIGFPE, FPE_INTDIV, "division of an integer by zero"},
        {SIGFPE, FPE_INTOVF, "overflow of an integer"},
        {SIGILL, ILL_ILLOPC, "no instruction"},
        {SIGILL, ILL_ILLOPN, "no instruction"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].signo == signo && reasons[i].code == code)
            return reasons[i].text;
    return NULL;
}

static void put_signal(struct text *out, uint64_t signo) {
    const char *name = signo < NSIG ? sigabbrev_np((int)signo) : NULL;
    if (name)
        text_printf(out, "SIG%s", name);
    else
        text_printf(out, "signal %" PRIu64, signo);
}

static struct span file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return span_of(slash ? slash + 1 : path);
}

/* Of somebody else: where it came upon us says nothing. */
static bool is_sent(const struct crash_facts *facts) {
    return facts->has_sender && facts->sender_pid != facts->pid;
}

/* A supervisor sends no other such signal. */
static void put_sender(struct text *out, const struct crash_facts *facts) {
    if (!facts->has_sender)
        return;
    if (facts->supervisor_pid && facts->sender_pid == facts->supervisor_pid)
        text_printf(out, ", sent by its supervisor, process %" PRIu64 ", as it hung",
                    facts->sender_pid);
    else
        text_printf(out, ", sent by process %" PRIu64 " of user %" PRIu64 "%s", facts->sender_pid,
                    facts->sender_uid, is_sent(facts) ? "" : ", itself");
}

/* ---- Frames ---- */

static bool is_c_library(struct span file) {
    static const struct span names[] = {
        SPAN_INIT("libc.so"),    SPAN_INIT("libpthread.so"), SPAN_INIT("ld-linux"),
        SPAN_INIT("[vdso"),      SPAN_INIT("libasan.so"),    SPAN_INIT("libubsan.so"),
        SPAN_INIT("libtsan.so"), SPAN_INIT("libgcc_s.so"),   SPAN_INIT("libstdc++.so")};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (span_starts_with(file, names[i]))
            return true;
    return false;
}

static bool is_way_to_the_end(const struct symbol *symbol, struct span file) {
    struct span function = span_of(symbol->function);
    return is_c_library(file) || span_eq(function, SPAN_LIT("assert_failed")) ||
           span_starts_with(function, SPAN_LIT("runtime.")) ||
           span_starts_with(function, SPAN_LIT("internal/runtime/")) ||
           span_starts_with(function, SPAN_LIT("_cgo"));
}

/* Where to look up a frame. */
static uintptr_t place_of(const struct crash_thread *thread, unsigned frame) {
    bool is_call = frame > 0 || thread->waits;
    uintptr_t pc = (uintptr_t)thread->frames[frame];
    return is_call && pc > 0 ? pc - 1 : pc;
}

static void put_source(struct text *out, const struct symbol *symbol) {
    if (symbol->file)
        text_printf(out, " at %s:%u", symbol->file, symbol->line);
}

/* A line for each function that was inlined there, and the frame's own. */
static void put_frame(struct text *out, const struct crash_names *names,
                      const struct crash_thread *thread, unsigned frame) {
    struct symbol symbols[SYMBOL_INLINED_MAX];
    struct symbols_module module = {.file = NULL};
    uintptr_t place = place_of(thread, frame);
    bool has_module = names->module_of(place, &module);
    unsigned count = names->find(place, symbols, SYMBOL_INLINED_MAX);
    for (unsigned i = 0; i + 1 < count; i++) {
        text_printf(out, "        %s", symbols[i].function);
        put_source(out, &symbols[i]);
        text_puts(out, " (inlined)\n");
    }
    text_printf(out, "  #%-3u 0x%012" PRIx64 " ", frame, thread->frames[frame]);
    if (count > 0) {
        text_puts(out, symbols[count - 1].function);
        put_source(out, &symbols[count - 1]);
        text_putc(out, ' ');
    }
    if (has_module)
        text_printf(out, "(%s+0x%" PRIx64 ")\n", module.file,
                    (uint64_t)(thread->frames[frame] - module.base));
    else
        text_puts(out, "(nothing known is there)\n");
}

static void put_frames(struct text *out, const struct crash_names *names,
                       const struct crash_thread *thread, unsigned max) {
    unsigned count = thread->frame_count < max ? thread->frame_count : max;
    for (unsigned i = 0; i < count; i++)
        put_frame(out, names, thread, i);
    if (count < thread->frame_count)
        text_printf(out, "  ... and %u more\n", thread->frame_count - count);
}

/* ---- The first line ---- */

static void put_span(struct text *out, const char *before, struct span s) {
    text_puts(out, before);
    text_put(out, s);
}

static void put_culprit(struct text *out, const struct crash_names *names,
                        const struct crash_thread *thread) {
    for (unsigned i = 0; i < thread->frame_count; i++) {
        struct symbol symbols[SYMBOL_INLINED_MAX];
        struct symbols_module module;
        uintptr_t place = place_of(thread, i);
        if (names->find(place, symbols, SYMBOL_INLINED_MAX) == 0 ||
            !names->module_of(place, &module) ||
            is_way_to_the_end(&symbols[0], file_name(module.file)))
            continue;
        text_printf(out, " in %s", symbols[0].function);
        put_source(out, &symbols[0]);
        put_span(out, " (", file_name(module.file));
        text_putc(out, ')');
        return;
    }
}

static void put_doing(struct text *out, const struct crash_thread *thread) {
    static const struct span shown[] = {SPAN_INIT("filter"), SPAN_INIT("library"),
                                        SPAN_INIT("plugin"), SPAN_INIT("route"),
                                        SPAN_INIT("listener")};
    for (size_t key = 0; key < sizeof shown / sizeof *shown; key++)
        for (unsigned i = 0; i < thread->label_count; i++)
            if (span_eq(thread->labels[i].key, shown[key])) {
                put_span(out, ", ", shown[key]);
                put_span(out, " ", thread->labels[i].value);
            }
}

/* What is not as ever, and may be why. */
static void put_circumstances(struct text *out, const struct crash_facts *facts) {
    if (!span_is_none(facts->state) && !span_eq(facts->state, SPAN_LIT("serving")))
        put_span(out, ", while ", facts->state);
    if (facts->building.version && facts->config.version)
        text_printf(out, ", while configuration version %" PRIu64 " was being built",
                    facts->building.version);
}

static void put_headline(struct text *out, const struct crash_facts *facts,
                         const struct crash_names *names) {
    put_signal(out, facts->signal);
    if (is_sent(facts)) {
        put_sender(out, facts);
    } else {
        put_culprit(out, names, &facts->threads[0]);
        put_doing(out, &facts->threads[0]);
    }
    put_circumstances(out, facts);
    text_putc(out, '\n');
}

/* ---- The request ---- */

/* Absent: it was not told. */
static struct span told(const struct crash_thread *thread, struct span key) {
    for (unsigned i = 0; i < thread->told_count; i++)
        if (span_eq(thread->told[i].key, key))
            return thread->told[i].value;
    return span_none();
}

static void put_told(struct text *out, const char *before, struct span s) {
    if (span_is_none(s))
        return;
    put_span(out, before, s);
    text_putc(out, '\n');
}

/* The time, and how long that was before the end. */
static void put_since(struct text *out, const struct crash_facts *facts, uint64_t since_ns) {
    char when[TIME_TEXT_MAX];
    if (since_ns > INT64_MAX || facts->time_ns > INT64_MAX)
        return;
    time_format((int64_t)since_ns, when);
    text_printf(out, "%s, %.3f s before", when,
                (double)((int64_t)facts->time_ns - (int64_t)since_ns) / NS_PER_S);
}

static void put_began(struct text *out, const struct crash_facts *facts, const char *before,
                      struct span since) {
    uint64_t since_ns;
    if (!span_to_u64(since, &since_ns))
        return;
    text_puts(out, before);
    put_since(out, facts, since_ns);
    text_putc(out, '\n');
}

/* Of the thread that died, in the table at the top; of another one, behind its labels. */
static void put_request(struct text *out, const struct crash_facts *facts,
                        const struct crash_thread *thread, bool has_died) {
    put_told(out, has_died ? "request        " : "  request: ", told(thread, SPAN_LIT("request")));
    put_told(out,
             has_died ? "  id           " : "  request_id: ", told(thread, SPAN_LIT("request_id")));
    put_began(out, facts,
              has_died ? "  began        " : "  began: ", told(thread, SPAN_LIT("began_ns")));
    put_told(out,
             has_died ? "connection     " : "  connection: ", told(thread, SPAN_LIT("connection")));
}

/* ---- The sections ---- */

static void put_process(struct text *out, const struct crash_facts *facts) {
    text_printf(out, "process        %" PRIu64, facts->pid);
    if (!span_is_none(facts->state))
        put_span(out, ", ", facts->state);
    if (facts->generation)
        text_printf(out, ", number %" PRIu64 " of its supervisor", facts->generation);
    text_putc(out, '\n');
}

/* Which one it had, and which one it was about to have: of that it may have died. */
static void put_configuration(struct text *out, const struct crash_facts *facts) {
    const struct crash_version *config = &facts->config, *building = &facts->building;
    text_puts(out, "configuration  ");
    if (config->version) {
        text_printf(out, "version %" PRIu64, config->version);
        if (config->hash)
            text_printf(out, ", hash %016" PRIx64, config->hash);
        put_span(out, ", by ", config->origin);
        text_puts(out, "\n  since        ");
        put_since(out, facts, config->since_ns);
        text_putc(out, '\n');
    } else {
        text_puts(out, "none yet\n");
    }
    if (building->version) {
        text_printf(out, "  being built  version %" PRIu64, building->version);
        put_span(out, ", by ", building->origin);
        text_puts(out, ", since ");
        put_since(out, facts, building->since_ns);
        text_putc(out, '\n');
    }
}

static void put_facts(struct text *out, const struct crash_facts *facts) {
    const char *reason = signal_reason(facts->signal, facts->code);
    char when[TIME_TEXT_MAX];
    text_puts(out, "\nsignal         ");
    put_signal(out, facts->signal);
    text_printf(out, ", code %" PRId64, facts->code);
    if (facts->has_address)
        text_printf(out, ", address 0x%" PRIx64, facts->address);
    if (reason)
        text_printf(out, ": %s", reason);
    put_sender(out, facts);
    if (!span_is_none(facts->assertion))
        put_span(out, "\nassertion      ", facts->assertion);
    time_format((int64_t)(facts->time_ns > INT64_MAX ? 0 : facts->time_ns), when);
    text_printf(out, "\ntime           %s, %.3f s after the start\n", when,
                (double)facts->uptime_ns / NS_PER_S);
    put_process(out, facts);
    text_puts(out, "program        sluice " SLUICE_VERSION "\n");
    put_configuration(out, facts);
    put_request(out, facts, &facts->threads[0], true);
    if (!facts->is_whole)
        text_puts(out, "               the facts end here: it died of telling them, or there were "
                       "too many\n");
}

static void put_thread(struct text *out, const struct crash_facts *facts,
                       const struct crash_thread *thread) {
    text_printf(out, "\nthread %" PRIu64, thread->tid);
    if (!span_is_none(thread->name))
        put_span(out, " ", thread->name);
    put_span(out, ", ", thread->place);
    if (!span_is_none(thread->coroutine)) {
        put_span(out, " ", thread->coroutine);
        text_printf(out, " (number %" PRIu64 ")", thread->coroutine_id);
    }
    text_putc(out, '\n');
    for (unsigned i = 0; i < thread->label_count; i++) {
        put_span(out, "  ", thread->labels[i].key);
        put_span(out, ": ", thread->labels[i].value);
        text_putc(out, '\n');
    }
    if (thread != &facts->threads[0])
        put_request(out, facts, thread, false);
}

/* Who worked on other threads: a call of foreign code may have started what died on a thread of its own, and of a process
 * that hung it is one of these. */
static void put_others(struct text *out, const struct crash_facts *facts) {
    bool is_first = true;
    for (unsigned i = 1; i < facts->thread_count; i++) {
        const struct crash_thread *thread = &facts->threads[i];
        if (span_is_none(thread->coroutine))
            continue;
        text_puts(out, is_first ? "\nwhat other threads worked on\n" : "");
        is_first = false;
        text_printf(out, "  thread %" PRIu64, thread->tid);
        put_span(out, ", ", thread->place);
        put_span(out, " ", thread->coroutine);
        put_doing(out, thread);
        struct span id = told(thread, SPAN_LIT("request_id"));
        if (!span_is_none(id))
            put_span(out, ", request ", id);
        text_putc(out, '\n');
    }
}

/* An earlier one of those that had nothing to do, at the same place; NULL: none. Where there are many processors, most
 * wait in the same way. */
static const struct crash_thread *idle_alike(const struct crash_facts *facts, unsigned of) {
    const struct crash_thread *thread = &facts->threads[of];
    for (unsigned i = 1; i < of && span_is_none(thread->coroutine); i++) {
        const struct crash_thread *other = &facts->threads[i];
        if (span_is_none(other->coroutine) && other->frame_count == thread->frame_count &&
            memcmp(other->frames, thread->frames, thread->frame_count * sizeof thread->frames[0]) ==
                0)
            return other;
    }
    return NULL;
}

static void put_other(struct text *out, const struct crash_facts *facts,
                      const struct crash_names *names, unsigned of) {
    const struct crash_thread *thread = &facts->threads[of];
    const struct crash_thread *alike = idle_alike(facts, of);
    put_thread(out, facts, thread);
    if (alike)
        text_printf(out, "  as thread %" PRIu64 "\n", alike->tid);
    else
        put_frames(out, names, thread,
                   span_is_none(thread->coroutine) ? IDLE_FRAMES_MAX : OTHER_FRAMES_MAX);
}

static void put_registers(struct text *out, const struct crash_facts *facts) {
    text_puts(out, "\nregisters\n");
    for (unsigned i = 0; i < facts->register_count; i++) {
        const struct crash_register *reg = &facts->registers[i];
        text_printf(out, "  %-4.*s 0x%016" PRIx64 "%s", (int)reg->name.len, reg->name.ptr,
                    reg->value, i % 4 == 3 || i + 1 == facts->register_count ? "\n" : "");
    }
}

static void put_module(const struct symbols_module *module, void *arg) {
    text_printf(arg, "  0x%012" PRIx64 " %-40s %s\n", (uint64_t)module->base,
                module->build_id[0] ? module->build_id : "-", module->file);
}

static void cut(struct text *out) {
    static const char mark[] = "\n... the rest is cut\n";
    if (out->failed || out->len <= CRASH_REPORT_BYTES_MAX)
        return;
    out->len = CRASH_REPORT_BYTES_MAX - sizeof mark;
    text_puts(out, mark);
}

void crash_report_write(const struct crash_facts *facts, const struct crash_names *names,
                        struct text *out) {
    put_headline(out, facts, names);
    put_facts(out, facts);
    put_thread(out, facts, &facts->threads[0]);
    put_frames(out, names, &facts->threads[0], CRASH_FRAMES_MAX);
    put_others(out, facts);
    put_registers(out, facts);
    text_puts(out, "\nwhat was loaded: address, build id, file\n");
    names->each_module(put_module, out);
    for (unsigned i = 1; i < facts->thread_count; i++)
        put_other(out, facts, names, i);
    cut(out);
}

/* ---- The process ---- */

bool crash_report_is_asked(int argc, char **argv) {
    return argc == 4 && strcmp(argv[1], CRASH_REPORT_VERB) == 0;
}

static NOINLINE char *read_facts(size_t *len) {
    char *bytes = malloc(CRASH_FACTS_BYTES_MAX);
    *len = 0;
    while (bytes && *len < CRASH_FACTS_BYTES_MAX) {
        ssize_t n = read(STDIN_FILENO, bytes + *len, CRASH_FACTS_BYTES_MAX - *len);
        if (n > 0)
            *len += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    return bytes;
}

/* Those of symbol_add_module, which keeps them. */
static void add_modules(const struct crash_facts *facts) {
    for (unsigned i = 0; i < facts->module_count; i++) {
        const struct crash_module *from = &facts->modules[i];
        struct symbol_module *module = malloc(sizeof *module);
        char *file = strndup(from->file.ptr, from->file.len);
        char *bytes = strndup(from->bytes.ptr, from->bytes.len);
        if (!module || !file || !bytes) {
            free(module);
            free(file);
            free(bytes);
            return;
        }
        *module =
            (struct symbol_module){.base = (uintptr_t)from->base, .file = file, .bytes = bytes};
        symbol_add_module(module);
    }
}

static int add_report(const struct stamped_dir *dir, int64_t wall_ns, struct span report,
                      struct stamped_set *set) {
    const struct timespec pause = {.tv_nsec = BUSY_PAUSE_MS * NS_PER_MS};
    int err = stamped_dir_add(dir, wall_ns, &report, set);
    for (unsigned i = 0; i < BUSY_TRIES && err == -EBUSY; i++) {
        (void)nanosleep(&pause, NULL);
        err = stamped_dir_add(dir, wall_ns, &report, set);
    }
    return err;
}

static void keep(const char *path, unsigned reports_max, struct span report) {
    struct stamped_dir dir;
    struct stamped_set set;
    int err = *path ? crash_dir_init(&dir, path, reports_max) : 0;
    if (*path && err == 0)
        err = add_report(&dir, clock_wall_ns(), report, &set);
    if (*path && err == 0) {
        fprintf(stderr, "crash report: %s/%s\n", dir.path, set.names[0]);
        return;
    }
    if (err)
        fprintf(stderr, "crash report: cannot be written to %s: %s\n", path, strerror(-err));
    fprintf(stderr, "%.*s", (int)report.len, report.ptr);
}

/* Leaves without the end that exit has: what was found is kept for ever. */
int crash_report_main(int argc, char **argv) {
    static const struct crash_names names = {
        .find = symbols_find, .module_of = symbols_module_of, .each_module = symbols_each_module};
    alarm(PATIENCE_S);
    size_t len;
    char *bytes = read_facts(&len);
    struct crash_facts *facts = malloc(sizeof *facts);
    struct text report = {0};
    if (!bytes || !facts || !crash_facts_read(span_make(bytes, len), facts)) {
        fputs("sluice: --crash-report is for the proxy itself: it starts such a process when it "
              "dies\n",
              stderr);
        _exit(2);
    }
    symbols_of_process(getppid());
    add_modules(facts);
    crash_report_write(facts, &names, &report);
    if (report.failed)
        _exit(1);
    keep(argv[2], (unsigned)strtoul(argv[3], NULL, 10), text_span(&report));
    _exit(0);
}
