/* tls_story: a server and a client of ours on both ends of a pair of sockets, on one P.
 *
 * The server is a coroutine of its own, because each side of a handshake waits for the other. */
#pragma once
#include "io/socket_raw.h"
#include "io/tls.h"
#include "io_story.h"
#include "tls_certs.h"

static struct cert authority,
    server_cert; /* made by tls_story_setup; server_cert is for server.test */

struct side {
    struct socket socket;
    struct inbuf in;
    struct tls_context *context;
    struct tls_fault fault;
    int rc;
    bool done;
    int64_t deadline_ns; /* 0: soon */
};
static struct side server, client;
static struct tls_peer to_server = {.server_name = SPAN_INIT("server.test")};
static struct g *server_coroutine;

static UNUSED int tls_story_setup(void **state) {
    cert_make(&authority, (struct cert_wish){.common_name = "Authority"});
    cert_make(&server_cert, (struct cert_wish){.common_name = "server",
                                               .names = "DNS:server.test",
                                               .issuer = &authority});
    return 0;
}

static UNUSED int tls_story_teardown(void **state) {
    cert_free(&authority);
    cert_free(&server_cert);
    return 0;
}

/* For the options of a context: the least that works. */
static struct tls_certificate certificates[4];
static UNUSED struct tls_options server_options(void) {
    certificates[0] = cert_given(&server_cert);
    return (struct tls_options){
        .is_server = true, .certificates = certificates, .certificate_count = 1};
}

static struct tls_validation validation;
static UNUSED struct tls_options client_options(void) {
    validation =
        (struct tls_validation){.ca = span_of(authority.pem), .ca_name = SPAN_INIT("ca.pem")};
    return (struct tls_options){.validation = &validation};
}

static UNUSED struct tls_context *context_of(const struct tls_options *options) {
    char error[TLS_ERROR_MAX];
    struct tls_context *context = tls_context_new(options, error);
    if (!context)
        fprintf(stderr, "no context: %s\n", error);
    CHECK(context);
    return context;
}

static UNUSED void contexts(const struct tls_options *of_server,
                            const struct tls_options *of_client) {
    server.context = context_of(of_server);
    client.context = context_of(of_client);
}

static UNUSED void plain_contexts(void) {
    struct tls_options of_server = server_options(), of_client = client_options();
    contexts(&of_server, &of_client);
}

static UNUSED void end_contexts(void) {
    tls_context_unref(server.context);
    tls_context_unref(client.context);
}

static UNUSED void open_side(struct side *side, int fd, socket_event_fn on_event) {
    CHECK(socket_open(&side->socket, fd, on_event) == 0);
    inbuf_init(&side->in, rt_blocks());
    side->done = false;
}

static UNUSED void open_pair(void) {
    int fds[2];
    unix_pair(fds);
    open_side(&server, fds[0], NULL);
    open_side(&client, fds[1], NULL);
}

static UNUSED void close_side(struct side *side) {
    inbuf_drop(&side->in);
    socket_close(&side->socket);
}

static UNUSED void accepts(void *arg) {
    struct side *side = arg;
    server_coroutine = rt_self();
    side->rc = tls_accept(&side->socket, side->context, &side->in,
                          side->deadline_ns ? side->deadline_ns : story_soon(), &side->fault);
    if (side->rc != 0)
        (void)!socket_shutdown(&side->socket); /* so that the client does not wait */
    server_coroutine = NULL;
    side->done = true;
}

static UNUSED void connects(void) {
    client.rc = tls_connect(&client.socket, client.context, &to_server, &client.in,
                            client.deadline_ns ? client.deadline_ns : story_soon(), &client.fault);
    if (client.rc != 0)
        (void)!socket_shutdown(&client.socket);
    client.done = true;
}

/* Both sides, to whatever end. */
static UNUSED void shake_hands(void) {
    open_pair();
    CHECK(go_here("server", accepts, &server) == 0);
    connects();
    STORY_AWAIT(server.done);
}

static UNUSED void shake_hands_well(void) {
    shake_hands();
    if (server.rc || client.rc)
        fprintf(stderr, "server %d %s, client %d %s\n", server.rc, server.fault.text, client.rc,
                client.fault.text);
    CHECK(server.rc == 0);
    CHECK(client.rc == 0);
}

static UNUSED void close_pair(void) {
    close_side(&client);
    close_side(&server);
}

static UNUSED void says(struct side *side, const char *text) {
    struct iovec piece = piece_of(text);
    CHECK(socket_send(&side->socket, &piece, 1, "says", RT_FOREVER) == 0);
}

/* Exactly this is what comes. */
static UNUSED void hears(struct side *side, const char *text) {
    while (inbuf_len(&side->in) < strlen(text))
        CHECK(socket_receive(&side->socket, &side->in, "hears", story_soon()) > 0);
    CHECK(holds(&side->in, text));
    inbuf_consume(&side->in, strlen(text));
    inbuf_idle(&side->in);
}

static UNUSED void speak_both_ways(void) {
    says(&client, "question");
    hears(&server, "question");
    says(&server, "answer");
    hears(&client, "answer");
}

static UNUSED struct tls_facts facts_of(const struct side *side) {
    struct tls_facts facts;
    CHECK(tls_facts(&side->socket, &facts));
    return facts;
}

static UNUSED bool is(struct span span, const char *text) {
    return span_eq(span, span_of(text));
}

static UNUSED void end_story(void) {
    end_contexts();
    CHECK(blocks_in_use() == 0);
    rt_stop(0);
}
