#include "http/chars.h"

#include "http/chars_search.h"

#define T CHAR_TOKEN
#define A CHAR_AUTHORITY
#define U (CHAR_UNRESERVED | CHAR_AUTHORITY)
#define Q CHAR_QUOTED
#define H CHAR_HEX
const uint8_t chars_class[256] = {
    ['\t'] = Q,
    [' '] = Q,
    ['!'] = T | A | Q,
    ['"'] = 0,
    ['#'] = T | Q,
    ['$'] = T | A | Q,
    ['%'] = T | A | Q,
    ['&'] = T | A | Q,
    ['\''] = T | A | Q,
    ['('] = A | Q,
    [')'] = A | Q,
    ['*'] = T | A | Q,
    ['+'] = T | A | Q,
    [','] = A | Q,
    ['-'] = T | U | Q,
    ['.'] = T | U | Q,
    ['/'] = Q,
    ['0' ... '9'] = T | U | Q | H,
    [':'] = Q,
    [';'] = A | Q,
    ['<'] = Q,
    ['='] = A | Q,
    ['>'] = Q,
    ['?'] = Q,
    ['@'] = Q,
    ['A' ... 'F'] = T | U | Q | H,
    ['G' ... 'Z'] = T | U | Q,
    ['['] = Q,
    ['\\'] = 0,
    [']'] = Q,
    ['^'] = T | Q,
    ['_'] = T | U | Q,
    ['`'] = T | Q,
    ['a' ... 'f'] = T | U | Q | H,
    ['g' ... 'z'] = T | U | Q,
    ['{'] = Q,
    ['|'] = T | Q,
    ['}'] = Q,
    ['~'] = T | U | Q,
    [0x80 ... 0xff] = Q,
};
#undef T
#undef A
#undef U
#undef Q
#undef H

#define SELF(c) [c] = c
#define FOLD(upper, lower) [upper] = lower, [lower] = lower
const uint8_t chars_token_lower[256] = {
    SELF('!'),      SELF('#'),      SELF('$'),      SELF('%'),      SELF('&'),      SELF('\''),
    SELF('*'),      SELF('+'),      SELF('-'),      SELF('.'),      SELF('^'),      SELF('_'),
    SELF('`'),      SELF('|'),      SELF('~'),      SELF('0'),      SELF('1'),      SELF('2'),
    SELF('3'),      SELF('4'),      SELF('5'),      SELF('6'),      SELF('7'),      SELF('8'),
    SELF('9'),      FOLD('A', 'a'), FOLD('B', 'b'), FOLD('C', 'c'), FOLD('D', 'd'), FOLD('E', 'e'),
    FOLD('F', 'f'), FOLD('G', 'g'), FOLD('H', 'h'), FOLD('I', 'i'), FOLD('J', 'j'), FOLD('K', 'k'),
    FOLD('L', 'l'), FOLD('M', 'm'), FOLD('N', 'n'), FOLD('O', 'o'), FOLD('P', 'p'), FOLD('Q', 'q'),
    FOLD('R', 'r'), FOLD('S', 's'), FOLD('T', 't'), FOLD('U', 'u'), FOLD('V', 'v'), FOLD('W', 'w'),
    FOLD('X', 'x'), FOLD('Y', 'y'), FOLD('Z', 'z'),
};
#undef SELF
#undef FOLD

const char *chars_find_control(const char *floor, const char *p, const char *end) {
    return chars_search_control(floor, p, end);
}

const char *chars_find_not_target(const char *floor, const char *p, const char *end) {
#ifdef __SSE2__
    return chars_search(floor, p, end, chars_not_target_mask, chars_is_not_target);
#else
    return chars_search(p, end, '!', '#', chars_is_not_target);
#endif
}
