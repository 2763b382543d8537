/* symbol: asks the layer above, else the loader.
 *
 * Order  The symbolizer and the modules are published with release and read with acquire. */
#include "rt/symbol.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

#include "base/check.h"

static _Atomic(const struct symbolizer *) finder;
static _Atomic(struct symbol_module *) modules; /* grows at its head */

void symbol_set_finder(const struct symbolizer *symbolizer) {
    atomic_store_explicit(&finder, symbolizer, memory_order_release);
}

void symbol_add_module(struct symbol_module *module) {
    struct symbol_module *first = atomic_load_explicit(&modules, memory_order_relaxed);
    do
        module->next = first;
    while (!atomic_compare_exchange_weak_explicit(&modules, &first, module, memory_order_release,
                                                  memory_order_relaxed));
}

const struct symbol_module *symbol_modules(void) {
    return atomic_load_explicit(&modules, memory_order_acquire);
}

const struct symbol_module *symbol_module_at(uintptr_t base) {
    const struct symbol_module *module = symbol_modules();
    while (module && module->base != base)
        module = module->next;
    return module;
}

const char *symbol_file_name(const void *base, const char *otherwise) {
    const struct symbol_module *module = symbol_module_at((uintptr_t)base);
    const char *file = module ? module->file : otherwise;
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
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
        out->function = symbol_file_name(info.dli_fbase, info.dli_fname);
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
