#include "foreign.h"

#include <unistd.h>

#include "_cgo_export.h"

uint64_t counter;

void add_one(uint64_t *number) {
    *number += 1;
}

void call_touch(void) {
    rtTouch();
}

void call_wake(void) {
    rtWake();
}

void sleep_outside(void) {
    (void)usleep(1000000);
}
