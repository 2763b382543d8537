/* atomics: put in front of a source of the runtime (-include), makes each of its atomic operations a
 * step of the explorer. The sources are compiled as they are. */
#pragma once
#ifndef __ASSEMBLER__ /* it goes in front of ctx_*.S too */
#include <stdatomic.h>
#include <stdbool.h>

#include "explorer.h"

#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_exchange_explicit
#undef atomic_fetch_add
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_weak_explicit

/* The comma drops the qualifiers, _Atomic among them. */
#define MODEL_VALUE_OF(at) __typeof__((void)0, *(at))

#define atomic_load_explicit(at, order)                                                            \
    ({                                                                                             \
        __auto_type model_at = (at);                                                               \
        MODEL_VALUE_OF(model_at) model_value;                                                      \
        model_load(model_at, &model_value, sizeof model_value, order);                             \
        model_value;                                                                               \
    })
#define atomic_store_explicit(at, value, order)                                                    \
    ({                                                                                             \
        __auto_type model_at = (at);                                                               \
        MODEL_VALUE_OF(model_at) model_value = (value);                                            \
        model_store(model_at, &model_value, sizeof model_value, order);                            \
    })
#define MODEL_RMW(at, op, operand, order)                                                          \
    ({                                                                                             \
        __auto_type model_at = (at);                                                               \
        MODEL_VALUE_OF(model_at) model_operand = (operand), model_before;                          \
        model_rmw(model_at, op, &model_operand, &model_before, sizeof model_operand, order);       \
        model_before;                                                                              \
    })
#define atomic_compare_exchange_strong_explicit(at, expected, desired, success, failure)           \
    ({                                                                                             \
        __auto_type model_at = (at);                                                               \
        MODEL_VALUE_OF(model_at) model_desired = (desired);                                        \
        model_cas(model_at, expected, &model_desired, sizeof model_desired, success, failure);     \
    })

#define atomic_load(at) atomic_load_explicit(at, memory_order_seq_cst)
#define atomic_store(at, value) atomic_store_explicit(at, value, memory_order_seq_cst)
#define atomic_exchange(at, value) MODEL_RMW(at, MODEL_EXCHANGE, value, memory_order_seq_cst)
#define atomic_exchange_explicit(at, value, order) MODEL_RMW(at, MODEL_EXCHANGE, value, order)
#define atomic_fetch_add(at, value) MODEL_RMW(at, MODEL_ADD, value, memory_order_seq_cst)
#define atomic_fetch_add_explicit(at, value, order) MODEL_RMW(at, MODEL_ADD, value, order)
#define atomic_fetch_sub(at, value) MODEL_RMW(at, MODEL_SUB, value, memory_order_seq_cst)
#define atomic_fetch_sub_explicit(at, value, order) MODEL_RMW(at, MODEL_SUB, value, order)
#define atomic_fetch_or(at, value) MODEL_RMW(at, MODEL_OR, value, memory_order_seq_cst)
#define atomic_fetch_or_explicit(at, value, order) MODEL_RMW(at, MODEL_OR, value, order)
#define atomic_fetch_and(at, value) MODEL_RMW(at, MODEL_AND, value, memory_order_seq_cst)
#define atomic_fetch_and_explicit(at, value, order) MODEL_RMW(at, MODEL_AND, value, order)
#define atomic_compare_exchange_strong(at, expected, desired)                                      \
    atomic_compare_exchange_strong_explicit(at, expected, desired, memory_order_seq_cst,           \
                                            memory_order_seq_cst)
/* Weak ones fail by themselves on some machines; the loop around them then makes the same step again. */
#define atomic_compare_exchange_weak atomic_compare_exchange_strong
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit

/* A turn of a wait for another thread. */
#include "rt/spin.h"
#define spin_pause model_yield
#endif
