#include "base/unit.h"

#include "base/clock.h"

const struct unit unit_bytes[] = {{SPAN_INIT("B"), 1},           {SPAN_INIT("KiB"), 1LL << 10},
                                  {SPAN_INIT("MiB"), 1LL << 20}, {SPAN_INIT("GiB"), 1LL << 30},
                                  {SPAN_INIT("TiB"), 1LL << 40}, {{NULL, 0}, 0}};
const struct unit unit_times[] = {{SPAN_INIT("ms"), NS_PER_MS},
                                  {SPAN_INIT("s"), NS_PER_S},
                                  {SPAN_INIT("m"), 60 * NS_PER_S},
                                  {SPAN_INIT("h"), 3600 * NS_PER_S},
                                  {{NULL, 0}, 0}};

bool unit_parse(struct span text, const struct unit *units, int64_t max, int64_t *out) {
    size_t digits = 0;
    while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
        digits++;
    uint64_t number;
    if (!span_to_u64(span_make(text.ptr, digits), &number))
        return false;
    while (units->name.ptr && !span_eq(span_from(text, digits), units->name))
        units++;
    if (!units->name.ptr || number > (uint64_t)(max / units->factor))
        return false;
    *out = (int64_t)number * units->factor;
    return true;
}
