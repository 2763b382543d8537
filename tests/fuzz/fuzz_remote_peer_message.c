/* What a proxy and a host process write to each other about connections, when either is hostile: the first byte is the kind of
 * a message, the rest its record. Whatever is accepted lies in the record, and is written as it was read. */
#include "ext/remote/remote_peer_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* True: it was accepted, and is in out again. */
static bool read_and_write(unsigned kind, struct span record, struct remote_out *out) {
    struct remote_peer_bytes bytes;
    struct remote_peer_call call;
    struct remote_peer_returned returned;
    struct remote_peer_write write;
    struct remote_peer_close close;
    struct remote_peer_half_close half_close;
    bool good = false;
    switch (kind % 6) {
    case 0:
        if ((good = remote_read_peer_bytes(record, &bytes) == 0))
            remote_put_peer_bytes(out, &bytes);
        break;
    case 1:
        if ((good = remote_read_peer_call(record, &call) == 0))
            remote_put_peer_call(out, &call);
        break;
    case 2:
        if ((good = remote_read_peer_returned(record, &returned) == 0))
            remote_put_peer_returned(out, &returned);
        break;
    case 3:
        if ((good = remote_read_peer_write(record, &write) == 0)) {
            remote_put_peer_write(out, &write);
            remote_out_put(out, write.bytes);
        }
        break;
    case 4:
        if ((good = remote_read_peer_close(record, &close) == 0))
            remote_put_peer_close(out, &close);
        break;
    default:
        if ((good = remote_read_peer_half_close(record, &half_close) == 0))
            remote_put_peer_half_close(out, &half_close);
        break;
    }
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct remote_out out = {0};
    if (size == 0)
        return 0;
    struct span record = span_make((const char *)data + 1, size - 1);
    if (read_and_write(data[0], record, &out)) {
        ASSERT(!out.failed);
        ASSERT(span_eq(record, span_make(out.data, out.len)));
    }
    remote_out_fini(&out);
    return 0;
}
