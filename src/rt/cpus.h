/* cpus: the part of rt_default_p_count that a test can feed. */
#pragma once

/* Cores that cpu.max (cgroup v2) or cpu.cfs_quota_us (v1) allows, rounded up, UINT_MAX without a
 * limit. proc_cgroup is /proc/self/cgroup, root the mount point /sys/fs/cgroup. */
unsigned cpus_cgroup_limit(const char *proc_cgroup, const char *root);
