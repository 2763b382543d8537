/* remote_notes: what a library was configured with, so that each process that comes can be told again.
 *
 * Ownership  A note is the list's from remote_notes_add on, and stays as long as somebody reads it: its maker until
 *            remote_notes_release, each reader until the next remote_notes_read.
 * Threads    Any. What is not atomic of a note is constant once it was added. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/check.h"
#include "base/span.h"

enum remote_note_kind {
    REMOTE_NOTE_FILTER,
    REMOTE_NOTE_ROUTE,
    REMOTE_NOTE_CLUSTER, /* of a cluster specifier */
    REMOTE_NOTE_NETWORK, /* of a network filter */
    REMOTE_NOTE_MERGE,   /* two of a filter's */
};

/* A configuration, or two merged. */
struct remote_note {
    struct remote_note
        *next; /* in the order they were made: what is merged comes after its parts */
    uint64_t id;
    enum remote_note_kind kind;
    _Atomic bool accepted; /* by some process */
    struct span name;
    uint64_t parent, child; /* of a merge; parent also of a route's (struct remote_config) */
    uint64_t stack_bytes;
    uint64_t place; /* in the list, from 1 on: whoever was told this one was told those before */
    unsigned readers;
    _Atomic bool dropped; /* nobody new is told */
    size_t len;
    char bytes[]; /* of a configuration */
};

struct remote_notes {
    pthread_mutex_t lock;
    struct remote_note *first, *last;
    uint64_t last_id, last_place;
};

void remote_notes_init(struct remote_notes *notes);

/* With an id of its own, and read by the caller, who fills it in. NULL when memory is short. */
MUST_CHECK struct remote_note *remote_note_new(struct remote_notes *notes,
                                               struct span name BORROWED_BY(program),
                                               struct span bytes);
/* From here on every process is told. */
void remote_notes_add(struct remote_notes *notes, struct remote_note *note);
void remote_notes_release(struct remote_notes *notes, struct remote_note *note);
/* The one behind it that is to be told, to be read; NULL: that was the last. note NULL: the first. */
struct remote_note *remote_notes_read(struct remote_notes *notes, struct remote_note *note);
/* The plugin has refused it: it goes when nobody reads it. */
void remote_notes_forget(struct remote_note *note);
/* By its id, when nobody uses it any more. False: it is not there. */
bool remote_notes_drop(struct remote_notes *notes, uint64_t id);
/* It is there, and nobody has dropped it. */
bool remote_notes_has(struct remote_notes *notes, uint64_t id);
