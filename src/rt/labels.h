/* labels: what a coroutine works on, for dumps and profiles to print; Go's pprof labels.
 *
 * A set of labels {key, value} is immutable and counted. A coroutine has one set or none; those that it
 * starts begin with the same.
 *
 * What changes too often to be set each time is told by a describer: who looks asks it.
 *
 * Ownership  Sets are leased: labels_ref, labels_unref. They own copies of all their strings.
 * Threads    Sets may be passed anywhere and given back anywhere. labels_set, labels_add, labels_do and
 *            labels_current are a coroutine's, for itself. labels_lease: any thread.
 * Limits     LABELS_MAX labels in a set; more assert. */
#pragma once
#include <stddef.h>

#include "rt/rt.h"

enum {
    LABELS_DESCRIBED_MAX = 7, /* of one describer */
    LABELS_MAX = 12,          /* those, and more for users; they are one line */
    LABELS_TOLD_MAX = 512,    /* bytes that a describer tells */
};

struct label {
    const char *key, *value;
};

struct labels {
    _Atomic uint32_t refs;
    uint32_t count;
    struct label items[]; /* each key once, in the order they were added */
};

/* A new set, leased to the caller: base's labels (none for NULL) and then those of add, which replace
 * those with the same key. Borrows all of it. NULL when memory is short. Any thread. */
struct labels *labels_with(const struct labels *base, const struct label *add, unsigned count);
struct labels *labels_ref(const struct labels *labels);
void labels_unref(struct labels *labels); /* NULL: nothing */

/* The running coroutine's set becomes this one, transferred; NULL: none. */
void labels_set(struct labels *labels);
/* ... becomes its own with those of add. 0, or -ENOMEM and it stays as it is. */
MUST_CHECK int labels_add(const struct label *add, unsigned count);
/* Runs fn(arg) with these labels added, and puts back the former ones, also when fn panics. Without
 * memory for a set it runs under the labels there are. */
void labels_do(const struct label *add, unsigned count, rt_fn fn, void *arg);
/* Borrowed until the coroutine changes it; NULL: none. */
const struct labels *labels_current(void);

/* Tells what a coroutine does at this moment: fills in up to max labels and returns how many. They are
 * shown beside the coroutine's set and hide what has the same key there. So a coroutine that goes from one thing to the next
 * thousands of times a second stores a pointer each time, and what that means is asked a hundred times.
 *
 * It is asked
 *   - in a signal handler, or an allocation, on the thread that runs the coroutine or works for it in
 *     foreign_call or blocking_call: between any two instructions;
 *   - by a dump on any thread, while the coroutine is suspended and nobody can resume it.
 * So it is async-signal-safe, and all it reads is constant or atomic (relaxed is enough when who stores
 * a pointer knows what is behind it to be older than the coroutine) and good as long as it is asked.
 * The keys and values are literals or live as long as the process: base/intern.h. */
struct labels_describer {
    unsigned (*describe)(const struct labels_describer *self, struct label *out, unsigned max);
    /* What there is another one of each time, as a request's id, and so is no label: profiles and dumps would have as many
     * as there were requests. It is for the report of a crash alone, whose reader wants to find this very one. Writes
     * lines of a key, a blank and what there is to say, each with its end, and returns how many bytes. Asked as describe is;
     * the bytes are copied, so they need not live on. NULL: there is nothing. */
    size_t (*tell)(const struct labels_describer *self, char *out, size_t max);
};
/* The running coroutine is described by this one, borrowed until it names another or has ended; NULL: by
 * none, which is what one on the coroutine's own stack is followed by. Not inherited: who is started may
 * outlive what its starter works on. */
void labels_describe_by(const struct labels_describer *describer BORROWED_BY(coroutine));

/* What g's describer says now. Who may ask, and when: as labels_of. */
unsigned labels_described(const struct g *g, struct label out[LABELS_DESCRIBED_MAX]);
/* ... tells now, terminated; returns its length. */
size_t labels_told(const struct g *g, char out[LABELS_TOLD_MAX + 1]);

/* A leased set of all that is known of the coroutine that the calling thread runs, or works for in
 * foreign_call or blocking_call: its own labels and the described ones. NULL when there is no such
 * coroutine or it has none; when memory is short the described ones are missing. Any thread, but not a
 * signal handler. Allocates when there are described ones. */
MUST_CHECK struct labels *labels_snapshot(void);

/* Borrowed, without a lock: by a signal handler on the thread that runs g, until it returns; and by who
 * has the P that g is pinned to, until g runs again. */
const struct labels *labels_of(const struct g *g);
/* Leased, or NULL. Any thread, whatever g does meanwhile; not for a signal handler. */
MUST_CHECK struct labels *labels_lease(struct g *g);

/* An order of sets by their contents, NULL first: 0 when they say the same. */
int labels_compare(const struct labels *one, const struct labels *other);

enum { LABELS_TEXT_MAX = 1024 }; /* room for LABELS_MAX of usual length */
/* As Go's tracebacks print them: {"listener": "edge", "route": "api"}. What would end that, or the header
 * that it stands in, is escaped as in a Go string. Cut off to fit size, always terminated; returns its
 * length. "" for NULL. */
size_t labels_text(const struct labels *labels, char *out, size_t size);
