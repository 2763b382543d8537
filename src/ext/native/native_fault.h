/* native_fault: calls into a plug-in, which end by a fault in its code without ending the process.
 *
 *     coroutine:   native_call ─ enter_* ─ the plug-in ─ ... ─ fault
 *                       ▲                                        │
 *                       └────────────── returns false ───────────┘
 *
 * What makes a fault one of these is argued in native_fault.c; every other one is a crash.
 *
 * Threads  native_call: a coroutine with its P, or a thread without one. */
#pragma once
#include "rt/rt.h"

enum { NATIVE_FAULT_FRAMES = 32, NATIVE_TEXT_MAX = 4 };

/* Where a plug-in's instructions are. Constant once it may be called. */
struct native_text {
    unsigned count;
    struct {
        uintptr_t start, end;
    } segments[NATIVE_TEXT_MAX];
};

struct native_fault {
    int signo;
    uintptr_t address; /* that it could not use; of SIGFPE and SIGILL the instruction's */
    bool is_overflow;  /* of the stack */
    unsigned count;
    uintptr_t pcs
        [NATIVE_FAULT_FRAMES]; /* innermost first; the first is where it stood, the others are behind calls */
};

/* Functions that call the plug-in, and nothing else, stand here: who unwinds knows them by their place. They are not
 * inlined, and do something after the call, so that it is none in their place: NATIVE_ENTERED. */
#define NATIVE_ENTER __attribute__((section("native_enter"), noinline, used))
#define NATIVE_ENTERED() __asm__ volatile("" ::: "memory")

/* Before the first call; any thread, again does nothing. */
void native_fault_init(void);

/* enter(arg), a NATIVE_ENTER function. False: the plug-in faulted, and *fault says how; nothing of the call is left.
 * Parks if the plug-in does. */
MUST_CHECK bool native_call(const struct native_text *text, rt_fn enter, void *arg,
                            struct native_fault *fault);

const char *native_fault_name(const struct native_fault *fault);
