/* schema_well_known: google.protobuf's types with a JSON form of their own, and TypedStruct. They
 * are what the payload of a Go plugin usually is. */
#include "config/schema_tables.h"

#define WELL_KNOWN(ident, full_name, C, kind, is_wrapped)                                          \
    static const struct cfg_field ident##_fields[] = {                                             \
        {.number = 1, .name = "value", .type = kind, .wrapped = is_wrapped, .rules = CFG_NUL_OK}}; \
    static const struct cfg_schema ident##_schema = {.name = "google.protobuf." full_name,         \
                                                     .size = sizeof(C),                            \
                                                     .is_well_known = true,                        \
                                                     FIELDS(ident##_fields)}

struct string_value {
    bool set;
    struct span value;
};

WELL_KNOWN(duration, "Duration", struct cfg_timestamp, CFG_WIDE_DURATION, false);
WELL_KNOWN(timestamp, "Timestamp", struct cfg_timestamp, CFG_TIMESTAMP, false);
WELL_KNOWN(field_mask, "FieldMask", struct cfg_field_mask, CFG_FIELD_MASK, false);
WELL_KNOWN(structure, "Struct", struct cfg_value *, CFG_STRUCT, false);
WELL_KNOWN(value, "Value", struct cfg_value *, CFG_VALUE, false);
WELL_KNOWN(list_value, "ListValue", struct cfg_value *, CFG_LIST_VALUE, false);
WELL_KNOWN(any, "Any", struct cfg_any, CFG_ANY, false);
WELL_KNOWN(bool_value, "BoolValue", struct cfg_bool, CFG_BOOL, true);
WELL_KNOWN(int32_value, "Int32Value", struct cfg_u32, CFG_I32, true);
WELL_KNOWN(uint32_value, "UInt32Value", struct cfg_u32, CFG_U32, true);
WELL_KNOWN(int64_value, "Int64Value", struct cfg_u64, CFG_I64, true);
WELL_KNOWN(uint64_value, "UInt64Value", struct cfg_u64, CFG_U64, true);
WELL_KNOWN(float_value, "FloatValue", struct cfg_u32, CFG_FLOAT, true);
WELL_KNOWN(double_value, "DoubleValue", struct cfg_double, CFG_DOUBLE, true);
WELL_KNOWN(string_value, "StringValue", struct string_value, CFG_STRING, true);
WELL_KNOWN(bytes_value, "BytesValue", struct string_value, CFG_BYTES, true);

static const struct cfg_schema empty_schema = {.name = "google.protobuf.Empty"};

struct typed_struct {
    struct span type_url;
    struct cfg_value *value;
};
static const struct cfg_field typed_struct_fields[] = {
    FIELD(struct typed_struct, 1, type_url, CFG_STRING, .doc = "What the value is meant as."),
    FIELD(struct typed_struct, 2, value, CFG_STRUCT, .doc = "Any JSON object."),
};
static const struct cfg_schema xds_typed_struct_schema = {
    .name = "xds.type.v3.TypedStruct",
    .size = sizeof(struct typed_struct),
    FIELDS(typed_struct_fields),
};
static const struct cfg_schema udpa_typed_struct_schema = {
    .name = "udpa.type.v1.TypedStruct",
    .size = sizeof(struct typed_struct),
    FIELDS(typed_struct_fields),
};

const struct cfg_schema *cfg_well_known_find(struct span full_name) {
    static const struct cfg_schema *const all[] = {
        &duration_schema,
        &timestamp_schema,
        &field_mask_schema,
        &structure_schema,
        &value_schema,
        &list_value_schema,
        &any_schema,
        &bool_value_schema,
        &int32_value_schema,
        &uint32_value_schema,
        &int64_value_schema,
        &uint64_value_schema,
        &float_value_schema,
        &double_value_schema,
        &string_value_schema,
        &bytes_value_schema,
        &empty_schema,
        &xds_typed_struct_schema,
        &udpa_typed_struct_schema,
    };
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (span_eq(full_name, span_of(all[i]->name)))
            return all[i];
    }
    return NULL;
}
