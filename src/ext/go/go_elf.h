/* go_elf: looks into a library's file before the dynamic loader runs any of its code.
 *
 * The bytes come from whoever wrote the file: anything may be in them, and whatever is, the verdict
 * is a sentence and never a crash. Reads section headers, the dynamic symbols and Go's build
 * information; a stripped library keeps all three.
 *
 * Ownership  Everything is copied out of the image. Threads: any. Never parks; malloc only. */
#pragma once
#include "base/check.h"
#include "base/span.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_stubs.h"

enum { GO_ELF_WHY_MAX = 256, GO_ELF_FILE_MAX = 1 << 30 };

struct go_elf {
    enum go_level level;
    char go_version[32];  /* "go1.26.8"; empty when the file does not say */
    char sdk_version[64]; /* "v1.33.0"; empty when the file does not say */
    bool has_http, has_network, has_cluster_specifier;
    /* Functions that it calls and the host lacks, of an SDK that is newer: go_stubs.h. */
    unsigned missing_count;
    char missing[GO_STUBS_AT_ONCE_MAX][GO_STUB_NAME_MAX];
};

/* True when name is a function that the host offers: asked for each undefined envoyGo* name. */
typedef bool (*go_elf_known_fn)(struct span name);

/* 0, or -EINVAL with a sentence in why: not ELF, another machine, no Go, another SDK, or one of which more
 * is unknown than functions that it calls. */
MUST_CHECK int go_elf_inspect(struct span image, go_elf_known_fn known, struct go_elf *out,
                              char why[GO_ELF_WHY_MAX]);
/* True when the file is a shared object, in whatever language, that offers the name to who loads it. */
MUST_CHECK bool go_elf_defines(const char *path, struct span name);
/* The same as go_elf_inspect for a file. */
MUST_CHECK int go_elf_inspect_file(const char *path, go_elf_known_fn known, struct go_elf *out,
                                   char why[GO_ELF_WHY_MAX]);
