/* cfi: how to get from a frame to its caller, as the unwind tables of the code say (.eh_frame, found by
 * .eh_frame_hdr): DWARF's call frame information.
 *
 * Threads  Any, also in the middle of malloc or dlopen: neither locks nor allocates.
 * Limits   64-bit ELF with a sorted table in its .eh_frame_hdr, as all linkers write. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

#ifdef __x86_64__
enum {
    CFI_REGISTERS = 17,
    CFI_SP = 7,
    CFI_FP = 6
}; /* rax rdx rcx rbx rsi rdi rbp rsp r8-r15 rip */
#else
enum { CFI_REGISTERS = 32, CFI_SP = 31, CFI_LR = 30, CFI_FP = 29 }; /* x0-x30 sp */
#endif

/* Where the caller's value of a register is. The CFA is the caller's stack pointer. */
enum cfi_where {
    CFI_SAME,      /* in the register */
    CFI_UNDEFINED, /* nowhere; of the return address: there is no caller */
    CFI_SAVED,     /* in memory at CFA + offset */
    CFI_OFFSET,    /* it is CFA + offset; the CFA itself: register + offset */
    CFI_REGISTER,  /* in another one */
    CFI_SAVED_AT,  /* in memory at what the expression gives */
    CFI_COMPUTED,  /* it is what the expression gives */
};

struct cfi_rule {
    enum cfi_where where;
    unsigned in; /* CFI_REGISTER; CFI_OFFSET of the CFA */
    union {
        int64_t offset;
        const uint8_t *expression; /* its size as ULEB128, then operations */
    };
};

struct cfi_row {
    struct cfi_rule cfa, registers[CFI_REGISTERS];
    unsigned return_register;
    bool is_signal; /* the caller was interrupted, it did not call */
};

/* The row for this instruction. False: its code has no table, or says something unknown. */
MUST_CHECK bool cfi_find(uintptr_t pc, struct cfi_row *row);

/* ---- For who evaluates expressions ---- */
uint64_t cfi_uleb(const uint8_t **at);
int64_t cfi_sleb(const uint8_t **at);
