/* go_environ: how a Go runtime that starts in dlopen is given another environment.
 *
 * The dynamic loader hands the process's original argv to a library's constructors. Go takes its
 * environment from there: the pointers behind argv's NULL up to the next one. Behind that it reads the
 * auxiliary vector, pairs of words of which the last is AT_NULL.
 *
 *     argv.. 0 │ env 0 │ ... │ env n-1 │ 0 │ type value │ type value │ ... │ AT_NULL
 *
 * A name that is there already has its pointer replaced. A new one needs a place, and there is none:
 * so the NULL moves up over the first pairs of the vector, which move to where pairs stand that nobody
 * reads after the start (AT_CLKTCK, AT_FLAGS, AT_ENTRY, AT_PHENT: the C library copied them). With two new
 * entries, A and B:
 *
 *     argv.. 0 │ env 0 │ ... │ env n-1 │ A │ B     0      │ type value │ ... │ AT_NULL
 *                                           └ reads as a pair of type B, which is none
 *
 * Why that is safe
 *   I1  Words are written one by one, each whole; at any moment the block is a valid one for whoever reads it,
 *       getenv() and getauxval() in other threads included: the environment's NULL is there before entries
 *       reach up to it, and a displaced pair stands in its new place before it leaves the old one.
 *   I2  getauxval() starts at the vector's old place. What it finds there are pairs with a pointer as
 *       type, which match nothing, and then the rest. So the new entries come in twos.
 *   I3  Texts are interned, so a pointer that getenv() gave out stays good.
 *   I4  One library at a time: the lock is held until the runtime has started (go_library.c waits for
 *       that; it reads the block on a thread of its own, which may be behind dlopen's return).
 *   I5  /proc/self/environ and /proc/self/auxv are the kernel's own copies and do not change.
 * Where somebody has called unsetenv, the entries behind that one have moved down, and NULLs stand between the new end and the
 * old one. Go would take the first of them for the vector's beginning:
 *
 *     argv.. 0 │ env 0 │ ... │ env m-1 │ 0 │ 0 │ type value │ ...      (the kernel's NULL is the last one: the room ends there)
 *
 * So these places are filled, with new entries first, and then with one that says again what is said already.
 *
 * Go keeps a slice of the vector as it found it. After the end it lacks the first pairs, which are the vDSO's
 * address and the size of a signal frame; both were used by then.
 *
 * Rejected: setenv (Go does not see it, and it races with getenv); taking the place of a variable that
 * looks unimportant (the filter may want it); starting ourselves again with spare variables (every
 * start pays, for libraries that are mostly not there). */
#include "ext/go/go_environ.h"

#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/intern.h"

enum {
    NAMES = 4,
    PAIRS_MAX = (NAMES + 1) / 2,
    GAP_MAX = 64, /* places that unsetenv has left: some of ours, and those of libraries */
    CHANGES_MAX = NAMES + 4 * PAIRS_MAX + 1 + GAP_MAX,
};

typedef uintptr_t word;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards everything below */
static word *env;
static size_t room; /* env[room] is the NULL that the kernel put there, the vector is behind it */
static size_t
    count; /* env[count] is the first NULL: unsetenv makes it less than room. As of begin */
static struct { word *at, was; } changes[CHANGES_MAX];
static unsigned change_count;

void go_environ_init(int argc, char **argv) {
    env = (word *)(void *)(argv + argc + 1);
    for (room = 0; env[room];)
        room++;
}

static void set(word *at, word value) {
    changes[change_count].at = at;
    changes[change_count++].was = *at;
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}

/* In the reverse order, which keeps I1. */
static void restore(void) {
    while (change_count > 0) {
        change_count--;
        __atomic_store_n(changes[change_count].at, changes[change_count].was, __ATOMIC_RELEASE);
    }
}

void go_environ_end(void) {
    restore();
    pthread_mutex_unlock(&lock);
}

static const char *text_at(word entry) {
    return (const char *)entry;   // NOLINT(performance-no-int-to-ptr): it is one, seen as a word
}

/* The place of the first entry of that name, which is the one that Go takes, or NULL. */
static word *find(struct span name) {
    for (size_t i = 0; i < count; i++) {
        struct span entry = span_of(text_at(env[i]));
        if (span_starts_with(entry, name) && entry.len > name.len && entry.ptr[name.len] == '=')
            return &env[i];
    }
    return NULL;
}

static word *find_dispensable(word *aux, const word *const *taken, unsigned taken_count) {
    for (; aux[0] != AT_NULL; aux += 2) {
        bool is_free =
            aux[0] == AT_CLKTCK || aux[0] == AT_FLAGS || aux[0] == AT_ENTRY || aux[0] == AT_PHENT;
        for (unsigned i = 0; i < taken_count; i++)
            is_free &= taken[i] != aux;
        if (is_free)
            return aux;
    }
    return NULL;
}

/* 2 * pairs entries where the vector begins. */
static int displace(const word *entries, unsigned pairs) {
    word *aux = env + room + 1;
    for (unsigned i = 0; i < pairs; i++)
        if (aux[2 * i] == AT_NULL)
            return -ENOSPC;
    const word *taken[PAIRS_MAX];
    for (unsigned i = 0; i < pairs; i++) {
        word *place = find_dispensable(aux + 2 * (size_t)pairs, taken, i);
        if (!place)
            return -ENOSPC;
        taken[i] = place;
        set(place, AT_IGNORE);
        set(place + 1, aux[2 * i + 1]);
        set(place, aux[2 * i]);
    }
    for (unsigned i = 2 * pairs + 1; i-- > 0;)
        set(env + room + i, i < 2 * pairs ? entries[i] : 0);
    return 0;
}

/* From the last one down, so that the NULL at count is there until all are (I1). entries has a place more than new_count
 * says. */
static int add(word *entries, unsigned new_count) {
    size_t gap = room - count;
    if (gap > GAP_MAX)
        return -ENOSPC;
    word again = new_count ? entries[0] : count ? env[0] : 0;
    unsigned here = new_count < gap ? new_count : (unsigned)gap, over = new_count - here;
    entries[new_count] = again; /* the twin of an odd one */
    int err = over ? displace(entries + here, (over + 1) / 2) : 0;
    for (size_t i = gap; err == 0 && i-- > 0;)
        set(env + count + i, i < here ? entries[i] : again);
    return err;
}

/* "NAME=value", or with a value that is there already "NAME=old,value". 0 without memory. */
static word entry_of(const char *name, const char *old, struct span value) {
    char *text;
    int len = old && *old ? asprintf(&text, "%s=%s,%.*s", name, old, (int)value.len, value.ptr)
                          : asprintf(&text, "%s=%.*s", name, (int)value.len, value.ptr);
    if (len < 0)
        return 0;
    const char *kept = intern(span_make(text, (size_t)len), SIZE_MAX);
    free(text);
    return (word)kept;
}

static int apply(const struct go_environ *wish, unsigned max_procs) {
    char procs[16];
    int procs_len = snprintf(procs, sizeof procs, "%u", max_procs);
    enum if_there { REPLACE, ADD, LEAVE };
    const struct {
        const char *name;
        struct span value;
        enum if_there if_there;
    } wanted[NAMES] = {
        {"GODEBUG", wish->no_cgocheck ? SPAN_LIT("cgocheck=0") : span_none(), ADD},
        {"GOGC", wish->gogc, REPLACE},
        {"GOMEMLIMIT", wish->memory_limit, REPLACE},
        {"GOMAXPROCS", max_procs ? span_make(procs, (size_t)procs_len) : span_none(), LEAVE},
    };
    word fresh[NAMES + 1];
    unsigned fresh_count = 0;
    for (unsigned i = 0; i < NAMES; i++) {
        if (span_is_none(wanted[i].value))
            continue;
        struct span name = span_of(wanted[i].name);
        word *place = find(name);
        if (place && wanted[i].if_there == LEAVE)
            continue;
        bool adds = place && wanted[i].if_there == ADD;
        const char *old = adds ? text_at(*place) + name.len + 1 : NULL;
        word entry = entry_of(wanted[i].name, old, wanted[i].value);
        if (!entry)
            return -ENOMEM;
        if (place)
            set(place, entry);
        else
            fresh[fresh_count++] = entry;
    }
    return add(fresh, fresh_count);
}

int go_environ_begin(const struct go_environ *wish) {
    pthread_mutex_lock(&lock);
    for (count = 0; env && env[count];)
        count++;
    bool is_asked =
        wish->no_cgocheck || !span_is_none(wish->gogc) || !span_is_none(wish->memory_limit);
    int err = 0;
    if (wish->max_procs)
        err = env ? apply(wish, wish->max_procs) : -ENOSPC;
    if (err)
        restore();
    if (err || !wish->max_procs)
        err = !is_asked ? 0 : env ? apply(wish, 0) : -ENOSPC;
    if (err)
        go_environ_end();
    return err;
}
