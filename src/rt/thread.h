/* thread: starts a thread of the runtime. Nobody joins it: it says by other means that it has ended. */
#pragma once
#include "base/check.h"

/* 0 or -errno, and then fn was not called. */
MUST_CHECK int thread_start(void *(*fn)(void *arg), void *arg);
