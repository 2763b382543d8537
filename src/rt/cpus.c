/* cpus: how many cores this process may really use.
 *
 * The affinity mask says which cores, the cgroup's cpu.max how much time on them; a container
 * limited to 1.5 cores of 64 would otherwise start 64 Ps that the kernel stops for most of each
 * period. Rounded up: one P too many is throttled a little, one too few wastes what was paid for. */
#include "rt/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "rt/cgroup.h"
#include "rt/rt.h"

static unsigned affinity_count(void) {
    /* The kernel refuses a mask smaller than its own: 1,024 CPUs fit the first try nearly always. */
    for (int cpus = 1024; cpus <= 1 << 18; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set)
            break;
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0)
            return (unsigned)count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

static unsigned lesser(unsigned a, unsigned b) {
    return a < b ? a : b;
}

static unsigned cores_of(long long quota_us, long long period_us) {
    if (quota_us <= 0 || period_us <= 0)
        return UINT_MAX;
    long long cores = (quota_us + period_us - 1) / period_us;
    return cores > UINT_MAX ? UINT_MAX : (unsigned)cores;
}

static unsigned limit_of(const struct cgroup *group) {
    char line[128], period_line[64];
    long long quota, period;
    if (group->is_v2)
        return cgroup_read(group, "cpu.max", line, sizeof line) &&
                       sscanf(line, "%lld %lld", &quota, &period) == 2 /* "max 100000": no limit */
                   ? cores_of(quota, period)
                   : UINT_MAX;
    if (!cgroup_read(group, "cpu.cfs_quota_us", line, sizeof line) ||
        !cgroup_read(group, "cpu.cfs_period_us", period_line, sizeof period_line))
        return UINT_MAX;
    return cores_of(atoll(line), atoll(period_line));
}

static void take_limit(const struct cgroup *group, void *arg) {
    unsigned *limit = arg;
    *limit = lesser(*limit, limit_of(group));
}

unsigned cpus_cgroup_limit(const char *proc_cgroup, const char *root) {
    unsigned limit = UINT_MAX;
    cgroup_each(proc_cgroup, root, "cpu", take_limit, &limit);
    return limit;
}

unsigned rt_default_p_count(void) {
    unsigned count =
        lesser(affinity_count(), cpus_cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup"));
    return count < 1 ? 1 : count > RT_P_MAX ? RT_P_MAX : count;
}
