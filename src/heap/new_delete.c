/* new_delete: C++'s operators, for libraries that are written in it, by the names that its ABI gives them;
 * mimalloc's own would come before libstdc++'s, and their objects go past malloc.c. Without memory they
 * do as mimalloc's do, which call the new-handler. */
#include <malloc.h>
#include <mimalloc.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

/* operator new and new[], operator delete and delete[]: of any size (m: size_t), aligned (St11align_val_t),
 * nothrow (RKSt9nothrow_t). */
#define NEW(name)                                                                                  \
    EXPORT void *name(size_t size);                                                                \
    EXPORT void *name(size_t size) {                                                               \
        void *object = malloc(size);                                                               \
        return object ? object : mi_new(size);                                                     \
    }
#define NEW_NOTHROW(name)                                                                          \
    EXPORT void *name(size_t size, const void *nothrow);                                           \
    EXPORT void *name(size_t size, const void *nothrow) {                                          \
        return malloc(size);                                                                       \
    }
#define NEW_ALIGNED(name)                                                                          \
    EXPORT void *name(size_t size, size_t align);                                                  \
    EXPORT void *name(size_t size, size_t align) {                                                 \
        void *object = aligned_alloc(align, size);                                                 \
        return object ? object : mi_new_aligned(size, align);                                      \
    }
#define NEW_ALIGNED_NOTHROW(name)                                                                  \
    EXPORT void *name(size_t size, size_t align, const void *nothrow);                             \
    EXPORT void *name(size_t size, size_t align, const void *nothrow) {                            \
        return aligned_alloc(align, size);                                                         \
    }
/* Size and alignment say nothing that the object does not. */
#define DELETE(name, ...)                                                                          \
    EXPORT void name(void *object, ##__VA_ARGS__);                                                 \
    EXPORT void name(void *object, ##__VA_ARGS__) {                                                \
        free(object);                                                                              \
    }

NEW(_Znwm)
NEW(_Znam)
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
NEW_NOTHROW(_ZnamRKSt9nothrow_t)
NEW_ALIGNED(_ZnwmSt11align_val_t)
NEW_ALIGNED(_ZnamSt11align_val_t)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)
DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvm, size_t size)
DELETE(_ZdaPvm, size_t size)
DELETE(_ZdlPvSt11align_val_t, size_t align)
DELETE(_ZdaPvSt11align_val_t, size_t align)
DELETE(_ZdlPvmSt11align_val_t, size_t size, size_t align)
DELETE(_ZdaPvmSt11align_val_t, size_t size, size_t align)
DELETE(_ZdlPvRKSt9nothrow_t, const void *nothrow)
DELETE(_ZdaPvRKSt9nothrow_t, const void *nothrow)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t align, const void *nothrow)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t align, const void *nothrow)
