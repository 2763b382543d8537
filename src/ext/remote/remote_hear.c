/* remote_hear: what a host process says to one P, record by record, and whose it is (remote_link_internal.h).
 *
 * Nothing in a record is believed: its form is checked by remote_message.c, its number is looked up in the table of the P
 * whose ring it came by, and what it says of a call is held against those that are open. A record that no host of ours
 * writes is -EPROTO; one of who has left meanwhile is void, since that crosses with what we sent.
 *
 * Who may touch what  Everything here is the lane's P's. */
#include "ext/remote/remote_link_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "ext/go/go_abi.h"
#include "ext/remote/remote_message.h"

/* What is said of who has left is void, but that its call has returned: by RETURN, that is all there is of it. Of a turn
 * (remote_peer.c) it is known to who waits for it alone, who does not leave before. */
static int record_of(struct remote_lane *lane, enum remote_kind kind, struct span record) {
    uint64_t number;
    if (record.len < sizeof number)
        return -EPROTO;
    memcpy(&number, record.ptr, sizeof number);
    struct remote_entry *entry = remote_lane_entry(lane, number);
    if (!entry)
        return 0;
    struct remote_party *party = entry->party;
    bool of_call = kind == REMOTE_RETURN || kind == REMOTE_WANT;
    if ((of_call && entry->open == 0) || (party && !party->itab->hear))
        return -EPROTO;
    if (kind == REMOTE_RETURN)
        remote_lane_call_returned(lane, entry, 0, 0);
    return party ? party->itab->hear(party, kind, record) : 0;
}

static int result(struct remote_lane *lane, struct span record, bool of_log) {
    struct remote_result result;
    struct remote_in ops;
    int err = remote_read_result(record, &result, &ops);
    struct remote_entry *entry = err ? NULL : remote_lane_entry(lane, result.number);
    if (!entry)
        return err;
    struct remote_party *party = entry->party;
    bool returned = result.returned || of_log;
    if ((returned && entry->open == 0) || (party && !party->itab->result))
        return -EPROTO;
    if (returned)
        remote_lane_call_returned(lane, entry, of_log ? 0 : result.calls, result.took_ns);
    return party ? party->itab->result(party, &result, &ops, of_log) : 0;
}

static int named(struct remote_lane *lane, struct span record) {
    struct remote_named named;
    int err = remote_read_named(record, &named);
    struct remote_entry *entry = err ? NULL : remote_lane_entry(lane, named.number);
    if (!entry)
        return err;
    struct remote_party *party = entry->party;
    if (entry->open == 0 || (party && !party->itab->named))
        return -EPROTO;
    remote_lane_call_returned(lane, entry, 0, named.took_ns);
    return party ? party->itab->named(party, &named) : 0;
}

static void answer_of(struct remote_lane *lane, const struct remote_ask *ask, size_t room,
                      struct remote_answer *answer, void **memory) {
    *answer = (struct remote_answer){.code = GO_OK, .text = span_make("", 0)};
    *memory = NULL;
    if (ask->question == REMOTE_DEFINE_METRIC || ask->question == REMOTE_ASK_METRIC) {
        remote_metrics_answer(&lane->link->metrics, ask, answer);
        return;
    }
    if (ask->question == REMOTE_CONNECT) {
        const struct remote_link_options *options = &lane->link->options;
        answer->code = GO_INTERNAL_FAILURE;
        if (options->connect)
            options->connect(options->arg, lane, ask, answer, memory);
        return;
    }
    const struct remote_entry *entry = remote_lane_entry(lane, ask->subject);
    if (entry && entry->party && entry->party->itab->answer)
        entry->party->itab->answer(entry->party, ask, room, answer, memory);
    else
        answer->code = GO_FILTER_IS_DESTROYED;
}

static int ask(struct remote_lane *lane, struct span record) {
    enum { HEAD = 64 }; /* what an answer takes beside its text */
    struct remote_ask ask;
    struct remote_answer answer;
    void *memory;
    int err = remote_read_ask(record, &ask);
    if (err)
        return err;
    char *room = remote_shm_answer_room(lane->link->shm, ask.slot);
    if (!room)
        return -EPROTO;
    answer_of(lane, &ask, REMOTE_SLOT_SIZE - HEAD, &answer, &memory);
    struct remote_out *out = remote_lane_scratch(lane);
    remote_put_answer(out, &answer);
    free(memory);
    /* No answer is a failure there. */
    size_t len = out->failed || out->len > REMOTE_SLOT_SIZE ? 0 : out->len;
    if (len)
        memcpy(room, out->data, len);
    remote_shm_answer(lane->link->shm, ask.slot, len);
    return 0;
}

static int metric(struct remote_lane *lane, struct span record) {
    struct remote_metric metric;
    int err = remote_read_metric(record, &metric);
    if (!err)
        remote_metrics_count(&lane->link->metrics, &metric);
    return err;
}

/* Line by line: the log lets newlines through, and one in the middle would begin a line that looks like the proxy's. */
static int text(const struct remote_lane *lane, struct span record) {
    struct remote_text text;
    int err = remote_read_text(record, &text);
    struct span rest = text.text;
    while (!err && rest.len) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        size_t len = end ? (size_t)(end - rest.ptr) : rest.len;
        LOG(*lane->link->options.log, (enum log_level)text.level, "%.*s", (int)len, rest.ptr);
        rest = span_from(rest, end ? len + 1 : len);
    }
    return err;
}

int remote_lane_hear(struct remote_lane *lane, uint32_t kind, struct span record) {
    switch ((enum remote_kind)kind) {
    case REMOTE_RESULT:
        return result(lane, record, false);
    case REMOTE_LOGGED:
        return result(lane, record, true);
    case REMOTE_ASK:
        return ask(lane, record);
    case REMOTE_METRIC:
        return metric(lane, record);
    case REMOTE_TEXT:
        return text(lane, record);
    case REMOTE_RETURN:
    case REMOTE_WANT:
    case REMOTE_PEER_RETURNED:
    case REMOTE_PEER_WRITE:
    case REMOTE_PEER_CLOSE:
    case REMOTE_PEER_HALF_CLOSE:
        return record_of(lane, (enum remote_kind)kind, record);
    case REMOTE_NAMED:
        return named(lane, record);
    default:
        return -EPROTO;
    }
}
