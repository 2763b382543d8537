/* Patterns of routes: "PATTERN NUL SUBJECT NUL SUBSTITUTION". What compiles matches and replaces in
 * bounded time, and replacing nothing gives the subject back. */
#include <stdlib.h>

#include "base/stats.h"
#include "proxy/format.h"
#include "proxy/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct span cut(struct span *rest) {
    ptrdiff_t end = span_find(*rest, '\0');
    struct span part = end < 0 ? *rest : span_make(rest->ptr, (size_t)end);
    *rest = end < 0 ? SPAN_LIT("") : span_from(*rest, (size_t)end + 1);
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool ready;
    if (!ready)
        ASSERT(stats_init(1) == 0);
    ready = true;
    struct span rest = span_make(data, size);
    struct span pattern = cut(&rest);
    struct span subject = cut(&rest);
    char error[REGEX_ERROR_MAX];
    struct regex *full = regex_compile(pattern, REGEX_FULL, error);
    struct regex *search = regex_compile(pattern, REGEX_SEARCH, error);
    ASSERT(!full == !search);
    if (full) {
        struct format_out out = {0};
        bool matched = regex_matches(full, subject);
        ASSERT(!matched || regex_matches(search, subject));
        regex_replace_all(search, subject, SPAN_LIT("\\0"), &out);
        ASSERT(span_eq(span_make(out.data, out.len), subject));
        out.len = 0;
        regex_replace_all(search, subject, rest, &out);
        free(out.data);
    }
    regex_free(full);
    regex_free(search);
    return 0;
}
