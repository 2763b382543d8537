/* go_seats: how many seats a library has. Its SDK is told the number once, in its first configuration, and
 * makes as many maps: from then on it stays. */
#pragma once
#include "ext/go/go_library.h"

/* What a library is told that is loaded now. wanted 0: the default. */
uint32_t go_seats_announced(uint32_t wanted);

/* Settles the number, or finds it settled; wanted 0: the default. 0, or -ENOMEM. A sentence in why, which
 * is empty otherwise, is a warning. */
MUST_CHECK int go_seats_settle(struct go_library *library, uint32_t wanted,
                               char why[GO_LIBRARY_WHY_MAX]);
