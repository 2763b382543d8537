/* host_send: how messages of a host process get to the proxy, and when that is woken for them.
 *
 * A wake costs more than a callback, in both processes. So what a seat's thread sends waits for the end of its batch: all
 * that lies in the seat's ring when it looks (host_serve.c), HOST_BATCH_NS at most. Who sends from any other thread, or
 * waits for an answer, wakes at once.
 *
 * Ownership  A struct host is the process's one; for the life of the process.
 * Threads    Any, unless it says "a seat's thread".
 * Errors     None come back: what the proxy cannot be told ends the process, and the supervisor starts another. Room in a full
 *            ring is waited for; if the proxy ends meanwhile, so do we (ext_host_main.c). */
#pragma once
#include "ext/remote/remote_message.h"
#include "ext/remote/shm.h"

struct go_library;
struct host_seat;

struct host {
    const struct go_library *library;
    struct remote_shm *shm;
    uint32_t p_count, seat_count;
    size_t record_max; /* bytes of a record to a P */
    struct host_seat *seats;
    _Atomic bool stops; /* seats do nothing more */
};

/* NULL until the process serves, from then on the one there is. */
extern _Atomic(struct host *) host_serving;
static inline struct host *host_get(void) {
    return atomic_load_explicit(&host_serving,
                                memory_order_acquire); /* host_serve_start's release */
}

/* Prints why, and ends the process. */
_Noreturn void host_die(const char *why);

/* What a seat's thread has sent and has not woken anybody for. */
struct host_batch {
    uint64_t ps[REMOTE_PS_MAX / 64]; /* bits */
    bool any;
    int64_t since_ns; /* its first message */
    int64_t now_ns;   /* kept by the seat */
};
static const int64_t HOST_BATCH_NS = 50 * 1000;

/* From now on this thread's messages are of the batch. A seat's thread, once. */
void host_send_in_batches(struct host_batch *batch BORROWED_BY(thread));
/* Ends the batch of this thread, if it has one. */
void host_wake(struct host *host);

enum host_haste { HOST_BATCHED, HOST_NOW };
/* One record, of head and body together. */
void host_send(struct host *host, uint32_t p, enum remote_kind kind, struct span head,
               struct span body, enum host_haste haste);
