/* json_kernel: the scanner's inner loop. Included by json_kernel_*.c, each with its own json_block_*.h.
 *
 * 64 bytes at a time become masks, a bit per byte, and the whole grammar is judged on masks: no loop over
 * tokens, hardly a branch that depends on data. What has to be known of the bytes before is a few bits (struct
 * json_carry), so a span may end anywhere: its last bytes are a block that is padded with blanks, and
 * nothing waits for more of them to come.
 *
 *     bytes     { " a \ " b " : [ 1 2 , t r u e ] }
 *     quotes      x           x                       those that no backslash takes away
 *     in_string   x x x x x x                         parity of the quotes so far: with the first, without the last
 *     tokens    x x             x x x   x x       x x
 *
 * What may stand behind what. follow(set) are the tokens whose predecessor is in the set. It takes one addition:
 * behind each token of the set a 1 is added at the bottom of the bytes that are no tokens, all ones, and ripples
 * through them to the next token. Sums of neighbours cannot meet, for there is a token in between.
 *
 *     T1  behind `{ [ , :` and at the start comes a value or a closing bracket, and nothing else
 *     T2  a closing bracket there only directly behind an opening one
 *     T3  behind everything else comes `, :` or a closing bracket
 *     T4  behind `{` and behind a comma of an object comes a string, the key, or T2's bracket
 *     T5  behind a key comes a colon, and nowhere else
 *     T6  brackets pair, and there are JSON_DEPTH_MAX of them open at most; a comma is in one
 *
 * Only T6 and the commas of T4 need to know what is open: for them there is a loop over the brackets.
 * Numbers, escapes and UTF-8 are judged in the same way, each by a few rules on neighbours; see there.
 *
 * E1  Every error is a bit at the byte with which it becomes one, however the document is cut. So what is
 *     told before it, and where it is, does not depend on the cutting.
 *
 * Rejected  A list of the tokens' places and an automaton over them, as simdjson has it: the list takes memory as
 *           long as the document, and a step of the automaton per token costs more than the masks of a block.
 *           Tables for UTF-8 (Keiser and Lemire): they need 16-byte shuffles, which SSE2 has not, and where an
 *           error is they do not say; masks cost the same within some instructions per block. */
#pragma once
#include "http/json_match.h"

#define JSON_INLINE static inline __attribute__((always_inline))

/* Where containers' kinds are noted; of the outermost level, none. */
enum { KIND_ARRAY, KIND_OBJECT, KIND_NONE };

/* A mask whose bit i+1 is bit i of x; bit 0 is the last byte's. */
JSON_INLINE uint64_t after(uint64_t x, uint64_t last) {
    return x << 1 | last;
}

/* ---- what is kept of a block of n bytes ---- */

JSON_INLINE uint8_t last_of(uint64_t x, unsigned n) {
    return x >> (n - 1) & 1;
}
/* The last 8 bytes' bits, those of the block before behind them. */
JSON_INLINE uint8_t last_8(uint64_t x, uint8_t before, unsigned n) {
    return (uint8_t)(n >= 8 ? x >> (n - 8) : x << (8 - n) | before >> n);
}
/* A mask whose bit i+k is bit i of x, the last 8 bytes' in front. */
JSON_INLINE uint64_t later(uint64_t x, uint8_t before, unsigned k) {
    return x << k | (uint64_t)before >> (8 - k);
}
/* Bits of `x << k` that belong to the bytes after these. */
JSON_INLINE uint64_t beyond(uint64_t x, unsigned k, unsigned n) {
    return n >= k ? x >> (n - k) : x << (k - n);
}

/* ---- strings ---- */

/* Bytes with a backslash before them that is none itself taken away. Of a run of backslashes every other one
 * counts, from its first on: runs that begin at an even byte are found by adding 1 there. */
JSON_INLINE uint64_t find_escaped(struct json_carry *c, uint64_t backslash, unsigned n) {
    const uint64_t even = UINT64_C(0x5555555555555555);
    uint64_t run = backslash & ~(uint64_t)c->escaped;
    uint64_t even_starts = run & ~(run << 1) & even;
    uint64_t even_runs = run & ~(run + even_starts);
    uint64_t escapes = (even_runs & even) | (run & ~even_runs & ~even);
    uint64_t escaped = after(escapes, c->escaped);
    c->escaped = last_of(escapes, n);
    return escaped;
}

/* u, four digits; and of those that are halves of a pair, U+D800 to DFFF, a high one comes first and a low one right
 * behind it:     \ u d 8 x x \ u d c x x
 *                  U D H         U D L      H three bytes before a backslash, four before a U and six before L */
JSON_INLINE uint64_t check_escapes(struct json_carry *c, struct json_block b, uint64_t escaped,
                                   uint64_t backslash, unsigned n) {
    uint64_t units = escaped & block_eq(b, 'u');
    uint64_t plain = block_eq(b, '"') | backslash | block_eq(b, '/') | block_eq(b, 'b') |
                     block_eq(b, 'f') | block_eq(b, 'n') | block_eq(b, 'r') | block_eq(b, 't');
    uint64_t error = escaped & ~(units | plain);
    if (!(units | c->units | c->unit_d | c->high_units))
        return error;
    struct json_block folded = block_fold(b);
    uint64_t hex = block_range(b, '0', 9) | block_range(folded, 'a', 5);
    error |= (later(units, c->units, 1) | later(units, c->units, 2) | later(units, c->units, 3) |
              later(units, c->units, 4)) &
             ~hex;
    uint64_t unit_d = later(units, c->units, 1) & block_eq(folded, 'd');
    uint64_t second = later(unit_d, c->unit_d, 1);
    uint64_t high = second & (block_range(b, '8', 1) | block_range(folded, 'a', 1));
    uint64_t low = second & block_range(folded, 'c', 3);
    error |= later(high, c->high_units, 3) & ~backslash;
    error |= later(high, c->high_units, 4) & ~units;
    error |= later(high, c->high_units, 6) ^ low;
    c->units = last_8(units, c->units, n);
    c->unit_d = last_8(unit_d, c->unit_d, n);
    c->high_units = last_8(high, c->high_units, n);
    return error;
}

/* A lead byte and as many continuations as it says; no overlong forms, no surrogates, nothing above U+10FFFF. */
JSON_INLINE uint64_t check_utf8(struct json_carry *c, struct json_block b, uint64_t high,
                                unsigned n) {
    uint64_t lead = block_range(b, 0xc0, 0x3f), not_lead = high & ~lead;
    uint64_t lead_3_4 = block_range(b, 0xe0, 0x1f), lead_4 = block_range(b, 0xf0, 0x0f);
    uint64_t due = lead << 1 | lead_3_4 << 2 | lead_4 << 3 | c->continuations;
    uint64_t error = (due ^ not_lead) | (lead & ~block_range(b, 0xc2, 0x32)); /* C2 to F4 */
    uint64_t from_a0 = block_range(b, 0xa0, 0x5f);
    uint64_t e0 = block_eq(b, (char)0xe0), ed = block_eq(b, (char)0xed);
    error |= after(e0, c->lead_e0) & ~from_a0;
    error |= after(ed, c->lead_ed) & from_a0;
    uint64_t f0 = 0, f4 = 0;
    if (lead_4 | c->lead_f0 | c->lead_f4) {
        uint64_t from_90 = block_range(b, 0x90, 0x6f);
        f0 = block_eq(b, (char)0xf0);
        f4 = block_eq(b, (char)0xf4);
        error |= after(f0, c->lead_f0) & ~from_90;
        error |= after(f4, c->lead_f4) & from_90;
    }
    c->continuations =
        (uint8_t)((beyond(lead, 1, n) | beyond(lead_3_4, 2, n) | beyond(lead_4, 3, n) |
                   (n < 3 ? (uint64_t)c->continuations >> n : 0)) &
                  7);
    c->lead_e0 = last_of(e0, n);
    c->lead_ed = last_of(ed, n);
    c->lead_f0 = last_of(f0, n);
    c->lead_f4 = last_of(f4, n);
    return error;
}

/* ---- scalars ---- */

/* The bytes of a literal whose byte i is at p, of `len`; `word` is what has to come. */
JSON_INLINE uint64_t check_literal(struct json_carry *c, const char *word, const char *p,
                                   unsigned len, unsigned i, unsigned n) {
    for (unsigned k = 0; k < len; k++)
        if (word[k] == '\0' || word[k] != p[k])
            return UINT64_C(1) << (i + k);
    if (i + len >= n)
        c->literal = word + len;
    else if (word[len] != '\0')
        return UINT64_C(1) << (i + len);
    return 0;
}

JSON_INLINE uint64_t low_bits(unsigned n) {
    return n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
}

JSON_INLINE unsigned run_length(uint64_t x) {
    return ~x ? (unsigned)__builtin_ctzll(~x) : 64;
}

/* Its length, if one stands there and the byte behind it is in this block, too; else 0: to be looked at closely. */
JSON_INLINE unsigned whole_literal(const char *p, uint64_t scalar, unsigned i, unsigned n) {
    uint32_t word, true_word, null_word, fals_word;
    if (i + 5 >= n)
        return 0;
    memcpy(&word, p + i, 4);
    memcpy(&true_word, "true", 4);
    memcpy(&null_word, "null", 4);
    memcpy(&fals_word, "fals", 4);
    bool five = word == fals_word && p[i + 4] == 'e';
    unsigned len = five ? 5 : 4;
    bool is_one = five || word == true_word || word == null_word;
    return is_one && !(scalar >> (i + len) & 1) ? len : 0;
}

/* What stands between tokens that is neither blank nor string: the literals, one by one, are taken out of *numbers. */
JSON_INLINE uint64_t check_literals(struct json_carry *c, const char *p, uint64_t scalar,
                                    uint64_t words, uint64_t *numbers, unsigned n) {
    uint64_t error = 0;
    if (c->literal) {
        const char *word = c->literal;
        unsigned len = run_length(scalar);
        c->literal = NULL;
        error |= check_literal(c, word, p, len, 0, n);
        *numbers &= ~low_bits(len);
    }
    for (; words; words &= words - 1) {
        unsigned i = (unsigned)__builtin_ctzll(words), len = whole_literal(p, scalar, i, n);
        if (!len) {
            const char *word = p[i] == 't'   ? "true"
                               : p[i] == 'f' ? "false"
                               : p[i] == 'n' ? "null"
                                             : "";
            len = run_length(scalar >> i);
            if (len > 64 - i)
                len = 64 - i;
            error |= check_literal(c, word, p + i, len, i, n);
        }
        *numbers &= ~(low_bits(len) << i);
    }
    return error;
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?  as rules on neighbours:
 *   N1  minus: at the start, or behind the e; plus: behind the e; a digit comes next
 *   N2  dot: a digit before and after;  e: a digit before, a digit or a sign after
 *   N3  a zero at the start, or behind the minus there: no digit comes next
 *   N4  the digits behind a dot do not end in a dot, those behind an e neither in a dot nor in an e:
 *       so there is one of each at most, and in this order */
JSON_INLINE uint64_t check_numbers(struct json_carry *c, struct json_block b, uint64_t numbers,
                                   uint64_t starts, uint64_t digits, unsigned n) {
    uint64_t error = 0;
    uint64_t zero = block_eq(b, '0') & starts;
    if ((numbers & ~digits) |
        (uint64_t)(c->minus | c->sign | c->dot | c->exponent | c->fraction_run | c->exponent_run)) {
        struct json_block folded = block_fold(b);
        uint64_t minus = numbers & block_eq(b, '-'), plus = numbers & block_eq(b, '+');
        uint64_t dot = numbers & block_eq(b, '.'), e = numbers & block_eq(folded, 'e');
        uint64_t sign = minus | plus;
        uint64_t after_digit = after(digits, c->digit), after_e = after(e, c->exponent);
        uint64_t after_dot = after(dot, c->dot), leading = minus & starts;
        uint64_t exponent_sign = sign & after_e;

        error |= numbers & ~(digits | sign | dot | e);
        error |= (minus & ~(starts | after_e)) | (plus & ~after_e);
        error |= after(leading, c->minus) & ~digits;
        error |= after(exponent_sign, c->sign) & ~digits;
        error |= (dot & ~after_digit) | (after_dot & ~digits);
        error |= (e & ~after_digit) | (after_e & ~(digits | sign));
        zero |= after(leading, c->minus) & block_eq(b, '0');

        uint64_t fraction = (after_dot & digits) | c->fraction_run, fraction_end;
        uint64_t power = ((after_e | after(exponent_sign, c->sign)) & digits) | c->exponent_run;
        uint64_t power_end;
        bool fraction_on = __builtin_add_overflow(digits, fraction, &fraction_end);
        bool power_on = __builtin_add_overflow(digits, power, &power_end);
        fraction_end &= ~digits;
        power_end &= ~digits;
        error |= (fraction_end & dot) | (power_end & (dot | e));
        c->fraction_run = n < 64 ? fraction_end >> n & 1 : fraction_on;
        c->exponent_run = n < 64 ? power_end >> n & 1 : power_on;
        c->minus = last_of(leading, n);
        c->sign = last_of(exponent_sign, n);
        c->dot = last_of(dot, n);
        c->exponent = last_of(e, n);
    }
    error |= after(zero, c->zero) & digits;
    c->zero = last_of(zero, n);
    c->digit = last_of(digits, n);
    return error;
}

JSON_INLINE uint64_t check_scalars(struct json_carry *c, struct json_block b, const char *p,
                                   uint64_t scalar, uint64_t starts, unsigned n) {
    uint64_t numbers = scalar, digits = block_range(b, '0', 9) & scalar, error = 0;
    uint64_t words = starts & ~digits;
    if (words)
        words &= ~block_eq(b, '-');
    if (words || c->literal)
        error = check_literals(c, p, scalar, words, &numbers, n);
    return error | check_numbers(c, b, numbers, starts & numbers, digits & numbers, n);
}

/* ---- tokens ---- */

struct json_tokens {
    uint64_t open, close, comma, colon, strings, scalars; /* of the latter two the first bytes */
    uint64_t all;
};

/* Tokens whose predecessor is in the set; `last`: whether the last one of the blocks before is. */
JSON_INLINE uint64_t follow(const struct json_tokens *t, uint64_t set, uint64_t last) {
    return (after(set, last) + ~t->all) & t->all;
}

/* T6. Returns the errors; *in_object: the bytes that stand in an object, its brackets apart. *woke: the first
 * bracket that brings us back to the level where somebody sleeps. */
JSON_INLINE uint64_t pair_brackets(uint8_t *kinds, struct json_carry *c,
                                   const struct json_tokens *t, const char *p, unsigned wake,
                                   uint64_t *in_object, uint64_t *woke) {
    uint64_t rest = t->open | t->close, error = 0;
    unsigned depth = c->depth;
    if (depth == 0) /* a comma before the first bracket */
        error |= t->comma & ((rest & -rest) - 1);
    uint64_t object = c->in_object, turns = 0;
    for (; rest; rest &= rest - 1) {
        uint64_t bit = rest & -rest;
        uint8_t kind = p[__builtin_ctzll(rest)] & 0x20 ? KIND_OBJECT : KIND_ARRAY;
        if (t->open & bit) {
            if (depth == JSON_DEPTH_MAX) {
                error |= bit;
                break;
            }
            kinds[++depth] = kind;
        } else {
            if (kinds[depth] != kind) {
                error |= bit;
                break;
            }
            kind = kinds[--depth];
            if (depth == 0)
                error |= t->comma & -bit;
            if (depth == wake && !*woke)
                *woke = bit;
        }
        uint64_t now = kind == KIND_OBJECT ? ~UINT64_C(0) : 0;
        turns |= (now ^ object) & bit;
        object = now;
    }
    *in_object = block_parity(turns) ^ c->in_object;
    c->in_object = object;
    c->depth = (uint16_t)depth;
    return error;
}

/* T1 to T6. *keys: the strings that are. */
JSON_INLINE uint64_t check_tokens(uint8_t *kinds, struct json_carry *c, const struct json_tokens *t,
                                  const char *p, unsigned wake, uint64_t *keys, uint64_t *woke) {
    uint64_t values = t->open | t->strings | t->scalars, in_object;
    uint64_t before_value = t->open | t->comma | t->colon;
    uint64_t expected = follow(t, before_value, c->before_value);
    uint64_t error = (expected & ~(values | t->close)) | (values & ~expected);
    error |= expected & t->close & ~follow(t, t->open, c->after_open);
    error |= pair_brackets(kinds, c, t, p, wake, &in_object, woke);
    uint64_t before_key = (t->open | t->comma) & in_object;
    uint64_t key = follow(t, before_key, c->before_key);
    error |= key & ~(t->strings | t->close);
    *keys = key & t->strings;
    error |= follow(t, *keys, c->before_colon) ^ t->colon;

    unsigned last = 63 - (unsigned)__builtin_clzll(t->all);
    c->before_value = before_value >> last & 1;
    c->after_open = t->open >> last & 1;
    c->before_key = before_key >> last & 1;
    c->before_colon = *keys >> last & 1;
    return error;
}

/* ---- a block ---- */

/* n bytes at p, which `b` holds, padded with blanks. Returns the errors; *found: the scan may stop. */
JSON_INLINE uint64_t scan_block(struct json_scan *scan, struct json_carry *c, struct json_block b,
                                const char *p, unsigned n, bool *found) {
    const uint64_t valid = low_bits(n);
    uint64_t quote = block_eq(b, '"'), backslash = block_eq(b, '\\');
    uint64_t escaped = find_escaped(c, backslash, n);
    /* Most escapes that there are in text. Without a branch, as it is by chance which block has one. */
    uint64_t usual = quote | backslash | block_eq(b, 'n');
    quote &= ~escaped;
    uint64_t in_string = block_parity(quote) ^ c->in_string;
    c->in_string = 0 - (uint64_t)last_of(in_string, n);

    uint64_t high = block_high(b), error = block_range(b, 0, 0x1f) & in_string;
    if ((escaped & ~usual) | c->units | c->unit_d | c->high_units)
        error |= check_escapes(c, b, escaped, backslash, n);
    if (high | c->continuations)
        error |= check_utf8(c, b, high, n);

    struct json_tokens t = {0};
    uint64_t scalar = 0, keys = 0, woke = 0;
    if ((~in_string | quote) & valid) {
        struct json_block folded = block_fold(b);
        t.open = block_eq(folded, '{') & ~in_string;
        t.close = block_eq(folded, '}') & ~in_string;
        t.comma = block_eq(b, ',') & ~in_string;
        t.colon = block_eq(b, ':') & ~in_string;
        t.strings = quote & in_string;
        uint64_t marks = t.open | t.close | t.comma | t.colon;
        scalar = ~(marks | block_blanks(b) | in_string | quote);
        t.scalars = scalar & ~after(scalar, c->scalar);
        t.all = marks | t.strings | t.scalars;
        if (scalar | c->scalar)
            error |= check_scalars(c, b, p, scalar, t.scalars, n);
        c->scalar = last_of(scalar, n);
        if (t.all)
            error |= check_tokens(scan->kinds, c, &t, p, scan->match.wake, &keys, &woke);
    }
    error &= valid;
    bool awake = json_match_is_awake(&scan->match) && t.all;
    if (__builtin_expect(awake || woke || scan->match.capture != JSON_CAPTURE_NONE, 0)) {
        struct json_view view = {.bytes = p,
                                 .count = n,
                                 .from = woke ? (unsigned)__builtin_ctzll(woke) + 1 : 0,
                                 .good = error ? (error & -error) - 1 : valid,
                                 .open = t.open,
                                 .close = t.close,
                                 .strings = t.strings,
                                 .keys = keys,
                                 .scalars = t.scalars,
                                 .string_ends = quote & ~in_string,
                                 .scalar_bytes = scalar};
        *found = json_match_block(scan, &view);
    }
    return error;
}

JSON_INLINE enum json_verdict scan_span(struct json_scan *scan, const char *p, size_t len) {
    struct json_carry c = scan->carry; /* a copy, which nothing that is written can be part of */
    const char *start = p, *end = p + len;
    uint64_t error = 0;
    bool found = false;
    for (; end - p >= 64 && !error && !found; p += 64)
        error = scan_block(scan, &c, block_load(p), p, 64, &found);
    if (!error && !found && p < end) {
        char padded[64];
        memset(padded, ' ', sizeof padded);
        memcpy(padded, p, (size_t)(end - p));
        error = scan_block(scan, &c, block_load(padded), p, (unsigned)(end - p), &found);
        p += 64;
    }
    scan->carry = c;
    if (found) { /* before the error, if there is one */
        scan->verdict = JSON_FOUND;
    } else if (error) {
        scan->verdict = JSON_BAD;
        p += __builtin_ctzll(error) - 64;
    }
    scan->offset += (uint64_t)((p < end ? p : end) - start);
    return scan->verdict;
}
