/* A hostile host process, above its ring, that speaks of connections: whatever records it writes, in whatever state these are,
 * queues keep their limits, a call is over once, and nobody hears what is said to another.
 *
 * The input is a list of steps: the host says something, or a connection is called, ended or renewed. */
#include <errno.h>

#include "fuzz_choices.h"
#include "fuzz_runtime.h"

#include "../unit/ext/fake_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PEERS = 3, STEPS_MAX = 300, BYTES_MAX = 200 };

enum step {
    SAY_BYTES, /* any, as any kind */
    SAY_WRITE,
    SAY_WRITE_TOO,
    SAY_CLOSE,
    SAY_HALF_CLOSE,
    SAY_RETURNED,
    SAY_RETURNED_TOO,
    SAY_ASK,
    CALL,
    RENEW, /* ends, and there is another */
    LET_RUN,
    STEPS
};

struct play {
    struct fuzz_choices choices;
    struct fake_remote_host host;
    struct fake_peer peers[PEERS];
    bool broken;
};

static const uint64_t far[] = {UINT64_MAX,        INT64_MAX,          1ULL << 63, UINT32_MAX,
                               GO_PEER_QUEUE_MAX, GO_PEER_QUEUE_HIGH, 1ULL << 30, 1000};

static struct fake_peer *some_peer(struct play *play) {
    return &play->peers[fuzz_byte(&play->choices) % PEERS];
}

/* A connection's, or, as likely, that of a call: the entries behind. */
static uint64_t some_number(struct play *play) {
    unsigned which = fuzz_byte(&play->choices);
    return which & 1 ? play->peers[(which >> 1) % PEERS].number
                     : remote_number(which >> 7, (which >> 1) % 8, fuzz_byte(&play->choices) % 32);
}

static uint64_t some_handle(struct play *play) {
    unsigned which = fuzz_byte(&play->choices);
    uint64_t handle = play->peers[which % PEERS].peer->handle;
    return which < 0xe0 ? handle : handle + fuzz_word(&play->choices);
}

/* ---- what the host says ---- */

static void hear(struct play *play, unsigned kind, struct remote_out *out) {
    CHECK(!out->failed);
    unsigned cut = fuzz_byte(&play->choices); /* seldom */
    if (cut > 0xf0 && out->len)
        out->len -= cut % out->len;
    char *exact = malloc(out->len ? out->len : 1); /* ASan sees its very end */
    CHECK(exact);
    if (out->len)
        memcpy(exact, out->data, out->len);
    if (!play->broken)
        play->broken = remote_lane_hear(play->host.lane, kind, span_make(exact, out->len)) != 0;
    free(exact);
    remote_out_fini(out);
}

static void say_bytes(struct play *play) {
    struct remote_out out = {0};
    unsigned kind = REMOTE_PEER_RETURNED + fuzz_byte(&play->choices) % 5;
    uint64_t number = some_number(play);
    remote_out_put(&out, span_make((const char *)&number, sizeof number));
    remote_out_put(&out, fuzz_bytes(&play->choices, BYTES_MAX));
    hear(play, kind, &out);
}

static void say_write(struct play *play) {
    struct remote_out out = {0};
    struct remote_peer_write write = {.number = some_number(play),
                                      .left = fuzz_word(&play->choices)};
    write.end = fuzz_byte(&play->choices) & 1;
    remote_put_peer_write(&out, &write);
    remote_out_put(&out, fuzz_bytes(&play->choices, BYTES_MAX));
    hear(play, REMOTE_PEER_WRITE, &out);
}

static void say_close(struct play *play) {
    struct remote_out out = {0};
    struct remote_peer_close close = {.number = some_number(play)};
    close.type = (uint8_t)(fuzz_byte(&play->choices) % 6);
    remote_put_peer_close(&out, &close);
    hear(play, REMOTE_PEER_CLOSE, &out);
}

static void say_half_close(struct play *play) {
    struct remote_out out = {0};
    struct remote_peer_half_close half_close = {.number = some_number(play)};
    half_close.enable = fuzz_byte(&play->choices) & 1;
    remote_put_peer_half_close(&out, &half_close);
    hear(play, REMOTE_PEER_HALF_CLOSE, &out);
}

static void say_returned(struct play *play) {
    struct remote_out out = {0};
    struct remote_peer_returned returned = {.call = some_number(play)};
    returned.status = fuzz_word(&play->choices);
    returned.crossings = (uint32_t)fuzz_word(&play->choices);
    returned.took_ns = fuzz_word(&play->choices);
    returned.wrote_to = some_handle(play);
    remote_put_peer_returned(&out, &returned);
    hear(play, REMOTE_PEER_RETURNED, &out);
}

static void say_ask(struct play *play) {
    static const uint8_t questions[] = {REMOTE_ASK_STATE, REMOTE_SET_STATE, REMOTE_CONNECT,
                                        REMOTE_ASK_TEXT};
    struct remote_out out = {0};
    struct remote_ask ask = {.question = questions[fuzz_byte(&play->choices) % 4]};
    ask.subject = some_number(play);
    ask.slot = fuzz_byte(&play->choices) % 80;
    ask.n = fuzz_word(&play->choices);
    ask.a = fuzz_bytes(&play->choices, BYTES_MAX);
    ask.b = fuzz_bytes(&play->choices, BYTES_MAX);
    ask.c = span_make("", 0);
    remote_put_ask(&out, &ask);
    hear(play, REMOTE_ASK, &out);
}

/* ---- what connections do ---- */

static void call(struct play *play) {
    struct fake_peer *p = some_peer(play);
    if (!p->in_call && !play->broken)
        fake_peer_call(p, fuzz_byte(&play->choices) & 1 ? GO_CALL_WRITE : GO_CALL_DATA);
}

static void renew(struct play *play) {
    struct fake_peer *p = some_peer(play);
    if (p->in_call || play->broken)
        return;
    fake_peer_free(p);
    fake_peer_new(p, &play->host);
}

static void do_step(struct play *play, enum step step) {
    switch (step) {
    case SAY_BYTES:
        say_bytes(play);
        break;
    case SAY_WRITE:
    case SAY_WRITE_TOO:
        say_write(play);
        break;
    case SAY_CLOSE:
        say_close(play);
        break;
    case SAY_HALF_CLOSE:
        say_half_close(play);
        break;
    case SAY_RETURNED:
    case SAY_RETURNED_TOO:
        say_returned(play);
        break;
    case SAY_ASK:
        say_ask(play);
        break;
    case CALL:
        call(play);
        break;
    case RENEW:
        renew(play);
        break;
    case LET_RUN:
        rt_yield_to_events();
        break;
    case STEPS:
        break;
    }
}

static void check_all(const struct play *play) {
    for (unsigned i = 0; i < PEERS; i++) {
        const struct fake_peer *p = &play->peers[i];
        ASSERT(p->peer->queued <= GO_PEER_QUEUE_MAX + STEPS_MAX * sizeof(struct fake_peer));
        ASSERT(p->losses <= 1);
        ASSERT(p->in_call || p->called <= 0);
        ASSERT(p->closes == 0 || p->close_type <= GO_CLOSE_RESET);
    }
}

static void run(const uint8_t *data, size_t size) {
    struct play play = {.choices = {data, data + size, far}};
    fake_remote_host_open(&play.host);
    for (unsigned i = 0; i < PEERS; i++)
        fake_peer_new(&play.peers[i], &play.host);
    for (unsigned i = 0; i < STEPS_MAX && play.choices.at < play.choices.end; i++) {
        do_step(&play, fuzz_byte(&play.choices) % STEPS);
        check_all(&play);
    }
    fake_remote_host_close(&play.host);
    for (unsigned i = 0; i < PEERS; i++) {
        while (play.peers[i].in_call)
            rt_yield();
        fake_peer_free(&play.peers[i]);
    }
}

static void init(void) {
    fake_go_init();
    fake_peers_init();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_on_runtime(init, run, data, size);
}
