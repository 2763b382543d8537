/* build_id: all ids that a file has, one after the other, each as its whole note.
 *
 *     NT_GNU_BUILD_ID   of the C linker: a hash of what it wrote. Since Go 1.24 Go's linker derives it from Go's own id
 *     Go build id       "action/main action/main content/content": hashes of what the build was made from, and
 *                       of the file that it made
 *
 * Neither is enough alone: the first, where it comes from Go, does not see a C archive that was linked in; a plug-in
 * in C has no second. Whoever builds with -ldflags=-buildid=TEXT gives all his builds the same two ids, so an id of Go's
 * in any other form than the four hashes voids both. */
#include "ext/host/build_id.h"

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/span.h"

enum { NOTES_MAX = 4096, SEGMENTS_MAX = 1024, GO_BUILD_ID = 4 };

static bool read_at(int fd, void *out, size_t size, uint64_t at) {
    return at <= INT64_MAX && pread(fd, out, size, (off_t)at) == (ssize_t)size;
}

static bool has_four_hashes(struct span id) {
    unsigned slashes = 0;
    for (size_t i = 0; i < id.len; i++)
        if (id.ptr[i] == '/') {
            if (i == 0 || id.ptr[i - 1] == '/')
                return false;
            slashes++;
        }
    return slashes == 3 && id.ptr[id.len - 1] != '/';
}

/* False when the file's ids are not to be trusted. */
static bool add_note(struct span name, uint32_t type, struct span content, struct build_id *out) {
    static const char gnu[4] = "GNU", go[4] = "Go"; /* with what ends them, and pads */
    bool is_gnu = type == NT_GNU_BUILD_ID && span_eq(name, span_make(gnu, sizeof(gnu)));
    bool is_go = type == GO_BUILD_ID && span_eq(name, span_make(go, sizeof(go)));
    if (!is_gnu && !is_go)
        return true;
    if (content.len == 0 || content.len >= sizeof(out->bytes) - out->len)
        return false;
    if (is_go && !has_four_hashes(content))
        return false;
    out->bytes[out->len++] = (unsigned char)type;
    if (is_gnu && out->gnu_len == 0) {
        out->gnu_at = out->len;
        out->gnu_len = content.len;
    }
    memcpy(out->bytes + out->len, content.ptr, content.len);
    out->len += content.len;
    return true;
}

/* Takes a part of a note, and the padding behind it, if there is any; it begins `at` bytes into the note. */
static struct span take(struct span *rest, size_t len, size_t align, size_t *at) {
    struct span taken = span_make(rest->ptr, len);
    size_t padding = (align - (*at + len) % align) % align;
    *at += len + padding;
    *rest = span_from(span_from(*rest, len), padding);
    return taken;
}

static bool add_notes(struct span notes, size_t align, struct build_id *out) {
    Elf64_Nhdr note;
    while (notes.len >= sizeof(note)) {
        memcpy(&note, notes.ptr, sizeof(note));
        size_t at = sizeof(note);
        notes = span_from(notes, sizeof(note));
        if (note.n_namesz > notes.len)
            return false;
        struct span name = take(&notes, note.n_namesz, align, &at);
        if (note.n_descsz > notes.len)
            return false;
        struct span content = take(&notes, note.n_descsz, align, &at);
        if (!add_note(name, note.n_type, content, out))
            return false;
    }
    return true;
}

static bool read_ids(int fd, struct build_id *out) {
    Elf64_Ehdr file;
    if (!read_at(fd, &file, sizeof(file), 0) || memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 ||
        file.e_ident[EI_CLASS] != ELFCLASS64 || file.e_ident[EI_DATA] != ELFDATA2LSB ||
        file.e_phentsize != sizeof(Elf64_Phdr) || file.e_phnum > SEGMENTS_MAX)
        return false;
    for (unsigned i = 0; i < file.e_phnum; i++) {
        Elf64_Phdr segment;
        char notes[NOTES_MAX];
        if (!read_at(fd, &segment, sizeof(segment), file.e_phoff + i * sizeof(segment)))
            return false;
        if (segment.p_type != PT_NOTE)
            continue;
        if (segment.p_filesz > sizeof(notes) ||
            !read_at(fd, notes, segment.p_filesz, segment.p_offset) ||
            !add_notes(span_make(notes, segment.p_filesz), segment.p_align == 8 ? 8 : 4, out))
            return false;
    }
    return true;
}

void build_id_read(int fd, struct build_id *out) {
    *out = (struct build_id){.len = 0};
    if (!read_ids(fd, out))
        out->len = out->gnu_len = 0;
}

bool build_id_eq(const struct build_id *a, const struct build_id *b) {
    return a->len != 0 && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

uint64_t build_id_hash(const struct build_id *id) {
    return span_hash(SPAN_HASH, span_make((const char *)id->bytes, id->len));
}

void build_id_text(const struct build_id *id, char out[BUILD_ID_TEXT_MAX]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < id->gnu_len; i++) {
        unsigned char byte = id->bytes[id->gnu_at + i];
        *out++ = digits[byte >> 4];
        *out++ = digits[byte & 15];
    }
    *out = '\0';
}
