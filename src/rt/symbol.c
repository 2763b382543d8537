/* symbol: asks the layer above, else the loader.
 *
 * Order  The symbolizer is published with release and read with acquire. */
#include "rt/symbol.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

#include "base/check.h"

static _Atomic(const struct symbolizer *) finder;

void symbol_set_finder(const struct symbolizer *symbolizer) {
    atomic_store_explicit(&finder, symbolizer, memory_order_release);
}

/* The loader's names live as long as the library, and libraries are never unloaded here. */
static void ask_loader(uintptr_t pc, struct symbol *out) {
    Dl_info info;
    *out = (struct symbol){.function = "unknown", .offset = pc};
    if (!dladdr((void *)pc, &info))
        return;
    if (info.dli_sname && info.dli_saddr) {
        out->function = info.dli_sname;
        out->offset = pc - (uintptr_t)info.dli_saddr;
    } else if (info.dli_fname) {
        const char *slash = strrchr(info.dli_fname, '/');
        out->function = slash ? slash + 1 : info.dli_fname;
        out->offset = pc - (uintptr_t)info.dli_fbase;
    }
}

unsigned symbol_of(uintptr_t pc, struct symbol *out, unsigned max) {
    ASSERT(max >= 1);
    const struct symbolizer *symbolizer = atomic_load_explicit(&finder, memory_order_acquire);
    unsigned count = symbolizer ? symbolizer->find(pc, out, max) : 0;
    if (count > 0)
        return count;
    ask_loader(pc, out);
    return 1;
}
