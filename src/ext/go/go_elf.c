/* go_elf: every offset and length in the file is checked against the image before use, through two
 * functions: `part` (a range of the image) and `text_at` (a NUL-terminated name in a string table).
 * Structs are copied out with memcpy because nothing says that they are aligned.
 *
 * Which SDK it is: the build information names the module's version, but builds outside of Go modules
 * leave it out, so the level is read from the symbols, which every version changed: AddData is called
 * since 1.33, StreamComplete is defined since 1.32. An SDK before 1.31 hands other structs to the
 * same names and must not be loaded; without StreamComplete only the module's version tells.
 *
 * A newer SDK calls functions that we lack. As long as it offers all that we call, and has the same major
 * version, the rest of the interface is taken to be what it was: the names are listed, for stubs. */
#include "ext/go/go_elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { HOST_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { HOST_MACHINE = EM_AARCH64 };
#else
#error "no Go host for this machine"
#endif

__attribute__((format(printf, 2, 3))) static int refuse(char why[GO_ELF_WHY_MAX],
                                                        const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, GO_ELF_WHY_MAX, format, args);
    va_end(args);
    return -EINVAL;
}

/* The absent span when the range is not inside. */
static struct span part(struct span image, uint64_t offset, uint64_t size) {
    if (offset > image.len || size > image.len - offset)
        return span_none();
    return span_make(image.ptr + offset, (size_t)size);
}

/* Up to the NUL; the absent span when there is none. */
static struct span text_at(struct span table, uint64_t offset) {
    if (offset >= table.len)
        return span_none();
    const char *start = table.ptr + offset;
    const char *end = memchr(start, 0, table.len - (size_t)offset);
    return end ? span_make(start, (size_t)(end - start)) : span_none();
}

struct sections {
    struct span symbols, names, build_info, dynamic, dynamic_names;
};

static bool section_header(struct span headers, unsigned index, Elf64_Shdr *out) {
    struct span bytes = part(headers, (uint64_t)index * sizeof(*out), sizeof(*out));
    if (span_is_none(bytes))
        return false;
    memcpy(out, bytes.ptr, sizeof(*out));
    return true;
}

static int find_sections(struct span image, const Elf64_Ehdr *file, struct sections *out,
                         char why[GO_ELF_WHY_MAX]) {
    struct span headers = part(image, file->e_shoff, (uint64_t)file->e_shnum * sizeof(Elf64_Shdr));
    if (file->e_shoff == 0 || file->e_shnum == 0 || file->e_shentsize != sizeof(Elf64_Shdr) ||
        span_is_none(headers))
        return refuse(why, "the ELF file has no section headers, so its SDK cannot be told");
    Elf64_Shdr section, strings;
    struct span names = span_none();
    if (section_header(headers, file->e_shstrndx, &strings))
        names = part(image, strings.sh_offset, strings.sh_size);
    if (span_is_none(names))
        return refuse(why, "the ELF file is damaged: no section names");
    for (unsigned i = 0; i < file->e_shnum; i++) {
        if (!section_header(headers, i, &section) || section.sh_type == SHT_NOBITS)
            continue;
        struct span content = part(image, section.sh_offset, section.sh_size);
        if (section.sh_type == SHT_DYNSYM) {
            out->symbols = content;
            if (section_header(headers, section.sh_link, &strings))
                out->names = part(image, strings.sh_offset, strings.sh_size);
        } else if (section.sh_type == SHT_DYNAMIC) {
            out->dynamic = content;
            if (section_header(headers, section.sh_link, &strings))
                out->dynamic_names = part(image, strings.sh_offset, strings.sh_size);
        } else if (span_eq(text_at(names, section.sh_name), SPAN_LIT(".go.buildinfo"))) {
            out->build_info = content;
        }
    }
    if (span_is_none(out->symbols) || span_is_none(out->names))
        return refuse(why, "the ELF file is damaged or no library: no dynamic symbols");
    return 0;
}

/* One that was linked with musl needs that C library, of which there can be no second one in a process: the dynamic loader
 * finds none, or a linker script of glibc's. musl's own name is libc.so, and libc.musl-MACHINE.so.1 on Alpine. */
static int check_libc(const struct sections *sections, char why[GO_ELF_WHY_MAX]) {
    struct span dynamic = sections->dynamic;
    for (; dynamic.len >= sizeof(Elf64_Dyn); dynamic = span_from(dynamic, sizeof(Elf64_Dyn))) {
        Elf64_Dyn entry;
        memcpy(&entry, dynamic.ptr, sizeof(entry));
        if (entry.d_tag != DT_NEEDED)
            continue;
        struct span name = text_at(sections->dynamic_names, entry.d_un.d_val);
        if (span_eq(name, SPAN_LIT("libc.so")) || span_starts_with(name, SPAN_LIT("libc.musl-")) ||
            span_starts_with(name, SPAN_LIT("ld-musl-")))
            return refuse(
                why,
                "built with musl (it needs %.*s), and this is a glibc: build it where the C "
                "library is one too, such as Debian (golang:bookworm), not Alpine",
                (int)(name.len < 60 ? name.len : 60), name.ptr);
    }
    return 0;
}

/* A varint length, then as many bytes. */
static struct span varint_text(struct span *rest) {
    uint64_t len = 0;
    for (unsigned shift = 0; shift < 64 && rest->len > 0; shift += 7) {
        unsigned char byte = (unsigned char)rest->ptr[0];
        *rest = span_from(*rest, 1);
        len |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80)
            continue;
        struct span text = part(*rest, 0, len);
        if (!span_is_none(text))
            *rest = span_from(*rest, text.len);
        return text;
    }
    return span_none();
}

static void copy_word(char *out, size_t size, struct span word) {
    size_t len = word.len < size - 1 ? word.len : size - 1;
    if (len)
        memcpy(out, word.ptr, len);
    out[len] = 0;
}

static struct span take_until(struct span *rest, char separator) {
    ptrdiff_t at = span_find(*rest, separator);
    struct span word = at < 0 ? *rest : span_make(rest->ptr, (size_t)at);
    *rest = at < 0 ? span_make(rest->ptr + rest->len, 0) : span_from(*rest, (size_t)at + 1);
    return word;
}

/* "dep\tgithub.com/envoyproxy/envoy\tv1.33.0\th1:...\n", perhaps followed by "=>\tpath\tversion". */
static void read_modules(struct span list, struct go_elf *out) {
    bool in_sdk = false;
    while (list.len > 0) {
        struct span line = take_until(&list, '\n');
        struct span kind = take_until(&line, '\t');
        struct span path = take_until(&line, '\t');
        struct span version = take_until(&line, '\t');
        if (in_sdk && span_eq(kind, SPAN_LIT("=>"))) {
            if (version.len > 0)
                copy_word(out->sdk_version, sizeof(out->sdk_version), version);
            return;
        }
        in_sdk = (span_eq(kind, SPAN_LIT("dep")) || span_eq(kind, SPAN_LIT("mod"))) &&
                 span_eq(path, SPAN_LIT("github.com/envoyproxy/envoy"));
        if (in_sdk)
            copy_word(out->sdk_version, sizeof(out->sdk_version), version);
    }
}

static int read_build_info(struct span info, struct go_elf *out, char why[GO_ELF_WHY_MAX]) {
    enum { HEADER_SIZE = 32, FLAGS_AT = 15, FLAG_INLINE = 2 };
    static const char magic[] = "\xff Go buildinf:";
    if (info.len < HEADER_SIZE || memcmp(info.ptr, magic, sizeof(magic) - 1) != 0)
        return refuse(why, "not a Go library: no build information");
    if (!(info.ptr[FLAGS_AT] & FLAG_INLINE))
        return refuse(why, "built with a Go older than 1.18");
    struct span rest = span_from(info, HEADER_SIZE);
    copy_word(out->go_version, sizeof(out->go_version), varint_text(&rest));
    struct span modules = varint_text(&rest);
    enum { SENTINEL = 16 }; /* of the linker, before and behind the list */
    if (modules.len > 2 * SENTINEL)
        read_modules(span_make(modules.ptr + SENTINEL, modules.len - 2 * SENTINEL), out);
    return 0;
}

/* "v1.33.0" -> 1, 33. */
static bool sdk_numbers(const char *version, unsigned *major, unsigned *minor) {
    return sscanf(version, "v%4u.%4u.", major, minor) == 2;
}

struct symbols_seen {
    bool new_config, destroy_config, merge_config, header, data, log, complete, destroy, add_data;
};

/* False when there is no room for it. */
static bool note_missing(struct span name, struct go_elf *out) {
    if (out->missing_count == GO_STUBS_AT_ONCE_MAX || name.len >= GO_STUB_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] != '_' && (name.ptr[i] < '0' || name.ptr[i] > '9') &&
            ((name.ptr[i] | 0x20) < 'a' || (name.ptr[i] | 0x20) > 'z'))
            return false;
    copy_word(out->missing[out->missing_count++], GO_STUB_NAME_MAX, name);
    return true;
}

static int read_symbols(const struct sections *sections, go_elf_known_fn known, struct go_elf *out,
                        struct symbols_seen *seen, char why[GO_ELF_WHY_MAX]) {
    struct span symbols = sections->symbols;
    for (; symbols.len >= sizeof(Elf64_Sym); symbols = span_from(symbols, sizeof(Elf64_Sym))) {
        Elf64_Sym symbol;
        memcpy(&symbol, symbols.ptr, sizeof(symbol));
        struct span name = text_at(sections->names, symbol.st_name);
        if (!span_starts_with(name, SPAN_LIT("envoyGo")))
            continue;
        if (symbol.st_shndx == SHN_UNDEF) {
            if (!known(name) && !note_missing(name, out))
                return refuse(why,
                              "it calls %.*s, which Sluice does not have, and too many others: "
                              "built with another SDK%s%s",
                              (int)(name.len < 100 ? name.len : 100), name.ptr,
                              out->sdk_version[0] ? " " : "", out->sdk_version);
            seen->add_data |= span_eq(name, SPAN_LIT("envoyGoFilterHttpAddData"));
            continue;
        }
        seen->new_config |= span_eq(name, SPAN_LIT("envoyGoFilterNewHttpPluginConfig"));
        seen->destroy_config |= span_eq(name, SPAN_LIT("envoyGoFilterDestroyHttpPluginConfig"));
        seen->merge_config |= span_eq(name, SPAN_LIT("envoyGoFilterMergeHttpPluginConfig"));
        seen->header |= span_eq(name, SPAN_LIT("envoyGoFilterOnHttpHeader"));
        seen->data |= span_eq(name, SPAN_LIT("envoyGoFilterOnHttpData"));
        seen->log |= span_eq(name, SPAN_LIT("envoyGoFilterOnHttpLog"));
        seen->complete |= span_eq(name, SPAN_LIT("envoyGoFilterOnHttpStreamComplete"));
        seen->destroy |= span_eq(name, SPAN_LIT("envoyGoFilterOnHttpDestroy"));
        out->has_network |= span_eq(name, SPAN_LIT("envoyGoFilterOnDownstreamConnection"));
        out->has_cluster_specifier |= span_eq(name, SPAN_LIT("envoyGoOnClusterSpecify"));
    }
    return 0;
}

static int judge(struct go_elf *out, const struct symbols_seen *seen, char why[GO_ELF_WHY_MAX]) {
    unsigned major = 0, minor = 0;
    bool has_version = sdk_numbers(out->sdk_version, &major, &minor);
    if (has_version && (major < 1 || (major == 1 && minor < 31)))
        return refuse(why, "built with Envoy's Go SDK %s; 1.31 is the oldest that works",
                      out->sdk_version);
    if (has_version && major > 1 && out->missing_count)
        return refuse(why, "it calls %s, which Sluice does not have: built with Envoy's Go SDK %s",
                      out->missing[0], out->sdk_version);
    bool is_32 = has_version && minor >= 32;
    bool is_33 = has_version && minor >= 33;
    out->has_http = seen->header;
    if (!seen->header && !out->has_network && !out->has_cluster_specifier)
        return refuse(why, "a Go library, but none that uses Envoy's Go SDK");
    if (!seen->header)
        return 0;
    const char *missing = !seen->new_config          ? "envoyGoFilterNewHttpPluginConfig"
                          : !seen->destroy_config    ? "envoyGoFilterDestroyHttpPluginConfig"
                          : !seen->merge_config      ? "envoyGoFilterMergeHttpPluginConfig"
                          : !seen->data              ? "envoyGoFilterOnHttpData"
                          : !seen->log               ? "envoyGoFilterOnHttpLog"
                          : !seen->destroy           ? "envoyGoFilterOnHttpDestroy"
                          : is_32 && !seen->complete ? "envoyGoFilterOnHttpStreamComplete"
                                                     : NULL;
    if (missing)
        return refuse(why, "it lacks %s", missing);
    out->level = !seen->complete           ? GO_LEVEL_31
                 : seen->add_data || is_33 ? GO_LEVEL_33
                                           : GO_LEVEL_32;
    if (out->level == GO_LEVEL_31 && !has_version)
        return refuse(why,
                      "the version of its SDK cannot be told: it names no modules, and it may be "
                      "older than 1.31");
    return 0;
}

int go_elf_inspect(struct span image, go_elf_known_fn known, struct go_elf *out,
                   char why[GO_ELF_WHY_MAX]) {
    memset(out, 0, sizeof(*out));
    Elf64_Ehdr file;
    if (image.len < SELFMAG || memcmp(image.ptr, ELFMAG, SELFMAG) != 0)
        return refuse(why, "not an ELF file");
    if (image.len < sizeof(file))
        return refuse(why, "the ELF file is cut off");
    memcpy(&file, image.ptr, sizeof(file));
    if (file.e_ident[EI_CLASS] != ELFCLASS64 || file.e_ident[EI_DATA] != ELFDATA2LSB ||
        file.e_machine != HOST_MACHINE)
        return refuse(why, "built for another machine (ELF machine %u, this is %u)", file.e_machine,
                      (unsigned)HOST_MACHINE);
    if (file.e_type != ET_DYN)
        return refuse(why, "not a shared library");
    struct sections sections = {0};
    struct symbols_seen seen = {0};
    int err = find_sections(image, &file, &sections, why);
    if (!err)
        err = check_libc(&sections, why);
    if (!err)
        err = read_build_info(sections.build_info, out, why);
    if (!err)
        err = read_symbols(&sections, known, out, &seen, why);
    return err ? err : judge(out, &seen, why);
}

/* Reads rather than maps: a file that shrinks under a mapping is a SIGBUS. */
static NOINLINE char *read_file(int fd, size_t size) {
    char *bytes = malloc(size ? size : 1);
    for (size_t got = 0; bytes && got < size;) {
        ssize_t n = read(fd, bytes + got, size - got);
        if (n > 0) {
            got += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            free(bytes);
            bytes = NULL;
        }
    }
    return bytes;
}

/* The fd, or -errno. A FIFO must not hang us. */
static NOINLINE int open_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* Owned, free(); NULL with a sentence in why. */
static char *load_file(const char *path, size_t *size, char why[GO_ELF_WHY_MAX]) {
    char *bytes = NULL;
    struct stat st;
    int fd = open_file(path), err = 0;
    if (fd < 0) {
        (void)refuse(why, "%s", strerror(-fd));
        return NULL;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        err = refuse(why, "not a regular file");
    else if (st.st_size > GO_ELF_FILE_MAX)
        err = refuse(why, "larger than %d MiB", GO_ELF_FILE_MAX >> 20);
    else
        bytes = read_file(fd, *size = (size_t)st.st_size);
    if (!bytes && !err)
        (void)refuse(why, "cannot be read");
    (void)close(fd);
    return bytes;
}

int go_elf_inspect_file(const char *path, go_elf_known_fn known, struct go_elf *out,
                        char why[GO_ELF_WHY_MAX]) {
    size_t size = 0;
    char *bytes = load_file(path, &size, why);
    int err = bytes ? go_elf_inspect(span_make(bytes, size), known, out, why) : -EINVAL;
    free(bytes);
    return err;
}

static bool defines(struct span image, struct span wanted) {
    char why[GO_ELF_WHY_MAX];
    struct sections sections = {0};
    Elf64_Ehdr file;
    if (image.len < sizeof(file))
        return false;
    memcpy(&file, image.ptr, sizeof(file));
    if (memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 || file.e_ident[EI_CLASS] != ELFCLASS64 ||
        file.e_type != ET_DYN || find_sections(image, &file, &sections, why) != 0)
        return false;
    struct span symbols = sections.symbols;
    for (; symbols.len >= sizeof(Elf64_Sym); symbols = span_from(symbols, sizeof(Elf64_Sym))) {
        Elf64_Sym symbol;
        memcpy(&symbol, symbols.ptr, sizeof(symbol));
        if (symbol.st_shndx != SHN_UNDEF &&
            span_eq(text_at(sections.names, symbol.st_name), wanted))
            return true;
    }
    return false;
}

bool go_elf_defines(const char *path, struct span name) {
    char why[GO_ELF_WHY_MAX];
    size_t size = 0;
    char *bytes = load_file(path, &size, why);
    bool found = bytes && defines(span_make(bytes, size), name);
    free(bytes);
    return found;
}
