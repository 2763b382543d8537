/* remote_peer_message: see the header. */
#include "ext/remote/remote_peer_message.h"

#include "ext/remote/remote_wire.h"

/* ---- to the host ---- */

void remote_put_peer_bytes(struct remote_out *out, const struct remote_peer_bytes *bytes) {
    put_64(out, bytes->number);
    put_text(out, bytes->bytes);
}

int remote_read_peer_bytes(struct span record, struct remote_peer_bytes *out) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->bytes = take_text(&in);
    return done(&in);
}

void remote_put_peer_call(struct remote_out *out, const struct remote_peer_call *call) {
    put_64(out, call->number);
    put_64(out, call->call);
    put_8(out, call->kind);
    put_8(out, call->last);
    put_8(out, call->end);
    put_64(out, (uint64_t)call->what);
    put_64(out, call->conn_id);
    put_64(out, call->handle);
    put_64(out, call->config_id);
    put_text(out, call->info[0]);
    put_text(out, call->info[1]);
    put_text(out, call->bytes);
}

int remote_read_peer_call(struct span record, struct remote_peer_call *out) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->call = take_64(&in);
    out->kind = take_enum(&in, GO_CALL_CONNECTION, GO_CALL_UPSTREAM_EVENT);
    out->last = take_bool(&in);
    out->end = take_bool(&in);
    out->what = (int64_t)take_64(&in);
    out->conn_id = take_64(&in);
    out->handle = take_64(&in);
    out->config_id = take_64(&in);
    for (int i = 0; i < 2; i++) {
        out->info[i] = take_text(&in);
        in.bad |= out->info[i].len > ADDRESS_TEXT_MAX;
    }
    out->bytes = take_text(&in);
    return done(&in);
}

/* ---- from the host ---- */

void remote_put_peer_returned(struct remote_out *out, const struct remote_peer_returned *returned) {
    put_64(out, returned->call);
    put_64(out, returned->status);
    put_64(out, returned->took_ns);
    put_32(out, returned->crossings);
    put_64(out, returned->wrote_to);
}

int remote_read_peer_returned(struct span record, struct remote_peer_returned *out) {
    struct remote_in in = reading(record);
    out->call = take_64(&in);
    out->status = take_64(&in);
    out->took_ns = take_64(&in);
    out->crossings = take_32(&in);
    out->wrote_to = take_64(&in);
    return done(&in);
}

void remote_put_peer_write(struct remote_out *out, const struct remote_peer_write *write) {
    put_64(out, write->number);
    put_64(out, write->left);
    put_8(out, write->end);
}

/* The bytes are all that is left of the record. */
int remote_read_peer_write(struct span record, struct remote_peer_write *out) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->left = take_64(&in);
    out->end = take_bool(&in);
    out->bytes = in.left ? span_make(in.at, in.left) : span_make("", 0);
    return in.bad ? -EPROTO : 0;
}

void remote_put_peer_close(struct remote_out *out, const struct remote_peer_close *close) {
    put_64(out, close->number);
    put_8(out, close->type);
}

int remote_read_peer_close(struct span record, struct remote_peer_close *out) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->type = take_enum(&in, GO_CLOSE_FLUSH, GO_CLOSE_RESET);
    return done(&in);
}

void remote_put_peer_half_close(struct remote_out *out,
                                const struct remote_peer_half_close *half_close) {
    put_64(out, half_close->number);
    put_8(out, half_close->enable);
}

int remote_read_peer_half_close(struct span record, struct remote_peer_half_close *out) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->enable = take_bool(&in);
    return done(&in);
}
