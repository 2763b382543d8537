/* metadata_wire: two Structs become one of fields that borrow from both, and that is written. */
#include "proxy/metadata_wire.h"

#include <stdlib.h>

#include "config/wire_write.h"

/* The fields of own and those of inherited that own has not. *out's fields are owned: free(). False: memory is short. */
static bool merge(const struct cfg_value *own, const struct cfg_value *inherited,
                  struct cfg_value *out) {
    size_t own_count = own ? own->fields_count : 0;
    size_t more = inherited ? inherited->fields_count : 0;
    *out = (struct cfg_value){.kind = CFG_VALUE_STRUCT};
    out->fields = calloc(own_count + more + 1, sizeof out->fields[0]);
    if (!out->fields)
        return false;
    for (size_t i = 0; i < own_count; i++)
        out->fields[out->fields_count++] = own->fields[i];
    for (size_t i = 0; i < more; i++)
        if (!own || !metadata_field(own, inherited->fields[i].key))
            out->fields[out->fields_count++] = inherited->fields[i];
    return true;
}

static void put_space(const struct cfg_value *own, const struct cfg_value *inherited,
                      struct cfg_buf *out) {
    struct cfg_value merged;
    if (!merge(own, inherited, &merged)) {
        out->failed = true;
        return;
    }
    value_wire_put_struct(out, &merged);
    free(merged.fields);
}

bool metadata_wire_space(struct metadata *own, struct metadata *inherited, struct span name_space,
                         struct cfg_buf *out) {
    metadata_lock(own);
    metadata_lock(inherited);
    const struct cfg_value *values = metadata_find(own, name_space, NULL, 0);
    const struct cfg_value *more = metadata_find(inherited, name_space, NULL, 0);
    if (values || more)
        put_space(values, more, out);
    metadata_unlock(inherited);
    metadata_unlock(own);
    return values || more;
}

/* An entry of filter_metadata. */
static void put_entry(struct span name, const struct cfg_value *own,
                      const struct cfg_value *inherited, struct cfg_buf *out) {
    wire_put_tag(out, 1, WIRE_BYTES);
    size_t entry = out->len;
    wire_put_string(out, 1, name);
    wire_put_tag(out, 2, WIRE_BYTES);
    size_t start = out->len;
    put_space(own, inherited, out);
    wire_put_length_before(out, start);
    wire_put_length_before(out, entry);
}

void metadata_wire_all(struct metadata *own, struct metadata *inherited, struct cfg_buf *out) {
    struct cfg_value all;
    metadata_lock(own);
    metadata_lock(inherited);
    if (merge(own ? metadata_all(own) : NULL, inherited ? metadata_all(inherited) : NULL, &all)) {
        for (size_t i = 0; i < all.fields_count; i++) {
            struct span name = all.fields[i].key;
            put_entry(name, metadata_find(own, name, NULL, 0),
                      metadata_find(inherited, name, NULL, 0), out);
        }
        free(all.fields);
    } else {
        out->failed = true;
    }
    metadata_unlock(inherited);
    metadata_unlock(own);
}

void metadata_wire_config(const struct cfg_metadata *metadata, struct cfg_buf *out) {
    for (size_t i = 0; metadata && i < metadata->filter_metadata_count; i++)
        put_entry(metadata->filter_metadata[i].key, metadata->filter_metadata[i].value, NULL, out);
}
