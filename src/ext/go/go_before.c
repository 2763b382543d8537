/* go_before: a Go network filter between the client and the filters behind it: a reader and a writer around those that
 * were there. What they hold back and let through: go_network.c. */
#include <errno.h>
#include <stdlib.h>

#include "ext/go/go_network_internal.h"
#include "io/pieces.h"
#include "proxy/downstream.h"

enum { HELD_MAX = 1 << 20 }; /* bytes that OnWrite stopped */

/* ---- reading ---- */

/* Bytes that go on, the end, or an error. What the plugin stops, or has, does not come. */
static ssize_t pull(struct go_client *client, size_t max, struct span *out) {
    for (;;) {
        uint64_t status = GO_NETWORK_CONTINUE;
        ssize_t n = client->closing ? -ECONNRESET : reader_next(client->inner, max, out);
        if (client->closing)
            return -ECONNRESET;
        if (n == 0 && client->read_ended)
            return 0;
        if (n < 0)
            return n;
        client->read_ended = n == 0;
        int rc = go_client_tell_data(client, *out, n == 0, &status);
        if (rc != 0)
            return client->closing ? -ECONNRESET : rc;
        if (n == 0)
            return 0; /* with Stop, too: there is no other way to go on */
        if (client->without || (status == GO_NETWORK_CONTINUE && client->config->passes_read_data))
            return n;
        client->kept = true;
    }
}

static ssize_t next(void *data, size_t max, struct span *out) {
    struct go_client *client = data;
    size_t kept = client->lent.len < max ? client->lent.len : max;
    if (kept) {
        *out = span_make(client->lent.ptr, kept);
        client->lent = span_from(client->lent, kept);
        return (ssize_t)kept;
    }
    *out = span_make("", 0);
    client->reading = rt_self();
    ssize_t n = pull(client, max, out);
    client->reading = NULL;
    return n;
}

static void close_reader(void *data) {
    struct go_client *client = data;
    if (!client->closed_reader)
        reader_close(client->inner);
    client->closed_reader = true;
}

static const struct reader_itab reader_itab = {.next = next, .close = close_reader};

/* ---- writing ---- */

static int hold_back(struct go_client *client, const struct iovec *pieces, int count) {
    size_t more = pieces_size(pieces, count);
    if (more > HELD_MAX - client->held_len)
        return -EMSGSIZE;
    char *held = more ? realloc(client->held, client->held_len + more) : client->held;
    if (more && !held)
        return -ENOMEM;
    client->held = held;
    for (int i = 0; i < count; i++) {
        if (pieces[i].iov_len)
            memcpy(held + client->held_len, pieces[i].iov_base, pieces[i].iov_len);
        client->held_len += pieces[i].iov_len;
    }
    return 0;
}

/* It is done with, unless the write was shown together with it, and stopped. */
static int write_held(struct go_client *client) {
    struct span held = span_make(client->held, client->held_len);
    if (!held.len)
        return 0;
    int rc = writer_write_span(client->inner_writer, held);
    free(client->held);
    client->held = NULL;
    client->held_len = 0;
    return rc;
}

static int show_and_write(struct go_client *client, struct iovec *pieces, int count) {
    uint64_t status;
    int rc = go_client_tell_write(client, pieces, count, false, &status);
    if (rc == 0 && status != GO_NETWORK_CONTINUE)
        return hold_back(client, pieces, count);
    if (rc == 0)
        rc = write_held(client);
    return rc != 0 ? rc : writer_write(client->inner_writer, pieces, count);
}

static int show_and_finish(struct go_client *client) {
    uint64_t status;
    int rc = go_client_tell_write(client, NULL, 0, true, &status);
    if (rc == 0 && status != GO_NETWORK_CONTINUE) {
        client->held_end = true;
        return 0; /* the client is not told, until the connection is closed */
    }
    if (rc == 0)
        rc = write_held(client);
    return rc != 0 ? rc : go_client_finish(client);
}

int go_client_let_go(struct go_client *client) {
    int rc = write_held(client);
    return rc == 0 && client->held_end ? go_client_finish(client) : rc;
}

static int enter_writer(struct go_client *client) {
    client->writing = rt_self();
    int rc = comutex_lock(&client->writes, RT_FOREVER);
    if (rc == 0 && (client->closing || client->finished)) {
        comutex_unlock(&client->writes);
        rc = -EPIPE;
    }
    if (rc != 0)
        client->writing = NULL;
    return rc;
}

static int leave_writer(struct go_client *client, int rc) {
    client->writing = NULL;
    comutex_unlock(&client->writes);
    return rc;
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct go_client *client = data;
    int rc = enter_writer(client);
    return rc != 0 ? rc : leave_writer(client, show_and_write(client, pieces, count));
}

static int finish(void *data) {
    struct go_client *client = data;
    int rc = enter_writer(client);
    return rc != 0 ? rc : leave_writer(client, show_and_finish(client));
}

static void abort_writer(void *data) {
    const struct go_client *client = data;
    writer_abort(client->inner_writer);
}

static void close_writer(void *data) {
    struct go_client *client = data;
    if (!client->closed_writer)
        writer_close(client->inner_writer);
    client->closed_writer = true;
}

static const struct writer_itab writer_itab = {
    .write = write_pieces, .finish = finish, .abort = abort_writer, .close = close_writer};

void go_client_break(struct go_client *client) {
    struct network_stream *n = client->n;
    n->closed_by_filter = client->close_type != GO_CLOSE_RESET;
    if (client->close_type == GO_CLOSE_RESET)
        socket_reset_on_close(&n->connection->socket);
    if (network_stream_break(n))
        return;
    if (client->reading)
        rt_cancel(client->reading);
    if (client->writing)
        rt_cancel(client->writing);
}

void go_client_wrap(struct go_client *client) {
    struct network_stream *n = client->n;
    client->inner = n->reader;
    client->inner_writer = n->writer;
    n->reader = (struct reader){&reader_itab, client};
    n->writer = (struct writer){&writer_itab, client};
}
