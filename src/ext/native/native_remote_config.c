/* native_remote_config: libraries of filters in C that run in host processes, and their configurations there. The other end is
 * ext/host/ext_host_native.c. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/cfg_buf.h"
#include "config/native_config.h"
#include "ext/native/native_host.h"
#include "ext/native/native_remote.h"
#include "ext/remote/remote_notes.h"
#include "ext/remote/remote_settings.h"
#include "rt/rt.h"

/* More Ps than that are not worth their rings, and the descriptors have to fit (shm.h). */
enum { SEATS_MAX = 64 };

static bool isolates_all;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER; /* one library at a time */

void native_isolate_all(bool all) {
    isolates_all = all;
}

bool native_is_isolated(const struct cfg_native *cfg) {
    return isolates_all || cfg->isolation.where == CFG_ISOLATION_PROCESS;
}

/* ---- what a process is told ---- */

static unsigned seats(void) {
    return rt_p_count() < SEATS_MAX ? rt_p_count() : SEATS_MAX;
}

static int load(const void *arg, int file, struct ext_host *host, int64_t deadline_ns,
                uint64_t *abilities, char *why) {
    const struct native_library *library = arg;
    struct ext_host_message answer;
    const struct ext_host_message request = {
        .kind = EXT_HOST_NATIVE_LOAD,
        .numbers = {seats(), (uint64_t)log_native.level, 1},
        .texts = {span_of(library->path)},
        .fds = &file,
        .fd_count = 1,
    };
    int err = ext_host_call(host, &request, &answer, deadline_ns);
    if (err)
        return err;
    if (!answer.numbers[0]) {
        (void)snprintf(why, SUPERVISOR_WHY_MAX, "%.*s", (int)answer.texts[0].len,
                       answer.texts[0].ptr);
        return -ENOEXEC;
    }
    *abilities = answer.numbers[1];
    err = native_library_is_called((struct native_library *)(uintptr_t)library, answer.texts[0]);
    if (err == -EINVAL)
        (void)snprintf(why, SUPERVISOR_WHY_MAX,
                       "its plug-in is called %.*s, which is not the name of the one before: "
                       "another plug-in wants a path of its own",
                       (int)answer.texts[0].len, answer.texts[0].ptr);
    return err;
}

static void request_of(const struct remote_note *note, struct ext_host_message *request) {
    *request = (struct ext_host_message){
        .kind = EXT_HOST_NATIVE_NEW,
        .numbers = {note->kind == REMOTE_NOTE_ROUTE, note->parent, note->id, note->stack_bytes},
        .texts = {span_make(note->bytes, note->len)},
    };
}

static const struct remote_library_kind kind = {
    .log = &log_native,
    .of_coroutines = true,
    .stat_prefix = "native.library",
    .when_stuck = EXT_HOST_DUMP_FIRST,
    .serve = EXT_HOST_NATIVE_SERVE,
    .drop = EXT_HOST_NATIVE_DROP,
    .stop = EXT_HOST_NATIVE_STOP,
    .load = load,
    .request_of = request_of,
};

/* ---- libraries ---- */

/* By the lock. The first configuration's settings count. */
static int start(struct native_library *library, const struct cfg_native *cfg, char *why) {
    const struct remote_library_options options = {
        .id = library->id, .path = library->path, .kind = &kind, .arg = library, .seats = seats()};
    if (!library->remote)
        library->remote =
            remote_library_configured(&options, &cfg->isolation, &cfg->probe.timeout, why);
    return library->remote ? 0 : -EINVAL;
}

static uint64_t tell(struct native_library *library, const struct remote_config *config,
                     const struct cfg_mark *mark, struct cfg_problems *problems) {
    char said[REMOTE_SAID_MAX];
    uint64_t id = remote_library_configure(library->remote, config, said);
    if (!id)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "%s", said);
    return id;
}

int native_remote_configure(const struct cfg_native *cfg, struct cfg_problems *problems,
                            struct native_library **out, uint64_t *id) {
    char why[SUPERVISOR_WHY_MAX] = "out of memory";
    struct native_library *library = native_library_elsewhere(cfg->library_path);
    pthread_mutex_lock(&starting);
    int err = library ? start(library, cfg, why) : -ENOMEM;
    pthread_mutex_unlock(&starting);
    if (err) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "library %.*s in a process of its own: %s", (int)cfg->library_path.len,
                        cfg->library_path.ptr, why);
        return -EINVAL;
    }
    struct cfg_buf json = {0};
    cfg_native_json(&json, cfg->config);
    const struct remote_config config = {
        .name = span_of(library->name),
        .bytes = cfg_buf_view(&json),
        .stack_bytes = cfg->stack_bytes.set ? cfg->stack_bytes.value : 0,
    };
    *id = json.failed ? 0 : tell(library, &config, &cfg->mark, problems);
    if (json.failed)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
    cfg_buf_fini(&json);
    *out = library;
    return *id ? 0 : -EINVAL;
}

int native_remote_configure_route(struct native_library *library, uint64_t filter_id,
                                  const struct cfg_native_per_route *cfg,
                                  struct cfg_problems *problems, uint64_t *id) {
    struct cfg_buf json = {0};
    cfg_native_json(&json, cfg->config);
    const struct remote_config config = {.name = span_of(library->name),
                                         .bytes = cfg_buf_view(&json),
                                         .kind = REMOTE_NOTE_ROUTE,
                                         .parent = filter_id};
    *id = json.failed ? 0 : tell(library, &config, &cfg->mark, problems);
    if (json.failed)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
    cfg_buf_fini(&json);
    return *id ? 0 : -EINVAL;
}

void native_remote_drop(struct native_library *library, uint64_t id) {
    remote_library_drop(library->remote, id);
}
