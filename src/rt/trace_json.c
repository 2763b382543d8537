/* trace_json: the recorded events in Chrome's trace event format.
 *
 *   process 1 "Ps"       a thread per P: X events for the coroutines it ran, its sleep, quick calls and
 *                        wake-ups by the scheduler itself; i events for steals, timers and hand-overs
 *   process 2 "Ms"       a thread per M, by its tid: B and E around each foreign call
 *   process 3 "others"   one thread: wake-ups by threads without a P
 *   flows                s at the wake-up, f at the run
 *
 * An X event is written when its end is known, so the slice that is open is kept aside. Viewers sort by
 * time, so the order of the file means nothing. A flow must begin inside a slice: a wake-up outside of
 * any coroutine gets a slice of its own, which ends before the next event begins.
 *
 * Threads  One at a time, any thread: trace.c sees to it. */
#include "rt/trace_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"

enum { PID_PS = 1, PID_MS = 2, PID_OTHERS = 3, CHUNK = 32 * 1024, EVENT_TEXT_MAX = 1024 };
static const int64_t mark_ns = 200; /* the longest slice of a wake-up by the scheduler */

struct writer {
    int (*write)(void *arg, const char *text, size_t len);
    void *arg;
    int err; /* not 0: what write returned, and no more is written */
    int64_t start_ns;
    bool any; /* an event was written: the next one needs a comma */
    size_t len;
};
static char chunk[CHUNK]; /* too much for the stack of a coroutine */

/* A track while its events go by. */
struct track {
    struct writer *out;
    unsigned pid, tid;
    const struct trace_event *run, *sleep, *quick; /* what is open */
};

static void flush(struct writer *out) {
    if (out->err == 0 && out->len > 0)
        out->err = out->write(out->arg, chunk, out->len);
    out->len = 0;
}

static void PRINTF_LIKE(2, 3) put(struct writer *out, const char *format, ...) {
    if (CHUNK - out->len < EVENT_TEXT_MAX)
        flush(out);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(chunk + out->len, EVENT_TEXT_MAX, format, args);
    va_end(args);
    ASSERT(n >= 0);
    out->len += n < EVENT_TEXT_MAX ? (size_t)n : EVENT_TEXT_MAX - 1;
}

/* Names are literals of ours or of a library's user: cut and escaped all the same. */
struct quoted {
    char text[200];
};
static struct quoted quote(const char *text) {
    struct quoted out;
    size_t len = 0;
    for (; text && *text && len + 8 < sizeof out.text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            out.text[len++] = '\\';
        if (c >= 0x20)
            out.text[len++] = (char)c;
        else
            len += (size_t)snprintf(out.text + len, sizeof out.text - len, "\\u%04x", c);
    }
    out.text[len] = '\0';
    return out;
}

/* Microseconds with three decimals. */
struct us {
    char text[32];
};
static struct us us(int64_t ns) {
    struct us out;
    if (ns < 0)
        ns = 0;
    snprintf(out.text, sizeof out.text, "%" PRId64 ".%03d", ns / 1000, (int)(ns % 1000));
    return out;
}

static void begin(struct writer *out, const char *phase, unsigned pid, unsigned tid, int64_t at_ns,
                  const char *name) {
    put(out, "%s{\"ph\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%s,\"name\":\"%s\"",
        out->any ? ",\n" : "\n", phase, pid, tid, us(at_ns - out->start_ns).text, quote(name).text);
    out->any = true;
}

static void put_name(struct writer *out, const char *what, unsigned pid, unsigned tid,
                     const char *name) {
    begin(out, "M", pid, tid, out->start_ns, what);
    put(out, ",\"args\":{\"name\":\"%s\"}}", name);
}

static void put_slice(struct track *track, const char *category, const char *name, int64_t from_ns,
                      int64_t to_ns) {
    begin(track->out, "X", track->pid, track->tid, from_ns, name);
    put(track->out, ",\"cat\":\"%s\",\"dur\":%s", category, us(to_ns - from_ns).text);
}

static void put_mark(struct track *track, const struct trace_event *event, const char *category,
                     const char *name) {
    begin(track->out, "i", track->pid, track->tid, event->at_ns, name);
    put(track->out, ",\"cat\":\"%s\",\"s\":\"t\"", category);
}

/* ---- Slices ---- */

static void end_quick(struct track *track, int64_t at_ns) {
    if (!track->quick)
        return;
    put_slice(track, "quick", track->quick->text, track->quick->at_ns, at_ns);
    put(track->out, "}");
    track->quick = NULL;
}

static void end_run(struct track *track, int64_t at_ns, const char *why) {
    end_quick(track, at_ns);
    if (!track->run)
        return;
    put_slice(track, "run", track->run->text, track->run->at_ns, at_ns);
    put(track->out, ",\"args\":{\"coroutine\":%" PRIu64 ",\"ended by\":\"%s\"}}",
        track->run->number, quote(why ? why : "a wait without a reason").text);
    track->run = NULL;
}

static void end_sleep(struct track *track, int64_t at_ns) {
    if (!track->sleep)
        return;
    put_slice(track, "sleep", "asleep", track->sleep->at_ns, at_ns);
    put(track->out, "}");
    track->sleep = NULL;
}

static void put_wake_up(struct track *track, const struct trace_event *event, uint64_t flow,
                        const struct trace_event *next) {
    const char *what = event->kind == TRACE_START ? "start" : "ready";
    if (!track->run) {
        int64_t end_ns = event->at_ns + mark_ns;
        if (next && next->at_ns < end_ns)
            end_ns = next->at_ns;
        put_slice(track, "wake", what, event->at_ns, end_ns);
        put(track->out, ",\"args\":{\"coroutine\":%" PRIu64 ",\"name\":\"%s\"}}", event->number,
            quote(event->text).text);
    }
    begin(track->out, "s", track->pid, track->tid, event->at_ns, "wake");
    put(track->out, ",\"cat\":\"wake\",\"id\":%" PRIu64 "}", flow);
}

static void put_foreign(struct writer *out, const struct trace_event *event) {
    bool begins = event->kind == TRACE_FOREIGN;
    begin(out, begins ? "B" : "E", PID_MS, event->tid, event->at_ns, begins ? event->text : "");
    put(out, ",\"cat\":\"foreign\",\"args\":{\"coroutine\":%" PRIu64 "}}", event->number);
}

static void put_event(struct track *track, const struct trace_event *event, uint64_t flow,
                      const struct trace_event *next) {
    struct writer *out = track->out;
    switch ((enum trace_kind)event->kind) {
    case TRACE_ARRIVES:
        if (trace_flow_session(event->number) == trace_flow_session(flow) && next) {
            begin(out, "f", track->pid, track->tid, next->at_ns, "wake");
            put(out, ",\"cat\":\"wake\",\"bp\":\"e\",\"id\":%" PRIu64 "}", event->number);
        }
        break;
    case TRACE_RUN:
        end_run(track, event->at_ns, "the next");
        track->run = event;
        break;
    case TRACE_STOP_RUN:
        end_run(track, event->at_ns, event->text);
        break;
    case TRACE_HANDED:
        end_run(track, event->at_ns, "retaken in a foreign call");
        put_mark(track, event, "hand-over", "hand-over");
        put(out, ",\"args\":{\"thread\":%u}}", event->tid);
        break;
    case TRACE_SLEEP:
        track->sleep = event;
        break;
    case TRACE_AWAKE:
        end_sleep(track, event->at_ns);
        break;
    case TRACE_STEAL:
        put_mark(track, event, "steal", "steal");
        put(out, ",\"args\":{\"coroutine\":%" PRIu64 ",\"from P\":%u}}", event->number,
            event->p_index);
        break;
    case TRACE_TIMERS:
        put_mark(track, event, "timer", "timers");
        put(out, ",\"args\":{\"fired\":%" PRIu64 "}}", event->number);
        break;
    case TRACE_FOREIGN:
    case TRACE_FOREIGN_END:
        put_foreign(out, event);
        break;
    case TRACE_QUICK:
        track->quick = event;
        break;
    case TRACE_QUICK_END:
        end_quick(track, event->at_ns);
        break;
    case TRACE_START:
    case TRACE_READY:
        put_wake_up(track, event, flow, next);
        break;
    case TRACE_RETAKE:
        put_mark(track, event, "retake", "retake");
        put(out, ",\"args\":{\"P\":%u}}", event->p_index);
        break;
    }
}

/* ---- Files ---- */

static void put_track(struct writer *out, const struct trace_times *times, unsigned index,
                      uint64_t *missed) {
    struct trace_buffer *buffer = &trace_buffers[index];
    bool is_p = index < RT_P_MAX;
    struct track track = {.out = out, .pid = is_p ? PID_PS : PID_OTHERS, .tid = is_p ? index : 0};
    char name[32];
    snprintf(name, sizeof name, "P %u", index);
    put_name(out, "thread_name", track.pid, track.tid, is_p ? name : "without a P");
    uint32_t session = atomic_load_explicit(&trace_session, memory_order_relaxed);
    if (atomic_load_explicit(&buffer->session, memory_order_acquire) != session)
        return; /* nothing happened there */
    uint32_t count = atomic_load_explicit(&buffer->head, memory_order_acquire);
    *missed += atomic_load_explicit(&buffer->missed, memory_order_relaxed);
    for (uint32_t i = 0; i < count && out->err == 0; i++) {
        const struct trace_event *event = &buffer->events[i];
        put_event(&track, event, trace_flow_name(session, index, i),
                  i + 1 < count ? event + 1 : NULL);
    }
    int64_t last_ns = count > 0 ? buffer->events[count - 1].at_ns : times->stop_ns;
    int64_t end_ns = last_ns > times->stop_ns ? last_ns : times->stop_ns;
    end_run(&track, end_ns, "the end of the trace");
    end_sleep(&track, end_ns);
}

int trace_json_write(const struct trace_times *times,
                     int (*write)(void *arg, const char *text, size_t len), void *arg) {
    struct writer out = {.write = write, .arg = arg, .start_ns = times->start_ns};
    uint64_t missed = 0;
    put(&out, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
    put_name(&out, "process_name", PID_PS, 0, "Ps");
    put_name(&out, "process_name", PID_MS, 0, "Ms in foreign code");
    put_name(&out, "process_name", PID_OTHERS, 0, "others");
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        put_track(&out, times, i, &missed);
    put_track(&out, times, RT_P_MAX, &missed);
    put(&out,
        "\n],\"otherData\":{\"ps\":%u,\"nanoseconds\":%" PRId64 ",\"events missed\":%" PRIu64
        "}}\n",
        rt_sched.p_count, times->stop_ns - times->start_ns, missed);
    flush(&out);
    return out.err;
}
