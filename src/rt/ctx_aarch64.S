/* Context switch for aarch64, AAPCS64. The contract is in ctx.h. Saved: x19-x30 and d8-d15, the
 * callee-saved registers. The frame has one shape on both stacks, so the CFI holds on either side. */
#ifdef __aarch64__
    .text
    .p2align 4
    .globl rt_ctx_switch
    .hidden rt_ctx_switch
    .type rt_ctx_switch, %function
rt_ctx_switch:
    .cfi_startproc
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
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x29, x30, [sp], #160
    .cfi_def_cfa_offset 0
    .cfi_restore 29
    .cfi_restore 30
    ret
    .cfi_endproc
    .size rt_ctx_switch, . - rt_ctx_switch

/* Where a new coroutine starts: rt_ctx_init left its function in x19 and the argument in x20. The
 * undefined return address ends every backtrace here. */
    .p2align 4
    .globl rt_ctx_entry
    .hidden rt_ctx_entry
    .type rt_ctx_entry, %function
rt_ctx_entry:
    .cfi_startproc
    .cfi_undefined 30
    mov x29, xzr
    mov x30, xzr
    mov x0, x20
    blr x19
    brk #0
    .cfi_endproc
    .size rt_ctx_entry, . - rt_ctx_entry
#endif
    .section .note.GNU-stack, "", %progbits
