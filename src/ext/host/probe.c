/* probe: each library has a thread here and a process there; the thread asks for one thing after the other, so
 * that the process's end belongs to the thing asked for last.
 *
 * When a process is lost over one configuration, a second one tries the others: a user should hear of all
 * his mistakes at once. LOSSES_MAX bounds what a library can cost. Ids of Go's do not outlive a
 * process, so everything that others stand on is done again.
 *
 * What passed is remembered as a key: the library's build (build_id.h), its environment and the chain of
 * configurations. A library with nothing new is not tried again, wherever its file lies; of two files of one build the
 * second waits for the first. A file that names no build is told by device, inode, size and times. The file itself is
 * looked at each time. Failures are not remembered: their cause may lie outside (a database that was away). */
#include "ext/host/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "ext/host/build_id.h"
#include "ext/host/ext_host.h"
#include "ext/host/ext_host_cause.h"
#include "ext/go/go_log.h"
#include "ext/go/go_seats.h"
#include "ext/library_path.h"
#include "ext/native/native_host.h"
#include "ext/native/native_library.h"
#include "ext/remote/sandbox_options.h"
#include "rt/rt.h"
#include "ext/host/probe_plan.h"

enum { LOSSES_MAX = 8, AT_A_TIME_MAX = 8, PASSED_MAX = 1 << 16 };

/* ---- what passed before ---- */

static struct {
    pthread_mutex_t lock;
    probe_key *keys;
    size_t count, room;
    pthread_cond_t changed;
    probe_key tried[AT_A_TIME_MAX + 1]; /* just now, one for each thread; 0: nothing */
} passed = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Where this file's key is, or with 0 a free place: there is one for each thread. Under the lock. */
static probe_key *tried_now(probe_key file) {
    size_t i = 0;
    while (i <= AT_A_TIME_MAX && passed.tried[i] != file)
        i++;
    return i <= AT_A_TIME_MAX ? &passed.tried[i] : NULL;
}

/* Waits until nobody tries this file, and is who does. 0 is no file, which all may try. */
static void begin_trying(probe_key file) {
    pthread_mutex_lock(&passed.lock);
    while (file && tried_now(file))
        pthread_cond_wait(&passed.changed, &passed.lock);
    if (file)
        *tried_now(0) = file;
    pthread_mutex_unlock(&passed.lock);
}

static void end_trying(probe_key file) {
    pthread_mutex_lock(&passed.lock);
    if (file)
        *tried_now(file) = 0;
    pthread_cond_broadcast(&passed.changed);
    pthread_mutex_unlock(&passed.lock);
}

static bool has_passed(probe_key key) {
    pthread_mutex_lock(&passed.lock);
    bool found = false;
    for (size_t i = 0; i < passed.count && !found; i++)
        found = passed.keys[i] == key;
    pthread_mutex_unlock(&passed.lock);
    return found;
}

/* Without memory, or past the limit, it is tried again next time. */
static void remember(probe_key key) {
    pthread_mutex_lock(&passed.lock);
    if (passed.count == PASSED_MAX)
        passed.count = 0;
    if (passed.count == passed.room) {
        size_t room = 2 * passed.room + 16;
        probe_key *larger = realloc(passed.keys, room * sizeof(*larger));
        if (larger) {
            passed.keys = larger;
            passed.room = room;
        }
    }
    if (passed.count < passed.room)
        passed.keys[passed.count++] = key;
    pthread_mutex_unlock(&passed.lock);
}

/* 0 when there is no such file, or it cannot be read: then nothing is ever remembered for it. */
static probe_key file_key(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        if (fd >= 0)
            (void)close(fd);
        return 0;
    }
    /* The size, too: tools that change a file that is linked leave its ids. */
    uint64_t numbers[] = {(uint64_t)st.st_size,
                          st.st_dev,
                          st.st_ino,
                          (uint64_t)st.st_mtim.tv_sec,
                          (uint64_t)st.st_mtim.tv_nsec,
                          (uint64_t)st.st_ctim.tv_sec,
                          (uint64_t)st.st_ctim.tv_nsec};
    struct build_id build;
    build_id_read(fd, &build);
    (void)close(fd);
    if (build.len > 0)
        return probe_key_add(probe_key_add(1, numbers, sizeof(numbers[0])), build.bytes, build.len);
    return probe_key_add(2, numbers, sizeof(numbers));
}

static probe_key list_key(probe_key key, const struct span *items, size_t count) {
    key = probe_key_add(key, &count, sizeof(count));
    for (size_t i = 0; i < count; i++) {
        key = probe_key_add(key, &items[i].len, sizeof(items[i].len));
        key = probe_key_add(key, items[i].ptr, items[i].len);
    }
    return key;
}

/* What passes in one sandbox may not in another. */
static probe_key sandbox_key(probe_key key, const struct cfg_sandbox *cfg) {
    static const struct cfg_sandbox usual;
    cfg = cfg ? cfg : &usual;
    const uint64_t numbers[] = {
        (uint64_t)cfg->seccomp,
        cfg->allow_exec,
        (uint64_t)cfg->landlock,
        cfg->restrict_files,
        cfg->max_open_files.value,
        cfg->max_threads.value,
        cfg->uid.value,
        cfg->gid.value,
        cfg->uid.set,
        cfg->memory_limit_bytes.value,
    };
    key = probe_key_add(key, numbers, sizeof(numbers));
    key = list_key(key, cfg->allow_syscalls, cfg->allow_syscalls_count);
    key = list_key(key, cfg->read_paths, cfg->read_paths_count);
    return list_key(key, cfg->write_paths, cfg->write_paths_count);
}

static probe_key library_key(const struct probe_library *library, const char *path) {
    probe_key key = file_key(path);
    if (!key)
        return 0;
    key = probe_key_add(key, &library->go_seats, sizeof(library->go_seats));
    key = probe_key_add(key, library->wish.gogc.ptr, library->wish.gogc.len);
    key = probe_key_add(key, "|", 1);
    key = probe_key_add(key, library->wish.memory_limit.ptr, library->wish.memory_limit.len);
    return library->is_isolated ? sandbox_key(key, library->sandbox) : key;
}

static probe_key node_key(probe_key file, const struct probe_node *node) {
    return probe_key_add(file, &node->key, sizeof(node->key));
}

/* ---- one library ---- */

struct job {
    struct probe_library *library;
    const struct probe_options *options;
    char *path;
    probe_key file;
    struct ext_host *host;
    bool lost;     /* the process */
    char who[200]; /* of a library in C: "the plug-in NAME" */
};

static void problem(struct job *job, const struct cfg_mark *mark, const char *format, ...)
    PRINTF_LIKE(3, 4);
static void problem(struct job *job, const struct cfg_mark *mark, const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    cfg_problem_add(&job->library->problems, CFG_PROBLEM_INVALID, mark, "%s",
                    text ? text : "out of memory");
    free(text);
}

/* Ends a process that failed a call, and says why it did. Owned; NULL when memory is short. */
static char *cause_of(struct job *job, int err) {
    int64_t stuck_ms = err == -ETIMEDOUT ? job->library->timeout_ns / NS_PER_MS : 0;
    enum ext_host_ending stuck = job->library->is_native ? EXT_HOST_DUMP_FIRST : EXT_HOST_DUMP;
    ext_host_end(job->host, err == -ETIMEDOUT ? stuck
                            : err == -EPIPE   ? EXT_HOST_ASK
                                              : EXT_HOST_KILL);
    job->lost = true;
    return ext_host_cause(ext_host_output(job->host), ext_host_status(job->host), stuck_ms);
}

/* 0 or the error, with the process lost and the problem reported as "WHO panicked while WHAT" and the
 * traceback behind it. */
static int ask(struct job *job, const struct cfg_mark *mark, const char *who, const char *what,
               const struct ext_host_message *request, struct ext_host_message *answer) {
    int err = ext_host_call(job->host, request, answer, clock_mono_ns() + job->library->timeout_ns);
    if (!err)
        return 0;
    char *cause = cause_of(job, err);
    int verdict = cause ? (int)strcspn(cause, "\n") : 0;
    problem(job, mark, "%s %.*s while %s%s", who, verdict, cause ? cause : "", what,
            cause ? cause + verdict : "");
    free(cause);
    return err;
}

static int ask_plugin(struct job *job, const struct probe_node *node, const char *what,
                      const struct ext_host_message *request, struct ext_host_message *answer) {
    char *who;
    if (job->library->is_native)
        return ask(job, node->mark, job->who, what, request, answer);
    if (asprintf(&who, "the plugin %.*s", (int)node->plugin.len, node->plugin.ptr) < 0)
        return -ENOMEM;
    int err = ask(job, node->mark, who, what, request, answer);
    free(who);
    return err;
}

/* As the host process will, in which the library is going to run. */
static int enter_sandbox(struct job *job) {
    const struct probe_library *library = job->library;
    struct sandbox_options options;
    char said[SANDBOX_SAID_MAX];
    if (!sandbox_options_from(library->sandbox, span_of(job->path), &options, said)) {
        problem(job, library->mark, "sandbox: %s", said);
        return -EINVAL;
    }
    int err =
        sandbox_options_send(&options, job->host, clock_mono_ns() + library->timeout_ns, said);
    if (err)
        problem(job, library->mark, "cannot try %s in its sandbox: %s", job->path,
                said[0] ? said : strerror(-err));
    return err;
}

static int load(struct job *job) {
    struct probe_library *library = job->library;
    struct ext_host_message answer;
    struct ext_host_message request = {
        .kind = EXT_HOST_GO_LOAD,
        .numbers = {go_seats_announced(library->go_seats), (uint64_t)log_golang.level},
        .texts = {span_of(job->path), library->id, library->wish.gogc, library->wish.memory_limit},
    };
    if (library->is_native)
        request = (struct ext_host_message){.kind = EXT_HOST_NATIVE_LOAD,
                                            .numbers = {rt_p_count(), (uint64_t)log_native.level},
                                            .texts = {span_of(job->path)}};
    char *who;
    if (asprintf(&who, "cannot load %s: it", job->path) < 0)
        return -ENOMEM;
    int err = ask(job, library->mark, who,
                  library->is_native ? "its constructors ran" : "its init functions ran", &request,
                  &answer);
    free(who);
    if (!err && answer.numbers[0] == 0) {
        problem(job, library->mark, "%.*s", (int)answer.texts[0].len, answer.texts[0].ptr);
        err = -EINVAL;
    } else if (!err && library->is_native) {
        (void)snprintf(job->who, sizeof job->who, "the plug-in %.*s", (int)answer.texts[0].len,
                       answer.texts[0].ptr);
    }
    return err;
}

/* 0, -EINVAL when the plugin refused, or the loss of the process. */
static int parse(struct job *job, struct probe_node *node) {
    struct ext_host_message answer;
    const struct span bytes = span_make(node->bytes, node->len);
    struct ext_host_message request = {.kind = EXT_HOST_GO_NEW_CLUSTER,
                                       .texts = {node->plugin, bytes}};
    if (node->kind == PROBE_HTTP)
        request = (struct ext_host_message){
            .kind = EXT_HOST_GO_NEW,
            .numbers = {node->parent != PROBE_NO_PARENT},
            .texts = {node->plugin, bytes},
        };
    else if (node->kind == PROBE_NETWORK)
        request = (struct ext_host_message){.kind = EXT_HOST_GO_NEW_NETWORK,
                                            .texts = {node->plugin, bytes}};
    int err = ask_plugin(job, node,
                         node->kind == PROBE_NETWORK
                             ? "it parsed this configuration and was shown a connection"
                             : "it parsed this configuration",
                         &request, &answer);
    if (!err && answer.numbers[0] == 0) {
        struct span said = answer.texts[0].len ? answer.texts[0] : SPAN_LIT("it did not say why");
        problem(job, node->mark, "the plugin %.*s refused it: %.*s", (int)node->plugin.len,
                node->plugin.ptr, (int)said.len, said.ptr);
        err = -EINVAL;
    }
    if (!err)
        node->id = answer.numbers[0];
    return err;
}

static int merge(struct job *job, struct probe_node *node) {
    struct ext_host_message answer;
    const struct ext_host_message request = {
        .kind = EXT_HOST_GO_MERGE,
        .numbers = {job->library->nodes[node->parent].id, node->id},
        .texts = {node->plugin},
    };
    int err = ask_plugin(job, node, "it merged this configuration into the one above it", &request,
                         &answer);
    if (!err)
        node->id = answer.numbers[0];
    return err;
}

static int create(struct job *job, struct probe_node *node) {
    struct ext_host_message answer;
    const struct ext_host_message request = {
        .kind = EXT_HOST_GO_CREATE, .numbers = {node->id}, .texts = {node->plugin}};
    int err = ask_plugin(job, node, "it made a filter from this configuration", &request, &answer);
    if (!err && answer.numbers[0]) { /* its requests would pass as if there were no filter */
        problem(job, node->mark, "%s has no plugin named %.*s: must be a name that it registers",
                job->path, (int)node->plugin.len, node->plugin.ptr);
        err = -EINVAL;
    }
    return err;
}

/* ---- filters in C ---- */

/* As the others; the host process has put into words what the plug-in refuses. */
static int ask_native(struct job *job, struct probe_node *node, const char *what,
                      const struct ext_host_message *request) {
    struct ext_host_message answer;
    int err = ask_plugin(job, node, what, request, &answer);
    if (!err && answer.numbers[0] == 0) {
        problem(job, node->mark, "%.*s", (int)answer.texts[0].len, answer.texts[0].ptr);
        err = -EINVAL;
    }
    if (!err)
        node->id = answer.numbers[0];
    return err;
}

/* The node keeps its id. */
static int create_native(struct job *job, const struct probe_node *node) {
    struct probe_node instance = *node;
    const struct ext_host_message request = {.kind = EXT_HOST_NATIVE_CREATE, .numbers = {node->id}};
    return ask_native(job, &instance, "it made an instance with this configuration", &request);
}

static int try_native(struct job *job, struct probe_node *node) {
    const struct probe_node *nodes = job->library->nodes, *root = node;
    bool is_route = node->parent != PROBE_NO_PARENT;
    while (root->parent != PROBE_NO_PARENT)
        root = &nodes[root->parent];
    const struct ext_host_message request = {
        .kind = EXT_HOST_NATIVE_NEW,
        .numbers = {is_route, is_route ? root->id : 0},
        .texts = {span_make(node->bytes, node->len)},
    };
    int err = ask_native(job, node, "it read this configuration", &request);
    if (err)
        return err;
    if (!is_route)
        return create_native(job, node);
    const struct ext_host_message merge = {.kind = EXT_HOST_NATIVE_MERGE,
                                           .numbers = {nodes[node->parent].id, node->id}};
    return ask_native(job, node, "it merged this configuration into the one above it", &merge);
}

/* All that was made is given back, as the proxy will do when the configuration changes. */
static void free_native(struct job *job) {
    struct ext_host_message answer;
    const struct ext_host_message request = {.kind = EXT_HOST_NATIVE_FREE};
    int err = ask(job, job->library->mark, job->who, "its configurations were given back", &request,
                  &answer);
    if (!err && answer.numbers[0] == 0)
        problem(job, job->library->mark, "%.*s", (int)answer.texts[0].len, answer.texts[0].ptr);
}

/* ---- */

static int try_node(struct job *job, struct probe_node *node) {
    if (node->kind == PROBE_NATIVE)
        return try_native(job, node);
    int err = parse(job, node);
    if (!err && node->parent != PROBE_NO_PARENT)
        err = merge(job, node);
    return err || node->kind != PROBE_HTTP ? err : create(job, node);
}

/* All that did not fail yet, in a fresh process. False when there is nothing more to find out. */
static bool try_library(struct job *job) {
    static const char *const environment[] = {"SLUICE_PROBE=1", "GOTRACEBACK=all", NULL};
    const struct ext_host_options options = {.environment = environment};
    struct probe_library *library = job->library;
    job->lost = false;
    int err = ext_host_start(&options, &job->host);
    if (err) {
        problem(job, library->mark, "cannot start a process to try %s in: %s", job->path,
                strerror(-err));
        return false;
    }
    bool loaded = (!library->is_isolated || enter_sandbox(job) == 0) && load(job) == 0;
    for (size_t i = 0; loaded && i < library->count && !job->lost; i++) {
        struct probe_node *node = &library->nodes[i];
        node->failed |= node->parent != PROBE_NO_PARENT && library->nodes[node->parent].failed;
        if (!node->failed && try_node(job, node) != 0)
            node->failed = true;
    }
    bool was_lost = job->lost; /* what is found at the end need not be looked for again */
    if (loaded && !job->lost && library->is_native)
        free_native(job);
    ext_host_free(job->host);
    return loaded && was_lost;
}

static bool all_passed(const struct job *job) {
    bool all = job->file != 0;
    for (size_t i = 0; i < job->library->count && all; i++)
        all = has_passed(node_key(job->file, &job->library->nodes[i]));
    return all;
}

/* Names, as many as fit. */
static void warn_of_missing(struct job *job, const struct go_elf *elf) {
    char names[GO_LIBRARY_WHY_MAX] = "";
    for (unsigned i = 0; i < elf->missing_count; i++) {
        size_t used = strlen(names);
        (void)snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "",
                       elf->missing[i]);
    }
    if (elf->missing_count)
        cfg_problem_add(&job->library->problems, CFG_PROBLEM_WARNING, job->library->mark,
                        "%s is built with a newer SDK (%s): these functions that it may call are "
                        "missing here and will fail: %s",
                        job->path, elf->sdk_version[0] ? elf->sdk_version : "of unknown version",
                        names);
}

static bool has_all_kinds(struct job *job, const struct go_elf *elf) {
    const struct probe_library *library = job->library;
    warn_of_missing(job, elf);
    for (size_t i = 0; i < library->count; i++) {
        static const char *const names[] = {[PROBE_HTTP] = "HTTP filters",
                                            [PROBE_CLUSTER] = "cluster specifier",
                                            [PROBE_NETWORK] = "network filters"};
        const bool has[] = {[PROBE_HTTP] = elf->has_http,
                            [PROBE_CLUSTER] = elf->has_cluster_specifier,
                            [PROBE_NETWORK] = elf->has_network};
        enum probe_kind kind = library->nodes[i].kind;
        if (!has[kind]) {
            problem(job, library->nodes[i].mark, "%s has no %s", job->path, names[kind]);
            return false;
        }
    }
    return true;
}

static void try_if_new(struct job *job) {
    struct probe_library *library = job->library;
    job->file = library_key(library, job->path);
    begin_trying(job->file);
    if (all_passed(job)) {
        LOG(log_golang, LOG_DEBUG, "%s and its configurations passed before", job->path);
    } else {
        int losses = 0;
        while (try_library(job) && ++losses < LOSSES_MAX) {
        }
        for (size_t i = 0; i < library->count && !cfg_problems_refuse(&library->problems); i++)
            remember(node_key(job->file, &library->nodes[i]));
    }
    end_trying(job->file);
}

/* Whether it is worth trying, by what the file says of itself. */
static bool looks_right(struct job *job) {
    const struct cfg_mark *mark = job->library->mark;
    struct go_elf elf;
    char why[GO_ELF_WHY_MAX], native_why[NATIVE_WHY_MAX];
    if (job->library->is_native) {
        bool right = native_library_inspect(job->path, native_why);
        if (!right)
            problem(job, mark, "%s", native_why);
        return right;
    }
    if (go_elf_inspect_file(job->path, go_export_is_known, &elf, why) != 0) {
        problem(job, mark, "cannot load %s: %s", job->path, why);
        return false;
    }
    return has_all_kinds(job, &elf);
}

static void probe_library(struct job *job) {
    struct probe_library *library = job->library;
    job->path = library_path(library->path);
    if (!job->path) {
        problem(job, library->mark, "out of memory");
        return;
    }
    if (looks_right(job) && !job->options->disabled && (job->options->always || !library->disabled))
        try_if_new(job);
    free(job->path);
}

/* ---- all of them ---- */

struct crew {
    struct probe_plan *plan;
    const struct probe_options *options;
    _Atomic size_t next;
};

static void *work(void *arg) {
    struct crew *crew = arg;
    size_t i;
    while ((i = atomic_fetch_add(&crew->next, 1)) < crew->plan->count) {
        struct job job = {.library = &crew->plan->libraries[i], .options = crew->options};
        if (!job.options->wants || job.options->wants(job.options->arg, job.library->id))
            probe_library(&job);
    }
    return NULL;
}

void probe_config(const struct resources *resources, const struct probe_options *options,
                  struct cfg_problems *problems) {
    struct probe_plan plan;
    probe_plan_make(resources, &plan);
    for (size_t i = 0; i < plan.count && options->isolated; i++)
        plan.libraries[i].is_isolated = plan.libraries[i].may_be_isolated;
    struct crew crew = {.plan = &plan, .options = options};
    pthread_t threads[AT_A_TIME_MAX];
    size_t count = 0;
    while (count + 1 < plan.count && count < AT_A_TIME_MAX &&
           pthread_create(&threads[count], NULL, work, &crew) == 0)
        count++;
    (void)work(&crew); /* this thread is one of them, and enough when there are no others */
    for (size_t i = 0; i < count; i++)
        (void)pthread_join(threads[i], NULL); /* they were made here and are joined once */
    for (size_t i = 0; i < plan.count; i++) {
        const struct cfg_problems *found = &plan.libraries[i].problems;
        for (size_t k = 0; k < found->count; k++)
            cfg_problem_add(problems, found->items[k].kind, &found->items[k].mark, "%s",
                            found->items[k].text);
    }
    if (plan.memory_short)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &(struct cfg_mark){0},
                        "out of memory while its libraries were tried");
    probe_plan_fini(&plan);
}
