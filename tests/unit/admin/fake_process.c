#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fake_process.h"

#define SINCE_WALL_NS 1767268800000000000 /* 2026-01-01T12:00:00 */

struct fake_process fake;

void __wrap_supervisor_each(void (*fn)(void *arg, const struct supervisor_status *status),
                            void *arg);
void __wrap_supervisor_each(void (*fn)(void *arg, const struct supervisor_status *status),
                            void *arg) {
    for (size_t i = 0; i < fake.library_count; i++)
        fn(arg, &fake.libraries[i]);
}

static enum admin_state state_now(void) {
    return fake.state;
}

static struct config *config_now(int64_t *since_wall_ns) {
    *since_wall_ns = SINCE_WALL_NS;
    return fake.config ? config_ref(fake.config) : NULL;
}

static struct resources *resources_now(void) {
    struct cfg_problems problems = {0};
    struct resources *resources = resources_of_bootstrap(fake.config, NULL, &problems);
    assert_int_equal(problems.count, 0);
    return resources;
}

static struct address address(const char *host, uint16_t port) {
    struct address out;
    assert_true(address_parse(span_of(host), port, &out));
    return out;
}

static void each_listener(admin_listener_fn fn, void *arg) {
    const struct address main[] = {address("127.0.0.1", 10000), address("::1", 10002)};
    const struct address odd = address("::1", 10001);
    const struct admin_listener listeners[] = {
        {SPAN_LIT("main"), main, 2, 1 << 20, 80 << 10},
        {SPAN_LIT("odd\"name"), &odd, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof listeners / sizeof *listeners; i++)
        fn(&listeners[i], arg);
}

static void each_pressure(overload_fn fn, void *arg) {
    const struct overload_reading readings[] = {
        {"envoy.resource_monitors.injected_resource", 70, 0},
        {"sluice.memory_limit", 104, 512 << 20},
    };
    for (size_t i = 0; i < sizeof readings / sizeof *readings; i++)
        fn(&readings[i], arg);
}

static void each_cluster(admin_cluster_fn fn, void *arg) {
    const struct admin_thresholds usual = {1024, 1024, 1024, 3};
    const struct admin_host hosts[] = {
        {.address = address("127.0.0.1", 8080),
         .weight = 1,
         .healthy = true,
         .cx_total = 2,
         .cx_active = 1,
         .rq_total = 5,
         .rq_success = 4,
         .rq_error = 1},
        {.address = address("::1", 8081), .hostname = SPAN_LIT("localhost"), .weight = 3},
    };
    const struct admin_cluster clusters[] = {
        {SPAN_LIT("origin"), {10, 20, 30, 4}, usual, hosts, 2},
        {SPAN_LIT("empty"), usual, usual, NULL, 0},
    };
    for (size_t i = 0; i < sizeof clusters / sizeof *clusters; i++)
        fn(&clusters[i], arg);
}

static void quit(void) {
    fake.quits++;
}
static void drain_listeners(const struct admin_drain *how) {
    fake.drains++;
    fake.last_drain = *how;
}
static void fail_healthcheck(bool failing) {
    fake.failing = failing;
}
static bool reload_config(char **said) {
    fake.reloads++;
    *said = strdup(fake.refuses ? "c.yaml:1: wrong\n" : "version 2 serves: nothing changed\n");
    return !fake.refuses;
}

static void each_config(admin_config_fn fn, void *arg) {
    fn(&(struct admin_config){.version = 1,
                              .at_wall_ns = SINCE_WALL_NS,
                              .origin = SPAN_LIT("start"),
                              .said = SPAN_LIT("serves since the start")},
       arg);
}

static void reopen_logs(void) {
    fake.reopens++;
}

void fake_process_install(void) {
    static const struct admin_command_line line = {.concurrency = 2,
                                                   .config_path = SPAN_INIT("a\\b.yaml"),
                                                   .log_level = SPAN_INIT("info"),
                                                   .drain_time_s = 600};
    static struct admin_hooks hooks = {.command_line = &line,
                                       .state = state_now,
                                       .config = config_now,
                                       .resources = resources_now,
                                       .each_listener = each_listener,
                                       .each_cluster = each_cluster,
                                       .each_pressure = each_pressure,
                                       .quit = quit,
                                       .drain_listeners = drain_listeners,
                                       .fail_healthcheck = fail_healthcheck,
                                       .reopen_logs = reopen_logs,
                                       .reload_config = reload_config,
                                       .each_config = each_config};
    hooks.started_ns = clock_mono_ns() - 90 * NS_PER_S;
    fake = (struct fake_process){0};
    admin_set_hooks(&hooks);
}

struct page ask(const char *method, const char *target) {
    struct page page;
    admin_dispatch(span_of(method), span_of(target), &page);
    assert_false(page.body.failed);
    text_putc(&page.body, '\0');
    return page;
}

void assert_get(const char *target, unsigned status, const char *body) {
    struct page page = ask("GET", target);
    assert_int_equal(page.status, status);
    assert_string_equal(page.body.data, body);
    page_fini(&page);
}
