/* host_send: see the header. The rings' own order says what a wake promises (ring.c): whoever was told to sleep before our
 * record came is woken, whoever looks later sees it. A batch belongs to its thread alone. */
#include "ext/remote/host_send.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

_Atomic(struct host *) host_serving;

static _Thread_local struct host_batch *batch_here;

void host_die(const char *why) {
    (void)fprintf(stderr, "sluice: a host process ends: %s\n", why);
    _exit(3); /* not exit(): destructors would run under the threads of Go libraries */
}

void host_send_in_batches(struct host_batch *batch) {
    batch_here = batch;
}

void host_wake(struct host *host) {
    struct host_batch *batch = batch_here;
    if (!batch || !batch->any)
        return;
    batch->any = false;
    for (uint32_t word = 0; word < REMOTE_PS_MAX / 64; word++)
        for (; batch->ps[word]; batch->ps[word] &= batch->ps[word] - 1) {
            uint32_t p = 64 * word + (uint32_t)__builtin_ctzll(batch->ps[word]);
            (void)remote_ring_out_wake(remote_shm_p_out(host->shm, p));
        }
}

static void note(struct host_batch *batch, uint32_t p) {
    if (!batch->any)
        batch->since_ns = batch->now_ns;
    batch->any = true;
    batch->ps[p / 64] |= 1ull << (p % 64);
}

void host_send(struct host *host, uint32_t p, enum remote_kind kind, struct span head,
               struct span body, enum host_haste haste) {
    ASSERT(p < host->p_count);
    struct remote_ring_out *out = remote_shm_p_out(host->shm, p);
    size_t size = head.len + body.len;
    char *room;
    int err;
    while ((err = remote_ring_out_begin(out, size, &room)) == -EAGAIN) {
        host_wake(host); /* who makes room must not sleep over what we have sent */
        (void)remote_ring_out_wake(out);
        err = remote_ring_out_wait(out, size, INT64_MAX);
        if (err)
            break;
    }
    if (err)
        host_die("a ring to the proxy is broken");
    memcpy(room, head.ptr, head.len);
    if (body.len)
        memcpy(room + head.len, body.ptr, body.len);
    remote_ring_out_commit(out, kind, size);
    if (batch_here)
        note(batch_here, p);
    if (batch_here && haste == HOST_NOW)
        host_wake(host);
    else if (!batch_here)
        (void)remote_ring_out_wake(out);
}
