/* header_map: a plain array. Messages have a dozen fields, so a scan over them beats any index of
 * names; of known names, which nearly all questions are about, `first` says where they stand:
 *
 *     known    .. date  server  etag ..      one bit per id
 *     first    ..   4      3      ? ..       one byte per id, read only where the bit is set
 *                   │      └────────┐
 *     entries  [:status] [..] [..] [server] [date] [..]
 *
 * I1  Pseudo headers stand before all other entries.
 * I2  Bit id of `known` is set exactly when an entry has that id; HDR_OTHER has no bit.
 * I3  An entry's id is header_id_of(its name).
 * I4  Every name is a token or a pseudo name, and every value may go on the wire.
 * I5  Where `known` is set, first[id] is the index of the id's first entry, or HEADER_INDEX_FAR and it
 *     stands there or behind. Where `repeated` is not set there is no second one. */
#include "http/header_map_internal.h"

#include <errno.h>

#include "http/chars_search.h"
#include "http/header_id.h"

/* A browser sends up to twenty fields, and the proxy adds half a dozen; curl and services send a few,
 * and doubling once is cheap. */
enum { FIRST_CAPACITY = 16 };

void header_map_init(struct header_map *map, struct arena *arena) {
    map->entries = NULL;
    map->capacity = 0;
    map->arena = arena;
    header_map_clear(map);
}

void header_map_clear(struct header_map *map) {
    map->known = map->repeated = 0;
    map->count = 0;
    map->bytes = 0; /* `first` means nothing where nothing is known */
}

int header_map_grow(struct header_map *map, uint32_t count) {
    uint32_t need = map->count + count;
    if (need > HEADER_COUNT_MAX)
        return -E2BIG;
    uint32_t capacity = map->capacity ? map->capacity * 2 : FIRST_CAPACITY;
    while (capacity < need)
        capacity *= 2;
    struct header *entries = arena_alloc(map->arena, capacity * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    if (map->count)
        memcpy(entries, map->entries, map->count * sizeof *entries);
    map->entries = entries;
    map->capacity = capacity;
    return 0;
}

bool header_name_is_valid(struct span name) {
    for (size_t i = 0; i < name.len; i++)
        if (!chars_is(name.ptr[i], CHAR_TOKEN) || (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z'))
            return false;
    return name.len > 0;
}

bool header_value_is_valid(struct span value) {
    const char *end = value.ptr + value.len;
    return value.len == 0 || chars_search_control(value.ptr, value.ptr, end) == end;
}

bool header_pseudo_is_valid(enum header_id id, struct span value) {
    if (id == HDR_METHOD) {
        for (size_t i = 0; i < value.len; i++)
            if (!chars_is(value.ptr[i], CHAR_TOKEN))
                return false;
        return value.len > 0;
    }
    if (id == HDR_STATUS)
        return value.len == 3 && value.ptr[0] >= '1' && value.ptr[0] <= '9' &&
               value.ptr[1] >= '0' && value.ptr[1] <= '9' && value.ptr[2] >= '0' &&
               value.ptr[2] <= '9';
    if (id == HDR_PATH && value.len == 0)
        return false;
    return header_value_is_valid(value) && span_find(value, ' ') < 0 && span_find(value, '\t') < 0;
}

/* The id an entry of that name has in this map. */
static inline enum header_id resolve(const struct header_map *map, enum header_id id,
                                     struct span name) {
    if (id != HDR_OTHER && id != HDR_HOST)
        return id;
    if (id == HDR_OTHER)
        id = header_id_of(name);
    if (id == HDR_HOST && (header_has(map, HDR_METHOD) || header_has(map, HDR_AUTHORITY)))
        id = HDR_AUTHORITY;
    return id;
}

static inline bool matches(const struct header *entry, enum header_id id, struct span name) {
    return entry->id == id && (id != HDR_OTHER || span_eq(header_name(entry), name));
}

struct span header_get_slowly(const struct header_map *map, enum header_id id) {
    id = resolve(map, id, span_none());
    return header_has(map, id) ? header_value(&map->entries[header_map_first(map, id)])
                               : span_none();
}

struct span header_get_name(const struct header_map *map, struct span name) {
    int at = header_find(map, HDR_OTHER, name, 0);
    return at < 0 ? span_none() : header_value(&map->entries[at]);
}

/* As header_find, of an id that is resolved. */
static int find(const struct header_map *map, enum header_id id, struct span name, uint32_t from) {
    if (id != HDR_OTHER) {
        if (!header_has(map, id))
            return -1;
        uint32_t first = header_map_first(map, id);
        if (from <= first)
            return (int)first;
        if (!(map->repeated >> id & 1))
            return -1;
    }
    for (uint32_t i = from; i < map->count; i++)
        if (matches(&map->entries[i], id, name))
            return (int)i;
    return -1;
}

int header_find(const struct header_map *map, enum header_id id, struct span name, uint32_t from) {
    return find(map, resolve(map, id, name), name, from);
}

/* Checks a field that somebody wants in the map; *name becomes the canonical one of id. */
static inline int admit(enum header_id id, struct span *name, struct span value) {
    if (id != HDR_OTHER)
        *name = header_name_of(id);
    else if (name->len > HEADER_NAME_MAX || !header_name_is_valid(*name))
        return -EINVAL;
    if (value.len > UINT32_MAX)
        return -EINVAL;
    bool valid =
        header_id_is_pseudo(id) ? header_pseudo_is_valid(id, value) : header_value_is_valid(value);
    return valid ? 0 : -EINVAL;
}

/* A pseudo header goes in front of the fields there are. */
static void move_forward(struct header_map *map) {
    uint32_t at = map->count - 1;
    struct header entry = map->entries[at];
    for (; at > 0 && !header_id_is_pseudo((enum header_id)map->entries[at - 1].id); at--)
        map->entries[at] = map->entries[at - 1];
    if (at == map->count - 1)
        return;
    map->entries[at] = entry;
    header_map_reindex(map);
}

static inline int insert(struct header_map *map, enum header_id id, struct span name,
                         struct span value) {
    int rc = header_map_reserve(map, 1);
    if (rc)
        return rc;
    header_map_push(map, id, name, value, 0);
    if (header_id_is_pseudo(id))
        move_forward(map);
    return 0;
}

int header_add(struct header_map *map, enum header_id id, struct span name, struct span value) {
    id = resolve(map, id, name);
    int rc = admit(id, &name, value);
    return rc ? rc : insert(map, id, name, value);
}

int header_set(struct header_map *map, enum header_id id, struct span name, struct span value) {
    id = resolve(map, id, name);
    int rc = admit(id, &name, value);
    if (rc)
        return rc;
    int first = find(map, id, name, 0);
    if (first < 0)
        return insert(map, id, name, value);
    header_map_change(map, &map->entries[first], value);
    for (int next; (next = find(map, id, name, (uint32_t)first + 1)) >= 0;)
        header_map_remove_at(map, (uint32_t)next);
    return 0;
}

int header_append(struct header_map *map, enum header_id id, struct span name, struct span value) {
    id = resolve(map, id, name);
    int rc = admit(id, &name, value);
    if (rc)
        return rc;
    int first = find(map, id, name, 0);
    if (first < 0)
        return insert(map, id, name, value);
    struct header *entry = &map->entries[first];
    struct span separator = id == HDR_COOKIE ? SPAN_LIT("; ") : SPAN_LIT(",");
    struct span joined =
        arena_concat(map->arena, (struct span[]){header_value(entry), separator, value}, 3);
    if (span_is_none(joined))
        return -ENOMEM;
    header_map_change(map, entry, joined);
    return 0;
}

void header_map_reindex(struct header_map *map) {
    map->known = map->repeated = 0;
    for (uint32_t i = 0; i < map->count; i++)
        header_map_note(map, (enum header_id)map->entries[i].id, i);
}

void header_map_of(struct header_map *map, const struct header *entries, uint32_t count,
                   size_t bytes) {
    header_map_init(map, NULL);
    map->entries = (struct header *)(uintptr_t)entries; /* nobody writes there */
    map->count = map->capacity = count;
    map->bytes = bytes;
    header_map_reindex(map);
}

void header_map_remove_at(struct header_map *map, uint32_t index) {
    struct header *entry = &map->entries[index];
    uint64_t bit = UINT64_C(1) << entry->id;
    map->bytes -= entry->name_len + entry->value_len;
    map->count--;
    if (index == map->count && !(map->repeated & bit)) {
        map->known &= ~bit;
        return;
    }
    memmove(entry, entry + 1, (map->count - index) * sizeof *entry);
    header_map_reindex(map);
}

static uint32_t remove_all(struct header_map *map, enum header_id id, struct span name) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        struct header *entry = &map->entries[i];
        if (matches(entry, id, name))
            map->bytes -= entry->name_len + entry->value_len;
        else
            map->entries[kept++] = *entry;
    }
    uint32_t removed = map->count - kept;
    if (removed) {
        map->count = kept;
        header_map_reindex(map);
    }
    return removed;
}

uint32_t header_remove(struct header_map *map, enum header_id id, struct span name) {
    id = resolve(map, id, name);
    if (id == HDR_OTHER || map->repeated >> id & 1)
        return remove_all(map, id, name);
    if (!header_has(map, id))
        return 0;
    header_map_remove_at(map, header_map_first(map, id));
    return 1;
}

int header_set_id(struct header_map *map, enum header_id id, struct span value) {
    /* Nearly always one of ours that is not there yet, with room behind the others. */
    if (id >= HDR_CONNECTION && !header_has(map, id) && map->count < map->capacity &&
        value.len <= UINT32_MAX && header_value_is_valid(value)) {
        header_map_push(map, id, span_make(header_names[id].text, header_name_lens[id]), value, 0);
        return 0;
    }
    return header_set(map, id, span_none(), value); /* the name is the canonical one anyway */
}

int header_add_id(struct header_map *map, enum header_id id, struct span value) {
    return header_add(map, id, span_none(), value);
}

uint32_t header_remove_id(struct header_map *map, enum header_id id) {
    return header_remove(map, id, span_none());
}
