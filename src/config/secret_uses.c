#include "config/secret_uses.h"

#include "config/load.h"
#include "config/tls_config.h"

struct wanted {
    const struct span *names;
    size_t count;
};

static bool names_one(const struct cfg_schema *schema, const void *message,
                      const struct wanted *wanted);

static bool is_wanted(const struct cfg_secret_reference *reference, const struct wanted *wanted) {
    for (size_t i = 0; i < wanted->count; i++)
        if (span_eq(reference->name, wanted->names[i]))
            return true;
    return false;
}

static bool value_names_one(const struct cfg_field *field, const void *value,
                            const struct wanted *wanted) {
    const struct cfg_any *any = value;
    if (field->type == CFG_MESSAGE)
        return names_one(field->schema, value, wanted);
    return field->type == CFG_ANY && any->message && names_one(any->schema, any->message, wanted);
}

static bool singular_names_one(const struct cfg_field *field, const void *message,
                               const struct wanted *wanted) {
    const void *value = cfg_singular(field, message);
    bool is_there =
        value && (!(field->has_at || field->case_at) || cfg_field_is_set(field, message));
    return is_there && value_names_one(field, value, wanted);
}

static bool items_name_one(const struct cfg_field *field, const void *message,
                           const struct wanted *wanted) {
    size_t count;
    const char *items = cfg_items(field, message, &count);
    for (size_t i = 0; i < count; i++)
        if (value_names_one(field, items + i * cfg_value_size(field), wanted))
            return true;
    return false;
}

static bool names_one(const struct cfg_schema *schema, const void *message,
                      const struct wanted *wanted) {
    if (schema == &cfg_schema_secret_reference)
        return is_wanted(message, wanted);
    for (size_t i = 0; i < schema->fields_count; i++) {
        const struct cfg_field *field = &schema->fields[i];
        if (field->type != CFG_MESSAGE && field->type != CFG_ANY)
            continue;
        if (field->shape == CFG_SINGULAR ? singular_names_one(field, message, wanted)
                                         : items_name_one(field, message, wanted))
            return true;
    }
    return false;
}

bool cfg_names_secret(const struct cfg_schema *schema, const void *message,
                      const struct span *names, size_t count) {
    return names_one(schema, message, &(struct wanted){names, count});
}
