/* attribute: what is known of an exchange by the names that CEL expressions on Envoy have for it: "request.path",
 * "connection.id", "metadata.filter_metadata.a.b", ... as text.
 *
 * Ownership  A subject borrows everything.
 * Threads    Any, as far as the subject stands still: see there. Metadata and filter state have locks of their own.
 * Text       Strings and bytes as they are, integers in decimal, doubles with six digits ("0.5", "1e+06"), true and
 *            false, durations as "1.5s", times as RFC 3339 in UTC, messages in protobuf's wire format. Several values
 *            of a header are joined with ",". */
#pragma once
#include "http/header_map.h"
#include "io/address.h"
#include "io/tls.h"
#include "proxy/format.h"

struct exchange;
struct filter_state;
struct metadata;
struct route_entry;

/* Of the client's connection. */
struct attribute_tls {
    struct span version;
    const struct tls_identity *local, *peer; /* NULL: none */
    bool has_peer;
};
/* The P's thread, and only that, may change what these point to while a coroutine of the exchange runs; whoever else
 * asks must know that it does not. Parts that may be changing are left out: they are NULL, and absent. What of the
 * downstream is looked at does not change while there is an exchange. */
struct attribute_subject {
    const struct stream_info *info;
    const struct header_map *request, *response, *trailers; /* trailers: of the response */
    const struct route_entry *route;
    const struct downstream *downstream; /* NULL: a request of our own */
    const struct attribute_tls *tls;     /* NULL: there is none */
    struct metadata *metadata;           /* of the exchange; NULL: nothing was set. And so on */
    struct filter_state *filter_state;
};

enum attribute_result {
    ATTRIBUTE_TEXT,    /* appended */
    ATTRIBUTE_ABSENT,  /* there is no such attribute, or it has no value (yet) */
    ATTRIBUTE_NO_TEXT, /* it is a map, a list or null */
    ATTRIBUTE_NO_MEMORY,
};
/* A longer path is that of nothing: what asks may hold a lock that others wait for. */
enum { ATTRIBUTE_PATH_MAX = 4096 };
/* path: names with dots between them. A key of metadata or filter state may have dots itself. */
enum attribute_result attribute_text(const struct attribute_subject *of, struct span path,
                                     struct format_out *out);

/* The same of an exchange as it is now. On its coroutines only, which may change any of it: nobody else does. */
enum attribute_result attribute_of_exchange(struct exchange *x, struct span path,
                                            struct format_out *out);
/* False: there is no TLS. On the connection's P. */
bool attribute_tls_of(struct socket *socket, struct attribute_tls *out);

/* 0: there is none yet. */
unsigned attribute_response_code(const struct attribute_subject *of);
/* Absent: there are none yet. */
struct span attribute_code_details(const struct attribute_subject *of);
/* "ip:port" of ours, else the client's end, maybe in text, ADDRESS_TEXT_MAX bytes. Absent: there is none. */
struct span attribute_downstream_address(const struct attribute_subject *of, bool local,
                                         char *text BORROWED_BY(result));

/* ---- the forms of text ---- */

void attribute_put_duration(struct format_out *out, int64_t ns);
void attribute_put_time(struct format_out *out, int64_t wall_ns);
void attribute_put_double(struct format_out *out, double number);
void attribute_put_integer(struct format_out *out, int64_t number);
/* Envoy's bits of enum response_flag. */
uint64_t attribute_flags(uint32_t flags);
