/* request_prepare: what an HTTP connection manager does to a request before its filters see it:
 * checks of host and path, x-forwarded-*, x-request-id, removal of fields that only a trusted
 * peer may send. Follows Envoy's ConnectionManagerUtility, with one difference: no address counts
 * as internal (Envoy's default since internal_address_config became explicit).
 *
 * A request that is refused has a reply pending on its exchange afterwards. Never parks. */
#pragma once
#include "http/http1.h"
#include "proxy/downstream.h"

/* By its content-type. */
bool request_is_grpc(const struct exchange *x);
void request_prepare(struct exchange *x, const struct http1_head *head);
