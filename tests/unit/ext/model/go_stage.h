/* go_stage: as much of a runtime as the Go host needs to play on: one P, coroutines that run on it one at a
 * time, and threads of Go's.
 *
 * A story's thread that calls go_stage_enter is a coroutine from there to go_stage_leave: it has the P, and
 * gives it up where it parks and for as long as a foreign call takes (the P handed on at once, which takes
 * in that it was not). Every other thread is foreign.
 *
 * Threads, ownership  As explorer.h has it; go_stage_setup goes first in a story's setup, go_stage_check
 *                     last in its check. */
#pragma once
#include "steps.h"

/* go_stage_scribble (steps.h) is for what ends with an exchange, too. */
void go_stage_setup(void);
void go_stage_enter(void);
/* The coroutine ends: who wakes it from now on fails the story. */
void go_stage_leave(void);
/* The coroutine of that thread. */
struct g *go_stage_g(unsigned thread);
/* Runs what go_with started, as a coroutine of its own; returns when that is done, or when nothing else
 * can go on. */
void go_stage_run_started(void);
/* Nothing is allocated any more, nothing was written after it was freed, and no thread waits. */
void go_stage_check(unsigned thread_count);
