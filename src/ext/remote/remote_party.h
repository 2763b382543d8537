/* remote_party: who has a number and a seat at a lane (remote_link.h): an exchange on a filter, or a question to a cluster
 * specifier. What the host says by that number it hears.
 *
 * Ownership  A part of what its kind is, which leaves (remote_lane_leave) before it ends. Borrows its plugin.
 * Threads    The lane's P. */
#pragma once
#include "ext/remote/remote_message.h"

struct go_plugin;
struct remote_lane;
struct remote_party;

/* What the link has read, and checked, of the host's records. Each: 0, or -EPROTO: no host of ours says such a thing. NULL:
 * none says it to one of that kind. */
struct remote_party_itab {
    /* of_log: the oldest log is over, too. */
    int (*result)(struct remote_party *party, const struct remote_result *result,
                  struct remote_in *ops, bool of_log);
    int (*named)(struct remote_party *party, const struct remote_named *named);
    /* A question about it; what the answer's text is borrowed from is *memory, for the caller to free. */
    void (*answer)(struct remote_party *party, const struct remote_ask *ask, size_t room,
                   struct remote_answer *answer, void **memory);
    /* Any other record that begins with its number. */
    int (*hear)(struct remote_party *party, enum remote_kind kind, struct span record);
    /* It has no lane any more: what it has of the host's is given back. */
    void (*left)(struct remote_party *party);
    /* Behind left: the host is gone, and heard of it or not (`lost`, `unheard`). Wakes its coroutines. */
    void (*lose)(struct remote_party *party);
};

struct remote_party {
    const struct remote_party_itab *itab;
    struct go_plugin *plugin; /* whose calls are counted; NULL: they are not */
    struct remote_lane *lane; /* NULL: the host has not heard of it, or is gone */
    uint64_t number;
    uint32_t seat;
    bool is_tried; /* wants the version that is rolled out; once it has a lane: is there */
    bool sent;     /* a message; at `sent_at` of the seat's ring, or behind it */
    uint64_t sent_at;
    bool lost;    /* its host is gone */
    bool unheard; /* but has not looked at anything of it: another may serve it */
};
