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

/* Processor time so far, in ticks. runs: whether it has, or waits for, a processor now. */
static uint64_t processor_time(pid_t pid, int tid, bool *runs) {
    char text[1024];
    char state = '\0';
    unsigned long long user = 0, system = 0;
    *runs = false;
    read_file(pid, tid, "stat", text, sizeof(text));
    const char *name_end = strrchr(text, ')'); /* "17 (name) S ..." */
    if (!name_end || sscanf(name_end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                            &state, &user, &system) != 3)
        return 0;
    *runs = state == 'R';
    return user + system;
}

/* The one that computes. Go takes the processor away from it now and then, so if none computes this moment it is the one
 * that has most: one that Go has not seen yet would end the process and tell nothing. Of a proxy it is the
 * newest then, as the first may be no one's of Go. */
static uint64_t rank(pid_t pid, int tid, bool is_proxy) {
    static const uint64_t it_runs = 1ull << 63; /* more than there are ticks, or threads */
    bool runs;
    uint64_t time = processor_time(pid, tid, &runs);
    return runs && time ? it_runs + time : is_proxy ? (uint64_t)tid : time;
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
        uint64_t its = rank(pid, tid, is_proxy);
        if (!chosen || its > most) {
            chosen = tid;
            most = its;
        }
    }
    if (tasks)
        (void)closedir(tasks); /* it was only read */
    return chosen && syscall(SYS_tgkill, pid, chosen, SIGSEGV) == 0;
}
