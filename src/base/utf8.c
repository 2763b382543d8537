#include "base/utf8.h"

/* The table of RFC 3629: the second byte's range excludes overlong forms, surrogates and what lies
 * beyond U+10FFFF. */
size_t utf8_sequence(struct span s) {
    if (s.len == 0)
        return 0;
    unsigned char first = (unsigned char)s.ptr[0];
    if (first < 0x80)
        return 1;
    size_t len = first >= 0xc2 && first <= 0xdf   ? 2
                 : first >= 0xe0 && first <= 0xef ? 3
                 : first >= 0xf0 && first <= 0xf4 ? 4
                                                  : 0;
    if (len == 0 || s.len < len)
        return 0;
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    unsigned char second = (unsigned char)s.ptr[1];
    if (second < low || second > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (((unsigned char)s.ptr[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

bool utf8_is_valid(struct span text) {
    while (text.len > 0) {
        size_t len = utf8_sequence(text);
        if (len == 0)
            return false;
        text = span_from(text, len);
    }
    return true;
}
