/* header_id: from a name to its id in a few instructions.
 *
 * A table of HEADER_SLOTS bytes is indexed by a hash of the length and three characters. It is filled
 * once at start-up from HEADER_NAMES, so a new name needs no other edit; a name whose slot is taken
 * goes to the next free one and the lookup walks on. The unit test counts how often that happens
 * (never, with today's list and multiplier): when a new name collides, search for another one. */
#include "http/header_id.h"

#include "base/check.h"

const struct header_name header_names[HDR_COUNT] = {
#define X(ident, name) [HDR_##ident] = {name},
    HEADER_NAMES(X)
#undef X
};
const uint8_t header_name_lens[HDR_COUNT] = {
#define X(ident, name) [HDR_##ident] = sizeof(name) - 1,
    HEADER_NAMES(X)
#undef X
};
#define X(ident, name) static_assert(sizeof(name) <= HEADER_NAME_BYTES, "name fits: " name);
HEADER_NAMES(X)
#undef X

uint8_t header_slots[HEADER_SLOTS];

__attribute__((constructor)) static void fill_slots(void) {
    for (unsigned id = 1; id < HDR_COUNT; id++) {
        unsigned slot = header_hash(header_names[id].text, header_name_lens[id]);
        while (header_slots[slot])
            slot = (slot + 1) % HEADER_SLOTS;
        header_slots[slot] = (uint8_t)id;
    }
}

static inline bool same(const char *a, const char *b, size_t len) {
    uint64_t x, y;
    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            memcpy(&x, a + i, 8);
            memcpy(&y, b + i, 8);
            if (x != y)
                return false;
        }
        memcpy(&x, a + len - 8, 8);
        memcpy(&y, b + len - 8, 8);
        return x == y;
    }
    for (size_t i = 0; i < len; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

enum header_id header_id_of(struct span name) {
    if (name.len < 2 || name.len >= HEADER_NAME_BYTES)
        return HDR_OTHER;
    unsigned slot = header_hash(name.ptr, name.len);
    for (unsigned id; (id = header_slots[slot]) != 0; slot = (slot + 1) % HEADER_SLOTS)
        if (header_name_lens[id] == name.len && same(header_names[id].text, name.ptr, name.len))
            return (enum header_id)id;
    return HDR_OTHER;
}

struct span header_name_of(enum header_id id) {
    ASSERT(id > HDR_OTHER && id < HDR_COUNT);
    return span_make(header_names[id].text, header_name_lens[id]);
}
