/* chaos: a filter in C that marks both heads with what x-nonce says, makes the request's body upper-case, and does what x-do
 * says: the moment (request, transformer, body, response, log), and how to die then; or "sleep", to wait a while. x-way is
 * how it changes the body: "read" it whole, or "transform" it on its way. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sluice/filter.h>

struct shouting {
    struct sluice_exchange *x;
    struct sluice_span rest; /* of the latest run */
    char room[16 * 1024];
};

static void *(*volatile set)(void *, int, size_t) = memset;

static void do_what_is_asked(struct sluice_exchange *x, struct sluice_span moment) {
    struct sluice_span asked;
    if (!sluice_header(x, SLUICE_REQUEST, SLUICE_LIT("x-do"), &asked) || asked.len <= moment.len ||
        !sluice_eq(sluice_bytes(asked.ptr, moment.len), moment))
        return;
    struct sluice_span how =
        sluice_bytes(asked.ptr + moment.len + 1, asked.len - moment.len - 1); /* behind a blank */
    if (sluice_eq(how, SLUICE_LIT("abort")))
        abort();
    if (sluice_eq(how, SLUICE_LIT("exit")))
        _exit(3);
    if (sluice_eq(how, SLUICE_LIT("libc")))
        set((void *)(uintptr_t)8, 0, 100);
    if (sluice_eq(how, SLUICE_LIT("sleep")))
        (void)sluice_sleep(x, 3000000);
    while (sluice_eq(how, SLUICE_LIT("loop")))
        (void)*(volatile char *)how.ptr;
}

static void mark(struct sluice_exchange *x, enum sluice_part part, struct sluice_span name) {
    struct sluice_span nonce;
    if (sluice_header(x, SLUICE_REQUEST, SLUICE_LIT("x-nonce"), &nonce))
        (void)sluice_header_set(x, part, name, nonce);
}

static void shout(char *to, struct sluice_span from) {
    for (size_t i = 0; i < from.len; i++)
        to[i] = (char)(from.ptr[i] >= 'a' && from.ptr[i] <= 'z' ? from.ptr[i] - 32 : from.ptr[i]);
}

static int shout_next(void *arg, struct sluice_body *body, struct sluice_span *out) {
    struct shouting *shouting = arg;
    int rc = shouting->rest.len ? 0 : sluice_body_next(body, &shouting->rest);
    size_t len = shouting->rest.len;
    len = len < sizeof shouting->room ? len : sizeof shouting->room;
    if (rc == 0) {
        do_what_is_asked(shouting->x, SLUICE_LIT("body"));
        shout(shouting->room, sluice_bytes(shouting->rest.ptr, len));
        shouting->rest = sluice_bytes(shouting->rest.ptr + len, shouting->rest.len - len);
        *out = sluice_bytes(shouting->room, len);
    }
    return rc;
}

static void shout_whole(struct sluice_exchange *x) {
    struct sluice_span body;
    if (sluice_body_read(x, SLUICE_REQUEST, 0, &body) != 0)
        return;
    char *louder = sluice_alloc(x, body.len ? body.len : 1);
    if (!louder)
        return;
    do_what_is_asked(x, SLUICE_LIT("body"));
    shout(louder, body);
    (void)sluice_body_set(x, SLUICE_REQUEST, sluice_bytes(louder, body.len));
}

static void request(struct sluice_exchange *x, void *self) {
    (void)self;
    struct sluice_span way;
    do_what_is_asked(x, SLUICE_LIT("request"));
    mark(x, SLUICE_REQUEST, SLUICE_LIT("x-asked"));
    if (sluice_header(x, SLUICE_REQUEST, SLUICE_LIT("x-way"), &way) &&
        sluice_eq(way, SLUICE_LIT("read"))) {
        shout_whole(x);
        return;
    }
    struct shouting *shouting = sluice_alloc(x, sizeof *shouting);
    if (!shouting)
        return;
    shouting->x = x;
    shouting->rest = SLUICE_LIT("");
    (void)sluice_body_transform(x, SLUICE_REQUEST, shout_next, shouting);
    do_what_is_asked(x, SLUICE_LIT("transformer"));
}

static void response(struct sluice_exchange *x, void *self) {
    (void)self;
    do_what_is_asked(x, SLUICE_LIT("response"));
    mark(x, SLUICE_RESPONSE, SLUICE_LIT("x-answer"));
}

static void log_it(struct sluice_exchange *x, void *self) {
    (void)self;
    do_what_is_asked(x, SLUICE_LIT("log"));
}

/* Of files of different contents. */
__attribute__((used)) static const char version[] = VERSION;

SLUICE_PLUGIN(.name = "chaos", .request = request, .response = response, .log = log_it);
