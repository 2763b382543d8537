/* Message files: what is read can go out, and what went out reads the same again. */
#include <stdlib.h>

#include "tool/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(enum message_kind kind, struct span text) {
    struct cfg_arena arena;
    struct message message, again;
    struct message_error error;
    cfg_arena_init(&arena, NULL);
    if (message_read(&arena, kind, text, &message, &error)) {
        struct span head = message_head(&arena, &message);
        ASSERT(message_read(&arena, kind, cfg_printf(&arena, "%.*s", (int)head.len, head.ptr),
                            &again, &error) ||
               message.body.len);
        ASSERT(message.body.len == 0 || message.body.ptr >= text.ptr);
        ASSERT(message.body.len <= text.len);
        ASSERT(message.chunked || message.trailers_count == 0);
        ASSERT(span_ends_with(message_chunked_end(&arena, &message), SPAN_LIT("\r\n\r\n")));
    } else {
        ASSERT(error.line > 0 && error.text.len > 0);
    }
    cfg_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = malloc(size ? size : 1); /* a step beyond is caught */
    ASSERT(copy);
    if (size)
        memcpy(copy, data, size);
    check(MESSAGE_REQUEST, span_make(copy, size));
    check(MESSAGE_RESPONSE, span_make(copy, size));
    free(copy);
    return 0;
}
