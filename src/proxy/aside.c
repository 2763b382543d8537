/* aside: see the header. */
#include "proxy/aside.h"

#include <stdlib.h>

#include "rt/foreign.h"

struct errand {
    rt_fn fn;
    void *arg;
};

void aside(rt_fn fn, void *arg) {
    if (blocking_call(fn, arg) != 0)
        fn(arg);
}

static void run(void *arg) {
    struct errand *errand = arg;
    aside(errand->fn, errand->arg);
    free(errand);
}

void aside_later(rt_fn fn, void *arg) {
    const struct go_options options = {.name = "aside", .place = RT_ON_P, .priority = RT_LOW};
    struct errand *errand = malloc(sizeof *errand);
    if (errand)
        *errand = (struct errand){fn, arg};
    if (errand && go_with(&options, run, errand) == 0)
        return;
    free(errand);
    fn(arg);
}
