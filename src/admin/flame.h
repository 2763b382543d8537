/* flame: counted stacks as JSON for the flame graph (flame.html), which makes the tree itself:
 *
 *     {"unit":"ns","stacks":[[30000000,"downstream",{"listener":"edge"},4711,4242]],
 *      "frames":{"4711":[["inlined","src/a.c"],["caller","src/a.c"]],"4242":[["g_main","src/rt/g.c"]]},
 *      "duration_ns":5000000000,"lost":0,"notes":"..."}
 *
 * A stack is its value, its coroutine ("": of no matter), its labels, and addresses, innermost first; each
 * address is in frames once, with the function that stands there and those that it was inlined into. A
 * frame that somebody else tells of is in the place of its address.
 *
 * Ownership  Borrows out from begin to end; flame_end frees what the rest is in.
 * Threads    One at a time; flame_end not on one that holds a P.
 * Errors     out->failed when memory was short. */
#pragma once
#include "admin/json.h"
#include "admin/pprof.h"
#include "rt/dump.h"

struct flame {
    struct json json;
    uintptr_t *pcs;
    size_t count, max;
};

void flame_begin(struct flame *flame, struct text *out, const char *unit);
void flame_add(struct flame *flame, const struct stack_count *stack, int64_t value);
void flame_add_told(struct flame *flame, const struct told_stack *stack, int64_t value);
/* notes: lines for who looks at it, or none. */
void flame_end(struct flame *flame, int64_t duration_ns, uint64_t lost, struct span notes);
