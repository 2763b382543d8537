/* host_text: see the header. Lines go to the Ps in turn of threads, so that none has them all; lines of one thread stay in their
 * order. */
#include "ext/remote/host_text.h"

#include "ext/go/go_log.h"
#include "ext/remote/host_send.h"

static void tell(enum log_level level, struct span text) {
    static _Atomic uint32_t threads;
    static _Thread_local uint32_t number;
    struct host *host = host_get();
    struct remote_out out = {0};
    if (!number)
        number = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
    if (text.len > host->record_max / 2)
        text.len = host->record_max / 2;
    remote_put_text(&out, &(struct remote_text){.level = (uint8_t)level, .text = text});
    if (!out.failed)
        host_send(host, number % host->p_count, REMOTE_TEXT, span_make(out.data, out.len),
                  span_make("", 0), HOST_BATCHED);
    remote_out_fini(&out);
}

void host_text_begin(void) {
    atomic_store_explicit(&go_log_elsewhere, tell, memory_order_release); /* for envoyGoFilterLog */
}
