/* go_remote_kind: see the header. ext/host/ext_host_go.c is the other end. */
#include "ext/go/go_remote_kind.h"

#include <errno.h>
#include <stdio.h>

#include "ext/go/go_library.h"
#include "ext/go/go_log.h"
#include "ext/remote/remote_notes.h"

static int load(const void *arg, int file, struct ext_host *host, int64_t deadline_ns,
                uint64_t *abilities, char *why) {
    const struct go_library *library = arg;
    struct ext_host_message answer;
    const struct ext_host_message request = {
        .kind = EXT_HOST_GO_LOAD,
        .numbers = {library->concurrency, LOG_INFO, (uint64_t)log_golang.level + 1},
        .texts = {span_of(library->path), span_of(library->id), span_of(library->gogc),
                  span_of(library->memory_limit)},
        .fds = &file,
        .fd_count = 1,
    };
    int err = ext_host_call(host, &request, &answer, deadline_ns);
    if (!err && answer.texts[0].len) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "%.*s", (int)answer.texts[0].len,
                       answer.texts[0].ptr);
        if (answer.numbers[0])
            LOG(log_golang, LOG_WARN, "library %s: %s", library->id, why);
    }
    return err ? err : answer.numbers[0] ? 0 : -ENOEXEC;
}

static void request_of(const struct remote_note *note, struct ext_host_message *request) {
    request->kind = EXT_HOST_GO_NEW;
    request->texts[0] = note->name;
    if (note->kind == REMOTE_NOTE_MERGE) {
        request->kind = EXT_HOST_GO_MERGE;
        request->numbers[0] = note->parent;
        request->numbers[1] = note->child;
        request->numbers[2] = note->id;
        return;
    }
    if (note->kind == REMOTE_NOTE_CLUSTER)
        request->kind = EXT_HOST_GO_NEW_CLUSTER;
    if (note->kind == REMOTE_NOTE_NETWORK)
        request->kind = EXT_HOST_GO_NEW_NETWORK;
    request->numbers[0] = note->kind == REMOTE_NOTE_ROUTE;
    request->numbers[1] = note->id;
    request->texts[1] = span_make(note->bytes, note->len);
}

const struct remote_library_kind go_remote_kind = {
    .log = &log_golang,
    .stat_prefix = "golang.library",
    .when_stuck = EXT_HOST_DUMP,
    .serve = EXT_HOST_GO_SERVE,
    .drop = EXT_HOST_GO_DROP,
    .stop = EXT_HOST_GO_STOP,
    .load = load,
    .request_of = request_of,
};
