/* process: what the system knows of a process, and allows it. Threads: any. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

/* Is a debugger attached to it? Then time stands still there. */
bool process_is_traced(pid_t pid);

/* As many descriptors as it may have. Where that cannot be, it is as before. */
void process_raise_file_limit(void);
