/* What a process that dies says of itself: whatever it is, there is a report, within its bounds. */
#include <stdlib.h>

#include "admin/crash_dir.h"
#include "crash/crash_report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned find(uintptr_t pc, struct symbol *out, unsigned max) {
    for (unsigned i = 0; i < pc % 3; i++)
        out[i] = (struct symbol){.function = "f", .file = pc % 2 ? "f.c" : NULL, .line = 1};
    return pc % 3;
}

static bool module_of(uintptr_t pc, struct symbols_module *out) {
    *out = (struct symbols_module){.file = "/lib/libc.so.6"};
    return pc % 5 != 0;
}

static void each_module(void (*fn)(const struct symbols_module *module, void *arg), void *arg) {}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct crash_names names = {find, module_of, each_module};
    static struct crash_facts facts;
    char *copy = malloc(size ? size : 1); /* a step beyond is caught */
    ASSERT(copy);
    if (size)
        memcpy(copy, data, size);
    if (crash_facts_read(span_make(copy, size), &facts)) {
        struct text report = {0};
        crash_report_write(&facts, &names, &report);
        ASSERT(report.failed || (report.len > 0 && report.len <= CRASH_REPORT_BYTES_MAX));
        text_fini(&report);
    }
    free(copy);
    return 0;
}
