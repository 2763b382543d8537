/* symbols: asks libdw, once per address.
 *
 * The first question opens the debug data of everything that is loaded, tens of milliseconds and tens of
 * megabytes; later ones are a look into a table. A library that was loaded since is noticed by the
 * loader's counter, when an address is in no module that is known. symbols_rest closes all of it again.
 *
 * Inlined functions are found by going down the tree of scopes from the function: each level says who
 * was inlined and where the call was, so the line of one level is the call line of the next.
 *
 * No network  libdw's usual search would ask debuginfod servers; ours looks on this machine only.
 * Ownership   All that was found is kept for ever, in copies.
 * Threads     symbols_lock guards all. Its holders read files, so none of them has a P. */
#include "admin/symbols.h"

#include <dwarf.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/span.h"
#include "rt/symbol.h"

struct known {
    uintptr_t pc; /* 0: a free slot */
    unsigned count;
    struct symbol *symbols; /* owned for ever; NULL when count is 0 */
};

static pthread_mutex_t symbols_lock = PTHREAD_MUTEX_INITIALIZER;
static Dwfl *dwfl;
static pid_t subject; /* 0: this process */
static unsigned long long adds_seen;
static struct known *table; /* open addressing */
static size_t table_size, table_count;

/* ---- Modules ---- */

static int find_debuginfo(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base,
                          const char *file_name, const char *debuglink_file,
                          GElf_Word debuglink_crc, char **debuginfo_file_name) {
    return dwfl_build_id_find_debuginfo(module, userdata, name, base, file_name, debuglink_file,
                                        debuglink_crc, debuginfo_file_name);
}

/* Of a program that was replaced on disk the name is another file's by now, or no one's. */
static int open_program(const char *name) {
    char link[64], target[PATH_MAX];
    (void)snprintf(link, sizeof link, "/proc/%d/exe", (int)(subject ? subject : getpid()));
    ssize_t len = readlink(link, target, sizeof target - 1);
    if (len < 0)
        return -1;
    target[len] = '\0';
    return strcmp(name, target) == 0 ? open(link, O_RDONLY | O_CLOEXEC) : -1;
}

/* Of a library that was loaded from a copy the mapping's name is no file's. */
static int find_elf(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base,
                    char **file_name, Elf **elf) {
    const struct symbol_module *known = symbol_module_at(base);
    int fd = known ? open(known->bytes, O_RDONLY | O_CLOEXEC) : open_program(name);
    if (fd >= 0)
        *file_name = strdup(known ? known->file : name); /* libdw frees it */
    else if (!known)
        fd = dwfl_linux_proc_find_elf(module, userdata, name, base, file_name, elf);
    return fd;
}

static const Dwfl_Callbacks callbacks = {.find_elf = find_elf, .find_debuginfo = find_debuginfo};

static int note_adds(struct dl_phdr_info *info, size_t size, void *arg) {
    *(unsigned long long *)arg = info->dlpi_adds;
    return 1; /* all entries say the same */
}

static Dwfl_Module *module_of_locked(uintptr_t pc) {
    Dwfl_Module *module = dwfl ? dwfl_addrmodule(dwfl, pc) : NULL;
    if (module)
        return module;
    unsigned long long adds = 0;
    (void)dl_iterate_phdr(note_adds, &adds);
    if (dwfl && adds == adds_seen)
        return NULL;
    if (dwfl)
        dwfl_report_begin_add(dwfl);
    else
        dwfl = dwfl_begin(&callbacks);
    if (!dwfl)
        return NULL;
    adds_seen = adds;
    (void)dwfl_linux_proc_report(
        dwfl, subject ? subject : getpid()); /* what could not be read is not there */
    (void)dwfl_report_end(dwfl, NULL, NULL);
    return dwfl_addrmodule(dwfl, pc);
}

/* ---- One address ---- */

/* Compilers note paths as they were called, "../src/x.c", "/build/../src/x.c": without detours. Owned. */
static char *plain_path(const char *path) {
    while (strncmp(path, "../", 3) == 0)
        path += 3;
    char *plain = strdup(path);
    for (char *up; plain && (up = strstr(plain, "/../"));) {
        char *from = up;
        while (from > plain && from[-1] != '/')
            from--;
        memmove(from, up + 4, strlen(up + 4) + 1);
    }
    return plain;
}

static bool child_with(Dwarf_Die *parent, Dwarf_Addr pc, Dwarf_Die *out) {
    Dwarf_Die child;
    for (int rc = dwarf_child(parent, &child); rc == 0; rc = dwarf_siblingof(&child, &child)) {
        int tag = dwarf_tag(&child);
        if ((tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine ||
             tag == DW_TAG_lexical_block) &&
            dwarf_haspc(&child, pc) > 0) {
            *out = child;
            return true;
        }
    }
    return false;
}

static const char *name_of(Dwarf_Die *die) {
    Dwarf_Attribute attr;
    return dwarf_formstring(dwarf_attr_integrate(die, DW_AT_name, &attr));
}

static unsigned number_of(Dwarf_Die *die, unsigned attribute) {
    Dwarf_Attribute attr;
    Dwarf_Word value = 0;
    if (dwarf_formudata(dwarf_attr(die, attribute, &attr), &value) != 0)
        return 0;
    return (unsigned)value;
}

/* The functions inlined at pc, innermost last. */
static unsigned inlined_at(Dwarf_Die *cu, Dwarf_Addr pc, Dwarf_Die *out, unsigned max) {
    unsigned count = 0;
    Dwarf_Die scope = *cu, child;
    while (count < max && child_with(&scope, pc, &child)) {
        scope = child;
        if (dwarf_tag(&scope) == DW_TAG_inlined_subroutine)
            out[count++] = scope;
    }
    return count;
}

/* libdw looks it up in a table that C compilers write and Go's does not, and takes the nearest one below when there is
 * none: all of Go would be in the last C file of its library. */
static Dwarf_Die *unit_of(Dwfl_Module *module, uintptr_t pc, Dwarf_Addr *bias) {
    Dwarf_Die *unit = dwfl_module_addrdie(module, pc, bias);
    if (unit && dwarf_haspc(unit, pc - *bias) > 0)
        return unit;
    for (unit = NULL; (unit = dwfl_module_nextcu(module, unit, bias));)
        if (dwarf_haspc(unit, pc - *bias) > 0)
            return unit;
    return NULL;
}

static void set_line(struct symbol *symbol, Dwarf_Die *unit, Dwarf_Addr pc) {
    Dwarf_Line *line = dwarf_getsrc_die(unit, pc);
    int number = 0;
    const char *file = line ? dwarf_linesrc(line, NULL, NULL) : NULL;
    if (file && dwarf_lineno(line, &number) == 0) {
        symbol->file = plain_path(file);
        symbol->line = (unsigned)number;
    }
}

static unsigned look_up_locked(uintptr_t pc, struct symbol *out, unsigned max) {
    Dwfl_Module *module = module_of_locked(pc);
    if (!module)
        return 0;
    GElf_Off offset;
    GElf_Sym sym;
    const char *function = dwfl_module_addrinfo(module, pc, &offset, &sym, NULL, NULL, NULL);
    if (!function)
        return 0;
    struct symbol at = {.function = function, .offset = offset};
    Dwarf_Addr bias;
    Dwarf_Die *cu = unit_of(module, pc, &bias);
    if (cu)
        set_line(&at, cu, pc - bias);
    Dwarf_Die inlined[SYMBOL_INLINED_MAX];
    Dwarf_Files *files = NULL;
    unsigned depth = cu ? inlined_at(cu, pc - bias, inlined, max - 1) : 0;
    if (depth > 0 && dwarf_getsrcfiles(cu, &files, NULL) != 0)
        files = NULL;
    unsigned count = 0;
    while (depth-- > 0) {
        const char *name = name_of(&inlined[depth]);
        if (!name)
            continue;
        out[count] = at;
        out[count++].function = name;
        const char *file =
            files ? dwarf_filesrc(files, number_of(&inlined[depth], DW_AT_call_file), NULL, NULL)
                  : NULL;
        at.file = file ? plain_path(file) : NULL;
        at.line = number_of(&inlined[depth], DW_AT_call_line);
    }
    out[count++] = at;
    return count;
}

/* ---- What is known ---- */

/* The slot of pc, or the one where it goes. */
static struct known *slot_of(struct known *slots, size_t size, uintptr_t pc) {
    size_t i = (pc * 0x9e3779b97f4a7c15ULL) >> 32 & (size - 1);
    while (slots[i].pc != 0 && slots[i].pc != pc)
        i = (i + 1) & (size - 1);
    return &slots[i];
}

/* Room for one more; false when memory is short. */
static bool grow_locked(void) {
    if (table_size > 0 && table_count < table_size / 2)
        return true;
    size_t size = table_size ? 2 * table_size : 1024;
    struct known *slots = calloc(size, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < table_size; i++)
        if (table[i].pc != 0)
            *slot_of(slots, size, table[i].pc) = table[i];
    free(table);
    table = slots;
    table_size = size;
    return true;
}

/* In place of libdw's. False when memory is short. */
static bool own_names(struct symbol *symbols, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        symbols[i].function = strdup(symbols[i].function);
        if (symbols[i].function)
            continue;
        while (i-- > 0)
            free((char *)(uintptr_t)symbols[i].function);
        return false;
    }
    return true;
}

static unsigned find_locked(uintptr_t pc, struct symbol *out, unsigned max) {
    if (pc == 0 || !grow_locked())
        return 0;
    struct known *known = slot_of(table, table_size, pc);
    if (known->pc == 0) {
        struct symbol *kept = malloc(SYMBOL_INLINED_MAX * sizeof *kept);
        unsigned count = kept ? look_up_locked(pc, kept, SYMBOL_INLINED_MAX) : 0;
        if (count == 0 || !own_names(kept, count)) { /* a library that comes later may have it */
            free(kept);
            return 0;
        }
        struct symbol *shrunk = realloc(kept, count * sizeof *kept);
        if (shrunk)
            kept = shrunk;
        *known = (struct known){.pc = pc, .count = count, .symbols = kept};
        table_count++;
    }
    unsigned count = known->count < max ? known->count : max;
    /* The outermost ones: among them is the function that has the offset. */
    memcpy(out, known->symbols + (known->count - count), count * sizeof *out);
    return count;
}

unsigned symbols_find(uintptr_t pc, struct symbol *out, unsigned max) {
    pthread_mutex_lock(&symbols_lock);
    unsigned count = find_locked(pc, out, max);
    pthread_mutex_unlock(&symbols_lock);
    return count;
}

void symbols_rest(void) {
    pthread_mutex_lock(&symbols_lock);
    if (dwfl)
        dwfl_end(dwfl);
    dwfl = NULL;
    pthread_mutex_unlock(&symbols_lock);
}

static const struct symbolizer symbolizer = {.find = symbols_find};

void symbols_init(void) {
    symbol_set_finder(&symbolizer);
}

/* ---- Of another process ---- */

void symbols_of_process(pid_t pid) {
    subject = pid;
}

static void describe_module(Dwfl_Module *module, struct symbols_module *out) {
    Dwarf_Addr base = 0;
    const char *name = dwfl_module_info(module, NULL, &base, NULL, NULL, NULL, NULL, NULL);
    const struct symbol_module *known = symbol_module_at(base);
    *out = (struct symbols_module){.file = known ? known->file : name ? name : "", .base = base};
    const unsigned char *bits;
    GElf_Addr address, bias;
    (void)dwfl_module_getelf(module, &bias); /* its id is read with it; else there is none */
    int len = dwfl_module_build_id(module, &bits, &address);
    if (len > 0 && 2 * (size_t)len < sizeof out->build_id)
        out->build_id[span_put_hex(out->build_id, bits, (size_t)len)] = '\0';
}

bool symbols_module_of(uintptr_t pc, struct symbols_module *out) {
    pthread_mutex_lock(&symbols_lock);
    Dwfl_Module *module = module_of_locked(pc);
    if (module)
        describe_module(module, out);
    pthread_mutex_unlock(&symbols_lock);
    return module != NULL;
}

struct telling {
    void (*fn)(const struct symbols_module *module, void *arg);
    void *arg;
};

static int tell_module(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base,
                       void *arg) {
    const struct telling *telling = arg;
    struct symbols_module described;
    describe_module(module, &described);
    telling->fn(&described, telling->arg);
    return DWARF_CB_OK;
}

void symbols_each_module(void (*fn)(const struct symbols_module *module, void *arg), void *arg) {
    struct telling telling = {fn, arg};
    pthread_mutex_lock(&symbols_lock);
    (void)module_of_locked(0); /* so that they are known */
    if (dwfl)
        (void)dwfl_getmodules(dwfl, tell_module, &telling, 0);
    pthread_mutex_unlock(&symbols_lock);
}
