/* go_remote_cluster: see the header.
 *
 * A process that is lost before it has looked at the question leaves it to the next one; one that has may have been lost
 * over it, and would be once more. Who is cancelled leaves, and the answer finds nobody. */
#include "ext/go/go_remote_cluster.h"

#include <errno.h>

#include "ext/go/go_remote.h"
#include "ext/remote/remote_link.h"

struct asking {
    struct remote_party party;
    struct g *g;
    struct arena *arena;
    bool answered;
    struct go_remote_answer answer;
};

static struct asking *asking_of(struct remote_party *party) {
    return container_of(party, struct asking, party);
}

static int named(struct remote_party *party, const struct remote_named *named) {
    struct asking *asking = asking_of(party);
    if (asking->answered)
        return -EPROTO;
    asking->answered = true;
    asking->answer = (struct go_remote_answer){.len = named->len,
                                               .panicked = named->panicked,
                                               .name = arena_copy(asking->arena, named->name)};
    go_plugin_stats_add(&party->plugin->stats, rt_p_index(), &named->counts);
    rt_ready(asking->g);
    return 0;
}

static void lose(struct remote_party *party) {
    rt_ready(asking_of(party)->g);
}

static const struct remote_party_itab itab = {.named = named, .lose = lose};

static int tell(struct asking *asking, const struct go_remote_question *question,
                int64_t deadline_ns) {
    struct remote_out *out = remote_lane_scratch(asking->party.lane);
    remote_put_specify(out, &(struct remote_specify){.number = asking->party.number,
                                                     .config_id = question->config_id,
                                                     .headers = question->headers});
    if (out->failed)
        return -ENOMEM;
    return remote_lane_send(&asking->party, REMOTE_SPECIFY, span_make(out->data, out->len),
                            deadline_ns);
}

static int await(const struct asking *asking) {
    int err = 0;
    while (!err && !asking->answered && asking->party.lane)
        err = rt_park("cluster specifier", RT_FOREVER);
    return asking->answered ? 0 : err ? err : -EPIPE;
}

int go_remote_specify(const struct go_remote_question *question, struct arena *arena,
                      struct go_remote_answer *out) {
    struct asking asking = {
        .party = {.itab = &itab, .plugin = question->plugin}, .g = rt_self(), .arena = arena};
    int64_t deadline_ns = go_remote_deadline(question->seat_wait_ns);
    int err;
    do {
        err = go_remote_enter(&asking.party, deadline_ns);
        if (err)
            break;
        err = tell(&asking, question, deadline_ns);
        if (!err)
            err = await(&asking);
        remote_lane_leave(&asking.party);
    } while (err == -EPIPE && asking.party.unheard);
    *out = asking.answer;
    return err;
}
