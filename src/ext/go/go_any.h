/* go_any: google.protobuf.Any {1 type_url, 2 value} as a plugin's parser gets it: in wire format. */
#pragma once
#include <stddef.h>

#include "base/check.h"
#include "config/types.h"

/* Owned, for free(); NULL when memory is short. any NULL, or empty: no bytes at all. */
MUST_CHECK char *go_any_bytes(const struct cfg_any *any, size_t *len);
