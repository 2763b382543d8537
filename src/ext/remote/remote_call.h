/* remote_call: calls of filters in C (include/sluice/filter.h) that run in a host process, as records of its rings.
 *
 *     proxy: the exchange's coroutine                      host process: a coroutine of the call
 *     CALL   which function, the heads as they are ──────► the function runs
 *            ◄──── WANT  edits so far, what it asks for    and parks: a body's bytes, an attribute, a reply
 *     GIVE   what there is ──────────────────────────────► and goes on
 *            ◄──── RETURN  edits since, how it ended
 *     CANCEL the exchange is over ───────────────────────► its parks return -ECANCELED
 *     END    (remote_message.h) ─────────────────────────► what the host has of it goes
 *
 * A call has one record on its way at a time, so what is kept of a host's words is one record per call; a host that says
 * more is none of ours. Heads go across once each way: copies with the call, edits with what comes back, in the order they
 * were made. Bytes of bodies go in pieces of REMOTE_PIECE_MAX.
 *
 * Trust, Ownership, Threads  As remote_message.h. Records of a host begin with the number of its exchange. */
#pragma once
#include "ext/remote/remote_message.h"

enum {
    REMOTE_PIECE_MAX = 128 << 10, /* of bytes in a record: half of what one may have */
    REMOTE_EDITS_MAX = 64 << 10,  /* so many are sent by themselves */
    REMOTE_PARTS = 4,             /* enum sluice_part */
};

/* The functions of struct sluice_plugin, and those that it gave for bodies. Also bits: what a plug-in has
 * (remote_lane_abilities). */
enum remote_function {
    REMOTE_CREATE, /* with the first call; not one by itself */
    REMOTE_START,  /* log_start */
    REMOTE_REQUEST,
    REMOTE_RESPONSE,
    REMOTE_LOG_END,
    REMOTE_PERIODIC,
    REMOTE_DESTROY,
    REMOTE_NEXT,  /* of a transformer */
    REMOTE_BYTES, /* of an observer, as END */
    REMOTE_OBSERVED,
    REMOTE_FUNCTIONS
};

struct remote_call {
    uint64_t number;
    uint32_t id;      /* of the call, of its exchange */
    uint8_t function; /* enum remote_function */
    uint8_t phase;    /* 0: the request's, 1: the response's, 2: neither; what may be changed */
    bool bodies[2];   /* there are */
    uint64_t config_id;
    uint64_t handle;   /* of NEXT and an observer: the host's */
    int32_t error;     /* of OBSERVED */
    struct span bytes; /* of BYTES */
    bool shown;        /* with maps */
    struct ext_view maps[REMOTE_PARTS];
};

enum remote_question_c {
    REMOTE_WANT_EDITS = 1, /* that they are done */
    REMOTE_WANT_PIECE,     /* a: bytes, behind those before, of the SET or REPLY to come */
    REMOTE_WANT_REPLY,     /* n: status, m: 1 + grpc status or 0, a: details, b: fields */
    REMOTE_WANT_CLEAR_ROUTE,
    REMOTE_WANT_ROUTE_CONFIGS, /* => text: their ids */
    REMOTE_WANT_OBSERVE,       /* part, n: the host's handle */
    REMOTE_WANT_TRANSFORM,     /* likewise */
    REMOTE_WANT_BODY_NEXT,  /* n: the transformer's handle => bytes; none: the end, with trailers */
    REMOTE_WANT_BODY_READ,  /* part, n: limit => number: its length; trailers */
    REMOTE_WANT_BODY_PIECE, /* part, n: offset in what was read => bytes */
    REMOTE_WANT_BODY_SET,   /* part; its pieces came before */
    REMOTE_WANT_ATTRIBUTE,  /* a: path => text */
    REMOTE_WANT_FORMAT,     /* a: the format => text */
    REMOTE_WANT_STATE,      /* a: key => text */
    REMOTE_WANT_SET_STATE,  /* a: key, b: text, n: flags */
    REMOTE_WANT_TEXT,       /* a: namespace, b: key => text; rc 0: there is one */
    REMOTE_WANT_NUMBER,     /* likewise => number: the bits of a double */
    REMOTE_WANT_JSON,       /* likewise => text */
    REMOTE_WANT_SET_TEXT,   /* a: namespace, b: key, c: text */
    REMOTE_WANT_SET_NUMBER, /* a: namespace, b: key, n: the bits of a double */
    REMOTE_WANT_SET_JSON,   /* a: namespace, b: key, c: JSON */
    REMOTE_WANTS
};

struct remote_want {
    uint64_t number;
    uint32_t id;
    uint8_t question; /* enum remote_question_c */
    uint8_t part;     /* enum sluice_part */
    uint64_t n, m;
    struct span a, b, c;
    struct span edits; /* for remote_next_edit; done before it is answered */
};

struct remote_give {
    uint64_t number;
    uint32_t id;
    bool alive; /* as sluice_alive says */
    int32_t rc;
    uint64_t value;
    struct span text;
    struct ext_view trailers; /* entries NULL: nothing new */
};

enum remote_ending {
    REMOTE_ENDED,
    REMOTE_FAULTED,
    REMOTE_NOT_CREATED,
    REMOTE_NO_MEMORY,
    REMOTE_ENDINGS
};
struct remote_return {
    uint64_t number;
    uint32_t id;
    uint8_t ending;  /* enum remote_ending */
    int32_t rc;      /* of NEXT */
    uint32_t merges; /* that were made */
    struct span edits;
    struct span bytes; /* of NEXT */
    struct span
        counts; /* for remote_next_count: what the library counted meanwhile, for whomever */
};

struct remote_count {
    uint8_t kind; /* enum stat_kind */
    bool is_set;  /* of a gauge; else added, or noted */
    int64_t value;
    struct span name; /* native.PLUGIN.NAME */
};

enum remote_edit_kind { REMOTE_EDIT_SET, REMOTE_EDIT_ADD, REMOTE_EDIT_REMOVE };
struct remote_edit {
    uint8_t part; /* enum sluice_part */
    uint8_t kind; /* enum remote_edit_kind */
    struct span name, value;
};

void remote_put_call(struct remote_out *out, const struct remote_call *call);
void remote_put_give(struct remote_out *out, const struct remote_give *give);
void remote_put_want(struct remote_out *out, const struct remote_want *want);
void remote_put_return(struct remote_out *out, const struct remote_return *said);
void remote_put_count(struct remote_out *counts, const struct remote_count *count);
void remote_put_edit(struct remote_out *edits, const struct remote_edit *edit);

/* As remote_read_lend. */
MUST_CHECK int remote_read_call(struct span record BORROWED_BY(out), struct header *entries,
                                uint32_t max, struct remote_call *out);
MUST_CHECK int remote_read_give(struct span record BORROWED_BY(out), struct header *entries,
                                uint32_t max, struct remote_give *out);
MUST_CHECK int remote_read_want(struct span record BORROWED_BY(out), struct remote_want *out);
MUST_CHECK int remote_read_return(struct span record BORROWED_BY(out), struct remote_return *out);
/* 1 with the next one; 0: that was all; -EPROTO. */
MUST_CHECK int remote_next_count(struct span *counts BORROWED_BY(out), struct remote_count *out);
MUST_CHECK int remote_next_edit(struct span *edits BORROWED_BY(out), struct remote_edit *out);
