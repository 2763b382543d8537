/* json_bytes: vectors of 32 times the same byte, in memory.
 *
 * For comparisons with a constant, whose operand may as well be there: what the compiler sees the value of, it makes
 * anew in each block, in three instructions, as there are more constants than registers. So they are not to be
 * seen from where they are used. */
#pragma once
#include <stdint.h>

extern const uint8_t json_bytes[256][32] __attribute__((aligned(32)));
