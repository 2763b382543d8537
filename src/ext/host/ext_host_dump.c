/* ext_host_dump: the signal must come upon one of Go's threads. A host has one of its own, the first. A proxy has several,
 * which would tell of a crash themselves; there it is one of those that Go may have started: libraries are loaded on a
 * thread that makes blocking calls, and the threads of a Go runtime have the name of who started it. */
#include "ext/host/ext_host_dump.h"

#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A file of /proc/PID/task/TID; empty: the thread is gone. */
static void read_file(pid_t pid, int tid, const char *name, char *out, size_t size) {
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, tid, name);
    FILE *file = fopen(path, "re");
    size_t len = file ? fread(out, 1, size - 1, file) : 0;
    out[len] = '\0';
    if (file)
        (void)fclose(file); /* it was only read */
}

static bool is_gos(pid_t pid, int tid, bool is_proxy) {
    char name[32];
    if (!is_proxy)
        return tid != pid;
    read_file(pid, tid, "comm", name, sizeof(name));
    return strstr(name, ":block") != NULL;
}

/* Processor time so far, if it runs now; 0: it waits. */
static uint64_t computes(pid_t pid, int tid) {
    char text[1024];
    char state = '\0';
    unsigned long long user = 0, system = 0;
    read_file(pid, tid, "stat", text, sizeof(text));
    const char *name_end = strrchr(text, ')'); /* "17 (name) S ..." */
    if (!name_end || sscanf(name_end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                            &state, &user, &system) != 3)
        return 0;
    return state == 'R' ? 1 + user + system : 0;
}

bool ext_host_dump_go(pid_t pid, bool is_proxy) {
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    int chosen = 0;
    uint64_t most = 0;
    for (const struct dirent *task; tasks && (task = readdir(tasks));) {
        int tid = atoi(task->d_name); /* 0 for . and .. */
        if (tid <= 0 || !is_gos(pid, tid, is_proxy))
            continue;
        uint64_t time = computes(pid, tid);
        /* If none computes any will do, but of a proxy the newest: the first may be no one's of Go. */
        bool is_better = time > most || (most == 0 && (!chosen || (is_proxy && tid > chosen)));
        if (is_better) {
            chosen = tid;
            most = time;
        }
    }
    if (tasks)
        (void)closedir(tasks); /* it was only read */
    return chosen && syscall(SYS_tgkill, pid, chosen, SIGSEGV) == 0;
}
