/* remote_record: what tests of the records between a proxy and a host process share: they are read as they were written, and
 * refused when they are cut anywhere, or have more than they should. */
#pragma once
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ext/remote/remote_message.h"

static inline struct span bytes_of(const struct remote_out *out) {
    assert_false(out->failed);
    return span_make(out->data, out->len);
}

static inline void assert_span(struct span span, const char *text) {
    assert_int_equal(span.len, strlen(text));
    assert_memory_equal(span.ptr, text, span.len);
}

typedef int (*reader)(struct span record);

/* Each record is a copy of its own size, so that sanitizers see who reads past it. */
static inline void is_refused_when_cut(const struct remote_out *out, reader reads) {
    assert_int_equal(reads(bytes_of(out)), 0);
    for (size_t len = 0; len < out->len; len++) {
        char *cut = malloc(len ? len : 1);
        assert_non_null(cut);
        memcpy(cut, out->data, len);
        assert_int_equal(reads(span_make(cut, len)), -EPROTO);
        free(cut);
    }
}

/* Frees it. */
static inline void is_whole_or_refused(struct remote_out *out, reader reads) {
    is_refused_when_cut(out, reads);
    remote_out_put(out, SPAN_LIT("!"));
    assert_int_equal(reads(bytes_of(out)), -EPROTO);
    remote_out_fini(out);
}
