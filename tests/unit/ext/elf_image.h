/* elf_image: makes small ELF files that look like Go libraries, for tests of what reads them. */
#pragma once
#include <elf.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#define ELF_IMAGE_MACHINE EM_X86_64
#else
#define ELF_IMAGE_MACHINE EM_AARCH64
#endif

struct elf_image {
    char bytes[16384];
    size_t size;
};

static inline size_t elf_put(struct elf_image *image, const void *bytes, size_t size) {
    size_t at = (image->size + 15) & ~(size_t)15;
    memcpy(image->bytes + at, bytes, size);
    image->size = at + size;
    return at;
}

/* names: of dynamic symbols, "-" before undefined ones, ends in NULL. modules may be NULL. needed: a library. */
static inline void elf_make_needing(struct elf_image *image, const char *const *names,
                                    const char *modules, const char *needed) {
    memset(image, 0, sizeof(*image));
    image->size = sizeof(Elf64_Ehdr);

    static const char section_names[] = "\0.dynsym\0.dynstr\0.go.buildinfo\0.shstrtab\0.dynamic";
    Elf64_Shdr sections[6] = {0};
    sections[4].sh_name = 31;
    sections[4].sh_type = SHT_STRTAB;
    sections[4].sh_offset = elf_put(image, section_names, sizeof(section_names));
    sections[4].sh_size = sizeof(section_names);

    char strings[4096] = "";
    size_t strings_len = 1;
    Elf64_Sym symbols[64] = {{0}};
    size_t count = 1;
    for (; *names; names++, count++) {
        const char *name = *names + (**names == '-');
        symbols[count].st_name = (Elf64_Word)strings_len;
        symbols[count].st_shndx = **names == '-' ? SHN_UNDEF : 1;
        memcpy(strings + strings_len, name, strlen(name) + 1);
        strings_len += strlen(name) + 1;
    }
    size_t needed_at = strings_len;
    memcpy(strings + strings_len, needed, strlen(needed) + 1);
    strings_len += strlen(needed) + 1;
    const Elf64_Dyn dynamic[] = {{.d_tag = DT_FLAGS, .d_un.d_val = DF_STATIC_TLS},
                                 {.d_tag = DT_NEEDED, .d_un.d_val = needed_at},
                                 {.d_tag = DT_NULL}};
    sections[5].sh_name = 41;
    sections[5].sh_type = SHT_DYNAMIC;
    sections[5].sh_offset = elf_put(image, dynamic, sizeof(dynamic));
    sections[5].sh_size = sizeof(dynamic);
    sections[5].sh_link = 2;
    sections[1].sh_name = 1;
    sections[1].sh_type = SHT_DYNSYM;
    sections[1].sh_offset = elf_put(image, symbols, count * sizeof(symbols[0]));
    sections[1].sh_size = count * sizeof(symbols[0]);
    sections[1].sh_link = 2;
    sections[2].sh_name = 9;
    sections[2].sh_type = SHT_STRTAB;
    sections[2].sh_offset = elf_put(image, strings, strings_len);
    sections[2].sh_size = strings_len;

    char info[2048] = "\xff Go buildinf:";
    size_t len = 32;
    info[15] = 2;
    info[len++] = 6;
    memcpy(info + len, "go1.99", 6);
    len += 6;
    if (modules) {
        size_t n = strlen(modules) + 32;
        info[len++] = (char)((n & 0x7f) | 0x80);
        info[len++] = (char)(n >> 7);
        memset(info + len, '*', n);
        memcpy(info + len + 16, modules, strlen(modules));
        len += n;
    } else {
        info[len++] = 0;
    }
    sections[3].sh_name = 17;
    sections[3].sh_type = SHT_PROGBITS;
    sections[3].sh_offset = elf_put(image, info, len);
    sections[3].sh_size = len;

    Elf64_Ehdr file = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_DYN,
        .e_machine = ELF_IMAGE_MACHINE,
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = 6,
        .e_shstrndx = 4,
    };
    file.e_shoff = elf_put(image, sections, sizeof(sections));
    memcpy(image->bytes, &file, sizeof(file));
}

struct elf_note {
    const char *name;
    unsigned type;
    const void *content;
    size_t len;
};

/* Adds a segment with these notes, up to one without a name; align is 4 or 8. */
static inline void elf_add_notes(struct elf_image *image, const struct elf_note *notes,
                                 size_t align) {
    char segment[8192];
    size_t len = 0;
    for (; notes->name; notes++) {
        Elf64_Nhdr head = {.n_namesz = (Elf64_Word)(strlen(notes->name) + 4) & ~3u,
                           .n_descsz = (Elf64_Word)notes->len,
                           .n_type = notes->type};
        memset(segment + len, 0, sizeof(head) + head.n_namesz + head.n_descsz + 16);
        memcpy(segment + len, &head, sizeof(head));
        memcpy(segment + len + sizeof(head), notes->name, strlen(notes->name));
        len = (len + sizeof(head) + head.n_namesz + align - 1) & ~(align - 1);
        memcpy(segment + len, notes->content, notes->len);
        len = (len + notes->len + align - 1) & ~(align - 1);
    }
    Elf64_Ehdr file;
    memcpy(&file, image->bytes, sizeof(file));
    Elf64_Phdr headers[4] = {{0}};
    memcpy(headers, image->bytes + file.e_phoff, file.e_phnum * sizeof(headers[0]));
    headers[file.e_phnum++] = (Elf64_Phdr){.p_type = PT_NOTE,
                                           .p_offset = elf_put(image, segment, len),
                                           .p_filesz = len,
                                           .p_align = align};
    file.e_phentsize = sizeof(headers[0]);
    file.e_phoff = elf_put(image, headers, file.e_phnum * sizeof(headers[0]));
    memcpy(image->bytes, &file, sizeof(file));
}

static inline void elf_make(struct elf_image *image, const char *const *names,
                            const char *modules) {
    elf_make_needing(image, names, modules, "libc.so.6");
}

#define ELF_IMAGE_31                                                                               \
    "-envoyGoFilterHttpContinue", "-malloc", "envoyGoFilterNewHttpPluginConfig",                   \
        "envoyGoFilterDestroyHttpPluginConfig", "envoyGoFilterMergeHttpPluginConfig",              \
        "envoyGoFilterOnHttpHeader", "envoyGoFilterOnHttpData", "envoyGoFilterOnHttpLog",          \
        "envoyGoFilterOnHttpDestroy"
#define ELF_IMAGE_MODULES(version)                                                                 \
    "path\tx\nmod\tx\t(devel)\t\ndep\tgithub.com/envoyproxy/envoy\t" version "\th1:abc=\n"
