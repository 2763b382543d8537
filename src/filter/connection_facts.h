/* connection_facts: what several listener filters find out, noted in the same way.
 *
 * Errors   False: memory is short, and the connection had better be closed: it would go to a filter chain that it is
 *          not for.
 * Threads  The connection's P. */
#pragma once
#include "io/client_hello.h"
#include "io/proxy_header.h"
#include "proxy/connection_info.h"

/* It speaks TLS; its server name and protocols. */
MUST_CHECK bool note_client_hello(struct connection_info *info, const struct client_hello *hello);
/* Of a client without TLS, the only one: "http/1.1". */
void note_application_protocol(struct connection_info *info, struct span name BORROWED_BY(info));
/* Its addresses, where it has some, become the connection's. */
MUST_CHECK bool note_proxy_addresses(struct connection_info *info, const struct downstream *d,
                                     const struct proxy_header *header);
MUST_CHECK bool note_local_address(struct connection_info *info, const struct address *local);
/* One more in the connection's dynamic metadata. */
MUST_CHECK bool note_metadata(struct connection_info *info, struct span name_space, struct span key,
                              struct span text);
