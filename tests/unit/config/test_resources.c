/* Sets of resources: what a bootstrap says, changed by what files bring. */
#include "config_test.h"

#include "config/resources.h"

#define ADDRESS(port) "address: {socket_address: {address: 127.0.0.1, port_value: " #port "}}"
#define TWO_CLUSTERS "static_resources: {clusters: [{name: a}, {name: b}]}\n"

static struct config *bootstrap(const char *name, const char *yaml) {
    struct config *config = load_saying(name, yaml, "");
    assert_non_null(config);
    return config;
}

static char *said_by(struct cfg_problems *problems) {
    char *said;
    size_t len;
    FILE *out = open_memstream(&said, &len);
    assert_non_null(out);
    cfg_problems_print(problems, out);
    assert_int_equal(fclose(out), 0);
    cfg_problems_fini(problems);
    return said;
}

static void expect(struct cfg_problems *problems, const char *text) {
    char *said = said_by(problems);
    assert_string_equal(said, text);
    free(said);
}

static struct resources *of_bootstrap(const char *yaml, const struct resources *previous) {
    struct cfg_problems problems = {0};
    struct config *config = bootstrap("t.yaml", yaml);
    struct resources *set = resources_of_bootstrap(config, previous, &problems);
    assert_non_null(set);
    expect(&problems, "");
    config_unref(config); /* the set leases it */
    return set;
}

/* What a file would bring: the clusters of another bootstrap stand in for it. The old set is given back. */
static struct resources *with_clusters(struct resources *base, const char *file,
                                       const char *version, const char *yaml, const char *says) {
    struct config *config = bootstrap(file, yaml);
    const struct cfg_static_resources *from = config_bootstrap(config)->static_resources;
    struct resource_item items[8];
    for (size_t i = 0; i < from->clusters_count; i++)
        items[i] = (struct resource_item){from->clusters[i].name, &from->clusters[i]};
    const struct resource_update update = {.type = RESOURCE_CLUSTER,
                                           .origin = span_of(file),
                                           .version = span_of(version),
                                           .config = config,
                                           .items = items,
                                           .count = from->clusters_count};
    struct cfg_problems problems = {0};
    struct resources *set = resources_with(base, &update, 1, &problems);
    assert_non_null(set);
    expect(&problems, says);
    config_unref(config);
    resources_unref(base);
    return set;
}

/* "a@static b@f.yaml=7" */
static void expect_clusters(const struct resources *set, const char *expected) {
    char text[512] = "";
    for (size_t i = 0; i < set->of[RESOURCE_CLUSTER].count; i++) {
        const struct resource *item = &set->of[RESOURCE_CLUSTER].items[i];
        size_t len = strlen(text);
        assert_span(item->name, ((const struct cfg_cluster *)item->message)->name.ptr);
        assert_true(item->since_wall_ns > 0);
        snprintf(text + len, sizeof text - len, "%s%s@%s%s%s", i ? " " : "", item->name.ptr,
                 item->origin.ptr, item->version.len ? "=" : "", item->version.ptr);
    }
    assert_string_equal(text, expected);
}

static void a_bootstrap_is_static_resources(void **state) {
    (void)state;
    struct resources *set =
        of_bootstrap("static_resources: {listeners: [{name: l, " ADDRESS(1) "}, {" ADDRESS(
                         2) "}, {" ADDRESS(3) "}], clusters: [{name: b}, {name: a}]}\n",
                     NULL);
    expect_clusters(set, "b@static a@static");
    assert_int_equal(set->of[RESOURCE_LISTENER].count, 3);
    assert_int_equal(set->of[RESOURCE_ROUTES].count, 0);
    assert_ptr_equal(set->of[RESOURCE_CLUSTER].by_name[0], &set->of[RESOURCE_CLUSTER].items[1]);
    const struct resource *l = resources_find(set, RESOURCE_LISTENER, SPAN_LIT("l"));
    assert_ptr_equal(l, &set->of[RESOURCE_LISTENER].items[0]);
    assert_int_equal(resource_mark(RESOURCE_LISTENER, l->message)->line, 1);
    assert_null(resources_find(set, RESOURCE_LISTENER, SPAN_LIT("a")));
    assert_null(resources_find(set, RESOURCE_CLUSTER, SPAN_LIT("aa")));
    assert_null(resources_find(set, RESOURCE_ROUTES, SPAN_LIT("a")));
    resources_unref(set);

    set = of_bootstrap("{}", NULL);
    expect_clusters(set, "");
    resources_unref(set);
}

static void an_update_is_the_state_of_its_file_and_of_no_other(void **state) {
    (void)state;
    struct resources *set = of_bootstrap(TWO_CLUSTERS, NULL);
    struct resources *first = resources_ref(set);
    set = with_clusters(set, "f.yaml", "1", WITH_CLUSTER(""), "");
    expect_clusters(set, "a@static b@static c@f.yaml=1");
    set = with_clusters(set, "g.yaml", "g", "static_resources: {clusters: [{name: d}, {name: e}]}",
                        "");
    set = with_clusters(set, "f.yaml", "2", "static_resources: {clusters: [{name: x}]}", "");
    expect_clusters(set, "a@static b@static d@g.yaml=g e@g.yaml=g x@f.yaml=2");
    set = with_clusters(set, "g.yaml", "h", "static_resources: {clusters: []}", "");
    expect_clusters(set, "a@static b@static x@f.yaml=2");
    expect_clusters(first, "a@static b@static"); /* a set does not change */
    resources_unref(first);
    resources_unref(set);
}

static void an_item_that_says_the_same_keeps_its_version_and_its_time(void **state) {
    (void)state;
    struct resources *set = of_bootstrap("{}", NULL);
    set = with_clusters(set, "f.yaml", "1", TWO_CLUSTERS, "");
    int64_t since = set->of[RESOURCE_CLUSTER].items[0].since_wall_ns;
    set = with_clusters(
        set, "f.yaml", "2",
        "static_resources:\n  clusters: [{name: a}, {name: b, connect_timeout: 7s}]\n", "");
    expect_clusters(set, "a@f.yaml=1 b@f.yaml=2");
    const struct resource *a = &set->of[RESOURCE_CLUSTER].items[0], *b = a + 1;
    assert_int_equal(a->since_wall_ns, since);
    assert_true(b->since_wall_ns > since);
    /* It is the new text's, so what is said about it names the line where it stands now. */
    assert_int_equal(resource_mark(RESOURCE_CLUSTER, a->message)->line, 2);
    resources_unref(set);
}

static uint64_t edition(const struct resources *set, enum resource_type type, size_t i) {
    assert_true(i < set->of[type].count);
    assert_true(set->of[type].items[i].edition > 0);
    return set->of[type].items[i].edition;
}

/* Wherever it stands, whoever names it, and with or without a name. */
static void what_says_the_same_is_of_the_same_edition(void **state) {
    (void)state;
    struct resources *set = of_bootstrap("{}", NULL);
    set = with_clusters(set, "f.yaml", "1", TWO_CLUSTERS, "");
    uint64_t a = edition(set, RESOURCE_CLUSTER, 0), b = edition(set, RESOURCE_CLUSTER, 1);
    assert_int_not_equal(a, b);
    set = with_clusters(set, "f.yaml", "2",
                        "static_resources: {clusters: [{name: b, connect_timeout: 7s}, {name: a}]}",
                        "");
    assert_int_equal(edition(set, RESOURCE_CLUSTER, 1), a);
    uint64_t changed = edition(set, RESOURCE_CLUSTER, 0);
    assert_true(changed != a && changed != b);
    resources_unref(set);

    set = of_bootstrap("static_resources: {listeners: [{" ADDRESS(1) "}, {" ADDRESS(2) "}]}", NULL);
    uint64_t second = edition(set, RESOURCE_LISTENER, 1);
    struct resources *next =
        of_bootstrap("static_resources: {listeners: [{" ADDRESS(2) "}, {" ADDRESS(3) "}]}", set);
    assert_int_equal(edition(next, RESOURCE_LISTENER, 0), second);
    assert_true(edition(next, RESOURCE_LISTENER, 1) > second);
    resources_unref(next);
    resources_unref(set);

    set = of_bootstrap(TWO_CLUSTERS, NULL);
    a = edition(set, RESOURCE_CLUSTER, 0);
    struct config *config = bootstrap("f.yaml", TWO_CLUSTERS);
    const struct cfg_cluster *cluster = config_bootstrap(config)->static_resources->clusters;
    const struct resource_item item = {cluster->name, cluster};
    const struct resource_update update = {.type = RESOURCE_CLUSTER,
                                           .origin = SPAN_LIT("f.yaml"),
                                           .config = config,
                                           .items = &item,
                                           .count = 1};
    struct cfg_problems problems = {0};
    struct resources *both = resources_with(set, &update, 1, &problems);
    assert_int_equal(edition(both, RESOURCE_CLUSTER, 2), a);
    free(said_by(&problems)); /* the name is taken */
    resources_unref(both);
    resources_unref(set);
    config_unref(config);
}

static void a_bootstrap_that_is_loaded_anew_keeps_what_files_brought(void **state) {
    (void)state;
    struct resources *set = of_bootstrap(TWO_CLUSTERS, NULL);
    set = with_clusters(set, "f.yaml", "1", WITH_CLUSTER(""), "");
    int64_t since = set->of[RESOURCE_CLUSTER].items[0].since_wall_ns;
    struct resources *next =
        of_bootstrap("static_resources: {clusters: [{name: m}, {name: a}]}", set);
    resources_unref(set);
    expect_clusters(next, "m@static a@static c@f.yaml=1");
    assert_int_equal(next->of[RESOURCE_CLUSTER].items[1].since_wall_ns, since);
    resources_unref(next);
}

static void who_comes_later_does_not_get_a_name_that_is_taken(void **state) {
    (void)state;
    struct cfg_problems problems = {0};
    struct config *config = bootstrap(
        "t.yaml", "static_resources:\n  clusters:\n  - name: a\n  - name: b\n  - name: a\n"
                  "  listeners: [{" ADDRESS(1) "}, {" ADDRESS(2) "}]\n"); /* without names */
    struct resources *set = resources_of_bootstrap(config, NULL, &problems);
    assert_non_null(set);
    expect(&problems, "t.yaml:5: static_resources.clusters[2]: the name 'a' is taken by the "
                      "cluster of line 3\n");
    resources_unref(set);
    config_unref(config);

    set = of_bootstrap(TWO_CLUSTERS, NULL);
    set = with_clusters(set, "f.yaml", "1", WITH_CLUSTER(""), "");
    set = with_clusters(set, "g.yaml", "1", "static_resources: {clusters: [{name: a}, {name: c}]}",
                        "g.yaml:1: static_resources.clusters[0]: the name 'a' is taken by the "
                        "cluster of t.yaml:1\n"
                        "g.yaml:1: static_resources.clusters[1]: the name 'c' is taken by the "
                        "cluster of f.yaml:1\n");
    resources_unref(set);
}

/* Between two files that change at once a name may go from one to the other. */
static void a_name_can_move(void **state) {
    (void)state;
    struct cfg_problems problems = {0};
    struct resources *set = of_bootstrap("{}", NULL);
    set = with_clusters(set, "f.yaml", "1", WITH_CLUSTER(""), "");
    const struct resource *old = &set->of[RESOURCE_CLUSTER].items[0];
    const struct resource_item c = {old->name, old->message};
    const struct resource_update updates[] = {
        {.type = RESOURCE_CLUSTER,
         .origin = SPAN_LIT("g.yaml"),
         .version = SPAN_LIT("2"),
         .config = old->config,
         .items = &c,
         .count = 1},
        {.type = RESOURCE_CLUSTER, .origin = SPAN_LIT("f.yaml")},
    };
    struct resources *moved = resources_with(set, updates, 2, &problems);
    expect(&problems, "");
    expect_clusters(moved, "c@g.yaml=2");
    resources_unref(moved);
    resources_unref(set);
}

static bool is_not_two(enum resource_type type, const struct resource *item, void *arg) {
    (void)arg;
    assert_int_equal(type, RESOURCE_ROUTES);
    return !span_eq(item->name, SPAN_LIT("two"));
}

static void route_configurations_are_replaced_one_by_one(void **state) {
    (void)state;
    static const struct cfg_route_configuration one = {.name = SPAN_INIT("one")},
                                                two = {.name = SPAN_INIT("two")},
                                                newer = {.name = SPAN_INIT("one"),
                                                         .ignore_port_in_host_matching = true};
    struct cfg_problems problems = {0};
    struct resources *base = of_bootstrap("{}", NULL);
    struct resource_item items[] = {{one.name, &one}, {two.name, &two}};
    struct resource_update update = {.type = RESOURCE_ROUTES,
                                     .origin = SPAN_LIT("r.yaml"),
                                     .version = SPAN_LIT("1"),
                                     .config = base->bootstrap,
                                     .items = items,
                                     .count = 2};
    struct resources *both = resources_with(base, &update, 1, &problems);
    update.items = &(struct resource_item){newer.name, &newer};
    update.count = 1;
    update.version = SPAN_LIT("2");
    struct resources *changed = resources_with(both, &update, 1, &problems);
    assert_ptr_equal(resources_find(changed, RESOURCE_ROUTES, SPAN_LIT("one"))->message, &newer);
    const struct resource *kept = resources_find(changed, RESOURCE_ROUTES, SPAN_LIT("two"));
    assert_ptr_equal(kept->message, &two);
    assert_span(kept->version, "1");
    struct resources *last = resources_where(changed, is_not_two, NULL);
    assert_int_equal(last->of[RESOURCE_ROUTES].count, 1);
    assert_ptr_equal(last->of[RESOURCE_ROUTES].items[0].message, &newer);
    expect(&problems, "");
    resources_unref(last);
    resources_unref(changed);
    resources_unref(both);
    resources_unref(base);
}

static void equal_sets_have_the_same_hash(void **state) {
    (void)state;
    struct resources *set = of_bootstrap(TWO_CLUSTERS, NULL);
    const uint64_t fixed = resources_hash(set);
    set = with_clusters(set, "f.yaml", "1", "static_resources: {clusters: [{name: c}, {name: d}]}",
                        "");
    const uint64_t with_files = resources_hash(set);
    assert_true(fixed != 0 && with_files != fixed);

    /* Another process, another file, another version of it. */
    struct resources *other = of_bootstrap(TWO_CLUSTERS, NULL);
    assert_int_equal(resources_hash(other), fixed);
    other = with_clusters(other, "g.yaml", "2",
                          "static_resources: {clusters: [{name: c}, {name: d}]}", "");
    assert_int_equal(resources_hash(other), with_files);

    /* What it says is another thing. */
    other = with_clusters(
        other, "g.yaml", "3",
        "static_resources: {clusters: [{name: c}, {name: d, connect_timeout: 2s}]}", "");
    assert_true(resources_hash(other) != with_files);
    other = with_clusters(other, "g.yaml", "4", "static_resources: {}", "");
    assert_int_equal(resources_hash(other), fixed);
    resources_unref(other);
    resources_unref(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bootstrap_is_static_resources),
        cmocka_unit_test(an_update_is_the_state_of_its_file_and_of_no_other),
        cmocka_unit_test(an_item_that_says_the_same_keeps_its_version_and_its_time),
        cmocka_unit_test(what_says_the_same_is_of_the_same_edition),
        cmocka_unit_test(a_bootstrap_that_is_loaded_anew_keeps_what_files_brought),
        cmocka_unit_test(who_comes_later_does_not_get_a_name_that_is_taken),
        cmocka_unit_test(a_name_can_move),
        cmocka_unit_test(route_configurations_are_replaced_one_by_one),
        cmocka_unit_test(equal_sets_have_the_same_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
