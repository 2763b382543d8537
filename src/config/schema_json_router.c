/* schema_json_router: the filter that routes by what a body says. The message is ours: Envoy has none like it. */
#include "config/json_router_config.h"
#include "config/schema_tables.h"

static const struct cfg_field rule_fields[] = {
    FIELD(struct cfg_json_rule, 1, path, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Where the value stands: `model`, `messages[0].role`, `tools[*].function.name` "
                 "(the first "
                 "that there is), `labels[\"a.b\"]`."),
    FIELD(struct cfg_json_rule, 2, header, CFG_STRING, .rules = CFG_HEADER_NAME | CFG_MODIFIABLE,
          .doc =
              "Header of the request that gets the value. What the client sent under that name is "
              "removed, "
              "value or not. Of several rules for one header the first that has a value sets it."),
    FIELD(struct cfg_json_rule, 3, on_missing, CFG_STRING, .rules = CFG_HEADER_VALUE,
          .doc = "Value of the header if none was found that a header can hold. Default: it is not "
                 "set."),
    FIELD(struct cfg_json_rule, 4, metadata_namespace, CFG_STRING,
          .default_text = "`sluice.filters.http.json_router`", .doc = "Of metadata_key."),
    FIELD(struct cfg_json_rule, 5, metadata_key, CFG_STRING,
          .doc = "Key of the dynamic metadata that gets the value, for "
                 "%DYNAMIC_METADATA(NAMESPACE:KEY)%. Text, numbers and booleans as such."),
};
static const struct cfg_schema rule_schema = {
    .name = "sluice.filters.http.json_router.v3.JsonRouter.Rule",
    .doc = "One value of the body, and where it goes: a header, metadata, or both.",
    .size = sizeof(struct cfg_json_rule),
    MARK(struct cfg_json_rule),
    FIELDS(rule_fields),
};

static const struct cfg_enum_value on_invalid_values[] = {
    {CFG_JSON_PASS, "PASS", CFG_SUPPORTED},
    {CFG_JSON_REJECT, "REJECT", CFG_SUPPORTED},
};
static const struct cfg_enum on_invalid_enum =
    ENUM_TABLE("sluice.filters.http.json_router.v3.JsonRouter.OnInvalid", on_invalid_values);

static const struct cfg_field fields[] = {
    LIST(struct cfg_json_router, 1, rules, struct cfg_json_rule, rule_schema,
         .rules = CFG_REQUIRED | CFG_MAX_ITEMS, .max = 32, .doc = "What is looked for."),
    FIELD(struct cfg_json_router, 2, clear_route_cache, CFG_BOOL,
          .doc = "Choose the route anew, so that it can depend on the headers set here."),
    WRAPPER(struct cfg_json_router, 3, max_body_bytes, CFG_U32, .rules = CFG_RANGE, .min = 1,
            .max = UINT32_MAX, .default_text = "per_connection_buffer_limit_bytes",
            .doc = "How much of a body is looked at, and so is held back at most; values behind it "
                   "are missing. No more "
                   "than per_connection_buffer_limit_bytes in any case."),
    ENUM(struct cfg_json_router, 4, on_invalid, on_invalid_enum, .default_text = "PASS",
         .doc = "A body that is no JSON: PASS takes all its values for missing, REJECT answers "
                "with 400."),
    FIELD(struct cfg_json_router, 5, read_whole_body, CFG_BOOL,
          .doc = "Read up to the body's end before the request goes on. By default it goes on as "
                 "soon as all values are "
                 "known. With it a body that is invalid anywhere counts as such, and so does one "
                 "that has one of the "
                 "paths twice; with REJECT one larger than max_body_bytes is answered with 413."),
    SCALARS(struct cfg_json_router, 6, allow_content_types, CFG_STRING,
            .default_text = "application/json, and those that end in +json",
            .doc = "Other bodies are not looked at. Without parameters, in any case."),
    FIELD(struct cfg_json_router, 7, allow_empty_content_type, CFG_BOOL,
          .doc = "Look at bodies without a content-type as well."),
    FIELD(struct cfg_json_router, 8, stat_prefix, CFG_STRING,
          .doc = "Statistics are json_router.PREFIX.*, without it json_router.*."),
};
const struct cfg_schema cfg_schema_json_router = {
    .name = "sluice.filters.http.json_router.v3.JsonRouter",
    .doc = "Puts values of a JSON request body into headers and metadata while it streams by, so "
           "that a route can "
           "depend on them; see [json-router.md](json-router.md).",
    .size = sizeof(struct cfg_json_router),
    MARK(struct cfg_json_router),
    FIELDS(fields),
};
