/* check: assertions and compiler attributes.
 *
 * ASSERT stays in release builds: our own broken promise ends the process with file, line and
 * condition rather than going on with a state nobody thought of. It never judges bytes from a peer,
 * a config or an extension. ASSERT_SLOW walks whole structures and runs in test builds only. */
#pragma once

#ifdef __cplusplus
#error "these headers are C (C++ has no _Atomic): call it from a C file"
#endif

#define MUST_CHECK __attribute__((warn_unused_result))
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((cold))       /* rare: kept apart from what every request runs */
#define FLATTEN __attribute__((flatten)) /* what it calls is inlined, as far as it is in sight */
#define PRINTF_LIKE(text_arg, first_arg) __attribute__((format(printf, text_arg, first_arg)))

/* A pointer or a span passed in is borrowed until the call returns. On a parameter whose bytes are held
 * for longer, this names who holds them, and so until when: another parameter (`struct span name
 * BORROWED_BY(map)`), `result`, or in a word of its own what else does (`coroutine`, `program`).
 * tools/check_borrows.py reads it. Static functions need none. */
#ifdef __clang__
#define BORROWED_BY(holder) __attribute__((annotate("borrowed_by:" #holder)))
#else
#define BORROWED_BY(holder)
#endif

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

_Noreturn void assert_failed(const char *file, int line, const char *condition);
/* What it printed, for a report of the end; NULL: no assertion failed. Async-signal-safe. */
const char *assert_failed_text(void);

#define ASSERT(condition)                                                                          \
    (__builtin_expect(!!(condition), 1) ? (void)0 : assert_failed(__FILE__, __LINE__, #condition))

#ifdef SLUICE_SLOW_ASSERTS
#define ASSERT_SLOW(condition) ASSERT(condition)
#else
#define ASSERT_SLOW(condition) ((void)0)
#endif
