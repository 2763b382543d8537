/* json_text: a run without backslash is copied whole; of an escape a few bits are kept between pieces. */
#include "http/json_text.h"

#include "http/chars.h"

enum phase { TEXT_PLAIN, TEXT_ESCAPE, TEXT_HEX_1, TEXT_HEX_2, TEXT_HEX_3, TEXT_HEX_4 };

static void put(struct json_text *text, struct span piece) {
    if (text->too_long || piece.len > text->size - text->len) {
        text->too_long = true;
        return;
    }
    if (piece.len)
        memcpy(text->out + text->len, piece.ptr, piece.len);
    text->len += (uint32_t)piece.len;
}

static void add_code_point(struct json_text *text, uint32_t code) {
    char utf8[4];
    size_t len;
    if (code < 0x80) {
        utf8[0] = (char)code;
        len = 1;
    } else if (code < 0x800) {
        utf8[0] = (char)(0xc0 | code >> 6);
        utf8[1] = (char)(0x80 | (code & 0x3f));
        len = 2;
    } else if (code < 0x10000) {
        utf8[0] = (char)(0xe0 | code >> 12);
        utf8[1] = (char)(0x80 | (code >> 6 & 0x3f));
        utf8[2] = (char)(0x80 | (code & 0x3f));
        len = 3;
    } else {
        utf8[0] = (char)(0xf0 | code >> 18);
        utf8[1] = (char)(0x80 | (code >> 12 & 0x3f));
        utf8[2] = (char)(0x80 | (code >> 6 & 0x3f));
        utf8[3] = (char)(0x80 | (code & 0x3f));
        len = 4;
    }
    put(text, span_make(utf8, len));
}

static void add_unit(struct json_text *text) {
    if ((text->code & 0xfc00) == 0xd800) {
        text->high = text->code;
        return;
    }
    uint32_t code = text->code;
    if (text->high)
        code = 0x10000 + ((uint32_t)(text->high - 0xd800) << 10) + (code & 0x3ff);
    text->high = 0;
    add_code_point(text, code);
}

static void step_in_escape(struct json_text *text, char byte) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (text->phase == TEXT_ESCAPE) {
        if (byte == 'u') {
            text->phase = TEXT_HEX_1;
            text->code = 0;
            return;
        }
        const char *known = byte ? strchr(from, byte) : NULL;
        char plain = known ? to[known - from] : byte;
        put(text, span_make(&plain, 1));
        text->phase = TEXT_PLAIN;
        return;
    }
    text->code = (uint16_t)((unsigned)text->code << 4 | ((unsigned)chars_hex(byte) & 0xf));
    if (text->phase++ == TEXT_HEX_4) {
        text->phase = TEXT_PLAIN;
        add_unit(text);
    }
}

void json_text_add(struct json_text *text, struct span piece) {
    const char *p = piece.ptr, *end = p + piece.len;
    while (p < end && !text->too_long) {
        if (text->phase != TEXT_PLAIN) {
            step_in_escape(text, *p++);
            continue;
        }
        const char *escape = memchr(p, '\\', (size_t)(end - p));
        const char *stop = escape ? escape : end;
        put(text, span_make(p, (size_t)(stop - p)));
        p = stop;
        if (escape) {
            text->phase = TEXT_ESCAPE;
            p++;
        }
    }
}
