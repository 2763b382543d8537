#include "crash/crash_facts.h"

#include <stdio.h>

static struct span next_line(struct span *rest) {
    ptrdiff_t end = span_find(*rest, '\n');
    struct span line = end < 0 ? *rest : span_make(rest->ptr, (size_t)end);
    *rest = span_from(*rest, line.len + 1);
    return line;
}

/* Up to the next blank, or all that is left. */
static struct span next_word(struct span *rest) {
    ptrdiff_t end = span_find(*rest, ' ');
    struct span word = end < 0 ? *rest : span_make(rest->ptr, (size_t)end);
    *rest = span_from(*rest, word.len + 1);
    return word;
}

static bool parse_hex(struct span text, uint64_t *out) {
    uint64_t value = 0;
    if (text.len == 0 || text.len > 16)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c >= '0' && c <= '9')
            value = value * 16 + (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = value;
    return true;
}

static bool parse_i64(struct span text, int64_t *out) {
    bool is_negative = span_starts_with(text, SPAN_LIT("-"));
    uint64_t value;
    if (!span_to_u64(span_from(text, is_negative), &value) || value > INT64_MAX)
        return false;
    *out = is_negative ? -(int64_t)value : (int64_t)value;
    return true;
}

/* What is said of a thread. */
static void take_of_thread(struct crash_thread *thread, struct span key, struct span rest) {
    uint64_t number;
    if (span_eq(key, SPAN_LIT("name"))) {
        thread->name = rest;
    } else if (span_eq(key, SPAN_LIT("place"))) {
        thread->place = rest;
    } else if (span_eq(key, SPAN_LIT("waits"))) {
        thread->waits = true;
    } else if (span_eq(key, SPAN_LIT("coroutine"))) {
        if (span_to_u64(next_word(&rest), &number)) {
            thread->coroutine_id = number;
            thread->coroutine = rest;
        }
    } else if (span_eq(key, SPAN_LIT("label"))) {
        struct span name = next_word(&rest);
        if (thread->label_count < CRASH_THREAD_LABELS_MAX)
            thread->labels[thread->label_count++] = (struct crash_pair){name, rest};
    } else if (span_eq(key, SPAN_LIT("told"))) {
        struct span name = next_word(&rest);
        if (thread->told_count < CRASH_THREAD_TOLD_MAX)
            thread->told[thread->told_count++] = (struct crash_pair){name, rest};
    } else if (span_eq(key, SPAN_LIT("frame"))) {
        if (thread->frame_count < CRASH_FRAMES_MAX && parse_hex(rest, &number))
            thread->frames[thread->frame_count++] = number;
    }
}

static void take_module(struct crash_facts *out, struct span rest) {
    struct crash_module module;
    if (out->module_count == CRASH_MODULES_MAX || !parse_hex(next_word(&rest), &module.base))
        return;
    module.bytes = next_word(&rest);
    module.file = rest;
    out->modules[out->module_count++] = module;
}

static void take_register(struct crash_facts *out, struct span rest) {
    struct crash_register reg = {.name = next_word(&rest)};
    if (out->register_count < CRASH_REGISTERS_MAX && parse_hex(rest, &reg.value))
        out->registers[out->register_count++] = reg;
}

static void take_version(struct crash_version *out, struct span rest) {
    struct crash_version version;
    if (parse_hex(next_word(&rest), &version.hash) &&
        span_to_u64(next_word(&rest), &version.version) &&
        span_to_u64(next_word(&rest), &version.since_ns)) {
        version.origin = rest;
        *out = version;
    }
}

static void take_number(struct crash_facts *out, struct span key, struct span rest) {
    const struct {
        struct span key;
        uint64_t *number;
    } numbers[] = {
        {SPAN_LIT("pid"), &out->pid},
        {SPAN_LIT("signal"), &out->signal},
        {SPAN_LIT("time_ns"), &out->time_ns},
        {SPAN_LIT("uptime_ns"), &out->uptime_ns},
        {SPAN_LIT("generation"), &out->generation},
        {SPAN_LIT("supervisor"), &out->supervisor_pid},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (span_eq(key, numbers[i].key) && !span_to_u64(rest, numbers[i].number))
            *numbers[i].number = 0;
}

static void take(struct crash_facts *out, struct span key, struct span rest) {
    if (span_eq(key, SPAN_LIT("thread"))) {
        uint64_t tid;
        if (out->thread_count < CRASH_THREADS_MAX && span_to_u64(rest, &tid))
            out->threads[out->thread_count++] = (struct crash_thread){.tid = tid};
        else
            out->is_whole = false;
    } else if (span_eq(key, SPAN_LIT("code"))) {
        if (!parse_i64(rest, &out->code))
            out->code = 0;
    } else if (span_eq(key, SPAN_LIT("address"))) {
        out->has_address = parse_hex(rest, &out->address);
    } else if (span_eq(key, SPAN_LIT("sender"))) {
        struct span pid = next_word(&rest);
        out->has_sender = span_to_u64(pid, &out->sender_pid) && span_to_u64(rest, &out->sender_uid);
    } else if (span_eq(key, SPAN_LIT("state"))) {
        out->state = rest;
    } else if (span_eq(key, SPAN_LIT("config"))) {
        take_version(&out->config, rest);
    } else if (span_eq(key, SPAN_LIT("building"))) {
        take_version(&out->building, rest);
    } else if (span_eq(key, SPAN_LIT("assertion"))) {
        out->assertion = rest;
    } else if (span_eq(key, SPAN_LIT("module"))) {
        take_module(out, rest);
    } else if (span_eq(key, SPAN_LIT("register"))) {
        take_register(out, rest);
    } else if (out->thread_count > 0) {
        take_of_thread(&out->threads[out->thread_count - 1], key, rest);
    } else {
        take_number(out, key, rest);
    }
}

bool crash_facts_read(struct span text, struct crash_facts *out) {
    char first[32];
    (void)snprintf(first, sizeof first, "sluice-crash %d", CRASH_FACTS_VERSION);
    *out = (struct crash_facts){.is_whole = true};
    if (!span_eq(next_line(&text), span_of(first)))
        return false;
    bool has_end = false;
    while (text.len > 0 && !has_end) {
        struct span line = next_line(&text);
        struct span key = next_word(&line);
        has_end = span_eq(key, SPAN_LIT("end"));
        if (!has_end)
            take(out, key, line);
    }
    out->is_whole &= has_end;
    return out->thread_count > 0;
}
