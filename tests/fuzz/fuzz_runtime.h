/* fuzz_runtime: inputs that want a coroutine. rt_run works once in a process, so all of them are run by one, on a thread of
 * its own, one after the other. */
#pragma once
#include <pthread.h>
#include <semaphore.h>

#include "../unit/rt/rt_story.h"
#include "base/log.h"
#include "base/stats.h"
#include "ext/go/go_lent.h"

static struct {
    sem_t asked, done;
    void (*init)(void);
    void (*run)(const uint8_t *data, size_t size);
    const uint8_t *data;
    size_t size;
} fuzz_runtime;

static void fuzz_wait_for(sem_t *what) {
    while (sem_wait(what) < 0) {
    }
}

static void fuzz_runs_all(void *arg) {
    fuzz_runtime.init();
    for (;;) {
        fuzz_wait_for(&fuzz_runtime.asked);
        fuzz_runtime.run(fuzz_runtime.data, fuzz_runtime.size);
        CHECK(sem_post(&fuzz_runtime.done) == 0);
    }
}

static void *fuzz_has_runtime(void *arg) {
    const struct rt_options options = {.p_count = 1, .io = RT_IO_EPOLL};
    CHECK(rt_run(&options, fuzz_runs_all, NULL) == 0);
    return NULL;
}

static void fuzz_start(void) {
    pthread_t thread;
    log_set_level(LOG_OFF); /* of what is refused, and of what a host says */
    CHECK(stats_init(4) == 0);
    CHECK(go_lent_init() == 0);
    CHECK(sem_init(&fuzz_runtime.asked, 0, 0) == 0 && sem_init(&fuzz_runtime.done, 0, 0) == 0);
    CHECK(pthread_create(&thread, NULL, fuzz_has_runtime, NULL) == 0);
    CHECK(pthread_detach(thread) == 0);
}

/* init: before the first input; both on the coroutine. */
static inline int fuzz_on_runtime(void (*init)(void), void (*run)(const uint8_t *data, size_t size),
                                  const uint8_t *data, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    fuzz_runtime.init = init;
    fuzz_runtime.run = run;
    CHECK(pthread_once(&once, fuzz_start) == 0);
    fuzz_runtime.data = data;
    fuzz_runtime.size = size;
    CHECK(sem_post(&fuzz_runtime.asked) == 0);
    fuzz_wait_for(&fuzz_runtime.done);
    return 0;
}
