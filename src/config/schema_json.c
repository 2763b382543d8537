/* schema_json: the tables as JSON, for tests/schema-go, which compares them with the descriptors
 * that Envoy's API is generated from. */
#include "config/config.h"
#include "config/schema.h"

enum { SCHEMAS_MAX = 256 };

static const char *const status_names[] = {"supported", "inert", "unsupported"};

static void print_field(FILE *out, const struct cfg_field *field) {
    fprintf(out, "{\"number\": %u, \"name\": \"%s\", \"status\": \"%s\"", field->number,
            field->name, status_names[field->status]);
    if (field->shape == CFG_MAP) {
        fprintf(out, ", \"shape\": \"map\", \"key\": \"%s\", \"type\": \"%s\"",
                cfg_type_name(&field->schema->fields[0]), cfg_type_name(&field->schema->fields[1]));
    } else {
        fprintf(out, ", \"shape\": \"%s\", \"type\": \"%s\"",
                field->shape == CFG_REPEATED ? "repeated" : "singular", cfg_type_name(field));
    }
    if (field->oneof)
        fprintf(out, ", \"oneof\": \"%s\"", field->oneof);
    fputc('}', out);
}

static void print_enum(FILE *out, const struct cfg_enum *e) {
    fprintf(out, "    {\"name\": \"%s\", \"values\": [", e->name);
    for (size_t i = 0; i < e->count; i++)
        fprintf(out, "%s{\"number\": %d, \"name\": \"%s\", \"status\": \"%s\"}", i ? ", " : "",
                e->values[i].number, e->values[i].name, status_names[e->values[i].status]);
    fputs("]}", out);
}

/* Entries of maps are no messages of their own to anybody but the walkers. */
static bool is_entry(const struct cfg_schema *schema) {
    return strncmp(schema->name, "map<", 4) == 0;
}

void cfg_print_schema_json(FILE *out) {
    static const struct cfg_schema *all[SCHEMAS_MAX];
    size_t count = cfg_schema_all(all, SCHEMAS_MAX);
    ASSERT(count <= SCHEMAS_MAX);
    fputs("{\n  \"messages\": [\n", out);
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        const struct cfg_schema *schema = all[i];
        if (is_entry(schema))
            continue;
        fprintf(out, "%s    {\"name\": \"%s\", \"fields\": [", first ? "" : ",\n", schema->name);
        first = false;
        for (size_t k = 0; k < schema->fields_count; k++) {
            fputs(k ? ",\n      " : "\n      ", out);
            print_field(out, &schema->fields[k]);
        }
        fputs("],\n      \"missing\": [", out);
        for (size_t k = 0; k < schema->missing_count; k++)
            fprintf(out, "%s{\"number\": %u, \"name\": \"%s\"}", k ? ", " : "",
                    schema->missing[k].number, schema->missing[k].name);
        fputs("]}", out);
    }
    fputs("\n  ],\n  \"enums\": [\n", out);
    first = true;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < all[i]->fields_count; k++) {
            if (!all[i]->fields[k].enumeration)
                continue;
            fputs(first ? "" : ",\n", out);
            first = false;
            print_enum(out, all[i]->fields[k].enumeration);
        }
    }
    fputs("\n  ]\n}\n", out);
}
