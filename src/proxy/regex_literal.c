/* regex_literal: what every match of a pattern begins with, where that is certain at a glance.
 *
 * The bytes of a pattern stand for themselves up to the first one that has a meaning; a repeat behind them
 * takes the last one back. Only an alternative on the outermost level could make a match begin otherwise, so
 * all of the pattern is looked at for one. Whatever is not plain to see ends the literal: a shorter one is
 * right too. */
#include "proxy/regex.h"

/* True also when one cannot be ruled out. */
static bool has_alternatives(struct span p) {
    unsigned depth = 0;
    if (span_find(p, '|') < 0)
        return false;
    for (size_t i = 0; i < p.len;) {
        switch (p.ptr[i]) {
        case '\\':
            if (i + 1 < p.len && p.ptr[i + 1] == 'Q')
                return true;
            i += 2;
            continue;
        case '[':
            i = regex_class_end(p, i);
            continue;
        case '(':
            depth++;
            break;
        case ')':
            depth -= depth > 0;
            break;
        case '|':
            if (depth == 0)
                return true;
            break;
        default:
            break;
        }
        i++;
    }
    return false;
}

static bool is_plain(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("/-_~!@#%&=:;,'\"<> ", c) != NULL);
}

/* An escape of one of these stands for the byte itself, on RE2 as on PCRE2. */
static bool is_punctuation(unsigned char c) {
    return c != '\0' && strchr("/-_.~!@#%&=:;,+*?()[]{}|^$\\", c) != NULL;
}

size_t regex_literal(struct span p, char *out) {
    size_t len = 0;
    size_t i = p.len > 0 && p.ptr[0] == '^' ? 1 : 0;
    if (has_alternatives(p))
        return 0;
    while (i < p.len) {
        size_t next = i + 1;
        unsigned char c = (unsigned char)p.ptr[i];
        if (c == '\\' && next < p.len && is_punctuation((unsigned char)p.ptr[next])) {
            c = (unsigned char)p.ptr[next];
            next++;
        } else if (!is_plain(c)) {
            break;
        }
        if (next < p.len && p.ptr[next] != '\0' && strchr("*?{", p.ptr[next]))
            break; /* there may be none of it */
        out[len++] = (char)c;
        i = next;
    }
    return len;
}
