/* go_origin.c, and the leases of go_library.c: editions are made for a new copy all or none, and end when the last exchange
 * that began with them has. A library is a number here, an edition what was made of it. */
#include "../rt/rt_story.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "ext/go/go_origin.h"

enum { LIBRARIES = 202 };

struct made {
    struct go_edition edition;
    struct user *user;
    _Atomic bool dropped;
};

struct user {
    struct go_user user;
    const char *name;
};

static struct go_origin *origin;
static struct go_library libraries[LIBRARIES + 1];
static struct p_lease leases[LIBRARIES + 1][RT_P_MAX];
static _Atomic unsigned made, dropped, freed; /* editions */
static const char *refuses; /* the user for which the next copy is not good enough */
static bool no_memory;      /* for it */
static const struct go_library *refused_library; /* by all */
static char order[64];                           /* in which drops came */

static struct go_edition *make(struct go_user *of, struct go_library *library,
                               struct cfg_problems *problems) {
    struct user *user = container_of(of, struct user, user);
    if ((refuses && strcmp(refuses, user->name) == 0) || library == refused_library)
        return NULL;
    struct made *edition = no_memory ? NULL : calloc(1, sizeof *edition);
    if (!edition)
        return NULL;
    edition->edition.library = library;
    edition->user = user;
    made++;
    return &edition->edition;
}

static void drop(struct go_edition *of) {
    struct made *edition = container_of(of, struct made, edition);
    CHECK(!edition->dropped); /* once */
    edition->dropped = true;
    dropped++;
    snprintf(order + strlen(order), sizeof order - strlen(order), "%s", edition->user->name);
}

static void release(struct go_edition *of) {
    struct made *edition = container_of(of, struct made, edition);
    CHECK(edition->dropped);
    free(edition);
    freed++;
}

static const struct go_user_itab itab = {.make = make, .drop = drop, .free = release};

static void begin(void) {
    origin = go_origin_new(SPAN_LIT("lib"), "/lib.so");
    CHECK(origin);
    for (unsigned i = 0; i <= LIBRARIES; i++) {
        libraries[i].id = origin->id;
        libraries[i].origin = origin;
        libraries[i].version = i;
        libraries[i].leases.at = leases[i];
    }
    go_origin_begin(origin, &libraries[1]);
    made = dropped = freed = 0;
    refuses = NULL;
    no_memory = false;
    order[0] = '\0';
}

static struct user add(const char *name) {
    return (struct user){.name = name};
}

#define ADD(user_, problems_) CHECK(go_user_add(&(user_)->user, origin, &itab, (problems_)) == 0)

static struct go_library *current(const struct user *user) {
    return go_user_current(&user->user)->library;
}

static void adopt_story(void *arg) {
    struct cfg_problems problems = {0};
    begin();
    struct user filter = add("f"), level = add("l");
    ADD(&filter, &problems);
    ADD(&level, &problems);
    CHECK(go_origin_adopt(origin, &libraries[2], &problems) == 0);
    CHECK(go_origin_current(origin) == &libraries[2]);
    CHECK(current(&filter) == &libraries[2] && current(&level) == &libraries[2]);
    /* Who began with the old one finds what belongs to it. */
    CHECK(go_user_edition(&level.user, &libraries[1])->library == &libraries[1]);
    CHECK(!go_user_edition(&level.user, &libraries[3]));
    struct user late = add("t");
    ADD(&late, &problems);
    CHECK(!go_user_edition(&late.user, &libraries[1])); /* it was added after that one's time */
    go_origin_drop(origin, &libraries[1]);
    CHECK(dropped == 2 && freed == 0);
    go_origin_drop(origin, &libraries[1]); /* again: each is given back once */
    CHECK(dropped == 2);
    go_user_remove(&filter.user);
    go_user_remove(&level.user);
    go_user_remove(&late.user);
    CHECK(made == 5 && dropped == 5 && freed == 5);
    rt_stop(0);
}
static void a_new_copy_is_everybodys_at_once(void **state) {
    story(1, adopt_story);
}

/* The second of three refuses: what was made of the first is given back, of the third nothing was asked. */
static void refuse_story(void *arg) {
    struct cfg_problems problems = {0};
    begin();
    struct user users[] = {add("a"), add("b"), add("c")};
    for (int i = 0; i < 3; i++)
        ADD(&users[i], &problems);
    refuses = "b";
    CHECK(go_origin_adopt(origin, &libraries[2], &problems) == -EINVAL);
    CHECK(made == 4 && dropped == 1 && freed == 1);
    CHECK(strcmp(order, "a") == 0);
    refuses = NULL;
    no_memory = true;
    CHECK(go_origin_adopt(origin, &libraries[2], &problems) == -EINVAL);
    CHECK(made == 4);
    no_memory = false;
    for (int i = 0; i < 3; i++) {
        CHECK(current(&users[i]) == &libraries[1]);
        CHECK(!go_user_current(&users[i].user)->next);
    }
    CHECK(go_origin_current(origin) == &libraries[1]);
    CHECK(go_origin_adopt(origin, &libraries[3], &problems) == 0);
    for (int i = 0; i < 3; i++)
        go_user_remove(&users[i].user);
    CHECK(made == 7 && dropped == 7 && freed == 7);
    rt_stop(0);
}
static void one_that_is_refused_leaves_nothing(void **state) {
    story(1, refuse_story);
}

static void refused_user_story(void *arg) {
    struct cfg_problems problems = {0};
    begin();
    struct user user = add("u");
    refuses = "u";
    CHECK(go_user_add(&user.user, origin, &itab, &problems) == -EINVAL);
    go_user_remove(&user.user); /* was not added */
    CHECK(list_is_empty(&origin->users));
    refuses = NULL;
    CHECK(go_origin_adopt(origin, &libraries[2], &problems) == 0);
    CHECK(made == 0);
    rt_stop(0);
}
static void a_user_that_is_refused_is_none(void **state) {
    story(1, refused_user_story);
}

/* ---- a candidate ---- */

/* What others find is the current copy's; who has leased the candidate finds its own; who comes meanwhile has both. */
static void candidate_story(void *arg) {
    struct cfg_problems problems = {0};
    begin();
    struct user users[] = {add("a"), add("b"), add("c")};
    ADD(&users[0], &problems);
    ADD(&users[1], &problems);
    CHECK(go_origin_try(origin, &libraries[2], &problems) == 0);
    ADD(&users[2], &problems);
    CHECK(made == 6);
    for (int i = 0; i < 3; i++) {
        CHECK(current(&users[i]) == &libraries[1]);
        CHECK(atomic_load(&users[i].user.candidate)->library == &libraries[2]);
        CHECK(go_user_edition(&users[i].user, &libraries[1]));
        CHECK(go_user_edition(&users[i].user, &libraries[2]));
    }
    CHECK(go_origin_current(origin) == &libraries[1]);

    CHECK(go_origin_settle(origin, false) == &libraries[2]);
    for (int i = 0; i < 3; i++) {
        CHECK(current(&users[i]) == &libraries[1]);
        CHECK(!atomic_load(&users[i].user.candidate));
        CHECK(go_user_edition(&users[i].user, &libraries[2])); /* an exchange may be there still */
    }
    go_origin_drop(origin, &libraries[2]);
    CHECK(dropped == 3);

    CHECK(go_origin_try(origin, &libraries[3], &problems) == 0);
    CHECK(go_origin_settle(origin, true) == &libraries[1]);
    CHECK(go_origin_current(origin) == &libraries[3]);
    for (int i = 0; i < 3; i++)
        CHECK(current(&users[i]) == &libraries[3] && !atomic_load(&users[i].user.candidate));
    for (int i = 0; i < 3; i++)
        go_user_remove(&users[i].user);
    CHECK(made == 9 && dropped == 9 && freed == 9);
    rt_stop(0);
}
static void a_candidate_serves_beside_the_current_copy(void **state) {
    story(1, candidate_story);
}

/* By the second of two that are there, or by one who comes and is good for the current copy: nothing is left of it. */
static void refused_candidate_story(void *arg) {
    struct cfg_problems problems = {0};
    begin();
    struct user users[] = {add("a"), add("b")}, late = add("late");
    ADD(&users[0], &problems);
    ADD(&users[1], &problems);
    refuses = "b";
    CHECK(go_origin_try(origin, &libraries[2], &problems) == -EINVAL);
    CHECK(made == 3 && dropped == 1 && freed == 1 && !origin->candidate);
    refuses = NULL;
    CHECK(go_origin_try(origin, &libraries[2], &problems) == 0);
    refused_library = &libraries[2];
    CHECK(go_user_add(&late.user, origin, &itab, &problems) == -EINVAL);
    refused_library = NULL;
    CHECK(made == 6 && dropped == 2 && freed == 2);
    CHECK(go_origin_settle(origin, true) == &libraries[1]);
    for (int i = 0; i < 2; i++)
        go_user_remove(&users[i].user);
    CHECK(made == dropped && made == freed);
    rt_stop(0);
}
static void a_candidate_that_is_refused_leaves_nothing(void **state) {
    story(1, refused_candidate_story);
}

/* ---- leases ---- */

static bool is_drained(unsigned i) {
    return atomic_load(&libraries[i].state) == GO_LIBRARY_DRAINED;
}

static void swap_to(unsigned i) {
    struct cfg_problems problems = {0};
    struct go_library *before = go_origin_current(origin);
    CHECK(go_origin_adopt(origin, &libraries[i], &problems) == 0);
    go_library_retire(before);
}

static void last_lease_story(void *arg) {
    struct cfg_problems problems = {0};
    begin();
    struct user user = add("u");
    ADD(&user, &problems);
    unsigned p = rt_p_index();
    go_library_lease(&libraries[1], p);
    go_library_lease(&libraries[1], p);
    swap_to(2);
    CHECK(go_library_in_flight(&libraries[1]) == 2);
    go_library_lease(&libraries[2], p); /* new ones are the new copy's */
    for (int i = 0; i < 100; i++)
        rt_yield();
    CHECK(dropped == 0);
    go_library_release(&libraries[1], p);
    for (int i = 0; i < 100; i++)
        rt_yield();
    CHECK(dropped == 0 && !is_drained(1));
    go_library_release(&libraries[1], p);
    STORY_AWAIT(is_drained(1));
    CHECK(dropped == 1 && freed == 0);
    CHECK(!is_drained(2));
    go_library_release(&libraries[2], p);
    swap_to(3); /* with nothing in flight it is over at once */
    STORY_AWAIT(is_drained(2));
    CHECK(dropped == 2);
    go_user_remove(&user.user);
    CHECK(freed == 3);
    rt_stop(0);
}
static void an_edition_ends_with_its_last_lease(void **state) {
    story(3, last_lease_story);
}

/* ---- all at once ---- */

static struct user filter, level;
static _Atomic bool over;
static _Atomic unsigned exchanges, working;

/* An exchange: takes the filter's edition, leases its library, works on other things meanwhile, and finds the level's edition of the
 * same copy; nothing of either was given back before it is through. */
static void exchange(void *arg) {
    unsigned p = rt_p_index();
    struct go_edition *edition = atomic_load(&filter.user.candidate);
    if (!edition || exchanges % 2) /* as a rollout would have half of them */
        edition = go_user_current(&filter.user);
    struct go_library *library = edition->library;
    go_library_lease(library, p);
    exchanges++;
    for (int i = 0; i < 3; i++)
        rt_yield();
    struct go_edition *own = go_user_edition(&level.user, library);
    CHECK(own);
    CHECK(!container_of(edition, struct made, edition)->dropped);
    CHECK(!container_of(own, struct made, edition)->dropped);
    CHECK(go_user_edition(&filter.user, library) == edition);
    go_library_release(library, p);
}

static void client(void *arg) {
    while (!over) {
        exchange(NULL);
        rt_yield();
    }
    working--;
}

/* A configuration that comes and goes, on a thread of its own as loading one does. */
static void *come_and_go(void *arg) {
    while (!over) {
        struct cfg_problems problems = {0};
        struct user user = add("x");
        CHECK(go_user_add(&user.user, origin, &itab, &problems) == 0);
        go_user_remove(&user.user);
    }
    return NULL;
}

/* Each copy. */
static void serve_some(void) {
    unsigned before = exchanges;
    while (exchanges < before + 20)
        sched_yield();
}

static void roll_out(unsigned i, bool promoted) {
    struct cfg_problems problems = {0};
    CHECK(go_origin_try(origin, &libraries[i], &problems) == 0);
    serve_some();
    go_library_retire(go_origin_settle(origin, promoted));
}

static void *swap_again_and_again(void *arg) {
    for (unsigned i = 2; i <= LIBRARIES; i++) {
        if (i % 4 < 2)
            roll_out(i, i % 4);
        else
            swap_to(i);
        serve_some();
    }
    over = true;
    return NULL;
}

static void race_story(void *arg) {
    enum { PS = 3, CLIENTS = 4 };
    struct cfg_problems problems = {0};
    pthread_t swapper, other;
    begin();
    filter = add("f");
    level = add("l");
    ADD(&filter, &problems);
    ADD(&level, &problems);
    for (unsigned p = 0; p < PS; p++)
        for (int i = 0; i < CLIENTS; i++) {
            working++;
            CHECK(go_on(p, "client", client, NULL) == 0);
        }
    CHECK(pthread_create(&swapper, NULL, swap_again_and_again, NULL) == 0);
    CHECK(pthread_create(&other, NULL, come_and_go, NULL) == 0);
    STORY_AWAIT(over && working == 0);
    pthread_join(swapper, NULL);
    pthread_join(other, NULL);
    for (unsigned i = 1; i < LIBRARIES; i++)
        STORY_AWAIT(is_drained(i));
    for (unsigned i = 1; i <= LIBRARIES; i++)
        CHECK(go_library_in_flight(&libraries[i]) == 0);
    CHECK(go_origin_current(origin) == &libraries[LIBRARIES]);
    go_user_remove(&level.user);
    go_user_remove(&filter.user);
    CHECK(made == dropped && made == freed);
    CHECK(list_is_empty(&origin->users));
    rt_stop(0);
}
static void swaps_while_requests_and_configurations_come_and_go(void **state) {
    story(3, race_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_copy_is_everybodys_at_once),
        cmocka_unit_test(one_that_is_refused_leaves_nothing),
        cmocka_unit_test(a_user_that_is_refused_is_none),
        cmocka_unit_test(a_candidate_serves_beside_the_current_copy),
        cmocka_unit_test(a_candidate_that_is_refused_leaves_nothing),
        cmocka_unit_test(an_edition_ends_with_its_last_lease),
        cmocka_unit_test(swaps_while_requests_and_configurations_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
