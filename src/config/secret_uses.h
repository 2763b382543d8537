/* secret_uses: which of static_resources.secrets a message names, in whatever is in it. Threads: any. */
#pragma once
#include "config/schema.h"

/* Whether it names one of these. */
bool cfg_names_secret(const struct cfg_schema *schema, const void *message,
                      const struct span *names, size_t count);
