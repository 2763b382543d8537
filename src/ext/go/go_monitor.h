/* go_monitor: makes the monitor thread of a Go runtime wake up less often, and names a library's threads.
 *
 * Threads    All of the functions on the thread that loads the library, one load at a time. */
#pragma once

enum { GO_MONITOR_NAME_SIZE = 16 };

struct go_monitor {
    char loader[GO_MONITOR_NAME_SIZE];  /* what this thread is called else */
    char library[GO_MONITOR_NAME_SIZE]; /* the library's threads: "sluice:goN" */
};

/* Before dlopen, and right behind it. */
void go_monitor_begin(struct go_monitor *monitor);
void go_monitor_end(const struct go_monitor *monitor);
/* Once the runtime has started. The monitor's name is "sluice:goN:mon" soon after. Without /proc, or for what is
 * not Go, nothing happens. */
void go_monitor_slow(const struct go_monitor *monitor);
