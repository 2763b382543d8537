/* pprof: counted stacks as a profile that `go tool pprof` reads: github.com/google/pprof's
 * profile.proto, gzipped. Functions, files and lines are in it, inlined calls too, so that it is read
 * without the binaries; the build ids of what is loaded are there for those who have them.
 *
 *     pprof_new -> pprof_add ... -> pprof_write -> pprof_free
 *
 * Ownership  The caller owns it; whatever is passed is copied.
 * Threads    One at a time, and not one that holds a P: it computes, and writing looks addresses up in files.
 * Errors     When memory is short, writing fails; the calls before do nothing then. */
#pragma once
#include "admin/text.h"
#include "rt/dump.h"
#include "rt/labels.h"
#include "rt/symbol.h"

enum { PPROF_VALUES_MAX = 4, PPROF_LABELS_MAX = LABELS_MAX + 1 };

struct pprof_type {
    const char *what, *unit;
};
struct pprof_head {
    struct pprof_type values[PPROF_VALUES_MAX]; /* of each sample */
    unsigned value_count;
    struct pprof_type period_type; /* of what happens between two samples */
    int64_t period;
    const char *default_type; /* of values[], shown unless asked otherwise; NULL: the last one */
    const char *drop_frames;  /* functions to leave out with what they call; a regexp, or NULL */
};

struct pprof *pprof_new(const struct pprof_head *head); /* NULL when memory is short */
void pprof_free(struct pprof *pprof);

/* One sample with head's number of values. Its labels are those of the set, and "coroutine" and "state".
 * Values of equal stacks with equal labels add up, negative ones too, and what comes to nothing is left
 * out: so the difference of two readings is one of them with its values negated, and then the other. */
void pprof_add(struct pprof *pprof, const struct stack_count *stack, const int64_t *values);

/* A stack that somebody else tells of, who knows names and lines better than a look at the file. */
struct told_frame {
    uintptr_t address;            /* of the call */
    const struct symbol *symbols; /* innermost inlined first, as symbol_of gives them */
    unsigned count;
};
struct told_stack {
    const struct told_frame *frames; /* innermost first */
    unsigned depth;
    struct label labels[PPROF_LABELS_MAX];
    unsigned label_count;
    struct {
        const char *key, *unit;
        int64_t value;
    } number; /* one label that is a number; no key: none */
};
void pprof_add_told(struct pprof *pprof, const struct told_stack *stack, const int64_t *values);

/* Once: when it began, by the wall clock, and how long it took; 0: a moment. */
void pprof_when(struct pprof *pprof, int64_t began_ns, int64_t duration_ns);
/* A line that `go tool pprof -comments` prints. */
void pprof_comment(struct pprof *pprof, const char *comment);

/* Appends the file to out: out->failed when memory was short, here or before. */
void pprof_write(struct pprof *pprof, struct text *out);
