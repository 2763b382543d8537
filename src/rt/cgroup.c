#include "rt/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

bool cgroup_read(const struct cgroup *group, const char *name, char *line, size_t size) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", group->directory, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool ok = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return ok;
}

static bool lists(const char *controllers, const char *controller) {
    size_t len = strlen(controller);
    for (const char *at = controllers; at && *at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (strncmp(at, controller, len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

static void upwards(const char *root, const char *controller, char *path, cgroup_fn fn, void *arg) {
    for (;;) {
        char directory[PATH_MAX];
        int n = snprintf(directory, sizeof directory, "%s%s%s%s", root, *controller ? "/" : "",
                         controller, path);
        const struct cgroup group = {.is_v2 = *controller == '\0', .directory = directory};
        if (n > 0 && (size_t)n < sizeof directory)
            fn(&group, arg);
        char *slash = strrchr(path, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

void cgroup_each(const char *proc_cgroup, const char *root, const char *controller, cgroup_fn fn,
                 void *arg) {
    FILE *file = fopen(proc_cgroup, "re");
    if (!file)
        return;
    char line[PATH_MAX + 64];
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(++controllers, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        if (*controllers == '\0')
            upwards(root, "", path, fn, arg);
        else if (lists(controllers, controller))
            upwards(root, controllers, path, fn, arg);
    }
    fclose(file);
}
