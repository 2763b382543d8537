/* ext_host_wire: see the header. */
#include "ext/host/ext_host_wire.h"

#include <errno.h>
#include <stdlib.h>

enum { MAGIC = 0x534c4831 }; /* "SLH1" */

struct head {
    uint32_t magic, kind;
    uint64_t numbers[EXT_HOST_NUMBERS];
    uint32_t lens[EXT_HOST_TEXTS];
};

char *ext_host_encode(const struct ext_host_message *message, size_t *size) {
    struct head head = {.magic = MAGIC, .kind = (uint32_t)message->kind};
    memcpy(head.numbers, message->numbers, sizeof(head.numbers));
    size_t total = sizeof(head);
    for (int i = 0; i < EXT_HOST_TEXTS; i++) {
        if (message->texts[i].len > EXT_HOST_MESSAGE_MAX - total)
            return NULL;
        total += message->texts[i].len;
        head.lens[i] = (uint32_t)message->texts[i].len;
    }
    char *bytes = malloc(total);
    if (!bytes)
        return NULL;
    memcpy(bytes, &head, sizeof(head));
    char *at = bytes + sizeof(head);
    for (int i = 0; i < EXT_HOST_TEXTS; i++) {
        if (message->texts[i].len)
            memcpy(at, message->texts[i].ptr, message->texts[i].len);
        at += message->texts[i].len;
    }
    *size = total;
    return bytes;
}

int ext_host_decode(struct span bytes BORROWED_BY(out), struct ext_host_message *out,
                    size_t *size) {
    struct head head;
    *size = 0;
    if (bytes.len < sizeof(head))
        return -EAGAIN;
    memcpy(&head, bytes.ptr, sizeof(head));
    if (head.magic != MAGIC || head.kind >= EXT_HOST_KINDS)
        return -EPROTO;
    size_t total = sizeof(head);
    for (int i = 0; i < EXT_HOST_TEXTS; i++) {
        if (head.lens[i] > EXT_HOST_MESSAGE_MAX - total)
            return -EPROTO;
        total += head.lens[i];
    }
    *size = total;
    if (bytes.len < total)
        return -EAGAIN;
    out->kind = (enum ext_host_kind)head.kind;
    memcpy(out->numbers, head.numbers, sizeof(head.numbers));
    const char *at = bytes.ptr + sizeof(head);
    for (int i = 0; i < EXT_HOST_TEXTS; i++) {
        out->texts[i] = span_make(at, head.lens[i]);
        at += head.lens[i];
    }
    return 0;
}
