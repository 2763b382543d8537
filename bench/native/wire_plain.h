/* wire, plain: how load.c speaks to a server. wire_tls.h is the other way. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_USAGE ""

struct wire {
    int fd;
};

static inline bool wire_read_option(const char *option) {
    (void)option; /* there are none */
    return false;
}

static inline bool wire_prepare(void) {
    return true;
}

/* Takes over a connected socket. */
static inline void wire_open(struct wire *wire, int fd) {
    wire->fd = fd;
}

static inline void wire_close(struct wire *wire) {
    close(wire->fd);
}

/* As send and recv, never waiting. */
static inline ssize_t wire_send(struct wire *wire, const char *bytes, size_t count) {
    return send(wire->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static inline ssize_t wire_receive(struct wire *wire, char *to, size_t room) {
    return recv(wire->fd, to, room, MSG_DONTWAIT);
}
