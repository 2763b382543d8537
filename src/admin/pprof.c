/* pprof: writes protobuf as it goes along.
 *
 *     body     location, function, mapping ..., in the order in which they are met
 *     samples  locations and labels of each different one; its values are beside it and are written last
 *     strings  the string table; everything else has the index of its strings
 *
 * Fields of a protobuf message may come in any order, and nothing is kept but the numbers that were
 * given: index of addresses to locations, of {name, file} to functions, of texts to strings. Only repeated
 * fields keep their order among themselves, which is why strings have a buffer of their own.
 *
 * Looked up  Addresses are looked up when all is written, not as they come: that takes seconds at times,
 *            and who tells of stacks may hold a lock meanwhile.
 *
 * Told       A location that somebody else tells of is known by all that is told: its address may have
 *            been looked up here before, with another result.
 * Addresses  A return address is that of the next instruction; a location is the call, one byte before.
 * Nesting    A message is written into `message`, its parts into `part`, and copied: their lengths come
 *            first. No message here is deeper. */
#include "admin/pprof.h"

#define ZLIB_CONST
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "admin/symbols.h"
#include "rt/symbol.h"

/* The numbers of profile.proto. */
enum profile_field {
    PROFILE_SAMPLE_TYPE = 1,
    PROFILE_SAMPLE = 2,
    PROFILE_MAPPING = 3,
    PROFILE_LOCATION = 4,
    PROFILE_FUNCTION = 5,
    PROFILE_STRING = 6,
    PROFILE_DROP_FRAMES = 7,
    PROFILE_TIME_NANOS = 9,
    PROFILE_DURATION_NANOS = 10,
    PROFILE_PERIOD_TYPE = 11,
    PROFILE_PERIOD = 12,
    PROFILE_COMMENT = 13,
    PROFILE_DEFAULT_TYPE = 14,
};
enum { TYPE_TYPE = 1, TYPE_UNIT = 2 };
enum { SAMPLE_LOCATION = 1, SAMPLE_VALUE = 2, SAMPLE_LABEL = 3 };
enum { LABEL_KEY = 1, LABEL_STR = 2, LABEL_NUM = 3, LABEL_NUM_UNIT = 4 };
enum {
    MAPPING_ID = 1,
    MAPPING_START = 2,
    MAPPING_LIMIT = 3,
    MAPPING_OFFSET = 4,
    MAPPING_FILENAME = 5,
    MAPPING_BUILD_ID = 6,
    MAPPING_HAS_FUNCTIONS = 7,
    MAPPING_HAS_FILENAMES = 8,
    MAPPING_HAS_LINE_NUMBERS = 9,
    MAPPING_HAS_INLINE_FRAMES = 10,
};
enum { LOCATION_ID = 1, LOCATION_MAPPING = 2, LOCATION_ADDRESS = 3, LOCATION_LINE = 4 };
enum { LINE_FUNCTION = 1, LINE_LINE = 2 };
enum { FUNCTION_ID = 1, FUNCTION_NAME = 2, FUNCTION_SYSTEM_NAME = 3, FUNCTION_FILENAME = 4 };

/* From keys to ids, which count from 1; open addressing. */
struct index {
    struct entry {
        uint64_t key;
        size_t text_at, text_len; /* where in the index's text that is of which key is a hash */
        uint32_t id;              /* 0: free */
    } * entries;
    uint32_t size, count;
};

struct sample {
    size_t at, ids_len, labels_len; /* in samples: packed ids of its locations, its labels */
};

struct mapping {
    uintptr_t start, limit; /* its id is the index + 1 */
};

struct pprof {
    struct text body, samples, strings, told, message, part;
    struct index texts, functions, locations, told_locations, sample_index;
    uint32_t location_count; /* of both kinds */
    struct unnamed {
        uintptr_t address;
        uint32_t id;
    } * unnamed; /* locations that are still to be looked up */
    size_t unnamed_count, unnamed_max;
    struct sample *sample;
    int64_t *values; /* value_count for each sample */
    size_t sample_max;
    struct mapping *mappings;
    size_t mapping_count;
    unsigned value_count;
    bool failed;
};

/* ---- Protobuf ---- */

static void put_varint(struct text *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        text_putc(out, (char)(0x80 | (value & 0x7f)));
    text_putc(out, (char)value);
}

/* Zero is what a field that is not there has. */
static void put_number(struct text *out, unsigned field, uint64_t value) {
    if (value == 0)
        return;
    put_varint(out, field << 3);
    put_varint(out, value);
}

static void put_bytes(struct text *out, unsigned field, struct span bytes) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len);
    text_put(out, bytes);
}

/* Moves what was written into inner to outer. */
static void put_message(struct text *outer, unsigned field, struct text *inner) {
    put_bytes(outer, field, text_span(inner));
    outer->failed |= inner->failed; /* so that one look at the end is enough */
    inner->len = 0;
}

/* ---- Ids ---- */

static uint64_t hash_of(uint64_t key) {
    key = (key ^ key >> 32) * 0x9e3779b97f4a7c15ULL;
    return key ^ key >> 29;
}

static bool index_grow(struct index *index) {
    if (2 * (index->count + 1) <= index->size)
        return true;
    uint32_t size = index->size ? 2 * index->size : 256;
    struct entry *entries = calloc(size, sizeof *entries);
    if (!entries)
        return false;
    for (uint32_t i = 0; i < index->size; i++) {
        if (index->entries[i].id == 0)
            continue;
        uint32_t at = (uint32_t)hash_of(index->entries[i].key) & (size - 1);
        while (entries[at].id != 0)
            at = (at + 1) & (size - 1);
        entries[at] = index->entries[i];
    }
    free(index->entries);
    index->entries = entries;
    index->size = size;
    return true;
}

/* The entry of key, a free one when it is new; NULL when memory is short. With a text, of which key is
 * the hash, it is the one that has it in `in`. */
static struct entry *entry_of(struct pprof *pprof, struct index *index, uint64_t key,
                              const struct text *in, struct span text) {
    if (!index_grow(index)) {
        pprof->failed = true;
        return NULL;
    }
    uint32_t at = (uint32_t)hash_of(key) & (index->size - 1);
    for (; index->entries[at].id != 0; at = (at + 1) & (index->size - 1)) {
        struct entry *entry = &index->entries[at];
        if (entry->key == key &&
            (!in || span_eq(span_make(in->data + entry->text_at, entry->text_len), text)))
            break;
    }
    return &index->entries[at];
}

static uint32_t take_entry(struct index *index, struct entry *entry, uint64_t key, uint32_t id) {
    *entry = (struct entry){.key = key, .id = id};
    index->count++;
    return id;
}

/* String 0 is the empty one. */
static uint32_t string_of(struct pprof *pprof, const char *string) {
    if (!string || !*string || pprof->strings.failed)
        return 0;
    struct span text = span_of(string);
    uint64_t key = span_hash(SPAN_HASH, text);
    struct entry *entry = entry_of(pprof, &pprof->texts, key, &pprof->strings, text);
    if (!entry || entry->id != 0)
        return entry ? entry->id : 0;
    put_bytes(&pprof->strings, PROFILE_STRING, text);
    uint32_t id = take_entry(&pprof->texts, entry, key, pprof->texts.count + 1);
    entry->text_at = pprof->strings.len - text.len;
    entry->text_len = text.len;
    return id;
}

/* ---- What is loaded ---- */

static void put_build_id(struct text *out, const char *note, size_t len) {
    while (len >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) head;
        memcpy(&head, note, sizeof head);
        size_t name_len = (head.n_namesz + 3) & ~3U, desc_len = (head.n_descsz + 3) & ~3U;
        if (len - sizeof head < name_len + desc_len)
            return;
        const char *name = note + sizeof head;
        if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
            for (size_t i = 0; i < head.n_descsz; i++)
                text_printf(out, "%02x", (unsigned char)name[name_len + i]);
            return;
        }
        note += sizeof head + name_len + desc_len;
        len -= sizeof head + name_len + desc_len;
    }
}

/* The executable's own name is empty here. */
static const char *file_of(const struct dl_phdr_info *info, char *buffer, size_t size) {
    const struct symbol_module *module = symbol_module_at(info->dlpi_addr);
    if (module)
        return module->file;
    if (info->dlpi_name && *info->dlpi_name)
        return info->dlpi_name;
    ssize_t len = readlink("/proc/self/exe", buffer, size - 1);
    buffer[len < 0 ? 0 : len] = '\0';
    return buffer;
}

static int add_mappings(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    struct pprof *pprof = arg;
    char path[4096];
    struct text build_id = {0};
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_NOTE && build_id.len == 0)
            put_build_id(&build_id, (const char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr,
                         info->dlpi_phdr[i].p_memsz);
    text_putc(&build_id, '\0');
    const char *file = file_of(info, path, sizeof path);
    for (unsigned i = 0; i < info->dlpi_phnum && !build_id.failed; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
            continue;
        struct mapping *more =
            realloc(pprof->mappings, (pprof->mapping_count + 1) * sizeof *pprof->mappings);
        if (!more) {
            pprof->failed = true;
            break;
        }
        pprof->mappings = more;
        uintptr_t page_mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
        uintptr_t start = (info->dlpi_addr + part->p_vaddr) & ~page_mask;
        uintptr_t limit = info->dlpi_addr + part->p_vaddr + part->p_memsz;
        limit = (limit + page_mask) & ~page_mask;
        struct text *message = &pprof->message;
        pprof->mappings[pprof->mapping_count++] = (struct mapping){start, limit};
        put_number(message, MAPPING_ID, pprof->mapping_count);
        put_number(message, MAPPING_START, start);
        put_number(message, MAPPING_LIMIT, limit);
        put_number(message, MAPPING_OFFSET, part->p_offset & ~page_mask);
        put_number(message, MAPPING_FILENAME, string_of(pprof, file));
        put_number(message, MAPPING_BUILD_ID, string_of(pprof, build_id.data));
        /* Or the reader looks for them itself. */
        put_number(message, MAPPING_HAS_FUNCTIONS, 1);
        put_number(message, MAPPING_HAS_FILENAMES, 1);
        put_number(message, MAPPING_HAS_LINE_NUMBERS, 1);
        put_number(message, MAPPING_HAS_INLINE_FRAMES, 1);
        put_message(&pprof->body, PROFILE_MAPPING, message);
    }
    pprof->failed |= build_id.failed;
    text_fini(&build_id);
    return 0;
}

static uint64_t mapping_of(const struct pprof *pprof, uintptr_t address) {
    for (size_t i = 0; i < pprof->mapping_count; i++)
        if (address >= pprof->mappings[i].start && address < pprof->mappings[i].limit)
            return i + 1;
    return 0;
}

/* ---- Functions and locations ---- */

static uint32_t function_of(struct pprof *pprof, const struct symbol *symbol) {
    uint32_t name = string_of(pprof, symbol->function), file = string_of(pprof, symbol->file);
    uint64_t key = (uint64_t)name << 32 | file;
    struct entry *entry = entry_of(pprof, &pprof->functions, key, NULL, span_none());
    if (!entry || entry->id != 0)
        return entry ? entry->id : 0;
    uint32_t id = take_entry(&pprof->functions, entry, key, pprof->functions.count + 1);
    struct text function = {0}; /* a location is being written */
    put_number(&function, FUNCTION_ID, id);
    put_number(&function, FUNCTION_NAME, name);
    put_number(&function, FUNCTION_SYSTEM_NAME, name);
    put_number(&function, FUNCTION_FILENAME, file);
    put_message(&pprof->body, PROFILE_FUNCTION, &function);
    text_fini(&function);
    return id;
}

/* Into message: all of a location but its id. */
static void describe_location(struct pprof *pprof, uintptr_t address, const struct symbol *symbols,
                              unsigned count) {
    struct text *message = &pprof->message, *line = &pprof->part;
    put_number(message, LOCATION_MAPPING, mapping_of(pprof, address));
    put_number(message, LOCATION_ADDRESS, address);
    for (unsigned i = 0; i < count; i++) {
        put_number(line, LINE_FUNCTION, function_of(pprof, &symbols[i]));
        put_number(line, LINE_LINE, symbols[i].line);
        put_message(message, LOCATION_LINE, line);
    }
}

static void put_location(struct pprof *pprof, uint32_t id) {
    put_number(&pprof->message, LOCATION_ID, id);
    put_message(&pprof->body, PROFILE_LOCATION, &pprof->message);
}

/* Address 0 stands for a stack that could not be seen. */
static uint32_t location_of(struct pprof *pprof, uintptr_t address) {
    struct entry *entry = entry_of(pprof, &pprof->locations, address, NULL, span_none());
    if (!entry || entry->id != 0)
        return entry ? entry->id : 0;
    if (pprof->unnamed_count == pprof->unnamed_max) {
        size_t max = pprof->unnamed_max ? 2 * pprof->unnamed_max : 1024;
        struct unnamed *more = realloc(pprof->unnamed, max * sizeof *more);
        if (!more) {
            pprof->failed = true;
            return 0;
        }
        pprof->unnamed = more;
        pprof->unnamed_max = max;
    }
    uint32_t id = take_entry(&pprof->locations, entry, address, ++pprof->location_count);
    pprof->unnamed[pprof->unnamed_count++] = (struct unnamed){address, id};
    return id;
}

static void look_up_locations(struct pprof *pprof) {
    for (size_t i = 0; i < pprof->unnamed_count; i++) {
        const struct unnamed *location = &pprof->unnamed[i];
        struct symbol symbols[SYMBOL_INLINED_MAX] = {{.function = "stack unavailable"}};
        unsigned count =
            location->address ? symbol_of(location->address, symbols, SYMBOL_INLINED_MAX) : 1;
        describe_location(pprof, location->address, symbols, count);
        put_location(pprof, location->id);
    }
    pprof->unnamed_count = 0;
    symbols_rest();
}

static uint32_t told_location_of(struct pprof *pprof, const struct told_frame *frame) {
    struct text *message = &pprof->message, *told = &pprof->told;
    describe_location(pprof, frame->address, frame->symbols, frame->count);
    pprof->failed |= message->failed | told->failed; /* before what is not there is compared */
    struct span text = text_span(message);
    uint64_t key = span_hash(SPAN_HASH, text);
    struct entry *entry =
        pprof->failed ? NULL : entry_of(pprof, &pprof->told_locations, key, told, text);
    if (!entry || entry->id != 0) {
        message->len = 0;
        return entry ? entry->id : 0;
    }
    uint32_t id = take_entry(&pprof->told_locations, entry, key, ++pprof->location_count);
    entry->text_at = told->len;
    entry->text_len = text.len;
    text_put(told, text);
    put_location(pprof, id);
    return id;
}

/* ---- Samples ---- */

static void put_label(struct pprof *pprof, const char *key, const char *value) {
    if (!value || !*value) /* without a text it would be the number 0 */
        return;
    put_number(&pprof->part, LABEL_KEY, string_of(pprof, key));
    put_number(&pprof->part, LABEL_STR, string_of(pprof, value));
    put_message(&pprof->message, SAMPLE_LABEL, &pprof->part);
}

static bool room_for_sample(struct pprof *pprof, size_t index) {
    if (index < pprof->sample_max)
        return true;
    size_t max = pprof->sample_max ? 2 * pprof->sample_max : 256;
    struct sample *sample = realloc(pprof->sample, max * sizeof *sample);
    if (sample)
        pprof->sample = sample;
    int64_t *values = realloc(pprof->values, max * pprof->value_count * sizeof *values);
    if (values)
        pprof->values = values;
    if (sample && values)
        pprof->sample_max = max;
    else
        pprof->failed = true;
    return sample && values;
}

/* Of what stands in ids and, its labels, in message, which is empty afterwards. */
static void add_values(struct pprof *pprof, struct text *ids, const int64_t *values) {
    struct text *samples = &pprof->samples, *labels = &pprof->message;
    size_t ids_len = ids->len;
    text_put(ids, text_span(labels)); /* ids_len, where one ends, is in the key, too */
    labels->len = 0;
    pprof->failed |= ids->failed | labels->failed | samples->failed;
    if (pprof->failed)
        return;
    struct span text = text_span(ids);
    uint64_t key = span_hash(SPAN_HASH, text) ^ ids_len;
    struct entry *entry = entry_of(pprof, &pprof->sample_index, key, samples, text);
    if (!entry || !room_for_sample(pprof, pprof->sample_index.count))
        return;
    bool is_new = entry->id == 0;
    size_t index = is_new ? pprof->sample_index.count : entry->id - 1;
    int64_t *sums = pprof->values + index * pprof->value_count;
    if (is_new) {
        take_entry(&pprof->sample_index, entry, key, pprof->sample_index.count + 1);
        entry->text_at = samples->len;
        entry->text_len = text.len;
        pprof->sample[index] = (struct sample){samples->len, ids_len, text.len - ids_len};
        text_put(samples, text);
        memset(sums, 0, pprof->value_count * sizeof *sums);
    }
    for (unsigned i = 0; i < pprof->value_count; i++)
        sums[i] += values[i];
}

void pprof_add(struct pprof *pprof, const struct stack_count *stack, const int64_t *values) {
    struct text ids = {0};
    if (stack->depth == 0)
        put_varint(&ids, location_of(pprof, 0));
    for (unsigned i = 0; i < stack->depth; i++) {
        bool is_exact = i == 0 && stack->is_first_exact;
        put_varint(&ids, location_of(pprof, is_exact ? stack->pcs[i] : stack->pcs[i] - 1));
    }
    put_label(pprof, "coroutine", stack->name);
    put_label(pprof, "state", stack->state);
    for (unsigned i = 0; stack->labels && i < stack->labels->count; i++)
        put_label(pprof, stack->labels->items[i].key, stack->labels->items[i].value);
    add_values(pprof, &ids, values);
    text_fini(&ids);
}

void pprof_add_told(struct pprof *pprof, const struct told_stack *stack, const int64_t *values) {
    struct text ids = {0};
    for (unsigned i = 0; i < stack->depth; i++)
        put_varint(&ids, told_location_of(pprof, &stack->frames[i]));
    for (unsigned i = 0; i < stack->label_count; i++)
        put_label(pprof, stack->labels[i].key, stack->labels[i].value);
    if (stack->number.key) {
        put_number(&pprof->part, LABEL_KEY, string_of(pprof, stack->number.key));
        put_number(&pprof->part, LABEL_NUM, (uint64_t)stack->number.value);
        put_number(&pprof->part, LABEL_NUM_UNIT, string_of(pprof, stack->number.unit));
        put_message(&pprof->message, SAMPLE_LABEL, &pprof->part);
    }
    add_values(pprof, &ids, values);
    text_fini(&ids);
}

static void put_samples(struct pprof *pprof, struct text *out) {
    struct text *message = &pprof->message, *part = &pprof->part;
    for (size_t i = 0; i < pprof->sample_index.count; i++) {
        const struct sample *sample = &pprof->sample[i];
        const int64_t *values = pprof->values + i * pprof->value_count;
        bool is_nothing = true;
        for (unsigned k = 0; k < pprof->value_count; k++) {
            put_varint(part, (uint64_t)values[k]);
            is_nothing &= values[k] == 0;
        }
        if (is_nothing) {
            part->len = 0;
            continue;
        }
        const char *ids = pprof->samples.data + sample->at;
        put_bytes(message, SAMPLE_LOCATION, span_make(ids, sample->ids_len));
        put_message(message, SAMPLE_VALUE, part);
        text_put(message, span_make(ids + sample->ids_len, sample->labels_len));
        put_message(out, PROFILE_SAMPLE, message);
    }
}

void pprof_when(struct pprof *pprof, int64_t began_ns, int64_t duration_ns) {
    put_number(&pprof->body, PROFILE_TIME_NANOS, (uint64_t)began_ns);
    put_number(&pprof->body, PROFILE_DURATION_NANOS, (uint64_t)duration_ns);
}

void pprof_comment(struct pprof *pprof, const char *comment) {
    put_number(&pprof->body, PROFILE_COMMENT, string_of(pprof, comment));
}

/* ---- The whole ---- */

static void put_type(struct pprof *pprof, unsigned field, const struct pprof_type *type) {
    put_number(&pprof->message, TYPE_TYPE, string_of(pprof, type->what));
    put_number(&pprof->message, TYPE_UNIT, string_of(pprof, type->unit));
    put_message(&pprof->body, field, &pprof->message);
}

struct pprof *pprof_new(const struct pprof_head *head) {
    struct pprof *pprof = malloc(sizeof *pprof);
    if (!pprof)
        return NULL;
    *pprof = (struct pprof){.value_count = head->value_count};
    put_bytes(&pprof->strings, PROFILE_STRING, span_make("", 0));
    for (unsigned i = 0; i < head->value_count; i++)
        put_type(pprof, PROFILE_SAMPLE_TYPE, &head->values[i]);
    if (head->period_type.what)
        put_type(pprof, PROFILE_PERIOD_TYPE, &head->period_type);
    put_number(&pprof->body, PROFILE_PERIOD, (uint64_t)head->period);
    put_number(&pprof->body, PROFILE_DROP_FRAMES, string_of(pprof, head->drop_frames));
    put_number(&pprof->body, PROFILE_DEFAULT_TYPE, string_of(pprof, head->default_type));
    (void)dl_iterate_phdr(add_mappings, pprof);
    return pprof;
}

void pprof_free(struct pprof *pprof) {
    if (!pprof)
        return;
    text_fini(&pprof->body);
    text_fini(&pprof->samples);
    text_fini(&pprof->strings);
    text_fini(&pprof->told);
    text_fini(&pprof->message);
    text_fini(&pprof->part);
    free(pprof->texts.entries);
    free(pprof->functions.entries);
    free(pprof->locations.entries);
    free(pprof->told_locations.entries);
    free(pprof->sample_index.entries);
    free(pprof->unnamed);
    free(pprof->sample);
    free(pprof->values);
    free(pprof->mappings);
    free(pprof);
}

static void compress_to(struct text *out, z_stream *zip, struct span in, int flush) {
    Bytef buffer[16 * 1024];
    zip->next_in = (const Bytef *)in.ptr;
    zip->avail_in = (uInt)in.len;
    do {
        zip->next_out = buffer;
        zip->avail_out = sizeof buffer;
        (void)deflate(zip, flush);
        text_put(out, span_make(buffer, sizeof buffer - zip->avail_out));
    } while (zip->avail_out == 0);
}

void pprof_write(struct pprof *pprof, struct text *out) {
    enum { GZIP_WINDOW = 15 + 16, MEMORY = 8 };
    z_stream zip = {0};
    struct text samples = {0};
    look_up_locations(pprof);
    put_samples(pprof, &samples);
    if (pprof->failed || samples.failed || pprof->body.failed || pprof->samples.failed ||
        pprof->strings.failed || pprof->told.failed || pprof->message.failed ||
        deflateInit2(&zip, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, MEMORY, Z_DEFAULT_STRATEGY) !=
            Z_OK) {
        out->failed = true;
    } else {
        compress_to(out, &zip, text_span(&pprof->body), Z_NO_FLUSH);
        compress_to(out, &zip, text_span(&samples), Z_NO_FLUSH);
        compress_to(out, &zip, text_span(&pprof->strings), Z_FINISH);
        (void)deflateEnd(&zip);
    }
    text_fini(&samples);
}
