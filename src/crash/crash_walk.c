/* crash_walk: by the unwind tables of the code (heap/unwind.h); where there are none, as in Go's code, by frame pointers,
 * which Go keeps. A frame of the one kind follows one of the other.
 *
 * What is read  must be there, whatever the registers say: the kernel's list of what is mapped is asked (/proc/self/maps),
 *               and the two places that were last found are remembered, the stack that is walked and the one before.
 *               Only private memory without a file is a stack: a read of a file that was cut off would be SIGBUS.
 * Ends          at a frame that does not lie above the one before. Another stack may lie anywhere; that of each frame is
 *               looked at once, so a walk goes from stack to stack STACKS_MAX times at most. */
#include "crash/crash_walk.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "base/check.h"
#include "heap/unwind.h"

enum { REMEMBERED = 2, STACKS_MAX = 8 };

struct region {
    uintptr_t low, high;
};
static struct region regions[REMEMBERED]; /* the last one first; the thread's that walks */

/* ---- What is mapped ---- */

struct maps {
    int fd;
    size_t at, len;
    char buffer[2048];
};

/* -1: there is no more. */
static int next_byte(struct maps *maps) {
    if (maps->at == maps->len) {
        ssize_t got = read(maps->fd, maps->buffer, sizeof maps->buffer);
        if (got <= 0)
            return -1;
        maps->at = 0;
        maps->len = (size_t)got;
    }
    return (unsigned char)maps->buffer[maps->at++];
}

static uintptr_t hex_until(struct maps *maps, int end) {
    uintptr_t value = 0;
    for (int c; (c = next_byte(maps)) != end && c >= 0;)
        value = value * 16 + (uintptr_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    return value;
}

/* "7f0c6000-7f0c8000 rw-p 00000000 00:00 0    [stack]". False: that was the last. */
static bool next_region(struct maps *maps, struct region *region, bool *is_stack) {
    region->low = hex_until(maps, '-');
    region->high = hex_until(maps, ' ');
    int readable = next_byte(maps), writable = next_byte(maps);
    (void)next_byte(maps);
    int shared = next_byte(maps);
    int c = next_byte(maps);
    for (unsigned blanks = 1; blanks < 3 && c >= 0;) { /* offset, device */
        c = next_byte(maps);
        blanks += c == ' ';
    }
    int inode = next_byte(maps);
    *is_stack = readable == 'r' && writable == 'w' && shared == 'p' && inode == '0';
    while (c >= 0 && c != '\n')
        c = next_byte(maps);
    return c >= 0;
}

static bool find_region(uintptr_t address, struct region *found) {
    struct maps maps = {.fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)};
    bool is_found = false, is_stack;
    if (maps.fd < 0)
        return false;
    while (!is_found && next_region(&maps, found, &is_stack) && found->low <= address)
        is_found = address < found->high && is_stack;
    (void)close(maps.fd);
    return is_found;
}

static bool is_within(const struct region *region, uintptr_t address) {
    return address >= region->low && address < region->high &&
           region->high - address >= sizeof(uintptr_t);
}

/* NULL: no stack is there. */
static const struct region *region_of(uintptr_t address) {
    struct region found;
    for (unsigned i = 0; i < REMEMBERED; i++)
        if (is_within(&regions[i], address))
            return &regions[i];
    if (!find_region(address, &found) || !is_within(&found, address))
        return NULL;
    regions[1] = regions[0];
    regions[0] = found;
    return &regions[0];
}

static bool may_read(uintptr_t address) {
    return region_of(address) != NULL;
}

/* ---- Frames ---- */

__attribute__((no_sanitize_address, no_sanitize_thread)) static uintptr_t load(uintptr_t address) {
    return *(const uintptr_t *)address;
}

static bool is_code(uintptr_t pc) {
    struct dl_find_object object;
    return _dl_find_object((void *)pc, &object) == 0;
}

static void set_caller(struct unwind_frame *frame, uintptr_t pc, uintptr_t sp) {
    frame->pc = pc;
    frame->value[CFI_SP] = sp;
    frame->interrupted = false;
}

/* A call of what is no function, as of a null pointer: the return address is where the call has put it. */
static bool step_from_nowhere(struct unwind_frame *frame) {
    uintptr_t sp = frame->value[CFI_SP];
    if (!frame->interrupted || is_code(frame->pc))
        return false;
#ifdef __x86_64__
    if (sp % sizeof sp != 0 || !may_read(sp))
        return false;
    set_caller(frame, load(sp), sp + sizeof sp);
#else
    set_caller(frame, frame->value[CFI_LR], sp);
#endif
    return true;
}

static bool step_by_pointer(struct unwind_frame *frame) {
    uintptr_t fp = frame->value[CFI_FP];
    if (fp % sizeof fp != 0 || fp > UINTPTR_MAX - 2 * sizeof fp || !may_read(fp) ||
        !may_read(fp + sizeof fp) || load(fp + sizeof fp) == 0)
        return false;
    frame->value[CFI_FP] = load(fp);
    set_caller(frame, load(fp + sizeof fp), fp + 2 * sizeof fp);
    return true;
}

static bool step(struct unwind_frame *frame) {
    return step_from_nowhere(frame) || unwind_step(frame) || step_by_pointer(frame);
}

unsigned crash_walk(const void *ucontext, uintptr_t *pcs, unsigned max) {
    struct unwind_frame frame;
    unwind_interrupted(ucontext, UINTPTR_MAX, UINTPTR_MAX,
                       &frame); /* nothing without being asked */
    frame.may_read = may_read;
    unsigned count = 0, stacks = 1;
    pcs[count++] = frame.pc;
    while (count < max) {
        uintptr_t from = frame.value[CFI_SP];
        bool may_be_leaf = frame.interrupted; /* which on aarch64 has no frame */
        const struct region *known = region_of(from);
        struct region stack =
            known ? *known : (struct region){0, 0}; /* others are remembered meanwhile */
        if (!step(&frame))
            break;
        bool is_same = is_within(&stack, frame.value[CFI_SP]);
        if (is_same ? frame.value[CFI_SP] < from + !may_be_leaf : ++stacks > STACKS_MAX)
            break;
        if (is_code(frame.pc)) /* between Go and C lies a frame that is none */
            pcs[count++] = frame.pc;
    }
    return count;
}
