/* bench_streams: what Sluice's readers and writers cost, one case per run of the program. bench/streams_go does the
 * same with Go's, case by case under the same names, and ./dev bench streams lets them take turns.
 *
 *     bench_streams CASE COUNT   prints "ns_wall ns_cpu ops allocations", of this process, user and system
 *
 * What one operation is, on both sides:
 *   iface_call            a byte of a reader, by a call through its interface that the compiler cannot see through
 *   stream_copy_dispatch  stream_copy, or io.Copy, of a reader that is at its end
 *   body_plain            1 MiB through a socket to a reader who looks at none of it, a second coroutine sends
 *   body_hook             the same with an observer between, who sees each byte where it lies
 *   body_readall          the same with an observer who first reads the whole body into memory of its own, and then
 *                         passes it on
 * Bodies are not spliced, hooked or not. Both sides run a sixteenth of COUNT before they measure. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/socket_stream.h"
#include "io/stream_copy.h"
#include "io/stream_hook.h"
#include "rt/rt.h"

enum { BODY = 1 << 20, PIECE = 16 * 1024 };

static void check(const char *what, ssize_t result) {
    if (result >= 0)
        return;
    fprintf(stderr, "bench_streams: %s: %s\n", what, strerror((int)-result));
    exit(1);
}

/* ---- Allocations, counted by --wrap ---- */

static uint64_t allocations;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    allocations++;
    return __real_malloc(size);
}

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size) {
    allocations++;
    return __real_realloc(old, size);
}

/* ---- Calls ---- */

static NOINLINE ssize_t one_next(void *data, size_t max, struct span *out) {
    *out = span_make(data, 1);
    return 1;
}

static void iface_call(uint64_t n) {
    static const struct reader_itab itab = {.next = one_next};
    static char byte;
    struct reader reader = {&itab, &byte};
    __asm__ volatile("" : "+r"(reader.itab)); /* nobody knows which it is */
    while (n--) {
        struct span out;
        check("next", reader_next(reader, 1, &out));
    }
}

static ssize_t end_next(void *data, size_t max, struct span *out) {
    *out = span_make("", 0);
    return 0;
}

static int devour(void *data, struct iovec *pieces, int count) {
    uint64_t *bytes = data;
    *bytes += pieces_size(pieces, count);
    return 0;
}

static const struct writer_itab devours = {.write = devour};

static void stream_copy_dispatch(uint64_t n) {
    static const struct reader_itab ends = {.next = end_next};
    uint64_t bytes = 0;
    const struct reader_itab *itab = &ends;
    __asm__ volatile("" : "+r"(itab));
    while (n--) {
        struct stream_copy copy;
        stream_copy_init(&copy, (struct reader){itab, NULL}, (struct writer){&devours, &bytes},
                         NULL);
        if (stream_copy_run(&copy, STREAM_WAIT) != STREAM_END)
            check("stream_copy", -EIO);
        stream_copy_end(&copy);
    }
}

/* ---- Bodies ---- */

static struct socket near, far;
static struct inbuf in;
static struct socket_reader from;
static uint64_t left_to_send;

static void sends(void *arg) {
    static char bytes[PIECE];
    while (left_to_send) {
        struct iovec piece = {bytes, sizeof bytes};
        check("send", socket_send(&far, &piece, 1, "bench sends", RT_FOREVER));
        left_to_send -= sizeof bytes;
    }
}

static void open_line(void) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        check("socketpair", -EMFILE);
    check("open", socket_open(&near, fds[0], NULL));
    check("open", socket_open(&far, fds[1], NULL));
    inbuf_init(&in, rt_blocks());
    socket_reader_init(&from, &near, &in, "bench receives", RT_FOREVER);
}

static void close_line(void) {
    inbuf_drop(&in);
    socket_close(&near);
    socket_close(&far);
}

static void pass(struct reader reader, uint64_t *bytes) {
    struct stream_copy copy;
    stream_copy_init(&copy, reader, (struct writer){&devours, bytes}, NULL);
    copy.limit = BODY;
    if (stream_copy_run(&copy, STREAM_WAIT) != STREAM_END || copy.bytes != BODY)
        check("a body", copy.error ? copy.error : -EIO);
    stream_copy_end(&copy);
}

static void see(void *arg, struct span bytes) {
    uint64_t *seen = arg;
    *seen += bytes.len;
}

/* What a filter does that wants the whole of it, as io.ReadAll grows its memory. */
static void read_all(struct reader reader, uint64_t *bytes) {
    size_t room = 512, size = 0;
    char *all = malloc(room);
    while (size < BODY) {
        struct span run;
        check("next", reader_next(reader, BODY - size, &run));
        while (room - size < run.len) {
            room = room < 1 << 18 ? room * 2 : room + room / 4;
            all = realloc(all, room);
        }
        memcpy(all + size, run.ptr, run.len);
        size += run.len;
    }
    see(bytes, span_make(all, size));
    struct iovec piece = {all, size};
    check("write", devour(bytes, &piece, 1));
    free(all);
}

enum body { PLAIN, HOOK, READ_ALL };

static void bodies(uint64_t n, enum body how) {
    uint64_t bytes = 0;
    open_line();
    left_to_send = n * BODY;
    check("go", go_here("sends", sends, NULL));
    while (n--) {
        struct hook_reader hook;
        hook_reader_init(&hook, socket_reader(&from),
                         (struct stream_observer){.bytes = see, .arg = &bytes});
        if (how == READ_ALL)
            read_all(socket_reader(&from), &bytes);
        else
            pass(how == HOOK ? hook_reader(&hook) : socket_reader(&from), &bytes);
        socket_reader_done(&from);
    }
    close_line();
}

static void body_plain(uint64_t n) {
    bodies(n, PLAIN);
}
static void body_hook(uint64_t n) {
    bodies(n, HOOK);
}
static void body_readall(uint64_t n) {
    bodies(n, READ_ALL);
}

/* ---- */

static const struct {
    const char *name;
    void (*run)(uint64_t n);
} cases[] = {
    {"iface_call", iface_call},     {"stream_copy_dispatch", stream_copy_dispatch},
    {"body_plain", body_plain},     {"body_hook", body_hook},
    {"body_readall", body_readall},
};

static void (*run)(uint64_t n);
static uint64_t count;

static int64_t cpu_ns(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail with these arguments */
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
}

static void measure(void *arg) {
    run(count / 16 + 1);
    allocations = 0;
    int64_t wall = clock_mono_ns(), cpu = cpu_ns();
    run(count);
    wall = clock_mono_ns() - wall;
    cpu = cpu_ns() - cpu;
    printf("%lld %lld %llu %llu\n", (long long)wall, (long long)cpu, (unsigned long long)count,
           (unsigned long long)allocations);
    fflush(stdout);
    rt_stop(0);
}

int main(int argc, char **argv) {
    log_set_level(LOG_ERROR); /* warnings about what runs long: here that is the point */
    for (size_t i = 0; argc == 3 && i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].name, argv[1]) == 0)
            run = cases[i].run;
    count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    if (!run || count == 0) {
        fprintf(stderr, "usage: bench_streams CASE COUNT; cases:");
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            fprintf(stderr, " %s", cases[i].name);
        fprintf(stderr, "\n");
        return 2;
    }
    check("rt_run", rt_run(&(struct rt_options){.p_count = 1}, measure, NULL));
    return 0;
}
