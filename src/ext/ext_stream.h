/* ext_stream: the one contract between an exchange and an extension host.
 *
 *     exchange's coroutine                          foreign code (any thread)
 *     ext_side_lend ───── side is lent ───────────► reads views, buffers, info; adds edits,
 *     parks in ext_side_await                       changes buffers
 *                   ◄──── continue or reply ─────── ext_side_continue_locked, .._reply_locked
 *     ext_side_take_back: edits, added data, reply
 *
 * Foreign code never sees an exchange. It works on this object only, under its lock, and while it
 * does the coroutine leaves what is lent alone. What is known of the exchange, and noted of it, is asked through this
 * object too (ext_query.c). The exchange may end at any moment: ext_stream_end
 * marks the stream destroyed and takes all views away before the exchange's memory goes.
 *
 * Ownership  Embedded in the host's own counted object, which outlives both sides. Views and info
 *            borrow from the exchange until they are taken away; edits, replies and buffers' copies
 *            are malloc'ed and belong to the stream until taken.
 * Threads    Functions with _locked, and all fields, need `lock`. The others are the exchange's
 *            coroutines' and take it themselves. It is never held over a park or a call out.
 * Limits     EXT_EDITS_MAX edits of EXT_EDIT_BYTES_MAX in all per loan, EXT_ADDED_BYTES_MAX of added
 *            body: what is beyond is refused, so that a filter in a loop fails before memory does. */
#pragma once
#include <pthread.h>

#include "ext/ext_buffer.h"
#include "ext/ext_room.h"
#include "config/cfg_buf.h"
#include "mem/arena.h"
#include "proxy/attribute.h"
#include "proxy/stream_info.h"
#include "rt/rt.h"

struct exchange;
struct ext_far;
struct filter_state_object;
struct route_table;

enum { EXT_EDITS_MAX = HEADER_COUNT_MAX, EXT_EDIT_BYTES_MAX = 1 << 20 };
enum { EXT_ADDED_BYTES_MAX = 64 << 20 };

enum ext_direction { EXT_REQUEST = 0, EXT_RESPONSE = 1 };
enum ext_phase { EXT_NOT_LENT, EXT_HEADERS, EXT_BODY, EXT_TRAILERS };

enum ext_edit_kind { EXT_EDIT_SET, EXT_EDIT_ADD, EXT_EDIT_REMOVE };
struct ext_edit {
    struct ext_edit *next;
    enum ext_edit_kind kind;
    bool trailers;
    uint32_t name_len, value_len;
    char bytes[]; /* name, value */
};

struct ext_reply_header {
    struct span name, value; /* name in any case */
};
struct ext_reply {
    unsigned status;
    int64_t grpc_status;
    bool panic; /* the extension failed; not its answer */
    struct span body, details;
    size_t header_count;
    struct header *headers; /* lower-case, checked */
};

/* What foreign code may ask about, as of the latest loan. Borrows from the exchange. */
struct ext_facts {
    struct stream_info info;
    const struct route_entry *route;
    struct attribute_tls tls; /* of the client's connection, if has_tls; it does not change */
    bool has_tls;
    unsigned peer; /* of the client's certificate, as route_match wants it */
    /* Immutable, so any thread may match: a refreshed route is known to the caller at once. */
    const struct route_table *routes;
    uint64_t random;
};

/* Header maps of the exchange that stand still as long as a side is lent; NULL: those that may not. */
struct ext_sight {
    const struct header_map *request, *response, *response_trailers;
};

/* Of an exchange that is gone (ext_past.h). */
struct ext_notes {
    struct metadata *metadata;
    struct filter_state *filter_state;
};

struct ext_side {
    enum ext_direction direction;
    enum ext_phase phase;
    struct ext_sight sight;
    bool abandoned;    /* the coroutine went away while the side was lent */
    bool replied;      /* foreign code answered: what it decides from now on is void */
    bool headers_late; /* sent on already: edits are taken and dropped */
    struct ext_view headers, trailers;
    /* What foreign code was told and makes room for: a copy never exceeds it, whatever the view holds by then. */
    struct ext_room header_room, trailer_room;
    struct header *frozen; /* owned: entries of a late view */
    struct ext_edit *edits, *last_edit;
    uint32_t edit_count;
    size_t edit_bytes;
    struct ext_buffers shown; /* have a handle, until they are released */
    struct ext_buffers added;
    size_t added_bytes;
    bool continued;
    bool prompt; /* by the callback itself, in a host process, as it returned */
    int status;  /* of continued */
    struct ext_reply *reply;
    struct g *waiter;
};

struct ext_stream {
    pthread_mutex_t lock;
    bool destroyed;
    bool cut;     /* the exchange goes on without foreign code, which is late with all it says */
    bool logging; /* a log is being made: both sides' views may be used */
    /* While a log in between runs (ext_past_show): what a side shows that is not lent, [direction][trailers]. */
    const struct ext_view (*aside)[2];
    bool clear_route, refresh_route;
    struct ext_far
        *far; /* ext_far.h; NULL: the exchange is here. Set before foreign code knows the stream */
    /* For what is noted of it. NULL before the first loan, and when it is gone: then what is left of
     * that, borrowed of its past; else NULLs. */
    struct exchange *x;
    struct ext_notes left;
    struct ext_side sides[2];
    struct ext_facts facts; /* last: of a stream that was never lent it is not set */
};

void ext_stream_init(struct ext_stream *stream);
/* When nobody can reach the stream any more. */
void ext_stream_fini(struct ext_stream *stream);
static inline void ext_lock(struct ext_stream *stream) {
    pthread_mutex_lock(&stream->lock);
}
static inline void ext_unlock(struct ext_stream *stream) {
    pthread_mutex_unlock(&stream->lock);
}

/* ---- the exchange's coroutines ---- */

/* The exchange is about to end: views and buffers are taken away for good. True when a side was lent
 * at that moment. */
bool ext_stream_end(struct ext_stream *stream);

/* The side's maps go to foreign code, which may use them until ext_side_take_back. headers or
 * trailers may be NULL. In their own phase foreign code is told of them: what, is in the side's room then. A
 * late view (ext_side_freeze) stays when headers is NULL. buffer is transferred, NULL for none: from here
 * on it is under the lock, and foreign code knows it by *handle, 0 for none. 0, or -ENOMEM when there is
 * no handle to be had: then the side is not lent. */
struct ext_loan {
    enum ext_phase phase;
    const struct header_map *headers, *trailers;
    struct ext_buffer *buffer;
};
MUST_CHECK int ext_side_lend(struct ext_stream *stream, struct exchange *x,
                             enum ext_direction direction, const struct ext_loan *loan,
                             uint64_t *handle);

/* One more buffer of a side that is lent, behind those shown. Transferred on success. 0 or -ENOMEM. */
MUST_CHECK int ext_side_lend_more(struct ext_stream *stream, unsigned shard,
                                  enum ext_direction direction, struct ext_buffer *buffer);

/* Parks until foreign code continued (1, *status and *prompt set and consumed) or replied (2). -ECANCELED when
 * the exchange is over: then call ext_side_abandon. -ETIMEDOUT: neither by deadline_ns. */
int ext_side_await(struct ext_stream *stream, struct exchange *x, enum ext_direction direction,
                   int64_t deadline_ns, int *status, bool *prompt);

/* Ends the loan. Everything in *taken is owned by the caller: free with ext_taken_fini. A continue
 * that nobody consumed is dropped. */
struct ext_taken {
    struct ext_edit *edits;
    struct ext_buffers added;
    struct ext_reply *reply;
    bool clear_route, refresh_route; /* of the request's side */
    bool looked_at;                  /* at the newest shown buffer, or it was changed */
};
void ext_side_take_back(struct ext_stream *stream, enum ext_direction direction,
                        struct ext_taken *taken);
void ext_taken_fini(struct ext_taken *taken);

/* The coroutine leaves while the side is lent: foreign code finds it destroyed from now on. */
void ext_side_abandon(struct ext_stream *stream, enum ext_direction direction);

/* The exchange does not wait any longer: both sides are abandoned, lent or not, and neither is lent again. Of a log foreign
 * code may hear still. The other side's coroutine finds the exchange over, or a reply pending. */
void ext_stream_cut(struct ext_stream *stream);

/* Keeps the headers readable after they went on: foreign code that continued from elsewhere may
 * still look at them. Without memory they are gone, as after any other continue. */
void ext_side_freeze(struct ext_stream *stream, enum ext_direction direction,
                     const struct header_map *headers);
/* Shown buffers: moved to `to` in order, or dropped when to is NULL. Their handles end. */
void ext_side_release(struct ext_stream *stream, enum ext_direction direction,
                      struct ext_buffers *to);
/* The newest shown buffer is the caller's again; its handle ends. */
struct ext_buffer *ext_side_recall_newest(struct ext_stream *stream, enum ext_direction direction);
/* The newest shown buffer: dropped, or made to own its bytes (-ENOMEM; *held is then untouched).
 * *held is what all shown buffers hold together. */
void ext_side_drop_newest(struct ext_stream *stream, enum ext_direction direction);
MUST_CHECK int ext_side_keep_newest(struct ext_stream *stream, enum ext_direction direction,
                                    size_t *held);

/* NULL once it is over, or before foreign code was shown anything of it. */
static inline struct exchange *ext_stream_exchange(struct ext_stream *stream) {
    ext_lock(stream);
    struct exchange *x = stream->x;
    ext_unlock(stream);
    return x;
}

/* Both sides' maps for the log phase; NULL for a map that does not exist. told: foreign code is told of them, with what
 * is in the rooms then; else it has those that it was shown before. */
void ext_stream_open_log(struct ext_stream *stream, struct exchange *x,
                         const struct header_map *maps[2][2], bool told);
/* Ends it; takes the edits of both sides ([direction]). */
void ext_stream_close_log(struct ext_stream *stream, struct ext_edit *edits[2]);

/* Applies the edits of one loan. A map that is NULL drops them. Names and values are copied to the
 * map's arena. 0 or -ENOMEM, then some are not applied. Edits stay the caller's. */
MUST_CHECK int ext_edits_apply(const struct ext_edit *edits, enum ext_direction direction,
                               struct header_map *headers, struct header_map *trailers);
void ext_edits_free(struct ext_edit *edits);

/* ---- foreign code, any thread ---- */

/* The shown buffer that a handle stands for; NULL for any number that is not a handle of this side's,
 * now. Borrowed until the lock is given up. */
struct ext_buffer *ext_side_buffer_locked(const struct ext_side *side, uint64_t handle);

/* First value of a field as it will be once the pending edits are applied; the absent span when
 * there is none. Borrowed until the lock is given up. */
struct span ext_side_get_locked(const struct ext_side *side, bool trailers, struct span name);

/* Queues an edit. The name is lower-cased; `host` of a request means :authority. 0, -ENOMEM,
 * -EINVAL (may not go on the wire, or a pseudo header that must stay) or -E2BIG. */
MUST_CHECK int ext_side_edit_locked(struct ext_side *side, bool trailers, enum ext_edit_kind kind,
                                    struct span name, struct span value);
/* The first one counts; nothing happens when the side is not lent. */
void ext_side_continue_locked(struct ext_side *side, int status);
/* reply is transferred. The first one counts, and it beats a continue. */
void ext_side_reply_locked(struct ext_side *side, struct ext_reply *reply);
/* Bytes that follow what the phase releases. 0, -ENOMEM or -E2BIG. */
MUST_CHECK int ext_side_add_data_locked(struct ext_side *side, struct span bytes);

/* Forgets the route; the coroutine chooses again when it has the stream back. With refresh the route
 * of the headers as they are, pending edits included, is chosen here: facts has it. */
void ext_stream_clear_route_locked(struct ext_stream *stream, bool refresh);

/* ---- questions and notes (ext_query.c): while a side is lent and not abandoned, or in the log phase ---- */

/* What may be seen now. Borrowed until the lock is given up. Headers are without pending edits. */
void ext_stream_subject_locked(struct ext_stream *stream, struct attribute_subject *out);
/* Appends the text of an attribute (proxy/attribute.h), pending edits of headers included. */
enum attribute_result ext_stream_attribute_locked(struct ext_stream *stream, struct span path,
                                                  struct format_out *out);
/* Appends dynamic metadata: a namespace, as a Struct in wire format. False: there is none. */
bool ext_stream_metadata_locked(struct ext_stream *stream, struct span name_space,
                                struct cfg_buf *out);
/* As metadata_set. */
MUST_CHECK int ext_stream_set_metadata_locked(struct ext_stream *stream, struct span name_space,
                                              struct span key, const struct cfg_value *value);
/* Appends a text of the filter state. False: there is none. */
bool ext_stream_state_locked(struct ext_stream *stream, struct span key, struct format_out *out);
/* As filter_state_set. */
MUST_CHECK int ext_stream_set_state_locked(struct ext_stream *stream,
                                           const struct filter_state_object *object);

/* A request's or response's headers as they will be once the edits are applied, on this thread and without its P.
 * 0 or -ENOMEM; then too ext_edited_fini. */
struct ext_edited {
    struct block_cache blocks;
    struct arena arena;
    struct header_map map;
};
MUST_CHECK int ext_edited_init(struct ext_edited *edited, const struct ext_edit *edits,
                               enum ext_direction direction, const struct header *entries,
                               uint32_t count);
void ext_edited_fini(struct ext_edited *edited);

/* Copies everything. Headers that may not go on the wire, pseudo headers and those that frame a
 * message are left out and counted in *refused. NULL when memory is short. */
MUST_CHECK struct ext_reply *ext_reply_new(unsigned status, struct span body, struct span details,
                                           const struct ext_reply_header *headers, size_t count,
                                           unsigned *refused);
void ext_reply_free(struct ext_reply *reply);
