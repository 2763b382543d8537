/* go_exports_table: which functions of the SDK there are: all those of go_exports.h, which the loader of a library
 * asks before the dynamic loader would find one missing. */
#include "base/span.h"
#include "ext/go/go_exports.h"
#include "ext/go/go_library.h"

bool go_export_is_known(struct span name) {
    static const char *const names[] = {
#define X(type, name, params) #name,
        GO_EXPORTS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (span_eq(name, span_of(names[i])))
            return true;
    return false;
}
