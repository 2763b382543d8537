/* remote_library_tell: what the processes of a library are told of its configurations, and by whom.
 *
 * Configurations that are made while a process is up are told to it at once, by the thread of its generation, and noted before
 * that: so the next process is told them, whether it is being prepared just now or later.
 *
 *     parse: note ──► tell who is up ──► refused: forget          prepare: tell all that is noted
 *
 * Between what a process was told while it was prepared and the moment from which others tell it, some may be made, by the first
 * request of a route above all. So when it is up it is told what has come since, before an exchange finds it, and whoever
 * makes one tells the newest process beside the current one, if they are two:
 *
 *     prepare: tell 1..n ─► in the list ──► is up ──► up: tell n+1.. ──► lanes open
 *                                             └─ from here on it can be told by those who made them
 *
 * One that is told twice keeps its id. One that a new process refuses, though it was good, is a failure of that process;
 * but one that nobody has accepted yet is for who asks for it.
 *
 * Who may touch what  As in remote_library.c. An errand is on the stack of who makes the configuration, who waits until the thread
 * of the process's generation has run it. */
#include "ext/remote/remote_library_internal.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "ext/remote/remote_link.h"

/* ---- one process ---- */

/* One configuration. 0; 1: it is refused, with what was said (REMOTE_SAID_MAX); -errno: the process is of no use. */
static int configure(const struct remote_library *library, struct ext_host *host,
                     const struct remote_note *note, char *said) {
    struct ext_host_message answer, request = {0};
    library->options.kind->request_of(note, &request);
    int err = ext_host_call(host, &request, &answer, remote_library_deadline(library));
    if (err || answer.numbers[0])
        return err;
    (void)snprintf(said, REMOTE_SAID_MAX, "%.*s", (int)answer.texts[0].len, answer.texts[0].ptr);
    return 1;
}

int remote_library_tell_all(struct remote_library *library, struct ext_host *host, uint64_t *told,
                            char *why) {
    int err = 0;
    char said[REMOTE_SAID_MAX] = "";
    struct remote_note *note = remote_notes_read(&library->notes, NULL);
    while (note && err >= 0) {
        err = note->place <= *told ? 0 : configure(library, host, note, said);
        if (note->place > *told)
            *told = note->place;
        if (err > 0 && atomic_load(&note->accepted)) {
            (void)snprintf(why, SUPERVISOR_WHY_MAX,
                           "%.*s refuses a configuration that it accepted before: %s",
                           (int)note->name.len, note->name.ptr, said);
            err = -EINVAL;
        }
        note = remote_notes_read(&library->notes, note);
    }
    if (note)
        remote_notes_release(&library->notes, note);
    return err < 0 ? err : 0;
}

/* ---- what processes that are up are told ---- */

struct errand {
    struct remote_library *library;
    int (*tell)(const struct errand *errand, struct ext_host *host);
    const struct remote_note *note;
    uint64_t id;
    char *said;
    uint64_t generation; /* that was told last; 0: none */
    int result;          /* of tell */
};

static int run_errand(void *arg, struct ext_host *host, uint64_t generation) {
    struct errand *errand = arg;
    errand->generation = generation;
    errand->result = errand->tell(errand, host);
    return errand->result < 0 ? errand->result : 0;
}

/* What tell returned; -EPIPE: nobody is up, or it went down over it. */
static int tell_current(struct errand *errand) {
    int err = supervisor_call(errand->library->supervisor, 0, run_errand, errand);
    return err < 0 ? err : errand->result;
}

static void tell_generation(struct errand *errand, uint64_t number) {
    struct remote_library *library = errand->library;
    if (number && number != errand->generation &&
        supervisor_call(library->supervisor, number, run_errand, errand) < 0)
        LOG(*library->options.kind->log, LOG_DEBUG, "library %s: generation %llu is not up",
            library->options.id, (unsigned long long)number);
}

/* The one that is about to take over, if it is up by now; else it is told before it does. And the one on trial. */
static void tell_newest(struct errand *errand) {
    struct remote_library *library = errand->library;
    pthread_mutex_lock(&library->lock);
    uint64_t newest = library->generations ? library->generations->number : 0;
    uint64_t candidate = atomic_load(&library->candidate);
    pthread_mutex_unlock(&library->lock);
    tell_generation(errand, newest);
    if (candidate != newest)
        tell_generation(errand, candidate);
}

/* One that refuses what another one has accepted is of no use. */
static int tell_note(const struct errand *errand, struct ext_host *host) {
    int err = configure(errand->library, host, errand->note, errand->said);
    return err > 0 && atomic_load(&errand->note->accepted) ? -EINVAL : err;
}

/* 0 and *id; 1: it is refused, with what was said; -EPIPE: nobody is up, or *lost, a generation, went down over it; another
 * -errno. */
static int configure_now(struct remote_library *library, const struct remote_config *config,
                         uint64_t *id, uint64_t *lost, char *said) {
    struct remote_note *note = remote_note_new(&library->notes, config->name, config->bytes);
    if (!note) {
        (void)snprintf(said, REMOTE_SAID_MAX, "out of memory");
        return -ENOMEM;
    }
    note->kind = config->kind;
    note->parent = config->parent;
    note->stack_bytes = config->stack_bytes;
    remote_notes_add(&library->notes, note);
    struct errand errand = {.library = library, .tell = tell_note, .note = note, .said = said};
    int err = tell_current(&errand);
    if (err < 0)
        (void)snprintf(said, REMOTE_SAID_MAX,
                       "its host process is not up, or ended over it: see the log");
    if (err) {
        remote_notes_forget(note); /* who is started next is not told of it */
        *lost = errand.generation;
    } else {
        char elsewhere[REMOTE_SAID_MAX];
        *id = note->id;
        atomic_store(&note->accepted, true);
        errand.said = elsewhere;
        tell_newest(&errand);
    }
    remote_notes_release(&library->notes, note);
    return err;
}

uint64_t remote_library_configure(struct remote_library *library,
                                  const struct remote_config *config, char *said) {
    uint64_t id = 0, lost = 0;
    said[0] = 0;
    int err = configure_now(library, config, &id, &lost, said);
    /* Nothing of it, if whoever was told was killed, and did not end over it. */
    if (err == -EPIPE && supervisor_await_restart(library->supervisor, lost,
                                                  library->options.start_timeout_ns) == 0) {
        said[0] = 0;
        err = configure_now(library, config, &id, &lost, said);
    }
    return err ? 0 : id;
}

uint64_t remote_library_merge(struct remote_library *library, struct span name, uint64_t parent,
                              uint64_t child) {
    char said[REMOTE_SAID_MAX];
    struct remote_note *note = remote_note_new(&library->notes, name, span_make("", 0));
    if (!note)
        return 0;
    note->kind = REMOTE_NOTE_MERGE;
    note->parent = parent;
    note->child = child;
    uint64_t id = note->id;
    remote_notes_add(&library->notes, note);
    struct errand errand = {.library = library, .tell = tell_note, .note = note, .said = said};
    (void)tell_current(&errand); /* who is not up is told when it comes */
    tell_newest(&errand);
    remote_notes_release(&library->notes, note);
    return id;
}

static int tell_drop(const struct errand *errand, struct ext_host *host) {
    struct ext_host_message answer;
    const struct ext_host_message request = {.kind = errand->library->options.kind->drop,
                                             .numbers = {errand->id}};
    return ext_host_call(host, &request, &answer, clock_mono_ns() + 10 * NS_PER_S);
}

void remote_library_drop(struct remote_library *library, uint64_t id) {
    bool was_there = remote_notes_drop(&library->notes, id);
    pthread_mutex_lock(&library->lock); /* a link that is in the list is not closed */
    for (const struct generation *of = library->generations; of; of = of->next)
        remote_link_forget_config(of->link, id);
    pthread_mutex_unlock(&library->lock);
    if (!was_there)
        return;
    struct errand errand = {.library = library, .tell = tell_drop, .id = id};
    if (tell_current(&errand) < 0)
        LOG(*library->options.kind->log, LOG_DEBUG,
            "library %s: no process to drop a configuration of", library->options.id);
    tell_newest(&errand);
}
