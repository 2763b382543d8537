/* wire_write: protobuf's wire format, appended field by field.
 *
 * Threads  A buffer belongs to its caller.
 * Errors   The buffer's own: it keeps in mind that memory was short. */
#pragma once
#include "config/cfg_buf.h"
#include "config/wire_read.h"

void wire_put_varint(struct cfg_buf *buf, uint64_t value);
/* wire_type: enum wire_type. */
void wire_put_tag(struct cfg_buf *buf, uint32_t number, unsigned wire_type);
void wire_put_string(struct cfg_buf *buf, uint32_t number, struct span s);
/* The low size bytes. */
void wire_put_fixed(struct cfg_buf *buf, uint64_t bits, size_t size);
/* Everything from start on gets its length in front. */
void wire_put_length_before(struct cfg_buf *buf, size_t start);

/* Room to sort that many pointers in, owned. NULL after a failure. */
void *wire_sort_space(struct cfg_buf *buf, size_t count);
void wire_sort_space_free(struct cfg_buf *buf, void *space);
