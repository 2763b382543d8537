/* redis_command: the names of Redis' commands, to tell its inline requests ("PING\r\n") from other lines of text. */
#pragma once
#include "base/span.h"

/* In any case. The commands of Redis 7.0, without those of modules. */
bool redis_is_command(struct span name);
