/* runtime_layers: a key is looked for by its dots in the layers' own trees, which are small and read
 * once, rather than in a table of all keys made before. */
#include "config/runtime_layers.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool cfg_runtime_number(const struct cfg_value *value, uint64_t *out) {
    static const double exact_max = 9007199254740992.0; /* 2^53: what a double counts to */
    if (value->kind == CFG_VALUE_STRING)                /* also YAML's integers above 32 bits */
        return span_to_u64(value->string, out);
    if (value->kind != CFG_VALUE_NUMBER)
        return false;
    if (!(value->number >= 0 && value->number <= exact_max) ||
        value->number != floor(value->number))
        return false;
    *out = (uint64_t)value->number;
    return true;
}

/* {a.b: {c: x}} has "a.b.c", as {a: {b.c: x}} has. */
static const struct cfg_value *find(const struct cfg_value *layer, struct span key) {
    for (size_t i = 0; i < layer->fields_count; i++) {
        const struct cfg_value_field *field = &layer->fields[i];
        if (span_eq(field->key, key))
            return &field->value;
        if (key.len <= field->key.len || key.ptr[field->key.len] != '.' ||
            !span_starts_with(key, field->key) || field->value.kind != CFG_VALUE_STRUCT)
            continue;
        const struct cfg_value *found = find(&field->value, span_from(key, field->key.len + 1));
        if (found)
            return found;
    }
    return NULL;
}

bool cfg_runtime_u64(const struct cfg_layered_runtime *runtime, struct span key, uint64_t *out) {
    for (size_t i = runtime ? runtime->layers_count : 0; i-- > 0;) {
        const struct cfg_value *layer = runtime->layers[i].static_layer;
        const struct cfg_value *value = layer ? find(layer, key) : NULL;
        if (value)
            return cfg_runtime_number(value, out);
    }
    return false;
}

int cfg_runtime_listener_limit(const struct cfg_layered_runtime *runtime, struct span listener,
                               uint64_t *out) {
    char *key = NULL;
    if (!runtime || listener.len == 0)
        return 0;
    int len = asprintf(&key, RUNTIME_LISTENER_PREFIX "%.*s" RUNTIME_LISTENER_SUFFIX,
                       (int)listener.len, listener.ptr);
    if (len < 0)
        return -ENOMEM;
    bool found = cfg_runtime_u64(runtime, span_make(key, (size_t)len), out);
    free(key);
    return found;
}
