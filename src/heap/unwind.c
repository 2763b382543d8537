/* unwind: frame by frame, by rows of the tables (cfi.c), most of which are remembered.
 *
 * To interpret a row takes a microsecond, and a profile asks for the same few thousand return addresses
 * again and again. Nearly all frames of x86-64 are of one shape: the CFA is the stack or the frame pointer
 * and an offset, the return address is below it, and the caller's frame pointer is untouched or saved
 * below it. That, with the address it is of, fits one word; a table of such words is the process's.
 *
 *     63            28 27          16 15        3  2   1 0
 *     [ address >> 12 ][ fp below CFA ][ CFA offset][reg][kind]     in slot (address ^ mix(address >> 12)) % 4096
 *
 * The slot and the upper bits give back the address, so an entry cannot be taken for another's; it is read and
 * written whole, so there is nothing to lock. Nobody unloads code here (Go libraries cannot be, and
 * no other is), or an entry could be of code that is gone.
 *
 * A frame of another shape (a signal's, the dynamic linker's, some with an aligned stack) makes the walk
 * start anew with all registers, each row interpreted.
 *
 * What is read is what the tables say is there: they have to be right for exceptions and debuggers. A walk
 * ends at the latest after max frames; it passes from the stack of a foreign call to the coroutine's like any
 * other, by the rows of rt_ctx_call. */
#include "heap/unwind.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <string.h>
#include <ucontext.h>

#include "heap/cfi.h"
#include "heap/heap_profile.h"

enum { INNER_MAX = 16 }; /* frames of ours between the one that is asked about and unwind_after */
enum { FRAMES_MAX = HEAP_STACK_MAX + INNER_MAX };

struct registers {
    uintptr_t pc;
    uintptr_t value[CFI_REGISTERS]; /* those that a call keeps are right, others may be wrong */
    uintptr_t low, high;            /* what may be read; CAPTURE knows where the above stand */
    bool (*may_read)(uintptr_t address);
};

/* Of whoever this becomes a part of. */
#ifdef __x86_64__
#define CAPTURE(registers)                                                                         \
    __asm__ volatile("leaq 0f(%%rip), %%rax\n\t"                                                   \
                     "0: movq %%rax, (%0)\n\t"                                                     \
                     "movq %%rbx, 8+3*8(%0)\n\t"                                                   \
                     "movq %%rbp, 8+6*8(%0)\n\t"                                                   \
                     "movq %%rsp, 8+7*8(%0)\n\t"                                                   \
                     "movq %%r12, 8+12*8(%0)\n\t"                                                  \
                     "movq %%r13, 8+13*8(%0)\n\t"                                                  \
                     "movq %%r14, 8+14*8(%0)\n\t"                                                  \
                     "movq %%r15, 8+15*8(%0)"                                                      \
                     :                                                                             \
                     : "r"(registers)                                                              \
                     : "rax", "memory")
#elif defined(__aarch64__)
#define CAPTURE(registers)                                                                         \
    __asm__ volatile("adr x9, 0f\n\t"                                                              \
                     "0: str x9, [%0]\n\t"                                                         \
                     "stp x19, x20, [%0, 8+19*8]\n\t"                                              \
                     "stp x21, x22, [%0, 8+21*8]\n\t"                                              \
                     "stp x23, x24, [%0, 8+23*8]\n\t"                                              \
                     "stp x25, x26, [%0, 8+25*8]\n\t"                                              \
                     "stp x27, x28, [%0, 8+27*8]\n\t"                                              \
                     "stp x29, x30, [%0, 8+29*8]\n\t"                                              \
                     "mov x9, sp\n\t"                                                              \
                     "str x9, [%0, 8+31*8]"                                                        \
                     :                                                                             \
                     : "r"(registers)                                                              \
                     : "x9", "memory")
#endif

/* The stack, whatever a sanitizer thinks of it. */
__attribute__((no_sanitize_address, no_sanitize_thread)) static uintptr_t load(uintptr_t address) {
    return *(const uintptr_t *)address;
}

static bool is_word(uintptr_t address) {
    return address != 0 && address % sizeof(uintptr_t) == 0;
}

static bool may_read(const struct registers *registers, uintptr_t address) {
    if (!is_word(address))
        return false;
    return (address >= registers->low && address <= registers->high - sizeof(uintptr_t)) ||
           (registers->may_read && registers->may_read(address));
}

/* ---- Any frame ---- */

enum { OPERANDS_MAX = 16 };

struct stack {
    uintptr_t at[OPERANDS_MAX];
    unsigned count;
    bool is_bad;
};

static void push(struct stack *stack, uintptr_t value) {
    if (stack->count == OPERANDS_MAX)
        stack->is_bad = true;
    else
        stack->at[stack->count++] = value;
}

static uintptr_t pop(struct stack *stack) {
    if (stack->count == 0) {
        stack->is_bad = true;
        return 0;
    }
    return stack->at[--stack->count];
}

/* DW_OP, those that the tables of compilers, linkers and libc have */
enum {
    OP_DEREF = 0x06,
    OP_CONST1U = 0x08,
    OP_CONST1S = 0x09,
    OP_CONSTU = 0x10,
    OP_CONSTS = 0x11,
    OP_AND = 0x1a,
    OP_MINUS = 0x1c,
    OP_PLUS = 0x22,
    OP_PLUS_CONSTU = 0x23,
    OP_SHL = 0x24,
    OP_GE = 0x2a,
    OP_LITERAL_0 = 0x30,
    OP_LITERAL_31 = 0x4f,
    OP_REGISTER_0 = 0x70,
    OP_REGISTER_31 = 0x8f,
};

static void operate(struct stack *stack, uint8_t op) {
    uintptr_t right = pop(stack), left = pop(stack);
    switch (op) {
    case OP_AND:
        push(stack, left & right);
        break;
    case OP_MINUS:
        push(stack, left - right);
        break;
    case OP_PLUS:
        push(stack, left + right);
        break;
    case OP_SHL:
        push(stack, right < 64 ? left << right : 0);
        break;
    case OP_GE:
        push(stack, (intptr_t)left >= (intptr_t)right);
        break;
    default:
        stack->is_bad = true;
    }
}

static void dereference(struct stack *stack, const struct registers *registers) {
    uintptr_t address = pop(stack);
    if (may_read(registers, address))
        push(stack, load(address));
    else
        stack->is_bad = true;
}

static bool evaluate(const uint8_t *at, const struct registers *registers, const uintptr_t *cfa,
                     uintptr_t *out) {
    struct stack stack = {.count = 0};
    if (cfa)
        push(&stack, *cfa);
    uint64_t size = cfi_uleb(&at);
    for (const uint8_t *end = at + size; at < end && !stack.is_bad;) {
        uint8_t op = *at++;
        if (op >= OP_LITERAL_0 && op <= OP_LITERAL_31)
            push(&stack, (uintptr_t)op - OP_LITERAL_0);
        else if (op >= OP_REGISTER_0 && op <= OP_REGISTER_31) {
            unsigned reg = (unsigned)op - OP_REGISTER_0;
            uintptr_t offset = (uintptr_t)cfi_sleb(&at);
            stack.is_bad = reg >= CFI_REGISTERS;
            if (!stack.is_bad)
                push(&stack, registers->value[reg] + offset);
        } else if (op == OP_CONST1U)
            push(&stack, *at++);
        else if (op == OP_CONST1S)
            push(&stack, (uintptr_t)(intptr_t)(int8_t)*at++);
        else if (op == OP_CONSTU)
            push(&stack, cfi_uleb(&at));
        else if (op == OP_CONSTS)
            push(&stack, (uintptr_t)cfi_sleb(&at));
        else if (op == OP_PLUS_CONSTU)
            push(&stack, pop(&stack) + cfi_uleb(&at));
        else if (op == OP_DEREF)
            dereference(&stack, registers);
        else
            operate(&stack, op);
    }
    *out = pop(&stack);
    return !stack.is_bad;
}

static bool find_cfa(const struct cfi_row *row, const struct registers *registers, uintptr_t *cfa) {
    if (row->cfa.where == CFI_COMPUTED)
        return evaluate(row->cfa.expression, registers, NULL, cfa);
    if (row->cfa.where != CFI_OFFSET || row->cfa.in >= CFI_REGISTERS)
        return false;
    *cfa = registers->value[row->cfa.in] + (uintptr_t)row->cfa.offset;
    return true;
}

/* The caller's value of a register; false: there is none. */
static bool find_value(const struct cfi_row *row, unsigned reg, const struct registers *registers,
                       uintptr_t cfa, uintptr_t *value) {
    const struct cfi_rule *rule = &row->registers[reg];
    uintptr_t place = cfa + (uintptr_t)rule->offset;
    switch (rule->where) {
    case CFI_SAME:
        *value = registers->value[reg];
        return true;
    case CFI_OFFSET:
        *value = place;
        return true;
    case CFI_REGISTER:
        if (rule->in >= CFI_REGISTERS)
            return false;
        *value = registers->value[rule->in];
        return true;
    case CFI_COMPUTED:
        return evaluate(rule->expression, registers, &cfa, value);
    case CFI_SAVED_AT:
        if (!evaluate(rule->expression, registers, &cfa, &place))
            return false;
        break;
    case CFI_SAVED:
        break;
    default:
        return false;
    }
    if (!may_read(registers, place))
        return false;
    *value = load(place);
    return true;
}

/* To the caller; false: there is none. */
static bool step(struct registers *registers, const struct cfi_row *row) {
    uintptr_t cfa;
    if (!find_cfa(row, registers, &cfa) || !is_word(cfa))
        return false;
    struct registers caller = {
        .low = registers->low, .high = registers->high, .may_read = registers->may_read};
    caller.value[CFI_SP] = cfa;
    for (unsigned reg = 0; reg < CFI_REGISTERS; reg++) {
        if (reg == CFI_SP && row->registers[reg].where == CFI_SAME)
            continue;
        bool is_known = find_value(row, reg, registers, cfa, &caller.value[reg]);
        if (!is_known && reg == row->return_register)
            return false;
    }
    caller.pc = caller.value[row->return_register];
#ifdef __aarch64__
    __asm__("mov x30, %0\n\txpaclri\n\tmov %0, x30"
            : "+r"(caller.pc)
            :
            : "x30"); /* may be signed */
#endif
    *registers = caller;
    return caller.pc != 0;
}

static unsigned walk_all(struct registers registers, uintptr_t *pcs, unsigned max) {
    unsigned depth = 0;
    struct cfi_row row;
    uintptr_t where = registers.pc;
    while (depth < max && cfi_find(where, &row) && step(&registers, &row)) {
        pcs[depth++] = registers.pc;
        /* A return address may be the next function's first, after a call that does not return. */
        where = row.is_signal ? registers.pc : registers.pc - 1;
    }
    return depth;
}

/* ---- The usual frame ---- */

#ifdef __x86_64__

enum kind { NOT_KNOWN, USUAL, OUTERMOST, UNUSUAL };

enum { SLOTS = 4096, SLOT_BITS = 12, SHAPE_BITS = 28 };
enum {
    KIND_BITS = 2,
    BY_FP_BIT = 2,
    CFA_SHIFT = 3,
    CFA_MAX = 1 << 13,
    FP_SHIFT = 16,
    FP_MAX = 1 << 12
};

static _Atomic uint64_t shapes[SLOTS];

static _Atomic uint64_t *slot_of(uintptr_t pc) {
    uint64_t page = pc >> SLOT_BITS;
    return &shapes[(pc ^ page * 0x9e3779b1U >> 7) % SLOTS];
}

/* The row in SHAPE_BITS. Offsets are in words. */
static uint64_t shape_of(const struct cfi_row *row) {
    enum { WORD = sizeof(uintptr_t) };
    const struct cfi_rule *back = &row->registers[row->return_register],
                          *fp = &row->registers[CFI_FP];
    const struct cfi_rule *cfa = &row->cfa;
    if (back->where == CFI_UNDEFINED)
        return OUTERMOST;
    bool is_usual = cfa->where == CFI_OFFSET && (cfa->in == CFI_SP || cfa->in == CFI_FP) &&
                    cfa->offset > 0 && cfa->offset % WORD == 0 && cfa->offset / WORD < CFA_MAX &&
                    back->where == CFI_SAVED && back->offset == -WORD &&
                    row->registers[CFI_SP].where == CFI_SAME;
    bool is_fp_saved = fp->where == CFI_SAVED && fp->offset < 0 && fp->offset % WORD == 0 &&
                       -fp->offset / WORD < FP_MAX;
    if (!is_usual || !(is_fp_saved || fp->where == CFI_SAME))
        return UNUSUAL;
    return USUAL | (uint64_t)(cfa->in == CFI_FP) << BY_FP_BIT |
           (uint64_t)(cfa->offset / WORD) << CFA_SHIFT |
           (is_fp_saved ? (uint64_t)(-fp->offset / WORD) << FP_SHIFT : 0);
}

static uint64_t shape_at(uintptr_t pc) {
    _Atomic uint64_t *slot = slot_of(pc);
    uint64_t entry = atomic_load_explicit(slot, memory_order_relaxed);
    if (entry != 0 && entry >> SHAPE_BITS == pc >> SLOT_BITS)
        return entry & ((1 << SHAPE_BITS) - 1);
    struct cfi_row row;
    uint64_t shape = cfi_find(pc, &row) ? shape_of(&row) : OUTERMOST;
    if (pc >> (64 - SHAPE_BITS + SLOT_BITS) == 0)
        atomic_store_explicit(slot, pc >> SLOT_BITS << SHAPE_BITS | shape, memory_order_relaxed);
    return shape;
}

/* How many, or -1: there is an unusual one. */
static int walk_usual(const struct registers *registers, uintptr_t *pcs, unsigned max) {
    unsigned depth = 0;
    uintptr_t sp = registers->value[CFI_SP], fp = registers->value[CFI_FP];
    for (uintptr_t where = registers->pc; depth < max; where = pcs[depth - 1] - 1) {
        uint64_t shape = shape_at(where);
        enum kind kind = shape & ((1 << KIND_BITS) - 1);
        if (kind == UNUSUAL)
            return -1;
        uintptr_t cfa =
            (shape >> BY_FP_BIT & 1 ? fp : sp) + (shape >> CFA_SHIFT) % CFA_MAX * sizeof sp;
        if (kind == OUTERMOST || !is_word(cfa))
            break;
        uint64_t fp_below = shape >> FP_SHIFT;
        if (fp_below != 0)
            fp = load(cfa - fp_below * sizeof fp);
        sp = cfa;
        uintptr_t caller = load(cfa - sizeof caller);
        if (caller == 0)
            break;
        pcs[depth++] = caller;
    }
    return (int)depth;
}

#else

static int walk_usual(const struct registers *registers, uintptr_t *pcs, unsigned max) {
    return -1;
}

#endif

NOINLINE unsigned unwind_after(const void *after, uintptr_t *pcs, unsigned max) {
    struct registers registers = {.high = UINTPTR_MAX};
    CAPTURE(&registers);
    uintptr_t found[FRAMES_MAX];
    int usual = walk_usual(&registers, found, FRAMES_MAX);
    unsigned count = usual >= 0 ? (unsigned)usual : walk_all(registers, found, FRAMES_MAX);
    unsigned first = 0;
    while (first < count && found[first] != (uintptr_t)after)
        first++;
    if (first == count)
        first = 0;
    unsigned depth = 0;
    while (first + depth < count && depth < max) {
        pcs[depth] = found[first + depth];
        depth++;
    }
    return depth;
}

/* ---- What a signal interrupted ---- */

void unwind_interrupted(const void *ucontext, uintptr_t low, uintptr_t high,
                        struct unwind_frame *out) {
    const mcontext_t *from = &((const ucontext_t *)ucontext)->uc_mcontext;
    *out = (struct unwind_frame){.low = low, .high = high, .interrupted = true};
#ifdef __x86_64__
    static const int order[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    for (unsigned i = 0; i < CFI_REGISTERS; i++)
        out->value[i] = (uintptr_t)from->gregs[order[i]];
    out->pc = (uintptr_t)from->gregs[REG_RIP];
#elif defined(__aarch64__)
    for (unsigned i = 0; i < CFI_SP; i++)
        out->value[i] = from->regs[i];
    out->value[CFI_SP] = from->sp;
    out->pc = from->pc;
#endif
}

bool unwind_step(struct unwind_frame *frame) {
    struct cfi_row row;
    if (!cfi_find(frame->interrupted ? frame->pc : frame->pc - 1, &row))
        return false;
    struct registers registers = {
        .pc = frame->pc, .low = frame->low, .high = frame->high, .may_read = frame->may_read};
    memcpy(registers.value, frame->value, sizeof registers.value);
    if (!step(&registers, &row))
        return false;
    memcpy(frame->value, registers.value, sizeof frame->value);
    frame->pc = registers.pc;
    frame->interrupted = row.is_signal;
    return true;
}
