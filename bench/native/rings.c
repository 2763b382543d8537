/* bench_rings: what it costs at least to ask another process for something: records go there and back through the
 * rings that host processes have (src/ext/remote/ring.h), and nothing else is done.
 *
 *     bench_rings COUNT BATCH BYTES     prints "ns_wall ns_cpu ops"; CPU time is that of both processes
 *
 * An operation is a record of so many bytes there, and one back. BATCH of them are put, then the other end is woken, and
 * its answers are waited for: with 1 each operation is two wake-ups, as of an idle proxy; with many it is what copying,
 * committing and taking cost. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "ext/remote/ring.h"

enum { RECORD = 1, LAST };
enum { BYTES_MAX = 1 << 14 };

struct ends {
    struct remote_ring_out out;
    struct remote_ring_in in;
};

static void must(int err) {
    if (err) {
        (void)fprintf(stderr, "bench_rings: %s\n", strerror(-err));
        exit(1);
    }
}

static void open_ends(struct ends *ends, const struct remote_ring_memory *to,
                      const struct remote_ring_memory *from) {
    remote_ring_out_init(&ends->out, to, REMOTE_BELL_NONE);
    remote_ring_in_init(&ends->in, from);
}

/* The next record is copied, as who does not trust the other end has to. */
static uint32_t take(struct ends *ends, char *copy) {
    struct remote_record record;
    int err;
    while ((err = remote_ring_in_next(&ends->in, &record)) == -EAGAIN)
        must(remote_ring_in_wait(&ends->in, INT64_MAX));
    must(err);
    remote_record_copy(&record, 0, copy, record.payload.len);
    remote_ring_in_done(&ends->in);
    return record.kind;
}

/* Wakes for all that was there, when there is no more. */
static _Noreturn void answer(struct ends *ends, size_t bytes) {
    char copy[BYTES_MAX];
    struct remote_record record;
    for (;;) {
        int err = remote_ring_in_next(&ends->in, &record);
        if (err == -EAGAIN) {
            (void)remote_ring_out_wake(&ends->out);
            must(remote_ring_in_wait(&ends->in, INT64_MAX));
            continue;
        }
        must(err);
        if (record.kind == LAST)
            _exit(0);
        remote_record_copy(&record, 0, copy, record.payload.len);
        remote_ring_in_done(&ends->in);
        must(remote_ring_out_put(&ends->out, RECORD, span_make(copy, bytes)));
    }
}

static void ask(struct ends *ends, uint64_t count, uint64_t batch, size_t bytes) {
    char record[BYTES_MAX];
    memset(record, 'x', bytes);
    for (uint64_t done = 0; done < count; done += batch) {
        for (uint64_t i = 0; i < batch; i++)
            must(remote_ring_out_put(&ends->out, RECORD, span_make(record, bytes)));
        (void)remote_ring_out_wake(&ends->out);
        for (uint64_t i = 0; i < batch; i++)
            (void)take(ends, record);
    }
}

static int64_t cpu_ns(int who) {
    struct rusage used;
    (void)getrusage(who, &used); /* cannot fail with those two */
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * NS_PER_S +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
}

int main(int argc, char **argv) {
    uint64_t count = argc == 4 ? strtoull(argv[1], NULL, 10) : 0;
    uint64_t batch = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
    size_t bytes = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    if (!count || !batch || !bytes || bytes > BYTES_MAX ||
        batch * (bytes + 16) > REMOTE_RING_SIZE) {
        (void)fprintf(stderr,
                      "usage: bench_rings COUNT BATCH BYTES, of which a ring holds BATCH\n");
        return 2;
    }
    off_t span = (off_t)remote_ring_span(REMOTE_RING_SIZE);
    struct remote_ring_memory there, back;
    int fd = memfd_create("rings", MFD_CLOEXEC);
    must(fd < 0 || ftruncate(fd, 2 * span) != 0 ? -errno : 0);
    must(remote_ring_map(fd, 0, REMOTE_RING_SIZE, &there));
    must(remote_ring_map(fd, span, REMOTE_RING_SIZE, &back));
    struct ends ends;
    pid_t child = fork();
    must(child < 0 ? -errno : 0);
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        open_ends(&ends, &back, &there);
        answer(&ends, bytes);
    }
    open_ends(&ends, &there, &back);
    ask(&ends, batch, batch, bytes); /* pages and caches are there then */
    int64_t wall_ns = clock_mono_ns(), own_ns = cpu_ns(RUSAGE_SELF);
    ask(&ends, count, batch, bytes);
    wall_ns = clock_mono_ns() - wall_ns;
    own_ns = cpu_ns(RUSAGE_SELF) - own_ns;
    must(remote_ring_out_put(&ends.out, LAST, span_make("", 0)));
    (void)remote_ring_out_wake(&ends.out);
    (void)waitpid(child, NULL, 0);
    uint64_t ops = (count + batch - 1) / batch * batch;
    printf("%lld %lld %llu\n", (long long)wall_ns, (long long)(own_ns + cpu_ns(RUSAGE_CHILDREN)),
           (unsigned long long)ops);
    return 0;
}
