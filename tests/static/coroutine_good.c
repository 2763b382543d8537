/* What a coroutine, a timer or a message may be given. */
#include <stdlib.h>

#include "base/span.h"
#include "rt/rt.h"
#include "rt/timer.h"

struct job {
    char text[16];
    struct rt_post post;
    struct timer timer;
};
void run(void *job);
void wait_for(struct job *job);
static struct job only;

int start(struct job *job) {
    timer_arm(&job->timer, 1);
    rt_post(0, &job->post);
    return go("job", run, job);
}

int start_new(void) {
    struct job *job = calloc(1, sizeof *job);
    return job ? go_here("job", run, job) : -1;
}

int start_static(void) {
    static struct job another;
    int err = go("job", run, &only);
    return err ? err : go("job", run, &another);
}

int start_value(unsigned number) {
    return go("job", run, (void *)(uintptr_t)number);
}

/* The options are read during the call. */
int start_with(struct job *job) {
    struct go_options options = {.name = "job", .place = RT_HERE};
    return go_with(&options, run, job);
}

int start_and_wait(void) {
    struct job job = {.text = "x"};
    /* borrow-ok: this frame
     * waits for it. */
    int err = go("job", run, &job);
    if (err == 0)
        wait_for(&job);
    return err;
}

int forwards(void *job BORROWED_BY(coroutine)) {
    return go("job", run, job);
}
