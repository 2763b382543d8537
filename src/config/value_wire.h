/* value_wire: google.protobuf.Value, Struct and ListValue in protobuf's wire format, both ways.
 *
 * Writing is deterministic: the fields of a Struct come sorted by key.
 *
 * Threads  Pure. */
#pragma once
#include "config/bootstrap.h"
#include "config/cfg_buf.h"

void value_wire_put(struct cfg_buf *buf, const struct cfg_value *value);
/* Of what is a Struct; of what is a list. */
void value_wire_put_struct(struct cfg_buf *buf, const struct cfg_value *value);
void value_wire_put_list(struct cfg_buf *buf, const struct cfg_value *value);
/* For qsort, of pointers to struct cfg_value_field. */
int value_field_compare(const void *a, const void *b);

/* A Value. All it points to is in *block, owned: free(). 0, -EINVAL (no Value, text that is not UTF-8, or deeper than
 * VALUE_DEPTH_MAX), -E2BIG (more than max_bytes) or -ENOMEM. */
enum { VALUE_DEPTH_MAX = 32 };
MUST_CHECK int value_wire_read(struct span wire, size_t max_bytes, struct cfg_value *out,
                               void **block);
