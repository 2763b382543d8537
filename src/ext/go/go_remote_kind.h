/* go_remote_kind: what a host process is told of a Go library (remote_library.h). `arg` is its struct go_library. */
#pragma once
#include "ext/remote/remote_library.h"

extern const struct remote_library_kind go_remote_kind;
