/* pprof_read: in two passes over the unzipped message. Its fields come in any order (Go writes the string
 * table last), so the first pass notes where everything is, sorted by id; the second makes the samples.
 *
 * A location is made whole when the first sample has it: its functions' names as C strings are then kept
 * until the end, as callers keep frames in tables by what is said there. Every id and every index is
 * looked up or checked against the table's length where it is used: none of them is trusted. */
#include "admin/pprof_read.h"

#define ZLIB_CONST
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Numbers of profile.proto, as in pprof.c; here only those that are read. */
enum { PROFILE_SAMPLE_TYPE = 1, PROFILE_SAMPLE = 2, PROFILE_LOCATION = 4, PROFILE_FUNCTION = 5 };
enum { PROFILE_STRING = 6 };

/* A location or a function: where it is, and what was made of it. */
struct item {
    uint64_t id;
    struct span message;
    struct symbol *symbols; /* locations, once they were used; owned */
    unsigned symbol_count;
    uint64_t address;
};
struct items {
    struct item *list;
    size_t count, max;
};

struct reading {
    struct items locations, functions;
    char **strings; /* owned, each too */
    size_t string_count, string_max;
    int columns[PPROF_READ_VALUES_MAX]; /* of a sample: which of the types asked for, or -1 */
    unsigned column_count;
    struct told_frame frames[PPROF_READ_DEPTH_MAX];
    int err;
};

/* ---- Protobuf ---- */

struct field {
    unsigned number;
    bool is_bytes;
    uint64_t value;
    struct span bytes;
};

static bool take_varint(struct span *in, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned i = 0; i < in->len && i < 10; i++) {
        unsigned char byte = (unsigned char)in->ptr[i];
        value |= (uint64_t)(byte & 0x7f) << 7 * i;
        if (byte < 0x80) {
            *in = span_from(*in, i + 1);
            *out = value;
            return true;
        }
    }
    return false;
}

/* False at the end, and with *err when it is none that makes sense. */
static bool take_field(struct span *in, struct field *out, int *err) {
    enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
    uint64_t tag, value = 0;
    if (in->len == 0)
        return false;
    if (!take_varint(in, &tag))
        goto bad;
    *out = (struct field){.number = (unsigned)(tag >> 3), .is_bytes = (tag & 7) == BYTES};
    if ((tag & 7) == VARINT || (tag & 7) == BYTES) {
        if (!take_varint(in, &value))
            goto bad;
    } else {
        value = (tag & 7) == FIXED64 ? 8 : 4;
        if ((tag & 7) != FIXED64 && (tag & 7) != FIXED32)
            goto bad;
    }
    if ((tag & 7) == VARINT) {
        out->value = value;
        return true;
    }
    if (value > in->len)
        goto bad;
    out->bytes = span_make(in->ptr, value);
    *in = span_from(*in, value);
    return true;
bad:
    *err = -EINVAL;
    return false;
}

/* The next number of a repeated field, packed or not. */
static bool take_number(struct field *field, uint64_t *out, int *err) {
    if (!field->is_bytes) {
        *out = field->value;
        field->is_bytes = true; /* and there is no other */
        return true;
    }
    if (field->bytes.len == 0)
        return false;
    if (take_varint(&field->bytes, out))
        return true;
    *err = -EINVAL;
    return false;
}

/* ---- First pass ---- */

static bool grow(void **list, size_t count, size_t *max, size_t size, int *err) {
    if (count < *max)
        return true;
    size_t more = *max ? 2 * *max : 256;
    void *bigger = realloc(*list, more * size);
    if (!bigger) {
        *err = -ENOMEM;
        return false;
    }
    *list = bigger;
    *max = more;
    return true;
}

static void note_item(struct reading *reading, struct items *items, struct span message) {
    if (!grow((void **)&items->list, items->count, &items->max, sizeof *items->list, &reading->err))
        return;
    struct item item = {.message = message};
    struct field field;
    while (take_field(&message, &field, &reading->err))
        if (field.number == 1)
            item.id = field.value;
    items->list[items->count++] = item;
}

static void note_string(struct reading *reading, struct span text) {
    if (!grow((void **)&reading->strings, reading->string_count, &reading->string_max,
              sizeof *reading->strings, &reading->err))
        return;
    char *copy = malloc(text.len + 1);
    if (!copy) {
        reading->err = -ENOMEM;
        return;
    }
    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    reading->strings[reading->string_count++] = copy;
}

static int by_id(const void *a, const void *b) {
    const struct item *one = a, *other = b;
    return one->id < other->id ? -1 : one->id > other->id;
}

static struct item *find(const struct items *items, uint64_t id) {
    const struct item key = {.id = id};
    return items->count == 0 ? NULL : bsearch(&key, items->list, items->count, sizeof key, by_id);
}

static const char *string_at(struct reading *reading, uint64_t index) {
    if (index < reading->string_count)
        return reading->strings[index];
    reading->err = -EINVAL;
    return "";
}

static void note_all(struct reading *reading, struct span profile) {
    struct field field;
    while (reading->err == 0 && take_field(&profile, &field, &reading->err)) {
        if (field.number == PROFILE_LOCATION)
            note_item(reading, &reading->locations, field.bytes);
        else if (field.number == PROFILE_FUNCTION)
            note_item(reading, &reading->functions, field.bytes);
        else if (field.number == PROFILE_STRING)
            note_string(reading, field.bytes);
    }
    if (reading->locations.count > 0)
        qsort(reading->locations.list, reading->locations.count, sizeof(struct item), by_id);
    if (reading->functions.count > 0)
        qsort(reading->functions.list, reading->functions.count, sizeof(struct item), by_id);
}

/* Which value of a sample is of which type. */
static void find_columns(struct reading *reading, struct span profile,
                         const struct pprof_type *types, unsigned type_count) {
    struct field field, part;
    unsigned found = 0;
    while (reading->err == 0 && take_field(&profile, &field, &reading->err)) {
        if (field.number != PROFILE_SAMPLE_TYPE)
            continue;
        if (reading->column_count == PPROF_READ_VALUES_MAX) {
            reading->err = -EINVAL;
            return;
        }
        const char *what = "", *unit = "";
        while (take_field(&field.bytes, &part, &reading->err)) {
            if (part.number == 1)
                what = string_at(reading, part.value);
            else if (part.number == 2)
                unit = string_at(reading, part.value);
        }
        int *column = &reading->columns[reading->column_count++];
        *column = -1;
        for (unsigned i = 0; i < type_count; i++)
            if (strcmp(types[i].what, what) == 0 && strcmp(types[i].unit, unit) == 0)
                *column = (int)i;
        found += *column >= 0;
    }
    if (reading->err == 0 && found == 0)
        reading->err = -EINVAL;
}

/* ---- Second pass ---- */

static void make_line(struct reading *reading, struct span line, struct symbol *out) {
    struct field field;
    const struct item *function = NULL;
    while (take_field(&line, &field, &reading->err)) {
        if (field.number == 1)
            function = find(&reading->functions, field.value);
        else if (field.number == 2)
            out->line = (unsigned)field.value;
    }
    out->function = "";
    struct span message = function ? function->message : span_none();
    while (take_field(&message, &field, &reading->err)) {
        if (field.number == 2)
            out->function = string_at(reading, field.value);
        else if (field.number == 4)
            out->file = string_at(reading, field.value);
    }
}

static void make_location(struct reading *reading, struct item *location) {
    struct field field;
    unsigned count = 0;
    struct span rest = location->message;
    while (take_field(&rest, &field, &reading->err)) {
        if (field.number == 3)
            location->address = field.value;
        count += field.number == 4;
    }
    if (count > PPROF_READ_INLINED_MAX)
        count = PPROF_READ_INLINED_MAX;
    location->symbols = calloc(count ? count : 1, sizeof *location->symbols);
    if (!location->symbols) {
        reading->err = -ENOMEM;
        return;
    }
    location->symbols[0].function = "?"; /* without lines */
    rest = location->message;
    while (take_field(&rest, &field, &reading->err))
        if (field.number == 4 && location->symbol_count < count)
            make_line(reading, field.bytes, &location->symbols[location->symbol_count++]);
    if (location->symbol_count == 0)
        location->symbol_count = 1;
}

static void put_frame(struct reading *reading, struct told_stack *stack, uint64_t id) {
    struct item *location = find(&reading->locations, id);
    if (!location) {
        reading->err = -EINVAL;
        return;
    }
    if (!location->symbols)
        make_location(reading, location);
    if (reading->err == 0 && stack->depth < PPROF_READ_DEPTH_MAX)
        reading->frames[stack->depth++] = (struct told_frame){
            (uintptr_t)location->address, location->symbols, location->symbol_count};
}

static void put_label(struct reading *reading, struct told_stack *stack, struct span label) {
    struct field field;
    const char *key = "", *text = NULL, *unit = NULL;
    int64_t number = 0;
    while (take_field(&label, &field, &reading->err)) {
        if (field.number == 1)
            key = string_at(reading, field.value);
        else if (field.number == 2)
            text = string_at(reading, field.value);
        else if (field.number == 3)
            number = (int64_t)field.value;
        else if (field.number == 4)
            unit = string_at(reading, field.value);
    }
    if (!text) {
        stack->number.key = key;
        stack->number.unit = unit;
        stack->number.value = number;
    } else if (stack->label_count < LABELS_MAX) { /* one more is for whoever is told */
        stack->labels[stack->label_count++] = (struct label){key, text};
    }
}

static void tell_sample(struct reading *reading, struct span sample, unsigned type_count,
                        pprof_sample_fn fn, void *arg) {
    struct told_stack stack = {.frames = reading->frames};
    int64_t values[PPROF_VALUES_MAX] = {0};
    unsigned column = 0;
    struct field field;
    uint64_t number;
    while (take_field(&sample, &field, &reading->err)) {
        if (field.number == 1) {
            while (take_number(&field, &number, &reading->err))
                put_frame(reading, &stack, number);
        } else if (field.number == 2) {
            for (; take_number(&field, &number, &reading->err); column++)
                if (column < reading->column_count && reading->columns[column] >= 0)
                    values[reading->columns[column]] = (int64_t)number;
        } else if (field.number == 3) {
            put_label(reading, &stack, field.bytes);
        }
    }
    if (column != reading->column_count)
        reading->err = -EINVAL;
    if (reading->err == 0)
        fn(arg, &stack, values);
}

/* ---- All of it ---- */

static bool is_gzip(struct span file) {
    return file.len > 2 && memcmp(file.ptr, "\x1f\x8b", 2) == 0;
}

static int unzip(struct span file, struct text *out) {
    enum { GZIP_WINDOW = 15 + 16 };
    Bytef buffer[16 * 1024];
    z_stream zip = {.next_in = (const Bytef *)file.ptr, .avail_in = (uInt)file.len};
    if (file.len > PPROF_READ_MAX)
        return -EFBIG;
    if (inflateInit2(&zip, GZIP_WINDOW) != Z_OK)
        return -ENOMEM;
    int err = Z_OK;
    while (err == Z_OK && out->len <= PPROF_READ_MAX) {
        zip.next_out = buffer;
        zip.avail_out = sizeof buffer;
        err = inflate(&zip, Z_NO_FLUSH);
        text_put(out, span_make(buffer, sizeof buffer - zip.avail_out));
    }
    (void)inflateEnd(&zip);
    if (out->failed || err == Z_MEM_ERROR)
        return -ENOMEM;
    if (out->len > PPROF_READ_MAX)
        return -EFBIG;
    return err == Z_STREAM_END ? 0 : -EINVAL;
}

static void free_items(struct items *items) {
    for (size_t i = 0; i < items->count; i++)
        free(items->list[i].symbols);
    free(items->list);
}

int pprof_read(struct span file, const struct pprof_type *types, unsigned type_count,
               pprof_sample_fn fn, void *arg) {
    ASSERT(type_count <= PPROF_VALUES_MAX);
    struct text plain = {0};
    int err = is_gzip(file) ? unzip(file, &plain) : 0;
    struct reading *reading = err == 0 ? calloc(1, sizeof *reading) : NULL;
    if (reading) {
        struct span profile = is_gzip(file) ? text_span(&plain) : file;
        note_all(reading, profile); /* borrow-ok: the reading ends with this call */
        find_columns(reading, profile, types, type_count);
        struct field field;
        while (reading->err == 0 && take_field(&profile, &field, &reading->err))
            if (field.number == PROFILE_SAMPLE)
                tell_sample(reading, field.bytes, type_count, fn, arg);
        err = reading->err;
        free_items(&reading->locations);
        free_items(&reading->functions);
        for (size_t i = 0; i < reading->string_count; i++)
            free(reading->strings[i]);
        free(reading->strings);
        free(reading);
    } else if (err == 0) {
        err = -ENOMEM;
    }
    text_fini(&plain);
    return err;
}
