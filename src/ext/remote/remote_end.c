/* remote_end: see the header. Supervisors are waited for on a thread, since the Ps have work with it: they take what the
 * processes say. The last of that is taken in a message of the supervisor's (remote_link_close), behind which each P is
 * posted another one, for us. */
#include "ext/remote/remote_end.h"

#include "ext/remote/supervisor.h"
#include "rt/foreign.h"
#include "rt/rt.h"
#include "rt/waitgroup.h"

struct turn {
    struct rt_post post;
    struct waitgroup *all;
};

static void end_all(void *arg) {
    supervisor_end_all();
}

static void take_turn(struct rt_post *post) {
    waitgroup_done(container_of(post, struct turn, post)->all);
}

static void await_turns(void) {
    struct waitgroup all;
    struct turn turns[RT_P_MAX];
    waitgroup_init(&all);
    waitgroup_add(&all, rt_p_count());
    for (unsigned p = 0; p < rt_p_count(); p++) {
        turns[p] = (struct turn){.post.fn = take_turn, .all = &all};
        /* borrow-ok: who waits here is on this stack until each P has had its turn. */
        rt_post(p, &turns[p].post);
    }
    while (waitgroup_wait(&all, RT_FOREVER) != 0)
        rt_cancel_clear();
}

void remote_end_all(void) {
    if (blocking_call(end_all, NULL) == 0)
        await_turns();
}
