/* ext_host_wire: what the proxy and a host process (sluice --ext-host) say to each other: requests one way,
 * one answer to each the other way, over a stream socket. Both are one executable, so there are no
 * versions. Bulk data will go by shared memory whose descriptors travel on the same socket.
 *
 *     magic | kind | 4 numbers | lengths of 4 texts | the texts        in the machine's byte order
 *
 * Pure: nothing here reads or writes a descriptor.
 * Limits  EXT_HOST_MESSAGE_MAX bytes: larger ones are not made, and refused when they come. */
#pragma once
#include "base/check.h"
#include "base/span.h"

enum {
    EXT_HOST_NUMBERS = 4,
    EXT_HOST_TEXTS = 4,
    /* A configuration is the largest thing sent; Envoy's own transport of those ends at 64 MiB too. */
    EXT_HOST_MESSAGE_MAX = 64 << 20,
    EXT_HOST_FD = 3, /* where the host process finds its socket */
};

/* Numbers and texts of the request => of the answer. */
enum ext_host_kind {
    EXT_HOST_ANSWER = 0,
    /* {seats to announce, log level} path, library_id, GOGC or none, GOMEMLIMIT or none
     * => {1 or 0: is loaded} why not, or a warning. First, and once. */
    EXT_HOST_GO_LOAD,
    /* {is for a route} plugin_name, serialised Any => {id, 0: refused} what the parser said */
    EXT_HOST_GO_NEW,
    /* {parent id, child id} plugin_name => {id} */
    EXT_HOST_GO_MERGE,
    /* {config id} plugin_name => {1: the library has no such plugin}: makes a filter for a stream that does not exist, and
     * drops it */
    EXT_HOST_GO_CREATE,
    /* serialised Any => {id, 0: refused} what the parser said. Of a cluster specifier. */
    EXT_HOST_GO_NEW_CLUSTER,
    /* plugin_name, serialised Any => {id}: of a network filter, which is shown a connection that does not exist */
    EXT_HOST_GO_NEW_NETWORK,
    /* {workers to announce, log level} path => {1 or 0: is loaded} the plug-in's name, or why not. First, and once. */
    EXT_HOST_NATIVE_LOAD,
    /* {is for a route, id of the filter's own then} JSON => {id, 0: refused} why */
    EXT_HOST_NATIVE_NEW,
    /* {parent id, id of a route's} => {id, 0: it failed} why */
    EXT_HOST_NATIVE_MERGE,
    /* => {}: gives all of them back */
    EXT_HOST_NATIVE_FREE,
    EXT_HOST_KINDS
};

struct ext_host_message {
    enum ext_host_kind kind;
    uint64_t numbers[EXT_HOST_NUMBERS];
    struct span texts[EXT_HOST_TEXTS]; /* absent ones arrive as empty */
};

/* Owned by the caller, free(); NULL when memory is short or the message too large. */
char *ext_host_encode(const struct ext_host_message *message, size_t *size);

/* From the first bytes that came. 0 with the texts borrowing from them and *size the message's; -EAGAIN
 * when it is not whole yet, with *size what it will have, or 0 while that cannot be told; -EPROTO. */
MUST_CHECK int ext_host_decode(struct span bytes BORROWED_BY(out), struct ext_host_message *out,
                               size_t *size);
