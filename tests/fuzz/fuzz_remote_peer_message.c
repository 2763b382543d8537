/* What a proxy and a host process write to each other about connections, when either is hostile. */
#include "fuzz_record.h"

#include "ext/remote/remote_peer_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    return fuzz_record(read_and_write, data, size);
}
