/* What of one snapshot goes on in the next. */
#include "../rt/rt_story.h"

#include <string.h>

#include "base/stats.h"
#include "config/config.h"
#include "config/network_config.h"
#include "proxy/snapshot.h"
#include "proxy/worker.h"
#include "rt/foreign.h"

/* A filter that is built of the cluster "up", and counts its builds. */
static _Atomic int builds, frees; /* configurations are freed by a thread */

static int build(const struct cfg_any *any, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **config) {
    *config = snapshot_use_cluster(snapshot, SPAN_LIT("up"));
    builds++;
    return 0;
}

static void free_config(void *config) {
    frees++;
}

static enum network_result serve(struct network_stream *n, void *self) {
    return NETWORK_DONE;
}

static const struct network_filter_itab itab = {.name = "echo", .serve = serve};
static const struct network_filter_kind kind = {
    .itab = &itab, .schema = &cfg_schema_echo, .build = build, .free_config = free_config};

#define LISTENER(name, more)                                                                       \
    "{name: " name ", address: {socket_address: {address: 127.0.0.1, port_value: 0}}, " more       \
    "filter_chains: [{filters: [{name: e, typed_config: {\"@type\": "                              \
    "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]}"
#define CONFIG(listeners, clusters)                                                                \
    "static_resources: {listeners: [" listeners "], clusters: [" clusters "]}\n"

struct making {
    const char *yaml;
    const struct snapshot *previous;
    struct snapshot *made;
};

static void make(void *arg) {
    struct making *making = arg;
    struct config *config;
    struct cfg_problems problems = {0};
    int rc = config_load_text(SPAN_LIT("t.yaml"), span_of(making->yaml), span_none(), &config,
                              &problems);
    CHECK(rc == 0);
    const struct resources *former = making->previous ? making->previous->resources : NULL;
    struct resources *resources = resources_of_bootstrap(config, former, &problems);
    making->made = snapshot_build(resources, making->previous, &problems);
    if (!making->made)
        cfg_problems_print(&problems, stderr);
    cfg_problems_fini(&problems);
    resources_unref(resources);
    config_unref(config);
}

static struct snapshot *after(const struct snapshot *previous, const char *yaml) {
    struct making making = {.yaml = yaml, .previous = previous};
    CHECK(blocking_call(make, &making) == 0);
    CHECK(making.made);
    return making.made;
}

static void begin(void) {
    CHECK(stats_init(rt_p_count()) == 0);
    CHECK(workers_init() == 0);
    network_filter_register(&kind);
}

static void what_is_the_same_is_the_same_object(void *arg) {
    begin();
    struct snapshot *first = after(NULL, CONFIG(LISTENER("a", ""), "{name: up}, {name: down}"));
    struct snapshot *second = after(
        first, "# elsewhere in the file\n" CONFIG(LISTENER("b", "") ", " LISTENER("a", ""),
                                                  "{name: down, connect_timeout: 1s}, {name: up}"));
    CHECK(builds == 2); /* a once, b once */
    CHECK(second->listeners[1] == first->listeners[0]);
    CHECK(snapshot_cluster(second, SPAN_LIT("up")) == snapshot_cluster(first, SPAN_LIT("up")));
    CHECK(snapshot_cluster(second, SPAN_LIT("down")) != snapshot_cluster(first, SPAN_LIT("down")));
    CHECK(second->version > first->version);
    snapshot_unref(first);
    STORY_AWAIT(frees == 0); /* a goes on in the second */
    snapshot_unref(second);
    STORY_AWAIT(frees == 2);
    rt_stop(0);
}

static void a_listener_whose_cluster_is_another_is_built_anew(void *arg) {
    begin();
    struct snapshot *first = after(NULL, CONFIG(LISTENER("a", ""), "{name: up}"));
    struct snapshot *second =
        after(first, CONFIG(LISTENER("a", ""), "{name: up, connect_timeout: 1s}"));
    CHECK(builds == 2);
    CHECK(second->listeners[0] != first->listeners[0]);
    struct snapshot *third = after(second, CONFIG(LISTENER("a", ""), ""));
    CHECK(builds == 3); /* it is gone */
    struct snapshot *fourth = after(third, CONFIG(LISTENER("a", ""), "{name: other}"));
    CHECK(builds == 3); /* and still is */
    snapshot_unref(first);
    snapshot_unref(second);
    snapshot_unref(third);
    snapshot_unref(fourth);
    STORY_AWAIT(frees == 3);
    rt_stop(0);
}

static void one_that_changed_is_built_anew(void *arg) {
    begin();
    struct snapshot *first = after(NULL, CONFIG(LISTENER("a", ""), "{name: up}"));
    struct snapshot *second =
        after(first, CONFIG(LISTENER("a", "stat_prefix: other, "), "{name: up}"));
    CHECK(second->listeners[0] != first->listeners[0]);
    snapshot_unref(first);
    STORY_AWAIT(frees == 1);
    snapshot_unref(second);
    STORY_AWAIT(frees == 2);
    rt_stop(0);
}

/* A limit of connections stands elsewhere, and belongs to it. */
static void what_stands_around_it_counts(void *arg) {
#define LIMITED(most)                                                                              \
    CONFIG(LISTENER("a", "") ", " LISTENER("b", ""), "{name: up}")                                 \
    "layered_runtime: {layers: [{name: s, static_layer: "                                          \
    "{envoy.resource_limits.listener.a.connection_limit: " most "}}]}\n"
    begin();
    struct snapshot *first = after(NULL, LIMITED("1"));
    struct snapshot *second = after(first, LIMITED("2"));
    CHECK(second->listeners[0]->connections_max == 2);
    CHECK(first->listeners[0]->connections_max == 1);
    CHECK(second->listeners[1] == first->listeners[1]); /* which has none */
    CHECK(second->clusters[0] == first->clusters[0]);
    snapshot_unref(first);
    snapshot_unref(second);
    STORY_AWAIT(frees == 3);
    rt_stop(0);
}

static void same(void **state) {
    story(1, what_is_the_same_is_the_same_object);
}
static void cluster(void **state) {
    story(1, a_listener_whose_cluster_is_another_is_built_anew);
}
static void changed(void **state) {
    story(1, one_that_changed_is_built_anew);
}
static void around(void **state) {
    story(1, what_stands_around_it_counts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same),
        cmocka_unit_test(cluster),
        cmocka_unit_test(changed),
        cmocka_unit_test(around),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
