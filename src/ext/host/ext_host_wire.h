/* ext_host_wire: what the proxy and a host process (sluice --ext-host) say to each other: requests one way,
 * one answer to each the other way, over a stream socket. Both are one executable, so there are no
 * versions. Bulk data goes by shared memory whose descriptors travel with a request, on the same socket.
 *
 *     magic | kind | 4 numbers | lengths of 4 texts | the texts        in the machine's byte order
 *
 * Pure: nothing here reads or writes a descriptor, and decoding leaves fds alone.
 * Limits  EXT_HOST_MESSAGE_MAX bytes: larger ones are not made, and refused when they come. */
#pragma once
#include "base/check.h"
#include "base/span.h"

enum {
    EXT_HOST_NUMBERS = 4,
    EXT_HOST_TEXTS = 4,
    /* A configuration is the largest thing sent; Envoy's own transport of those ends at 64 MiB too. */
    EXT_HOST_MESSAGE_MAX = 64 << 20,
    EXT_HOST_FD = 3,        /* where the host process finds its socket */
    EXT_HOST_FDS_MAX = 253, /* descriptors of one request: SCM_MAX_FD of the kernel */
};

/* Numbers and texts of the request => of the answer. */
enum ext_host_kind {
    EXT_HOST_ANSWER = 0,
    /* {seats to announce, log level, 1 and that of what the library logs, or 0: the same} path, library_id, GOGC or none, GOMEMLIMIT or none
     * => {1 or 0: is loaded} why not, or a warning. First, and once. With a descriptor that is what is loaded: a sealed
     * copy (go_file.h) of what was at the path. */
    EXT_HOST_GO_LOAD,
    /* {is for a route, the proxy's id or 0} plugin_name, serialised Any => {id, 0: refused} what the parser said. With an id
     * of the proxy's it is kept under that, unless it is kept already. */
    EXT_HOST_GO_NEW,
    /* {parent id, child id, the proxy's id or 0} plugin_name => {id}. With an id of the proxy's the other two are the
     * proxy's as well. */
    EXT_HOST_GO_MERGE,
    /* {config id} plugin_name => {1: the library has no such plugin}: makes a filter for a stream that does not exist, and
     * drops it */
    EXT_HOST_GO_CREATE,
    /* {0, the proxy's id or 0} what it is called, serialised Any => as EXT_HOST_GO_NEW. Of a cluster specifier. */
    EXT_HOST_GO_NEW_CLUSTER,
    /* {0, the proxy's id or 0} plugin_name, serialised Any => {id}: of a network filter. With no id of the proxy's it is shown
     * a connection that does not exist. */
    EXT_HOST_GO_NEW_NETWORK,
    /* {the proxy's id}: no stream has it, or will have it => {} */
    EXT_HOST_GO_DROP,
    /* {log level of what the library logs from then on} with the descriptors of shared memory (remote_shm_fds) =>
     * {1 or 0: it serves} why not. Once, with as many seats as were announced; other requests go on being served. */
    EXT_HOST_GO_SERVE,
    /* {milliseconds} => {}: it is about to be ended. Seats may take so long for what they were told; then configurations are
     * destroyed, and no seat does anything any more. */
    EXT_HOST_GO_STOP,
    /* {workers to announce, log level, 1: to serve} path, perhaps with a descriptor: of a copy of the file, which is loaded in
     * its place => {1 or 0: is loaded, what it has (1 << enum remote_function)} the plug-in's name, or why not. First, and once. */
    EXT_HOST_NATIVE_LOAD,
    /* {is for a route, id of the filter's own then, the proxy's id or 0, stack_bytes or 0} JSON => {id, 0: refused} why.
     * With an id of the proxy's it is kept under that, and the other one is the proxy's as well. */
    EXT_HOST_NATIVE_NEW,
    /* {parent id, id of a route's} => {id, 0: it failed} why */
    EXT_HOST_NATIVE_MERGE,
    /* {id of a filter's own} => {1, 0: it faulted} why: makes an instance for an exchange that does not exist, and drops it */
    EXT_HOST_NATIVE_CREATE,
    /* => {}: gives all of them back */
    EXT_HOST_NATIVE_FREE,
    /* As EXT_HOST_GO_DROP, _SERVE and _STOP. */
    EXT_HOST_NATIVE_DROP,
    EXT_HOST_NATIVE_SERVE,
    EXT_HOST_NATIVE_STOP,
    /* ext/remote/sandbox_options.h => {1 or 0: is in its sandbox} why not, or a warning. Before anything is loaded, and once. */
    EXT_HOST_SANDBOX,
    EXT_HOST_KINDS
};

struct ext_host_message {
    enum ext_host_kind kind;
    uint64_t numbers[EXT_HOST_NUMBERS];
    struct span texts[EXT_HOST_TEXTS]; /* absent ones arrive as empty */
    /* Of a request only; not part of the bytes. Borrowed when it is sent: the process gets copies. Where it is served,
     * whoever keeps one puts -1 in its place, and the others are closed after the answer. */
    int *fds;
    unsigned fd_count;
};

/* Owned by the caller, free(); NULL when memory is short or the message too large. */
char *ext_host_encode(const struct ext_host_message *message, size_t *size);

/* From the first bytes that came. 0 with the texts borrowing from them and *size the message's; -EAGAIN
 * when it is not whole yet, with *size what it will have, or 0 while that cannot be told; -EPROTO. */
MUST_CHECK int ext_host_decode(struct span bytes BORROWED_BY(out), struct ext_host_message *out,
                               size_t *size);
