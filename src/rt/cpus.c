/* cpus: how many cores this process may really use.
 *
 * The affinity mask says which cores, the cgroup's cpu.max how much time on them; a container
 * limited to 1.5 cores of 64 would otherwise start 64 Ps that the kernel stops for most of each
 * period. Rounded up: one P too many is throttled a little, one too few wastes what was paid for. */
#include "rt/cpus.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static bool read_line(char *line, size_t size, const char *format, const char *a, const char *b,
                      const char *c) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s%s%s", a, b, c, format);
    if (n < 0 || (size_t)n >= sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool ok = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return ok;
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

static unsigned v2_limit(const char *root, const char *path) {
    char line[128];
    long long quota, period;
    if (!read_line(line, sizeof line, "/cpu.max", root, path, "") ||
        sscanf(line, "%lld %lld", &quota, &period) != 2) /* "max 100000": no limit */
        return UINT_MAX;
    return cores_of(quota, period);
}

static unsigned v1_limit(const char *root, const char *controller, const char *path) {
    char quota[64], period[64], mount[64];
    snprintf(mount, sizeof mount, "/%.60s", controller);
    if (!read_line(quota, sizeof quota, "/cpu.cfs_quota_us", root, mount, path) ||
        !read_line(period, sizeof period, "/cpu.cfs_period_us", root, mount, path))
        return UINT_MAX;
    return cores_of(atoll(quota), atoll(period));
}

static bool lists_cpu(const char *controllers) {
    size_t len = strlen("cpu");
    for (const char *at = controllers; at && *at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (strncmp(at, "cpu", len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

/* A limit may be set on any ancestor. In a container the path may name a group that is not visible
 * from inside; the root of the mount then is our own group. */
static unsigned limit_upwards(const char *root, const char *controllers, char *path) {
    unsigned limit = UINT_MAX;
    for (;;) {
        limit =
            lesser(limit, *controllers ? v1_limit(root, controllers, path) : v2_limit(root, path));
        char *slash = strrchr(path, '/');
        if (!slash)
            return limit;
        *slash = '\0';
    }
}

unsigned cpus_cgroup_limit(const char *proc_cgroup, const char *root) {
    FILE *file = fopen(proc_cgroup, "re");
    if (!file)
        return UINT_MAX;
    unsigned limit = UINT_MAX;
    char line[PATH_MAX + 64];
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(++controllers, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        if (*controllers == '\0' || lists_cpu(controllers))
            limit = lesser(limit, limit_upwards(root, controllers, path));
    }
    fclose(file);
    return limit;
}

unsigned rt_default_p_count(void) {
    unsigned count =
        lesser(affinity_count(), cpus_cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup"));
    return count < 1 ? 1 : count > RT_P_MAX ? RT_P_MAX : count;
}
