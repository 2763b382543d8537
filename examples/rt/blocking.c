/* blocking: calls that hold up a thread, without holding up the other coroutines.
 *
 * One processor only, so that whatever goes on meanwhile goes on beside the call, not on another core. */
#define _GNU_SOURCE /* accept4, in sys.h */
#include <netdb.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "rt/foreign.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "sys.h"

struct lookup {
    const char *name;
    int error; /* of getaddrinfo */
    unsigned addresses;
};

/* For what is known to block. It runs on a thread of its own, without a processor, and touches its
 * argument only. */
static void look_up(void *arg) {
    struct lookup *lookup = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    lookup->error = getaddrinfo(lookup->name, NULL, &hints, &found);
    if (lookup->error != 0)
        return;
    for (struct addrinfo *at = found; at; at = at->ai_next)
        lookup->addresses++;
    freeaddrinfo(found);
}

static int pipe_fds[2];

/* For what seldom blocks. It runs on the caller's thread and mostly costs a few nanoseconds; this one
 * does block, until the other coroutine has written. After a millisecond or two the processor is taken
 * from the thread, which is how the other one gets to run at all. */
static void read_a_byte(void *arg) {
    if (sys_read(pipe_fds[0], arg, 1) != 1)
        *(char *)arg = '?';
}

static void write_later(void *arg) {
    (void)arg;
    if (rt_sleep_until(rt_now_ns() + 20 * NS_PER_MS) == 0)
        (void)sys_write(pipe_fds[1], "!", 1); /* the reader says '?' if it fails */
}

static void main_coroutine(void *arg) {
    (void)arg;
    struct lookup lookup = {.name = "localhost"};
    if (blocking_call(look_up, &lookup) < 0) { /* no thread to be had */
        rt_stop(1);
        return;
    }
    if (lookup.error != 0)
        printf("%s: %s\n", lookup.name, gai_strerror(lookup.error));
    else
        printf("%s has %u addresses\n", lookup.name, lookup.addresses);

    char byte = '?';
    if (pipe(pipe_fds) < 0 || go_here("writes later", write_later, NULL) < 0) {
        rt_stop(1);
        return;
    }
    foreign_call(read_a_byte, &byte);
    printf("read %c, which another coroutine of this processor wrote meanwhile\n", byte);
    rt_stop(byte == '!' ? 0 : 1);
}

int main(void) {
    return rt_run(&(struct rt_options){.p_count = 1}, main_coroutine, NULL) == 0 ? 0 : 1;
}
