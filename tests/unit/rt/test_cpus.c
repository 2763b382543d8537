/* cpus.c: limits of cgroups, from files that the test writes. */
#include <limits.h>
#include <string.h>

#include "rt/cpus.h"
#include "rt_story.h"
#include "../file_tree.h"

static unsigned limit(const char *proc_cgroup) {
    char path[512];
    write_file("/self", proc_cgroup);
    snprintf(path, sizeof path, "%s/self", root);
    return cpus_cgroup_limit(path, root);
}

static void without_a_file_there_is_no_limit(void **state) {
    assert_true(limit("0::/nowhere/at/all\n") == UINT_MAX);
    assert_true(cpus_cgroup_limit("/nonexistent", root) == UINT_MAX);
    assert_true(rt_default_p_count() >= 1);
}

static void a_limit_is_rounded_up_and_the_lowest_ancestor_counts(void **state) {
    write_file("/pod/cpu.max", "150000 100000\n");
    write_file("/pod/app/cpu.max", "max 100000\n");
    assert_int_equal(limit("0::/pod/app\n"), 2);
    write_file("/pod/app/cpu.max", "50000 100000\n");
    assert_int_equal(limit("0::/pod/app\n"), 1);
    write_file("/pod/app/cpu.max", "900000 100000\n");
    assert_int_equal(limit("0::/pod/app\n"), 2);
}

static void in_a_container_the_group_is_the_root(void **state) {
    write_file("/cpu.max", "300000 100000\n");
    assert_int_equal(limit("0::/\n"), 3);
    assert_int_equal(limit("0::/../../not/visible\n"), 3);
    write_file("/cpu.max", "max 100000\n");
}

static void version_1_is_understood(void **state) {
    write_file("/cpu,cpuacct/box/cpu.cfs_quota_us", "250000\n");
    write_file("/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
    assert_int_equal(limit("4:memory:/box\n3:cpu,cpuacct:/box\n"), 3);
    write_file("/cpu,cpuacct/box/cpu.cfs_quota_us", "-1\n");
    assert_true(limit("4:memory:/box\n3:cpu,cpuacct:/box\n2:cpuset:/box\n") == UINT_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_file_there_is_no_limit),
        cmocka_unit_test(a_limit_is_rounded_up_and_the_lowest_ancestor_counts),
        cmocka_unit_test(in_a_container_the_group_is_the_root),
        cmocka_unit_test(version_1_is_understood),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
