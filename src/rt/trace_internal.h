/* trace_internal: what trace.c records and trace_json.c reads. */
#pragma once
#include <assert.h>

#include "rt/trace.h"
#include "rt/trace_hooks.h"

enum trace_kind {
    TRACE_ARRIVES,  /* number: the flow that ends at the TRACE_RUN which follows */
    TRACE_RUN,      /* number: id, text: name of the coroutine */
    TRACE_STOP_RUN, /* text: why; NULL when the runtime does not say */
    TRACE_HANDED,   /* tid has the P now */
    TRACE_SLEEP,
    TRACE_AWAKE,
    TRACE_STEAL,   /* number: id of the first, from p_index */
    TRACE_TIMERS,  /* number: how many fired */
    TRACE_FOREIGN, /* tid: of the M; number, text: its coroutine */
    TRACE_FOREIGN_END,
    TRACE_QUICK, /* text: site */
    TRACE_QUICK_END,
    TRACE_START, /* number, text: the coroutine; a flow starts here */
    TRACE_READY,
    TRACE_RETAKE, /* of p_index */
};

struct trace_event {
    int64_t at_ns;
    uint64_t number;
    const char *text; /* a literal */
    uint32_t tid;
    uint16_t p_index;
    uint8_t kind; /* enum trace_kind */
};
static_assert(sizeof(struct trace_event) == 32, "trace.h says 32 bytes");

struct trace_buffer {
    _Alignas(64) _Atomic uint32_t session, head;
    _Atomic uint64_t missed;
    struct trace_event *events; /* TRACE_EVENTS_MAX; set before trace_on, constant then */
};
/* One per P, the last for threads without. */
extern struct trace_buffer trace_buffers[RT_P_MAX + 1];
extern _Atomic uint32_t trace_session;

/* Unique for each event that can start a flow: session, buffer, index. Never 0. */
static inline uint64_t trace_flow_name(uint32_t session, unsigned buffer, uint32_t index) {
    return (uint64_t)session << 32 | (uint64_t)buffer << 20 | index;
}
static inline uint32_t trace_flow_session(uint64_t name) {
    return (uint32_t)(name >> 32);
}
static_assert(TRACE_EVENTS_MAX <= 1 << 20, "an index has 20 bits");
static_assert(RT_P_MAX < 1 << 12, "a buffer has 12 bits");

struct trace_times {
    int64_t start_ns, stop_ns;
};
int trace_json_write(const struct trace_times *times,
                     int (*write)(void *arg, const char *text, size_t len), void *arg);
