/* go_environ: gives one Go library its own GODEBUG, GOGC, GOMEMLIMIT and GOMAXPROCS, while it starts.
 *
 * A Go runtime reads its environment once, as it starts, from the block that the kernel put on the
 * process's first stack; setenv() does not reach that. Between go_environ_begin and go_environ_end the
 * block reads as asked for; afterwards it is as it was.
 *
 * Ownership  Wishes are borrowed for the call. Texts in the block live as long as the process, because
 *            another thread's getenv() may have found one.
 * Threads    Any. begin takes a lock that end gives up, on the same thread.
 * Parks      Never; another library's start may be waited for. */
#pragma once
#include <stdbool.h>

#include "base/check.h"
#include "base/span.h"

struct go_environ {
    bool no_cgocheck;         /* GODEBUG=cgocheck=0, behind what the user set there */
    struct span gogc;         /* "50", "off"; absent: what the process has */
    struct span memory_limit; /* "512MiB"; absent: what the process has */
    /* GOMAXPROCS, where the process has none and if there is room: it is no reason to fail. 0: Go's own. */
    unsigned max_procs;
};

/* As main() got them: argv must be the kernel's block. Before the first library; once. */
void go_environ_init(int argc, char **argv);

/* 0 and the lock is held until go_environ_end. -ENOMEM, or -ENOSPC when the block has no room (or was
 * never told of): then nothing changed and nothing is held. */
MUST_CHECK int go_environ_begin(const struct go_environ *wish);
void go_environ_end(void);
