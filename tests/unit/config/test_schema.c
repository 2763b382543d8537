/* What the tables promise to the code that walks them (schema.h). */
#include "config_test.h"

#include "config/schema.h"

enum { SCHEMAS_MAX = 256 };
static const struct cfg_schema *all[SCHEMAS_MAX];
static size_t all_count;

static int find_all(void **state) {
    all_count = cfg_schema_all(all, SCHEMAS_MAX);
    return all_count > 40 && all_count <= SCHEMAS_MAX ? 0 : -1;
}

static void fields_ascend_and_are_documented(void **state) {
    for (size_t i = 0; i < all_count; i++) {
        for (size_t k = 0; k < all[i]->fields_count; k++) {
            const struct cfg_field *field = &all[i]->fields[k];
            if (k > 0 && field->number <= field[-1].number)
                fail_msg("%s.%s is out of order", all[i]->name, field->name);
            if (!field->doc || !*field->doc)
                fail_msg("%s.%s has no documentation", all[i]->name, field->name);
        }
        for (size_t k = 1; k < all[i]->missing_count; k++) {
            if (all[i]->missing[k].number <= all[i]->missing[k - 1].number)
                fail_msg("%s.%s is out of order", all[i]->name, all[i]->missing[k].name);
        }
    }
}

static void a_field_is_listed_once(void **state) {
    for (size_t i = 0; i < all_count; i++) {
        for (size_t k = 0; k < all[i]->missing_count; k++) {
            const struct cfg_missing *missing = &all[i]->missing[k];
            for (size_t n = 0; n < all[i]->fields_count; n++) {
                if (all[i]->fields[n].number == missing->number ||
                    strcmp(all[i]->fields[n].name, missing->name) == 0)
                    fail_msg("%s.%s is both there and missing", all[i]->name, missing->name);
            }
        }
    }
}

static void everything_lies_within_its_struct(void **state) {
    for (size_t i = 0; i < all_count; i++) {
        const struct cfg_schema *schema = all[i];
        for (size_t k = 0; k < schema->fields_count; k++) {
            const struct cfg_field *field = &schema->fields[k];
            bool is_pointer =
                field->shape != CFG_SINGULAR || (field->type == CFG_MESSAGE && !field->is_inline);
            size_t size = is_pointer ? sizeof(void *) : cfg_value_size(field);
            bool fits = field->offset + size <= schema->size && field->count_at <= schema->size &&
                        field->case_at <= schema->size && field->has_at <= schema->size;
            if (!fits)
                fail_msg("%s.%s lies outside of its struct", schema->name, field->name);
            assert_int_equal(field->shape != CFG_SINGULAR, field->count_at != 0);
            assert_int_equal(field->type == CFG_ENUM, field->enumeration != NULL);
        }
        assert_true(schema->mark_at == 0 ||
                    schema->mark_at - 1 + sizeof(struct cfg_mark) <= schema->size);
    }
}

static void members_of_a_oneof_agree(void **state) {
    for (size_t i = 0; i < all_count; i++) {
        for (size_t k = 1; k < all[i]->fields_count; k++) {
            const struct cfg_field *a = &all[i]->fields[k];
            for (size_t n = 0; n < k; n++) {
                const struct cfg_field *b = &all[i]->fields[n];
                if (!a->oneof || !b->oneof || strcmp(a->oneof, b->oneof) != 0)
                    continue;
                if (a->case_at != b->case_at ||
                    (a->rules & CFG_ONEOF_REQUIRED) != (b->rules & CFG_ONEOF_REQUIRED))
                    fail_msg("%s: %s and %s differ", all[i]->name, a->name, b->name);
            }
        }
    }
}

static void maps_have_key_and_value(void **state) {
    for (size_t i = 0; i < all_count; i++) {
        for (size_t k = 0; k < all[i]->fields_count; k++) {
            const struct cfg_field *field = &all[i]->fields[k];
            if (field->shape != CFG_MAP)
                continue;
            assert_int_equal(field->schema->fields_count, 2);
            assert_int_equal(field->schema->fields[0].number, 1);
            assert_int_equal(field->schema->fields[0].offset, 0);
            assert_int_equal(field->schema->fields[1].number, 2);
        }
    }
}

/* The sizes that schema.c derives are those of the structs in types.h. */
static void value_sizes_are_those_of_the_structs(void **state) {
    static const struct {
        struct cfg_field field;
        size_t size;
    } cases[] = {
        {{.type = CFG_BOOL, .wrapped = true}, sizeof(struct cfg_bool)},
        {{.type = CFG_U32, .wrapped = true}, sizeof(struct cfg_u32)},
        {{.type = CFG_U64, .wrapped = true}, sizeof(struct cfg_u64)},
        {{.type = CFG_DOUBLE, .wrapped = true}, sizeof(struct cfg_double)},
        {{.type = CFG_STRING, .wrapped = true}, sizeof(struct {
             bool set;
             struct span value;
         })},
        {{.type = CFG_STRING}, sizeof(struct span)},
        {{.type = CFG_DURATION}, sizeof(struct cfg_duration)},
        {{.type = CFG_ANY}, sizeof(struct cfg_any)},
        {{.type = CFG_ENUM}, sizeof(int)},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(cfg_value_size(&cases[i].field), cases[i].size);
}

static void camel_case_is_protocs(void **state) {
    static const char *const names[][2] = {{"stat_prefix", "statPrefix"},
                                           {"accept_http_10", "acceptHttp10"},
                                           {"name", "name"},
                                           {"google_re2", "googleRe2"}};
    char buffer[64];
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(cfg_camel_name(names[i][0], buffer, sizeof(buffer)).ptr, names[i][1]);
}

static void the_tables_print_as_json(void **state) {
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    cfg_print_schema_json(out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "{\"number\": 2, \"name\": \"stat_prefix\", \"status\": "
                                 "\"supported\", \"shape\": \"singular\", \"type\": \"string\"}"));
    assert_non_null(strstr(text, "\"shape\": \"map\", \"key\": \"string\", \"type\": "
                                 "\"google.protobuf.Any\"}"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_ascend_and_are_documented),
        cmocka_unit_test(a_field_is_listed_once),
        cmocka_unit_test(everything_lies_within_its_struct),
        cmocka_unit_test(members_of_a_oneof_agree),
        cmocka_unit_test(maps_have_key_and_value),
        cmocka_unit_test(value_sizes_are_those_of_the_structs),
        cmocka_unit_test(camel_case_is_protocs),
        cmocka_unit_test(the_tables_print_as_json),
    };
    return cmocka_run_group_tests(tests, find_all, NULL);
}
