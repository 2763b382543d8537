/* remote_library.c: what each process of a library is told, whenever it comes and whatever fails on the way. This program is its
 * own host process: it is started again with --ext-host, and says yes to whatever its story does not have it refuse. Both share a page of
 * a file, in which a process notes what it is told. */
#include "../rt/rt_story.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#include "../file_tree.h"
#include "base/log.h"
#include "base/stats.h"
#include "ext/host/ext_host_inbox.h"
#include "ext/remote/remote_library.h"
#include "ext/remote/remote_link.h"
#include "ext/remote/remote_notes.h"
#include "ext/remote/sandbox_options.h"
#include "proxy/rollout.h"
#include "rt/foreign.h"

LOG_COMPONENT(fake, "fake");

static char path[64];

/* ---- what a story and its host processes know of each other ---- */

enum { TOLD_MAX = 256 };

static struct {
    struct {
        _Atomic pid_t pid;
        _Atomic uint64_t id; /* behind it */
    } told[TOLD_MAX];
    _Atomic unsigned count;
    _Atomic uint64_t refused;    /* this configuration is refused, by who comes */
    _Atomic uint64_t slow;       /* this one takes as long as it is so */
    _Atomic uint64_t deadly;     /* from this one on a process ends over each */
    _Atomic bool holds, is_held; /* before a process serves it waits; it does */
} * shared;

static void share(const char *name) {
    int fd = open(name, O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0 && ftruncate(fd, sizeof *shared) == 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED && close(fd) == 0);
}

static bool was_told(pid_t pid, uint64_t id) {
    bool found = false;
    for (size_t i = 0; i < TOLD_MAX; i++)
        found |= shared->told[i].id == id && shared->told[i].pid == pid;
    return found;
}

/* ---- the host process ---- */

static void answer(uint64_t yes, const char *said) {
    const struct ext_host_message message = {
        .kind = EXT_HOST_ANSWER, .numbers = {yes}, .texts = {span_of(said)}};
    size_t size;
    char *bytes = ext_host_encode(&message, &size);
    if (write(EXT_HOST_FD, bytes, size) != (ssize_t)size)
        _exit(9);
    free(bytes);
}

static void configured(uint64_t id) {
    unsigned at = shared->count++;
    CHECK(at < TOLD_MAX);
    shared->told[at].pid = getpid();
    shared->told[at].id = id;
    if (shared->deadly && id >= shared->deadly)
        _exit(1);
    while (shared->slow == id)
        usleep(1000);
    answer(shared->refused != id, "not like this");
}

static void serves(void) {
    shared->is_held = shared->holds;
    while (shared->holds)
        usleep(1000);
    answer(1, "");
}

static int fake_host(void) {
    struct ext_host_inbox inbox = {0};
    struct ext_host_message request;
    share(getenv("TEST_SHARED"));
    while (ext_host_inbox_next(&inbox, &request)) {
        if (request.kind == EXT_HOST_GO_NEW)
            configured(request.numbers[0]);
        else if (request.kind == EXT_HOST_GO_SERVE)
            serves();
        else
            answer(1, "");
    }
    ext_host_inbox_fini(&inbox);
    return 0;
}

/* ---- memory that is short ---- */

static _Thread_local int allocations_left; /* the next one fails when it is 1; 0: none does */

static bool fails(void) {
    return allocations_left > 0 && --allocations_left == 0;
}

void *__wrap_malloc(size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

/* ---- the kind ---- */

static struct {
    pthread_mutex_t lock;
    pid_t loaded_by;               /* the latest */
    char loaded[7];                /* the beginning of what it was given */
    _Atomic int loads_fail;        /* so many of those that come */
    _Atomic int allocations_after; /* in a process that is prepared: the one that fails */
} it = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int load(const void *arg, int file, struct ext_host *host, int64_t deadline_ns,
                uint64_t *abilities, char *cause) {
    pthread_mutex_lock(&it.lock);
    it.loaded_by = ext_host_pid(host);
    memset(it.loaded, 0, sizeof it.loaded);
    CHECK(pread(file, it.loaded, sizeof it.loaded - 1, 0) > 0);
    pthread_mutex_unlock(&it.lock);
    allocations_left = it.allocations_after;
    if (it.loads_fail > 0) {
        it.loads_fail--;
        snprintf(cause, SUPERVISOR_WHY_MAX, "no such library");
        return -ENOEXEC;
    }
    return 0;
}

static void request_of(const struct remote_note *note, struct ext_host_message *request) {
    request->kind = EXT_HOST_GO_NEW;
    request->numbers[0] = note->id;
}

static pid_t loaded_by(void) {
    pthread_mutex_lock(&it.lock);
    pid_t pid = it.loaded_by;
    pthread_mutex_unlock(&it.lock);
    return pid;
}

static const struct remote_library_kind kind = {
    .log = &log_fake,
    .stat_prefix = "fake.library",
    .when_stuck = EXT_HOST_KILL,
    .serve = EXT_HOST_GO_SERVE,
    .drop = EXT_HOST_GO_DROP,
    .stop = EXT_HOST_GO_STOP,
    .load = load,
    .request_of = request_of,
};

/* ---- the proxy ---- */

static struct remote_library *library;

/* As long as the header of a library at least: less is half a file. */
#define LONG " --------------------------------------------------------------"

static void put(const char *text) {
    static unsigned number;
    char part[80];
    snprintf(part, sizeof part, "%s.%u", path, number++);
    int fd = open(part, O_CREAT | O_WRONLY, 0600);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(close(fd) == 0);
    CHECK(rename(part, path) == 0);
}

static char why[SUPERVISOR_WHY_MAX]; /* it did not start */
static const struct cfg_rollout *by_degrees;

static void start(void *arg) {
    char said[SANDBOX_SAID_MAX];
    struct sandbox_options sandbox;
    CHECK(sandbox_options_from(NULL, span_of(path), &sandbox, said));
    const struct remote_library_options options = {
        .id = "lib",
        .path = path,
        .kind = &kind,
        .seats = 1,
        .start_timeout_ns = 60 * NS_PER_S,
        .callback_timeout_ns = RT_FOREVER,
        .restarts = restart_settings_default,
        .sandbox = &sandbox,
        .rollout = by_degrees,
    };
    library = remote_library_new(&options, why);
}

static void begin(void) {
    memset(shared, 0, sizeof *shared); /* of the story before */
    put("#! one" LONG);
    CHECK(blocking_call(start, NULL) == 0);
    CHECK(library);
    STORY_AWAIT(remote_library_lane(library));
}

static void end_all(void *arg) {
    supervisor_end_all();
}

static void finish(void) {
    CHECK(blocking_call(end_all, NULL) == 0);
    rt_stop(0);
}

struct making {
    uint64_t parent, child, id;
    char said[REMOTE_SAID_MAX];
    _Atomic bool done;
};

static void make(void *arg) {
    struct making *making = arg;
    const struct remote_config config = {.name = SPAN_LIT("plugin"), .bytes = SPAN_LIT("bytes")};
    making->id = making->parent
                     ? remote_library_merge(library, config.name, making->parent, making->child)
                     : remote_library_configure(library, &config, making->said);
}

static void make_it(void *arg) {
    struct making *making = arg;
    CHECK(blocking_call(make, making) == 0);
    making->done = true;
}

static uint64_t made(void) {
    struct making making = {0};
    make_it(&making);
    return making.id;
}

static uint64_t merged(uint64_t parent) {
    struct making making = {.parent = parent, .child = parent};
    make_it(&making);
    return making.id;
}

static struct remote_library_view look(void) {
    struct remote_library_view view;
    remote_library_look(library, &view);
    return view;
}

static _Atomic int reloaded; /* what came of it, and one more */

static void reload(void *arg) {
    char *words;
    reloaded = 1 + (int)remote_library_reload(library, &words);
    free(words);
}

static void drop(void *id) {
    remote_library_drop(library, *(uint64_t *)id);
}

/* A new file, and its process, which has been told all that there is and does not serve yet, as long as shared->holds. */
static pid_t prepare_another(void) {
    shared->holds = true;
    put("#! two" LONG);
    CHECK(go_here("reload", reload, NULL) == 0);
    STORY_AWAIT(shared->is_held);
    return loaded_by();
}

/* ---- stories ---- */

static void told_story(void *arg) {
    begin();
    pid_t first = look().status.pid;
    uint64_t one = made(), two = merged(one), gone = made();
    CHECK(was_told(first, one) && was_told(first, two) && was_told(first, gone));
    CHECK(blocking_call(drop, &gone) == 0);
    put("#! two" LONG);
    reload(NULL);
    CHECK(reloaded == 1 + GO_RENEW_DONE);
    pid_t second = loaded_by();
    CHECK(second != first);
    CHECK(was_told(second, one) && was_told(second, two) && !was_told(second, gone));
    CHECK(strcmp(it.loaded, "#! two") == 0);
    CHECK(look().reloads == 1);
    finish();
}
static void the_next_process_is_told_everything(void **state) {
    story(2, told_story);
}

/* The first request of a route has its configuration merged just when the new process has been told all that there was, and does
 * not serve yet. Had it not heard of it, it would end over that request. */
static void meanwhile_story(void *arg) {
    begin();
    pid_t first = look().status.pid;
    uint64_t one = made();
    pid_t second = prepare_another();
    CHECK(was_told(second, one));
    uint64_t two = merged(one);
    CHECK(was_told(first, two) && !was_told(second, two));
    shared->holds = false;
    STORY_AWAIT(reloaded);
    CHECK(reloaded == 1 + GO_RENEW_DONE);
    CHECK(was_told(second, two));
    finish();
}
static void what_is_made_while_a_process_is_prepared_is_told_to_it(void **state) {
    story(2, meanwhile_story);
}

/* And while it is told that: then whoever makes one more waits until it has heard of this one, too. */
static void still_later_story(void *arg) {
    begin();
    pid_t first = look().status.pid;
    uint64_t one = made();
    pid_t second = prepare_another();
    uint64_t two = merged(one);
    shared->slow = two;
    shared->holds = false;
    STORY_AWAIT(was_told(second, two)); /* and it has not returned yet */
    struct making three = {.parent = one, .child = two};
    CHECK(go_here("make", make_it, &three) == 0);
    STORY_AWAIT(was_told(first, two + 1));
    CHECK(!three.done && !reloaded);
    shared->slow = 0;
    STORY_AWAIT(three.done && reloaded);
    CHECK(three.id == two + 1);
    CHECK(was_told(second, three.id));
    finish();
}
static void what_is_made_while_it_takes_over_is_told_to_both(void **state) {
    story(2, still_later_story);
}

/* Whatever has become of the file by then. */
static void restart_story(void *arg) {
    begin();
    pid_t first = look().status.pid;
    uint64_t one = made();
    int fd = open(path, O_WRONLY | O_TRUNC);
    CHECK(fd >= 0 && write(fd, "half", 4) == 4 && close(fd) == 0);
    CHECK(kill(first, SIGKILL) == 0);
    STORY_AWAIT(look().status.restarts == 1);
    pid_t second = loaded_by();
    CHECK(second != first);
    CHECK(was_told(second, one));
    CHECK(strcmp(it.loaded, "#! one") == 0);
    finish();
}
static void a_process_that_is_started_again_loads_what_the_first_one_did(void **state) {
    story(2, restart_story);
}

/* Two make something while the process is dead: they wait for the next one, and each has its own told. */
static void dead_story(void *arg) {
    begin();
    struct making one = {0}, two = {0};
    shared->holds = true;
    CHECK(kill(look().status.pid, SIGKILL) == 0);
    CHECK(go_here("make", make_it, &one) == 0); /* while it dies: it may not be known to be dead */
    STORY_AWAIT(shared->is_held);
    CHECK(go_here("make", make_it, &two) == 0);
    CHECK(!one.done);
    shared->holds = false;
    STORY_AWAIT(one.done && two.done);
    pid_t next = look().status.pid;
    CHECK(one.id && two.id && one.id != two.id);
    CHECK(was_told(next, one.id) && was_told(next, two.id));
    CHECK(look().status.crashes == 1);
    finish();
}
static void what_is_made_while_no_process_is_up_waits_for_the_next_one(void **state) {
    story(2, dead_story);
}

/* The circuit opens while they wait, and whoever comes later does not. */
static void dead_for_good_story(void *arg) {
    begin();
    it.loads_fail = INT_MAX;
    CHECK(kill(look().status.pid, SIGKILL) == 0);
    CHECK(made() == 0);
    CHECK(look().status.state == SUPERVISOR_DOWN);
    CHECK(made() == 0);
    it.loads_fail = 0;
    finish();
}
static void what_is_made_while_none_will_be_up_is_refused(void **state) {
    story(2, dead_for_good_story);
}

/* While it reads one: so it is not known what it would have said. */
static void killed_story(void *arg) {
    begin();
    pid_t first = look().status.pid;
    struct making making = {0};
    shared->slow = made() + 1;
    CHECK(go_here("make", make_it, &making) == 0);
    STORY_AWAIT(was_told(first, shared->slow));
    CHECK(kill(first, SIGKILL) == 0);
    STORY_AWAIT(making.done);
    CHECK(making.id && was_told(look().status.pid, making.id));
    finish();
}
static void what_a_process_is_killed_over_is_told_to_the_next_one(void **state) {
    story(2, killed_story);
}

/* It would do the same to the next one, with all of its requests. */
static void deadly_story(void *arg) {
    begin();
    struct making making = {0};
    shared->deadly = made() + 1;
    make_it(&making);
    CHECK(making.id == 0);
    CHECK(strstr(making.said, "ended over it"));
    STORY_AWAIT(look().status.restarts == 1);
    CHECK(look().status.crashes == 1);
    finish();
}
static void what_a_process_ends_over_is_told_to_no_other(void **state) {
    story(2, deadly_story);
}

/* Copies of files, and what is shared with processes. */
static unsigned count_memory_files(void) {
    unsigned count = 0;
    char link[300], target[64];
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder);
    for (const struct dirent *entry; (entry = readdir(folder));) {
        snprintf(link, sizeof link, "/proc/self/fd/%s", entry->d_name);
        ssize_t len = readlink(link, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        count += strstr(target, "memfd:") != NULL;
    }
    CHECK(closedir(folder) == 0);
    return count;
}

/* Nothing is held but what the one process has that serves. */
static bool is_at_rest(void) {
    return look().status.draining == 0 && count_memory_files() == 2;
}

static void refused_story(void *arg) {
    begin();
    pid_t first = look().status.pid;
    uint64_t one = made();
    const struct remote_lane *lane = remote_library_lane(library);
    shared->refused = one;
    CHECK(is_at_rest());
    put("#! two" LONG);
    reload(NULL);
    CHECK(reloaded == 1 + GO_RENEW_FAILED);
    CHECK(look().failed_reloads == 1 && look().status.pid == first);
    CHECK(remote_library_lane(library) == lane);
    STORY_AWAIT(is_at_rest());
    shared->refused = 0;
    reload(NULL);
    CHECK(reloaded == 1 + GO_RENEW_DONE);
    STORY_AWAIT(is_at_rest()); /* the old one has gone */
    finish();
}
static void a_process_that_refuses_what_was_good_changes_nothing(void **state) {
    story(2, refused_story);
}

/* Each allocation of a process's preparation fails once, until there are no more. */
static void short_story(void *arg) {
    begin();
    uint64_t one = made();
    unsigned failed = 0;
    for (it.allocations_after = 1;; it.allocations_after++) {
        CHECK(it.allocations_after < 100);
        pid_t before = look().status.pid;
        put("#! two" LONG);
        reload(NULL);
        if (reloaded == 1 + GO_RENEW_DONE)
            break;
        CHECK(look().failed_reloads == ++failed);
        CHECK(look().status.pid == before && look().status.state == SUPERVISOR_UP);
        STORY_AWAIT(is_at_rest());
    }
    CHECK(failed > 0);
    CHECK(was_told(look().status.pid, one));
    finish();
}
static void without_memory_the_old_one_goes_on(void **state) {
    story(2, short_story);
}

/* Its first process fails, the second comes up while it is given up: what that has told the Ps is for nobody. */
static void given_up_story(void *arg) {
    put("#! one" LONG);
    for (int i = 0; i < 20; i++) {
        it.loads_fail = 1;
        CHECK(blocking_call(start, NULL) == 0);
        CHECK(!library);
        CHECK(strstr(why, "no such library"));
        STORY_AWAIT(count_memory_files() == 0);
    }
    begin(); /* and then it does */
    finish();
}
static void one_that_does_not_start_is_none(void **state) {
    story(2, given_up_story);
}

static _Atomic bool is_busy, is_promoted;
static _Atomic uint64_t served_by;

/* Its P gets no message meanwhile. */
static void be_busy(void *arg) {
    STORY_AWAIT(remote_library_candidate(library));
    is_busy = true;
    while (!is_promoted)
        ;
    served_by = remote_lane_generation(remote_library_lane(library));
}

static void promote(void *arg) {
    CHECK(rollout_conclude(remote_library_rollout(library), true, "by hand"));
    is_promoted = true;
}

/* Else a client that the new version has served would be served by the old one once more. */
static void promoted_story(void *arg) {
    static uint32_t half = 50;
    static const struct cfg_rollout rollout = {.steps = &half, .steps_count = 1};
    by_degrees = &rollout;
    begin();
    uint64_t old = look().status.generation;
    put("#! two" LONG);
    reload(NULL);
    CHECK(reloaded == 1 + GO_RENEW_DONE && look().status.generation == old);
    CHECK(go_on(1, "busy", be_busy, NULL) == 0);
    STORY_AWAIT(is_busy);
    CHECK(blocking_call(promote, NULL) == 0);
    STORY_AWAIT(served_by);
    CHECK(served_by > old && served_by == look().status.generation);
    finish();
}
static void what_serves_all_does_so_before_each_processor_has_heard_of_it(void **state) {
    story(2, promoted_story);
    by_degrees = NULL;
}

int main(int argc, char **argv) {
    if (ext_host_is_asked(argc, argv))
        return fake_host();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_process_is_told_everything),
        cmocka_unit_test(what_is_made_while_a_process_is_prepared_is_told_to_it),
        cmocka_unit_test(what_is_made_while_it_takes_over_is_told_to_both),
        cmocka_unit_test(a_process_that_is_started_again_loads_what_the_first_one_did),
        cmocka_unit_test(what_is_made_while_no_process_is_up_waits_for_the_next_one),
        cmocka_unit_test(what_is_made_while_none_will_be_up_is_refused),
        cmocka_unit_test(what_a_process_is_killed_over_is_told_to_the_next_one),
        cmocka_unit_test(what_a_process_ends_over_is_told_to_no_other),
        cmocka_unit_test(a_process_that_refuses_what_was_good_changes_nothing),
        cmocka_unit_test(without_memory_the_old_one_goes_on),
        cmocka_unit_test(one_that_does_not_start_is_none),
        cmocka_unit_test(what_serves_all_does_so_before_each_processor_has_heard_of_it),
    };
    char name[64];
    int err = stats_init(2) ? -1 : make_root(NULL);
    snprintf(path, sizeof path, "%s/library", root);
    snprintf(name, sizeof name, "%s/shared", root);
    share(name);
    setenv("TEST_SHARED", name, 1);
    err = err ? err : cmocka_run_group_tests(tests, NULL, NULL);
    (void)remove_root(NULL);
    return err;
}
