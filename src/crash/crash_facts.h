/* crash_facts: what a process says of its own end, as lines of text through a pipe, to the one that makes a report of it.
 *
 *     sluice-crash 1                       the first line: what it is, and of which version
 *     pid 4711                             each line is a key and what there is to say
 *     config 1f2e3d 4 1763831234000000000 SIGHUP
 *     signal 11
 *     thread 4715                          what follows is this thread's, up to the next one's; the first one died
 *     place in coroutine
 *     label route api
 *     told request GET /users              what is of this moment alone: request, request_id, connection, began_ns
 *     frame 55e8b7939485                   hexadecimal, as all addresses; innermost first
 *     end                                  the last line: nothing is missing
 *
 * Who writes it is about to die of something that may have hit any of its memory, so who reads it believes nothing: what
 * is no fact is left out, what is too much is, too. Both are of one release, since the reader is the same program.
 *
 * Ownership  Everything in a crash_facts is borrowed from the text.
 * Threads    Any. */
#pragma once
#include <stdint.h>

#include "base/check.h"
#include "base/span.h"

enum {
    CRASH_FACTS_VERSION = 1,
    CRASH_FACTS_BYTES_MAX = 512 * 1024,
    CRASH_FRAMES_MAX = 128,
    CRASH_THREADS_MAX = 64,
    CRASH_THREAD_LABELS_MAX = 19,
    CRASH_THREAD_TOLD_MAX = 8,
    CRASH_REGISTERS_MAX = 40,
    CRASH_MODULES_MAX = 256,
};

struct crash_pair {
    struct span key, value;
};

struct crash_thread {
    uint64_t tid, coroutine_id;
    struct span name, place, coroutine; /* absent: there is none */
    bool waits;                         /* its first frame is behind a call, too */
    unsigned label_count, told_count, frame_count;
    struct crash_pair labels[CRASH_THREAD_LABELS_MAX];
    struct crash_pair told[CRASH_THREAD_TOLD_MAX];
    uint64_t frames[CRASH_FRAMES_MAX];
};

/* A library that was loaded from a copy of its file. */
struct crash_module {
    uint64_t base;
    struct span bytes, file; /* as struct symbol_module has them */
};

struct crash_register {
    struct span name;
    uint64_t value;
};

/* Of a configuration, as struct crash_config has it. */
struct crash_version {
    uint64_t hash, version, since_ns;
    struct span origin;
};

struct crash_facts {
    uint64_t pid, signal, address, sender_pid, sender_uid, time_ns, uptime_ns;
    int64_t code;
    bool has_address, has_sender, is_whole;
    uint64_t generation, supervisor_pid;   /* 0: nobody supervises */
    struct span state;                     /* what the process was about; absent: it is not known */
    struct crash_version config, building; /* version 0: there was none */
    struct span assertion;                 /* absent: none failed */
    unsigned register_count, module_count, thread_count;
    struct crash_register registers[CRASH_REGISTERS_MAX];
    struct crash_module modules[CRASH_MODULES_MAX];
    struct crash_thread threads[CRASH_THREADS_MAX];
};

/* False: these are no facts, or not of this version. */
MUST_CHECK bool crash_facts_read(struct span text BORROWED_BY(out), struct crash_facts *out);
