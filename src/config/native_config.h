/* native_config: sluice.filters.http.native as users write it. Conventions: types.h. */
#pragma once
#include "config/golang_config.h"

struct cfg_buf;

enum cfg_native_on_fault { CFG_NATIVE_CLOSED = 0, CFG_NATIVE_BYPASS = 1 };

struct cfg_native {
    struct cfg_mark mark;
    struct span library_path;
    struct cfg_value *config;
    int on_fault; /* enum cfg_native_on_fault */
    struct cfg_u32 max_faults;
    struct cfg_u32 stack_bytes;
    struct cfg_go_probe probe;
    struct cfg_go_isolation isolation;
    int on_failure; /* CFG_ON_FAILURE_CLOSED ... */
};
extern const struct cfg_schema cfg_schema_native;

struct cfg_native_per_route {
    struct cfg_mark mark;
    struct cfg_value *config;
};
extern const struct cfg_schema cfg_schema_native_per_route;

/* As JSON; value NULL: an empty object. */
void cfg_native_json(struct cfg_buf *buf, const struct cfg_value *value);
