/* utf8: what is well-formed UTF-8 (RFC 3629). Pure functions. */
#pragma once
#include "base/span.h"

/* Length of the well-formed UTF-8 sequence that s starts with; 0 when it starts with none. */
size_t utf8_sequence(struct span s);
bool utf8_is_valid(struct span text);
