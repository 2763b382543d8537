#include "proxy/connection_limit.h"

#include <stdlib.h>

struct connection_limit *connection_limit_new(uint64_t max) {
    struct connection_limit *limit =
        aligned_alloc(_Alignof(struct connection_limit), sizeof *limit);
    if (limit)
        *limit = (struct connection_limit){.max = max};
    return limit;
}
