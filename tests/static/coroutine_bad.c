/* Addresses of locals given to what runs after their frame may be gone. */
#include <stdlib.h>

#include "base/span.h"
#include "rt/rt.h"
#include "rt/signals.h"
#include "rt/timer.h"

struct job {
    struct span path;
    struct rt_post post;
    struct timer timer;
};
void run(void *job);

int start(struct span path) {
    struct job job = {.path = path};
    return go("job", run, &job); /* finding */
}

int start_here(void) {
    char text[16] = "value";
    return go_here("job", run, text); /* finding */
}

int start_by_pointer(bool first) {
    struct job jobs[2];
    struct job *chosen = first ? &jobs[0] : &jobs[1];
    return go_on(1, "job", run, chosen); /* finding */
}

int start_with(struct job copy) {
    struct go_options options = {.name = "job"};
    return go_with(&options, run, &copy); /* finding */
}

int start_with_literal(void) {
    return go("job", run, &(struct job){.path = SPAN_LIT("/")}); /* finding */
}

/* Nor the bytes that somebody lent for this call. */
int start_on_path(struct span path BORROWED_BY(coroutine));
int start_on_bytes(struct span path) {
    return start_on_path(span_from(path, 1)); /* finding */
}

int start_new_on_bytes(struct span path) {
    struct job *job = calloc(1, sizeof *job);
    job->path = path; /* finding: kept */
    return go("job", run, job);
}

int start_on_text(char *text) {
    return go_here("job", run, text); /* finding */
}

int start_named(unsigned number) {
    char name[8] = {(char)number};
    return go(name, run, NULL); /* finding: kept */
}

void post(void) {
    struct job job;
    rt_post(0, &job.post); /* finding */
}

void later(int64_t deadline_ns) {
    struct timer timer;
    timer_arm(&timer, deadline_ns); /* finding */
}

int on_signal(void) {
    struct job job;
    return signals_on(10, "job", run, &job); /* finding */
}

/* A static function hands on what it is given. */
static int start_any(void *job) {
    return go("job", run, job);
}
int start_one_more(void) {
    struct job job;
    return start_any(&job); /* finding */
}
