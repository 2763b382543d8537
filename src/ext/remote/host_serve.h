/* host_serve: live exchanges in a host process: a thread for each seat, which works off the seat's ring.
 *
 *     first thread (ext_host_main.c)       seat 0     seat 1  ...       threads of Go's
 *     configurations come and go           LEND, LOG, END, SPECIFY      Continue, questions, whenever they like
 *            └── host_config.h ────────────────┴── a table of streams each (host_stream.h)
 *
 * One seat is one thread, so the library's per-worker maps need no lock, as in process (seat.h). A callback that blocks
 * blocks its seat: the proxy spreads streams, as it does over seats of its own.
 *
 * Threads  The first one. host_serve_start: once, when the library is loaded. */
#pragma once
#include "ext/go/go_plugin.h"
#include "ext/remote/host_send.h"

/* Worker ids of the library are seats of shm, which is transferred. 0 or -errno; then nothing was started. */
MUST_CHECK int host_serve_start(const struct go_library *library, struct remote_shm *shm);
/* What is counted of a plugin is counted where the proxy sees it. Of a process that does not serve yet nothing:
 * host_serve_start does it for those that there are. */
void host_serve_plugin(struct go_plugin *plugin);
/* The end is near: what the proxy has told is done, but for what takes until the deadline; when it returns, no seat begins
 * anything more. Of a process that does not serve nothing. */
void host_serve_stop(int64_t deadline_ns);
