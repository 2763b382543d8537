#include "base/check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static char failed[512];
static _Atomic(const char *) failed_text; /* stored with release, read with acquire */

_Noreturn void assert_failed(const char *file, int line, const char *condition) {
    /* Of two that fail at once the text may be a mixture, and both are printed. */
    (void)snprintf(failed, sizeof failed, "%s:%d: assertion failed: %s", file, line, condition);
    atomic_store_explicit(&failed_text, failed, memory_order_release);
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}

const char *assert_failed_text(void) {
    return atomic_load_explicit(&failed_text, memory_order_acquire);
}
