/* remote_peer_message: what goes through the rings of connections, clients' and those that a plugin asked for
 * (remote_peer.h).
 *
 *     proxy                                                   host process
 *     BYTES, and CALL with the last of them ────────────────► callback, in a seat
 *            ◄───────────────── RETURNED, what it returned
 *            ◄───────────────── WRITE, CLOSE, HALF_CLOSE of any thread, also in a callback; nobody waits
 *            ◄───────────────── ASK    of filter state, or for a connection
 *
 * Trust, ownership and threads: those of remote_message.h. */
#pragma once
#include "ext/go/go_peer.h"
#include "ext/remote/remote_message.h"

enum { REMOTE_PEER_PART = 128 << 10 /* bytes that one record has at most, to the host */ };

struct remote_peer_bytes {
    uint64_t number; /* of the connection */
    struct span bytes;
};

struct remote_peer_call {
    uint64_t number;
    uint64_t call; /* another number, for its RETURNED */
    uint8_t kind;  /* enum go_peer_call_kind */
    bool last;     /* nothing is told of the connection any more */
    bool end;
    int64_t what;     /* an event, a reason */
    uint64_t conn_id; /* of an upstream */
    /* Of GO_CALL_CONNECTION, by which the host hears of a client: */
    uint64_t handle; /* of its go_peer */
    uint64_t config_id;
    struct span info[2]; /* by enum go_peer_end */
    struct span bytes;   /* behind those of BYTES */
};

struct remote_peer_returned {
    uint64_t call;
    uint64_t status;
    uint64_t took_ns;
    uint32_t crossings; /* since the last one */
    uint64_t wrote_to;  /* handle of the go_peer that it wrote to last; 0: none */
};

/* Parts of what was written in one go: nothing else of the connection comes between them. */
struct remote_peer_write {
    uint64_t number;
    uint64_t left; /* bytes of the parts to come */
    bool end;      /* of the whole */
    struct span bytes;
};

struct remote_peer_close {
    uint64_t number;
    uint8_t type; /* enum go_close_type */
};

struct remote_peer_half_close {
    uint64_t number;
    bool enable;
};

/* Each appends one message. */
void remote_put_peer_bytes(struct remote_out *out, const struct remote_peer_bytes *bytes);
void remote_put_peer_call(struct remote_out *out, const struct remote_peer_call *call);
void remote_put_peer_returned(struct remote_out *out, const struct remote_peer_returned *returned);
/* Without its bytes, which are to follow. */
void remote_put_peer_write(struct remote_out *out, const struct remote_peer_write *write);
void remote_put_peer_close(struct remote_out *out, const struct remote_peer_close *close);
void remote_put_peer_half_close(struct remote_out *out,
                                const struct remote_peer_half_close *half_close);

/* 0 or -EPROTO. */
MUST_CHECK int remote_read_peer_bytes(struct span record BORROWED_BY(out),
                                      struct remote_peer_bytes *out);
MUST_CHECK int remote_read_peer_call(struct span record BORROWED_BY(out),
                                     struct remote_peer_call *out);
MUST_CHECK int remote_read_peer_returned(struct span record, struct remote_peer_returned *out);
MUST_CHECK int remote_read_peer_write(struct span record BORROWED_BY(out),
                                      struct remote_peer_write *out);
MUST_CHECK int remote_read_peer_close(struct span record, struct remote_peer_close *out);
MUST_CHECK int remote_read_peer_half_close(struct span record, struct remote_peer_half_close *out);
