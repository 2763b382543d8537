/* rules: what a decoded value must satisfy; the messages say what would be right. */
#include <inttypes.h>

#include "config/load.h"

static bool is_token_byte(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_header_name(struct span s) {
    size_t i = s.len > 1 && s.ptr[0] == ':' ? 1 : 0; /* :path, :authority ... */
    if (i == s.len)
        return false;
    for (; i < s.len; i++) {
        if (!is_token_byte((unsigned char)s.ptr[i]))
            return false;
    }
    return true;
}

static bool has_line_break(struct span s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\0' || s.ptr[i] == '\r' || s.ptr[i] == '\n')
            return true;
    }
    return false;
}

static bool is_separated_path(struct span s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '?' || s.ptr[i] == '#')
            return false;
    }
    return s.len > 1 && s.ptr[s.len - 1] != '/';
}

#define REPORT(...) cfg_report(loader, CFG_PROBLEM_INVALID, node, path, __VA_ARGS__)

static void check_text(struct cfg_loader *loader, const struct cfg_field *field,
                       const struct cfg_tree *node, const struct cfg_path *path, struct span text) {
    uint32_t rules = field->rules;
    if (!text.ptr) /* was not decoded; that has its own message */
        return;
    if ((rules & CFG_REQUIRED) && field->shape == CFG_SINGULAR && text.len == 0)
        REPORT("must not be empty");
    else if ((rules & CFG_MAX_LEN) && text.len > (size_t)field->max)
        REPORT("is %zu bytes long, at most %" PRId64 " may be", text.len, field->max);
    else if ((rules & CFG_HEADER_NAME) && !is_header_name(text))
        REPORT("\"%.*s\" is not a header name", (int)text.len, text.ptr);
    else if ((rules & CFG_MODIFIABLE) &&
             (text.ptr[0] == ':' || span_eq_nocase(text, SPAN_LIT("host"))))
        REPORT("\"%.*s\": headers that begin with ':' and host may not be modified here",
               (int)text.len, text.ptr);
    else if ((rules & CFG_HEADER_VALUE) && has_line_break(text))
        REPORT("must not contain NUL, CR or LF");
    else if ((rules & CFG_SEPARATED_PATH) && !is_separated_path(text))
        REPORT("\"%.*s\" must be a path without '?' and '#', and without '/' at the end",
               (int)text.len, text.ptr);
    else if (field->type == CFG_STRING && !(rules & CFG_NUL_OK) && memchr(text.ptr, 0, text.len))
        REPORT("must not contain a NUL byte");
}

static void check_duration(struct cfg_loader *loader, const struct cfg_field *field,
                           const struct cfg_tree *node, const struct cfg_path *path,
                           const struct cfg_duration *duration) {
    if (!duration->set)
        return;
    if (duration->ns < 0) {
        REPORT("must not be negative");
        return;
    }
    if (!(field->rules & CFG_RANGE) || (duration->ns >= field->min && duration->ns <= field->max))
        return;
    struct cfg_buf text = {.arena = loader->scratch};
    if (duration->ns < field->min) {
        cfg_json_duration(&text, field->min / 1000000000, (int32_t)(field->min % 1000000000));
        if (field->min == 1)
            REPORT("must be greater than 0s");
        else
            REPORT("must be at least %.*s", (int)text.len, text.ptr);
    } else {
        cfg_json_duration(&text, field->max / 1000000000, (int32_t)(field->max % 1000000000));
        REPORT("must be at most %.*s", (int)text.len, text.ptr);
    }
}

static int64_t as_i64(enum cfg_type type, const void *value) {
    uint32_t u32;
    int32_t i32;
    int64_t i64;
    switch (type) {
    case CFG_U32:
    case CFG_FIXED32:
        memcpy(&u32, value, sizeof(u32));
        return u32;
    case CFG_I32:
    case CFG_ENUM:
        memcpy(&i32, value, sizeof(i32));
        return i32;
    default:
        memcpy(&i64, value, sizeof(i64));
        return type == CFG_U64 && i64 < 0 ? INT64_MAX : i64;
    }
}

void cfg_check_value(struct cfg_loader *loader, const struct cfg_field *field,
                     const struct cfg_tree *node, const struct cfg_path *path, const void *value) {
    if (field->wrapped)
        value = (const char *)value + cfg_wrapped_offset(field->type);
    switch (field->type) {
    case CFG_STRING:
    case CFG_BYTES:
        check_text(loader, field, node, path, *(const struct span *)value);
        break;
    case CFG_DURATION:
        check_duration(loader, field, node, path, value);
        break;
    case CFG_BOOL:
        if ((field->rules & CFG_CONST_TRUE) && !*(const bool *)value)
            REPORT("may only be true: leave it out instead");
        if ((field->rules & CFG_ONLY_FALSE) && *(const bool *)value)
            cfg_report(loader, CFG_PROBLEM_UNSUPPORTED, node, path,
                       "true is not supported yet: only false, the default, is");
        break;
    case CFG_I32:
    case CFG_U32:
    case CFG_I64:
    case CFG_U64:
        if (field->rules & CFG_RANGE) {
            int64_t number = as_i64(field->type, value);
            bool was_decoded = number != 0 || node->kind == NODE_MAP || cfg_tree_is_zero(node);
            if (was_decoded && (number < field->min || number > field->max))
                REPORT("%" PRId64 " is not within %" PRId64 " to %" PRId64, number, field->min,
                       field->max);
        }
        break;
    default:
        break;
    }
}

void cfg_check_absent(struct cfg_loader *loader, const struct cfg_schema *schema,
                      const struct cfg_field *field, const struct cfg_tree *node,
                      const struct cfg_path *path) {
    if (field->rules & (CFG_REQUIRED | CFG_PRESENT)) {
        REPORT("%s is required%s", field->name,
               field->shape != CFG_SINGULAR ? ", with at least one item" : "");
        return;
    }
    bool counts = field->shape == CFG_SINGULAR && !field->wrapped && !field->has_at &&
                  (field->type == CFG_U32 || field->type == CFG_I32 || field->type == CFG_U64 ||
                   field->type == CFG_I64);
    if (counts && (field->rules & CFG_RANGE) && (field->min > 0 || field->max < 0))
        REPORT("%s is required, %" PRId64 " to %" PRId64, field->name, field->min, field->max);
}
