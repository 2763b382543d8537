/* hello_story: ClientHellos made to order. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "base/span.h"

enum { HELLO_MAX = 1 << 17 };

struct hello_bytes {
    size_t len;
    uint8_t bytes[HELLO_MAX];
};

static inline void put(struct hello_bytes *to, const void *bytes, size_t len) {
    if (len > HELLO_MAX - to->len)
        abort();
    memcpy(to->bytes + to->len, bytes, len);
    to->len += len;
}
static inline void put_u8(struct hello_bytes *to, unsigned value) {
    put(to, &(uint8_t){(uint8_t)value}, 1);
}
static inline void put_u16(struct hello_bytes *to, unsigned value) {
    put(to, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}
static inline void put_extension(struct hello_bytes *to, unsigned type, struct span content) {
    put_u16(to, type);
    put_u16(to, (unsigned)content.len);
    put(to, content.ptr, content.len);
}
static inline void put_server_name(struct hello_bytes *to, struct span name) {
    put_u16(to, 0);
    put_u16(to, (unsigned)name.len + 5);
    put_u16(to, (unsigned)name.len + 3);
    put_u8(to, 0);
    put_u16(to, (unsigned)name.len);
    put(to, name.ptr, name.len);
}

struct hello_order {
    unsigned version;                     /* 0: TLS 1.2 */
    struct span ciphers;                  /* absent: two */
    struct span methods;                  /* of compression; absent: null */
    struct span session_id;               /* absent: 32 bytes */
    const struct hello_bytes *extensions; /* NULL: not even the list */
};

/* The message, without records. */
static inline void put_message(struct hello_bytes *to, const struct hello_order *order) {
    static const char zeros[32];
    struct span ciphers = order->ciphers.ptr ? order->ciphers : SPAN_LIT("\x13\x01\xc0\x2f");
    struct span methods = order->methods.ptr ? order->methods : SPAN_LIT("\0");
    struct span id = order->session_id.ptr ? order->session_id : span_make(zeros, 32);
    size_t start = to->len;
    put(to, "\1\0\0\0", 4);
    put_u16(to, order->version ? order->version : 0x0303);
    put(to, zeros, 32);
    put_u8(to, (unsigned)id.len);
    put(to, id.ptr, id.len);
    put_u16(to, (unsigned)ciphers.len);
    put(to, ciphers.ptr, ciphers.len);
    put_u8(to, (unsigned)methods.len);
    put(to, methods.ptr, methods.len);
    if (order->extensions) {
        put_u16(to, (unsigned)order->extensions->len);
        put(to, order->extensions->bytes, order->extensions->len);
    }
    size_t len = to->len - start - 4;
    to->bytes[start + 1] = (uint8_t)(len >> 16);
    to->bytes[start + 2] = (uint8_t)(len >> 8);
    to->bytes[start + 3] = (uint8_t)len;
}

/* In records of at most `size` bytes. */
static inline void put_records(struct hello_bytes *to, struct span message, size_t size) {
    while (message.len > 0) {
        size_t n = message.len < size ? message.len : size;
        put(to, "\x16\x03\x01", 3);
        put_u16(to, (unsigned)n);
        put(to, message.ptr, n);
        message = span_from(message, n);
    }
}
