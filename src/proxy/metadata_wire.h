/* metadata_wire: metadata in protobuf's wire format.
 *
 * own is an exchange's, inherited its connection's: what that says counts where the exchange's own says nothing. Either
 * may be NULL. Both are locked here, in that order.
 *
 * Threads  Any.
 * Errors   The buffer's own. */
#pragma once
#include "config/cfg_buf.h"
#include "proxy/metadata.h"

/* Of a namespace: google.protobuf.Struct. False: there is none. */
bool metadata_wire_space(struct metadata *own, struct metadata *inherited, struct span name_space,
                         struct cfg_buf *out);
/* envoy.config.core.v3.Metadata. */
void metadata_wire_all(struct metadata *own, struct metadata *inherited, struct cfg_buf *out);
/* The same, of a configuration; NULL: an empty one. */
void metadata_wire_config(const struct cfg_metadata *metadata, struct cfg_buf *out);
