/* json_scan: a scan's beginning and end; the bytes in between are its kernel's. */
#include "http/json_scan.h"

#include "http/json_kernels.h"
#include "http/json_match.h"

const struct json_kernel *const *json_kernels(void) {
    static const struct json_kernel *const all[] = {
#ifdef JSON_HAS_VECTORS
        &json_kernel_avx2, &json_kernel_sse2,
#endif
        &json_kernel_words, NULL};
#ifdef JSON_HAS_VECTORS
    bool fast = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("pclmul");
    return fast ? all : all + 1;
#else
    return all;
#endif
}

void json_scan_init(struct json_scan *scan, const struct json_paths *paths,
                    struct json_scan_options options) {
    scan->paths = paths;
    scan->options = options;
    scan->verdict = JSON_MORE;
    scan->offset = 0;
    scan->carry = (struct json_carry){.due = 1};
    scan->kinds[JSON_BLOCK] = 0; /* no container */
    json_match_init(scan);
}

enum json_verdict json_scan_feed(struct json_scan *scan, struct span bytes) {
    if (scan->verdict != JSON_MORE || bytes.len == 0)
        return scan->verdict;
    scan->match.from = 0;
    enum json_verdict verdict = scan->paths->kernel->run(scan, bytes.ptr, bytes.len);
    if (verdict == JSON_MORE)
        json_match_keep(scan, bytes);
    return verdict;
}

/* Whether the bytes so far are a whole document: a value that is over, with nothing open. */
static bool is_complete(const struct json_carry *c) {
    bool number_is_open = c->minus | c->dot | (c->exponents & 3);
    bool literal_is_open = c->literal && *c->literal != '\0';
    return !c->in_string && c->depth == 0 && !c->due &&
           !(c->scalar && (number_is_open || literal_is_open));
}

enum json_verdict json_scan_end(struct json_scan *scan) {
    if (scan->verdict == JSON_MORE)
        scan->verdict = is_complete(&scan->carry) ? JSON_DONE : JSON_BAD;
    return scan->verdict;
}
