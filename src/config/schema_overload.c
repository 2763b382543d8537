/* schema_overload: envoy.config.overload.v3 and the resource monitors. Names of actions and of monitors
 * are checked by proxy/overload.c, which knows what it can do. */
#include "config/schema_tables.h"

/* ---- resource monitors ---- */

static const struct cfg_field fixed_heap_fields[] = {
    FIELD(struct cfg_fixed_heap, 1, max_heap_size_bytes, CFG_U64, .rules = CFG_RANGE, .min = 1,
          .max = INT64_MAX, .doc = "What counts as a pressure of 100 %."),
};
const struct cfg_schema cfg_schema_fixed_heap = {
    .name = "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
    .doc = "Pressure is what is allocated, with malloc and as blocks, in parts of a maximum.",
    .size = sizeof(struct cfg_fixed_heap),
    FIELDS(fixed_heap_fields),
};

static const struct cfg_field injected_resource_fields[] = {
    FIELD(struct cfg_injected_resource, 1, filename, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "File that holds a number from 0 to 1; read at each refresh."),
};
const struct cfg_schema cfg_schema_injected_resource = {
    .name = "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
    .doc = "Pressure is what a file says: for tests, and for monitors outside the process.",
    .size = sizeof(struct cfg_injected_resource),
    FIELDS(injected_resource_fields),
};

static const struct cfg_field downstream_connections_fields[] = {
    FIELD(struct cfg_downstream_connections, 1, max_active_downstream_connections, CFG_I64,
          .rules = CFG_RANGE, .min = 1, .max = INT64_MAX,
          .doc =
              "More client connections are closed as soon as they are accepted, but for those of "
              "listeners with ignore_global_conn_limit and of the admin."),
};
const struct cfg_schema cfg_schema_downstream_connections = {
    .name = "envoy.extensions.resource_monitors.downstream_connections.v3."
            "DownstreamConnectionsConfig",
    .doc = "A limit of client connections of the whole process, which needs neither trigger nor "
           "action. The monitor's name must be "
           "`envoy.resource_monitors.global_downstream_max_connections`. Pressure is how many are "
           "open, in parts of the maximum.",
    .size = sizeof(struct cfg_downstream_connections),
    FIELDS(downstream_connections_fields),
};

static const struct cfg_field resource_monitor_fields[] = {
    FIELD(struct cfg_resource_monitor, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "What triggers call it, and statistics; unique."),
    FIELD(struct cfg_resource_monitor, 3, typed_config, CFG_ANY, .oneof = "config_type",
          .has_at = CFG_AT(struct cfg_resource_monitor, has_typed_config),
          .slot = CFG_SLOT_RESOURCE_MONITOR, .doc = "Which monitor it is."),
};
static const struct cfg_schema resource_monitor_schema = {
    .name = "envoy.config.overload.v3.ResourceMonitor",
    .doc = "Something whose pressure is watched.",
    .size = sizeof(struct cfg_resource_monitor),
    MARK(struct cfg_resource_monitor),
    FIELDS(resource_monitor_fields),
};

/* ---- triggers ---- */

static const struct cfg_field threshold_fields[] = {
    FIELD_AS(struct cfg_trigger, 1, "value", threshold, CFG_DOUBLE,
             .doc = "From this pressure on, 0 to 1, the action is in full effect."),
};
static const struct cfg_schema threshold_schema = {
    .name = "envoy.config.overload.v3.ThresholdTrigger",
    .doc = "All or nothing.",
    .size = sizeof(struct cfg_trigger),
    FIELDS(threshold_fields),
};

static const struct cfg_field scaled_fields[] = {
    FIELD(struct cfg_trigger, 1, scaling_threshold, CFG_DOUBLE,
          .doc = "Above this pressure, 0 to 1, the action begins to take effect ..."),
    FIELD(struct cfg_trigger, 2, saturation_threshold, CFG_DOUBLE,
          .doc = "... and from this one on, which must be more, it is in full effect."),
};
static const struct cfg_schema scaled_schema = {
    .name = "envoy.config.overload.v3.ScaledTrigger",
    .doc = "In proportion: halfway between the two every second request is struck.",
    .size = sizeof(struct cfg_trigger),
    FIELDS(scaled_fields),
};

#define TRIGGER ONEOF(struct cfg_trigger, trigger_oneof), .rules = CFG_ONEOF_REQUIRED
static const struct cfg_field trigger_fields[] = {
    FIELD(struct cfg_trigger, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Name of the resource monitor."),
    FLAT(struct cfg_trigger, 2, "threshold", threshold_schema, TRIGGER,
         .doc = "In full effect from a pressure on."),
    FLAT(struct cfg_trigger, 3, "scaled", scaled_schema, TRIGGER,
         .doc = "In proportion to the pressure."),
};
static const struct cfg_schema trigger_schema = {
    .name = "envoy.config.overload.v3.Trigger",
    .doc = "What sets an action off.",
    .size = sizeof(struct cfg_trigger),
    MARK(struct cfg_trigger),
    FIELDS(trigger_fields),
};

/* ---- the manager ---- */

static const struct cfg_field action_fields[] = {
    FIELD(struct cfg_overload_action, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "envoy.overload_actions.shrink_heap, .stop_accepting_requests, "
                 ".disable_http_keepalive, .stop_accepting_connections or "
                 ".reject_incoming_connections."),
    LIST(struct cfg_overload_action, 2, triggers, struct cfg_trigger, trigger_schema,
         .rules = CFG_REQUIRED, .doc = "The strongest of them counts."),
};
static const struct cfg_missing action_missing[] = {{3, "typed_config"}};
static const struct cfg_schema action_schema = {
    .name = "envoy.config.overload.v3.OverloadAction",
    .doc = "What is done under pressure.",
    .size = sizeof(struct cfg_overload_action),
    MARK(struct cfg_overload_action),
    FIELDS(action_fields),
    MISSING(action_missing),
};

static const struct cfg_field manager_fields[] = {
    FIELD(struct cfg_overload_manager, 1, refresh_interval, CFG_DURATION, .default_text = "1s",
          WITHIN(1000000, 86400000000000), .doc = "How often pressures are looked at."),
    LIST(struct cfg_overload_manager, 2, resource_monitors, struct cfg_resource_monitor,
         resource_monitor_schema, .rules = CFG_REQUIRED, .doc = "What is watched."),
    LIST(struct cfg_overload_manager, 3, actions, struct cfg_overload_action, action_schema,
         .doc = "What is done about it."),
};
static const struct cfg_missing manager_missing[] = {
    {4, "buffer_factory_config"},
    {5, "loadshed_points"},
};
const struct cfg_schema cfg_schema_overload_manager = {
    .name = "envoy.config.overload.v3.OverloadManager",
    .doc = "What the proxy does when memory is short: see [memory.md](memory.md).",
    .size = sizeof(struct cfg_overload_manager),
    FIELDS(manager_fields),
    MISSING(manager_missing),
};
