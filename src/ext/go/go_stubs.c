/* go_stubs: the dynamic loader refuses a library of which a symbol is missing, and it takes symbols from ELF files
 * only. So a small one is made in memory and loaded before: it defines each name as a few instructions
 * that tell the function below which name was called. Addresses of this process are written into it
 * as they are, so it needs no relocations.
 *
 *     page 0, may be run:  ELF header │ program headers │ hash │ symbols │ names │ stubs
 *     page 1, may be written:  the dynamic section (the loader puts addresses there)
 *
 * Rejected: RTLD_LAZY, by which a missing function ends the process at its first call, and which does nothing for
 * libraries linked with -z now; writing into a loaded library's jump slots, for the same libraries'
 * slots are read-only by then. */
#include "ext/go/go_stubs.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/intern.h"
#include "base/stats.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_log.h"

/* ---- what is called ---- */

struct stub {
    struct stub *next;
    const char *name; /* interned */
    atomic_flag told;
};
/* Grows at its head; whole before it is reached, so that readers need no lock. */
static _Atomic(struct stub *) stubs;

static struct stub *stub_find(const char *name) {
    struct stub *stub = atomic_load_explicit(&stubs, memory_order_acquire); /* pairs with add */
    while (stub && strcmp(stub->name, name) != 0)
        stub = stub->next;
    return stub;
}

static int stub_add(const char *name) {
    struct stub *stub = calloc(1, sizeof(*stub));
    if (!stub || !(stub->name = intern(span_of(name), SIZE_MAX))) {
        free(stub);
        return -ENOMEM;
    }
    atomic_flag_clear(&stub->told);
    stub->next = atomic_load_explicit(&stubs, memory_order_relaxed);
    atomic_store_explicit(&stubs, stub, memory_order_release);
    return 0;
}

/* From a stub, on a thread of Go's; name lies in the stubs' own file. */
static int64_t missing_called(const char *name) {
    static const struct span counter = SPAN_INIT("golang.missing_calls");
    stat_inc(stats_get(STAT_COUNTER, counter, counter, NULL, 0), STATS_SHARD_FOREIGN);
    struct stub *stub = stub_find(name);
    if (stub && !atomic_flag_test_and_set_explicit(&stub->told, memory_order_relaxed))
        LOG(log_golang, LOG_ERROR,
            "a plugin calls %s of an SDK newer than this release knows: it fails with %d, from now "
            "on "
            "without this line",
            name, (int)GO_INTERNAL_FAILURE);
    return GO_INTERNAL_FAILURE;
}

/* ---- the file ---- */

enum {
    PAGE = 64 * 1024, /* the largest that aarch64 has */
    CODE_SIZE = 32,
    DYNAMIC_ENTRIES = 7,
};

/* name_at: from the code's first byte. */
static void put_code(unsigned char code[CODE_SIZE], int64_t name_at) {
    const uintptr_t target = (uintptr_t)missing_called;
#if defined(__x86_64__)
    /* endbr64; lea rdi, [rip + name]; movabs rax, target; jmp rax */
    static const unsigned char text[] = {0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8d, 0x3d, 0,
                                         0,    0,    0,    0x48, 0xb8, 0,    0,    0,
                                         0,    0,    0,    0,    0,    0xff, 0xe0};
    enum { NAME_AT = 7, NAME_END = 11, TARGET_AT = 13 };
    const int32_t distance = (int32_t)(name_at - NAME_END);
    memcpy(code, text, sizeof(text));
    memcpy(code + NAME_AT, &distance, sizeof(distance));
    memcpy(code + TARGET_AT, &target, sizeof(target));
#elif defined(__aarch64__)
    /* bti c; adr x0, name; ldr x16, target; br x16; target: */
    enum { ADR_AT = 4, TARGET_AT = 16 };
    const uint64_t distance = (uint64_t)(name_at - ADR_AT);
    const uint32_t text[] = {
        0xd503245f,
        (uint32_t)(0x10000000 | (distance & 3) << 29 | (distance >> 2 & 0x7ffff) << 5),
        0x58000050, /* from 8 bytes on */
        0xd61f0200,
    };
    memcpy(code, text, sizeof(text));
    memcpy(code + TARGET_AT, &target, sizeof(target));
#else
#error "no stubs for this machine"
#endif
}

struct file {
    Elf64_Ehdr header;
    Elf64_Phdr parts[4];
    struct { /* one bucket: there are few */
        uint32_t bucket_count, chain_count, bucket, chain[GO_STUBS_AT_ONCE_MAX + 1];
    } hash;
    Elf64_Sym symbols[GO_STUBS_AT_ONCE_MAX + 1];
    char names[(GO_STUBS_AT_ONCE_MAX + 1) * GO_STUB_NAME_MAX]; /* slot 0: empty, then the SONAME */
    _Alignas(CODE_SIZE) unsigned char code[GO_STUBS_AT_ONCE_MAX][CODE_SIZE];
    _Alignas(PAGE) Elf64_Dyn dynamic[DYNAMIC_ENTRIES];
};
static_assert(offsetof(struct file, dynamic) == PAGE, "one page that may be run");

static void put_header(struct file *file) {
    file->header = (Elf64_Ehdr) {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_DYN,
#if defined(__x86_64__)
        .e_machine = EM_X86_64,
#else
        .e_machine = EM_AARCH64,
#endif
        .e_version = EV_CURRENT, .e_phoff = offsetof(struct file, parts),
        .e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 4,
    };
    const Elf64_Phdr run = {.p_type = PT_LOAD,
                            .p_flags = PF_R | PF_X,
                            .p_filesz = PAGE,
                            .p_memsz = PAGE,
                            .p_align = PAGE};
    const Elf64_Phdr write = {.p_type = PT_LOAD,
                              .p_flags = PF_R | PF_W,
                              .p_offset = PAGE,
                              .p_vaddr = PAGE,
                              .p_paddr = PAGE,
                              .p_filesz = sizeof(file->dynamic),
                              .p_memsz = sizeof(file->dynamic),
                              .p_align = PAGE};
    Elf64_Phdr dynamic = write;
    dynamic.p_type = PT_DYNAMIC;
    dynamic.p_align = 8;
    /* Without this the loader would make all stacks executable. */
    const Elf64_Phdr stack = {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_align = 16};
    file->parts[0] = run;
    file->parts[1] = write;
    file->parts[2] = dynamic;
    file->parts[3] = stack;
    const Elf64_Dyn entries[DYNAMIC_ENTRIES] = {
        {DT_SONAME, {1}},
        {DT_HASH, {offsetof(struct file, hash)}},
        {DT_SYMTAB, {offsetof(struct file, symbols)}},
        {DT_SYMENT, {sizeof(Elf64_Sym)}},
        {DT_STRTAB, {offsetof(struct file, names)}},
        {DT_STRSZ, {sizeof(file->names)}},
        {DT_NULL, {0}},
    };
    memcpy(file->dynamic, entries, sizeof(entries));
}

static void put_stub(struct file *file, uint32_t index, const char *name) {
    uint32_t name_at = (index + 1) * GO_STUB_NAME_MAX, symbol = index + 1;
    (void)snprintf(file->names + name_at, GO_STUB_NAME_MAX, "%s", name);
    uint64_t code_at = offsetof(struct file, code) + (uint64_t)index * CODE_SIZE;
    file->symbols[symbol] = (Elf64_Sym){
        .st_name = name_at,
        .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
        .st_shndx = 1, /* any that is not undefined */
        .st_value = code_at,
        .st_size = CODE_SIZE,
    };
    put_code(file->code[index],
             (int64_t)(offsetof(struct file, names) + name_at) - (int64_t)code_at);
    file->hash.chain[symbol] = file->hash.bucket;
    file->hash.bucket = symbol;
}

/* The loader takes two files of one path for one, even when the first is long closed and another has its
 * descriptor: each has so many more of "./" in its path. */
static NOINLINE int load(const struct file *file, unsigned number) {
    enum { FILES_MAX = 1000 };
    if (number >= FILES_MAX)
        return -ENOSPC;
    int fd = memfd_create("sluice-stubs", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int err = write(fd, file, sizeof(*file)) == (ssize_t)sizeof(*file) ? 0 : -EIO;
    char path[2 * FILES_MAX + 32] = "/proc/self/fd/";
    size_t len = strlen(path);
    for (unsigned i = 0; i < number; i++, len += 2)
        memcpy(path + len, "./", 2);
    (void)snprintf(path + len, sizeof(path) - len, "%d", fd);
    if (!err && !dlopen(path, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE))
        err = -EACCES;
    (void)close(fd); /* it is mapped */
    return err;
}

int go_stubs_define(char (*names)[GO_STUB_NAME_MAX], size_t count) {
    static unsigned number;
    ASSERT(count <= GO_STUBS_AT_ONCE_MAX);
    struct file *file = aligned_alloc(PAGE, sizeof(*file));
    if (!file)
        return -ENOMEM;
    memset(file, 0, sizeof(*file));
    put_header(file);
    uint32_t fresh = 0;
    int err = 0;
    for (size_t i = 0; i < count && !err; i++) {
        if (stub_find(names[i]))
            continue;
        put_stub(file, fresh++, names[i]);
    }
    file->hash.bucket_count = 1;
    file->hash.chain_count = fresh + 1;
    (void)snprintf(file->names + 1, GO_STUB_NAME_MAX - 1, "sluice-stubs-%u", number);
    if (fresh)
        err = load(file, number++);
    for (uint32_t i = 0; i < fresh && !err; i++)
        err = stub_add(file->names + (i + 1) * GO_STUB_NAME_MAX);
    free(file);
    return err;
}
