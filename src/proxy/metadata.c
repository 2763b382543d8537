/* metadata: a Struct of Structs. There are few of both, so fields are looked up one by one.
 *
 * Each field's key and value are one piece of memory, measured before it is taken, so that replacing a value frees what
 * it had: filters replace the same few keys for as long as a stream goes on.
 *
 *     all ─► fields ─► name, values ─► fields ─► key, value
 *     spaces ─► capacity, blocks ──────────────► [ nodes of the value | key | its texts ] */
#include "proxy/metadata.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct name_space {
    char *name;
    char **blocks;   /* of its fields, in their order */
    size_t *sizes;   /* of the blocks */
    size_t capacity; /* of its fields, blocks and sizes */
};

struct metadata {
    _Atomic uint32_t refs;
    pthread_mutex_t lock;
    struct cfg_value all;
    struct name_space *spaces; /* as many as all has fields */
    size_t bytes;              /* of blocks and names */
};

struct metadata *metadata_new(void) {
    struct metadata *metadata = calloc(1, sizeof *metadata);
    if (!metadata)
        return NULL;
    /* Cannot fail with default attributes on Linux. */
    (void)pthread_mutex_init(&metadata->lock, NULL);
    metadata->refs = 1;
    metadata->all.kind = CFG_VALUE_STRUCT;
    return metadata;
}

struct metadata *metadata_ref(struct metadata *metadata) {
    atomic_fetch_add_explicit(&metadata->refs, 1, memory_order_relaxed); /* the caller has one */
    return metadata;
}

void metadata_unref(struct metadata *metadata) {
    if (!metadata || atomic_fetch_sub_explicit(&metadata->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < metadata->all.fields_count; i++) {
        struct name_space *space = &metadata->spaces[i];
        struct cfg_value *values = &metadata->all.fields[i].value;
        for (size_t k = 0; k < values->fields_count; k++)
            free(space->blocks[k]);
        free(values->fields);
        free(space->blocks);
        free(space->sizes);
        free(space->name);
    }
    free(metadata->spaces);
    free(metadata->all.fields);
    (void)pthread_mutex_destroy(&metadata->lock); /* nobody can hold it: nobody can reach it */
    free(metadata);
}

void metadata_lock(struct metadata *metadata) {
    if (metadata)
        pthread_mutex_lock(&metadata->lock);
}

void metadata_unlock(struct metadata *metadata) {
    if (metadata)
        pthread_mutex_unlock(&metadata->lock);
}

/* ---- copying a value into one block ---- */

struct copy {
    char *nodes, *text; /* where the next ones go; while measuring NULL, and only the sizes count */
    size_t node_bytes, text_bytes;
};

static void *copy_nodes(struct copy *copy, size_t size) {
    char *nodes = copy->nodes;
    copy->node_bytes += size;
    if (nodes)
        copy->nodes += size;
    return nodes;
}

static struct span copy_text(struct copy *copy, struct span from) {
    char *text = copy->text;
    copy->text_bytes += from.len;
    if (!text || from.len == 0)
        return SPAN_LIT("");
    memcpy(text, from.ptr, from.len);
    copy->text += from.len;
    return span_make(text, from.len);
}

/* False: too deep. */
static bool copy_value(struct copy *copy, const struct cfg_value *from, struct cfg_value *to,
                       unsigned depth) {
    if (depth > METADATA_DEPTH_MAX)
        return false;
    *to = *from;
    bool done = true;
    if (from->kind == CFG_VALUE_STRING) {
        to->string = copy_text(copy, from->string);
    } else if (from->kind == CFG_VALUE_STRUCT) {
        struct cfg_value_field unused;
        to->fields = copy_nodes(copy, from->fields_count * sizeof to->fields[0]);
        for (size_t i = 0; i < from->fields_count && done; i++) {
            struct cfg_value_field *field = to->fields ? &to->fields[i] : &unused;
            field->key = copy_text(copy, from->fields[i].key);
            done = copy_value(copy, &from->fields[i].value, &field->value, depth + 1);
        }
    } else if (from->kind == CFG_VALUE_LIST) {
        struct cfg_value unused;
        to->items = copy_nodes(copy, from->items_count * sizeof to->items[0]);
        for (size_t i = 0; i < from->items_count && done; i++)
            done =
                copy_value(copy, &from->items[i], to->items ? &to->items[i] : &unused, depth + 1);
    }
    return done;
}

/* A block with all of the field, of that size. */
static int copy_field(struct span key, const struct cfg_value *value, struct cfg_value_field *out,
                      char **block, size_t *size) {
    struct copy copy = {0};
    (void)copy_text(&copy, key);
    if (!copy_value(&copy, value, &out->value, 0))
        return -EINVAL;
    *size = copy.node_bytes + copy.text_bytes;
    if (*size > METADATA_BYTES_MAX)
        return -E2BIG;
    *block = malloc(*size + 1);
    if (!*block)
        return -ENOMEM;
    copy = (struct copy){.nodes = *block, .text = *block + copy.node_bytes};
    out->key = copy_text(&copy, key);
    bool done = copy_value(&copy, value, &out->value, 0);
    ASSERT(done); /* it was, when it was measured */
    return 0;
}

/* ---- setting ---- */

static struct cfg_value_field *find_field(const struct cfg_value *values, struct span key) {
    for (size_t i = 0; values->kind == CFG_VALUE_STRUCT && i < values->fields_count; i++)
        if (span_eq(values->fields[i].key, key))
            return &values->fields[i];
    return NULL;
}

static bool grow(void *array, size_t count, size_t size) {
    void *grown = reallocarray(*(void **)array, count, size);
    if (grown)
        *(void **)array = grown;
    return grown != NULL;
}

/* Its index; negative when memory is short. */
static ssize_t space_of(struct metadata *metadata, struct span name) {
    struct cfg_value *all = &metadata->all;
    const struct cfg_value_field *found = find_field(all, name);
    if (found)
        return found - all->fields;
    size_t count = all->fields_count;
    if (name.len > METADATA_BYTES_MAX - metadata->bytes)
        return -E2BIG;
    if (!grow(&all->fields, count + 1, sizeof all->fields[0]) ||
        !grow(&metadata->spaces, count + 1, sizeof metadata->spaces[0]))
        return -ENOMEM;
    char *copy = malloc(name.len + 1);
    if (!copy)
        return -ENOMEM;
    if (name.len)
        memcpy(copy, name.ptr, name.len);
    metadata->bytes += name.len;
    metadata->spaces[count] = (struct name_space){.name = copy};
    all->fields[count] =
        (struct cfg_value_field){.key = span_make(copy, name.len), .value.kind = CFG_VALUE_STRUCT};
    all->fields_count++;
    return (ssize_t)count;
}

/* There is a place behind the last field. */
static bool make_room(struct name_space *space, struct cfg_value *values) {
    if (values->fields_count < space->capacity)
        return true;
    size_t capacity = space->capacity ? space->capacity * 2 : 4;
    if (!grow(&values->fields, capacity, sizeof values->fields[0]) ||
        !grow(&space->blocks, capacity, sizeof space->blocks[0]) ||
        !grow(&space->sizes, capacity, sizeof space->sizes[0]))
        return false;
    space->capacity = capacity;
    return true;
}

/* block is transferred. */
static int put_field_locked(struct metadata *metadata, struct span name,
                            const struct cfg_value_field *field, char *block, size_t size) {
    ssize_t index = space_of(metadata, name);
    if (index < 0)
        return (int)index;
    struct name_space *space = &metadata->spaces[index];
    struct cfg_value *values = &metadata->all.fields[index].value;
    const struct cfg_value_field *old = find_field(values, field->key);
    size_t at = old ? (size_t)(old - values->fields) : values->fields_count;
    size_t freed = old ? space->sizes[at] : 0;
    if (size > METADATA_BYTES_MAX - (metadata->bytes - freed))
        return -E2BIG;
    if (!old && !make_room(space, values))
        return -ENOMEM;
    if (old)
        free(space->blocks[at]);
    else
        values->fields_count++;
    values->fields[at] = *field;
    space->blocks[at] = block;
    space->sizes[at] = size;
    metadata->bytes += size - freed;
    return 0;
}

int metadata_set(struct metadata *metadata, struct span name_space, struct span key,
                 const struct cfg_value *value) {
    struct cfg_value_field field;
    char *block;
    size_t size;
    int rc = copy_field(key, value, &field, &block, &size);
    if (rc != 0)
        return rc;
    metadata_lock(metadata);
    rc = put_field_locked(metadata, name_space, &field, block, size);
    metadata_unlock(metadata);
    if (rc != 0)
        free(block);
    return rc;
}

int metadata_set_text(struct metadata *metadata, struct span name_space, struct span key,
                      struct span text) {
    struct cfg_value value = {.kind = CFG_VALUE_STRING, .string = text};
    return metadata_set(metadata, name_space, key, &value);
}

/* ---- finding ---- */

const struct cfg_value *metadata_field(const struct cfg_value *value, struct span key) {
    const struct cfg_value_field *field = find_field(value, key);
    return field ? &field->value : NULL;
}

const struct cfg_value *metadata_find(const struct metadata *metadata, struct span name_space,
                                      const struct span *keys, size_t count) {
    const struct cfg_value *value = metadata ? metadata_field(&metadata->all, name_space) : NULL;
    for (size_t i = 0; value && i < count; i++)
        value = metadata_field(value, keys[i]);
    return value;
}

const struct cfg_value *metadata_all(const struct metadata *metadata) {
    return &metadata->all;
}
