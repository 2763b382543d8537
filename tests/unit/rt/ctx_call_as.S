/* rt_ctx_call_as(fn, arg, sp): fn(arg) on this stack as if the suspended context sp had called it, so
 * that unwinders, which only start where they are, can be let loose on a suspended context. Its frame
 * pointer is the frame record that rt_ctx_switch left at sp; for CFI all is at fixed offsets from it.
 * A signal frame for the reason that rt_ctx_call gives. */
#if defined(__x86_64__)
    .text
    .p2align 4
    .globl rt_ctx_call_as
    .hidden rt_ctx_call_as
    .type rt_ctx_call_as, @function
rt_ctx_call_as:
    .cfi_startproc
    .cfi_signal_frame
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    leaq 40(%rdx), %rbp
    .cfi_def_cfa %rbp, 16
    .cfi_offset %rbp, -16
    .cfi_offset %rbx, -24
    .cfi_offset %r12, -32
    .cfi_offset %r13, -40
    .cfi_offset %r14, -48
    .cfi_offset %r15, -56
    movq %rdi, %rax
    movq %rsi, %rdi
    callq *%rax
    popq %rbp
    .cfi_def_cfa %rsp, 8
    .cfi_restore %rbp
    .cfi_restore %rbx
    .cfi_restore %r12
    .cfi_restore %r13
    .cfi_restore %r14
    .cfi_restore %r15
    ret
    .cfi_endproc
    .size rt_ctx_call_as, . - rt_ctx_call_as
#elif defined(__aarch64__)
    .text
    .p2align 4
    .globl rt_ctx_call_as
    .hidden rt_ctx_call_as
    .type rt_ctx_call_as, %function
rt_ctx_call_as:
    .cfi_startproc
    .cfi_signal_frame
    stp x29, x30, [sp, #-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset 29, -16
    .cfi_offset 30, -8
    mov x29, x2
    .cfi_def_cfa 29, 160
    .cfi_offset 29, -160
    .cfi_offset 30, -152
    .cfi_offset 19, -144
    .cfi_offset 20, -136
    .cfi_offset 21, -128
    .cfi_offset 22, -120
    .cfi_offset 23, -112
    .cfi_offset 24, -104
    .cfi_offset 25, -96
    .cfi_offset 26, -88
    .cfi_offset 27, -80
    .cfi_offset 28, -72
    .cfi_offset 72, -64
    .cfi_offset 73, -56
    .cfi_offset 74, -48
    .cfi_offset 75, -40
    .cfi_offset 76, -32
    .cfi_offset 77, -24
    .cfi_offset 78, -16
    .cfi_offset 79, -8
    mov x9, x0
    mov x0, x1
    blr x9
    ldp x29, x30, [sp], #16
    .cfi_def_cfa 31, 0
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
    .cfi_restore 29
    .cfi_restore 30
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
    .size rt_ctx_call_as, . - rt_ctx_call_as
#endif
    .section .note.GNU-stack, "", %progbits
