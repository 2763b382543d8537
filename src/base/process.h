/* process: what the system knows of a process. Threads: any. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

/* Is a debugger attached to it? Then time stands still there. */
bool process_is_traced(pid_t pid);
