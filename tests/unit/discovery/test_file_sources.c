/* file_sources.c and discovery.c: which sets are offered as files change. What builds a set is a stand-in here: it refuses
 * clusters called "bad", listeners that stand for a cluster which is not there, and says no more. */
#include "../rt/rt_story.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "../file_tree.h"
#include "config/bootstrap.h"
#include "discovery/discovery.h"
#include "discovery/discovery_status.h"
#include "discovery/file_sources.h"

#define TYPE "type.googleapis.com/"
#define CLUSTER(name) "{\"@type\": " TYPE "envoy.config.cluster.v3.Cluster, name: " name "}"
#define ROUTES(name, more)                                                                         \
    "{\"@type\": " TYPE "envoy.config.route.v3.RouteConfiguration, name: " name ", " more "}"
#define FILE_OF(version, resources) "version_info: \"" version "\"\nresources: [" resources "]\n"

static struct resources *now;
static unsigned applied, refused; /* candidates */
static char text[8192];

static struct resources *running(void) {
    return resources_ref(now);
}

/* A listener's stat_prefix is the cluster that it stands for. */
static int apply(struct resources *candidate, struct cfg_problems *problems) {
    for (size_t i = 0; i < candidate->of[RESOURCE_CLUSTER].count; i++)
        if (span_eq(candidate->of[RESOURCE_CLUSTER].items[i].name, SPAN_LIT("bad")))
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, NULL, "a bad cluster");
    for (size_t i = 0; i < candidate->of[RESOURCE_LISTENER].count; i++) {
        const struct cfg_listener *listener = candidate->of[RESOURCE_LISTENER].items[i].message;
        if (listener->stat_prefix.len &&
            !resources_find(candidate, RESOURCE_CLUSTER, listener->stat_prefix))
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &listener->mark, "no cluster %s",
                            listener->stat_prefix.ptr);
    }
    if (cfg_problems_refuse(problems)) {
        refused++;
        return -EINVAL;
    }
    resources_unref(now);
    now = resources_ref(candidate);
    applied++;
    return 0;
}

static const struct discovery_hooks hooks = {.running = running, .apply = apply};

static char *path_of(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static void replace(const char *name, const char *with) {
    char next[64];
    snprintf(next, sizeof next, "/%s.next", name);
    write_file(next, with);
    CHECK(rename(path_of(next + 1), path_of(name)) == 0);
}

/* %s in `format` is the folder of the files. */
static const char *in_root(const char *format) {
    char *out = text;
    for (const char *at = format; *at;) {
        if (strncmp(at, "%s", 2) == 0) {
            out += sprintf(out, "%s", root);
            at += 2;
        } else {
            *out++ = *at++;
        }
    }
    *out = '\0';
    return text;
}

static void load(const char *bootstrap) {
    struct cfg_problems problems = {0};
    struct config *config;
    CHECK(stats_init(1) == 0);
    const char *yaml = in_root(bootstrap);
    CHECK(config_load_text(SPAN_LIT("b.yaml"), span_of(yaml), span_none(), &config, &problems) ==
          0);
    now = resources_of_bootstrap(config, NULL, &problems);
    CHECK(now);
    CHECK(problems.count == 0);
    config_unref(config);
}

static void start(const char *bootstrap) {
    const struct file_source_how how = {.reject_unknown = true};
    load(bootstrap);
    discovery_set_hooks(&hooks);
    CHECK(file_sources_start(&how) == 0);
}

static const char both[] =
    "static_resources: {clusters: [{name: s}]}\n"
    "dynamic_resources:\n"
    "  cds_config: {path_config_source: {path: %s/cds.yaml}}\n"
    "  lds_config: {path_config_source: {path: %s/lds.yaml}, resource_api_version: V3}\n";

static const char *listener(const char *name, const char *cluster) {
    static char out[4][1024];
    static unsigned next;
    char *to = out[next++ % 4];
    snprintf(to, sizeof out[0],
             "{\"@type\": " TYPE "envoy.config.listener.v3.Listener, name: %s, stat_prefix: %s, "
             "address: {socket_address: {address: 127.0.0.1, port_value: 0}}}",
             name, cluster);
    return to;
}

static const char *listener_asking(const char *name, const char *routes, const char *file) {
    static char out[4][1024];
    static unsigned next;
    char *to = out[next++ % 4];
    snprintf(to, sizeof out[0],
             "{\"@type\": " TYPE "envoy.config.listener.v3.Listener, name: %s, "
             "address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: "
             "[{filters: [{name: h, typed_config: {\"@type\": " TYPE
             "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, "
             "stat_prefix: in, rds: {route_config_name: %s, config_source: {path_config_source: "
             "{path: %s/%s}}}}}]}]}",
             name, routes, root, file);
    return to;
}

static const char *file_of(const char *version, const char *resources) {
    static char out[4][4096];
    static unsigned next;
    char *to = out[next++ % 4];
    snprintf(to, sizeof out[0], "version_info: \"%s\"\nresources: [%s]\n", version, resources);
    return to;
}

/* "a=1 b=1": names and versions of what runs, static ones left out. */
static bool runs(enum resource_type type, const char *expected) {
    char have[512] = "";
    for (size_t i = 0; i < now->of[type].count; i++) {
        const struct resource *item = &now->of[type].items[i];
        size_t len = strlen(have);
        if (!span_eq(item->origin, RESOURCE_STATIC))
            snprintf(have + len, sizeof have - len, "%s%s=%s", len ? " " : "", item->name.ptr,
                     item->version.ptr);
    }
    return strcmp(have, expected) == 0;
}

static int64_t counted(const char *name) {
    return stat_value(stats_get(STAT_COUNTER, span_of(name), span_of(name), NULL, 0));
}

struct find_refusal {
    enum resource_type type;
    char details[512];
};
static void find_refusal(const struct discovery_status *status, void *arg) {
    struct find_refusal *find = arg;
    if (status->type == find->type && status->details)
        snprintf(find->details, sizeof find->details, "%s", status->details);
}
/* Why the source of the type is refused; "": it is not. */
static const char *refusal(enum resource_type type) {
    static struct find_refusal find;
    find = (struct find_refusal){.type = type};
    discovery_each_status(find_refusal, &find);
    return find.details;
}

static void first_story(void *arg) {
    write_file("/cds.yaml", FILE_OF("c1", CLUSTER("a")));
    write_file("/lds.yaml", file_of("l1", listener("one", "a")));
    start(both);
    CHECK(applied == 1 && refused == 0); /* all files at once */
    CHECK(runs(RESOURCE_CLUSTER, "a=c1") && runs(RESOURCE_LISTENER, "one=l1"));
    CHECK(counted("listener_manager.lds.update_success") == 1);
    CHECK(counted("cluster_manager.cds.update_attempt") == 1);

    replace("cds.yaml", FILE_OF("c2", CLUSTER("a") ", " CLUSTER("b")));
    STORY_AWAIT(runs(RESOURCE_CLUSTER, "a=c1 b=c2"));
    write_file("/cds.yaml", FILE_OF("c3", CLUSTER("a"))); /* in place */
    STORY_AWAIT(runs(RESOURCE_CLUSTER, "a=c1"));
    CHECK(counted("cluster_manager.cds.update_success") == 3);
    CHECK(counted("listener_manager.lds.update_attempt") == 1);
    rt_stop(0);
}
static void files_are_read_at_start_and_followed(void **state) {
    story(1, first_story);
}

/* A cluster goes and its listener with it: neither could go first. */
static void together_story(void *arg) {
    write_file("/k/v1/cds.yaml", FILE_OF("1", CLUSTER("a")));
    write_file("/k/v1/lds.yaml", file_of("1", listener("l", "a")));
    write_file("/k/v2/cds.yaml", FILE_OF("2", CLUSTER("b")));
    write_file("/k/v2/lds.yaml", file_of("2", listener("l", "b")));
    CHECK(symlink("v1", path_of("k/..data")) == 0);
    CHECK(symlink("..data/cds.yaml", path_of("k/cds.yaml")) == 0);
    CHECK(symlink("..data/lds.yaml", path_of("k/lds.yaml")) == 0);
    start("dynamic_resources:\n"
          "  cds_config: {path_config_source: {path: %s/k/cds.yaml, watched_directory: {path: "
          "%s/k}}}\n"
          "  lds_config: {path_config_source: {path: %s/k/lds.yaml, watched_directory: {path: "
          "%s/k}}}\n");
    CHECK(runs(RESOURCE_CLUSTER, "a=1") && runs(RESOURCE_LISTENER, "l=1"));
    CHECK(symlink("v2", path_of("k/..data_tmp")) == 0);
    CHECK(rename(path_of("k/..data_tmp"), path_of("k/..data")) == 0);
    STORY_AWAIT(runs(RESOURCE_LISTENER, "l=2"));
    CHECK(runs(RESOURCE_CLUSTER, "b=2"));
    CHECK(refused == 0);
    rt_stop(0);
}
static void what_changes_together_is_offered_together(void **state) {
    story(1, together_story);
}

static void refused_story(void *arg) {
    write_file("/cds.yaml", FILE_OF("c1", CLUSTER("a")));
    write_file("/lds.yaml", file_of("l1", listener("one", "a")));
    start(both);
    replace("cds.yaml", "resources: [}");
    STORY_AWAIT(*refusal(RESOURCE_CLUSTER));
    CHECK(strstr(refusal(RESOURCE_CLUSTER),
                 "cds.yaml:1: not valid YAML: did not find expected node content"));
    CHECK(counted("cluster_manager.cds.update_failure") == 1);
    CHECK(runs(RESOURCE_CLUSTER, "a=c1"));

    replace("cds.yaml", FILE_OF("c2", CLUSTER("a") ", " CLUSTER("bad")));
    STORY_AWAIT(counted("cluster_manager.cds.update_rejected") == 1);
    CHECK(strcmp(refusal(RESOURCE_CLUSTER), "a bad cluster") == 0);
    CHECK(runs(RESOURCE_CLUSTER, "a=c1"));

    /* Listeners that wait for it change nothing, and are taken as soon as it is there. */
    replace("lds.yaml", file_of("l2", listener("one", "b")));
    STORY_AWAIT(*refusal(RESOURCE_LISTENER));
    CHECK(counted("cluster_manager.cds.update_rejected") ==
          1); /* told once, though it was tried again */
    CHECK(runs(RESOURCE_LISTENER, "one=l1"));
    replace("cds.yaml", FILE_OF("c3", CLUSTER("a") ", " CLUSTER("b")));
    STORY_AWAIT(runs(RESOURCE_LISTENER, "one=l2"));
    CHECK(runs(RESOURCE_CLUSTER, "a=c1 b=c3"));
    CHECK(!*refusal(RESOURCE_CLUSTER) && !*refusal(RESOURCE_LISTENER));
    rt_stop(0);
}
static void what_is_refused_changes_nothing_until_it_is_mended(void **state) {
    story(1, refused_story);
}

/* Of two that change together one is refused, and the other is taken. */
static void alone_story(void *arg) {
    write_file("/cds.yaml", FILE_OF("c1", CLUSTER("a")));
    write_file("/lds.yaml", file_of("l1", listener("one", "missing")));
    start(both);
    CHECK(runs(RESOURCE_CLUSTER, "a=c1") && runs(RESOURCE_LISTENER, ""));
    CHECK(strstr(refusal(RESOURCE_LISTENER), "resources[0]: no cluster missing"));
    CHECK(counted("listener_manager.lds.update_rejected") == 1);
    rt_stop(0);
}
static void one_that_is_refused_holds_up_no_other(void **state) {
    story(1, alone_story);
}

static void routes_story(void *arg) {
    write_file("/cds.yaml", FILE_OF("c1", ""));
    write_file("/rds.yaml", FILE_OF("r1", ROUTES("x", "") ", " ROUTES("nobodys", "")));
    write_file("/lds.yaml", file_of("l1", listener_asking("one", "x", "rds.yaml")));
    start(both);
    CHECK(applied == 1);
    CHECK(runs(RESOURCE_LISTENER, "one=l1") && runs(RESOURCE_ROUTES, "x=r1"));
    CHECK(counted("http.in.rds.x.update_success") == 1);

    replace("rds.yaml", FILE_OF("r2", ROUTES("x", "ignore_port_in_host_matching: true")));
    STORY_AWAIT(runs(RESOURCE_ROUTES, "x=r2"));
    replace("rds.yaml", FILE_OF("r3", ROUTES("other", "")));
    STORY_AWAIT(*refusal(RESOURCE_ROUTES));
    CHECK(strstr(refusal(RESOURCE_ROUTES), "rds.yaml' has no route configuration 'x'"));
    CHECK(runs(RESOURCE_ROUTES, "x=r2"));
    CHECK(counted("http.in.rds.x.update_rejected") == 1);

    /* Another listener asks for what is there; the file is as it was. */
    replace("rds.yaml", FILE_OF("r4", ROUTES("x", "") ", " ROUTES("z", "")));
    STORY_AWAIT(runs(RESOURCE_ROUTES, "x=r4"));
    char listeners[2048];
    snprintf(listeners, sizeof listeners, "%s, %s", listener_asking("one", "x", "rds.yaml"),
             listener_asking("two", "z", "rds.yaml"));
    replace("lds.yaml", file_of("l2", listeners));
    STORY_AWAIT(runs(RESOURCE_LISTENER, "one=l1 two=l2"));
    CHECK(runs(RESOURCE_ROUTES, "x=r4 z=r4"));

    /* And when nobody asks any more, they are gone, and the file is not followed. */
    replace("lds.yaml", file_of("l3", listener("plain", "s")));
    STORY_AWAIT(runs(RESOURCE_LISTENER, "plain=l3"));
    CHECK(runs(RESOURCE_ROUTES, ""));
    rt_stop(0);
}
static void routes_are_those_that_listeners_ask_for(void **state) {
    story(1, routes_story);
}

static void missing_story(void *arg) {
    struct cfg_problems problems = {0};
    write_file("/cds.yaml", FILE_OF("c1", ""));
    load("dynamic_resources:\n"
         "  cds_config: {path_config_source: {path: %s/cds.yaml}}\n"
         "  lds_config: {path_config_source: {path: %s/no-lds.yaml, watched_directory: "
         "{path: %s/none}}}\n");
    file_sources_require(now, &problems);
    CHECK(problems.count == 2);
    CHECK(strstr(problems.items[0].text, "/no-lds.yaml'; it has to be there before it is named"));
    CHECK(problems.items[0].mark.line == 3);
    CHECK(strstr(problems.items[1].text, "there is no watched_directory"));
    cfg_problems_fini(&problems);
    rt_stop(0);
}
static void files_of_the_bootstrap_have_to_be_there(void **state) {
    story(1, missing_story);
}

/* Then those of listeners: the update is refused, and taken when the file is there and it is written again. */
static void missing_routes_story(void *arg) {
    write_file("/cds.yaml", FILE_OF("c1", ""));
    write_file("/lds.yaml", file_of("l1", listener_asking("one", "x", "later.yaml")));
    start(both);
    CHECK(runs(RESOURCE_LISTENER, ""));
    CHECK(strstr(refusal(RESOURCE_LISTENER), "later.yaml'; it has to be there before"));
    write_file("/later.yaml", FILE_OF("r1", ROUTES("x", "")));
    replace("lds.yaml", file_of("l1", listener_asking("one", "x", "later.yaml")));
    STORY_AWAIT(runs(RESOURCE_LISTENER, "one=l1"));
    CHECK(runs(RESOURCE_ROUTES, "x=r1"));
    rt_stop(0);
}
static void files_of_listeners_have_to_be_there_first(void **state) {
    story(1, missing_routes_story);
}

/* A file of routes that says nothing useful: its listener has no routes until it does. */
static void broken_routes_story(void *arg) {
    write_file("/cds.yaml", FILE_OF("c1", ""));
    write_file("/rds.yaml", "resources: 5");
    write_file("/lds.yaml", file_of("l1", listener_asking("one", "x", "rds.yaml")));
    start(both);
    CHECK(runs(RESOURCE_LISTENER, "one=l1") && runs(RESOURCE_ROUTES, ""));
    CHECK(*refusal(RESOURCE_ROUTES));
    replace("rds.yaml", FILE_OF("r1", ROUTES("x", "")));
    STORY_AWAIT(runs(RESOURCE_ROUTES, "x=r1"));
    rt_stop(0);
}
static void a_listener_may_wait_for_its_routes(void **state) {
    story(1, broken_routes_story);
}

/* The bootstrap is loaded anew, without clusters of a file, and with listeners of another one. */
static void reload_story(void *arg) {
    write_file("/cds.yaml", FILE_OF("c1", CLUSTER("a")));
    write_file("/lds.yaml", file_of("l1", listener("one", "s")));
    write_file("/lds2.yaml", file_of("m1", listener("two", "s")));
    start(both);
    struct config *config;
    struct cfg_problems problems = {0};
    const char *yaml =
        in_root("static_resources: {clusters: [{name: s}]}\n"
                "dynamic_resources: {lds_config: {path_config_source: {path: %s/lds2.yaml}}}\n");
    CHECK(config_load_text(SPAN_LIT("b.yaml"), span_of(yaml), span_none(), &config, &problems) ==
          0);
    struct resources *next = resources_of_bootstrap(config, now, &problems);
    config_unref(config);
    CHECK(next && apply(next, &problems) == 0);
    resources_unref(next);
    file_sources_look();
    STORY_AWAIT(runs(RESOURCE_LISTENER, "two=m1") && runs(RESOURCE_CLUSTER, ""));
    CHECK(!*refusal(RESOURCE_LISTENER));
    rt_stop(0);
}
static void a_bootstrap_that_names_other_files(void **state) {
    story(1, reload_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_read_at_start_and_followed),
        cmocka_unit_test(what_changes_together_is_offered_together),
        cmocka_unit_test(what_is_refused_changes_nothing_until_it_is_mended),
        cmocka_unit_test(one_that_is_refused_holds_up_no_other),
        cmocka_unit_test(routes_are_those_that_listeners_ask_for),
        cmocka_unit_test(files_of_the_bootstrap_have_to_be_there),
        cmocka_unit_test(files_of_listeners_have_to_be_there_first),
        cmocka_unit_test(a_listener_may_wait_for_its_routes),
        cmocka_unit_test(a_bootstrap_that_names_other_files),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
