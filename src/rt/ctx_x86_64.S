/* Context switch for x86-64, System V ABI. The contract is in ctx.h.
 *
 * Saved: the callee-saved registers. Not saved: MXCSR and the x87 control word; nothing in this
 * process changes rounding or exception masks, and saving them would double the cost.
 *
 * The last jump is indirect and not a ret: the return goes elsewhere than the call came from, so the
 * return predictor would always be wrong, while the branch target predictor often is right.
 *
 * CFI: both stacks have a frame of the same shape, so the rules hold on either side of the move of
 * the stack pointer, and a suspended coroutine unwinds from its saved stack pointer. */
#ifdef __x86_64__
/* The frame of a suspended context, below its return address. */
    .macro push_frame
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    .endm

    .text
    .p2align 4
    .globl rt_ctx_switch
    .hidden rt_ctx_switch
    .type rt_ctx_switch, @function
rt_ctx_switch:
    .cfi_startproc
    push_frame
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    popq %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    jmpq *%rcx
    .cfi_endproc
    .size rt_ctx_switch, . - rt_ctx_switch

/* fn(arg) on another stack, and back: rdi save_sp, rsi load_sp, rdx fn, rcx arg. The frame is that of
 * rt_ctx_switch, so that what *save_sp points at unwinds like a suspended coroutine. fn keeps the
 * callee-saved registers, so only rbp, which holds our stack meanwhile, is loaded again.
 * It says that it is a signal frame because debuggers take a caller whose stack lies below its
 * callee's for corruption, except where a signal changed the stack. gdb shows "<signal handler called>"
 * in its place. */
    .p2align 4
    .globl rt_ctx_call
    .hidden rt_ctx_call
    .type rt_ctx_call, @function
rt_ctx_call:
    .cfi_startproc
    .cfi_signal_frame
    push_frame
    movq %rsp, (%rdi)
    leaq 40(%rsp), %rbp     /* where the caller's rbp is: a frame for those who walk frame pointers */
    .cfi_def_cfa %rbp, 16
    movq %rsi, %rsp
    andq $-16, %rsp
    movq %rcx, %rdi
    callq *%rdx
    movq %rbp, %rsp
    popq %rbp
    .cfi_def_cfa %rsp, 8
    .cfi_restore %rbp
    .cfi_restore %rbx
    .cfi_restore %r12
    .cfi_restore %r13
    .cfi_restore %r14
    .cfi_restore %r15
    retq
    .cfi_endproc
    .size rt_ctx_call, . - rt_ctx_call

/* Where a new coroutine starts: rt_ctx_init left its function in rbx and the argument in r12. The
 * undefined return address ends every backtrace here. A context that has not started yet returns to
 * behind the nop (RT_CTX_ENTRY_SKIP): unwinders look up the byte before a return address, which must
 * be ours too. */
    .p2align 4
    .globl rt_ctx_entry
    .hidden rt_ctx_entry
    .type rt_ctx_entry, @function
rt_ctx_entry:
    .cfi_startproc
    .cfi_undefined %rip
    nop
    xorl %ebp, %ebp
    movq %r12, %rdi
    callq *%rbx
    ud2
    .cfi_endproc
    .size rt_ctx_entry, . - rt_ctx_entry
#endif
    .section .note.GNU-stack, "", %progbits
