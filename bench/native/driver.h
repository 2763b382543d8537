/* driver: what the programs have in common that ask servers for something and are told to go by a line
 * (load.c, stream_load.c, handshakes.c). */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Source addresses are 127.0.1.1, .2 ... with so many connections each, since a pair of addresses has but some 28,000
 * ports, and each rests for a minute after it was used. */
enum { DRIVER_PORTS_EACH = 20000, DRIVER_ADDRESSES = 200 };

struct driver_number {
    const char *name; /* with its '=' */
    uint64_t *value;
};

static inline _Noreturn void driver_fail(const char *who, const char *what) {
    fprintf(stderr, "%s: %s: %s\n", who, what, strerror(errno));
    exit(1);
}

/* Whether the text is one of these options, with a number. */
static inline bool driver_read_number(const char *text, const struct driver_number *numbers,
                                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(numbers[i].name);
        if (strncmp(text, numbers[i].name, length) != 0)
            continue;
        char *end;
        *numbers[i].value = strtoull(text + length, &end, 10);
        return end != text + length && *end == 0;
    }
    return false;
}

static inline struct sockaddr_in driver_server(uint64_t port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* The connection of this number, a blocking socket; -1 and errno. */
static inline int driver_connect(const struct sockaddr_in *server, uint64_t number) {
    uint32_t place = (uint32_t)(number / DRIVER_PORTS_EACH % DRIVER_ADDRESSES);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101 + place)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    /* The port is chosen when it connects, by both addresses. */
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) == 0 &&
        bind(fd, (void *)&from, sizeof from) == 0 &&
        connect(fd, (const void *)server, sizeof *server) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* Or for the end of the input. */
static inline void driver_wait_for_line(void) {
    char byte = 0;
    while (byte != '\n' && read(STDIN_FILENO, &byte, 1) == 1) {
    }
}
