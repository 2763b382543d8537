/* stage: as much of a runtime as park.c and inbox.c need to play on, one coroutine per thread.
 *
 * Thread i is the M of P i and runs coroutine i. When that parks, the thread is the loop of its P: it
 * takes in messages, may fire the coroutine's deadline at any moment, and waits until the coroutine is
 * in a queue; then it runs on. A STAGE_FOREIGN thread has no P and no coroutine.
 *
 * A stealable coroutine always runs on by its own thread. Where it runs matters for nothing that is
 * played here: whoever queues it passes on what he knows, as a run queue does.
 *
 * Threads, ownership: as explorer.h has it; stage_setup goes first in a story's setup. */
#pragma once
#include "explorer.h"
#include "rt/rt_internal.h"

enum stage_role { STAGE_FOREIGN, STAGE_PINNED, STAGE_STEALABLE };

void stage_setup(const enum stage_role roles[MODEL_THREADS_MAX]);
struct g *stage_g(unsigned thread);
struct p *stage_p(unsigned thread);
/* A deadline that a park of this story may have; whether it passes first is tried both ways. */
int64_t stage_deadline(void);
/* True when the calling thread has queued that coroutine, which is then no longer queued: for stories
 * that run it somewhere else. */
bool stage_take(unsigned thread);
/* The last thing that a thread's coroutine does, where wakers have to know that it has not ended. */
void stage_end(void);
/* rt_ready for sources built with -Drt_ready=stage_ready: fails the story when g has ended. */
void stage_ready(struct g *g);
/* In check: every coroutine's thread has ended, none is queued twice, no timer is armed. */
void stage_check_all_ended(void);
