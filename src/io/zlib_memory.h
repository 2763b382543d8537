/* zlib_memory: what zlib allocates, all of it when a stream is made: once that is made, it gets what is still there of
 * that memory, and nothing else. Private to io.
 *
 * Ownership  zlib_memory_new returns a z_stream that the caller ends (inflateEnd, deflateEnd) and then gives back by
 *            zlib_memory_free.
 * Threads    Those of the stream that it is for, one at a time. */
#pragma once
#include <stddef.h>

#define ZLIB_CONST /* what is read is not written to */
#include <zlib.h>

#include "base/check.h"

/* With room for `size` bytes. NULL when memory is short. */
MUST_CHECK z_stream *zlib_memory_new(size_t size);
/* zlib has made its state: from now on malloc is not asked. */
void zlib_memory_seal(z_stream *z);
void zlib_memory_free(z_stream *z);
