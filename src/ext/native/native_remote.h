/* native_remote: filters in C whose library runs in a host process (isolation: PROCESS): a function's call is sent there
 * with the heads, and the coroutine that would have run it serves what the host asks of the exchange until it has
 * returned (ext/remote/remote_call.h).
 *
 *     hook ──► enter a lane ──► CALL ──► wait ◄── WANT: edits are done, then what is asked for ──► GIVE
 *                                          ◄── RETURN: edits are done, and the hook is over
 *
 * What a plug-in does here in process is done here, too, by the same functions (native_host, of the exchange's
 * coroutine): so what may be done when, and what goes on the wire, has one set of rules. Bodies stay here: the host sees the
 * bytes that it asks for, a transformer is a reader of ours that calls the host's.
 *
 * When the process is lost  Who waits is told, and the filter's policy decides (on_failure). A body that a transformer of
 *            it has seen bytes of breaks off, which ends the exchange whatever that is: the bytes are gone.
 * Cancelled  Who waits is told to give up, tells the host, and waits on, until the function has returned: what it is
 *            still shown stays. It may keep us for callback_timeout, when its process is ended.
 * Threads    The exchange's coroutines. */
#pragma once
#include "ext/native/native_filter.h"
#include "ext/remote/remote_call.h"
#include "ext/remote/remote_library.h"
#include "ext/remote/remote_party.h"

struct native_remote;

/* For an instance whose config is remote. In the exchange's arena; NULL when memory is short. */
MUST_CHECK struct native_remote *native_remote_new(struct sluice_exchange *e);
/* One of the functions that the chain calls. Parks. REMOTE_PERIODIC is on a coroutine of its own: REMOTE_LOG_END and
 * REMOTE_DESTROY wait until it is back. */
void native_remote_hook(struct native_remote *remote, enum remote_function function);
/* After the last. */
void native_remote_end(struct native_remote *remote);

/* ---- native_remote_serve.c ---- */

/* A transformer or observer that the host has. */
struct native_far {
    struct native_remote *remote;
    struct native_far *next;
    uint64_t handle; /* the host's */
    struct sluice_body
        *body;        /* of a transformer, while it is pulled; NULL: it is none, or not yet */
    struct span rest; /* of what the body said last */
    char *bytes;      /* that its next function said last; malloc */
    int error;        /* of an observer: how it ended, not told yet */
    bool untold;
};

/* Edits and counts are done already. What is given is borrowed until the next call: *memory is for the caller to free. */
void native_remote_serve(struct native_remote *remote, const struct remote_want *want,
                         struct remote_give *give, void **memory);

struct native_remote {
    struct remote_party party;
    struct sluice_exchange *e;
    const struct native_config *config;
    struct list calls; /* struct call: who waits */
    uint32_t last_id;
    bool is_between;          /* a periodic log is under way */
    bool ends;                /* the exchange does: no other one begins */
    struct g *ender;          /* who waits for it; NULL: nobody */
    struct remote_out pieces; /* of the REPLY or BODY_SET to come */
    struct span read[2];      /* by BODY_READ */
    struct native_far *fars;
};

struct native_remote_call {
    enum remote_function function;
    const struct native_far *far;
    struct span bytes;
    int error;
    /* What came of it: */
    struct remote_return said; /* its spans borrow from: */
    char *record;              /* owned by the caller */
};
/* 0; -EPIPE: the process is lost, or there is none; -ECANCELED: of a periodic log, the exchange ends; -ENOMEM. Parks. */
MUST_CHECK int native_remote_call(struct native_remote *remote, struct native_remote_call *call);

/* That a call ended with that error, done to the exchange: what on_failure says of a lost process. */
void native_remote_failed(struct native_remote *remote, int err);
/* What ended a call, done to the exchange. */
void native_remote_ended(struct native_remote *remote, const struct remote_return *said);
