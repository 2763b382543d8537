/* rollout_view: a rollout as JSON, as pages have it that show what is rolled out. */
#pragma once
#include "admin/json.h"

struct rollout;
/* Fields of the object that is open: state, version, step, steps, share_percent, why, old, new. */
void rollout_put_fields(struct json *json, struct rollout *rollout);
