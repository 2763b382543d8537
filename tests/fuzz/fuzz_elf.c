/* go_elf.c: any bytes as a library's file. The verdict may be anything but a crash. */
#include "ext/go/go_elf.h"
#include "ext/go/go_library.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct go_elf elf;
    char why[GO_ELF_WHY_MAX];
    if (go_elf_inspect(span_make(data, size), go_export_is_known, &elf, why) == 0)
        ASSERT(elf.has_http || elf.has_network || elf.has_cluster_specifier);
    else
        ASSERT(why[0]);
    return 0;
}
