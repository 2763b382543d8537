/* route_rollout.c, former_routes.c: which routes serve whom from one configuration to the next, and what is freed when. Snapshots
 * are built as the process builds them; exchanges are made by hand, and "serves" is said, with no listener behind it. */
#include "../rt/rt_story.h"

#include <string.h>

#include "base/log.h"
#include "config/golang_config.h"
#include "proxy/filter_chain.h"
#include "proxy/filter_registry.h"
#include "proxy/former_routes.h"
#include "proxy/rollout.h"
#include "proxy/route_rollout.h"
#include "proxy/snapshot.h"
#include "proxy/worker.h"
#include "rt/foreign.h"

enum { USERS = 40 };

/* ---- a filter whose configurations of routes are counted ---- */

static _Atomic int configs, configs_freed; /* of routes that have one */

static int build_filter(const struct cfg_any *any, struct cfg_problems *problems, void **config) {
    return 0;
}
static int build_route(const struct cfg_any *any, void *filter, struct cfg_problems *problems,
                       void **config) {
    *config = &configs;
    configs++;
    return 0;
}
static void free_route(void *config) {
    CHECK(config == &configs);
    configs_freed++;
}
static const struct filter_itab filter_itab = {.name = "envoy.filters.http.router"};
static const struct filter_kind filter_kind = {.itab = &filter_itab,
                                               .schema = &cfg_schema_router,
                                               .route_schema = &cfg_schema_golang_per_route,
                                               .terminal = true,
                                               .build = build_filter,
                                               .build_route = build_route,
                                               .free_route = free_route};

/* ---- configurations ---- */

#define HALF "rollout: {steps: [50], step_duration: 1000s, hash_on: {header: x-user}}, "
#define NOT_YET "rollout: {steps: [1], step_duration: 1000s, hash_on: {header: x-user}}, "
/* One route, by which a request knows whose table it was given. */
#define ROUTES(route, rollout)                                                                     \
    "route_config: {name: shop, " rollout "virtual_hosts: [{name: h, domains: ['*'], routes: "     \
    "[{name: " route ", match: {prefix: /}, direct_response: {status: 200}, "                      \
    "typed_per_filter_config: {r: {'@type': "                                                      \
    "type.googleapis.com/envoy.extensions.filters.http.golang.v3alpha.ConfigsPerRoute}}}]}]}"
#define LISTENER(name, more, routes)                                                               \
    "static_resources: {listeners: [{" name                                                        \
    "address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: "   \
    "[{name: hcm, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network."   \
    "http_connection_manager.v3.HttpConnectionManager, stat_prefix: x, " more "http_filters: "     \
    "[{name: r, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http."        \
    "router.v3.Router}}], " routes "}}]}]}]}\n"
#define CONFIG(route, rollout) LISTENER("name: main, ", "", ROUTES(route, rollout))

struct making {
    const char *yaml;
    const struct snapshot *previous;
    struct snapshot *made;
    char *problems;
};

static void make(void *arg) {
    struct making *making = arg;
    struct config *config;
    struct cfg_problems problems = {0};
    size_t size;
    int rc = config_load_text(SPAN_LIT("t.yaml"), span_of(making->yaml), span_none(), &config,
                              &problems);
    CHECK(rc == 0);
    const struct resources *former = making->previous ? making->previous->resources : NULL;
    struct resources *resources = resources_of_bootstrap(config, former, &problems);
    making->made = snapshot_build(resources, making->previous, &problems);
    FILE *out = open_memstream(&making->problems, &size);
    CHECK(out);
    cfg_problems_print(&problems, out);
    CHECK(fclose(out) == 0);
    cfg_problems_fini(&problems);
    resources_unref(resources);
    config_unref(config);
}

static struct making try(const struct snapshot *previous, const char *yaml) {
    struct making making = {.yaml = yaml, .previous = previous};
    CHECK(blocking_call(make, &making) == 0);
    return making;
}

static struct snapshot *built(const struct snapshot *previous, const char *yaml) {
    struct making making = try(previous, yaml);
    if (!making.made)
        fputs(making.problems, stderr);
    CHECK(making.made);
    free(making.problems);
    return making.made;
}

static void drop(void *arg) {
    snapshot_drop(arg);
}
static void throw_away(struct snapshot *snapshot) {
    CHECK(blocking_call(drop, snapshot) == 0);
}

static void follow(void *arg) {
    route_rollouts_follow(arg);
}
/* Instead of *serves. */
static void serve(struct snapshot **serves, struct snapshot *next) {
    CHECK(route_rollouts_settle_on(next));
    CHECK(blocking_call(follow, next) == 0);
    snapshot_unref(*serves);
    *serves = next;
}
static void change(struct snapshot **serves, const char *yaml) {
    serve(serves, built(*serves, yaml));
}

static void begin(void) {
    CHECK(stats_init(rt_p_count()) == 0);
    CHECK(workers_init() == 0);
    log_set_level(LOG_OFF);
    filter_register(&filter_kind);
}

/* What is left is freed, too: as much as was built. */
static void end(struct snapshot *serves) {
    snapshot_unref(serves);
    STORY_AWAIT(configs_freed == configs);
    rt_stop(0);
}

/* ---- rollouts ---- */

static enum rollout_state state(void) {
    struct rollout *rollout = route_rollout_find(SPAN_LIT("main.shop"));
    struct rollout_view view = {.state = ROLLOUT_NONE};
    if (rollout)
        rollout_look(rollout, &view);
    return view.state;
}

struct concluding {
    bool promote, concluded;
};
static void conclude_there(void *arg) {
    struct concluding *concluding = arg;
    concluding->concluded =
        rollout_conclude(route_rollout_find(SPAN_LIT("main.shop")), concluding->promote, "by hand");
}
static bool conclude(bool promote) {
    struct concluding concluding = {.promote = promote};
    CHECK(blocking_call(conclude_there, &concluding) == 0);
    return concluding.concluded;
}

/* ---- requests ---- */

struct request {
    struct exchange x;
    struct doing doing;
};

/* By a user; goes on until it is ended. */
static struct request *request_new(const struct snapshot *snapshot, unsigned user) {
    struct request *request = calloc(1, sizeof *request);
    CHECK(request);
    struct exchange *x = &request->x;
    char text[16];
    (void)snprintf(text, sizeof text, "user-%u", user);
    x->hcm = snapshot->listeners[0]->chains->chains[0].hcm;
    x->doing = &request->doing;
    x->shard = rt_p_index();
    arena_init(&x->arena, rt_blocks(), 1 << 16);
    header_map_init(&x->request.headers, &x->arena);
    struct header_map *headers = &x->request.headers;
    CHECK(header_set_id(headers, HDR_PATH, SPAN_LIT("/")) == 0);
    CHECK(header_set_id(headers, HDR_AUTHORITY, SPAN_LIT("h")) == 0);
    CHECK(header_add(headers, header_id_of(SPAN_LIT("x-user")), SPAN_LIT("x-user"),
                     arena_copy(&x->arena, span_of(text))) == 0);
    return request;
}

/* The first letter of the route's name. */
static char request_ask(struct request *request) {
    struct exchange *x = &request->x;
    x->route = route_match(exchange_routes(x), &x->request.headers, 0, 0);
    CHECK(x->route);
    return x->route->name.ptr[0];
}

static void request_end(struct request *request) {
    if (request->x.former_routes)
        former_routes_give_back(&request->x);
    arena_fini(&request->x.arena);
    free(request);
}

static char answer_for(const struct snapshot *snapshot, unsigned user) {
    struct request *request = request_new(snapshot, user);
    char answer = request_ask(request);
    CHECK(request_ask(request) == answer);
    request_end(request);
    return answer;
}

/* By user; of "ab" both are among them. */
static const char *answers(const struct snapshot *snapshot) {
    static char all[USERS + 1];
    for (unsigned i = 0; i < USERS; i++)
        all[i] = answer_for(snapshot, i);
    return all;
}
static bool are_all(const struct snapshot *snapshot, char answer) {
    const char *all = answers(snapshot);
    for (unsigned i = 0; i < USERS; i++)
        if (all[i] != answer)
            return false;
    return true;
}
static bool are_both(const struct snapshot *snapshot, const char *both) {
    const char *all = answers(snapshot);
    return strspn(all, both) == USERS && strchr(all, both[0]) && strchr(all, both[1]);
}

/* ---- stories ---- */

static void first_story(void *arg) {
    struct snapshot *serves = NULL;
    begin();
    change(&serves, CONFIG("a", HALF));
    CHECK(are_all(serves, 'a'));
    CHECK(!route_rollout_find(SPAN_LIT("main.shop"))); /* there was nothing before it */
    change(&serves, CONFIG("a", NOT_YET));
    CHECK(are_all(serves, 'a') && state() == ROLLOUT_NONE);
    change(&serves, CONFIG("b", ""));
    CHECK(are_all(serves, 'b') && state() == ROLLOUT_NONE);
    end(serves);
}
static void the_first_routes_serve_all(void **test) {
    story(1, first_story);
}

static void sticky_story(void *arg) {
    struct snapshot *serves = NULL;
    char before[USERS + 1];
    begin();
    change(&serves, CONFIG("a", ""));
    struct snapshot *next = built(serves, CONFIG("b", HALF));
    CHECK(are_all(serves, 'a') && are_all(next, 'a')); /* a request may be early */
    serve(&serves, next);
    CHECK(state() == ROLLOUT_ROLLING && are_both(serves, "ab"));
    memcpy(before, answers(serves), sizeof before);
    CHECK(memcmp(before, answers(serves), USERS) == 0);
    change(&serves, LISTENER("name: main, ", "server_name: another, ", ROUTES("b", HALF)));
    CHECK(memcmp(before, answers(serves), USERS) == 0); /* the same rollout */
    change(&serves, LISTENER("name: main, ", "", ROUTES("b", NOT_YET)));
    CHECK(memcmp(before, answers(serves), USERS) == 0); /* for the next one */
    change(&serves, CONFIG("c", HALF));
    CHECK(are_both(serves, "ac"));
    unsigned same = 0;
    for (unsigned i = 0; i < USERS; i++)
        same += (before[i] == 'a') == (answers(serves)[i] == 'a');
    CHECK(same < USERS); /* others are among the first now */
    end(serves);
}
static void a_client_stays_with_its_routes(void **test) {
    story(1, sticky_story);
}

static void withdrawn_story(void *arg) {
    struct snapshot *serves = NULL;
    begin();
    change(&serves, CONFIG("a", ""));
    change(&serves, CONFIG("b", HALF));
    CHECK(conclude(false) && state() == ROLLOUT_WITHDRAWN);
    CHECK(are_all(serves, 'a'));
    change(&serves, LISTENER("name: main, ", "server_name: another, ", ROUTES("b", HALF)));
    CHECK(are_all(serves, 'a') && state() == ROLLOUT_WITHDRAWN); /* they are known to be bad */
    change(&serves, CONFIG("c", HALF));
    CHECK(are_both(serves, "ac") && state() == ROLLOUT_ROLLING);
    change(&serves, CONFIG("a", HALF)); /* as good as a withdrawal */
    CHECK(are_all(serves, 'a') && state() == ROLLOUT_WITHDRAWN);
    change(&serves, CONFIG("b", HALF)); /* with something in between: once more */
    CHECK(are_both(serves, "ab") && state() == ROLLOUT_ROLLING);
    end(serves);
}
static void withdrawn_routes_stay_so(void **test) {
    story(1, withdrawn_story);
}

static void at_once_story(void *arg) {
    struct snapshot *serves = NULL;
    begin();
    change(&serves, CONFIG("a", ""));
    change(&serves, CONFIG("b", HALF));
    change(&serves, CONFIG("b", ""));
    CHECK(are_all(serves, 'b') && state() == ROLLOUT_DONE);
    change(&serves, CONFIG("c", HALF));
    CHECK(are_both(serves, "bc"));
    change(&serves, CONFIG("d", ""));
    CHECK(are_all(serves, 'd') && state() == ROLLOUT_WITHDRAWN);
    end(serves);
}
static void without_rollout_all_are_served_at_once(void **test) {
    story(1, at_once_story);
}

static void names_story(void *arg) {
    struct snapshot *serves = NULL;
    begin();
    change(&serves, LISTENER("", "", ROUTES("a", "")));
    struct making making = try(serves, LISTENER("", "", ROUTES("b", HALF)));
    CHECK(!making.made && strstr(making.problems, "its listener needs a name"));
    free(making.problems);
    change(&serves, CONFIG("a", ""));
    change(&serves, LISTENER("name: other, ", "", ROUTES("b", HALF))); /* another place */
    CHECK(are_all(serves, 'b') && !route_rollout_find(SPAN_LIT("other.shop")));
    end(serves);
}
static void a_place_is_its_names(void **test) {
    story(1, names_story);
}

/* ---- the former ones' end ---- */

static _Atomic unsigned heard;

static void hear(struct rt_post *post) {
    heard++;
}
/* Each P has seen to what was posted to it before. */
static void await_ps(void) {
    static struct rt_post posts[RT_P_MAX];
    heard = 0;
    for (unsigned p = 0; p < rt_p_count(); p++) {
        posts[p].fn = hear;
        rt_post(p, &posts[p]);
    }
    STORY_AWAIT(heard == rt_p_count());
}

static struct request *request_of(const struct snapshot *snapshot, char answer) {
    for (unsigned i = 0; i < USERS; i++) {
        struct request *request = request_new(snapshot, i);
        if (request_ask(request) == answer)
            return request;
        request_end(request);
    }
    return NULL;
}

static struct snapshot *shared;
static struct request *elsewhere;
static _Atomic bool is_asked, may_end, has_ended;

static void ask_elsewhere(void *arg) {
    CHECK(rt_p_index() == 1);
    elsewhere = request_of(shared, 'a');
    is_asked = true;
    STORY_AWAIT(may_end);
    CHECK(request_ask(elsewhere) == 'b'); /* its route was forgotten, and is chosen anew */
    request_end(elsewhere);
    has_ended = true;
}

static void done_story(void *arg) {
    struct snapshot *serves = NULL;
    begin();
    change(&serves, CONFIG("a", ""));
    change(&serves, CONFIG("b", HALF));
    STORY_AWAIT(configs == 3 && configs_freed == 1); /* its listener is gone; a beside b is not */
    shared = serves;
    struct request *here = request_of(serves, 'a');
    const struct route_entry *route = here->x.route;
    CHECK(go_on(1, "elsewhere", ask_elsewhere, NULL) == 0);
    STORY_AWAIT(is_asked);
    CHECK(conclude(true) && state() == ROLLOUT_DONE);
    CHECK(are_all(serves, 'b'));
    await_ps();
    CHECK(configs_freed == 1 && route->name.ptr[0] == 'a');
    request_end(here);
    CHECK(configs_freed == 1);
    may_end = true;
    STORY_AWAIT(configs_freed == 2);
    CHECK(has_ended && are_all(serves, 'b'));
    change(&serves, CONFIG("b", HALF));
    CHECK(are_all(serves, 'b') && state() == ROLLOUT_DONE && configs == 3);
    change(&serves, CONFIG("c", HALF));
    CHECK(are_both(serves, "bc"));
    CHECK(conclude(true)); /* nobody has them: they go by themselves */
    STORY_AWAIT(configs_freed == 4 && configs == 5);
    end(serves);
}
static void former_routes_go_with_their_last_request(void **test) {
    story(2, done_story);
}

/* A change of the listener and the end of the rollout, one in the other. */
static void both_story(void *arg) {
    struct snapshot *serves = NULL;
    begin();
    change(&serves, CONFIG("a", ""));
    change(&serves, CONFIG("b", HALF));
    struct snapshot *next =
        built(serves, LISTENER("name: main, ", "server_name: another, ", ROUTES("b", HALF)));
    STORY_AWAIT(configs == 5 && configs_freed == 1);
    CHECK(conclude(true));
    STORY_AWAIT(configs_freed == 3); /* of both, though one serves nobody yet */
    CHECK(are_all(serves, 'b') && are_all(next, 'b'));
    CHECK(!route_rollouts_settle_on(next)); /* it may have been more than that */
    throw_away(next);
    change(&serves, LISTENER("name: main, ", "server_name: another, ", ROUTES("b", HALF)));
    CHECK(configs == 6 && are_all(serves, 'b'));
    end(serves);
}
static void a_rollout_ends_in_all_that_have_it(void **test) {
    story(2, both_story);
}

/* ---- an end while another configuration is being built ---- */

static void meanwhile_story(void *arg) {
    struct snapshot *serves = NULL;
    begin();
    change(&serves, CONFIG("a", ""));
    change(&serves, CONFIG("b", HALF));
    struct snapshot *next = built(serves, CONFIG("c", HALF)); /* with a for the others */
    CHECK(conclude(true));
    CHECK(are_all(serves, 'b'));
    CHECK(!route_rollouts_settle_on(next));
    CHECK(are_all(serves, 'b')); /* nothing has changed */
    throw_away(next);
    change(&serves, CONFIG("c", HALF));
    CHECK(are_both(serves, "bc"));

    /* The former ones again: had it been withdrawn, they would serve all at once. */
    next = built(serves, CONFIG("b", HALF));
    CHECK(conclude(true));
    CHECK(!route_rollouts_settle_on(next));
    throw_away(next);
    change(&serves, CONFIG("b", HALF));
    CHECK(are_both(serves, "cb"));

    /* A withdrawal changes nothing of what it was built for. */
    next = built(serves, CONFIG("d", HALF));
    CHECK(conclude(false));
    serve(&serves, next);
    CHECK(are_both(serves, "cd"));
    end(serves);
}
static void what_is_built_meanwhile_is_built_anew(void **test) {
    story(1, meanwhile_story);
}

static void too_late_story(void *arg) {
    struct snapshot *serves = NULL;
    begin();
    change(&serves, CONFIG("a", ""));
    change(&serves, CONFIG("b", HALF));
    struct snapshot *next = built(serves, CONFIG("c", HALF));
    CHECK(route_rollouts_settle_on(next)); /* Ps begin to take it */
    CHECK(!conclude(true) && state() == ROLLOUT_ROLLING);
    CHECK(are_both(serves, "ab") && are_all(next, 'a'));
    CHECK(blocking_call(follow, next) == 0);
    CHECK(state() == ROLLOUT_ROLLING && are_both(next, "ac"));
    CHECK(are_all(serves, 'a')); /* who has not followed yet */
    snapshot_unref(serves);
    serves = next;

    next = built(serves, CONFIG("c", "")); /* all, but not before it serves */
    CHECK(route_rollouts_settle_on(next));
    CHECK(!conclude(true));
    CHECK(blocking_call(follow, next) == 0);
    CHECK(state() == ROLLOUT_DONE && are_all(serves, 'c') && are_all(next, 'c'));
    snapshot_unref(serves);
    end(next);
}
static void from_then_on_nothing_is_done_that_would_be_undone(void **test) {
    story(1, too_late_story);
}

/* ---- all at once ---- */

enum { ROUNDS = 100, CLIENTS = 3 };
static _Atomic bool over;
static _Atomic unsigned asking, asked;
static _Atomic(struct snapshot *) current;
static _Atomic unsigned passing; /* clients that are about to lease it */

/* A connection leases what it is served with, as long as the request. */
static struct snapshot *lease_current(void) {
    passing++;
    struct snapshot *snapshot = snapshot_ref(current);
    passing--;
    return snapshot;
}

static void ask_on(void *arg) {
    while (!over) {
        struct snapshot *snapshot = lease_current();
        struct request *request = request_new(snapshot, asked++ % USERS);
        char answer = request_ask(request);
        const struct route_entry *route = request->x.route;
        for (int i = 0; i < 3; i++)
            rt_yield();
        CHECK(route->name.ptr[0] == answer);
        (void)request_ask(request); /* it may be promoted or withdrawn by now */
        request_end(request);
        snapshot_unref(snapshot);
    }
    asking--;
}

static void race_story(void *arg) {
    static const char *const others[] = {CONFIG("a", HALF), CONFIG("b", HALF), CONFIG("c", HALF)};
    begin();
    current = built(NULL, CONFIG("a", ""));
    asking = CLIENTS;
    for (unsigned i = 0; i < CLIENTS; i++)
        CHECK(go_on(i, "client", ask_on, NULL) == 0);
    for (unsigned i = 1; i < ROUNDS; i++) {
        struct snapshot *before = current, *next = built(before, others[i % 3]);
        CHECK(route_rollouts_settle_on(next));
        current = next;
        CHECK(blocking_call(follow, next) == 0);
        STORY_AWAIT(passing == 0);
        snapshot_unref(before);
        unsigned seen = asked;
        STORY_AWAIT(asked > seen + 2 * CLIENTS);
        if (i % 4 != 3)
            CHECK(conclude(i % 4 != 0) || state() != ROLLOUT_ROLLING);
    }
    over = true;
    STORY_AWAIT(asking == 0);
    end(current);
}
static void nothing_is_freed_that_somebody_uses(void **test) {
    story(CLIENTS, race_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_routes_serve_all),
        cmocka_unit_test(a_client_stays_with_its_routes),
        cmocka_unit_test(withdrawn_routes_stay_so),
        cmocka_unit_test(without_rollout_all_are_served_at_once),
        cmocka_unit_test(a_place_is_its_names),
        cmocka_unit_test(former_routes_go_with_their_last_request),
        cmocka_unit_test(a_rollout_ends_in_all_that_have_it),
        cmocka_unit_test(what_is_built_meanwhile_is_built_anew),
        cmocka_unit_test(from_then_on_nothing_is_done_that_would_be_undone),
        cmocka_unit_test(nothing_is_freed_that_somebody_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
