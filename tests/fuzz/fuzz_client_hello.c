/* ClientHellos: once there is a verdict, more bytes do not change it, nothing is read behind the prefix, and what is
 * read of a message that is cut anew into records is the same. */
#include <stdlib.h>

#include "io/client_hello.h"

enum { INPUT_MAX = 2048 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of its own, so that ASan sees its end. */
static enum client_hello_verdict read_copy(const uint8_t *data, size_t len,
                                           struct client_hello *hello, char **copy) {
    *copy = malloc(len ? len : 1);
    ASSERT(*copy);
    if (len)
        memcpy(*copy, data, len);
    return client_hello_read(span_make(*copy, len), hello);
}

static void check_protocols(const struct client_hello *hello) {
    char name[CLIENT_HELLO_NAME_MAX];
    struct client_hello_part rest = hello->protocols;
    size_t count = 0, bytes = 0;
    for (size_t len; (len = client_hello_next_protocol(&rest, name)) > 0; count++)
        bytes += 1 + len;
    ASSERT(hello->has_protocols == (count > 0));
    ASSERT(bytes == hello->protocols.left);
}

/* The message of what was read, in records of n bytes, tells the same. */
static void check_cut(const uint8_t *data, const struct client_hello *hello, size_t n) {
    static uint8_t message[INPUT_MAX], cut[6 * INPUT_MAX];
    size_t len = 0, at = 0, out = 0;
    while (at < hello->wire_bytes) {
        size_t run = (size_t)data[at + 3] << 8 | data[at + 4];
        at += 5;
        if (run > hello->wire_bytes - at)
            run = hello->wire_bytes - at;
        memcpy(message + len, data + at, run);
        len += run;
        at += run;
    }
    for (at = 0; at < len; at += n) {
        size_t run = len - at < n ? len - at : n;
        memcpy(cut + out, (const uint8_t[]){22, 3, 1, (uint8_t)(run >> 8), (uint8_t)run}, 5);
        memcpy(cut + out + 5, message + at, run);
        out += 5 + run;
    }
    struct client_hello again;
    ASSERT(client_hello_read(span_make(cut, out), &again) == CLIENT_HELLO_DONE);
    ASSERT(again.wire_bytes == out);
    ASSERT(again.version == hello->version);
    ASSERT(again.cipher_count == hello->cipher_count);
    ASSERT(again.extension_count == hello->extension_count);
    ASSERT(again.protocols.left == hello->protocols.left);
    ASSERT(again.server_name_len == hello->server_name_len);
    ASSERT(memcmp(again.server_name, hello->server_name, hello->server_name_len) == 0);
    check_protocols(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct client_hello hello, whole;
    enum client_hello_verdict first = CLIENT_HELLO_MORE;
    char *copy;
    if (size > INPUT_MAX)
        return 0;
    for (size_t len = 0; len <= size; len++) {
        enum client_hello_verdict verdict = read_copy(data, len, &hello, &copy);
        ASSERT(first == CLIENT_HELLO_MORE || verdict == first);
        if (first == CLIENT_HELLO_MORE && verdict == CLIENT_HELLO_DONE) {
            ASSERT(hello.wire_bytes == len);
            check_protocols(&hello);
        }
        first = verdict;
        free(copy);
    }
    if (read_copy(data, size, &whole, &copy) == CLIENT_HELLO_DONE) {
        check_cut(data, &whole, 1);
        check_cut(data, &whole, 7);
        check_cut(data, &whole, 16384);
    }
    free(copy);
    return 0;
}
