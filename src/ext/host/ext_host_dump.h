/* ext_host_dump: makes a process that is stuck say where.
 *
 * A Go runtime takes a SIGSEGV that a user sent as a reason to list all goroutines and end. Of a goroutine that computes
 * on another thread than the one the signal came upon it says only that: so the signal goes to the thread that computes. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

/* pid: a child that is not reaped yet. is_proxy: of a whole proxy; else a host process. Whether it was told to. */
bool ext_host_dump_go(pid_t pid, bool is_proxy);
