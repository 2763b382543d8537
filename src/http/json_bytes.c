/* json_bytes: see there. */
#include "http/json_bytes.h"

#define BYTES_2(b) (b), (b)
#define BYTES_8(b) BYTES_2(b), BYTES_2(b), BYTES_2(b), BYTES_2(b)
#define ROW(b)                                                                                     \
    { BYTES_8(b), BYTES_8(b), BYTES_8(b), BYTES_8(b) }
#define ROWS_4(b) ROW(b), ROW((b) + 1), ROW((b) + 2), ROW((b) + 3)
#define ROWS_16(b) ROWS_4(b), ROWS_4((b) + 4), ROWS_4((b) + 8), ROWS_4((b) + 12)
#define ROWS_64(b) ROWS_16(b), ROWS_16((b) + 16), ROWS_16((b) + 32), ROWS_16((b) + 48)

const uint8_t json_bytes[256][32]
    __attribute__((aligned(32))) = {ROWS_64(0), ROWS_64(64), ROWS_64(128), ROWS_64(192)};
