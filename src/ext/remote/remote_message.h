/* remote_message: what goes through the rings between the proxy and a host process (ring.h): an exchange's loans one
 * way, what the extension did with them the other.
 *
 *     proxy                                                   host process
 *     LEND   headers, a piece of body or trailers ──────────► callback, in the stream's seat
 *            ◄────────────────────── RESULT changes, and what was decided, now or later
 *     LOG    all that there is ─────────────────────────────► OnStreamComplete, OnLog
 *            ◄────────────────────── LOGGED changes, which the access log shows
 *            ◄────────────────────── RESULT OnDestroy has returned, if that was the last log
 *     END    if there was none ─────────────────────────────► OnDestroy
 *            ◄────────────────────── RESULT likewise
 *     SPECIFY headers          ─────────────────────────────► Cluster, of a cluster specifier
 *            ◄────────────────────── NAMED  the cluster
 *            ◄────────────────────── ASK    a question of a thread that waits for its answer (shm.h)
 *            ◄────────────────────── METRIC, TEXT: nobody waits
 *
 * Messages of one stream go to one ring each way, so they arrive in their order. Both ends are one executable, so there
 * are no versions; numbers are in the machine's byte order.
 *
 * Trust     The host trusts the proxy. What a host sends may be anything: every length is checked against the record,
 *           every enumeration against its range, and what a text may be is for who uses it. A message that is not of
 *           this shape is -EPROTO: then the host is not what we started, and ends.
 * Ownership Decoded spans borrow from the record. struct remote_out owns what it has written.
 * Threads   None of its own. malloc only, no P needed. */
#pragma once
#include "ext/ext_room.h"
#include "ext/go/go_stats.h"

enum remote_kind {
    /* To the host, on a seat's ring. */
    REMOTE_LEND = 1,
    REMOTE_BODY, /* bytes that belong to the next LEND of its side, which is too large for one record */
    REMOTE_LOG,
    REMOTE_END,
    REMOTE_PING, /* nothing: that it was taken says that somebody reads */
    /* What calls of filters in C are made of: remote_call.h. */
    REMOTE_CALL,
    REMOTE_GIVE,
    REMOTE_CANCEL,
    REMOTE_SPECIFY,
    REMOTE_PEER_BYTES, /* of connections: remote_peer_message.h */
    REMOTE_PEER_CALL,
    /* From the host, on a P's ring. */
    REMOTE_RESULT = 16,
    REMOTE_LOGGED,
    REMOTE_ASK,
    REMOTE_METRIC,
    REMOTE_TEXT,
    REMOTE_RETURN, /* remote_call.h, as the next one */
    REMOTE_WANT,
    REMOTE_NAMED,
    REMOTE_PEER_RETURNED, /* remote_peer_message.h, as the next ones */
    REMOTE_PEER_WRITE,
    REMOTE_PEER_CLOSE,
    REMOTE_PEER_HALF_CLOSE,
};

/* Is it one that the host answers when it has returned? The last LOG twice. */
static inline bool remote_kind_is_call(enum remote_kind kind) {
    return kind == REMOTE_LEND || kind == REMOTE_LOG || kind == REMOTE_END ||
           kind == REMOTE_SPECIFY || kind == REMOTE_CALL || kind == REMOTE_PEER_CALL;
}

/* ---- writing and reading ---- */

/* Zeroed: empty. */
struct remote_out {
    char *data;
    size_t len, room;
    bool failed; /* memory was short: what is in it is good for nothing */
};
void remote_out_fini(struct remote_out *out);
void remote_out_put(struct remote_out *out, struct span bytes);
/* Empty again; the memory stays for the next message. */
static inline void remote_out_clear(struct remote_out *out) {
    out->len = 0;
    out->failed = false;
}

/* What is left of a record. */
struct remote_in {
    const char *at;
    size_t left;
    bool bad; /* it ended early, or said what cannot be: what was read is zeros from there on */
};

/* ---- to the host ---- */

/* A stream's number says whose ring gets what the host says of it: 63 uses 32 | 31 p 24 | 23 index 0. */
enum { REMOTE_INDEX_BITS = 24 };
static inline uint64_t remote_number(unsigned p, uint32_t index, uint32_t uses) {
    return (uint64_t)uses << 32 | (uint64_t)p << REMOTE_INDEX_BITS | index;
}
static inline unsigned remote_number_p(uint64_t number) {
    return (unsigned)(number >> REMOTE_INDEX_BITS & 0xff);
}
static inline uint32_t remote_number_index(uint64_t number) {
    return (uint32_t)(number & ((1 << REMOTE_INDEX_BITS) - 1));
}

/* Who and what a stream is, for when the host hears of it first. */
struct remote_stream {
    uint64_t number; /* of the proxy's; another one for each request, as long as the host lives */
    uint64_t config_id; /* of the proxy's, as the host was told (ext_host_wire.h) */
    uint32_t worker_id; /* the seat */
    bool lenient;       /* to late calls */
};

/* What headers have with them, for calls that would follow at once. A body that is there, in one piece. */
enum remote_ahead {
    REMOTE_AHEAD_NONE,
    REMOTE_AHEAD_PIECE, /* when they go on: the piece, then an empty one with the end */
    REMOTE_AHEAD_WHOLE, /* when they wait for the whole body: that, with the end */
};
/* How many calls that are. */
static inline uint8_t remote_ahead_calls(enum remote_ahead ahead) {
    return ahead == REMOTE_AHEAD_NONE ? 0 : ahead == REMOTE_AHEAD_PIECE ? 2 : 1;
}

struct remote_lend {
    struct remote_stream stream;
    uint8_t direction; /* enum ext_direction */
    uint8_t phase;     /* enum ext_phase, one of those with a callback */
    uint8_t state;     /* enum go_state, while the callback is going on */
    bool end;
    struct ext_view headers, trailers; /* entries NULL: not shown */
    uint8_t ahead;                     /* enum remote_ahead, of the phase EXT_HEADERS */
    uint64_t end_buffer;               /* the proxy's handle of the empty piece */
    /* Of the phase EXT_BODY, and of what is ahead. */
    uint64_t buffer; /* the proxy's handle */
    uint64_t size;   /* of the piece; */
    bool
        carried; /* its bytes are here, behind those of REMOTE_BODY; else the host asks for them when it needs them */
    struct span bytes;
};

struct remote_body {
    uint64_t number;
    uint8_t direction;
    struct span bytes;
};

struct remote_log {
    struct remote_stream stream;
    uint8_t type;  /* enum go_log_type */
    bool complete; /* OnStreamComplete first */
    bool ends;     /* OnDestroy behind it, as by END, with this */
    uint8_t reason;
    struct ext_view maps[2][2];
};

struct remote_end {
    uint64_t number;
    uint8_t reason; /* enum go_destroy_reason */
};

/* A question to a cluster specifier; a number like a stream's. */
struct remote_specify {
    uint64_t number, config_id;
    struct ext_view headers;
};

/* Each appends one message. */
void remote_put_lend(struct remote_out *out, const struct remote_lend *lend);
void remote_put_body(struct remote_out *out, const struct remote_body *body);
void remote_put_log(struct remote_out *out, const struct remote_log *log);
void remote_put_end(struct remote_out *out, const struct remote_end *end);
void remote_put_specify(struct remote_out *out, const struct remote_specify *specify);

/* Entries of views are written to `entries`, which has room for `max` of all maps together and whose names and
 * values borrow from the record. 0, or -EPROTO: more than that, or nonsense. */
MUST_CHECK int remote_read_lend(struct span record BORROWED_BY(out), struct header *entries,
                                uint32_t max, struct remote_lend *out);
MUST_CHECK int remote_read_body(struct span record BORROWED_BY(out), struct remote_body *out);
MUST_CHECK int remote_read_log(struct span record BORROWED_BY(out), struct header *entries,
                               uint32_t max, struct remote_log *out);
MUST_CHECK int remote_read_end(struct span record, struct remote_end *out);
MUST_CHECK int remote_read_specify(struct span record BORROWED_BY(out), struct header *entries,
                                   uint32_t max, struct remote_specify *out);

/* ---- from the host ---- */

/* A RESULT or LOGGED: this head, then changes until the record ends. */
struct remote_result {
    uint64_t number;
    uint8_t direction;
    bool
        returned; /* the callback has: once for each LEND, in the RESULT that decides or in one before */
    bool decided; /* the loan is over, by status; a REPLY among the changes decides, too */
    int32_t status;
    uint8_t
        calls; /* begun of those ahead; then this is of the latest, and those before let the exchange go on */
    uint64_t took_ns;        /* of the callbacks, with returned */
    struct go_counts counts; /* since the last message of the stream */
};

enum remote_op_kind {
    REMOTE_OP_EDIT = 1,
    REMOTE_OP_ADD,    /* AddData */
    REMOTE_OP_BUFFER, /* a change of a shown buffer */
    REMOTE_OP_CLEAR_ROUTE,
    REMOTE_OP_REPLY_BODY, /* a part of the body of the REPLY to come */
    REMOTE_OP_REPLY,
};
enum remote_buffer_action {
    REMOTE_BUFFER_SET,
    REMOTE_BUFFER_APPEND,
    REMOTE_BUFFER_PREPEND,
    REMOTE_BUFFER_DRAIN,
};
struct remote_op {
    enum remote_op_kind kind;
    uint8_t direction; /* whose */
    union {
        struct {
            uint8_t kind; /* enum ext_edit_kind */
            bool trailers;
            struct span name, value;
        } edit;
        struct {
            uint64_t handle;
            uint64_t drain; /* how much */
            uint8_t action;
        } buffer;
        bool refresh; /* of CLEAR_ROUTE */
        struct {
            uint32_t status;
            bool panic;
            int64_t grpc_status;
            struct span details;
            uint32_t header_count;
            struct span headers; /* for remote_next_header */
        } reply;
    };
    struct span bytes; /* of ADD, BUFFER, REPLY_BODY, and what is left of REPLY's */
};

void remote_put_result(struct remote_out *out, const struct remote_result *result);
void remote_put_op(struct remote_out *out, const struct remote_op *op);
/* A header of the REPLY that is put next: they come in `headers`. */
void remote_put_reply_header(struct remote_out *headers, struct span name, struct span value);

MUST_CHECK int remote_read_result(struct span record BORROWED_BY(ops), struct remote_result *out,
                                  struct remote_in *ops);
/* 1 with the next change; 0: that was all; -EPROTO. */
MUST_CHECK int remote_next_op(struct remote_in *ops BORROWED_BY(out), struct remote_op *out);
/* False: that was all. */
MUST_CHECK bool remote_next_header(struct span *headers BORROWED_BY(name), struct span *name,
                                   struct span *value);

/* What a cluster specifier has answered. */
struct remote_named {
    uint64_t number;
    uint64_t took_ns;
    struct go_counts counts;
    bool panicked;
    uint64_t len;     /* of the name; 0: there is none */
    struct span name; /* empty: there is none, or it is longer than REMOTE_NAME_MAX */
};
enum { REMOTE_NAME_MAX = 8192 }; /* bytes that a name of a cluster may have, as on Envoy */

void remote_put_named(struct remote_out *out, const struct remote_named *named);
MUST_CHECK int remote_read_named(struct span record BORROWED_BY(out), struct remote_named *out);

/* ---- questions: of a stream, or of a configuration ---- */

enum remote_question {
    REMOTE_ASK_ATTRIBUTE = 1, /* a: path => text */
    REMOTE_ASK_TEXT,          /* n: enum go_value => text */
    REMOTE_ASK_NUMBER,        /* n: enum go_value => number */
    REMOTE_ASK_METADATA,      /* a: namespace => a Struct in wire format */
    REMOTE_SET_METADATA, /* a: namespace, b: key, c: a Value in wire format => number: 0 or -errno */
    REMOTE_ASK_STATE,    /* a: key => text */
    REMOTE_SET_STATE,    /* a: key, b: text, n: type | span << 8 | sharing << 16 => likewise */
    REMOTE_ASK_BUFFER, /* n: the proxy's handle, m: offset => bytes, as many as an answer has room for */
    REMOTE_DEFINE_METRIC, /* subject: a configuration. n: enum stat_kind, a: name => number: its id */
    REMOTE_ASK_METRIC,    /* subject: a configuration. n: id => number */
    REMOTE_CONNECT, /* subject: the connection whose callback asks, or 0; n: the SDK's id, a: address => number: the
                     * connection's, text: the handle of its go_peer, 8 bytes */
    REMOTE_QUESTIONS
};
struct remote_ask {
    uint64_t subject; /* a stream's number, or a configuration's */
    uint32_t slot;    /* where the answer goes */
    uint8_t question;
    uint64_t n, m;
    struct span a, b, c;
};
/* code: enum go_code. */
struct remote_answer {
    int32_t code;
    uint64_t number;
    struct span text;
};

enum remote_metric_action { REMOTE_METRIC_ADD, REMOTE_METRIC_RECORD };
struct remote_metric {
    uint64_t config_id; /* 0: of the process, and id is an enum go_count */
    uint32_t id;
    uint8_t action;
    uint64_t value;
};

struct remote_text {
    uint8_t level; /* enum log_level, but LOG_OFF */
    struct span text;
};

void remote_put_ask(struct remote_out *out, const struct remote_ask *ask);
void remote_put_answer(struct remote_out *out, const struct remote_answer *answer);
void remote_put_metric(struct remote_out *out, const struct remote_metric *metric);
void remote_put_text(struct remote_out *out, const struct remote_text *text);

MUST_CHECK int remote_read_ask(struct span record BORROWED_BY(out), struct remote_ask *out);
MUST_CHECK int remote_read_answer(struct span record BORROWED_BY(out), struct remote_answer *out);
MUST_CHECK int remote_read_metric(struct span record, struct remote_metric *out);
MUST_CHECK int remote_read_text(struct span record BORROWED_BY(out), struct remote_text *out);
