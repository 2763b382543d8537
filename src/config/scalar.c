/* scalar: one leaf of the tree into one C value.
 *
 * A YAML scalar is classified as Envoy's loader does it, before the field's type is looked at:
 * quoted is a string; plain is a bool if it is one of YAML 1.1's words, else an integer (decimal,
 * 0x, leading-zero octal) if it fits 64 bits, else a string, floats included. Then protobuf's JSON
 * rules apply: a string field takes no bool and no number, numeric fields take quoted numbers. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/load.h"
#include "config/scalar.h"

static bool is_yaml_bool(struct span text, bool *value) {
    static const struct {
        struct span word;
        bool value;
    } words[] = {{SPAN_INIT("true"), true}, {SPAN_INIT("false"), false}, {SPAN_INIT("yes"), true},
                 {SPAN_INIT("no"), false},  {SPAN_INIT("on"), true},     {SPAN_INIT("off"), false},
                 {SPAN_INIT("y"), true},    {SPAN_INIT("n"), false}};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        struct span word = words[i].word;
        if (!span_eq_nocase(text, word))
            continue;
        /* "true", "True", "TRUE", but not "tRUE". */
        bool lower = true, upper = true, tail_lower = true;
        for (size_t k = 0; k < text.len; k++) {
            bool is_lower = text.ptr[k] >= 'a';
            lower = lower && is_lower;
            upper = upper && !is_lower;
            tail_lower = tail_lower && (k == 0 || is_lower);
        }
        *value = words[i].value;
        return lower || upper || tail_lower;
    }
    return false;
}

static bool is_yaml_integer(struct span text, int64_t *value) {
    /* Decimal digits lead every form, which keeps out what else strtoll skips or takes. */
    size_t i = text.len && (text.ptr[0] == '-' || text.ptr[0] == '+') ? 1 : 0;
    if (i >= text.len || text.ptr[i] < '0' || text.ptr[i] > '9' || text.len > 64)
        return false;
    char *end;
    errno = 0;
    *value = strtoll(text.ptr, &end, 0);
    return errno == 0 && end == text.ptr + text.len;
}

struct cfg_scalar cfg_scalar_of(const struct cfg_tree *node) {
    struct cfg_scalar s = {.kind = CFG_SCALAR_STRING, .text = node->text};
    if (node->kind != NODE_PLAIN)
        return s;
    if (node->is_json) {
        if (span_eq(node->text, SPAN_LIT("true")) || span_eq(node->text, SPAN_LIT("false"))) {
            s.kind = CFG_SCALAR_BOOL;
            s.boolean = node->text.len == 4;
        } else {
            s.kind = CFG_SCALAR_NUMBER;
        }
        return s;
    }
    if (is_yaml_bool(node->text, &s.boolean)) {
        s.kind = CFG_SCALAR_BOOL;
    } else if (is_yaml_integer(node->text, &s.integer)) {
        s.kind = CFG_SCALAR_INTEGER;
    }
    return s;
}

bool cfg_parse_double(struct span text, double *out) {
    if (span_eq(text, SPAN_LIT("NaN"))) {
        *out = NAN;
        return true;
    }
    if (span_eq(text, SPAN_LIT("Infinity")) || span_eq(text, SPAN_LIT("-Infinity"))) {
        *out = text.ptr[0] == '-' ? -INFINITY : INFINITY;
        return true;
    }
    /* strtod also takes blanks, hexadecimal, "inf" and "nan(...)": JSON does not. */
    if (text.len == 0 || text.len > 512 || strspn(text.ptr, "0123456789+-.eE") < text.len ||
        text.ptr[0] == '+')
        return false;
    char *end;
    *out = strtod(text.ptr, &end);
    return end == text.ptr + text.len && isfinite(*out);
}

bool cfg_parse_duration(struct span text, int64_t *seconds, int32_t *nanos) {
    bool negative = text.len && text.ptr[0] == '-';
    size_t i = negative;
    uint64_t whole = 0;
    uint32_t fraction = 0;
    size_t first = i;
    for (; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9'; i++) {
        whole = whole * 10 + (uint64_t)(text.ptr[i] - '0');
        if (whole > CFG_DURATION_SECONDS_MAX)
            return false;
    }
    if (i == first)
        return false;
    if (i < text.len && text.ptr[i] == '.') {
        size_t digits = 0;
        for (i++; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9'; i++, digits++) {
            if (digits == 9)
                return false;
            fraction = fraction * 10 + (uint32_t)(text.ptr[i] - '0');
        }
        if (digits == 0)
            return false;
        for (; digits < 9; digits++)
            fraction *= 10;
    }
    if (i + 1 != text.len || text.ptr[i] != 's')
        return false;
    *seconds = negative ? -(int64_t)whole : (int64_t)whole;
    *nanos = negative ? -(int32_t)fraction : (int32_t)fraction;
    return true;
}

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

bool cfg_parse_base64(struct cfg_arena *arena, struct span text, struct span *out) {
    while (text.len && text.ptr[text.len - 1] == '=')
        text.len--;
    if (text.len % 4 == 1)
        return false;
    char *bytes = cfg_alloc(arena, text.len / 4 * 3 + 4);
    size_t len = 0;
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < text.len; i++) {
        int digit = base64_digit(text.ptr[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        count += 6;
        if (count >= 8) {
            count -= 8;
            bytes[len++] = (char)(bits >> count);
        }
    }
    *out = span_make(bytes, len);
    return true;
}

/* ---- by type ---- */

/* What was found, for a message. */
static struct span described(struct cfg_loader *loader, const struct cfg_scalar *s) {
    int len = s->text.len > 60 ? 60 : (int)s->text.len;
    const char *more = s->text.len > 60 ? "..." : "";
    switch (s->kind) {
    case CFG_SCALAR_STRING:
        return cfg_printf(loader->scratch, "the string \"%.*s%s\"", len, s->text.ptr, more);
    case CFG_SCALAR_BOOL:
        return cfg_printf(loader->scratch, "the bool %.*s", len, s->text.ptr);
    case CFG_SCALAR_INTEGER:
    case CFG_SCALAR_NUMBER:
        break;
    }
    return cfg_printf(loader->scratch, "the number %.*s%s", len, s->text.ptr, more);
}

struct decoding { /* the arguments that every function below passes on */
    struct cfg_loader *loader;
    const struct cfg_field *field;
    const struct cfg_tree *node;
    const struct cfg_path *path;
    struct cfg_scalar scalar;
};

static void expected(const struct decoding *d, const char *what) {
    struct span found = described(d->loader, &d->scalar);
    cfg_report(d->loader, CFG_PROBLEM_INVALID, d->node, d->path, "expected %s, found %.*s", what,
               (int)found.len, found.ptr);
}

/* An integer of 64 bits, as magnitude and sign. False with a problem reported. */
static bool integer(const struct decoding *d, uint64_t *magnitude, bool *negative) {
    const struct cfg_scalar *s = &d->scalar;
    if (s->kind == CFG_SCALAR_INTEGER) {
        *negative = s->integer < 0;
        *magnitude = *negative ? 0 - (uint64_t)s->integer : (uint64_t)s->integer;
        return true;
    }
    if (s->kind != CFG_SCALAR_BOOL && s->text.len) {
        *negative = s->text.ptr[0] == '-';
        if (span_to_u64(span_from(s->text, *negative), magnitude))
            return true;
        /* 1e3 and 1.0 are integers to JSON. */
        double value;
        if (cfg_parse_double(s->text, &value) && value == floor(value) && fabs(value) < 0x1p63) {
            *negative = value < 0;
            *magnitude = (uint64_t)fabs(value);
            return true;
        }
    }
    expected(d, "an integer");
    return false;
}

static void decode_integer(const struct decoding *d, void *out) {
    uint64_t magnitude;
    bool negative;
    if (!integer(d, &magnitude, &negative))
        return;
    enum cfg_type type = d->field->type;
    bool is_signed = type == CFG_I32 || type == CFG_SINT32 || type == CFG_SFIXED32 ||
                     type == CFG_I64 || type == CFG_SINT64 || type == CFG_SFIXED64;
    bool wide = cfg_scalar_size(type) == 8;
    uint64_t max = is_signed ? (wide ? INT64_MAX : INT32_MAX) : (wide ? UINT64_MAX : UINT32_MAX);
    uint64_t below = is_signed ? max + 1 : 0; /* magnitude of the least value */
    if (magnitude > (negative ? below : max)) {
        cfg_report(d->loader, CFG_PROBLEM_INVALID, d->node, d->path,
                   "%s%" PRIu64 " is out of range: %s%" PRIu64 " to %" PRIu64 " fit",
                   negative ? "-" : "", magnitude, below ? "-" : "", below, max);
        return;
    }
    uint64_t bits = negative ? 0 - magnitude : magnitude;
    uint32_t narrow = (uint32_t)bits;
    if (wide)
        memcpy(out, &bits, sizeof(bits));
    else
        memcpy(out, &narrow, sizeof(narrow));
}

static void decode_bool(const struct decoding *d, void *out) {
    bool value = d->scalar.boolean;
    if (d->scalar.kind == CFG_SCALAR_STRING)
        value = span_eq(d->scalar.text, SPAN_LIT("true"));
    /* Envoy's JSON reader takes these two words as strings, too. */
    if (d->scalar.kind == CFG_SCALAR_BOOL || value || span_eq(d->scalar.text, SPAN_LIT("false")))
        memcpy(out, &value, sizeof(value));
    else
        expected(d, "true or false");
}

static void decode_double(const struct decoding *d, void *out) {
    double value = (double)d->scalar.integer;
    bool ok = d->scalar.kind == CFG_SCALAR_INTEGER ||
              (d->scalar.kind != CFG_SCALAR_BOOL && cfg_parse_double(d->scalar.text, &value));
    if (!ok) {
        expected(d, "a number");
        return;
    }
    if (d->field->type == CFG_FLOAT) {
        float narrow = (float)value;
        if (isinf(narrow) && !isinf(value)) {
            expected(d, "a number that a float can hold");
            return;
        }
        memcpy(out, &narrow, sizeof(narrow));
    } else {
        memcpy(out, &value, sizeof(value));
    }
}

static void decode_string(const struct decoding *d, struct span *out) {
    if (d->scalar.kind != CFG_SCALAR_STRING) {
        expected(d, "a string (put it in quotes)");
        return;
    }
    *out = cfg_copy(d->loader->arena, d->scalar.text);
}

static void decode_bytes(const struct decoding *d, struct span *out) {
    if (d->scalar.kind != CFG_SCALAR_STRING ||
        !cfg_parse_base64(d->loader->arena, d->scalar.text, out))
        expected(d, "bytes as a base64 string");
}

/* "one of A, B, C" */
static const char *enum_names(const struct decoding *d) {
    const struct cfg_enum *e = d->field->enumeration;
    struct cfg_buf names = {.arena = d->loader->scratch};
    for (size_t i = 0; i < e->count; i++) {
        if (e->values[i].status != CFG_UNSUPPORTED)
            cfg_buf_printf(&names, "%s%s", names.len ? ", " : "one of ", e->values[i].name);
    }
    if (d->scalar.kind == CFG_SCALAR_BOOL)
        cfg_buf_text(&names, " (put it in quotes)"); /* ON and OFF are bools to YAML */
    cfg_buf_byte(&names, '\0');
    return names.ptr;
}

static void decode_enum(const struct decoding *d, void *out) {
    const struct cfg_enum *e = d->field->enumeration;
    const struct cfg_enum_value *value;
    int64_t number = 0;
    bool is_quoted_number = d->scalar.kind == CFG_SCALAR_STRING && d->scalar.text.len &&
                            strspn(d->scalar.text.ptr, "-0123456789") == d->scalar.text.len;
    if (!is_quoted_number &&
        (d->scalar.kind == CFG_SCALAR_STRING || d->scalar.kind == CFG_SCALAR_BOOL)) {
        value = d->scalar.kind == CFG_SCALAR_STRING ? cfg_enum_find(e, d->scalar.text) : NULL;
        if (!value) {
            expected(d, enum_names(d));
            return;
        }
        number = value->number;
    } else {
        uint64_t magnitude;
        bool negative;
        if (!integer(d, &magnitude, &negative))
            return;
        bool fits = magnitude <= (uint64_t)INT32_MAX + negative;
        number = !fits ? 0 : negative ? -(int64_t)magnitude : (int64_t)magnitude;
        value = fits ? cfg_enum_at(e, number) : NULL;
        if (!value && (!fits || (d->field->rules & CFG_OPEN_ENUM) == 0)) {
            cfg_report(d->loader, CFG_PROBLEM_INVALID, d->node, d->path,
                       "%.*s is not a value of %s", (int)d->scalar.text.len, d->scalar.text.ptr,
                       e->name);
            return;
        }
    }
    if (value && value->status == CFG_UNSUPPORTED) {
        cfg_report(d->loader, CFG_PROBLEM_UNSUPPORTED, d->node, d->path,
                   "%s is not supported yet: Envoy has it, this release does not", value->name);
        return;
    }
    int narrow = (int)number;
    memcpy(out, &narrow, sizeof(narrow));
}

static void store_duration(const struct decoding *d, int64_t seconds, int32_t nanos, void *out);

static void decode_duration(const struct decoding *d, void *out) {
    int64_t seconds;
    int32_t nanos;
    if (d->scalar.kind != CFG_SCALAR_STRING ||
        !cfg_parse_duration(d->scalar.text, &seconds, &nanos)) {
        expected(d, "a duration in seconds, such as \"5s\" or \"0.25s\"");
        return;
    }
    store_duration(d, seconds, nanos, out);
}

/* {seconds: 1, nanos: 5}: the message as a message, which Envoy's JSON reader takes too. */
static void decode_duration_object(const struct decoding *d, void *out) {
    static const struct cfg_field fields[] = {
        {.number = 1, .name = "seconds", .type = CFG_I64, .doc = ""},
        {.number = 2, .name = "nanos", .type = CFG_I32, .offset = sizeof(int64_t), .doc = ""},
    };
    struct {
        int64_t seconds;
        int32_t nanos;
    } parts = {0};
    static const struct cfg_schema schema = {
        .name = "google.protobuf.Duration", .size = sizeof(parts), FIELDS(fields)};
    cfg_decode_message(d->loader, &schema, d->node, d->path, false, &parts);
    bool same_sign =
        !(parts.seconds > 0 && parts.nanos < 0) && !(parts.seconds < 0 && parts.nanos > 0);
    if (!same_sign || parts.nanos > 999999999 || parts.nanos < -999999999 ||
        parts.seconds > (int64_t)CFG_DURATION_SECONDS_MAX ||
        parts.seconds < -(int64_t)CFG_DURATION_SECONDS_MAX) {
        cfg_report(d->loader, CFG_PROBLEM_INVALID, d->node, d->path,
                   "seconds and nanos are out of range, or of different sign");
        return;
    }
    store_duration(d, parts.seconds, parts.nanos, out);
}

static void store_duration(const struct decoding *d, int64_t seconds, int32_t nanos, void *out) {
    if (d->field->type == CFG_WIDE_DURATION) {
        struct cfg_timestamp wide = {.set = true, .seconds = seconds, .nanos = nanos};
        memcpy(out, &wide, sizeof(wide));
        return;
    }
    int64_t ns;
    if (__builtin_mul_overflow(seconds, (int64_t)1000000000, &ns) ||
        __builtin_add_overflow(ns, nanos, &ns)) {
        cfg_report(d->loader, CFG_PROBLEM_INVALID, d->node, d->path,
                   "%" PRId64 "s is longer than 292 years", seconds);
        return;
    }
    struct cfg_duration duration = {.set = true, .ns = ns};
    memcpy(out, &duration, sizeof(duration));
}

/* {value: 5}: the wrapper as a message, which Envoy's JSON reader takes too. */
static void decode_wrapper_object(const struct decoding *d, void *out) {
    struct cfg_field value = {.number = 1,
                              .name = "value",
                              .type = d->field->type,
                              .offset = (uint32_t)cfg_wrapped_offset(d->field->type),
                              .rules = d->field->rules & (CFG_NUL_OK | CFG_OPEN_ENUM),
                              .doc = ""};
    struct cfg_schema schema = {.name = cfg_type_name(d->field),
                                .size = cfg_value_size(d->field),
                                .fields = &value,
                                .fields_count = 1};
    bool set = true;
    memcpy(out, &set, sizeof(set));
    cfg_decode_message(d->loader, &schema, d->node, d->path, false, out);
}

void cfg_decode_scalar(struct cfg_loader *loader, const struct cfg_field *field,
                       const struct cfg_tree *node, const struct cfg_path *path, void *out) {
    struct decoding d = {.loader = loader, .field = field, .node = node, .path = path};
    if (node->kind == NODE_MAP &&
        (field->type == CFG_DURATION || field->type == CFG_WIDE_DURATION)) {
        decode_duration_object(&d, out);
        return;
    }
    if (field->wrapped && node->kind == NODE_MAP) {
        decode_wrapper_object(&d, out);
        return;
    }
    if (node->kind == NODE_LIST || node->kind == NODE_MAP || node->kind == NODE_NULL) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "expected a single value, found %s",
                   cfg_tree_kind_name(node));
        return;
    }
    d.scalar = cfg_scalar_of(node);
    void *value = out;
    if (field->wrapped) {
        bool set = true;
        memcpy(out, &set, sizeof(set));
        value = (char *)out + cfg_wrapped_offset(field->type);
    }
    switch (field->type) {
    case CFG_BOOL:
        decode_bool(&d, value);
        break;
    case CFG_FLOAT:
    case CFG_DOUBLE:
        decode_double(&d, value);
        break;
    case CFG_STRING:
        decode_string(&d, value);
        break;
    case CFG_BYTES:
        decode_bytes(&d, value);
        break;
    case CFG_ENUM:
        decode_enum(&d, value);
        break;
    case CFG_DURATION:
    case CFG_WIDE_DURATION:
        decode_duration(&d, value);
        break;
    case CFG_TIMESTAMP:
        if (d.scalar.kind != CFG_SCALAR_STRING || !cfg_parse_timestamp(d.scalar.text, value))
            expected(&d, "a time such as \"2026-01-31T12:00:00Z\"");
        break;
    case CFG_FIELD_MASK:
        if (d.scalar.kind != CFG_SCALAR_STRING ||
            !cfg_parse_field_mask(loader->arena, d.scalar.text, value))
            expected(&d, "a field mask such as \"name,address.portValue\"");
        break;
    default:
        decode_integer(&d, value);
        break;
    }
}
