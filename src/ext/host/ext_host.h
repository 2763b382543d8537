/* ext_host: a host process, seen from the proxy: a second sluice (--ext-host) that loads libraries outside
 * of the proxy. It is what probes new libraries and configurations, and it can be lost at any moment. It may
 * also be a whole proxy that another process runs and watches (filter-test).
 *
 *     proxy ── requests ──► socket ──► host process: ext_host_main, one request after the other
 *           ◄─ answers ───        ◄──
 *           ◄─ all that it prints ── pipe (its standard output and error)
 *           ◄─ its end ───────────── pidfd
 *
 * Ownership  ext_host_start gives one owned host; ext_host_free ends the process if need be, and
 *            reaps it.
 * Threads    One at a time per host, and a real thread: calls block. The kernel kills the process when the
 *            thread that started it ends, so that one stays until the host is freed.
 * Process    Made with posix_spawn, so it may be done while Go runtimes live here. Of our descriptors it
 *            has the socket and the pipe alone; its signals are as after a fresh start. It ends when we do.
 * Limits     EXT_HOST_OUTPUT_MAX bytes of what it printed are kept: the first and the last. */
#pragma once
#include <sys/types.h>

#include "ext/host/ext_host_wire.h"
#include "http/header_map.h"

struct ext_host;

enum { EXT_HOST_OUTPUT_FIRST = 64 * 1024, EXT_HOST_OUTPUT_LAST = 192 * 1024 };
enum { EXT_HOST_OUTPUT_MAX = EXT_HOST_OUTPUT_FIRST + EXT_HOST_OUTPUT_LAST };

struct ext_host_options {
    /* "NAME=value" beside our own environment, before which they count. Ends in NULL. */
    const char *const *environment;
    /* NULL: it serves requests of ext_host_call. Else, ending in NULL: it is a proxy with these flags. */
    const char *const *flags;
    /* Gets what it prints, as it is read, or NULL. */
    void (*on_output)(void *arg, struct span bytes);
    void *arg BORROWED_BY(host);
};

/* 0 or -errno: no process can be had. */
MUST_CHECK int ext_host_start(const struct ext_host_options *options, struct ext_host **out);

/* From now on what it prints goes there, as with on_output of the options: for one that was started before it
 * was known for whom. NULL: nowhere. */
void ext_host_set_output(struct ext_host *host, void (*on_output)(void *arg, struct span bytes),
                         void *arg BORROWED_BY(host));

/* First thing of a thread that does nothing but deal with hosts: signals belong to the runtime's owner of them and never come
 * here, but for faults of its own. */
void ext_host_thread_begin(const char *name);

/* Sends the request, with its descriptors, and waits for the answer, whose texts are borrowed until the next call. 0; -EPIPE: the
 * process ended, or will not talk any more; -ETIMEDOUT; -EPROTO; -ENOMEM. After an error the host is good for
 * ext_host_end alone. */
MUST_CHECK int ext_host_call(struct ext_host *host, const struct ext_host_message *request,
                             struct ext_host_message *answer, int64_t deadline_ns);

/* While a call waits for its answer, what is to be asked when fd is readable: true, and the call returns -ETIMEDOUT. It is asked
 * on the thread that calls, may ext_host_poll, and reads from fd, or it is asked again at once. NULL: nothing. */
void ext_host_set_interrupt(struct ext_host *host, int fd, bool (*gives_up)(void *arg),
                            void *arg BORROWED_BY(host));

/* poll() of fds and of the process: what it prints meanwhile is read. How many of fds are ready; 0: the deadline
 * has passed; -EPIPE: the process ended, and is good for ext_host_end alone. */
struct pollfd;
enum { EXT_HOST_POLL_MAX = 4 };
MUST_CHECK int ext_host_poll(struct ext_host *host, struct pollfd *fds, unsigned count,
                             int64_t deadline_ns);

/* Ends the process, and returns when it has. ASK: it may end by itself, and is killed if it does not.
 * DUMP: it is stuck: its Go runtime is made to say where (goroutines to its output), then it is killed.
 * DUMP_FIRST: likewise its first thread, of a process without Go.
 * KILL: at once.
 * Idempotent. */
enum ext_host_ending { EXT_HOST_ASK, EXT_HOST_DUMP, EXT_HOST_DUMP_FIRST, EXT_HOST_KILL };
void ext_host_end(struct ext_host *host, enum ext_host_ending how);

/* Until the end. */
pid_t ext_host_pid(const struct ext_host *host);
/* A debugger holds it: it is not stuck, somebody looks at it. Until the end. */
bool ext_host_is_traced(const struct ext_host *host);
/* From another thread than the host's, which finds it ended: so that a call to it does not take its time. Not once that one
 * may have begun ext_host_end. */
void ext_host_kill(const struct ext_host *host);

/* After the end: as waitpid gives it. */
int ext_host_status(const struct ext_host *host);
/* After the end: what it printed; where some was left out it says how much. Borrowed. */
struct span ext_host_output(struct ext_host *host);

void ext_host_free(struct ext_host *host);

/* ---- the host process ---- */

/* argv says that this is one: `sluice --ext-host`, and perhaps a proxy's flags. */
bool ext_host_is_asked(int argc, char **argv);
/* Ties its life to that of its parent. 0, or -errno and the reason printed. */
int ext_host_prepare(void);
/* Serves requests from EXT_HOST_FD until its end. The process's exit status. On the first thread, before
 * any other exists. */
int ext_host_main(void);
/* One request, in ext_host_go.c. answer's texts are borrowed from `memory`, which the caller frees. */
void ext_host_serve_go(const struct ext_host_message *request, struct ext_host_message *answer,
                       char **memory);
/* Likewise, in ext_host_native.c. */
void ext_host_serve_native(const struct ext_host_message *request, struct ext_host_message *answer,
                           char **memory);
/* The proxy's. What a host process prints is shown if it does not come back: for that warnings and errors, or errors alone,
 * matter. */
void ext_host_set_log_level(uint64_t level);
/* Adds the fields of a request that does not exist: GET / of a host that does not. 0 or -ENOMEM. */
MUST_CHECK int ext_host_make_up(struct header_map *headers);
