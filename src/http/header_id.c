/* header_id: from a name to its id in a few instructions.
 *
 * A table of HEADER_SLOTS bytes is indexed by a hash of the length and four characters. It is filled
 * once at start-up from HEADER_NAMES, so a new name needs no other edit; a name whose slot is taken
 * goes to the next free one and the lookup walks on. The unit test counts how often that happens
 * (never, with today's list and multipliers): when a new name collides, try other multipliers. */
#include "http/header_map.h"
#include "base/check.h"

enum { HEADER_SLOTS = 256, NAME_MAX_BYTES = 32 };

/* Padded, so that comparing reads whole words. */
static const struct {
    uint8_t len;
    char text[NAME_MAX_BYTES];
} names[HDR_COUNT] = {
#define X(ident, name) [HDR_##ident] = {sizeof(name) - 1, name},
    HEADER_NAMES(X)
#undef X
};
#define X(ident, name) static_assert(sizeof(name) <= NAME_MAX_BYTES, "name fits: " name);
HEADER_NAMES(X)
#undef X

static uint8_t slots[HEADER_SLOTS];

static inline unsigned hash(const char *name, size_t len) {
    unsigned a = (uint8_t)name[0], b = (uint8_t)name[len - 1];
    unsigned c = (uint8_t)name[len / 2], d = (uint8_t)name[len * 3 / 4];
    return (unsigned)len * 5 + a + b * 4 + c + d;
}

__attribute__((constructor)) static void fill_slots(void) {
    for (unsigned id = 1; id < HDR_COUNT; id++) {
        unsigned slot = hash(names[id].text, names[id].len) % HEADER_SLOTS;
        while (slots[slot])
            slot = (slot + 1) % HEADER_SLOTS;
        slots[slot] = (uint8_t)id;
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
    if (name.len == 0 || name.len >= NAME_MAX_BYTES)
        return HDR_OTHER;
    unsigned slot = hash(name.ptr, name.len) % HEADER_SLOTS;
    for (unsigned id; (id = slots[slot]) != 0; slot = (slot + 1) % HEADER_SLOTS)
        if (names[id].len == name.len && same(names[id].text, name.ptr, name.len))
            return (enum header_id)id;
    return HDR_OTHER;
}

struct span header_name_of(enum header_id id) {
    ASSERT(id > HDR_OTHER && id < HDR_COUNT);
    return span_make(names[id].text, names[id].len);
}
