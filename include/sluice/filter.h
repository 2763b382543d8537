/* sluice/filter.h: HTTP filters in C, in shared objects that Sluice loads.
 *
 *     #include <sluice/filter.h>
 *
 *     static void request(struct sluice_exchange *x, void *self) {
 *         struct sluice_span key;
 *         if (!sluice_header(x, SLUICE_REQUEST, SLUICE_LIT("x-key"), &key))
 *             sluice_reply(x, 401, SLUICE_LIT("a key, please\n"));
 *     }
 *     SLUICE_PLUGIN(.name = "require_key", .request = request);
 *
 *     cc -shared -fPIC $(pkg-config --cflags sluice-filter) -o require_key.so require_key.c
 *
 * A filter is straight-line code on the coroutine that serves the exchange (a request and its response). It may wait,
 * in the functions below that say that they park: others are served meanwhile. It must not block the thread: what
 * blocks (files, locks that are held for long, getaddrinfo) goes through sluice_blocking_call.
 *
 * Threads    All calls of one exchange are on one thread at a time, and never two at once, but exchanges are served by
 *            several threads: what they share (a config) is constant, or the plug-in's to guard. A park may go on on
 *            another thread: thread-locals, errno among them, mean nothing across one, and no mutex is held over it.
 *            Functions that have an exchange as their first argument are called on its coroutine only, others anywhere.
 * Memory     A span is borrowed. One that Sluice hands out is valid until the event that is named, by default as long as
 *            the exchange; one handed in is copied, or used up, before the call returns.
 * Errors     0 or a count; else -errno: -ENOMEM, -EINVAL (not to be had so), -ECANCELED (the exchange is over: return).
 * Stack      .stack_bytes, or what is left of the exchange's, which is 32 KiB at least.
 * Faults     SIGSEGV, SIGBUS, SIGFPE and SIGILL of an instruction of the plug-in's own, with nothing but the plug-in
 *            between it and Sluice's call, end the call: the client gets 500 and this instance of the filter is not
 *            called again, not even to be destroyed. What it had locked stays locked, what it allocated elsewhere
 *            stays allocated. Any other fault, as one in a libc function with a wrong pointer, ends Sluice.
 * Versions   A Sluice of the same major version loads plug-ins that need its minor version or an older one. What a plug-in
 *            needs is the header's version, 1.2 here, or what it says before it includes the header:
 *
 *                #define SLUICE_NEEDS_MINOR 1
 *
 *            Then it loads into older ones, too, from 1.1 on; it may give functions that are newer, which those do not
 *            call, and it asks before it calls one that is newer: if (SLUICE_HAS(attribute)) ... Structures only grow, at
 *            their ends. What is newer than 1.0 says so: [1.1]. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SLUICE_ABI_MAJOR = 1, SLUICE_ABI_MINOR = 2 };
#ifndef SLUICE_NEEDS_MINOR
#define SLUICE_NEEDS_MINOR SLUICE_ABI_MINOR
#endif
/* Whether this Sluice has a function of struct sluice_host. */
#define SLUICE_HAS(function)                                                                       \
    (sluice_host->size >=                                                                          \
     offsetof(struct sluice_host, function) + sizeof(((struct sluice_host *)0)->function))

/* Bytes, not text: no NUL at the end, any value. ptr NULL: there is none, which is not the same as empty. */
struct sluice_span {
    const char *ptr;
    size_t len;
};

struct sluice_exchange; /* an instance of the filter, and what it may ask of its exchange */
struct sluice_config;   /* what stands in the configuration, while it is read */
struct sluice_body;     /* what is behind a transformer: the body so far */
struct sluice_stat;
struct sluice_format;

enum sluice_part {
    SLUICE_REQUEST,
    SLUICE_RESPONSE,
    /* Known once the body before them was read to its end. */
    SLUICE_REQUEST_TRAILERS,
    SLUICE_RESPONSE_TRAILERS
};

enum sluice_level {
    SLUICE_TRACE,
    SLUICE_DEBUG,
    SLUICE_INFO,
    SLUICE_WARN,
    SLUICE_ERROR,
    SLUICE_CRITICAL
};

struct sluice_field {
    struct sluice_span name, value;
};

struct sluice_reply {
    size_t size; /* sizeof(struct sluice_reply) */
    unsigned status;
    struct sluice_span body;
    struct sluice_span details; /* %RESPONSE_CODE_DETAILS% of the access log */
    const struct sluice_field *fields;
    size_t field_count;
    const int *grpc_status; /* [1.1] of a gRPC call; NULL: what goes with the HTTP status */
};

/* Of filter state, or-ed; 0: it stays as it is, for other filters of this exchange. */
enum sluice_state {
    SLUICE_STATE_MUTABLE = 1, /* may be replaced, by who says so as well, with the same life span */
    /* How long it lives; without: as long as the filter chain. */
    SLUICE_STATE_OF_REQUEST = 2,
    SLUICE_STATE_OF_CONNECTION = 4, /* exchanges that begin on the connection later find it, too */
    /* The upstream's side is shown it; ONCE: that of the next hop alone. */
    SLUICE_STATE_SHARED_UPSTREAM = 8,
    SLUICE_STATE_SHARED_UPSTREAM_ONCE = 16
};

/* Sees a body pass. Both are called while it is sent on and must not park. */
struct sluice_observer {
    /* A run of bytes where it lies, borrowed until it returns. */
    void (*bytes)(void *arg, struct sluice_span run);
    /* Once: 0 at the end, or -errno, how it broke; -ECANCELED: nobody read on. May be NULL. */
    void (*end)(void *arg, int error);
    void *arg;
};

/* The next bytes of a body: 0 and *out, borrowed until the next call; an empty *out is the end. Or -errno, which breaks
 * the body off. May park. It gets what is behind it by sluice_body_next. */
typedef int (*sluice_next_fn)(void *arg, struct sluice_body *body, struct sluice_span *out);

/* What Sluice does for plug-ins. The functions below say what each is. A later minor version has more at the end. */
struct sluice_host {
    uint32_t major, minor;
    size_t size;
    bool (*header)(struct sluice_exchange *x, enum sluice_part part, struct sluice_span name,
                   size_t index, struct sluice_span *value);
    bool (*header_at)(struct sluice_exchange *x, enum sluice_part part, size_t index,
                      struct sluice_field *field);
    int (*header_set)(struct sluice_exchange *x, enum sluice_part part, struct sluice_span name,
                      struct sluice_span value);
    int (*header_add)(struct sluice_exchange *x, enum sluice_part part, struct sluice_span name,
                      struct sluice_span value);
    size_t (*header_remove)(struct sluice_exchange *x, enum sluice_part part,
                            struct sluice_span name);
    void (*reply)(struct sluice_exchange *x, const struct sluice_reply *reply);
    bool (*alive)(struct sluice_exchange *x);
    int (*clear_route)(struct sluice_exchange *x);
    bool (*has_body)(struct sluice_exchange *x, enum sluice_part part);
    int (*body_observe)(struct sluice_exchange *x, enum sluice_part part,
                        const struct sluice_observer *observer);
    int (*body_transform)(struct sluice_exchange *x, enum sluice_part part, sluice_next_fn next,
                          void *arg);
    int (*body_next)(struct sluice_body *body, struct sluice_span *out);
    int (*body_read)(struct sluice_exchange *x, enum sluice_part part, size_t limit,
                     struct sluice_span *out);
    int (*body_set)(struct sluice_exchange *x, enum sluice_part part, struct sluice_span bytes);
    void *(*alloc)(struct sluice_exchange *x, size_t size);
    int (*metadata_set_text)(struct sluice_exchange *x, struct sluice_span name_space,
                             struct sluice_span key, struct sluice_span text);
    int (*metadata_set_number)(struct sluice_exchange *x, struct sluice_span name_space,
                               struct sluice_span key, double number);
    bool (*metadata_text)(struct sluice_exchange *x, struct sluice_span name_space,
                          struct sluice_span key, struct sluice_span *text);
    bool (*metadata_number)(struct sluice_exchange *x, struct sluice_span name_space,
                            struct sluice_span key, double *number);
    struct sluice_format *(*format_new)(const struct sluice_config *config,
                                        struct sluice_span text);
    void (*format_free)(struct sluice_format *format);
    struct sluice_span (*format)(struct sluice_exchange *x, const struct sluice_format *format);
    struct sluice_span (*config_json)(const struct sluice_config *config);
    bool (*config_text)(const struct sluice_config *config, struct sluice_span key,
                        struct sluice_span *text);
    bool (*config_number)(const struct sluice_config *config, struct sluice_span key,
                          double *number);
    bool (*config_bool)(const struct sluice_config *config, struct sluice_span key, bool *value);
    void (*config_error)(const struct sluice_config *config, struct sluice_span text);
    size_t (*route_configs)(struct sluice_exchange *x, void **configs, size_t max);
    int (*sleep)(struct sluice_exchange *x, int64_t ns);
    int (*blocking_call)(struct sluice_exchange *x, void (*fn)(void *arg), void *arg);
    unsigned (*worker)(struct sluice_exchange *x);
    unsigned (*workers)(void);
    int64_t (*now_ns)(void);
    void (*log)(enum sluice_level level, struct sluice_span text);
    bool (*log_enabled)(enum sluice_level level);
    struct sluice_stat *(*counter)(const struct sluice_config *config, struct sluice_span name);
    struct sluice_stat *(*gauge)(const struct sluice_config *config, struct sluice_span name);
    struct sluice_stat *(*histogram)(const struct sluice_config *config, struct sluice_span name);
    void (*count)(struct sluice_exchange *x, struct sluice_stat *stat, int64_t n);
    /* [1.1] */
    int (*attribute)(struct sluice_exchange *x, struct sluice_span path, struct sluice_span *text);
    int (*filter_state_set)(struct sluice_exchange *x, struct sluice_span key,
                            struct sluice_span text, unsigned flags);
    int (*filter_state)(struct sluice_exchange *x, struct sluice_span key,
                        struct sluice_span *text);
    int (*metadata_set_json)(struct sluice_exchange *x, struct sluice_span name_space,
                             struct sluice_span key, struct sluice_span json);
    int (*metadata_json)(struct sluice_exchange *x, struct sluice_span name_space,
                         struct sluice_span key, struct sluice_span *json);
    void *(*merged_config)(struct sluice_exchange *x);
    void (*gauge_set)(struct sluice_stat *gauge, int64_t value);
    int64_t (*stat_value)(struct sluice_stat *stat);
};

/* What a plug-in is. Each function may be NULL. */
struct sluice_plugin {
    /* Filled in by SLUICE_PLUGIN. */
    uint32_t major, minor;
    size_t size, host_size;
    const struct sluice_host **host;

    /* Of log lines, statistics and profiles. */
    const char *name;
    /* What the functions below need; 0: 32 KiB is enough. More than that costs each call a change of stacks. */
    size_t stack_bytes;

    /* Reads the configuration of one place in the chain, and again whenever the configuration is loaded; *out is then
     * `config` below. 0, or -errno after sluice_config_error: the configuration is refused. Runs on a thread that
     * may block, not on a coroutine. */
    int (*configure)(const struct sluice_config *config, void **out);
    /* Nobody has it any more. On any thread. */
    void (*free_config)(void *config);
    /* The same for a place in the routes (typed_per_filter_config): see sluice_route_configs. NULL: none is allowed. */
    int (*configure_route)(const struct sluice_config *config, void *filter_config, void **out);
    void (*free_route_config)(void *route_config);

    /* An exchange begins; returns `self` of the functions below, mostly memory of sluice_alloc, NULL for an error: the
     * client gets 500. Without it self is config. Must not park. */
    void *(*create)(struct sluice_exchange *x, void *config);
    /* The request's head is here; its body is still to come. May park. Returns to let it pass. */
    void (*request)(struct sluice_exchange *x, void *self);
    /* The response's head is here, or that of a reply made in Sluice; its body is still to come. May park. */
    void (*response)(struct sluice_exchange *x, void *self);
    /* The exchange is over; what is set as metadata here is seen by the access log. */
    void (*log)(struct sluice_exchange *x, void *self);
    /* Last call. What sluice_alloc gave goes by itself. */
    void (*destroy)(struct sluice_exchange *x, void *self);

    /* [1.1] A new config, as configure makes them, of one and what stands in a place in the routes: see
     * sluice_merged_config. It may borrow from both; free_config gets it, and must not look at them. NULL: memory is
     * short. On a thread's stack; it may block. */
    void *(*merge_config)(void *config, void *route_config);

    /* [1.2] The connection manager's access_log_options may ask for logs before the end. What is set as metadata in these
     * two is seen by the line.
     * flush_access_log_on_new_request: as the exchange begins, before `request`, with the request's head. May park. */
    void (*log_start)(struct sluice_exchange *x, void *self);
    /* access_log_flush_interval: each time it is over, also while another function of this instance waits, and beside
     * one of sluice_blocking_call. It must not park, and looks on: what parks or changes a message is -EINVAL. Of the
     * response and of trailers it sees what is complete. sluice_reply ends the exchange, as a fault does; who waits is told by
     * -ECANCELED. */
    void (*log_periodic)(struct sluice_exchange *x, void *self);
};

/* The plug-in's own; set before any of its functions is called. */
extern const struct sluice_host *sluice_host __attribute__((visibility("hidden")));

/* Once in a plug-in, with those of the fields above that it has: its one exported symbol. */
#define SLUICE_PLUGIN(...)                                                                         \
    const struct sluice_host *sluice_host;                                                         \
    extern const struct sluice_plugin sluice_plugin;                                               \
    __attribute__((visibility("default")))                                                         \
    const struct sluice_plugin sluice_plugin = {.major = SLUICE_ABI_MAJOR,                         \
                                                .minor = SLUICE_NEEDS_MINOR,                       \
                                                .size = sizeof(struct sluice_plugin),              \
                                                .host_size = sizeof(struct sluice_host),           \
                                                .host = &sluice_host,                              \
                                                __VA_ARGS__}

/* ---- Spans ---- */

#define SLUICE_LIT(literal) (sluice_bytes("" literal, sizeof(literal) - 1))

static inline struct sluice_span sluice_bytes(const void *ptr, size_t len) {
    struct sluice_span span = {(const char *)ptr, len};
    return span;
}
/* text ends in NUL; NULL: there is none. */
static inline struct sluice_span sluice_text(const char *text) {
    return sluice_bytes(text, text ? strlen(text) : 0);
}
static inline bool sluice_eq(struct sluice_span a, struct sluice_span b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ---- Headers and trailers: names in small letters, :method :path :authority :scheme :status among them ---- */

/* The first value; false, and *value is left alone: there is none. Valid as long as the exchange. */
static inline bool sluice_header(struct sluice_exchange *x, enum sluice_part part,
                                 struct sluice_span name, struct sluice_span *value) {
    return sluice_host->header(x, part, name, 0, value);
}
/* The index-th value of those with that name, from 0. */
static inline bool sluice_header_nth(struct sluice_exchange *x, enum sluice_part part,
                                     struct sluice_span name, size_t index,
                                     struct sluice_span *value) {
    return sluice_host->header(x, part, name, index, value);
}
/* The index-th of all; false behind the last one. */
static inline bool sluice_header_at(struct sluice_exchange *x, enum sluice_part part, size_t index,
                                    struct sluice_field *field) {
    return sluice_host->header_at(x, part, index, field);
}
/* In place of all values of that name, or in addition to them. -EINVAL: it may not stand in a message. Both are copied. */
static inline int sluice_header_set(struct sluice_exchange *x, enum sluice_part part,
                                    struct sluice_span name, struct sluice_span value) {
    return sluice_host->header_set(x, part, name, value);
}
static inline int sluice_header_add(struct sluice_exchange *x, enum sluice_part part,
                                    struct sluice_span name, struct sluice_span value) {
    return sluice_host->header_add(x, part, name, value);
}
/* How many there were. Those that begin with ':' stay. */
static inline size_t sluice_header_remove(struct sluice_exchange *x, enum sluice_part part,
                                          struct sluice_span name) {
    return sluice_host->header_remove(x, part, name);
}

/* ---- The exchange ---- */

/* Answers here. In `request` the filters behind this one see nothing of the request, and the reply passes `response` of
 * all; in `response` it takes the response's place. Once a head was sent to the client its connection ends. */
static inline void sluice_reply(struct sluice_exchange *x, unsigned status,
                                struct sluice_span body) {
    struct sluice_reply reply = {sizeof reply, status, body, {0, 0}, 0, 0, 0};
    sluice_host->reply(x, &reply);
}
static inline void sluice_reply_with(struct sluice_exchange *x, const struct sluice_reply *reply) {
    sluice_host->reply(x, reply);
}
/* False: the client is gone, or somebody replied. Return then. */
static inline bool sluice_alive(struct sluice_exchange *x) {
    return sluice_host->alive(x);
}
/* The route is chosen anew, by the headers as they are then. -EINVAL: not in `request`. */
static inline int sluice_clear_route(struct sluice_exchange *x) {
    return sluice_host->clear_route(x);
}
/* What configure_route made of the places that apply here, the least specific first (route table, virtual host, route,
 * weighted cluster). How many. */
static inline size_t sluice_route_configs(struct sluice_exchange *x, void **configs, size_t max) {
    return sluice_host->route_configs(x, configs, max);
}
/* [1.1] `config`, merged with what applies here, by merge_config: the least specific place first, then the next into
 * what came of that. Each pair is merged once and kept, so asking is cheap. Without merge_config, or without places, it
 * is `config`. NULL: memory was short, or merge_config faulted; the client gets 500: return. May park; in log_periodic it
 * is NULL if nobody has asked before. */
static inline void *sluice_merged_config(struct sluice_exchange *x) {
    return sluice_host->merged_config(x);
}
/* size bytes of zeros, 16-aligned, as long as the exchange. NULL when memory is short. */
static inline void *sluice_alloc(struct sluice_exchange *x, size_t size) {
    return sluice_host->alloc(x, size);
}

/* Dynamic metadata: %DYNAMIC_METADATA(NAMESPACE:KEY)% in access logs, other filters. */
static inline int sluice_metadata_set_text(struct sluice_exchange *x, struct sluice_span name_space,
                                           struct sluice_span key, struct sluice_span text) {
    return sluice_host->metadata_set_text(x, name_space, key, text);
}
static inline int sluice_metadata_set_number(struct sluice_exchange *x,
                                             struct sluice_span name_space, struct sluice_span key,
                                             double number) {
    return sluice_host->metadata_set_number(x, name_space, key, number);
}
/* False: there is none, or it is of another kind. */
static inline bool sluice_metadata_text(struct sluice_exchange *x, struct sluice_span name_space,
                                        struct sluice_span key, struct sluice_span *text) {
    return sluice_host->metadata_text(x, name_space, key, text);
}
static inline bool sluice_metadata_number(struct sluice_exchange *x, struct sluice_span name_space,
                                          struct sluice_span key, double *number) {
    return sluice_host->metadata_number(x, name_space, key, number);
}

/* [1.1] A value of any kind, as JSON. -EINVAL: that is no JSON, or too deep; -E2BIG: an exchange
 * may have a megabyte of metadata. */
static inline int sluice_metadata_set_json(struct sluice_exchange *x, struct sluice_span name_space,
                                           struct sluice_span key, struct sluice_span json) {
    return sluice_host->metadata_set_json(x, name_space, key, json);
}
/* [1.1] A value of any kind, or, with an empty key, all of the namespace. -ENOENT: there is none. */
static inline int sluice_metadata_json(struct sluice_exchange *x, struct sluice_span name_space,
                                       struct sluice_span key, struct sluice_span *json) {
    return sluice_host->metadata_json(x, name_space, key, json);
}

/* [1.1] Filter state: texts for other filters, by key, those in Go and those of the connection among them, and for
 * %FILTER_STATE(KEY)%. flags: enum sluice_state. -EPERM: there is one of that key that may not be replaced so; -E2BIG: an
 * exchange may have a megabyte of it; -EINVAL: flags that are unknown, or exclude each other. */
static inline int sluice_filter_state_set(struct sluice_exchange *x, struct sluice_span key,
                                          struct sluice_span text, unsigned flags) {
    return sluice_host->filter_state_set(x, key, text, flags);
}
/* [1.1] -ENOENT: there is none. */
static inline int sluice_filter_state(struct sluice_exchange *x, struct sluice_span key,
                                      struct sluice_span *text) {
    return sluice_host->filter_state(x, key, text);
}

/* [1.1] What is known of the exchange, by the names that Envoy's attributes have: "request.path", "connection.id",
 * "source.address", "xds.cluster_name", "metadata.filter_metadata.NAMESPACE.KEY", "filter_state.KEY", ... as text; times
 * and durations as "2026-01-31T12:00:00+00:00" and "1.5s". -ENOENT: there is none, or not yet; -EINVAL: it is a map or a
 * list: name what is in it. */
static inline int sluice_attribute(struct sluice_exchange *x, struct sluice_span path,
                                   struct sluice_span *text) {
    return sluice_host->attribute(x, path, text);
}

/* What access logs can say of an exchange: "%DOWNSTREAM_REMOTE_ADDRESS% %RESPONSE_CODE%". A format is made in
 * `configure` and given back in `free_config`. NULL: it is not understood, which was reported. What a value is not there
 * for is empty. ptr NULL: memory is short. */
static inline struct sluice_format *sluice_format_new(const struct sluice_config *config,
                                                      struct sluice_span text) {
    return sluice_host->format_new(config, text);
}
static inline void sluice_format_free(struct sluice_format *format) {
    sluice_host->format_free(format);
}
static inline struct sluice_span sluice_format(struct sluice_exchange *x,
                                               const struct sluice_format *format) {
    return sluice_host->format(x, format);
}

/* ---- Bodies; part is SLUICE_REQUEST or SLUICE_RESPONSE. In `request` and `response` only ---- */

static inline bool sluice_has_body(struct sluice_exchange *x, enum sluice_part part) {
    return sluice_host->has_body(x, part);
}
/* Shows the bytes as they pass: nothing is copied or held back. Without a body nothing is called. */
static inline int sluice_body_observe(struct sluice_exchange *x, enum sluice_part part,
                                      const struct sluice_observer *observer) {
    return sluice_host->body_observe(x, part, observer);
}
/* From now on the body is what next says; content-length goes. Without a body nothing is called. */
static inline int sluice_body_transform(struct sluice_exchange *x, enum sluice_part part,
                                        sluice_next_fn next, void *arg) {
    return sluice_host->body_transform(x, part, next, arg);
}
/* For a sluice_next_fn, and as it: parks. */
static inline int sluice_body_next(struct sluice_body *body, struct sluice_span *out) {
    return sluice_host->body_next(body, out);
}
/* Waits for the whole body; it is sent on all the same. limit 0: per_connection_buffer_limit_bytes. -EMSGSIZE: it is
 * longer; it will be sent on. Parks. Valid as long as the exchange. */
static inline int sluice_body_read(struct sluice_exchange *x, enum sluice_part part, size_t limit,
                                   struct sluice_span *out) {
    return sluice_host->body_read(x, part, limit, out);
}
/* These bytes in place of the body, with a content-length; without trailers. They are copied. */
static inline int sluice_body_set(struct sluice_exchange *x, enum sluice_part part,
                                  struct sluice_span bytes) {
    return sluice_host->body_set(x, part, bytes);
}

/* ---- Waiting ---- */

/* 0 after that time, or -ECANCELED. Parks. */
static inline int sluice_sleep(struct sluice_exchange *x, int64_t ns) {
    return sluice_host->sleep(x, ns);
}
/* Runs fn(arg) on a thread of its own and parks until it has returned: also when the exchange ends meanwhile. fn calls no
 * function of Sluice that wants an exchange. -EAGAIN: no thread was to be had, fn did not run. -EFAULT: it faulted. */
static inline int sluice_blocking_call(struct sluice_exchange *x, void (*fn)(void *arg),
                                       void *arg) {
    return sluice_host->blocking_call(x, fn, arg);
}
/* Of CLOCK_MONOTONIC. */
static inline int64_t sluice_now_ns(void) {
    return sluice_host->now_ns();
}
/* Which of the sluice_workers() processors serves the exchange, all along: two exchanges with the same number never run
 * at a time, so what is kept by that number needs no lock if it is not kept over a park. */
static inline unsigned sluice_worker(struct sluice_exchange *x) {
    return sluice_host->worker(x);
}
static inline unsigned sluice_workers(void) {
    return sluice_host->workers();
}

/* ---- Configuration: all spans until configure, or configure_route, returns ---- */

/* `config` of the filter's configuration as a JSON object. */
static inline struct sluice_span sluice_config_json(const struct sluice_config *config) {
    return sluice_host->config_json(config);
}
/* One of its fields. False, and the value is left alone: there is none, or it is of another kind. */
static inline bool sluice_config_text(const struct sluice_config *config, struct sluice_span key,
                                      struct sluice_span *text) {
    return sluice_host->config_text(config, key, text);
}
static inline bool sluice_config_number(const struct sluice_config *config, struct sluice_span key,
                                        double *number) {
    return sluice_host->config_number(config, key, number);
}
static inline bool sluice_config_bool(const struct sluice_config *config, struct sluice_span key,
                                      bool *value) {
    return sluice_host->config_bool(config, key, value);
}
/* Says why the configuration is refused, with the file and line where the filter stands in it. */
static inline void sluice_config_error(const struct sluice_config *config,
                                       struct sluice_span text) {
    sluice_host->config_error(config, text);
}

/* ---- To be seen ---- */

static inline bool sluice_log_enabled(enum sluice_level level) {
    return sluice_host->log_enabled(level);
}
/* A line in Sluice's log, under "native". Any thread. */
__attribute__((format(printf, 2, 3))) static inline void sluice_log(enum sluice_level level,
                                                                    const char *format, ...) {
    if (!sluice_host->log_enabled(level))
        return;
    char line[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len < 0)
        return;
    size_t size = (size_t)len < sizeof line ? (size_t)len : sizeof line - 1;
    sluice_host->log(level, sluice_bytes(line, size));
}

/* native.PLUGIN.NAME in /stats; in `configure`. The same name is the same statistic, for ever. */
static inline struct sluice_stat *sluice_counter(const struct sluice_config *config,
                                                 struct sluice_span name) {
    return sluice_host->counter(config, name);
}
static inline struct sluice_stat *sluice_gauge(const struct sluice_config *config,
                                               struct sluice_span name) {
    return sluice_host->gauge(config, name);
}
/* Of microseconds. */
static inline struct sluice_stat *sluice_histogram(const struct sluice_config *config,
                                                   struct sluice_span name) {
    return sluice_host->histogram(config, name);
}
/* Adds n to a counter or gauge, or notes n in a histogram. x may be NULL, as on a thread of sluice_blocking_call; it is
 * cheaper with one. */
static inline void sluice_count(struct sluice_exchange *x, struct sluice_stat *stat, int64_t n) {
    sluice_host->count(x, stat, n);
}

/* [1.1] A gauge is either set or added to, never both. Any thread. */
static inline void sluice_gauge_set(struct sluice_stat *gauge, int64_t value) {
    sluice_host->gauge_set(gauge, value);
}
/* [1.1] Of a counter or gauge: the sum over all processors, which takes a look at each. Any thread. */
static inline int64_t sluice_stat_value(struct sluice_stat *stat) {
    return sluice_host->stat_value(stat);
}

#ifdef __cplusplus
}
#endif
