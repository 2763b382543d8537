/* cgroup: the control groups that this process is in, versions 1 and 2.
 *
 * A limit may be set on any ancestor. In a container the path in /proc/self/cgroup may name a group that
 * is not visible from inside; the root of the mount then is our own group.
 *
 * Threads  Any; reads files. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct cgroup { /* borrowed for the call */
    bool is_v2;
    const char *directory; /* where its files are */
};
typedef void (*cgroup_fn)(const struct cgroup *group, void *arg);

/* Calls fn for the process's group and each ancestor, of version 2 and of version 1's controller. The files are
 * /proc/self/cgroup and /sys/fs/cgroup, but for tests. */
void cgroup_each(const char *proc_cgroup, const char *root, const char *controller, cgroup_fn fn,
                 void *arg);
/* The first line of a group's file. */
bool cgroup_read(const struct cgroup *group, const char *file, char *line, size_t size);
