/* zoo: a plug-in that does what a request asks for: x-do in its request function, x-then in its response function,
 * x-periodic, x-log and x-destroy there. Most of what it can do is wrong. */
#include <stdlib.h>
#include <unistd.h>

#include <sluice/filter.h>

struct config {
    char *greeting;
    struct sluice_format *about;
    struct sluice_stat *requests, *running, *took, *level;
    unsigned served[256]; /* by worker */
    bool is_merged;
};

struct zoo {
    struct config *config;
    struct sluice_exchange *x;
    struct sluice_span then;
    uint64_t bytes;
    unsigned runs;
    unsigned looks; /* periodic logs */
    char *copy;
};

static volatile int zero;
static int *volatile nowhere;

/* ---- Wrong in itself ---- */

__attribute__((noinline)) static int write_nowhere(void) {
    *nowhere = 1;
    return 2;
}

__attribute__((noinline)) static int dig(int depth) {
    volatile char hole[256];
    hole[0] = (char)depth;
    return zero ? 0 : dig(depth + 1) + hole[0];
}

static int compare_nowhere(const void *a, const void *b) {
    return *nowhere + *(const int *)a - *(const int *)b;
}

__attribute__((noinline)) static void misbehave(struct sluice_exchange *x, struct sluice_span how) {
    if (sluice_eq(how, SLUICE_LIT("null")))
        zero += write_nowhere() - 2;
    if (sluice_eq(how, SLUICE_LIT("divide")))
        zero = 1000 / zero;
    if (sluice_eq(how, SLUICE_LIT("overflow")))
        zero = dig(1);
    if (sluice_eq(how, SLUICE_LIT("trap"))) {
#ifdef __aarch64__ /* where __builtin_trap is a breakpoint, which is a debugger's */
        __asm__ volatile(".inst 0");
#else
        __builtin_trap();
#endif
    }
    /* Here and below somebody else's code is in the middle of something. */
    if (sluice_eq(how, SLUICE_LIT("host")))
        (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-a"), sluice_bytes((char *)8, 8));
    if (sluice_eq(how, SLUICE_LIT("libc")))
        zero += memchr(nowhere, (int)how.len, 8 + how.len) != NULL;
    if (sluice_eq(how, SLUICE_LIT("callback"))) {
        int numbers[] = {3, 1, 2};
        qsort(numbers, 3, sizeof *numbers, compare_nowhere);
        zero = 0 * numbers[0];
    }
    if (sluice_eq(how, SLUICE_LIT("jump")))
        ((void (*)(void))(uintptr_t)zero)();
}

static bool asked(struct sluice_exchange *x, const char *header, const char *what) {
    struct sluice_span value;
    return sluice_header(x, SLUICE_REQUEST, sluice_text(header), &value) &&
           sluice_eq(value, sluice_text(what));
}

/* ---- Bodies ---- */

static void shout(char *to, struct sluice_span from) {
    for (size_t i = 0; i < from.len; i++)
        to[i] = (char)(from.ptr[i] >= 'a' && from.ptr[i] <= 'z' ? from.ptr[i] - 32 : from.ptr[i]);
}

static int shout_next(void *arg, struct sluice_body *body, struct sluice_span *out) {
    struct zoo *zoo = arg;
    struct sluice_span run;
    int rc = sluice_body_next(body, &run);
    if (rc != 0 || run.len == 0) {
        *out = SLUICE_LIT("");
        return rc;
    }
    free(zoo->copy);
    zoo->copy = malloc(run.len);
    if (!zoo->copy)
        return -12;
    shout(zoo->copy, run);
    *out = sluice_bytes(zoo->copy, run.len);
    if (zoo->runs++ == 1 && sluice_eq(zoo->then, SLUICE_LIT("shout-fault"))) {
        static char *volatile lost; /* nobody frees it after a fault */
        lost = zoo->copy;
        misbehave(zoo->x, SLUICE_LIT("null"));
        (void)lost;
    }
    return 0;
}

static void see(void *arg, struct sluice_span run) {
    struct zoo *zoo = arg;
    zoo->bytes += run.len;
    if (zoo->runs++ == 1 && sluice_eq(zoo->then, SLUICE_LIT("observe-fault")))
        misbehave(zoo->x, SLUICE_LIT("null"));
}

static void seen(void *arg, int error) {
    struct zoo *zoo = arg;
    if (error == 0)
        (void)sluice_metadata_set_number(zoo->x, SLUICE_LIT("zoo"), SLUICE_LIT("bytes"),
                                         (double)zoo->bytes);
}

static int read_all(struct sluice_exchange *x, enum sluice_part part, size_t limit) {
    struct sluice_span body;
    int rc = sluice_body_read(x, part, limit, &body);
    if (rc == -90) /* EMSGSIZE */
        return sluice_header_set(x, part, SLUICE_LIT("x-too-long"), SLUICE_LIT("yes"));
    char *copy = rc == 0 ? sluice_alloc(x, body.len + 1) : NULL;
    if (!copy)
        return rc;
    shout(copy, body);
    return sluice_body_set(x, part, sluice_bytes(copy, body.len));
}

/* ---- Waiting ---- */

struct slow {
    useconds_t us;
    bool faults;
    int64_t slept_ns;
};

static void block(void *arg) {
    struct slow *slow = arg;
    int64_t begin_ns = sluice_now_ns();
    usleep(slow->us);
    slow->slept_ns = sluice_now_ns() - begin_ns;
    if (slow->faults)
        misbehave(NULL, SLUICE_LIT("null"));
}

static void do_block(struct sluice_exchange *x, bool faults) {
    struct slow slow = {.us = 2000, .faults = faults};
    int rc = sluice_blocking_call(x, block, &slow);
    if (rc == 0)
        (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-blocked"),
                                slow.slept_ns >= 2000000 ? SLUICE_LIT("2ms") : SLUICE_LIT("less"));
}

static void wait_for_a_look(struct sluice_exchange *x, const struct zoo *zoo) {
    unsigned seen = zoo->looks;
    while (zoo->looks == seen && sluice_sleep(x, 1000000) == 0)
        ;
}

/* ---- What is known and noted ---- */

static void say(struct sluice_exchange *x, const char *name, struct sluice_span value) {
    (void)sluice_header_set(x, SLUICE_REQUEST, sluice_text(name), value);
}

static void say_number(struct sluice_exchange *x, const char *name, long long number) {
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", number);
    say(x, name, sluice_bytes(text, (size_t)len));
}

/* The value, or -errno. */
static void say_result(struct sluice_exchange *x, const char *name, int rc,
                       struct sluice_span value) {
    if (rc == 0)
        say(x, name, value);
    else
        say_number(x, name, rc);
}

static struct sluice_span asked_for(struct sluice_exchange *x, const char *header) {
    struct sluice_span value = SLUICE_LIT("");
    (void)sluice_header(x, SLUICE_REQUEST, sluice_text(header), &value);
    return value;
}

/* {key, text, flags} to be set; then what is there. */
static void do_state(struct sluice_exchange *x) {
    struct sluice_span key = asked_for(x, "x-key"), text;
    struct sluice_span flags = asked_for(x, "x-flags"), to = asked_for(x, "x-text");
    if (to.len)
        say_number(x, "x-rc",
                   sluice_filter_state_set(x, key, to, (unsigned)strtoul(flags.ptr, NULL, 10)));
    int rc = sluice_filter_state(x, key, &text);
    say_result(x, "x-is", rc, text);
}

static void do_json(struct sluice_exchange *x) {
    struct sluice_span key = asked_for(x, "x-key"), json;
    const struct sluice_span zoo = SLUICE_LIT("zoo");
    struct sluice_span to = asked_for(x, "x-json");
    say_number(x, "x-rc", sluice_metadata_set_json(x, zoo, SLUICE_LIT("value"), to));
    int rc = sluice_metadata_json(x, zoo, key, &json);
    say_result(x, "x-is", rc, json);
}

static void do_attribute(struct sluice_exchange *x) {
    struct sluice_span text;
    int rc = sluice_attribute(x, asked_for(x, "x-name"), &text);
    say_result(x, "x-is", rc, text);
}

static void do_level(struct sluice_exchange *x, const struct config *config) {
    sluice_gauge_set(config->level, 7);
    sluice_gauge_set(config->level, 5);
    sluice_gauge_set(config->requests, 0); /* is no gauge: nothing happens */
    say_number(x, "x-level", sluice_stat_value(config->level));
    say_number(x, "x-requests", sluice_stat_value(config->requests));
}

/* ---- The filter ---- */

/* Where there is no exchange yet that it could be for: asks for all there is, and then does what it is told. */
static void create_probed(struct sluice_exchange *x, const char *how) {
    struct sluice_span text;
    const struct sluice_span zoo = SLUICE_LIT("zoo"), key = SLUICE_LIT("key");
    bool is_all_there = asked(x, ":authority", "probe.invalid") &&
                        sluice_worker(x) < sluice_workers() &&
                        sluice_attribute(x, SLUICE_LIT("request.path"), &text) == 0 &&
                        sluice_attribute(x, SLUICE_LIT("source.address"), &text) == -2 &&
                        sluice_merged_config(x) && sluice_route_configs(x, NULL, 0) == 0 &&
                        sluice_metadata_set_json(x, zoo, key, SLUICE_LIT("[1]")) == 0 &&
                        sluice_filter_state_set(x, key, key, 0) == 0 && sluice_sleep(x, 1) == -22;
    misbehave(x, sluice_text(how));
    if (strcmp(how, "exit") == 0)
        exit(is_all_there ? 3 : 4);
}

static void *create(struct sluice_exchange *x, void *config) {
    struct zoo *zoo = sluice_alloc(x, sizeof *zoo);
    if (!zoo)
        return NULL;
    zoo->config = config;
    zoo->x = x;
    zoo->config->served[sluice_worker(x) % 256]++;
    sluice_count(x, zoo->config->requests, 1);
    sluice_count(x, zoo->config->running, 1);
    if (asked(x, "x-create", "null"))
        misbehave(x, SLUICE_LIT("null"));
    if (strncmp(zoo->config->greeting, "create ", 7) == 0)
        create_probed(x, zoo->config->greeting + 7);
    return zoo;
}

static void deep(struct sluice_exchange *x) {
    volatile char room[100 * 1024];
    for (size_t i = 0; i < sizeof room; i += 512)
        room[i] = (char)i;
    (void)sluice_sleep(x, 1000000);
    (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-deep"),
                            room[512] == 0 ? SLUICE_LIT("yes") : SLUICE_LIT("no"));
}

static void request(struct sluice_exchange *x, void *self) {
    struct zoo *zoo = self;
    struct sluice_span how = {0, 0}, then;
    struct sluice_field field;
    (void)sluice_header(x, SLUICE_REQUEST, SLUICE_LIT("x-do"), &how);
    if (sluice_header(x, SLUICE_REQUEST, SLUICE_LIT("x-then"), &then))
        zoo->then = then;
    (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-greeting"),
                            sluice_text(zoo->config->greeting));
    void *levels[4];
    size_t count = sluice_route_configs(x, levels, 4);
    if (count)
        (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-route"),
                                sluice_text(levels[count - 1]));
    misbehave(x, how);
    if (sluice_eq(how, SLUICE_LIT("park-null"))) {
        for (int i = 0; i < 3; i++)
            (void)sluice_sleep(x, 1000000);
        misbehave(x, SLUICE_LIT("null"));
    }
    if (sluice_eq(how, SLUICE_LIT("reply"))) {
        static const int aborted = 10;
        struct sluice_field fields[] = {{SLUICE_LIT("x-by"), SLUICE_LIT("zoo")}};
        struct sluice_reply reply = {
            sizeof reply, 418, SLUICE_LIT("teapot"), SLUICE_LIT("zoo_reply"), fields, 1, &aborted};
        sluice_reply_with(x, &reply);
        if (sluice_alive(x))
            abort();
    }
    if (sluice_eq(how, SLUICE_LIT("headers"))) {
        struct sluice_span value;
        (void)sluice_header_add(x, SLUICE_REQUEST, SLUICE_LIT("x-many"), SLUICE_LIT("2"));
        if (sluice_header_nth(x, SLUICE_REQUEST, SLUICE_LIT("x-many"), 1, &value))
            (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-second"), value);
        if (sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-bad"), SLUICE_LIT("a\r\nb")) == -22)
            (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-refused"), SLUICE_LIT("yes"));
        (void)sluice_header_remove(x, SLUICE_REQUEST, SLUICE_LIT("x-gone"));
        (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT(":path"), SLUICE_LIT("/other"));
        (void)sluice_clear_route(x);
        size_t n = 0;
        while (sluice_header_at(x, SLUICE_REQUEST, n, &field))
            n++;
        char text[24];
        int len = snprintf(text, sizeof text, "%zu", n);
        (void)sluice_header_set(x, SLUICE_REQUEST, SLUICE_LIT("x-count"),
                                sluice_bytes(text, (size_t)len));
    }
    if (sluice_eq(how, SLUICE_LIT("block")))
        do_block(x, false);
    if (sluice_eq(how, SLUICE_LIT("block-fault")))
        do_block(x, true);
    if (sluice_eq(how, SLUICE_LIT("read")))
        (void)read_all(x, SLUICE_REQUEST, 0);
    if (sluice_eq(how, SLUICE_LIT("read-10")))
        (void)read_all(x, SLUICE_REQUEST, 10);
    if (sluice_eq(how, SLUICE_LIT("shout")))
        (void)sluice_body_transform(x, SLUICE_REQUEST, shout_next, zoo);
    if (sluice_eq(how, SLUICE_LIT("deep")))
        deep(x);
    if (sluice_eq(how, SLUICE_LIT("state")))
        do_state(x);
    if (sluice_eq(how, SLUICE_LIT("json")))
        do_json(x);
    if (sluice_eq(how, SLUICE_LIT("attribute")))
        do_attribute(x);
    if (sluice_eq(how, SLUICE_LIT("level")))
        do_level(x, zoo->config);
    if (sluice_eq(how, SLUICE_LIT("merge-and-wait")))
        (void)sluice_merged_config(x);
    if (sluice_eq(how, SLUICE_LIT("wait")) || sluice_eq(how, SLUICE_LIT("merge-and-wait")))
        wait_for_a_look(x, zoo);
    if (sluice_eq(how, SLUICE_LIT("merged"))) {
        const struct config *merged = sluice_merged_config(x);
        if (merged)
            say(x, "x-merged", sluice_text(merged->greeting));
        else if (sluice_alive(x))
            abort();
    }
}

static void response(struct sluice_exchange *x, void *self) {
    struct zoo *zoo = self;
    (void)sluice_header_set(x, SLUICE_RESPONSE, SLUICE_LIT("x-zoo"), SLUICE_LIT("was here"));
    misbehave(x, zoo->then);
    if (sluice_eq(zoo->then, SLUICE_LIT("wait")))
        wait_for_a_look(x, zoo);
    if (sluice_eq(zoo->then, SLUICE_LIT("read")))
        (void)read_all(x, SLUICE_RESPONSE, 0);
    if (sluice_eq(zoo->then, SLUICE_LIT("shout")) ||
        sluice_eq(zoo->then, SLUICE_LIT("shout-fault")))
        (void)sluice_body_transform(x, SLUICE_RESPONSE, shout_next, zoo);
    if (sluice_eq(zoo->then, SLUICE_LIT("observe")) ||
        sluice_eq(zoo->then, SLUICE_LIT("observe-fault"))) {
        const struct sluice_observer observer = {see, seen, zoo};
        (void)sluice_body_observe(x, SLUICE_RESPONSE, &observer);
    }
}

static void note_moment(struct sluice_exchange *x, const char *text) {
    (void)sluice_metadata_set_text(x, SLUICE_LIT("zoo"), SLUICE_LIT("moment"), sluice_text(text));
}

static void log_start(struct sluice_exchange *x, void *self) {
    (void)self;
    note_moment(x, "start");
    if (asked(x, "x-start", "wait"))
        (void)sluice_sleep(x, 30000000);
    if (asked(x, "x-start", "reply"))
        sluice_reply(x, 403, SLUICE_LIT("no"));
}

/* Whatever waits or changes a message. */
static bool all_is_refused(struct sluice_exchange *x) {
    const struct sluice_span name = SLUICE_LIT("x-periodic"), value = SLUICE_LIT("changed");
    const struct sluice_observer observer = {see, seen, NULL};
    struct slow slow = {.us = 1};
    struct sluice_span body;
    return sluice_header_set(x, SLUICE_REQUEST, name, value) == -22 &&
           sluice_header_add(x, SLUICE_REQUEST, name, value) == -22 &&
           sluice_header_remove(x, SLUICE_REQUEST, name) == 0 && sluice_clear_route(x) == -22 &&
           sluice_body_observe(x, SLUICE_REQUEST, &observer) == -22 &&
           sluice_body_transform(x, SLUICE_RESPONSE, shout_next, NULL) == -22 &&
           sluice_body_read(x, SLUICE_RESPONSE, 0, &body) == -22 &&
           sluice_body_set(x, SLUICE_REQUEST, value) == -22 && sluice_sleep(x, 1) == -22 &&
           sluice_blocking_call(x, block, &slow) == -22;
}

static void log_periodic(struct sluice_exchange *x, void *self) {
    struct zoo *zoo = self;
    struct sluice_span status;
    bool has_response = sluice_header(x, SLUICE_RESPONSE, SLUICE_LIT(":status"), &status);
    bool has_merged = sluice_merged_config(x) != NULL;
    zoo->looks++;
    note_moment(x, !all_is_refused(x) ? "changed"
                   : has_response     ? "response"
                   : has_merged       ? "merged"
                                      : "request");
    if (asked(x, "x-periodic", "null"))
        misbehave(x, SLUICE_LIT("null"));
    if (asked(x, "x-periodic", "reply"))
        sluice_reply(x, 403, SLUICE_LIT("no"));
}

static void log_it(struct sluice_exchange *x, void *self) {
    struct zoo *zoo = self;
    struct sluice_span about = sluice_format(x, zoo->config->about);
    (void)sluice_metadata_set_text(x, SLUICE_LIT("zoo"), SLUICE_LIT("about"), about);
    note_moment(x, "end");
    double bytes;
    struct sluice_span text;
    if (sluice_metadata_number(x, SLUICE_LIT("zoo"), SLUICE_LIT("bytes"), &bytes) &&
        !sluice_metadata_text(x, SLUICE_LIT("zoo"), SLUICE_LIT("bytes"), &text) &&
        sluice_metadata_text(x, SLUICE_LIT("zoo"), SLUICE_LIT("about"), &text))
        sluice_count(x, zoo->config->took, (int64_t)bytes);
    if (asked(x, "x-log", "null"))
        misbehave(x, SLUICE_LIT("null"));
}

static void destroy(struct sluice_exchange *x, void *self) {
    struct zoo *zoo = self;
    free(zoo->copy);
    sluice_count(x, zoo->config->running, -1);
    if (asked(x, "x-destroy", "null") || strcmp(zoo->config->greeting, "destroy null") == 0)
        misbehave(x, SLUICE_LIT("null"));
}

/* ---- Configuration ---- */

static void free_config(void *made) {
    struct config *config = made;
    if (strcmp(config->greeting, "not given back") == 0)
        abort();
    if (!config->is_merged)
        sluice_format_free(config->about);
    free(config->greeting);
    free(config);
}

/* For who counts where it is read. */
static void note_reader(const char *path) {
    FILE *file = fopen(path, "a");
    if (!file)
        return;
    fprintf(file, "%s %u\n", getenv("SLUICE_PROBE") ? "probe" : "real", sluice_workers());
    (void)fclose(file);
}

static int configure(const struct sluice_config *from, void **out) {
    struct sluice_span greeting = SLUICE_LIT("none"), how;
    bool json = false;
    if (sluice_config_text(from, SLUICE_LIT("do"), &how)) {
        misbehave(NULL, how);
        if (sluice_eq(how, SLUICE_LIT("abort")))
            abort();
        if (sluice_eq(how, SLUICE_LIT("exit"))) {
            fputs("zoo: no food left\n", stderr);
            exit(3);
        }
        while (sluice_eq(how, SLUICE_LIT("hang")))
            sleep(1);
        if (sluice_eq(how, SLUICE_LIT("refuse")))
            sluice_config_error(from, SLUICE_LIT("the zoo is closed"));
        return -22;
    }
    (void)sluice_config_text(from, SLUICE_LIT("greeting"), &greeting);
    if (sluice_config_bool(from, SLUICE_LIT("json"), &json) && json)
        greeting = sluice_config_json(from);
    struct config *config = calloc(1, sizeof *config);
    if (!config)
        return -12;
    config->greeting = strndup(greeting.ptr, greeting.len);
    if (getenv("ZOO_READERS"))
        note_reader(getenv("ZOO_READERS"));
    config->about = sluice_format_new(from, SLUICE_LIT("%RESPONSE_CODE%/%REQ(X-A)%"));
    config->requests = sluice_counter(from, SLUICE_LIT("requests"));
    config->running = sluice_gauge(from, SLUICE_LIT("running"));
    config->took = sluice_histogram(from, SLUICE_LIT("took"));
    config->level = sluice_gauge(from, SLUICE_LIT("level"));
    if (!config->greeting || !config->about) {
        free_config(config);
        return -22;
    }
    sluice_log(SLUICE_INFO, "greeting: %s, %u workers", config->greeting, sluice_workers());
    *out = config;
    return 0;
}

static int configure_route(const struct sluice_config *from, void *config, void **out) {
    struct sluice_span greeting = SLUICE_LIT("none");
    double times = 1;
    (void)config;
    (void)sluice_config_text(from, SLUICE_LIT("greeting"), &greeting);
    (void)sluice_config_number(from, SLUICE_LIT("times"), &times);
    char *text = calloc(1, greeting.len * (size_t)times + 1);
    for (size_t i = 0; text && i < (size_t)times; i++)
        memcpy(text + i * greeting.len, greeting.ptr, greeting.len);
    *out = text;
    return text ? 0 : -12;
}

/* The greetings behind each other. */
static void *merge_config(void *parent, void *route_config) {
    const struct config *above = parent;
    bool is_real = !getenv("SLUICE_PROBE");
    if (strcmp(route_config, "null") == 0 || (is_real && strcmp(route_config, "real null") == 0))
        misbehave(NULL, SLUICE_LIT("null"));
    bool is_full = is_real && strcmp(route_config, "real full") == 0;
    struct config *config = is_full ? NULL : malloc(sizeof *config);
    if (!config)
        return NULL;
    *config = *above;
    config->is_merged = true;
    if (asprintf(&config->greeting, "%s+%s", above->greeting, (const char *)route_config) < 0) {
        free(config);
        return NULL;
    }
    return config;
}

#ifndef STACK_BYTES
#define STACK_BYTES 0
#endif
SLUICE_PLUGIN(.name = "zoo", .stack_bytes = STACK_BYTES, .configure = configure,
              .free_config = free_config, .configure_route = configure_route,
              .free_route_config = free, .merge_config = merge_config, .create = create,
              .request = request, .response = response, .log = log_it, .log_start = log_start,
              .log_periodic = log_periodic, .destroy = destroy);
