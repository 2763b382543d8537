/* value_wire: see the header. */
#include "config/value_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>

#include "base/utf8.h"
#include "config/wire_write.h"

/* ---- writing ---- */

int value_field_compare(const void *a, const void *b) {
    const struct span *x = &(*(const struct cfg_value_field *const *)a)->key;
    const struct span *y = &(*(const struct cfg_value_field *const *)b)->key;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = len ? memcmp(x->ptr, y->ptr, len) : 0;
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

void value_wire_put_struct(struct cfg_buf *buf, const struct cfg_value *value) {
    const struct cfg_value_field **sorted = wire_sort_space(buf, value->fields_count);
    if (!sorted)
        return;
    for (size_t i = 0; i < value->fields_count; i++)
        sorted[i] = &value->fields[i];
    qsort(sorted, value->fields_count, sizeof(*sorted), value_field_compare);
    for (size_t i = 0; i < value->fields_count; i++) {
        wire_put_tag(buf, 1, WIRE_BYTES);
        size_t entry = buf->len;
        wire_put_string(buf, 1, sorted[i]->key);
        wire_put_tag(buf, 2, WIRE_BYTES);
        size_t start = buf->len;
        value_wire_put(buf, &sorted[i]->value);
        wire_put_length_before(buf, start);
        wire_put_length_before(buf, entry);
    }
    wire_sort_space_free(buf, sorted);
}

void value_wire_put_list(struct cfg_buf *buf, const struct cfg_value *value) {
    for (size_t i = 0; i < value->items_count; i++) {
        wire_put_tag(buf, 1, WIRE_BYTES);
        size_t start = buf->len;
        value_wire_put(buf, &value->items[i]);
        wire_put_length_before(buf, start);
    }
}

void value_wire_put(struct cfg_buf *buf, const struct cfg_value *value) {
    uint64_t bits;
    size_t start;
    switch (value->kind) {
    case CFG_VALUE_NULL:
        wire_put_tag(buf, 1, WIRE_VARINT);
        wire_put_varint(buf, 0);
        break;
    case CFG_VALUE_NUMBER:
        memcpy(&bits, &value->number, sizeof(bits));
        wire_put_tag(buf, 2, WIRE_64);
        wire_put_fixed(buf, bits, 8);
        break;
    case CFG_VALUE_STRING:
        wire_put_string(buf, 3, value->string);
        break;
    case CFG_VALUE_BOOL:
        wire_put_tag(buf, 4, WIRE_VARINT);
        wire_put_varint(buf, value->boolean);
        break;
    case CFG_VALUE_STRUCT:
        wire_put_tag(buf, 5, WIRE_BYTES);
        start = buf->len;
        value_wire_put_struct(buf, value);
        wire_put_length_before(buf, start);
        break;
    case CFG_VALUE_LIST:
        wire_put_tag(buf, 6, WIRE_BYTES);
        start = buf->len;
        value_wire_put_list(buf, value);
        wire_put_length_before(buf, start);
        break;
    }
}

/* ---- reading ----
 *
 * Twice the same walk: once to measure, which refuses what is too deep or too much before anything is allocated, and
 * once to fill one block of memory. A part's nodes come from the block's front, text from behind them. */

struct fill {
    char *nodes, *text; /* NULL while measuring */
    size_t node_bytes, text_bytes, max_bytes;
};

static void *take_nodes(struct fill *fill, size_t size) {
    void *nodes = fill->nodes ? fill->nodes + fill->node_bytes : NULL;
    fill->node_bytes += size;
    return nodes;
}

static int take_text(struct fill *fill, struct span from, struct span *to) {
    if (!utf8_is_valid(from))
        return -EINVAL;
    if (fill->text && from.len) {
        char *copy = fill->text + fill->text_bytes;
        memcpy(copy, from.ptr, from.len);
        *to = span_make(copy, from.len);
    } else {
        *to = SPAN_LIT("");
    }
    fill->text_bytes += from.len;
    return fill->node_bytes + fill->text_bytes > fill->max_bytes ? -E2BIG : 0;
}

static int read_value(struct fill *fill, struct span wire, struct cfg_value *out, unsigned depth);

/* The next one of the messages that a Struct's entries and a list's items are, both in field 1. */
static enum wire_verdict next_part(struct wire_reader *reader, struct span *part) {
    struct wire_field field;
    enum wire_verdict verdict;
    do
        verdict = wire_next(reader, &field);
    while (verdict == WIRE_FIELD && !(field.number == 1 && field.type == WIRE_BYTES));
    *part = verdict == WIRE_FIELD ? field.bytes : span_none();
    return verdict;
}

/* How many there are; negative: this is no message. */
static ssize_t count_parts(struct span wire) {
    struct wire_reader reader = {wire};
    struct span part;
    ssize_t count = 0;
    enum wire_verdict verdict;
    while ((verdict = next_part(&reader, &part)) == WIRE_FIELD)
        count++;
    return verdict == WIRE_END ? count : -EINVAL;
}

static int read_entry(struct fill *fill, struct span wire, struct cfg_value_field *out,
                      unsigned depth) {
    struct span key = SPAN_LIT(""), value = SPAN_LIT("");
    struct wire_reader reader = {wire};
    struct wire_field field;
    enum wire_verdict verdict;
    while ((verdict = wire_next(&reader, &field)) == WIRE_FIELD) {
        if (field.type == WIRE_BYTES && field.number == 1)
            key = field.bytes;
        else if (field.type == WIRE_BYTES && field.number == 2)
            value = field.bytes;
    }
    int rc = verdict == WIRE_END ? take_text(fill, key, &out->key) : -EINVAL;
    return rc ? rc : read_value(fill, value, &out->value, depth + 1);
}

/* Of a key that is there twice the last value counts, as in every map of protobuf. */
static void add_field(struct cfg_value *out, const struct cfg_value_field *field) {
    for (size_t i = 0; i < out->fields_count; i++) {
        if (span_eq(out->fields[i].key, field->key)) {
            out->fields[i] = *field;
            return;
        }
    }
    out->fields[out->fields_count++] = *field;
}

static int read_struct(struct fill *fill, struct span wire, struct cfg_value *out, unsigned depth) {
    ssize_t count = count_parts(wire);
    if (count < 0)
        return (int)count;
    *out = (struct cfg_value){.kind = CFG_VALUE_STRUCT};
    out->fields = take_nodes(fill, (size_t)count * sizeof out->fields[0]);
    struct wire_reader reader = {wire};
    struct span part;
    int rc = 0;
    while (rc == 0 && next_part(&reader, &part) == WIRE_FIELD) {
        struct cfg_value_field entry;
        rc = read_entry(fill, part, &entry, depth);
        if (rc == 0 && out->fields)
            add_field(out, &entry);
    }
    return rc;
}

static int read_list(struct fill *fill, struct span wire, struct cfg_value *out, unsigned depth) {
    ssize_t count = count_parts(wire);
    if (count < 0)
        return (int)count;
    *out = (struct cfg_value){.kind = CFG_VALUE_LIST};
    out->items = take_nodes(fill, (size_t)count * sizeof out->items[0]);
    struct wire_reader reader = {wire};
    struct span part;
    int rc = 0;
    while (rc == 0 && next_part(&reader, &part) == WIRE_FIELD) {
        struct cfg_value item;
        rc = read_value(fill, part, &item, depth + 1);
        if (rc == 0 && out->items)
            out->items[out->items_count++] = item;
    }
    return rc;
}

/* The last of a oneof counts. One that is not set at all is as good as null. */
static int read_value(struct fill *fill, struct span wire, struct cfg_value *out, unsigned depth) {
    if (depth > VALUE_DEPTH_MAX)
        return -EINVAL;
    struct wire_field field, last = {0};
    struct wire_reader reader = {wire};
    enum wire_verdict verdict;
    static const enum wire_type types[] = {0,           WIRE_VARINT, WIRE_64,   WIRE_BYTES,
                                           WIRE_VARINT, WIRE_BYTES,  WIRE_BYTES};
    while ((verdict = wire_next(&reader, &field)) == WIRE_FIELD)
        if (field.number <= 6 && field.type == types[field.number])
            last = field;
    if (verdict != WIRE_END)
        return -EINVAL;
    *out = (struct cfg_value){.kind = CFG_VALUE_NULL};
    switch (last.number) {
    case 2:
        out->kind = CFG_VALUE_NUMBER;
        memcpy(&out->number, &last.number_value, sizeof out->number);
        return 0;
    case 3:
        out->kind = CFG_VALUE_STRING;
        return take_text(fill, last.bytes, &out->string);
    case 4:
        out->kind = CFG_VALUE_BOOL;
        out->boolean = last.number_value != 0;
        return 0;
    case 5:
        return read_struct(fill, last.bytes, out, depth);
    case 6:
        return read_list(fill, last.bytes, out, depth);
    default:
        return 0;
    }
}

int value_wire_read(struct span wire, size_t max_bytes, struct cfg_value *out, void **block) {
    struct fill fill = {.max_bytes = max_bytes};
    struct cfg_value value;
    int rc = read_value(&fill, wire, &value, 0);
    if (rc == 0 && fill.node_bytes + fill.text_bytes > max_bytes)
        rc = -E2BIG;
    if (rc)
        return rc;
    char *memory = malloc(fill.node_bytes + fill.text_bytes + 1);
    if (!memory)
        return -ENOMEM;
    fill = (struct fill){.nodes = memory, .text = memory + fill.node_bytes, .max_bytes = max_bytes};
    rc = read_value(&fill, wire, &value, 0);
    ASSERT(rc == 0);
    *out = value;
    *block = memory;
    return 0;
}
