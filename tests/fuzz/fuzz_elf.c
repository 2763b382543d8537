/* go_elf.c and build_id.c: any bytes as a library's file. The verdict may be anything but a crash. */
#include <sys/mman.h>
#include <unistd.h>

#include "ext/go/go_elf.h"
#include "ext/go/go_library.h"
#include "ext/host/build_id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* It reads from a file: one for all inputs. */
static void read_build_id(const uint8_t *data, size_t size) {
    static int fd = -1;
    struct build_id id;
    if (fd < 0)
        fd = memfd_create("image", MFD_CLOEXEC);
    ASSERT(fd >= 0);
    ASSERT(ftruncate(fd, (off_t)size) == 0);
    ASSERT(pwrite(fd, data, size, 0) == (ssize_t)size);
    build_id_read(fd, &id);
    ASSERT(id.len <= sizeof(id.bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct go_elf elf;
    char why[GO_ELF_WHY_MAX];
    if (go_elf_inspect(span_make(data, size), go_export_is_known, &elf, why) == 0)
        ASSERT(elf.has_http || elf.has_network || elf.has_cluster_specifier);
    else
        ASSERT(why[0]);
    read_build_id(data, size);
    return 0;
}
