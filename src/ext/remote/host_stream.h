/* host_stream: a stream whose exchange is in the proxy: its mirror here, which Go's calls work on as on any other stream.
 *
 *     ring of the seat                 mirror                                     ring of a P
 *     LEND ──► copies of header maps ─► go_block, ext_stream ◄── exports, any thread
 *              callback                  │ decided: by the callback's status, or later by a thread of Go's
 *                                        └─────────────────────────────────────► RESULT
 *     LOG  ──► views of the record, callback ──────────────────────────────────► LOGGED
 *     END, or the last LOG ──► OnDestroy, and the mirror is the next stream's
 *
 * What a side was lent is Go's until its status, or what a thread of Go's posted, fits the phase, as in go_side.c: the same
 * states, the same rules for shown pieces of body, and late headers. Only, here nobody waits: who posts ends the loan.
 *
 * Ownership  The seat's, from the first LEND or LOG to OnDestroy.
 * Threads    host_stream_lend and the like: the seat's thread. Fields: as each says. */
#pragma once
#include "ext/ext_far.h"
#include "ext/go/go_block.h"
#include "ext/remote/host_config.h"
#include "ext/remote/host_send.h"

/* Header maps of the latest loan. The stream's lock, as views of it are. */
struct host_maps {
    struct header *entries;
    char *bytes;
    size_t entry_room, byte_room;
};

struct host_side {
    enum go_state state;
    bool end;      /* of the loan */
    bool whole;    /* it is of a body that was gathered: nothing of it is to come */
    bool in_call;  /* the callback has not returned: what is posted waits for that */
    bool held;     /* headers, by a status, until something is let go */
    uint8_t calls; /* behind that of the headers, of what the loan has ahead */
    struct host_maps maps;
    const struct ext_edit *sent; /* the last edit that the proxy knows; NULL: none of this loan's */
    struct ext_buffer *coming;   /* the seat's: of BODY records */
};

struct host_stream {
    struct ext_far far;
    struct host_stream *next; /* in its seat's table, or free */
    struct host *host;
    uint64_t number;
    uint32_t p; /* whose ring gets what is said of it */
    struct go_block *block;
    /* The stream's lock, from here on. */
    struct host_side sides[2];
    struct remote_out ops;  /* encoded, and not sent */
    struct remote_out head; /* of the message being made */
};

/* One thread of the host, with its ring. All is the thread's own. */
struct host_seat {
    struct host *host;
    uint32_t number;
    unsigned shard;
    struct remote_ring_in *in;
    struct host_batch batch;
    int64_t wary_until_ns;      /* a callback took long lately */
    struct host_stream **table; /* by number */
    uint32_t table_size, stream_count;
    struct host_stream *free;
    struct header *entries;    /* to read a record's maps into: HOST_ENTRIES */
    struct host_config latest; /* the last stream's configuration */
};
enum { HOST_ENTRIES = 4 * HEADER_COUNT_MAX };

void host_stream_lend(struct host_seat *seat, const struct remote_lend *lend);
void host_stream_body(struct host_seat *seat, const struct remote_body *body);
void host_stream_log(struct host_seat *seat, const struct remote_log *log);
void host_stream_end(struct host_seat *seat, const struct remote_end *end);

/* ---- host_result.c: what is told. With the stream's lock ---- */

/* All changes that the proxy does not know yet, of both sides; nothing when there are none. */
void host_result_flush_locked(struct host_stream *s);
/* These changes, and what *result says; its counts are filled in. reply: NULL, or what decides. */
void host_result_send_locked(struct host_stream *s, enum remote_kind kind,
                             struct remote_result *result, const struct ext_reply *reply);
/* The changes so far become part of what is sent next. */
void host_result_note_locked(struct host_stream *s);
/* A change of a shown buffer, which was made. */
void host_result_buffer_locked(struct host_stream *s, enum ext_direction direction, uint64_t handle,
                               enum remote_buffer_action action, struct span bytes, uint64_t drain);

/* ---- host_ask.c: what is asked ---- */

extern const struct ext_far_itab host_far_itab;
/* Decided by who called (host_stream.c). */
void host_stream_decided_locked(struct host_stream *s, struct ext_side *side);

/* Sends a question and waits for its answer: its code. `asked` must follow. Any thread. */
int host_ask(struct host *host, uint32_t p, struct remote_ask *ask, struct remote_answer *answer);
void host_asked(struct host *host, const struct remote_ask *ask);
