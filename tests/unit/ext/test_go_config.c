/* go_config.c: what a parser receives, and which merges happen. */
#include <errno.h>
#include <sched.h>

#include "config/golang_config.h"
#include "fake_exchange.h"
#include "fake_go.h"

static char received[128];
static size_t received_len;
static uint64_t next_id = 10;
static bool refuses;

static uint64_t parses(struct go_http_config *config) {
    CHECK(config->plugin_name_len == 4);
    CHECK(config->is_route_config == 1);
    CHECK(config->concurrency == fake_go.library.concurrency);
    received_len = config->config_len;
    CHECK(received_len < sizeof(received));
    memcpy(received, (void *)(uintptr_t)config->config_ptr, received_len);
    if (refuses) {
        static char text[] = "not like this";
        envoyGoFilterLog(LOG_ERROR, text, sizeof(text) - 1);
        return 0;
    }
    return next_id++;
}

static void *route_config(const struct cfg_golang_plugin_entry *entry) {
    struct cfg_golang_plugin_entry entries[2] = {{.key = SPAN_LIT("other")}, *entry};
    struct cfg_golang_per_route cfg = {.plugins_config = entries, .plugins_config_count = 2};
    struct cfg_any any = {.message = &cfg};
    struct cfg_problems problems = {0};
    void *out = NULL;
    int err = go_route_config_new(&any, &fake_go.filter, &problems, &out);
    if (refuses) {
        CHECK(err == -EINVAL && problems.count == 1);
        CHECK(strstr(problems.items[0].text, "not like this"));
    } else {
        CHECK(err == 0 && problems.count == 0);
    }
    cfg_problems_fini(&problems);
    return out;
}

static void config_story(void *arg) {
    fake_go_init();
    fake_go.library.fn.new_config = parses;
    struct cfg_golang_plugin_entry entry = {
        .key = SPAN_LIT("fake"),
        .value = {.config = {.type_url = SPAN_LIT("t/T"), .value = SPAN_LIT("\x08\x01")}},
    };
    void *vhost = route_config(&entry);
    CHECK(received_len == 9 && memcmp(received, "\x0a\x03t/T\x12\x02\x08\x01", 9) == 0);
    entry.value.disabled = true; /* an empty message, as on Envoy */
    void *route = route_config(&entry);
    CHECK(received_len == 0);
    entry.key = SPAN_LIT("stranger");
    void *silent = route_config(&entry);
    refuses = true;
    entry.key = SPAN_LIT("fake");
    CHECK(route_config(&entry) == NULL);

    const void *levels[] = {vhost, silent, route};
    CHECK(go_config_for(&fake_go.config, levels, 0) == 7);
    for (int i = 0; i < 3; i++) /* (7,10), then (that,11); each once */
        CHECK(go_config_for(&fake_go.config, levels, 3) == 7010ull * 1000 + 11);
    CHECK(go_config_for(&fake_go.config, levels, 2) == 7010);
    CHECK(go_config_for(&fake_go.config, levels + 1, 2) == 7011);
    CHECK(fake_go.merges == 3);

    go_route_config_free(route); /* its two merges and itself */
    CHECK(fake_go.destroyed_ids == 3);
    go_route_config_free(vhost);
    go_route_config_free(silent);
    CHECK(fake_go.destroyed_ids == 5);
    rt_stop(0);
}

static void levels_are_parsed_and_merged_once(void **state) {
    story(1, config_story);
}

enum { ASKING = 4 };
static _Atomic int asking, answered;
static const void *shared_levels[1];

/* Takes as long as it takes for everybody to ask. */
static uint64_t slow_merge(uint64_t name, uint64_t len, uint64_t parent, uint64_t child) {
    fake_go.merges++;
    while (asking < ASKING)
        sched_yield();
    return parent * 1000 + child;
}

static void asks(void *arg) {
    asking++;
    CHECK(go_config_for(&fake_go.config, shared_levels, 1) == 7000 + next_id - 1);
    if (++answered == ASKING) {
        CHECK(fake_go.merges == 1);
        CHECK(stat_value(fake_go.library.stats.merges) == 1);
        rt_stop(0);
    }
}

static void merge_story(void *arg) {
    fake_go_init();
    fake_go.library.fn.new_config = parses;
    fake_go.library.fn.merge_config = slow_merge;
    refuses = false;
    struct cfg_golang_plugin_entry entry = {.key = SPAN_LIT("fake")};
    shared_levels[0] = route_config(&entry);
    for (int i = 0; i < ASKING; i++)
        CHECK(go("asks", asks, NULL) == 0);
}

static void those_who_ask_at_once_share_a_merge(void **state) {
    story(ASKING, merge_story);
}

static void a_library_that_is_none_is_refused(void **state) {
    char why[GO_LIBRARY_WHY_MAX];
    assert_null(go_library_get(SPAN_LIT("id"), SPAN_LIT("no-such-file.so"), NULL, why));
    assert_non_null(strstr(why, "cannot load ./no-such-file.so: No such file"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_parsed_and_merged_once),
        cmocka_unit_test(those_who_ask_at_once_share_a_merge),
        cmocka_unit_test(a_library_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, fake_stats_init, NULL);
}
