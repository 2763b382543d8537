/* Context switch for aarch64, AAPCS64. The contract is in ctx.h. Saved: x19-x30 and d8-d15, the
 * callee-saved registers. The frame has one shape on both stacks, so the CFI holds on either side
 * of the move of sp. A register that was loaded is said to be restored at once: a signal that arrives
 * after the last instruction overwrites what is below sp.
 *
 * Not saved: FPCR, which nothing in this process changes, and SVE and SME state, which the procedure
 * call standard leaves to the caller (functions with vector arguments preserve more: do not park). */
#ifdef __aarch64__
/* The frame of a suspended context. */
    .macro push_frame
    stp x29, x30, [sp, #-160]!
    .cfi_def_cfa_offset 160
    .cfi_offset 29, -160
    .cfi_offset 30, -152
    stp x19, x20, [sp, #16]
    .cfi_offset 19, -144
    .cfi_offset 20, -136
    stp x21, x22, [sp, #32]
    .cfi_offset 21, -128
    .cfi_offset 22, -120
    stp x23, x24, [sp, #48]
    .cfi_offset 23, -112
    .cfi_offset 24, -104
    stp x25, x26, [sp, #64]
    .cfi_offset 25, -96
    .cfi_offset 26, -88
    stp x27, x28, [sp, #80]
    .cfi_offset 27, -80
    .cfi_offset 28, -72
    stp d8, d9, [sp, #96]
    .cfi_offset 72, -64
    .cfi_offset 73, -56
    stp d10, d11, [sp, #112]
    .cfi_offset 74, -48
    .cfi_offset 75, -40
    stp d12, d13, [sp, #128]
    .cfi_offset 76, -32
    .cfi_offset 77, -24
    stp d14, d15, [sp, #144]
    .cfi_offset 78, -16
    .cfi_offset 79, -8
    .endm

    .text
    .p2align 4
    .globl rt_ctx_switch
    .hidden rt_ctx_switch
    .type rt_ctx_switch, %function
rt_ctx_switch:
    .cfi_startproc
    push_frame
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #16]
    .cfi_restore 19
    .cfi_restore 20
    ldp x21, x22, [sp, #32]
    .cfi_restore 21
    .cfi_restore 22
    ldp x23, x24, [sp, #48]
    .cfi_restore 23
    .cfi_restore 24
    ldp x25, x26, [sp, #64]
    .cfi_restore 25
    .cfi_restore 26
    ldp x27, x28, [sp, #80]
    .cfi_restore 27
    .cfi_restore 28
    ldp d8, d9, [sp, #96]
    .cfi_restore 72
    .cfi_restore 73
    ldp d10, d11, [sp, #112]
    .cfi_restore 74
    .cfi_restore 75
    ldp d12, d13, [sp, #128]
    .cfi_restore 76
    .cfi_restore 77
    ldp d14, d15, [sp, #144]
    .cfi_restore 78
    .cfi_restore 79
    ldp x29, x30, [sp], #160
    .cfi_def_cfa_offset 0
    .cfi_restore 29
    .cfi_restore 30
    ret
    .cfi_endproc
    .size rt_ctx_switch, . - rt_ctx_switch

/* fn(arg) on another stack, and back: x0 save_sp, x1 load_sp, x2 fn, x3 arg. The frame is that of
 * rt_ctx_switch, so that what *save_sp points at unwinds like a suspended coroutine. fn keeps the
 * callee-saved registers, so only x29, which holds our stack meanwhile, and x30 are loaded again.
 * It says that it is a signal frame because debuggers take a caller whose stack lies below its
 * callee's for corruption, except where a signal changed the stack. gdb shows "<signal handler called>"
 * in its place. */
    .p2align 4
    .globl rt_ctx_call
    .hidden rt_ctx_call
    .type rt_ctx_call, %function
rt_ctx_call:
    .cfi_startproc
    .cfi_signal_frame
    push_frame
    mov x29, sp
    .cfi_def_cfa_register 29
    str x29, [x0]
    mov sp, x1
    mov x0, x3
    blr x2
    mov sp, x29
    .cfi_def_cfa_register 31
    ldp x29, x30, [sp], #160
    .cfi_def_cfa_offset 0
    .cfi_restore 29
    .cfi_restore 30
    .cfi_restore 19
    .cfi_restore 20
    .cfi_restore 21
    .cfi_restore 22
    .cfi_restore 23
    .cfi_restore 24
    .cfi_restore 25
    .cfi_restore 26
    .cfi_restore 27
    .cfi_restore 28
    .cfi_restore 72
    .cfi_restore 73
    .cfi_restore 74
    .cfi_restore 75
    .cfi_restore 76
    .cfi_restore 77
    .cfi_restore 78
    .cfi_restore 79
    ret
    .cfi_endproc
    .size rt_ctx_call, . - rt_ctx_call

/* Where a new coroutine starts: rt_ctx_init left its function in x19 and the argument in x20. The
 * undefined return address ends every backtrace here. A context that has not started yet returns to
 * behind the nop (RT_CTX_ENTRY_SKIP): unwinders look up the instruction before a return address,
 * which must be ours too. */
    .p2align 4
    .globl rt_ctx_entry
    .hidden rt_ctx_entry
    .type rt_ctx_entry, %function
rt_ctx_entry:
    .cfi_startproc
    .cfi_undefined 30
    nop
    mov x29, xzr
    mov x30, xzr
    mov x0, x20
    blr x19
    brk #0
    .cfi_endproc
    .size rt_ctx_entry, . - rt_ctx_entry
#endif
    .section .note.GNU-stack, "", %progbits
