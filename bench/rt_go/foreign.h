/* The C side of rt_go: what bench/native/rt_foreign.c has on its own. */
#pragma once
#include <stdint.h>

extern uint64_t counter;
void add_one(uint64_t *number);
void call_touch(void);
void call_wake(void);
void sleep_outside(void);
