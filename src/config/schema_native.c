/* schema_native: filters in C that are loaded at run time. The messages are ours: Envoy has none like them. */
#include "config/native_config.h"
#include "config/schema_tables.h"

#include "config/load.h"

static const struct cfg_enum_value on_fault_values[] = {
    {CFG_NATIVE_CLOSED, "CLOSED", CFG_SUPPORTED},
    {CFG_NATIVE_BYPASS, "BYPASS", CFG_SUPPORTED},
};
static const struct cfg_enum on_fault_enum =
    ENUM_TABLE("sluice.filters.http.native.v3.Native.OnFault", on_fault_values);

static const struct cfg_field fields[] = {
    FIELD(struct cfg_native, 1, library_path, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "The shared object. A file that was replaced is loaded anew with the next "
                 "configuration; what was loaded stays loaded."),
    FIELD(struct cfg_native, 2, config, CFG_STRUCT, .doc = "The plug-in's own configuration."),
    ENUM(struct cfg_native, 3, on_fault, on_fault_enum, .default_text = "CLOSED",
         .doc = "What happens to requests after max_faults: CLOSED answers them with 500, BYPASS "
                "leaves the filter out. A request in which the plug-in faults gets 500 in any "
                "case."),
    WRAPPER(struct cfg_native, 4, max_faults, CFG_U32, .default_text = "5",
            .doc = "So many faults of a library, and it is not called any more until another file "
                   "is loaded or the proxy started again. 0: it goes on for ever."),
    WRAPPER(struct cfg_native, 5, stack_bytes, CFG_U32, .rules = CFG_RANGE, .min = 1,
            .max = 64 << 20, .default_text = "what the plug-in asks for",
            .doc = "Stack of its calls."),
    INLINE(struct cfg_native, 6, probe, struct cfg_go_probe, cfg_schema_go_probe,
           .doc = "How the library is tried before it is loaded."),
    ENUM_AS(struct cfg_native, 7, "isolation", isolation.where, cfg_enum_isolation,
            .default_text = "IN_PROCESS",
            .doc =
                "Where the library runs. PROCESS: in a host process of its own, which may crash, "
                "hang or be killed: then it is started again, and the requests that it held are "
                "dealt with by on_failure. A file that was replaced is loaded into another "
                "process as soon as it is there: [isolation.md](isolation.md)."),
    ENUM(struct cfg_native, 8, on_failure, cfg_enum_on_failure, .default_text = "CLOSED",
         .doc = "With isolation: PROCESS, what becomes of a request whose host process is lost, or "
                "that finds none. CLOSED: it is answered with 503. OPEN: it goes on without the "
                "filter."),
    FIELD_AS(struct cfg_native, 9, "callback_timeout", isolation.callback_timeout, CFG_DURATION,
             WITHIN(1000000, INT64_MAX), .default_text = "10s",
             .doc = "With isolation: PROCESS, how long a function may keep its thread. One that "
                    "takes longer is stuck: the process is ended and started again. One that waits "
                    "in a function of Sluice may take as long as it likes. The first configuration "
                    "of a library counts."),
    INLINE_AS(struct cfg_native, 10, "restarts", isolation.restarts, struct cfg_go_restarts,
              cfg_schema_go_restarts,
              .doc = "With isolation: PROCESS, when the process is started again that was lost. "
                     "The first configuration of a library counts."),
    INLINE_AS(struct cfg_native, 11, "sandbox", isolation.sandbox, struct cfg_sandbox,
              cfg_schema_sandbox, .has_at = CFG_AT(struct cfg_native, isolation.has_sandbox),
              .doc = "With isolation: PROCESS, what the process may do. The first configuration of "
                     "a library counts."),
};
const struct cfg_schema cfg_schema_native = {
    .name = "sluice.filters.http.native.v3.Native",
    .doc = "A filter in C that is loaded from a shared object: "
           "[write-a-filter.md](write-a-filter.md).",
    .size = sizeof(struct cfg_native),
    MARK(struct cfg_native),
    FIELDS(fields),
};

static const struct cfg_field per_route_fields[] = {
    FIELD(struct cfg_native_per_route, 1, config, CFG_STRUCT,
          .doc = "The plug-in's own configuration of this place."),
};
const struct cfg_schema cfg_schema_native_per_route = {
    .name = "sluice.filters.http.native.v3.NativePerRoute",
    .doc = "What a filter in C does differently on a route.",
    .size = sizeof(struct cfg_native_per_route),
    MARK(struct cfg_native_per_route),
    FIELDS(per_route_fields),
};

void cfg_native_json(struct cfg_buf *buf, const struct cfg_value *value) {
    if (value)
        cfg_json_tree(buf, value);
    else
        cfg_buf_text(buf, "{}");
}
